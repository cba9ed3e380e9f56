"""Where two runs part, and which way leads from one to the other."""

from __future__ import annotations

import shutil

import pytest
from planted_runs import planted_runs
from tiny_models import load, noisy_copy

from bmatch.trajectory import path_between


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tokenizer):
    return planted_runs(tmp_path_factory.mktemp("runs"), tokenizer)


def named(turn):
    return [stop.name for stop in turn.stops], turn.base


def test_the_base_is_what_both_hold(runs):
    back = [f"a/checkpoint-{step}" for step in (1000, 100, 50, 0)]
    on = [f"b/checkpoint-{step}" for step in (50, 100, 1000)]
    assert named(path_between(runs.a, runs.b)) == ([*back, *on], 3)


def test_the_last_that_both_hold(runs, tmp_path):
    """Of a run that went on from the middle of another."""
    shutil.copytree(runs.a, tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "checkpoint-1000")
    model = noisy_copy(load(tmp_path / "c" / "checkpoint-100"), 0.1, 3)
    model.save_pretrained(tmp_path / "c" / "checkpoint-300")
    names, base = named(path_between(runs.a, tmp_path / "c"))
    assert names == ["a/checkpoint-1000", "a/checkpoint-100", "c/checkpoint-300"]
    assert base == 1


def test_a_base_by_name(runs, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(getattr(runs, name), tmp_path / name)
        shutil.rmtree(tmp_path / name / "checkpoint-0")
    with pytest.raises(ValueError, match="share no checkpoint: name the one"):
        path_between(tmp_path / "a", tmp_path / "b")
    names, base = named(path_between(tmp_path / "a", tmp_path / "b", runs.base))
    assert (names[3], base, len(names)) == ("base", 3, 7)
    names, base = named(path_between(runs.a, runs.b, runs.base))
    assert (names[3], base, len(names)) == ("base", 3, 7)
    with pytest.raises(ValueError, match="holds 3 checkpoints: name one of them"):
        path_between(tmp_path / "a", tmp_path / "b", tmp_path / "a")


def test_from_the_base_itself(runs):
    names, base = named(path_between(runs.base, runs.b))
    assert (names[0], base, len(names)) == ("base", 0, 4)
    with pytest.raises(ValueError, match="there is no path"):
        path_between(runs.base, runs.base)


def test_a_config_in_the_runs_folder_serves_checkpoints_without(runs, tmp_path):
    """As accelerate's save_state leaves them."""
    shutil.copytree(runs.a, tmp_path / "a")
    for folder in (tmp_path / "a").glob("checkpoint-*"):
        shutil.move(folder / "config.json", tmp_path / "a" / "config.json")
    given, plain = path_between(tmp_path / "a", runs.b), path_between(runs.a, runs.b)
    assert [stop.digest for stop in given.stops] == [stop.digest for stop in plain.stops]
    assert given.stops[0].structure == plain.stops[0].structure
