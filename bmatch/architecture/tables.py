"""Tables for the architectures of the installed transformers: derived, proved and stored.

``python -m bmatch.architecture.tables [--out FOLDER] [TYPE ...]``; without types, those that come
with bmatch.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bmatch.architecture.classes import derive_type
from bmatch.architecture.plans import agreement
from bmatch.architecture.stored import FOLDER, Stored, shipped, to_text
from bmatch.architecture.survey import limited
from bmatch.files.atomic import new_file

SECONDS = 600
"""No type takes longer."""


def main(arguments: list[str] | None = None) -> None:
    """Derive, prove and store the tables of types that are named, or of those that are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--out", type=Path, default=FOLDER)
    given = parser.parse_args(arguments)
    given.out.mkdir(exist_ok=True)
    for model_type in given.types or shipped():
        start = time.perf_counter()
        try:
            with limited(SECONDS):
                table = derive_type(model_type)
        except Exception as error:  # of whatever kind a class of transformers raises
            print(f"{model_type}: no table: {' '.join(str(error).split())[:160]}", flush=True)
            continue
        with new_file(given.out / f"{model_type}.json") as partial:
            partial.write_text(to_text(table), encoding="utf-8")
        print(f"{told(table)}, {time.perf_counter() - start:.1f} s", flush=True)


def told(table: Stored) -> str:
    """A line of what a table holds, how it was proved, and what a second source says."""
    from transformers import CONFIG_MAPPING

    family = table.family
    line = (
        f"{table.model_type}: {family.kinds[0].group}, {len(family.rules)} tensors, "
        f"{len(family.kinds)} kinds of spaces, changes outputs by {table.proved['together']:.0e}, "
        f"larger group {table.proved['larger']:.0e}"
    )
    plan = getattr(CONFIG_MAPPING[table.model_type], "base_model_tp_plan", None)
    if not plan:
        return f"{line}, no plan"
    same, other, inside = agreement(family, plan)
    apart = f", not {', '.join(other)}" if other else ""
    return f"{line}, as the plan in {len(same)} of {len(same) + len(other) + len(inside)}{apart}"


if __name__ == "__main__":
    main()
