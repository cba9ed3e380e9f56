"""Whatever orders memory in the CUDA solver's kernels is needed: without it a race shows."""

from __future__ import annotations

import pytest
from race_places import build_planted, caught, faults
from races import needs_detector

pytestmark = needs_detector


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    return build_planted(tmp_path_factory.mktemp("check"))


@pytest.mark.parametrize("number", range(len(faults())), ids=faults())
def test_a_fault_is_caught(number, check):
    assert caught(check, number, "--stop")
