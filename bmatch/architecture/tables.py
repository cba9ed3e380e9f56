"""Tables for the architectures of the installed transformers: derived, proved and stored.

``python -m bmatch.architecture.tables [--out FOLDER] [--check] [TYPE ...]``; without types, those
that come with bmatch.
"""

from __future__ import annotations

import argparse
import json
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
    """Derive, prove and store the tables of types that are named, or of those that are there.

    To check writes nothing: it tells where the tables that are there say something else.

    Raises
    ------
    SystemExit
        With 1 where a table that was checked is not what is derived now.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("types", nargs="*")
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    given.out.mkdir(exist_ok=True)
    other = []
    for model_type in given.types or shipped():
        start = time.perf_counter()
        try:
            with limited(SECONDS):
                table = derive_type(model_type)
        except Exception as error:  # of whatever kind a class of transformers raises
            print(f"{model_type}: no table: {' '.join(str(error).split())[:160]}", flush=True)
            other.append(model_type)
            continue
        if given.check:
            path = given.out / f"{model_type}.json"
            apart = differences(path.read_text(encoding="utf-8"), to_text(table))
            other += [model_type] if apart else []
            print(f"{model_type}: {'; '.join(apart) or 'as it is stored'}", flush=True)
            continue
        with new_file(given.out / f"{model_type}.json") as partial:
            partial.write_text(to_text(table), encoding="utf-8")
        print(f"{told(table)}, {time.perf_counter() - start:.1f} s", flush=True)
    if given.check and other:
        raise SystemExit(1)


def differences(stored: str, fresh: str) -> list[str]:
    """Where two tables as text say something else; largest changes in proofs are by the machine.

    Parameters
    ----------
    stored, fresh : str
        As `to_text` writes them.
    """
    one, other = json.loads(stored), json.loads(fresh)
    found = []
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if key == "proved" or (a == b and list(a or ()) == list(b or ())):
            continue
        if not (isinstance(a, dict) and isinstance(b, dict)):
            found.append(f"{key} is {b} and not {a}")
            continue
        changed = [name for name in dict.fromkeys([*a, *b]) if a.get(name) != b.get(name)]
        found += [f"{key} {name} is {b.get(name)} and not {a.get(name)}" for name in changed]
        found += [] if changed else [f"{key} come in another order"]
    return found


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
