"""Pictures are written whole, of any size of problem."""

from __future__ import annotations

import numpy as np
import pytest

import bmatch
from bmatch.report.plots import plot_alignment


@pytest.mark.parametrize("d", [1, 2, 300])
def test_picture(tmp_path, d):
    c = np.eye(d)[::-1] * 0.9
    plot_alignment(c, bmatch.match(c), tmp_path / "p.png", "title")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]
