"""Column sums against float64, and chunks that are read where they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from correlated import rows_apart

from bmatch import CrossMoments, _core
from bmatch.correlation import chunks

FLOATS = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (200, 33), (71, 2500), (3000, 5)])
@pytest.mark.parametrize("shifted", [False, True])
def test_column_sums(rows, cols, dtype, shifted):
    g = torch.Generator().manual_seed(0)
    values = rows_apart(g, rows, cols, dtype)
    wide = torch.promote_types(dtype, torch.float32)
    shift = torch.randn(cols, generator=g).to(wide) if shifted else None
    found = [chunks._sums(values, shift, _core.Threads(threads)) for threads in (1, 3)]
    exact = values.to(wide).double() if shift is None else (values.to(wide) - shift).double()
    scale = exact.square().sum(0).clamp_min(1e-30)
    tolerance = 1e-14 if dtype == torch.float64 else 1e-6
    total, square = found[0].total, found[0].square
    assert ((total - exact.sum(0)).abs() <= tolerance * (max(rows, 1) * scale).sqrt()).all()
    assert ((square - exact.square().sum(0)).abs() <= tolerance * scale).all()
    assert torch.equal(total, found[1].total)
    assert torch.equal(square, found[1].square)


def test_bfloat16_is_read_where_it_lies():
    """The products of numbers whose sums bfloat16 cannot hold are exact to float32."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 33, generator=g).bfloat16()
    y = (0.1 * x.flip(1) + torch.randn(20_000, 33, generator=g)).bfloat16()
    for precision in ("highest", "medium"):
        m = CrossMoments(33, 33, precision=precision)
        m.update(y, x)
        expected = np.corrcoef(y.double().T, x.double().T)[:33, 33:]
        assert np.abs(m.correlation().numpy() - expected).max() < 1e-6
