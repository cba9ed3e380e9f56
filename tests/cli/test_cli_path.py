"""``bmatch path`` and ``bmatch watch``: what they print and write, and what a kill leaves."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time

import pytest
from begun import Begun
from planted_runs import planted_runs
from tiny_models import tiny_model

from bmatch import SignedPermutation


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tokenizer):
    return planted_runs(tmp_path_factory.mktemp("runs"), tokenizer)


def test_path_writes_the_composed_gauge_and_tells_of_every_hop(
    bmatch_, runs, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "120")  # a hop a line
    options = ("--tokens", 300, "--cache", tmp_path / "hops", "--back")
    code, out, _ = bmatch_("path", runs.a, runs.b, *options, "--out", tmp_path / "g")
    assert code == 0
    assert out.count("-> ") >= 2
    for name in ("a/checkpoint-1000 ->", "b/checkpoint-100 ->", "weakest hop", "the way back"):
        assert name in out
    assert f"gauge written to {tmp_path / 'g'}" in out.replace("\n", "")
    gauge = SignedPermutation.load(tmp_path / "g")
    assert gauge == runs.truth
    note = gauge.metadata
    assert note["steps"] == "1000 100 50 0 50 100 1000"
    assert note["text"] == "Python language reference"
    hops = json.loads(note["hops"])
    assert [hop["steps"] for hop in hops][:3] == [[1000, 100], [100, 50], [50, 0]]
    assert hops[0]["target_sha256"] == hops[1]["source_sha256"]
    assert note["source_sha256"] == hops[0]["source_sha256"]
    code, out, _ = bmatch_("path", runs.a, runs.b, *options, "--out", tmp_path / "h", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["hops"] == hops
    assert told["consistency"]["way back"] == told["consistency"]["path, endpoint"] == 1.0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "h").read_bytes()


def test_a_path_through_strangers_is_not_written(bmatch_, runs, tmp_path):
    folder = tmp_path / "a"
    shutil.copytree(runs.a, folder)
    tiny_model(num_hidden_layers=1, seed=9).save_pretrained(folder / "checkpoint-60")
    options = ("--tokens", 300, "--cache", tmp_path / "hops", "--out", tmp_path / "g")
    code, _, err = bmatch_("path", folder, runs.b, *options, "--json")
    assert code == 3
    assert "the weakest hop is a/checkpoint-" in err
    assert "a checkpoint between" in err
    assert "no gauge was written" in err
    assert not (tmp_path / "g").exists()
    assert bmatch_("path", folder, runs.b, *options, "--force")[0] == 0
    assert (tmp_path / "g").exists()


def test_weights_of_strangers_get_a_verdict(bmatch_, runs, tmp_path):
    """No row of theirs is known to be the same."""
    picture = tmp_path / "p.png"
    stranger = tmp_path / "b"
    for step in (0, 50):
        model = tiny_model(num_hidden_layers=1, seed=step + 9)
        model.save_pretrained(stranger / f"checkpoint-{step}")
    shutil.copytree(runs.base, stranger / "checkpoint-0", dirs_exist_ok=True)
    options = ("--evidence", "weights", "--cache", tmp_path / "hops", "--out", tmp_path / "g")
    code, out, err = bmatch_("path", runs.a, stranger, *options, "--picture", picture)
    assert code == 3
    print(out)
    assert out.count("not related") >= 2  # the hop, and the path as the weakest hop is
    assert "a hop is not related; no gauge was written" in err
    assert "has no checkpoint between steps 100 and 1000" in err
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, err = bmatch_("path", runs.a, stranger, *options, "--picture", picture)
    assert (code, f"{picture} exists already" in err) == (1, True)
    code, _, err = bmatch_("path", runs.a, stranger, *options, "--picture", "p.svg")
    assert (code, "the picture must be named .png, got p.svg" in err) == (1, True)


def test_sentences(bmatch_, runs, tmp_path):
    shutil.copytree(runs.a, tmp_path / "a")
    out = ("--cache", tmp_path / "hops", "--out", tmp_path / "g")
    (tmp_path / "a" / "tokenizer.json").unlink()
    code, _, err = bmatch_("path", tmp_path / "a", tmp_path / "a", *out)
    assert (code, "there is no path to go" in err) == (1, True)
    shutil.rmtree(tmp_path / "a" / "checkpoint-50")
    (tmp_path / "a" / "checkpoint-50").mkdir()
    code, _, err = bmatch_("path", tmp_path / "a", runs.b, *out)
    assert code == 1
    assert f"{tmp_path / 'a' / 'checkpoint-50'} is no checkpoint" in err
    code, _, err = bmatch_(
        *("path", tmp_path / "a", runs.b, "--skip-broken", "--evidence", "weights", *out)
    )
    assert code == 0
    assert "note: left out:" in err
    code, _, err = bmatch_("path", runs.a, tmp_path / "none", "--force", *out[:2], "--out", "x")
    assert (code, "there is no run" in err) == (1, True)
    options = ("--evidence", "weights", "--back", *out[:2], "--out", tmp_path / "h")
    code, _, err = bmatch_("path", runs.a, runs.b, *options)
    assert (code, "evidence from weights reads no text" in err) == (1, True)


def test_a_killed_path_goes_on_and_writes_the_same_file(runs, tmp_path):
    """Killed at ten moments: soon after it has kept so many of its parts, none to begin with."""

    def start(out, cache):
        options = ("--tokens", 600, "--no-witness", "--cache", cache, "--out", out)
        return Begun(tmp_path, ("path", runs.a, runs.b, *options))

    def kept(cache):
        return len(list(cache.glob("[0-9a-f]*.safetensors")))

    assert start(tmp_path / "whole", tmp_path / "one").end() == 0
    cache, out = tmp_path / "many", tmp_path / "again"
    before = 0
    moments = random.Random(0)
    for count in (0, *sorted(moments.choices(range(8), k=9))):
        job = start(out, cache)
        while kept(cache) < count and job.goes_on():
            time.sleep(0.001)
        code = job.end(signal.SIGKILL, after=moments.uniform(0, 0.03))
        assert code == -9 or out.exists()
        assert kept(cache) >= max(before, count)
        before = kept(cache)
        if out.exists():  # it was done at that moment
            break
    if not out.exists():
        assert start(out, cache).end() == 0
    assert out.read_bytes() == (tmp_path / "whole").read_bytes()
    assert SignedPermutation.load(out) == runs.truth
    assert kept(cache) == kept(tmp_path / "one") == 9


def test_watch_tells_a_line_a_hop(bmatch_, runs, tmp_path):
    options = ("--patience", 0, "--tokens", 300, "--cache", tmp_path)
    code, out, err = bmatch_("watch", runs.a, *options)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("a/checkpoint-0 -> checkpoint-50: related, ")
    assert lines[-1].startswith("3 hops; ")
    assert "coordinates moved or turned their sign" in err  # as planted
    code, out, _ = bmatch_("watch", runs.a, *options, "--json")
    told = json.loads(out)
    assert len(told["hops"]) == len(told["alarms"]) == 3
    assert told["drift"] > 0
    code, _, err = bmatch_("watch", tmp_path / "none", *options)
    assert (code, "no whole checkpoint has appeared" in err) == (1, True)


def test_metrics_have_a_line_a_hop_and_memory_is_foreseen(bmatch_, runs, tmp_path):
    options = ("--tokens", 300, "--cache", tmp_path / "hops", "--metrics", tmp_path / "m")
    code, out, err = bmatch_("path", runs.a, runs.b, *options, "--json", "--out", tmp_path / "g")
    assert code == 0, err
    told = json.loads(out)
    *lines, last = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]
    hops = [line for line in lines if line["stage"] == "Hops"]
    assert [line["done"] for line in hops] == list(range(1, len(hops) + 1))
    assert {line["total"] for line in hops} == {len(hops)}
    assert {line["stage"] for line in lines} == {"Checking weights", "Hops"}
    assert len(hops) >= len(told["hops"])
    assert last["verdict"] == told["verdict"]
    assert 0 < told["foreseen_bytes"] < 10 * told["peak_bytes"]
    code, out, _ = bmatch_("path", runs.a, runs.b, *options, "--out", tmp_path / "h")
    assert code == 0
    assert "foreseen" not in out  # all hops are kept


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--every", "0", "every must be above 0"),
        ("--every", "nan", "every must be above 0"),
        ("--every", "inf", "every must be above 0 and at most 86400 seconds, got inf"),
        ("--patience", "nan", "patience must be 0 seconds or more, got nan"),
        ("--patience", "-1", "patience must be 0 seconds or more, got -1.0"),
    ],
)
def test_times_that_are_none(bmatch_, runs, option, value, told):
    code, _, err = bmatch_("watch", runs.a, "--patience", 0, option, value)
    assert code == 1
    assert told in err
