"""Paths of local gauges: what they recover, what they keep, how many models they hold."""

from __future__ import annotations

import gc
import itertools
import shutil
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_runs import planted_runs
from tiny_models import WIDTH, in_gauge, noisy_copy, tiny_model

import bmatch
from benchmarks import relatives, two_runs
from bmatch.trajectory import path_between, stops

TOKENS = torch.randint(300, (8, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tokenizer):
    return planted_runs(tmp_path_factory.mktemp("runs"), tokenizer)


@pytest.fixture(scope="module")
def turn(runs):
    return path_between(runs.a, runs.b)


SEEDS = (0, 1, 2)
TINY = two_runs.TINY
KEPT = {*range(0, 101, TINY.every), *range(100, TINY.steps + 1, 50)}
"""Steps: every 5 while most is learnt, and every 50 then."""


@pytest.fixture(scope="module")
def trained():
    """By one thread: on models so small two wait for each other, for long where others work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield dict(zip(SEEDS, two_runs.two_runs(TINY, SEEDS, KEPT), strict=True))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_path_recovers_all_where_the_ends_and_the_base_do_not(seed, trained):
    steps, models = trained[seed].path(TINY.steps)
    carried, truth = two_runs.in_gauges(models, seed)
    batches = relatives.batches(relatives.texts()[2], TINY.tokens, seed)
    options = {"base": steps.index(0), "sites": [TINY.site], "witness": False}
    path = bmatch.Trajectory(carried, batches, **options)
    recovered = {name: gauge.agreement(truth) for name, gauge in path.routes.items()}
    assert recovered["path"] == 1.0
    assert recovered["endpoint"] < 0.95
    assert recovered["via base"] < 0.5
    assert path.verdict == "related"


def test_path_ends_base_and_weights_of_folders(turn, runs):
    back = [TOKENS[4:].flip(1)]
    path = bmatch.Trajectory(turn.stops, [TOKENS], base=turn.base, back=back)
    assert {name: g.agreement(runs.truth) for name, g in path.routes.items()} == {
        "path": 1.0,
        "endpoint": 1.0,
        "via base": 1.0,
        "weights": 1.0,
    }
    assert set(path.consistency.values()) == {1.0}
    assert set(path.consistency) == {
        "path, endpoint",
        "path, via base",
        "path, weights",
        "way back",
    }
    (gap, other) = path.warnings  # of steps: nothing is weak
    assert "a has no checkpoint between steps 100 and 1000, and 50 steps lie" in gap
    assert other.startswith("b has no checkpoint")
    note = path.gauge().metadata
    assert note["steps"] == "1000 100 50 0 50 100 1000"
    assert (note["source"], note["target"]) == ("a/checkpoint-1000", "b/checkpoint-1000")
    assert note["base"] == "a/checkpoint-0"
    assert (note["route"], note["verdict"]) == ("path", "related")
    assert note["source_sha256"] == turn.stops[0].digest


def test_each_hop_is_what_two_models_give(turn):
    """The machinery is that of `estimate_gauge`, and so is what it finds."""
    path = bmatch.Trajectory(turn.stops[:2], [TOKENS])
    readers = stops.TwoModels("float32", "cpu").readers(*turn.stops[:2])
    source, target = (reader.model for reader in readers)
    found = bmatch.estimate_gauge(target, source, [TOKENS])
    (hop,) = path.hops
    assert hop.gauge == found.gauge == path.endpoint.gauge
    assert np.array_equal(hop.margin, found.margin)
    assert np.array_equal(hop.probability, found.probability)
    assert hop.verdict == found.verdict
    assert hop.changed == np.count_nonzero(
        (found.gauge.perm != np.arange(WIDTH)) | (found.gauge.sign < 0)
    )


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 2**32), min_size=2, max_size=5))
def test_hops_compose_to_the_truth_from_end_to_end(seeds):
    """Through any planted gauges; and models in memory are as good as folders."""
    model = tiny_model(num_hidden_layers=1)
    gauges = [bmatch.SignedPermutation.random(WIDTH, seed=seed) for seed in seeds]
    models = [in_gauge(noisy_copy(model, 0.02, k), g) for k, g in enumerate(gauges)]
    path = bmatch.Trajectory(models, evidence="weights")
    assert path.gauge() == gauges[-1] @ gauges[0].inverse()
    for hop, (g, h) in zip(path.hops, itertools.pairwise(gauges), strict=True):
        assert hop.gauge == h @ g.inverse()


def test_thirty_checkpoints_take_the_memory_of_two(turn, monkeypatch):
    alive = []
    most = 0
    plain = stops.load_model

    def counted(*arguments):
        nonlocal most
        gc.disable()  # what is let go has to be gone without luck
        model = plain(*arguments)
        alive.append(weakref.ref(model))
        most = max(most, sum(there() is not None for there in alive))
        return model

    monkeypatch.setattr(stops, "load_model", counted)
    back = turn.stops[-2::-1]
    many = [*turn.stops, *back, *turn.stops[1:], *back, *turn.stops[1:6]]
    assert len(many) == 30
    try:
        path = bmatch.Trajectory(many, [TOKENS[:1]], base=12, witness=False)
        path.find()
    finally:
        gc.enable()
    assert len(path.hops) == 29
    assert most == 2
    assert len(alive) >= 7


def test_hops_are_kept_and_what_decides_about_them_is_in_the_key(turn, monkeypatch, tmp_path):
    options = {"cache_dir": tmp_path, "witness": False}
    first = bmatch.Trajectory(turn.stops, [TOKENS], **options).gauge()
    assert len(list(tmp_path.iterdir())) == 6

    def refuse(*_):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(stops, "load_model", refuse)
        again = bmatch.Trajectory(turn.stops, [TOKENS], **options).gauge()
        assert (again, again.metadata) == (first, first.metadata)
        for other in ({"sites": [1]}, {"group": "permutation"}, {"skip_positions": 2}):
            with pytest.raises(AssertionError):
                bmatch.Trajectory(turn.stops, [TOKENS], **{**options, **other}).gauge()
        with pytest.raises(AssertionError):
            bmatch.Trajectory(turn.stops, [TOKENS[:4]], **options).gauge()
        for file in list(tmp_path.iterdir())[:1]:
            file.write_bytes(file.read_bytes()[:40])
        with pytest.raises(AssertionError):
            bmatch.Trajectory(turn.stops, [TOKENS], **options).gauge()
    assert bmatch.Trajectory(turn.stops, [TOKENS], **options).gauge().metadata == first.metadata


def test_processes_find_the_same(turn, tmp_path):
    alone = bmatch.Trajectory(turn.stops, evidence="weights", base=turn.base)
    shared = bmatch.Trajectory(
        turn.stops, evidence="weights", base=turn.base, jobs=2, cache_dir=tmp_path
    )
    shared.find()
    assert shared.gauge().metadata == alone.gauge().metadata
    assert len(list(tmp_path.iterdir())) == 9


def test_a_weak_hop_is_named(turn):
    path = bmatch.Trajectory([turn.stops[0], turn.stops[-1]], [TOKENS[:1, :5]], witness=False)
    (warning,) = path.warnings
    assert "a/checkpoint-1000 -> b/checkpoint-1000" in warning
    assert "a checkpoint between a/checkpoint-1000 and b/checkpoint-1000" in warning
    assert path.verdict != "related"


def test_broken_checkpoints_are_named_and_left_out_when_told(runs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(getattr(runs, name), tmp_path / name)
    weights = tmp_path / "a" / "checkpoint-100" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"a/checkpoint-100/model\.safetensors is truncated"):
        path_between(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "checkpoint-50" / "model.safetensors").unlink()
    told = []
    turn = path_between(tmp_path / "a", tmp_path / "b", skip_broken=True, tell=told.append)
    assert [stop.step for stop in turn.stops] == [1000, 50, 0, 100, 1000]
    assert len(told) == 2
    assert "checkpoint-100" in told[0]
    assert "b/checkpoint-50 has neither model.safetensors" in told[1]
    path = bmatch.Trajectory(turn.stops, [TOKENS], base=turn.base)
    assert path.gauge() == runs.truth


def test_refusals(turn):
    with pytest.raises(ValueError, match="two different checkpoints"):
        bmatch.Trajectory([turn.stops[0], turn.stops[0]], [TOKENS])
    with pytest.raises(ValueError, match="no batches to read"):
        bmatch.Trajectory(turn.stops)
    with pytest.raises(TypeError, match="list of batches"):
        bmatch.Trajectory(turn.stops, TOKENS)
    with pytest.raises(ValueError, match="jobs must be at least 1"):
        bmatch.Trajectory(turn.stops, [TOKENS], jobs=0)
    with pytest.raises(ValueError, match="no orthogonal group"):
        bmatch.Trajectory(turn.stops, [TOKENS], group="orthogonal")
    with pytest.raises(ValueError, match="models in memory"):
        bmatch.Trajectory([tiny_model(), tiny_model(seed=1)], [TOKENS], jobs=2)
    with pytest.raises(ValueError, match="a path leads through checkpoints of one architecture"):
        bmatch.Trajectory([tiny_model(), tiny_model(num_hidden_layers=1)], [TOKENS])
