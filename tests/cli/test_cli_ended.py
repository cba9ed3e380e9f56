"""Commands killed at random moments, or on a disk that is full: nothing is lost."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
from begun import Begun, Disturbed
from disks import disk
from planted_runs import planted_runs

SMALL = ("--sequence-length", 32, "--batch-size", 1, "--no-witness")
KILL, CTRL_C = signal.SIGKILL, signal.SIGINT


def test_killed_at_twenty_random_moments(pair, tmp_path):
    """Each job goes on from what the one before it left, until one is done; then a new one does."""
    arguments = ("align", *pair, "--tokens", 1200, "--save-every", 0, *SMALL, "--sites", "0,-1")
    job = Disturbed(tmp_path, arguments)
    kept = [any(job.place("again", "cache").glob("[0-9a-f]*")) for _ in job.by(*[KILL] * 20)]
    assert sum(kept) > 3  # of those that were killed so many had something to leave


@pytest.mark.parametrize(
    "evidence", [("--evidence", "weights"), ("--spaces", "residual,neurons")], ids=str
)
def test_weights_that_are_aligned_are_disturbed(pair, tmp_path, evidence):
    job = Disturbed(tmp_path, ("align", *pair, *evidence), seed=1)
    assert len([*job.by(KILL, CTRL_C)]) == 2


def test_a_merge_is_disturbed(pair, tmp_path):
    job = Disturbed(tmp_path, ("merge", *pair), cache=False, seed=2)
    assert len([*job.by(*[KILL, CTRL_C] * 3)]) == 6


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tokenizer):
    return planted_runs(tmp_path_factory.mktemp("runs"), tokenizer)


def test_a_watch_is_disturbed(runs, tmp_path):
    """It prints the same, and has found each hop once."""
    arguments = ("watch", runs.a, "--patience", 0, "--tokens", 300, "--json")
    job = Disturbed(tmp_path, arguments, output=False, seed=3)
    assert len([*job.by(*[KILL, CTRL_C] * 3)]) == 6
    kept = [sorted(job.place(name, "cache").iterdir()) for name in ("whole", "again")]
    assert [one.name for one in kept[0]] == [other.name for other in kept[1]]
    assert [one.read_bytes() for one in kept[0]] == [other.read_bytes() for other in kept[1]]


def test_a_path_of_several_processes_is_disturbed(runs, tmp_path):
    arguments = ("path", runs.a, runs.b, "--tokens", 300, "--no-witness", "--jobs", 2)
    job = Disturbed(tmp_path, arguments, seed=4)
    assert len([*job.by(KILL, CTRL_C)]) == 2


@pytest.mark.parametrize("command", ["align", "path"])
def test_the_cache_vanishes_again_and_again(pair, runs, tmp_path, command):
    """Nothing that is found goes with it, and no more than a sentence is said."""
    arguments = {
        "align": ("align", *pair, "--tokens", 1200, "--save-every", 0, *SMALL),
        "path": ("path", runs.a, runs.b, "--tokens", 300, "--no-witness"),
    }[command]
    for name in ("whole", "again"):
        cache = tmp_path / f"{name} cache"
        job = Begun(
            tmp_path / name, (*arguments, "--cache", cache, "--out", tmp_path / f"{name} g")
        )
        removed = 0
        while name == "again" and job.goes_on():
            removed += cache.exists()
            shutil.rmtree(cache, ignore_errors=True)
        assert job.end() == 0, job.said.read_text()
    assert removed > 2
    assert (tmp_path / "again g").read_bytes() == (tmp_path / "whole g").read_bytes()
    said = job.said.read_text()
    assert said.count("cannot be kept in") <= 1, said
    assert "Traceback" not in said


def test_no_room_for_the_gauge(bmatch_, pair, tmp_path):
    arguments = ("align", *pair, "--tokens", 600, "--save-every", 0, *SMALL)
    arguments += ("--cache", tmp_path / "cache")
    with disk(tmp_path / "full", 8192):
        filler, out = tmp_path / "full" / "filler", tmp_path / "full" / "g"
        filler.write_bytes(bytes(8192))
        code, _, err = bmatch_(*arguments, "--out", out)
        assert code == 1
        assert err.startswith("error: ")
        assert err == f"error: No space left on device ({out}); nothing was left half-written"
        assert [path.name for path in out.parent.iterdir()] == ["filler"]
        assert len(list((tmp_path / "cache").iterdir())) == 1
        filler.unlink()
        metrics = tmp_path / "metrics"
        assert bmatch_(*arguments, "--out", out, "--metrics", metrics)[0] == 0
        assert '"tokens": 0,' not in metrics.read_text()  # it went on from what was kept
        assert bmatch_(*arguments, "--out", tmp_path / "g")[0] == 0
        assert out.read_bytes() == (tmp_path / "g").read_bytes()


def test_no_room_for_what_is_kept(bmatch_, pair, tmp_path):
    """Neither sums nor metrics: both are told once, and the gauge is there."""
    arguments = ("align", *pair, "--tokens", 600, "--save-every", 0, *SMALL)
    with disk(tmp_path / "full", 4096):
        metrics = tmp_path / "full" / "m"
        metrics.write_bytes(b"\n" * 4000)
        kept = ("--cache", tmp_path / "full" / "cache", "--metrics", metrics)
        code, out, err = bmatch_(*arguments, *kept, "--out", tmp_path / "g", "--json")
        assert code == 0
        for sentence in ("cannot be kept in", "takes no more metrics"):
            assert err.count(sentence) == 1
            assert sum(sentence in warning for warning in json.loads(out)["warnings"]) == 1
    assert bmatch_(*arguments, "--cache", tmp_path / "c", "--out", tmp_path / "h")[0] == 0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "h").read_bytes()
