"""Hops shared by ranks: what one process finds, to the bit; and what is kept where little fits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from planted_runs import planted_runs
from rank_threads import ranks_of_threads
from tiny_models import tiny_model

import bmatch
from bmatch.jobs.ranks import Ranks
from bmatch.trajectory import path_between, stops
from bmatch.trajectory.shared import serve_hops

TOKENS = torch.randint(300, (8, 40), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def turn(tmp_path_factory, tokenizer):
    runs = planted_runs(tmp_path_factory.mktemp("runs"), tokenizer, (50, 100))
    return path_between(runs.a, runs.b)


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch):
    """transformers loads models with settings of the whole process, which threads share."""
    alone, load = threading.Lock(), stops.load_model

    def loaded(*given):
        with alone:
            return load(*given)

    monkeypatch.setattr(stops, "load_model", loaded)


def path(turn, **options):
    return bmatch.Trajectory(turn.stops, [TOKENS], base=turn.base, witness=False, **options)


def same(one, other):
    return (
        one.gauge().metadata == other.gauge().metadata
        and one.gauge() == other.gauge()
        and one.consistency == other.consistency
        and all(
            np.array_equal(a.margin, b.margin) and np.array_equal(a.probability, b.probability)
            for a, b in zip(one.hops, other.hops, strict=True)
        )
    )


def test_any_number_of_ranks_finds_the_same(turn, tmp_path):
    alone = path(turn)
    for world in (2, 3, 9):  # of 7 hops
        shared = path(turn, cache_dir=tmp_path / str(world))
        with ranks_of_threads(world, lambda ranks: serve_hops(ranks, "cpu")) as first:
            shared.find(first)
            peaks = first.gathered(1)
        assert len(peaks) == world
        assert same(shared, alone)
        assert len(list((tmp_path / str(world)).iterdir())) == 7
    with ranks_of_threads(2, lambda ranks: serve_hops(ranks, "cpu")) as first:
        known = path(turn, cache_dir=tmp_path / "9")
        known.find(first)  # all of them are kept: there is nothing to share
        first.gathered(1)
    assert same(known, alone)


def test_ranks_cannot_read_models_in_memory(turn):
    models = [tiny_model(num_hidden_layers=1, seed=seed) for seed in (0, 1)]
    held = bmatch.Trajectory(models, [TOKENS])
    with pytest.raises(ValueError, match="models in memory are read by one rank: give folders"):
        held.find(Ranks(0, 2))
    jobs = path(turn, jobs=2)
    with pytest.raises(ValueError, match="ranks share the hops: leave jobs at 1, got 2"):
        jobs.find(Ranks(0, 2))


def test_where_nothing_can_be_kept_the_path_goes_on(turn, tmp_path):
    (tmp_path / "file").touch()
    told = []
    found = path(turn, cache_dir=tmp_path / "file" / "in it", tell=told.append)
    assert same(found, path(turn))
    (sentence,) = told
    assert "cannot be kept in" in sentence
    assert "the job goes on" in sentence
    with pytest.warns(UserWarning, match="cannot be kept in"):
        _ = path(turn, cache_dir=tmp_path / "file").hops
