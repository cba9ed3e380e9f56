"""Seconds and peak memory of phases: each phase its own peak."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from bmatch.phases import phase


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the peak anew")
def test_each_phase_has_its_own_peak():
    phases = []
    with phase("large", phases):
        large = np.ones(40_000_000)
        time.sleep(0.01)
    del large
    with phase("small", phases):
        np.ones(10)
    large, small = phases
    assert (large.name, small.name) == ("large", "small")
    assert large.peak_bytes - small.peak_bytes > 250e6
    assert large.seconds >= 0.01
