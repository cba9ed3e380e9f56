"""Any solver's answer to an assignment problem, proved optimal or shown to be worse.

    python examples/prove.py costs.npy columns.npy

costs.npy holds a matrix ``[n, m]`` with ``n <= m``, columns.npy the column that the solver gave to
each row. Exits with 1 where the answer can be beaten.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import bmatch


def main() -> None:
    """Check the answer against duals, entry by entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("costs", type=Path)
    parser.add_argument("columns", type=Path)
    options = parser.parse_args()

    cost, columns = np.load(options.costs), np.load(options.columns)
    proof = bmatch.certify(cost, (np.arange(len(cost)), columns))
    # What rounding may leave of a sum of so many numbers of this size.
    noise = 1e-12 * len(cost) * np.abs(cost).max()
    if proof.min_reduced_cost < -noise:
        raise SystemExit("the duals are not feasible and prove nothing")
    print(f"sum {proof.objective:.6f}, and no assignment is below {proof.bound:.6f}")
    if proof.gap > noise:
        raise SystemExit(f"not optimal: {proof.gap:.6f} may be gained")
    print("optimal")


if __name__ == "__main__":
    main()
