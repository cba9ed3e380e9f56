"""``bmatch align`` under torchrun: a rank is killed, and one process goes on to the same gauge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from bmatch import SignedPermutation


def torchrun(count, *arguments, **options):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count)
    command = [sys.executable, *launcher, "-m", "bmatch", *arguments]
    return subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        **options,
    )


def process_of(job, rank):
    """The process among the children of a job that has this rank."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if f"\nPPid:\t{job.pid}\n" not in status.read_text():
                continue
            if f"RANK={rank}".encode() in (status.parent / "environ").read_bytes().split(b"\0"):
                return int(status.parent.name)
    raise LookupError(rank)


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_rank_is_killed_and_a_single_process_goes_on(bmatch_, pair, secret, tmp_path):
    arguments = ("align", *pair, "--tokens", 12000, "--cache", tmp_path / "cache")
    arguments += ("--save-every", 0, "--sites", "0,-1")
    first = tmp_path / "first.jsonl"
    job = torchrun(2, *arguments, "--metrics", first, "--out", tmp_path / "none")
    while not lines_of(first) or lines_of(first)[-1]["tokens"] == 0:
        assert job.poll() is None, job.communicate()
        time.sleep(0.005)
    os.kill(process_of(job, 1), signal.SIGKILL)
    _, said = job.communicate(timeout=300)
    assert job.returncode != 0
    assert "lost" in said
    assert not (tmp_path / "none").exists()
    kept = [path.name for path in (tmp_path / "cache").iterdir()]
    assert len(kept) == 1
    assert not kept[0].startswith(".")

    second = tmp_path / "second.jsonl"
    code, printed, _ = bmatch_(*arguments, "--metrics", second, "--out", tmp_path / "g")
    assert code == 0
    assert "gauge written to" in printed
    assert lines_of(second)[0]["tokens"] >= 2 * 510  # of both ranks something had been kept
    assert lines_of(second)[-2]["tokens"] == 12000
    assert not list((tmp_path / "cache").iterdir())  # nothing is left to go on from

    assert bmatch_(*arguments, "--out", tmp_path / "anew")[0] == 0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "anew").read_bytes()
    assert SignedPermutation.load(tmp_path / "g") == secret
