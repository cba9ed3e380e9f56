"""Streaming moments against float64 and NumPy's corrcoef."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import bmatch
from bmatch import CrossMoments
from bmatch.correlation import products


def reference(target, source):
    """numpy.corrcoef in float64 of the very same numbers."""
    y, x = np.asarray(target, np.float64), np.asarray(source, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.corrcoef(y.T, x.T)[: y.shape[1], y.shape[1] :]


def paired_streams(tokens, target_dim, source_dim, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, source_dim, generator=g)
    y = 0.7 * x[:, torch.arange(target_dim) % source_dim] + 0.5 * torch.randn(
        tokens, target_dim, generator=g
    )
    return y, x


def moments_of(y, x, pieces=1):
    m = CrossMoments(y.shape[-1], x.shape[-1])
    for a, b in zip(y.chunk(pieces), x.chunk(pieces), strict=True):
        m.update(a, b)
    return m


@pytest.fixture(params=["this processor's", "float32 by torch", "bfloat16 by torch"])
def product(request, monkeypatch):
    """How products are taken: as here, and as on processors with other instructions."""
    if request.param != "this processor's":
        monkeypatch.setattr(products, "_own_product", lambda dtype: None)
        by_torch = request.param == "bfloat16 by torch"
        monkeypatch.setattr(products, "_bfloat16_by_torch", lambda: by_torch)


@pytest.mark.usefixtures("product")
@pytest.mark.parametrize("shape", [(300, 7, 11), (5000, 33, 20), (2, 3, 3), (9000, 1, 5)])
def test_equals_corrcoef(shape):
    y, x = paired_streams(*shape)
    c = moments_of(y, x).correlation()
    assert c.dtype == torch.float32
    assert c.shape == shape[1:]
    assert np.abs(c.numpy() - reference(y, x)).max() < 1e-6


@pytest.mark.usefixtures("product")
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # Inputs are read exactly and the reference sees the same rounded inputs, so the width of
    # the input does not show: what remains is float32 accumulation, and nothing for float64.
    [
        (torch.float64, 1e-7),  # the result is float32: half an ulp of 1 is 6e-8
        (torch.float32, 1e-6),
        (torch.bfloat16, 1e-6),
        (torch.float16, 1e-6),
    ],
)
def test_input_dtypes(dtype, tolerance):
    y, x = (t.to(dtype) for t in paired_streams(6000, 24, 24))
    c = moments_of(y, x, pieces=3).correlation()
    assert np.abs(c.numpy() - reference(y.double(), x.double())).max() < tolerance


def test_a_million_tokens_with_large_means_and_massive_activations():
    """mean/std = 10 everywhere, and 25,000 in one token of 2,000, as attention sinks have."""
    tokens, d = 1_000_000, 24
    g = torch.Generator().manual_seed(1)
    x = torch.randn(tokens, d, generator=g) + 10.0
    y = 0.8 * (x - 10.0).flip(1) + 0.6 * torch.randn(tokens, d, generator=g) - 10.0
    spikes = torch.randint(0, tokens, (tokens // 2000,), generator=g)
    x[spikes, 3] = 25_000.0
    y[spikes, 5] = -25_000.0
    y[spikes[::2], 7] += 24_000.0
    m = CrossMoments(d, d)
    for start in range(0, tokens, 30_000):
        m.update(y[start : start + 30_000], x[start : start + 30_000])
    assert m.count == tokens
    assert np.abs(m.correlation().numpy() - reference(y, x)).max() < 1e-6


def test_an_outlier_in_the_first_chunk_does_not_spoil_the_shift():
    y, x = paired_streams(20_000, 6, 6)
    x[3, 2] = y[3, 2] = 1e6
    x[:, 4] += 1e3
    assert np.abs(moments_of(y, x).correlation().numpy() - reference(y, x)).max() < 1e-6


@pytest.mark.parametrize("first", [25_000.0, 1e6, -1e9])
def test_an_odd_first_batch_of_one_token_does_not_matter(first):
    """Token by token from an attention sink on: nothing is learnt from the first batch alone."""
    y, x = paired_streams(3000, 5, 5)
    y[0], x[0, 2] = first, first
    m = CrossMoments(5, 5)
    for start, stop in [(0, 1), (1, 2), (2, 50), (50, 3000)]:
        m.update(y[start:stop], x[start:stop])
    assert np.abs(m.correlation().numpy() - reference(y, x)).max() < 1e-6


def test_batches_of_different_precision_share_one_mean():
    y, x = paired_streams(4000, 4, 4)
    y, x = y.double() + 1e6 + 1 / 3, x.double() - 1e4 - 1 / 7
    m = CrossMoments(4, 4)
    m.update(y[:1000], x[:1000])
    m.update(y[1000:2000].float(), x[1000:2000].float())
    m.update(y[2000:], x[2000:])
    y[1000:2000], x[1000:2000] = y[1000:2000].float().double(), x[1000:2000].float().double()
    assert np.abs(m.correlation().numpy() - reference(y, x)).max() < 1e-6


@pytest.mark.parametrize("scales", [(1e30, 1e25), (1e-25, 1.0), (1e-30, 1e30), (3e38 / 8, 1.0)])
def test_values_near_the_ends_of_the_float32_range(scales):
    y, x = paired_streams(500, 4, 4)
    y, x = y * scales[0], x * scales[1]
    y[:, 1] = y[:, 1] / scales[0]  # channels of very different size side by side
    assert np.abs(moments_of(y, x).correlation().numpy() - reference(y, x)).max() < 1e-6


def test_overflow_of_float64_is_told():
    y, x = paired_streams(500, 4, 4)
    with pytest.raises(ValueError, match="the moments overflowed float64"):
        moments_of(y.double() * 1e200, x.double() * 1e200).correlation()


@given(st.lists(st.integers(0, 199), max_size=5), st.permutations(range(4)))
@settings(max_examples=40, deadline=None)
def test_any_split_and_any_order_of_merging_give_the_same(cuts, order):
    y, x = paired_streams(200, 6, 5, seed=3)
    x[:, 2] += 50.0 * (torch.arange(200) > 90)  # partial means, hence shifts, differ widely
    whole = moments_of(y, x).correlation()

    split = CrossMoments(6, 5)
    edges = [0, *sorted(cuts), 200]
    for start, stop in itertools.pairwise(edges):
        split.update(y[start:stop], x[start:stop])
    assert split.count == 200
    assert (split.correlation() - whole).abs().max() < 1e-6

    parts = [moments_of(y[50 * k : 50 * k + 50], x[50 * k : 50 * k + 50]) for k in order]
    merged = CrossMoments(6, 5)
    for part in parts:
        merged.merge(part)
    assert merged.count == 200
    assert (merged.correlation() - whole).abs().max() < 1e-6
    assert parts[0].count == 50


def test_masks_and_leading_shapes():
    y, x = paired_streams(600, 5, 5)
    mask = torch.rand(600, generator=torch.Generator().manual_seed(2)) < 0.6
    plain = moments_of(y[mask], x[mask])
    masked = CrossMoments(5, 5)
    x[~mask] = float("nan")  # what is masked may hold anything
    masked.update(y.reshape(6, 100, 5), x.reshape(6, 100, 5), mask.reshape(6, 100))
    assert masked.count == int(mask.sum())
    assert torch.equal(masked.correlation(), plain.correlation())
    masked.update(y[:0], x[:0])
    masked.update(y, x, torch.zeros(600, dtype=torch.bool))
    assert masked.count == int(mask.sum())


def test_strided_inputs_and_numpy_arrays():
    y, x = paired_streams(400, 6, 6)
    expected = reference(y, x)
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    for array in (x.numpy(), frozen, x.numpy().astype(">f4"), x.flip(0).numpy()[::-1]):
        m = CrossMoments(6, 6)
        m.update(y.T.contiguous().T, array)
        assert np.abs(m.correlation().numpy() - expected).max() < 1e-6


def test_constant_channels_correlate_zero_and_are_named():
    y, x = paired_streams(500, 6, 6)
    y[:, 1] = 0.1
    x[:, 4] = -3e4
    m = moments_of(y, x, pieces=2)
    other = moments_of(y + 0.0, x + 0.0)
    m.merge(other)
    c = m.correlation()
    assert torch.all(c[1] == 0)
    assert torch.all(c[:, 4] == 0)
    assert [t.tolist() for t in m.constant_channels()] == [[1], [4]]
    keep_y, keep_x = [0, 2, 3, 4, 5], [0, 1, 2, 3, 5]
    expected = reference(y[:, keep_y], x[:, keep_x])
    assert np.abs(c[keep_y][:, keep_x].numpy() - expected).max() < 1e-6


def test_a_constant_that_only_a_merge_can_see():
    """Parts that are constant each, at different values: the whole varies."""
    y, x = paired_streams(100, 2, 2)
    y[:, 0] = torch.tensor([1.0, 2.0]).repeat_interleave(50)
    m = moments_of(y[:50], x[:50])
    m.merge(moments_of(y[50:], x[50:]))
    assert np.abs(m.correlation().numpy() - reference(y, x)).max() < 1e-6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["target", "source"])
def test_non_finite_input_is_refused_and_the_batch_named(value, where):
    y, x = paired_streams(9000, 4, 4)
    m = moments_of(y, x, pieces=3)
    before = m.correlation()
    bad = {"target": y.clone(), "source": x.clone()}
    bad[where][8500, 2] = value
    with pytest.raises(ValueError, match=rf"batch 3 .*: {where} holds .* token 8500, coordinate 2"):
        m.update(**bad)
    assert m.count == 9000
    assert torch.equal(m.correlation(), before)


def test_bad_input_is_refused():
    m = CrossMoments(4, 3)
    y, x = paired_streams(10, 4, 3)
    with pytest.raises(ValueError, match="at least 2 tokens, and 0 have been counted"):
        m.correlation()
    with pytest.raises(ValueError, match=r"target must have 4 coordinates .* got shape \(10, 3\)"):
        m.update(x, x)
    with pytest.raises(ValueError, match="pair the same tokens"):
        m.update(y, x[:5])
    with pytest.raises(TypeError, match=r"floating point, got torch\.int64"):
        m.update(y.long(), x)
    with pytest.raises(TypeError, match="mask must be boolean"):
        m.update(y, x, torch.ones(10))
    with pytest.raises(ValueError, match=r"mask must have the leading shape \(10,\)"):
        m.update(y, x, torch.ones(9, dtype=torch.bool))
    with pytest.raises(ValueError, match="target is on meta and the moments are on cpu"):
        m.update(y.to("meta"), x)
    with pytest.raises(ValueError, match="4 x 3 and 3 x 4 cannot be merged"):
        m.merge(CrossMoments(3, 4))
    with pytest.raises(ValueError, match="precision must be 'highest'"):
        CrossMoments(4, 3, precision="low")
    with pytest.raises(ValueError, match="at least 1"):
        CrossMoments(0, 3)
    assert m.count == 0


@pytest.mark.usefixtures("product")
def test_torch_settings_do_not_lower_the_precision():
    y, x = paired_streams(4000, 40, 40)
    expected = moments_of(y, x).correlation()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = moments_of(y, x).correlation()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.equal(got, expected)


def test_save_and_load_in_the_middle(tmp_path):
    y, x = paired_streams(1000, 5, 4)
    whole = moments_of(y, x, pieces=2)
    half = moments_of(y[:500], x[:500])
    half.save(tmp_path / "m.safetensors")
    back = CrossMoments.load(tmp_path / "m.safetensors")
    back.update(y[500:], x[500:])
    assert back.count == 1000
    assert torch.equal(back.correlation(), whole.correlation())
    assert repr(back) == "CrossMoments(target_dim=5, source_dim=4, count=1000, device='cpu')"
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no moments file"):
        CrossMoments.load(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="damaged"):
        CrossMoments.load(path)
    bmatch.SignedPermutation.identity(4).save(path)
    with pytest.raises(ValueError, match="holds no moments"):
        CrossMoments.load(path)
    moments_of(*paired_streams(10, 3, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):
        CrossMoments.load(path)
    save_file({"comoment": torch.zeros(2, 2)}, path, {"format": "bmatch.moments"})
    with pytest.raises(ValueError, match="holds no moments"):
        CrossMoments.load(path)
    names = ["comoment", "target_mean", "source_mean", "target_square", "source_square"]
    odd = {name: torch.zeros(2, dtype=torch.float64) for name in names}
    save_file(odd, path, {"format": "bmatch.moments", "format_version": "1"})
    with pytest.raises(ValueError, match="its moments do not fit together"):
        CrossMoments.load(path)


@pytest.mark.parametrize(("precision", "bound"), [("high", 1e-6), ("medium", 1e-2)])
@pytest.mark.parametrize("tokens", [2, 10, 6000])
@pytest.mark.usefixtures("product")
def test_the_stated_bounds_of_lower_precision(precision, bound, tokens):
    y, x = paired_streams(tokens, 24, 20)
    y, x = y - 10.0, x + 10.0
    if tokens > 1000:
        y[::97, :2], x[::97, 1] = -25_000.0, 25_000.0
    m = CrossMoments(24, 20, precision=precision)
    m.update(y, x)
    assert np.abs(m.correlation().numpy() - reference(y, x)).max() < bound


@pytest.mark.usefixtures("product")
def test_new_precision_settings_of_torch_do_not_lower_it_either():
    mkldnn = getattr(torch.backends.mkldnn, "matmul", None)
    if mkldnn is None:
        pytest.skip("this torch has one setting for all backends")
    y, x = paired_streams(4000, 40, 40)
    expected = moments_of(y, x).correlation()
    before = mkldnn.fp32_precision
    mkldnn.fp32_precision = "bf16"
    try:
        got = moments_of(y, x).correlation()
        assert mkldnn.fp32_precision == "bf16"
    finally:
        mkldnn.fp32_precision = before
    assert torch.equal(got, expected)


def test_strongest_is_the_scan_of_the_matrix():
    y, x = paired_streams(500, 9, 6)
    x[:, 5] = 2.0 * x[:, 1]  # a tie in every row: the lower column wins
    m = moments_of(y, x)
    c, found = m.correlation(), m.strongest()
    rows = torch.arange(9)
    assert torch.equal(found.source, c.abs().argmax(1))
    assert torch.equal(found.correlation, c[rows, found.source])
    c[rows, found.source] = 0.0
    assert torch.equal(found.runner_up, c.abs().amax(1))
    single = CrossMoments(9, 1)
    single.update(y, x[:, :1])
    assert not single.strongest().runner_up.any()
