"""Products and folding against float64."""

from __future__ import annotations

import pytest
import torch
from correlated import rows_apart
from hypothesis import given, settings
from hypothesis import strategies as st

from bmatch import _core
from bmatch.correlation.products import fold, multiply

OWN = [
    pytest.param(dtype, marks=pytest.mark.skipif(not has, reason="no such instructions"))
    for dtype, has in (
        (torch.float32, _core.multiplies_float32()),
        (torch.bfloat16, _core.multiplies_bfloat16()),
    )
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (33, 17)])
def test_fold(shape, dtype):
    g = torch.Generator().manual_seed(0)
    products = torch.randn(shape, generator=g, dtype=dtype)
    left, right = (torch.randn(2, d, generator=g, dtype=torch.float64) for d in shape)
    comoment = torch.randn(shape, generator=g, dtype=torch.float64)
    expected = comoment + products + left.T @ right
    fold(comoment, products, left, right, _core.Threads(2))
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
    left, right = rows_apart(g, tokens, d1, dtype), rows_apart(g, tokens, d2, dtype)
    products = multiply(left, right, _core.Threads(threads))
    expected = left.double().T @ right.double()
    scale = torch.outer(left.double().norm(dim=0), right.double().norm(dim=0))
    assert ((products - expected).abs() <= 1e-6 * scale).all()
    assert torch.equal(products, multiply(left, right, _core.Threads(1)))


@pytest.mark.parametrize("dtype", OWN)
def test_products_larger_than_the_pieces_that_threads_take(dtype):
    g = torch.Generator().manual_seed(0)
    left, right = rows_apart(g, 777, 509, dtype), rows_apart(g, 777, 700, dtype)
    expected = left.double().T @ right.double()
    for threads in (1, 2, 40):
        products = multiply(left, right, _core.Threads(threads))
        assert (products - expected).abs().max() < 1e-3
        assert torch.equal(products, multiply(left, right, _core.Threads(1)))


@pytest.mark.parametrize("dtype", OWN)
def test_a_number_that_is_not_finite_stays_in_its_row_and_column(dtype):
    """Panels are filled up with zeros, and none of them is multiplied into the answer."""
    left, right = torch.ones(9, 13, dtype=dtype), torch.ones(9, 33, dtype=dtype)
    left[8, 12] = float("inf")
    products = multiply(left, right, _core.Threads(1))
    assert products[:12].eq(9.0).all()
    assert products[12].eq(float("inf")).all()


def test_products_of_two_dtypes():
    g = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 100, 7, generator=g)
    threads = _core.Threads(1)
    expected = left.double().T @ right.bfloat16().double()
    for dtype, bound in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        products = multiply(left.to(dtype), right.bfloat16(), threads)
        assert products.dtype == dtype
        assert (products - expected).abs().max() < bound
