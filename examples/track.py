"""An exact assignment solver inside a tracker: every frame, boxes meet the tracks they continue.

    python examples/track.py [--frames 50] [--objects 30]

Makes objects that drift through the plane and detections in a random order, some missing. Each
frame the cost of a track and a detection is one minus their overlap, and the solver matches all at
once. In a tracker of yours, `linear_sum_assignment` from SciPy is what `match` would have called.
"""

from __future__ import annotations

import argparse

import numpy as np

import bmatch

LEAST_OVERLAP = 0.2  # below it a track and a detection are not the same object


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes ``[n, 4]`` and ``[m, 4]``, each (x0, y0, x1, y1)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # [n, m, 2]
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b))
    return common / (area_a[:, None] + area_b[None, :] - common)


def match(tracks: np.ndarray, detections: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of a track and the detection that continues it."""
    overlap = overlaps(tracks, detections)
    row_ind, col_ind = bmatch.linear_sum_assignment(1 - overlap)
    return [
        (int(i), int(j))
        for i, j in zip(row_ind, col_ind, strict=True)
        if overlap[i, j] >= LEAST_OVERLAP
    ]


def main() -> None:
    """Track drifting boxes, and count how often a detection goes to the track of its object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--objects", type=int, default=30)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1000, (options.objects, 2))
    speed = rng.normal(0, 4, (options.objects, 2))
    tracks = np.hstack([corners, corners + 60])  # track i begins on object i
    right = seen = 0
    for _ in range(options.frames):
        corners = corners + speed
        objects = rng.permutation(np.flatnonzero(rng.random(options.objects) < 0.95))
        shaken = corners[objects] + rng.normal(0, 2, (len(objects), 2))
        detections = np.hstack([shaken, shaken + 60])
        for track, detection in match(tracks, detections):
            tracks[track] = detections[detection]
            right += objects[detection] == track
        seen += len(objects)
    print(f"{right} of {seen} detections went to the track of their object")


if __name__ == "__main__":
    main()
