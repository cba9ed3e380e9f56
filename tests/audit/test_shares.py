"""Wilson's interval, against SciPy's."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from bmatch.audit import Share


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_is_scipys(of, part, level):
    kept = round(part * of)
    theirs = binomtest(kept, of).proportion_ci(level, method="wilson")
    assert Share(kept, of).interval(level) == pytest.approx(tuple(theirs), abs=1e-9)


def test_counts_add_up_and_nothing_is_no_evidence():
    both = Share(3, 4) + Share(1, 6)
    assert (both.kept, both.of, both.rate) == (4, 10, 0.4)
    assert Share(0, 0).interval() == (0, 1)
    assert math.isnan(Share(0, 0).rate)
    assert str(Share(10, 10)) == "1.000 [0.722, 1.000]"
