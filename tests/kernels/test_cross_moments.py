"""The product kernel against float64."""

from __future__ import annotations

import pytest
import torch
from data import guarded, streams

from bmatch.kernels import reference
from bmatch.kernels.centred import split_planes
from bmatch.kernels.cross_moments import add_cross_moments

# float32 sums of a few hundred tokens, relative to sums of magnitudes; promoted or not, the
# interpreter adds in float32 with rounding.
TOLERANCE = 1e-6


def error(products, start, y, x):
    expected, magnitude = torch.full_like(products, start), torch.zeros_like(products)
    reference.add_cross_moments(expected, y, x)
    reference.add_cross_moments(magnitude, y.abs(), x.abs())
    magnitude.clamp_min_(1e-30)
    return float(((products - expected).abs() / magnitude).max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("descriptors", [False, True])
@pytest.mark.parametrize("promoted", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
def test_every_variant_on_ragged_shapes(dtype, descriptors, promoted, parts):
    y, x, _ = streams("random", 700, 70, 33, dtype)
    products, untouched = guarded(70, 33, fill=5.0)
    add_cross_moments(products, y, x, promoted, descriptors=descriptors, parts=parts)
    assert error(products, 5.0, y, x) < TOLERANCE
    assert untouched()


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 64, 64), (65, 130, 3), (300, 5, 129)])
@pytest.mark.parametrize("descriptors", [False, True])
def test_edges_of_tiles(shape, descriptors):
    y, x, _ = streams("random", *shape, torch.bfloat16)
    products, untouched = guarded(*shape[1:], fill=0.0)
    add_cross_moments(products, y, x, descriptors=descriptors)
    assert error(products, 0.0, y, x) < TOLERANCE
    assert untouched()


def test_wide_tiles():
    """Widths of the larger rows of the table, on a shape that does not fill one tile of them."""
    y, x, _ = streams("random", 40, 257, 258, torch.bfloat16)
    products, untouched = guarded(257, 258, fill=1.0)
    for promoted in (False, True):
        products.fill_(1.0)
        add_cross_moments(products, y, x, promoted, parts=1)
        assert error(products, 1.0, y, x) < TOLERANCE
    assert untouched()


@pytest.mark.parametrize(("planes", "bound"), [(2, 2**-16), (3, 2**-20)])
def test_planes_add_up_to_float32(planes, bound):
    g = torch.Generator().manual_seed(0)
    exact = torch.randn(100, 24, generator=g), torch.randn(100, 20, generator=g)
    y, x = (split_planes(v, torch.zeros(v.shape[1]), planes=planes) for v in exact)
    magnitude = exact[0].double().abs().T @ exact[1].double().abs()
    for descriptors in (False, True):
        products, untouched = guarded(24, 20, fill=0.0)
        add_cross_moments(products, y, x, descriptors=descriptors)
        assert error(products, 0.0, y, x) < TOLERANCE
        assert (
            (products - exact[0].double().T @ exact[1].double()) / magnitude
        ).abs().max() < bound
        assert untouched()


def test_column_strides_and_odd_rows_take_pointers():
    y, x, _ = streams("random", 200, 12, 10, torch.float16)
    odd = torch.empty(200, 13, dtype=torch.float16)[:, 1:]
    odd.copy_(y)
    products, untouched = guarded(12, 10, fill=0.0)
    add_cross_moments(products, odd, x.T.contiguous().T)
    assert error(products, 0.0, y, x) < TOLERANCE
    assert untouched()


def test_the_same_input_gives_the_same_bits():
    y, x, _ = streams("random", 900, 20, 20, torch.bfloat16)
    results = []
    for _ in range(2):
        products, _ = guarded(20, 20, fill=0.0)
        add_cross_moments(products, y, x)
        results.append(products)
    assert torch.equal(*results)


def test_bad_operands_are_refused():
    products = torch.zeros(4, 5, dtype=torch.float64)
    y, x = torch.ones(6, 4).bfloat16(), torch.ones(6, 5).bfloat16()
    add_cross_moments(products, y[:0], x[:0])
    assert not products.any()
    with pytest.raises(ValueError, match="do not fit"):
        add_cross_moments(products, x, y)
    with pytest.raises(ValueError, match="both be bfloat16 or both float16"):
        add_cross_moments(products, y.float(), x.float())
    with pytest.raises(ValueError, match="contiguous float64"):
        add_cross_moments(products.float(), y, x)
    with pytest.raises(ValueError, match="each plane must follow"):
        add_cross_moments(products, torch.stack([y, y])[:, :3], torch.stack([x, x])[:, :3])
