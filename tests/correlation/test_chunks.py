"""Column sums, products and folding in C++ against float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bmatch import CrossMoments, _core
from bmatch.correlation import chunks

FLOATS = [torch.float32, torch.float64, torch.bfloat16]
OWN = [
    pytest.param(dtype, marks=pytest.mark.skipif(not has, reason="no such instructions"))
    for dtype, has in (
        (torch.float32, _core.multiplies_float32()),
        (torch.bfloat16, _core.multiplies_bfloat16()),
    )
]


def block(g, rows, cols, dtype):
    """Rows that do not follow one another at once, with numbers beside them that do not count."""
    memory = torch.randn(rows, cols + 5, generator=g).to(dtype)
    memory[:, :2] = memory[:, cols + 2 :] = float("nan")
    return memory[:, 2 : cols + 2]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (200, 33), (71, 2500), (3000, 5)])
@pytest.mark.parametrize("shifted", [False, True])
def test_column_sums(rows, cols, dtype, shifted):
    g = torch.Generator().manual_seed(0)
    values = block(g, rows, cols, dtype)
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (33, 17)])
def test_fold(shape, dtype):
    g = torch.Generator().manual_seed(0)
    products = torch.randn(shape, generator=g, dtype=dtype)
    left, right = (torch.randn(2, d, generator=g, dtype=torch.float64) for d in shape)
    comoment = torch.randn(shape, generator=g, dtype=torch.float64)
    expected = comoment + products + left.T @ right
    chunks.fold(comoment, products, left, right, _core.Threads(2))
    assert (comoment - expected).abs().max() < 1e-13


@pytest.mark.parametrize("dtype", OWN)
@settings(max_examples=150, deadline=None)
@given(
    tokens=st.integers(1, 1200),
    d1=st.integers(1, 60),
    d2=st.integers(1, 100),
    threads=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_products(dtype, tokens, d1, d2, threads, seed):
    """Panels that are full, partly full and single; whole blocks of tokens, parts and odd ones."""
    g = torch.Generator().manual_seed(seed)
    left, right = block(g, tokens, d1, dtype), block(g, tokens, d2, dtype)
    products = chunks.multiply(left, right, _core.Threads(threads))
    expected = left.double().T @ right.double()
    scale = torch.outer(left.double().norm(dim=0), right.double().norm(dim=0))
    assert ((products - expected).abs() <= 1e-6 * scale).all()
    assert torch.equal(products, chunks.multiply(left, right, _core.Threads(1)))


@pytest.mark.parametrize("dtype", OWN)
def test_products_larger_than_the_pieces_that_threads_take(dtype):
    g = torch.Generator().manual_seed(0)
    left, right = block(g, 777, 509, dtype), block(g, 777, 700, dtype)
    expected = left.double().T @ right.double()
    for threads in (1, 2, 40):
        products = chunks.multiply(left, right, _core.Threads(threads))
        assert (products - expected).abs().max() < 1e-3
        assert torch.equal(products, chunks.multiply(left, right, _core.Threads(1)))


@pytest.mark.parametrize("dtype", OWN)
def test_a_number_that_is_not_finite_stays_in_its_row_and_column(dtype):
    """Panels are filled up with zeros, and none of them is multiplied into the answer."""
    left, right = torch.ones(9, 13, dtype=dtype), torch.ones(9, 33, dtype=dtype)
    left[8, 12] = float("inf")
    products = chunks.multiply(left, right, _core.Threads(1))
    assert products[:12].eq(9.0).all()
    assert products[12].eq(float("inf")).all()


def test_products_of_two_dtypes():
    g = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 100, 7, generator=g)
    threads = _core.Threads(1)
    expected = left.double().T @ right.bfloat16().double()
    for dtype, bound in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        products = chunks.multiply(left.to(dtype), right.bfloat16(), threads)
        assert products.dtype == dtype
        assert (products - expected).abs().max() < bound


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
