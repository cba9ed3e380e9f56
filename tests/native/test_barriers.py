"""Whatever orders memory in the CUDA solver's kernels is needed: without it a race shows."""

from __future__ import annotations

import pytest
from once import once
from race_places import build_planted, caught, faults
from races import needs_detector

pytestmark = needs_detector


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    return once(tmp_path_factory, "races", build_planted) / "check"


@pytest.mark.parametrize("number", range(len(faults())), ids=faults())
def test_a_fault_is_caught(number, check):
    assert caught(check, number, "--stop")
