"""Seconds and peak memory of phases: each phase its own peak."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# In a process of its own: in one that other tests have used, memory comes and goes by itself.
CODE = """
import json, time
from dataclasses import asdict
import numpy as np
from bmatch.jobs.phases import phase

phases = []
with phase("large", phases):
    large = np.ones(40_000_000)
    time.sleep(0.01)
del large
with phase("small", phases):
    np.ones(10)
print(json.dumps([asdict(p) for p in phases]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can start the peak anew")
def test_each_phase_has_its_own_peak():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    large, small = json.loads(done.stdout)
    assert (large["name"], small["name"]) == ("large", "small")
    assert large["peak_bytes"] > 320e6
    assert large["peak_bytes"] - small["peak_bytes"] > 250e6
    assert large["seconds"] >= 0.01
