"""Activations of your own, streamed from files into a gauge; a job that stops can go on.

    python examples/stream.py TARGET SOURCE gauge.safetensors

TARGET and SOURCE are folders of arrays ``[tokens, D]`` that numpy.save wrote; files of one name
hold the same tokens. After every file the statistics are saved, and run again the script goes on
behind the last one. It needs the extra `gauge`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import bmatch


def tokens_and_width(path: Path) -> tuple[int, int]:
    """The shape of an array in a file, which is not read."""
    tokens, width = np.load(path, mmap_mode="r").shape
    return tokens, width


def main() -> None:
    """Add file after file, then match."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("target", "source", "gauge"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()

    names = sorted(path.name for path in options.source.glob("*.npy"))
    saved = options.gauge.with_suffix(".moments")
    if saved.exists():
        moments = bmatch.CrossMoments.load(saved)
    else:
        _, target_dim = tokens_and_width(options.target / names[0])
        _, source_dim = tokens_and_width(options.source / names[0])
        moments = bmatch.CrossMoments(target_dim, source_dim)
    behind = 0  # tokens of this file and of those before it
    for name in names:
        behind += tokens_and_width(options.source / name)[0]
        if behind <= moments.count:
            continue  # an earlier run has added it
        target, source = (np.load(folder / name) for folder in (options.target, options.source))
        moments.update(target=target, source=source)
        moments.save(saved)

    result = bmatch.match(moments.correlation())
    result.gauge.to(None).save(options.gauge, {"tokens": str(moments.count)})
    print(f"{moments.count} tokens, score {result.score:.3f}, {len(result.tied)} ties")
    print(f"least margin {result.margin.min():.3f} at coordinate {result.margin.argmin()}")


if __name__ == "__main__":
    main()
