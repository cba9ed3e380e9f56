"""Activations on disk: what is found in files and folders, and rows of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from bmatch.models.stored_activations import are_activations, open_activations, pair_stored

X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)


def test_pieces_of_a_stream_come_in_the_order_of_their_numbers(tmp_path):
    for number, rows in ((2, X[:10]), (10, X[10:50]), (100, X[50:])):
        np.save(tmp_path / f"part-{number}.npy", rows.astype(np.float64))
    held = open_activations(tmp_path)
    assert (held.sites, held.tokens, held.dim) == (("",), 60, 8)
    for rows in (range(60), range(5, 12), range(48, 52), range(10, 50), range(59, 60)):
        read = held.read(0, rows)
        assert read.dtype == torch.float32
        assert np.array_equal(read.numpy(), X[rows.start : rows.stop])


def test_subfolders_are_sites(tmp_path):
    for site in ("layer10", "layer9"):
        (tmp_path / site).mkdir()
        np.save(tmp_path / site / "0.npy", X[:20])
        np.save(tmp_path / site / "1.npy", (X[20:] * (1 if site == "layer9" else 2)))
    held = open_activations(tmp_path)
    assert held.sites == ("layer9", "layer10")
    assert np.array_equal(held.read(1, range(60)).numpy()[20:], 2 * X[20:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_safetensors_of_any_precision(tmp_path, dtype):
    x = torch.from_numpy(X).to(dtype)
    passed_over = {"ids": torch.arange(60), "mask": torch.ones(60, 1).bool(), "gain": x[0].clone()}
    save_file({"a": x[:30].clone(), "b": -x[:30], **passed_over}, tmp_path / "0.safetensors")
    save_file({"a": x[30:].clone(), "b": -x[30:]}, tmp_path / "1.safetensors")
    held = open_activations(tmp_path)
    assert held.sites == ("a", "b")
    assert torch.equal(held.read(1, range(20, 40)), -x[20:40].float())
    assert torch.equal(
        open_activations(tmp_path / "0.safetensors").read(0, range(3)), x[:3].float()
    )


def test_the_first_tokens_of_sequences_do_not_count_where_they_are_known(tmp_path):
    np.save(tmp_path / "0.npy", X[:24].reshape(2, 12, 8))
    np.save(tmp_path / "1.npy", X[24:].reshape(3, 12, 8))
    held = open_activations(tmp_path)
    expected = torch.ones(5, 12, dtype=torch.bool)
    expected[:, :2] = False
    assert torch.equal(held.counted(range(60), 2), expected.flatten())
    assert torch.equal(held.counted(range(7, 40), 2), expected.flatten()[7:40])
    np.save(tmp_path / "flat.npy", X)
    assert open_activations(tmp_path / "flat.npy").counted(range(60), 2).all()


def test_numbers_of_another_machine_and_beyond_float32(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(">f4"))
    assert np.array_equal(open_activations(tmp_path / "x.npy").read(0, range(60)).numpy(), X)
    np.save(tmp_path / "x.npy", np.full((4, 8), 1e300))
    assert torch.isinf(open_activations(tmp_path / "x.npy").read(0, range(4))).all()


def test_the_hash_is_of_numbers_and_not_of_pieces(tmp_path):
    for folder, cuts in (("one", [60]), ("many", [7, 30, 60])):
        (tmp_path / folder).mkdir()
        for number, part in enumerate(np.split(X, cuts[:-1])):
            np.save(tmp_path / folder / f"{number}.npy", part)
    one, many = (open_activations(tmp_path / folder).sha256() for folder in ("one", "many"))
    assert one == many
    changed = X.copy()
    changed[59, 7] = np.nextafter(changed[59, 7], 1)
    np.save(tmp_path / "one" / "0.npy", changed)
    assert open_activations(tmp_path / "one").sha256() != one


def test_what_looks_like_activations(tmp_path, pair):
    np.save(tmp_path / "x.npy", X)
    assert are_activations(tmp_path / "x.npy")
    assert are_activations(tmp_path)
    assert not are_activations(pair[0])
    assert not are_activations(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert not are_activations(tmp_path / "empty")


def refused(path, sentence, kind=ValueError):
    with pytest.raises(kind, match=sentence):
        open_activations(path)


def test_sentences(tmp_path):
    refused(tmp_path / "none", "there are no activations", FileNotFoundError)
    (tmp_path / "a").mkdir()
    refused(tmp_path / "a", "holds no activations: npy, safetensors or zarr", FileNotFoundError)
    np.save(tmp_path / "a" / "0.npy", X)
    np.save(tmp_path / "a" / "1.npy", X[:, :4].copy())
    refused(tmp_path / "a", "streams in .* are of several widths, 4 .*, 8 ")
    np.save(tmp_path / "a" / "1.npy", np.arange(60).reshape(30, 2))
    refused(tmp_path / "a" / "1.npy", "is int64 of shape .*, and activations are floats")
    np.save(tmp_path / "a" / "1.npy", np.asfortranarray(X))
    refused(tmp_path / "a" / "1.npy", "in Fortran order")
    content = (tmp_path / "a" / "0.npy").read_bytes()
    (tmp_path / "a" / "1.npy").write_bytes(content[:-9])
    refused(tmp_path / "a", "1.npy is no npy file of plain numbers, or is damaged")
    save_file({"x": torch.ones(4, 4)}, tmp_path / "a" / "x.safetensors")
    refused(tmp_path / "a", "activations are of one of these")
    (tmp_path / "b").mkdir()
    save_file({"x": torch.ones(4, 4), "y": torch.ones(5, 4)}, tmp_path / "b" / "x.safetensors")
    refused(tmp_path / "b", r"several numbers of tokens, 4 \(x\), 5 \(y\)")


def test_pairs_that_do_not_fit(tmp_path):
    for name, x in (("a", X), ("b", X[:50]), ("c", X[:, :4].copy())):
        np.save(tmp_path / f"{name}.npy", x)
    save_file({"1": torch.from_numpy(X), "2": torch.from_numpy(-X)}, tmp_path / "d.safetensors")
    save_file({"1": torch.from_numpy(X), "3": torch.from_numpy(-X)}, tmp_path / "e.safetensors")
    held = {path.stem: open_activations(path) for path in tmp_path.iterdir()}
    for other, sentence in (
        ("b", "b.npy has 50 tokens and .*a.npy 60: row t of both has to be the same token"),
        ("c", "c.npy has 4 coordinates and .*a.npy 8"),
        ("d", "streams of different sites"),
    ):
        with pytest.raises(ValueError, match=sentence):
            pair_stored(held["a"], held[other], "all")
    with pytest.raises(ValueError, match=r"streams of different sites \(2, 3\)"):
        pair_stored(held["d"], held["e"], "all")
    assert pair_stored(held["d"], held["d"], [-1, 1]) == ((1, 1),)
    with pytest.raises(ValueError, match="sites must be 'all' or numbers from 0 to 1"):
        pair_stored(held["d"], held["d"], [2])


def test_a_file_that_shrank_is_told(tmp_path):
    np.save(tmp_path / "x.npy", X)
    held = open_activations(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="could be read before and no longer can"):
        held.read(0, range(60))
