"""``bmatch align`` killed at random moments, and on a disk that is full: nothing is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import time

import torch
from disks import disk

from bmatch.cli import app

SMALL = ("--sequence-length", 32, "--batch-size", 1, "--no-witness")


def serve(arguments):
    torch.set_num_threads(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    sys.argv = ["bmatch", *map(str, arguments)]
    app.main()


def begun(*arguments):
    """The command in a process of its own, which has all libraries already."""
    process = multiprocessing.get_context("fork").Process(target=serve, args=(arguments,))
    process.start()
    return process


def test_killed_at_twenty_random_moments(pair, tmp_path):
    """Each job goes on from what the one before it left, until one is done; then a new one does."""
    arguments = ("align", *pair, "--tokens", 1200, "--save-every", 0, *SMALL)
    arguments += ("--sites", "0,-1")
    start = time.monotonic()
    whole = begun(*arguments, "--cache", tmp_path / "one", "--out", tmp_path / "whole")
    whole.join()
    took = time.monotonic() - start
    assert whole.exitcode == 0
    expected = (tmp_path / "whole").read_bytes()
    moments = random.Random(0)
    kills = done = kept = 0
    while kills < 20 or not done:
        out = tmp_path / f"out {done}"
        process = begun(*arguments, "--cache", tmp_path / "many", "--out", out)
        process.join(moments.uniform(0, took) if kills < 20 else None)
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
            kept += any(tmp_path.glob("many/[0-9a-f]*"))
        if out.exists():  # whether or not it was killed behind that
            assert out.read_bytes() == expected
            done += 1
    assert kept > 3  # of those that were killed so many had something to leave


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
