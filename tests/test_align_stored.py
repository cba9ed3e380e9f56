"""Gauges from activations on disk: those of the models that left them, in little memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rank_threads import ranks_of_threads
from tiny_models import VOCABULARY, WIDTH, in_gauge, noisy_copy, tiny_model

import bmatch
from bmatch.jobs.phases import phase
from bmatch.models.activations import Reader, run
from bmatch.stream_jobs import serve
from bmatch.streams import correlate_streams

LENGTH = 24


@pytest.fixture(scope="module")
def secret():
    return bmatch.SignedPermutation.random(WIDTH, seed=3)


@pytest.fixture(scope="module")
def models(secret):
    source = tiny_model()
    return Reader.of(in_gauge(noisy_copy(source, 0.05, 1), secret)), Reader.of(source)


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(VOCABULARY, (2, LENGTH), generator=generator) for _ in range(37)]


@pytest.fixture(scope="module")
def stored(models, batches, tmp_path_factory):
    """Folders of target and source, a subfolder a site, some batches a file."""
    root = tmp_path_factory.mktemp("stored")
    for role, reader in zip(("target", "source"), models, strict=True):
        for number, start in enumerate(range(0, len(batches), 10)):
            streams = {site: [] for site in range(3)}
            for batch in batches[start : start + 10]:
                run(reader, batch, streams, lambda site, x, to=streams: to[site].append(x.clone()))
            for site, parts in streams.items():
                folder = root / role / f"after-{site}"
                folder.mkdir(parents=True, exist_ok=True)
                np.save(folder / f"{number}.npy", torch.cat(parts).numpy())
    return root / "source", root / "target"


def test_they_give_what_the_models_give_to_the_bit(stored, models, batches, secret):
    found = bmatch.align_activations(*stored, batch_tokens=2 * LENGTH)
    running = correlate_streams(*models, batches)
    assert torch.equal(found.correlation, running.correlation)
    assert found.streams.tokens == running.tokens
    assert torch.equal(found.streams.decoys, running.decoys)
    assert found.gauge == secret
    note = found.gauge.metadata
    assert note["site_names"] == "after-0,after-1,after-2"
    assert note["source"] == "source"
    assert "source_sha256" not in note  # no weights were seen
    one = bmatch.align_activations(*stored, sites=[-1], tokens=960, batch_tokens=100)
    assert one.gauge == secret
    assert one.streams.tokens == 960 // LENGTH * (LENGTH - 1)


def test_ranks_and_a_job_that_was_ended(stored, tmp_path):
    options = {"batch_tokens": 2 * LENGTH, "cache_dir": tmp_path, "save_every": 0}
    whole = bmatch.align_activations(*stored, batch_tokens=2 * LENGTH)
    seen = []

    def ended(tokens):
        seen.append(tokens)
        if len(seen) == 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        bmatch.align_activations(*stored, passed=ended, **options)
    rest = []

    def others(ranks):
        serve(*stored, dtype="float32", device="cpu", ranks=ranks)

    with ranks_of_threads(3, others) as first:
        found = bmatch.align_activations(*stored, passed=rest.append, ranks=first, **options)
    assert rest[0] == seen[-2]
    assert torch.equal(found.correlation, whole.correlation)
    assert found.gauge.metadata == whole.gauge.metadata
    assert len(found.peaks) == 3
    found.kept.forget()
    assert not list(tmp_path.iterdir())


def test_they_never_lie_in_memory(tmp_path):
    width, tokens, step = 64, 200_000, 50_000
    gauge = bmatch.SignedPermutation.random(width, seed=1)
    generator = np.random.default_rng(0)
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    for number in range(tokens // step):
        x = generator.standard_normal((step, width), np.float32)
        np.save(tmp_path / "x" / f"{number}.npy", x)
        np.save(tmp_path / "y" / f"{number}.npy", gauge.apply(x) + 0.5)
    small = bmatch.align_activations(tmp_path / "x", tmp_path / "y", tokens=2000)
    took = []
    with phase("first", took):
        pass
    with phase("all", took):
        found = bmatch.align_activations(tmp_path / "x", tmp_path / "y")
    assert found.gauge == small.gauge == gauge
    on_disk = 2 * 4 * tokens * width
    assert took[1].peak_bytes - took[0].peak_bytes < on_disk / 5


def test_what_cannot_be(stored, tmp_path):
    for options, sentence in (
        ({"tokens": 10**6}, "tokens must be from 2 to 1,776, which .*source holds; got 1,000,000"),
        ({"batch_tokens": 0}, "batch_tokens must be at least 1"),
        ({"group": "orthogonal"}, "group must be one of"),
        ({"device": "tpu"}, "device 'tpu' cannot be used here"),
    ):
        with pytest.raises(ValueError, match=sentence):
            bmatch.align_activations(*stored, **options)
    x = np.random.default_rng(0).normal(size=(40, 4))
    np.save(tmp_path / "x.npy", x)
    x[30, 1] = np.nan
    np.save(tmp_path / "y.npy", x)
    with pytest.raises(ValueError, match="target holds nan at counted token"):
        bmatch.align_activations(tmp_path / "x.npy", tmp_path / "y.npy")


def test_the_command(stored, tmp_path, monkeypatch, capsys, secret):
    from bmatch.cli import app

    def bmatch_(*arguments):
        monkeypatch.setattr("sys.argv", ["bmatch", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            app.main()
        return exit_.value.code, *capsys.readouterr()

    options = ("--cache", tmp_path / "cache", "--batch-size", 1, "--sequence-length", 48)
    metrics = tmp_path / "metrics"
    arguments = ("align", *stored, *options, "--out", tmp_path / "g", "--metrics", metrics)
    code, out, err = bmatch_(*arguments, "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["evidence"] == "activations"
    assert told["tokens"] == 37 * 2 * (LENGTH - 1)
    assert bmatch.SignedPermutation.load(tmp_path / "g") == secret
    last = json.loads(metrics.read_text().splitlines()[-2])
    assert last["tokens"] == last["tokens_total"] == told["tokens"]
    code, _, err = bmatch_("align", stored[0], tmp_path, "--out", tmp_path / "h")
    assert (code, "holds activations and the other does not" in " ".join(err.split())) == (1, True)
    for wrong in (("--text", "x"), ("--evidence", "both"), ("--group", "orthogonal")):
        code, _, err = bmatch_("align", *stored, *wrong, "--out", tmp_path / "h")
        assert (code, "read without a model, text or weights" in " ".join(err.split())) == (1, True)
