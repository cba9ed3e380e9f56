"""The group laws of signed permutations, their action, and their files."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import save_file

import bmatch
from bmatch import SignedPermutation

GROUPS = ["signed_permutation", "permutation", "permutation_global_sign"]


@st.composite
def gauges(draw, dim):
    perm = draw(st.permutations(range(dim)))
    sign = draw(st.lists(st.sampled_from([-1, 1]), min_size=dim, max_size=dim))
    return SignedPermutation(perm, sign)


triples = st.integers(1, 7).flatmap(lambda d: st.tuples(gauges(d), gauges(d), gauges(d)))


@given(triples)
def test_group_laws(triple):
    f, g, h = triple
    one = SignedPermutation.identity(f.dim)
    assert (f @ g) @ h == f @ (g @ h) == bmatch.compose([f, g, h])
    assert f @ one == f == one @ f
    assert f @ f.inverse() == one == f.inverse() @ f
    assert (f @ g).inverse() == g.inverse() @ f.inverse()
    assert f.inverse().inverse() == f
    assert hash(f @ one) == hash(f)
    assert len({f, f @ one, one @ f}) == 1


@given(triples)
def test_matrices_represent_the_group(triple):
    f, g, _ = triple
    assert np.array_equal((f @ g).matrix(), f.matrix() @ g.matrix())
    assert np.array_equal(f.inverse().matrix(), f.matrix().T)
    assert SignedPermutation.from_matrix(f.matrix()) == f
    assert SignedPermutation.from_matrix(torch.from_numpy(f.matrix())) == f


@given(triples, st.data())
@settings(max_examples=60)
def test_action_is_as_documented(triple, data):
    g, h, _ = triple
    x = data.draw(hnp.arrays(np.float64, (2, g.dim), elements=st.floats(-9, 9)))
    assert np.array_equal(g.apply(x), g.sign * x[..., g.perm])
    assert np.array_equal(g.apply(x), x @ g.matrix().T)
    assert np.array_equal((g @ h).apply(x), g.apply(h.apply(x)))
    assert g.inverse().apply(g.apply(x)).tobytes() == x.tobytes()
    assert np.array_equal(g.apply_permutation(x), x[..., g.perm])


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int8, torch.complex64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_apply_along_any_dimension_of_tensors(dtype, dim):
    g = SignedPermutation.random(5, seed=1)
    x = torch.arange(125).reshape(5, 5, 5).sub(60).to(dtype)
    before = x.clone()
    y = g.apply(x, dim=dim)
    assert y.dtype == dtype
    index = torch.as_tensor(g.perm.copy())
    sign = torch.as_tensor(g.sign.copy()).reshape([5 if d == dim % 3 else 1 for d in range(3)])
    assert torch.equal(y, x.index_select(dim, index) * sign.to(dtype))
    assert torch.equal(g.inverse().apply(y, dim=dim), x)
    assert torch.equal(x, before)


def test_numpy_and_torch_agree_and_stay_what_they_are():
    g = SignedPermutation.random(6, seed=2)
    x = np.random.default_rng(0).standard_normal((3, 6, 2)).astype(np.float32)
    y = g.apply(x, dim=1)
    assert isinstance(y, np.ndarray)
    assert y.dtype == np.float32
    t = g.apply(torch.from_numpy(x), dim=-2)
    assert isinstance(t, torch.Tensor)
    assert np.array_equal(t.numpy(), y)


def test_special_values_survive_bit_for_bit():
    g = SignedPermutation.random(5, seed=3)
    x = np.array([0.0, -0.0, np.inf, 5e-324, np.nan])
    assert g.inverse().apply(g.apply(x)).tobytes() == x.tobytes()


def test_gradients_flow():
    g = SignedPermutation.random(4, seed=0)
    x = torch.randn(4, requires_grad=True)
    g.apply(x).sum().backward()
    assert torch.equal(x.grad, torch.as_tensor(g.inverse().sign.copy()).float())


@pytest.mark.parametrize("group", GROUPS)
def test_random_belongs_to_its_group(group):
    seen = set()
    for seed in range(40):
        g = SignedPermutation.random(6, group, seed=seed)
        assert g == SignedPermutation.random(6, group, seed=seed)
        signs = set(g.sign.tolist())
        assert signs == {1} or group != "permutation"
        assert len(signs) == 1 or group == "signed_permutation"
        seen.add((g, g.group))
    assert len(seen) > 30
    assert group in {found for _, found in seen}
    with pytest.raises(ValueError, match="group must be one of signed_permutation, permutation"):
        SignedPermutation.random(6, "rotation", seed=0)


def test_random_takes_a_generator():
    generator = np.random.default_rng(5)
    first = SignedPermutation.random(50, seed=generator)
    assert first == SignedPermutation.random(50, seed=5)
    assert SignedPermutation.random(50, seed=generator) != first


def test_agreement_counts_index_and_sign():
    g = SignedPermutation([0, 1, 2, 3], [1, 1, 1, 1])
    assert g.agreement(SignedPermutation([0, 1, 3, 2], [1, -1, 1, 1])) == 0.25
    assert g.agreement(g) == 1.0
    with pytest.raises(ValueError, match="4 and 2 coordinates"):
        g.agreement(SignedPermutation.identity(2))


def test_immutable_also_when_copied():
    g = SignedPermutation([1, 0], [1, -1], {"note": "kept"})
    for same in (g, copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert same == g
        assert same.metadata == {"note": "kept"}
        with pytest.raises(ValueError, match="read-only"):
            same.perm[0] = 0
    assert isinstance(copy.copy(g.to("cpu")).perm, torch.Tensor)


@pytest.mark.parametrize(
    ("perm", "sign", "message"),
    [
        ([0, 0, 1], None, r"perm is not a permutation of 0..2: 0 occurs more than once"),
        ([0, 3, 1], None, r"entry 3 at position 1 is out of range"),
        ([0.0, 1.0], None, r"perm must be a 1-D array of integers, got float64"),
        ([[0, 1]], None, r"shape \(1, 2\)"),
        ([0, 1], [1, 0], r"sign must be \+1 or -1, got 0 at coordinate 1"),
        ([0, 1], [1j, 1], r"got values of type complex128"),
        ([0, 1], [1], r"sign must have one entry for each of the 2 entries of perm"),
    ],
)
def test_bad_gauges_are_refused(perm, sign, message):
    with pytest.raises(ValueError, match=message):
        SignedPermutation(perm, sign)


def test_bad_operands_are_refused():
    g = SignedPermutation.random(4, seed=0)
    with pytest.raises(ValueError, match=r"x of shape \(3,\) has no 4 coordinates"):
        g.apply(np.zeros(3))
    with pytest.raises(ValueError, match="dimension 2"):
        g.apply(np.zeros((4, 4)), dim=2)
    with pytest.raises(TypeError, match="uint8, which holds no signs"):
        g.apply(np.zeros(4, np.uint8))
    with pytest.raises(TypeError, match=r"torch\.bool, which holds no signs"):
        g.apply(torch.zeros(4, dtype=torch.bool))
    assert g.apply_permutation(np.ones(4, np.uint8)).sum() == 4
    with pytest.raises(
        ValueError, match=r"x is on meta and the gauge on cpu: use gauge.to\('meta'\)"
    ):
        g.apply(torch.zeros(4, device="meta"))
    with pytest.raises(ValueError, match="4 and 3 coordinates cannot be composed"):
        g @ SignedPermutation.identity(3)
    with pytest.raises(TypeError):
        g @ np.eye(4)
    with pytest.raises(ValueError, match="at least one gauge"):
        bmatch.compose([])
    with pytest.raises(ValueError, match="not a signed permutation"):
        SignedPermutation.from_matrix(np.ones((2, 2)))
    with pytest.raises(ValueError, match="dim must be at least 0"):
        SignedPermutation.identity(-1)
    with pytest.raises(TypeError, match="metadata must map str to str, got 'tokens': 5"):
        SignedPermutation([0], metadata={"tokens": 5})
    half = SignedPermutation([1, 0], torch.tensor([1, -1], dtype=torch.bfloat16))
    assert SignedPermutation.from_matrix(torch.from_numpy(half.matrix()).bfloat16()) == half
    with pytest.raises(ValueError, match="square"):
        SignedPermutation.from_matrix(np.ones((2, 3)))


def test_provenance_follows_inversion_and_composition():
    g = SignedPermutation([1, 0], metadata={"source": "a", "target": "b", "target_sha256": "f"})
    h = SignedPermutation([1, 0], metadata={"source": "b", "target": "c"})
    assert g.inverse().metadata == {"source": "b", "source_sha256": "f", "target": "a"}
    assert bmatch.compose([h, g]).metadata == {"source": "a", "target": "c"}
    assert bmatch.compose([h, h.inverse()]).metadata == {"source": "c", "target": "c"}


def test_to_device_and_back():
    g = SignedPermutation.random(5, seed=9)
    t = g.to("cpu")
    assert isinstance(t.perm, torch.Tensor)
    assert isinstance(t.inverse().sign, torch.Tensor)
    assert isinstance((t @ g).perm, torch.Tensor)
    assert isinstance(t.matrix(), torch.Tensor)
    assert t == g
    assert isinstance(t.to(None).perm, np.ndarray)
    assert isinstance(SignedPermutation(torch.tensor([1, 0])).perm, torch.Tensor)


def test_repr_says_what_it_is():
    assert (
        repr(SignedPermutation([1, 0], [1, -1])) == "SignedPermutation(perm=[1, 0], sign=[1, -1])"
    )
    assert repr(SignedPermutation.identity(9)) == "SignedPermutation(dim=9, moved=0, flipped=0)"


def test_save_and_load(tmp_path):
    g = SignedPermutation.random(33, seed=4)
    path = tmp_path / "g.safetensors"
    g.save(path, metadata={"tokens": "512"})
    back = SignedPermutation.load(path)
    assert back == g
    assert back.metadata == {"tokens": "512"}
    back.save(path, metadata={"note": "x"})
    assert SignedPermutation.load(path).metadata == {"tokens": "512", "note": "x"}
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "g.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no gauge file"):
        SignedPermutation.load(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(ValueError, match="is not a safetensors file, or is damaged"):
        SignedPermutation.load(path)
    save_file({"weight": np.zeros(2)}, path)
    with pytest.raises(ValueError, match="holds no gauge"):
        SignedPermutation.load(path)
    SignedPermutation.identity(2).save(path)
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    save_file({"perm": np.array([0, 0]), "sign": np.array([1, 1], np.int8)}, path, header)
    with pytest.raises(ValueError, match="holds no valid gauge: perm is not a permutation"):
        SignedPermutation.load(path)
    good = {"perm": np.array([0, 1]), "sign": np.array([1, 1], np.int8)}
    save_file(good, path, {**header, "format_version": "9"})
    with pytest.raises(ValueError, match="format version 9"):
        SignedPermutation.load(path)
    save_file(good, path, {**header, "direction": "x[..., perm[i]] = sign[i] * apply(x)[..., i]"})
    with pytest.raises(ValueError, match="maps in another direction"):
        SignedPermutation.load(path)
    SignedPermutation.identity(8).save(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="is damaged"):
        SignedPermutation.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "g.safetensors"
    g = SignedPermutation.random(4, seed=1)
    g.save(path)

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        SignedPermutation.identity(4).save(path)
    assert SignedPermutation.load(path) == g
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]
    with pytest.raises(FileNotFoundError, match=r"the folder .* does not exist"):
        g.save(tmp_path / "missing" / "g.safetensors")
