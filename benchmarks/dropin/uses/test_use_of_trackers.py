"""trackers: boxes that move through a synthetic video keep one number each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import supervision as sv
import trackers

OBJECTS, FRAMES = 100, 30
KINDS: dict[str, Callable[[], Any]] = {
    "SORT": trackers.SORTTracker,
    "ByteTrack": trackers.ByteTrackTracker,
    "OC-SORT": trackers.OCSORTTracker,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_object_keeps_its_number(kind: str) -> None:
    r = np.random.default_rng(0)
    place = np.stack([100.0 * (np.arange(OBJECTS) % 10), 100.0 * (np.arange(OBJECTS) // 10)], 1)
    speed = r.uniform(-1, 1, (OBJECTS, 2))
    tracker = KINDS[kind]()
    numbers: list[set[int]] = [set() for _ in range(OBJECTS)]
    for frame in range(FRAMES):
        order = r.permutation(OBJECTS)
        corner = (place + speed * frame)[order]
        seen = sv.Detections(
            xyxy=np.concatenate([corner, corner + 50], 1).astype(np.float32),
            confidence=np.full(OBJECTS, 0.9, dtype=np.float32),
            class_id=np.zeros(OBJECTS, dtype=int),
        )
        tracked = tracker.update(seen)
        for box, number in zip(tracked.xyxy, tracked.tracker_id, strict=True):
            true = int(np.argmin(np.abs(place + speed * frame - box[:2]).sum(1)))
            if number >= 0:  # -1 until a track is sure
                numbers[true].add(int(number))
    assert all(len(own) == 1 for own in numbers)
    assert len(set.union(*numbers)) == OBJECTS
