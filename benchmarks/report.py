"""The tables of all results: ``results/<name>.md`` out of ``results/<name>.csv``.

``python -m benchmarks report`` writes those of all benchmarks that have results; the benchmarks
themselves write their own after a run, and with ``--report``.
"""

from __future__ import annotations

import argparse
import importlib

from benchmarks import results

PAGES = {
    "assignment": ("assignment_table", "The assignment problem"),
    "assignment_cuda": ("assignment_cuda", "Matrices on a CUDA device"),
    "zoo": ("zoo", "The matrices that users bring"),
    "slowest": ("slowest", "The slowest cases that a search found"),
    "threads": ("threads", "Several threads"),
    "load": ("load", "Beside a busy process"),
    "memory": ("memory", "Memory of a solve"),
    "scale": ("scale", "Assignments from factors"),
    "ranks": ("ranks", "Jobs of several ranks"),
    "features": ("features", "Features of two dictionaries"),
    "align": ("align", "Two models' activations to the gauge, whole"),
    "verdict": ("verdict", "Verdicts without the truth"),
    "networks": ("networks", "Whole networks"),
    "derivation": ("derivation", "Tables of full-size models, by their configs alone"),
    "weights": ("weights", "Evidence from weights beside activations"),
    "transport": ("transport", "Checkpoints and dictionaries, carried"),
    "checkpoints": ("checkpoints", "Folders of many shards"),
    "objects": ("objects", "Objects made on SmolLM2's stream"),
    "paper": ("paper", "The paper's claims"),
    "audit": ("audit", "Index-level claims in random gauges"),
    "audit_runs": ("audit_runs", "Claims carried between two fine-tunes"),
    "ceiling": ("ceiling_table", "The ceiling, and the kept share"),
    "correlation": ("correlation", "Correlation matrices"),
    "dropin": ("dropin", "Other libraries' tests"),
    "model": ("model", "What the CUDA solver would wait for on a device, counted without one"),
}
"""Benchmarks: the module whose `table` turns their rows into Markdown, and the page's title."""

PLOTS = {"assignment": "svg", "audit": "png", "ceiling": "png", "paper": "svg", "verdict": "png"}
"""Those whose module has a `plot`, too, and its format."""


def escaped(text: object) -> str:
    """As a cell of a table, where a bar would end it."""
    return str(text).replace("|", "\\|")


def page(name: str) -> str | None:
    """A benchmark's table, whole; None if it has no results."""
    rows = results.read(name)
    if not rows:
        return None
    module, title = PAGES[name]
    lines = importlib.import_module(f"benchmarks.{module}").table(rows)
    made = f"<!-- made of {name}.csv by `python -m benchmarks report` -->"
    return "\n".join([f"# {title}", "", made, "", *lines]) + "\n"


def write(name: str) -> None:
    """Writes the page of a benchmark, if it has results, and the plot."""
    text = page(name)
    if text is None:
        return print(f"{name} has no results yet")
    path = results.RESULTS / f"{name}.md"
    path.write_text(text)
    print(path)
    if name in PLOTS:
        module = importlib.import_module(f"benchmarks.{PAGES[name][0]}")
        module.plot(results.read(name), results.RESULTS / f"{name}.{PLOTS[name]}")


def main(arguments: list[str]) -> None:
    """Writes all pages."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    parser.parse_args(arguments)
    for name in PAGES:
        write(name)
