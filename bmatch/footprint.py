"""What a job that loads two checkpoints and reads tokens will take of this process's memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from bmatch.jobs.phases import resident_bytes
from bmatch.models.checkpoint import Checkpoint


def job_bytes(checkpoints: Sequence[Checkpoint], dtype: str, tokens: int, beside: int) -> int:
    """The largest resident memory that is foreseen, in bytes, on the CPU.

    What the process has now; all weights; and what is more, the sums with the largest layer's
    output for a batch, or a file that is read in another precision than its own. Weights that no
    token asks for (rows of the embedding) stay on disk where precisions are the same: then it takes
    less. The library's code of the architecture, which is loaded meanwhile, is not counted: some
    60 MB.

    Parameters
    ----------
    checkpoints : sequence of Checkpoint
        Those that are in memory at once.
    dtype : str
        Of the forward passes.
    tokens : int
        Token ids of the largest batch.
    beside : int
        Bytes of sums and streams: see `bmatch.stream_reading.correlation_bytes`.
    """
    size: int = getattr(torch, dtype).itemsize
    weights = converted = widest = 0
    for checkpoint in checkpoints:
        shapes = checkpoint.shapes()
        made = size * sum(map(prod, shapes.values()))
        weights += made
        if abs(checkpoint.num_bytes - made) > made / 50:  # headers are small
            converted = max(converted, checkpoint.num_bytes)
        vocabulary = checkpoint.axes.vocab_size
        widths = (n for shape in shapes.values() for n in shape[-2:] if n != vocabulary)
        widest = max(widest, *widths)
    # A gate, what it gates, and their product; the stream, as it was and normalised, in float32.
    layer: int = tokens * (3 * size * widest + 8 * checkpoints[0].axes.dim)
    return resident_bytes() + weights + max(converted, beside + layer)
