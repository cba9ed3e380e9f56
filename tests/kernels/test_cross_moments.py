"""The product kernel against float64."""

from __future__ import annotations

import pytest
import torch
from data import guarded, streams

from bmatch.kernels import cross_moments, reference
from bmatch.kernels.centred import split_planes
from bmatch.kernels.cross_moments import add_cross_moments, partial_bytes, tokens_at_once

# float32 sums of a few hundred tokens, relative to sums of magnitudes; promoted or not, the
# interpreter adds in float32 with rounding.
TOLERANCE = 1e-6


def sited(case, sites, tokens, d1, d2, dtype):
    """Operands of different sites in one plane each: [S, 1, T, D1] and [S, 1, T, D2]."""
    pairs = [streams(case, tokens, d1, d2, dtype, seed=s)[:2] for s in range(sites)]
    return [torch.stack(values)[:, None] for values in zip(*pairs, strict=True)]


def error(products, start, y, x):
    """Largest error of products [S, D1, D2] that began at `start`, relative to magnitudes."""
    expected, magnitude = torch.full_like(products, start), torch.zeros_like(products)
    reference.add_cross_moments(expected, y, x)
    reference.add_cross_moments(magnitude, y.abs(), x.abs())
    magnitude.clamp_min_(1e-30)
    return float(((products - expected).abs() / magnitude).max())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("descriptors", [False, True])
@pytest.mark.parametrize("promoted", [False, True])
@pytest.mark.parametrize("parts", [0, 1, 3])
def test_every_variant_on_ragged_shapes(dtype, descriptors, promoted, parts):
    y, x, _ = streams("random", 700, 70, 33, dtype)
    y, x = y[None, None], x[None, None]
    products, untouched = guarded(1, 70, 33, fill=5.0)
    add_cross_moments(products, y, x, promoted, descriptors=descriptors, parts=parts)
    assert error(products, 5.0, y, x) < TOLERANCE
    assert untouched()


@pytest.mark.parametrize("descriptors", [False, True])
@pytest.mark.parametrize("parts", [0, 3])
def test_sites_are_products_of_their_own(descriptors, parts):
    """Tokens that do not fill a block, where a load too far would read the next site."""
    y, x = sited("random", 3, 150, 40, 24, torch.bfloat16)
    products, untouched = guarded(3, 40, 24, fill=5.0)
    add_cross_moments(products, y, x, descriptors=descriptors, parts=parts)
    assert error(products, 5.0, y, x) < TOLERANCE
    assert untouched()
    for s in range(3):
        alone, _ = guarded(1, 40, 24, fill=5.0)
        add_cross_moments(alone, y[s : s + 1], x[s : s + 1], descriptors=descriptors, parts=parts)
        assert torch.equal(alone[0], products[s])


@pytest.mark.parametrize("descriptors", [False, True])
@pytest.mark.parametrize("parts", [0, 1, 3])
def test_outer_products_are_added_in_the_same_pass(descriptors, parts):
    y, x = sited("random", 2, 150, 72, 40, torch.bfloat16)
    factors = torch.randn(2, 2, 72 + 40, generator=torch.Generator().manual_seed(1)).double()
    products, untouched = guarded(2, 72, 40, fill=5.0)
    expected = products.clone()
    add_cross_moments(products, y, x, True, factors, descriptors=descriptors, parts=parts)
    reference.add_cross_moments(expected, y, x, factors)
    assert (products - expected).abs().max() < 1e-4  # float32 sums of 150 products of size 1
    assert untouched()
    # What the factors alone make is exact to float64.
    bare, _ = guarded(2, 72, 40, fill=5.0)
    add_cross_moments(bare, y, x, True, descriptors=descriptors, parts=parts)
    outer = factors[..., :72].mT @ factors[..., 72:]
    assert (products - bare - outer).abs().max() < 1e-12


@pytest.mark.parametrize("shape", [(1, 1, 1), (64, 64, 64), (65, 130, 3), (300, 5, 129)])
@pytest.mark.parametrize("descriptors", [False, True])
def test_edges_of_tiles(shape, descriptors):
    y, x, _ = streams("random", *shape, torch.bfloat16)
    y, x = y[None, None], x[None, None]
    products, untouched = guarded(1, *shape[1:], fill=0.0)
    add_cross_moments(products, y, x, descriptors=descriptors)
    assert error(products, 0.0, y, x) < TOLERANCE
    assert untouched()


def test_wide_tiles():
    """Widths of the larger rows of the table, on a shape that does not fill one tile of them."""
    y, x, _ = streams("random", 40, 257, 258, torch.bfloat16)
    y, x = y[None, None], x[None, None]
    products, untouched = guarded(1, 257, 258, fill=1.0)
    for promoted in (False, True):
        products.fill_(1.0)
        add_cross_moments(products, y, x, promoted, parts=0)
        assert error(products, 1.0, y, x) < TOLERANCE
    assert untouched()


@pytest.mark.parametrize(("planes", "bound"), [(2, 2**-16), (3, 2**-20)])
def test_planes_add_up_to_float32(planes, bound):
    """Tokens that do not fill a block, where a load too far would read the next plane or site."""
    g = torch.Generator().manual_seed(0)
    exact = torch.randn(2, 100, 24, generator=g), torch.randn(2, 100, 20, generator=g)
    y, x = split_planes(*exact, torch.zeros(2, 24 + 20), planes=planes)
    magnitude = exact[0].double().abs().mT @ exact[1].double().abs()
    for descriptors in (False, True):
        products, untouched = guarded(2, 24, 20, fill=0.0)
        add_cross_moments(products, y, x, descriptors=descriptors)
        assert error(products, 0.0, y, x) < TOLERANCE
        assert (
            (products - exact[0].double().mT @ exact[1].double()) / magnitude
        ).abs().max() < bound
        assert untouched()


def test_column_strides_and_odd_rows_take_pointers():
    y, x, _ = streams("random", 200, 12, 10, torch.float16)
    odd = torch.empty(200, 13, dtype=torch.float16)[:, 1:]
    odd.copy_(y)
    products, untouched = guarded(1, 12, 10, fill=0.0)
    add_cross_moments(products, odd[None, None], x.T.contiguous().T[None, None])
    assert error(products, 0.0, y[None, None], x[None, None]) < TOLERANCE
    assert untouched()


def test_the_same_input_gives_the_same_bits():
    y, x, _ = streams("random", 900, 20, 20, torch.bfloat16)
    results = []
    for _ in range(2):
        products, _ = guarded(1, 20, 20, fill=0.0)
        add_cross_moments(products, y[None, None], x[None, None])
        results.append(products)
    assert torch.equal(*results)


def test_bad_operands_are_refused():
    products = torch.zeros(2, 4, 5, dtype=torch.float64)
    y, x = torch.ones(2, 1, 6, 4).bfloat16(), torch.ones(2, 1, 6, 5).bfloat16()
    add_cross_moments(products, y[:, :, :0], x[:, :, :0])
    assert not products.any()
    with pytest.raises(ValueError, match="do not fit"):
        add_cross_moments(products, x, y)
    with pytest.raises(ValueError, match="do not fit"):
        add_cross_moments(products, y[:1], x[:1])
    with pytest.raises(ValueError, match="both be bfloat16 or both float16"):
        add_cross_moments(products, y.float(), x.float())
    with pytest.raises(ValueError, match="contiguous float64"):
        add_cross_moments(products.float(), y, x)
    uneven = [torch.cat([v, v, v], 1)[:, :2] for v in (y, x)]
    with pytest.raises(ValueError, match="must follow one another evenly"):
        add_cross_moments(products, *uneven)


def test_how_many_tokens_it_may_take_at_once():
    """As many as make each part, or a product in one piece, sum so many: no more, no fewer."""
    device = torch.device("cpu")
    for d1, d2 in ((64, 64), (300, 700), (1024, 1024), (4096, 4096)):
        for promoted in (False, True):
            _, _, parts = cross_moments._cut(device, d1, d2, 10**6, 1, promoted)
            tokens = tokens_at_once(device, d1, d2, 8192, promoted)
            assert tokens == 8192 * max(parts, 1)
            _, _, parts = cross_moments._cut(device, d1, d2, tokens, 1, promoted)
            assert tokens // max(parts, 1) == 8192
    assert tokens_at_once(device, 64, 64, 8192, False) == 132 * 8192
    assert tokens_at_once(device, 4096, 4096, 8192, False) == 8192


def test_what_it_takes_beside_its_operands():
    device = torch.device("cpu")  # the interpreter plays a Hopper
    assert partial_bytes(device, 3, 4096, 4096, 512, 3, True) == 0  # tiles enough for one part
    few = partial_bytes(device, 1, 64, 64, 8192, 3, True)
    assert few % (4 * 64 * 64) == 0
    assert few > 4 * 64 * 64
    assert partial_bytes(device, 31, 64, 64, 8192, 3, True) == 31 * few
    # The kernel is that of the width, not of the batch: a short one has a part, too.
    assert partial_bytes(device, 1, 64, 64, 1, 3, True) == 4 * 64 * 64
