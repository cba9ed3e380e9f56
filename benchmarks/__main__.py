"""``python -m benchmarks <name> [options]``: runs one benchmark, or lists them."""

from __future__ import annotations

import importlib
import os
import sys

# One thread for everybody, and no idle thread of a linear algebra library beside a measurement.
for variable in ("BMATCH_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[variable] = "1"

BENCHMARKS = {
    "assignment": "the assignment solver beside every other one on PyPI",
    "zoo": "the matrices that users bring: the worst and the median beside the best of all peers",
    "slowest": "a search for matrices on which the solver is slow beside its peers",
    "threads": "several threads: one large problem, and batches of small ones",
    "load": "jobs of two threads beside a busy process, and of one",
    "model": "what the CUDA solver would wait for on a device, counted without one",
    "memory": "the memory that a solve takes beside its matrix, 4.3 GB of it",
    "scale": "matrices that never exist: assignments from factors, of 50,000 rows and more",
    "ranks": "jobs that 1, 2 and 4 processes of torchrun share: seconds, and the same bytes",
    "features": "features of two dictionaries, planted and trained, beside what people do",
    "align": "two models' activations to the gauge, whole, beside the usual pipeline",
    "verdict": "verdicts on matches whose truth is known, of kin and of strangers",
    "calibrate": "no measurement: the coefficients of verdicts anew",
    "networks": "every gauge space of a whole network, and one layer of 14,336 neurons",
    "derivation": "tables of an 8B model and of one with experts, by their configs alone",
    "weights": "gauges by weights alone, beside those by activations at few tokens",
    "transport": "4 GB of weights carried, beside a plain copy of their files",
    "checkpoints": "folders of 30 shards: a gauge applied, beside a copy and a load and save",
    "objects": "what a dictionary, a direction and adapters do on a re-gauged copy of SmolLM2",
    "paper": "every claim of the paper, measured in independent runs",
    "audit": "claims about SmolLM2's coordinates in random gauges: which survive",
    "audit_runs": "claims carried between two fine-tunes: fidelity beside native agreement",
    "ceiling": "the ceiling of matching without signs, and what of a direction it keeps",
    "correlation": "correlation matrices beside torch's, on the CPU or a GPU",
    "dropin": "other libraries' own tests with bmatch in place of SciPy's function (`make dropin`)",
    "smoke": "what a GPU is, and whether anything works on it",
    "profile": "where the time of single solves on a GPU goes",
    "picture": "no measurement: docs/path.png and docs/formats.png anew",
    "report": "no measurement: all tables of results/ anew",
}


def main() -> None:
    """Hands the command line to the benchmark that it names."""
    name, *arguments = sys.argv[1:] or [""]
    if name not in BENCHMARKS:
        print("usage: python -m benchmarks <name> [options]")
        for known, what in BENCHMARKS.items():
            print(f"  {known}: {what}")
        raise SystemExit(2)
    if name == "assignment" and any(a.startswith("--device") for a in arguments):
        name = "assignment_cuda"
    importlib.import_module(f"benchmarks.{name}").main(arguments)


if __name__ == "__main__":  # not where a process of its own begins
    main()
