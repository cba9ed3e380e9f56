"""A steering vector found in one checkpoint, carried to the coordinates of another.

    python examples/carry_vector.py SOURCE TARGET TEXT vector.npy carried.npy

SOURCE and TARGET are checkpoint folders as transformers writes them, TEXT is a UTF-8 file that both
read, vector.npy holds D numbers in the residual stream of the source. It needs the extra `gauge`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import bmatch

LENGTH = 256  # tokens a sequence


def main() -> None:
    """Estimate the gauge, say how sure it is, and write the carried vector."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("source", "target", "text", "vector", "carried"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()

    source, target = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in (options.source, options.target)
    )
    tokenizer = AutoTokenizer.from_pretrained(options.source)
    tokens = tokenizer(options.text.read_text(), return_tensors="pt")["input_ids"]
    batches = [batch for batch in tokens.split(LENGTH, dim=1) if batch.shape[1] > 1]  # [1, T] each

    result = bmatch.estimate_gauge(target, source, batches)
    print(f"score {result.score:.3f}, least margin {result.margin.min():.3f}")
    unsure = sorted({*result.tied.tolist(), *result.no_signal.tolist()})
    if unsure:
        raise SystemExit(f"the gauge leaves coordinates {unsure} open: give more text")

    carried = result.gauge.apply(np.load(options.vector))
    np.save(options.carried, carried)
    print(f"written to {options.carried.name}; the gauge's inverse carries it back")


if __name__ == "__main__":
    main()
