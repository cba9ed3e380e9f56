"""Activations in zarr: the same numbers as in npy files, whatever the chunks."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import bmatch
from bmatch.jobs.phases import phase
from bmatch.models.stored_activations import are_activations, open_activations

X = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)


@pytest.fixture(name="zarr")
def _zarr():
    return pytest.importorskip("zarr", minversion="3")


@pytest.fixture(params=[2, 3])
def save(zarr, request):
    """Writes an array in one of the formats."""

    def write(path, values, **options):
        array = zarr.create_array(
            path, shape=values.shape, dtype=values.dtype, zarr_format=request.param, **options
        )
        array[:] = values

    return write


@pytest.mark.parametrize("chunks", [(7, 8), (1, 8), (60, 3), (100, 8)])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", ">f4"])
def test_rows_are_those_of_an_npy_file(save, tmp_path, chunks, dtype):
    x = X.astype(dtype)
    save(tmp_path / "x", x, chunks=chunks)
    np.save(tmp_path / "x.npy", x)
    held, plain = open_activations(tmp_path / "x"), open_activations(tmp_path / "x.npy")
    assert (held.sites, held.tokens, held.dim) == (("",), 60, 8)
    for rows in (range(60), range(5, 12), range(48, 52), range(59, 60), range(3, 4)):
        assert torch.equal(held.read(0, rows), plain.read(0, rows))
    if dtype.startswith("<"):  # format 3 keeps the order of bytes apart from the type
        assert held.sha256() == plain.sha256()
    assert are_activations(tmp_path / "x")


def test_ranges_of_chunks_that_are_smaller_than_rows_asked_for(save, tmp_path):
    x = np.random.default_rng(1).normal(size=(5000, 2)).astype(np.float32)
    save(tmp_path / "x", x, chunks=(300, 1))  # three at once
    held = open_activations(tmp_path / "x")
    assert held.held_bytes == 900 * 2 * 4
    for rows in (range(0, 5000), range(899, 901), range(1199, 3601), range(4999, 5000)):
        assert np.array_equal(held.read(0, rows).numpy(), x[rows.start : rows.stop])


def test_sequences_and_shards_of_chunks(zarr, save, tmp_path):
    save(tmp_path / "x", X.reshape(5, 12, 8), chunks=(2, 5, 8))
    held = open_activations(tmp_path / "x")
    for rows in (range(60), range(10, 40), range(13, 14)):
        assert np.array_equal(held.read(0, rows).numpy(), X[rows.start : rows.stop])
    expected = torch.ones(5, 12, dtype=torch.bool)
    expected[:, 0] = False
    assert torch.equal(held.counted(range(60), 1), expected.flatten())
    array = zarr.create_array(
        tmp_path / "y", shape=X.shape, dtype="f4", chunks=(5, 8), shards=(20, 8)
    )
    array[:] = X
    assert np.array_equal(open_activations(tmp_path / "y").read(0, range(60)).numpy(), X)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_of_a_group_are_sites(zarr, tmp_path, zarr_format):
    group = zarr.open_group(tmp_path / "x", mode="w", zarr_format=zarr_format)
    for name, values in (("layer10", -X), ("layer9", X), ("ids", np.arange(60)), ("gain", X[0])):
        group.create_array(name, shape=values.shape, dtype=values.dtype)[:] = values
    inner = group.create_group("mid")
    inner.create_array("x", shape=X.shape, dtype="f4", chunks=(9, 8))[:] = 2 * X
    held = open_activations(tmp_path / "x")
    assert held.sites == ("layer9", "layer10", "mid/x")
    for site, factor in enumerate((1, -1, 2)):
        assert np.array_equal(held.read(site, range(60)).numpy(), factor * X)


def test_pieces_come_in_the_order_of_their_numbers(save, tmp_path):
    for number, rows in ((2, X[:10]), (10, X[10:50]), (100, X[50:])):
        save(tmp_path / f"part-{number}.zarr", rows, chunks=(4, 8))
    assert are_activations(tmp_path)
    held = open_activations(tmp_path)
    assert np.array_equal(held.read(0, range(60)).numpy(), X)
    assert np.array_equal(held.read(0, range(5, 12)).numpy(), X[5:12])


def test_sentences(zarr, save, tmp_path):
    def refused(name, sentence, kind=ValueError):
        with pytest.raises(kind, match=sentence):
            open_activations(tmp_path / name)

    save(tmp_path / "whole", np.arange(60).reshape(30, 2))
    refused("whole", "it is int64 of shape .*, and activations are floats")
    array = zarr.create_array(tmp_path / "part", shape=X.shape, dtype="f4", chunks=(7, 8))
    array[:20] = X[:20]
    refused("part", "6 of 9 chunks of part are missing: were all numbers written")
    zarr.open_group(tmp_path / "empty", mode="w")
    refused("empty", "holds no activations", FileNotFoundError)
    save(tmp_path / "cut", X, chunks=(7, 8))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "zarr.json").write_text("{")
    refused("damaged", "damaged cannot be read as zarr")
    chunks = [path for path in (tmp_path / "cut").rglob("*") if path.name.startswith(("0.", "0"))]
    for chunk in filter(lambda path: path.is_file(), chunks):
        chunk.write_bytes(chunk.read_bytes()[:9])
    with pytest.raises(ValueError, match="cut cannot be read as zarr"):
        open_activations(tmp_path / "cut").read(0, range(60))


def test_without_zarr_it_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "zarr.json").write_text("{}")
    assert are_activations(tmp_path)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ValueError, match=r"read by zarr 3 or newer, .*: pip install zarr"):
        open_activations(tmp_path)


def test_gauges_are_those_of_npy_files_in_the_memory_of_a_few_chunks(zarr, tmp_path):
    width, tokens = 64, 200_000
    gauge = bmatch.SignedPermutation.random(width, seed=1)
    x = np.random.default_rng(0).standard_normal((tokens, width), np.float32)
    for name, values in (("x", x), ("y", gauge.apply(x) + np.float32(0.5))):
        np.save(tmp_path / f"{name}.npy", values)
        zarr.create_array(tmp_path / name, data=values, chunks=(5000, width))
    del x, values
    plain = bmatch.align_activations(tmp_path / "x.npy", tmp_path / "y.npy")
    bmatch.align_activations(tmp_path / "x", tmp_path / "y", tokens=2000)  # libraries are loaded
    took = []
    with phase("first", took):
        pass
    with phase("all", took):
        found = bmatch.align_activations(tmp_path / "x", tmp_path / "y")
    assert found.gauge == plain.gauge == gauge
    assert torch.equal(found.correlation, plain.correlation)
    added = took[1].peak_bytes - took[0].peak_bytes
    assert added < 4 * tokens * width / 2
    assert added < 1.15 * (found.foreseen_bytes - took[0].peak_bytes) + 20e6
