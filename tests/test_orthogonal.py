"""The group laws of orthogonal gauges, their action, and their files."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

import bmatch
from bmatch import OrthogonalGauge, SignedPermutation


def three(drawn):
    dim, seed, fix_ones = drawn
    rng = np.random.default_rng(seed)
    return [OrthogonalGauge.random(dim, seed=rng, fix_ones=fix_ones) for _ in range(3)]


triples = st.tuples(st.integers(1, 9), st.integers(0, 2**32 - 1), st.booleans()).map(three)


@given(triples)
@settings(max_examples=50)
def test_group_laws(triple):
    f, g, h = triple
    one = OrthogonalGauge.identity(f.dim)
    assert ((f @ g) @ h).distance(f @ (g @ h)) < 1e-14
    assert bmatch.compose([f, g, h]) == (f @ g) @ h
    assert f @ one == f == one @ f
    assert (f @ f.inverse()).distance(one) < 1e-14
    assert (f @ g).inverse().distance(g.inverse() @ f.inverse()) < 1e-14
    assert f.inverse().inverse() == f
    assert hash(f @ one) == hash(f)
    assert f.distance(g) ** 2 == pytest.approx(2 - 2 * f.agreement(g), abs=1e-12)


@given(triples)
@settings(max_examples=30)
def test_the_action_is_the_matrix_and_keeps_lengths(triple):
    f, g, _ = triple
    x = np.random.default_rng(0).standard_normal((4, f.dim))
    assert np.allclose(f.apply(x), x @ f.matrix().T, atol=1e-14)
    assert np.allclose((f @ g).apply(x), f.apply(g.apply(x)), atol=1e-13)
    assert np.allclose(f.inverse().apply(f.apply(x)), x, atol=1e-13)
    assert np.allclose(np.linalg.norm(f.apply(x), axis=1), np.linalg.norm(x, axis=1))


@given(triples, st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_signed_permutations_join_in(triple, seed):
    f = triple[0]
    s = SignedPermutation.random(f.dim, seed=seed)
    x = np.random.default_rng(1).standard_normal((3, f.dim))
    for product, twice in (
        (f @ s, f.apply(s.apply(x))),
        (s @ f, s.apply(f.apply(x))),
        (bmatch.compose([s, f, s]), s.apply(f.apply(s.apply(x)))),
    ):
        assert isinstance(product, OrthogonalGauge)
        assert np.allclose(product.apply(x), twice, atol=1e-13)
    held = OrthogonalGauge(s.matrix())
    assert held.agreement(s) == 1.0
    assert held.distance(s) == 0.0
    gains = np.abs(x)
    assert np.array_equal(held.apply(x), s.apply(x))
    assert np.array_equal(held.apply_permutation(gains), s.apply_permutation(gains))


def test_random_gauges_are_uniform_over_the_group():
    """The first entry of a Haar rotation has a known distribution; ones stay if asked."""
    dim, seeds = 6, range(400)
    first = [OrthogonalGauge.random(dim, seed=s).matrix()[0, 0] for s in seeds]
    beta = scipy.stats.beta((dim - 1) / 2, (dim - 1) / 2)  # of (1 + entry) / 2
    assert scipy.stats.kstest((np.array(first) + 1) / 2, beta.cdf).pvalue > 1e-3
    assert OrthogonalGauge.random(5, seed=3) == OrthogonalGauge.random(5, seed=3)
    ones = OrthogonalGauge.random(dim, seed=0, fix_ones=True)
    assert ones.fixes_ones
    assert (OrthogonalGauge(-np.eye(dim)) @ ones).fixes_ones
    assert not OrthogonalGauge.random(dim, seed=0).fixes_ones
    assert OrthogonalGauge.random(1, seed=0, fix_ones=True) == OrthogonalGauge.identity(1)


def test_the_nearest_is_the_polar_factor():
    """Against SciPy, and better than a thousand others."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((7, 7))
    nearest = OrthogonalGauge.nearest(matrix)
    assert np.allclose(nearest.matrix(), scipy.linalg.polar(matrix)[0], atol=1e-13)
    gain = (nearest.matrix() * matrix).sum()
    for seed in range(1000):
        other = OrthogonalGauge.random(7, seed=seed)
        assert (other.matrix() * matrix).sum() < gain
    truth = OrthogonalGauge.random(40, seed=1)
    coarse = truth.matrix().astype(np.float32)
    with pytest.raises(ValueError, match="is not orthogonal: a column"):
        OrthogonalGauge(coarse)
    assert OrthogonalGauge.nearest(coarse).distance(truth) < 1e-6


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_tensors_are_mapped_in_a_wider_type_and_rounded_once(dtype, dim):
    g = OrthogonalGauge.random(5, seed=1)
    x = torch.randn(5, 5, 5, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
    before = x.clone()
    y = g.apply(x, dim=dim)
    assert y.dtype == x.dtype
    assert torch.equal(x, before)
    exact = np.moveaxis(np.moveaxis(x.double().numpy(), dim, -1) @ g.matrix().T, -1, dim)
    step = torch.finfo(x.dtype).eps
    found = [y.double().numpy()]
    if dtype != "bfloat16":
        found.append(g.apply(x.numpy(), dim=dim))
        assert found[1].dtype == x.numpy().dtype
    for mapped in found:
        assert np.abs(mapped - exact).max() <= 0.51 * step * max(np.abs(exact).max(), 4)


def test_many_rows_are_mapped_as_few_are():
    g = OrthogonalGauge.random(3, seed=1)
    x = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(g.apply(x)[10_000:10_010], g.apply(x[10_000:10_010]))


def test_gains_are_mapped_where_a_diagonal_stays_one():
    """Flat gains, and gains that differ only between blocks that the gauge does not mix."""
    rng = np.random.default_rng(0)
    block = np.eye(6)
    block[:3, :3] = OrthogonalGauge.random(3, seed=0).matrix()
    order = SignedPermutation.random(6, seed=1)
    g = order @ OrthogonalGauge(block)
    flat = np.full((2, 6), [[0.7], [1.3]], np.float32)
    assert np.array_equal(OrthogonalGauge.random(6, seed=2).apply_permutation(flat), flat)
    for gains in (np.array([0.5, 0.5, 0.5, 1, 2, 3]), np.array([-1.0, -1.0, -1.0, 0, 0, 1])):
        moved = g.apply_permutation(gains)
        exact = g.matrix() @ np.diag(gains) @ g.matrix().T
        assert np.allclose(np.diag(moved), exact, atol=1e-12)
        as_tensor = g.apply_permutation(torch.from_numpy(gains))
        assert np.array_equal(as_tensor.numpy(), moved)
    for gains in (rng.standard_normal(6), np.array([1, 1, 1 + 1e-4, 1, 1, 1])):
        with pytest.raises(ValueError, match="only equal gains let themselves be rotated"):
            g.apply_permutation(gains)
    rounded = np.float32(1) + np.float32(1e-7) * np.arange(6, dtype=np.float32)
    assert np.array_equal(g.apply_permutation(rounded), rounded)
    ulp = torch.ones(6, dtype=torch.bfloat16)
    ulp[0] += 2**-7
    with pytest.raises(ValueError, match="only equal gains"):
        g.apply_permutation(ulp)


def test_files(tmp_path):
    g = OrthogonalGauge.random(6, seed=0)
    g.metadata["source"] = "a"
    g.save(tmp_path / "g", {"target": "b"})
    with safe_open(tmp_path / "g", framework="numpy") as file:
        header = file.metadata()
        assert header["format"] == "bmatch.gauge"
        assert (header["group"], header["dim"]) == ("orthogonal", "6")
        assert np.array_equal(file.get_tensor("matrix"), g.matrix())
    loaded = bmatch.load_gauge(tmp_path / "g")
    assert loaded == g == OrthogonalGauge.load(tmp_path / "g")
    assert loaded.metadata == {"source": "a", "target": "b"}
    assert loaded.inverse().metadata == {"source": "b", "target": "a"}
    assert pickle.loads(pickle.dumps(loaded)) == g
    s = SignedPermutation.random(6, seed=0)
    s.save(tmp_path / "s")
    assert bmatch.load_gauge(tmp_path / "s") == s
    with pytest.raises(ValueError, match="holds no gauge"):
        SignedPermutation.load(tmp_path / "g")
    save_file({"matrix": 2 * g.matrix()}, tmp_path / "twice", metadata={**header})
    with pytest.raises(ValueError, match="holds no valid gauge: matrix is not orthogonal"):
        bmatch.load_gauge(tmp_path / "twice")
    save_file({"matrix": g.matrix()}, tmp_path / "back", metadata={**header, "direction": "x.R"})
    with pytest.raises(ValueError, match="maps in another direction"):
        bmatch.load_gauge(tmp_path / "back")
    with pytest.raises(FileNotFoundError, match="there is no gauge file"):
        bmatch.load_gauge(tmp_path / "none")


def test_devices():
    g = OrthogonalGauge.random(4, seed=0).to("cpu")
    assert g.matrix().dtype == torch.float32
    assert g.to(None).matrix().dtype == np.float64
    assert torch.equal(g.inverse().matrix(torch.float64), g.matrix(torch.float64).T)
    meta = g.to("meta")
    with pytest.raises(ValueError, match="x is on cpu and the gauge on meta"):
        meta.apply(torch.ones(4))


def test_bad_input_is_refused():
    g = OrthogonalGauge.random(4, seed=0)
    for call, error, message in (
        (lambda: OrthogonalGauge(np.ones((2, 3))), ValueError, "must be square"),
        (lambda: OrthogonalGauge(np.full((2, 2), np.nan)), ValueError, "must be finite"),
        (lambda: OrthogonalGauge(np.eye(2), {"a": 1}), TypeError, "must map str to str"),
        (lambda: OrthogonalGauge.identity(-1), ValueError, "at least 0"),
        (lambda: g.apply(np.ones(3)), ValueError, "has no 4 coordinates along dimension -1"),
        (lambda: g.apply(np.ones(4, int)), TypeError, "rotations need a floating type"),
        (lambda: g @ OrthogonalGauge.identity(3), ValueError, "gauges of 4 and 3"),
        (lambda: g.distance(4), TypeError, "expected a gauge, got int"),
        (lambda: g @ np.eye(4), TypeError, "does not support ufuncs"),
    ):
        with pytest.raises(error, match=message):
            call()
