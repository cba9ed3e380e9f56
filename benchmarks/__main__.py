"""``python -m benchmarks <name> [options]``: runs one benchmark, or lists them."""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = {"assignment": "the assignment solver beside every other one on PyPI"}


def main() -> None:
    """Hands the command line to the benchmark that it names."""
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        print("usage: python -m benchmarks <name> [options]")
        for name, what in BENCHMARKS.items():
            print(f"  {name}: {what}")
        raise SystemExit(2)
    importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])


main()
