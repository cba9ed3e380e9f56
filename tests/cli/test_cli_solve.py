"""``bmatch solve`` on matrices in files."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bmatch


@pytest.mark.parametrize("flags", [[], ["--maximize"], ["--sign-marginalized"]])
def test_solve(bmatch_, tmp_path, flags):
    cost = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    np.save(tmp_path / "c.npy", cost)
    code, out, _ = bmatch_("solve", tmp_path / "c.npy", "--json", *flags)
    expected = bmatch.solve(
        cost, maximize="--maximize" in flags, sign_marginalized="--sign-marginalized" in flags
    )
    assert code == 0
    values = json.loads(out)
    assert values["objective"] == expected.objective
    assert values["col_ind"] == expected.col_ind.tolist()
    code, out, _ = bmatch_("solve", tmp_path / "c.npy", "--out", tmp_path / "a.npz", *flags)
    assert code == 0
    assert "30 x 40 float32" in out
    with np.load(tmp_path / "a.npz") as saved:
        assert np.array_equal(saved["col_of_row"], expected.col_of_row)
        assert ("sign" in saved) == (flags == ["--sign-marginalized"])
