"""Digests of weights: against xxHash's own, against SHA-256 of all bytes, and what they refuse."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from bmatch import _core
from bmatch.jobs.progress import silent
from bmatch.models.checkpoint import INDEX, SINGLE, checked_digest, open_checkpoint
from bmatch.models.digest import KIND, Digest, Look, differ, require_finite, shown

PIECE = 1 << 20
# By xxhash 4.1.0, of `known()` and of a piece of zeros.
HASHES = (
    "a5abd8c8ca095cf22906a2f5ff9b225a",
    "e6b158862d87bd037670ae82090f5c43",
    "e8a145ac55518fe2c0cd3ff909d0bf89",
)
OF_ZEROS = "b6ef17a3448492b6918780b90550bf34"


def known():
    """Three pieces and some more, uint8."""
    numbers = np.arange(3 * PIECE + 100, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return torch.from_numpy((numbers >> np.uint64(56)).astype(np.uint8))


@pytest.fixture
def weights():
    torch.manual_seed(0)
    return {
        "large": torch.randn(700, 1001),  # of so many bytes that pieces end within entries' rows
        "small": torch.randn(5, 3).bfloat16(),
        "exactly": torch.randn(512, 512).double(),  # two pieces
        "ids": torch.arange(7),
        "eight": torch.randn(64, 64).to(torch.float8_e4m3fn),
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(2.0),
    }


def digest_of(weights, like=None):
    digest = Digest(like)
    for name, tensor in weights.items():
        digest.add(name, tensor)
    return digest.told()


def of_all_bytes(weights):
    """As gauges noted it at first."""
    lines = []
    for name, tensor in sorted(weights.items()):
        content = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        head = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
        lines.append(f"{name} {hashlib.sha256(head + content).hexdigest()}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_are_hashed_as_by_xxhash(threads):
    pieces = known()
    hashes, most = _core.look_over(pieces.data_ptr(), 3, 1, threads)
    assert hashes.hex() == "".join(HASHES)
    assert most == 127
    zeros = torch.zeros(PIECE + 1, dtype=torch.uint8)[1:]  # aligned to nothing
    assert _core.look_over(zeros.data_ptr(), 1, 4, threads) == (bytes.fromhex(OF_ZEROS), 0)
    with pytest.raises(ValueError, match="1, 2, 4 or 8 bytes"):
        _core.look_over(pieces.data_ptr(), 1, 3, threads)


def test_the_digest_is_what_it_is_said_to_be():
    content = known()
    rest = content[3 * PIECE :].numpy().tobytes()
    head = f"torch.uint8 ({3 * PIECE + 100},)".encode()
    a = hashlib.sha256(head + bytes.fromhex("".join(HASHES)) + rest).hexdigest()
    b = hashlib.sha256(b"torch.bfloat16 (3,)" + bytes(6)).hexdigest()
    expected = hashlib.sha256(f"a {a}\nb {b}".encode()).hexdigest()
    told = digest_of({"b": torch.zeros(3, dtype=torch.bfloat16), "a": content})
    assert told == KIND + expected
    assert told == "xxh3:8d3ec6235c93eb00398abf688a48d40481c4da75e29c30dcfe8235d4833dfd11"


@pytest.mark.parametrize("like", [None, "ab" * 32])
@pytest.mark.parametrize("step", [1, 999_999, PIECE, 5 * PIECE])
def test_any_steps_and_threads_give_the_same(weights, like, step, tmp_path):
    digest = Digest(like)
    for name, tensor in weights.items():
        look = Look(digest, name, tensor, tmp_path)
        few = max(step, tensor.nbytes // 50)
        for done in range(0, max(1, tensor.nbytes), few):
            look(min(done + few, tensor.nbytes), threads=1 + done % 3)
    assert digest.told() == digest_of(weights, like)


def test_digests_like_those_of_older_gauges_are_of_all_bytes(weights):
    assert digest_of(weights, like="ab" * 32) == of_all_bytes(weights)
    assert digest_of(weights, like=KIND + "ab" * 32) == digest_of(weights)


@pytest.mark.parametrize("like", [None, "ab" * 32])
def test_every_bit_name_shape_and_dtype_counts(weights, like):
    told = {digest_of(weights, like)}
    large = weights["large"]
    for place in (0, PIECE // 4 - 1, PIECE // 4, 2 * PIECE // 4, large.numel() - 1):
        changed = large.clone().view(torch.int32).reshape(-1)
        changed[place] ^= 1
        told.add(digest_of({**weights, "large": changed.view(torch.float32).view_as(large)}, like))
    told.add(digest_of({**weights, "large": large.reshape(1001, 700)}, like))
    told.add(digest_of({**weights, "large": large.view(torch.int32)}, like))
    told.add(digest_of({**weights, "other": weights["small"]}, like))
    pieces = large.reshape(-1)[: PIECE // 2].reshape(2, -1)
    told |= {digest_of({"two": pieces}, like), digest_of({"two": pieces.flip(0)}, like)}
    assert len(told) == 11


def test_digest_depends_on_weights_and_not_on_shards(tmp_path):
    model = tiny_model()
    for like in (None, "ab" * 32):
        digests = set()
        for name, size in (("one", "1GB"), ("many", "20KB")):
            model.save_pretrained(tmp_path / name, max_shard_size=size)
            checkpoint = open_checkpoint(tmp_path / name)
            digests.add(digest_of(dict(checkpoint.tensors()), like))
            digests.add(checked_digest(checkpoint, silent, "", like))
        assert (tmp_path / "one" / SINGLE).exists()
        assert (tmp_path / "many" / INDEX).exists()
        assert len(digests) == 1
        weights = dict(open_checkpoint(tmp_path / "one").tensors())
        weights["model.norm.weight"] = -weights["model.norm.weight"]
        assert digest_of(weights, like) not in digests


def test_digests_of_two_kinds_tell_nothing_of_each_other():
    old, new = "ab" * 32, KIND + "ab" * 32
    assert not differ(old, new)
    assert not differ(old, old)
    assert not differ(None, old)
    assert not differ(new, "")
    assert differ(old, "cd" * 32)
    assert differ(new, KIND + "cd" * 32)
    assert shown(old) == "SHA-256 abababababab"
    assert shown(new) == "xxh3:abababababab"


@pytest.mark.parametrize("like", [None, "ab" * 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_wherever_it_is(like, dtype, bad, tmp_path):
    size = 2 * PIECE // dtype.itemsize
    for place in (0, size // 2 - 1, size + 3):
        tensor = torch.zeros(size + 5, dtype=dtype)
        tensor[place] = bad
        with pytest.raises(ValueError, match=r"w in .* holds 1 NaN or infinite weights"):
            Look(Digest(like), "w", tensor, tmp_path)(tensor.nbytes)
        Digest(like).add("w", tensor)  # who asks for a digest alone


def test_non_finite_weights_are_named(tmp_path):
    require_finite("w", torch.full((4,), 3e38), tmp_path)
    require_finite("ids", torch.arange(4), tmp_path)
    with pytest.raises(ValueError, match=r"w in .* holds 2 NaN or infinite weights"):
        require_finite("w", torch.tensor([1.0, float("nan"), float("inf")]), tmp_path)
    eight = torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match=r"w in .* holds 1 NaN"):
        Look(Digest(), "w", eight, tmp_path)
