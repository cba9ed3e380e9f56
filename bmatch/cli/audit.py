"""``bmatch audit``: whether claims about coordinates survive a change of gauge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bmatch.cli import console
from bmatch.cli.options import AsJson, examples, require_picture
from bmatch.cli.transport import of_stream
from bmatch.files.atomic import new_files, require_new
from bmatch.gauge import SignedPermutation

EXAMPLES = examples(
    "bmatch audit model/ top_neurons.json attributions.json --out audit.html",
    "bmatch audit run_a/ top_neurons.json --against run_b/ --gauge path.safetensors",
)


def audit(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Checkpoint folder.")],
    claims: Annotated[
        list[Path], typer.Argument(metavar="CLAIM...", help="JSON: what is measured and chosen.")
    ],
    gauges: Annotated[int, typer.Option(help="Random gauges to sweep.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the gauges.", min=0)] = 0,
    text: Annotated[
        list[Path] | None, typer.Option(help="Text file to read. Default: Python's reference.")
    ] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens to count.")] = 512,
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens of a sequence.")] = 256,
    one_model: Annotated[
        bool,
        typer.Option("--one-model", help="Measure once, and carry scores in place of the model."),
    ] = False,
    against: Annotated[
        Path | None, typer.Option(help="Another run: carry the claims there by --gauge instead.")
    ] = None,
    gauge: Annotated[Path | None, typer.Option(help="Gauge from MODEL to that run.")] = None,
    truth: Annotated[
        Path | None, typer.Option(help="The gauge that is known to be right, if one is.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Page to write, .html, and .png beside it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell how often CLAIMs survive random gauges: raw, permuted, and with signs.

    With --against and --gauge: whether they are carried to another run.
    """
    if (against is None) != (gauge is None) or (truth is not None and against is None):
        raise ValueError("--against needs --gauge, and --gauge and --truth need --against")
    if against is not None and (out is not None or one_model):
        raise ValueError("--out and --one-model belong to sweeps, and not to --against")
    if out is not None:
        if out.suffix != ".html":
            raise ValueError(f"the page must be named .html, got {out}")
        require_new(out)
        require_picture(out.with_suffix(".png"))
    names = [path.stem for path in claims]
    if len(set(names)) < len(names):
        raise ValueError(f"two claims have one name: {', '.join(names)}")
    with console.working("loading torch and transformers"):
        console.quiet_transformers()
        from bmatch.audit import fidelity, gauge_sweeps, read_claim
        from bmatch.models.checkpoint import open_checkpoint
        from bmatch.models.loading import load_model, load_tokenizer
        from bmatch.models.text import default_text, file_text, token_batches
        from bmatch.report.audits import audit_figures, audit_table, plot_audit, write_audit
        from bmatch.report.tables import figures

    for path in claims:  # before a model is loaded
        read_claim(path)
    checkpoint = open_checkpoint(model)
    batches = token_batches(
        load_tokenizer(checkpoint),
        file_text(text) if text else default_text(),
        tokens,
        sequence_length,
    )
    recipes: dict[str, Any] = {
        name: read_claim(path, batches) for name, path in zip(names, claims, strict=True)
    }
    with console.working("loading the model"):
        loaded = load_model(checkpoint, "float32", "cpu")
    if against is not None and gauge is not None:
        other = load_model(open_checkpoint(against), "float32", "cpu")
        element, right = _signed(gauge), None if truth is None else _signed(truth)
        found = {n: fidelity(r, loaded, other, element, right) for n, r in recipes.items()}
        if as_json:
            console.print_json({n: _told(f) for n, f in found.items()})
            return
        for name, one in found.items():
            told = "the truth is not known" if one.fidelity is None else str(one.fidelity)
            rows = [("fidelity", told), ("native agreement", str(one.native))]
            console.show(figures(f"{name}: {model} -> {against}", rows))
        return
    sweeps = gauge_sweeps(
        recipes, loaded, gauges, seed, one_model=one_model, progress=console.track
    )
    title = f"{model.resolve().name}: claims in {gauges} random gauges"
    if out is not None:
        read = "the default text" if not text else ", ".join(path.name for path in text)
        with new_files() as place:
            plot_audit(sweeps, place(out.with_suffix(".png")), title)
            write_audit(sweeps, place(out), title, f"{tokens} tokens of {read}, float32.")
    if as_json:
        written = None if out is None else str(out)
        console.print_json({"out": written, **{n: audit_figures(s) for n, s in sweeps.items()}})
        return
    console.show(audit_table(sweeps, title))
    for name, sweep in sweeps.items():
        console.say(f"{name}: {sweep.carry}")
    if out is not None:
        console.say(f"page: {out}; picture: {out.with_suffix('.png')}")


def _signed(path: Path) -> SignedPermutation:
    element = of_stream(path)
    if not isinstance(element, SignedPermutation):
        raise ValueError(f"{path} holds a rotation, under which no coordinate stays one")
    return element


def _told(found: Any) -> dict[str, Any]:
    from bmatch.report.audits import share_figures

    shares = {"fidelity": found.fidelity, "native_agreement": found.native}
    return {name: None if share is None else share_figures(share) for name, share in shares.items()}
