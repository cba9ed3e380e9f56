"""Jobs that torchrun starts again though all had been written, and what ranks say once."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from agents import Job, free_port
from planted_runs import planted_runs

from bmatch.cli import console

AGAIN = "torchrun has started this job again, and it had come to its end"


def restarting(folder, arguments, backend="c10d"):
    options = ("--max-restarts", 1, "--nproc-per-node", 2, "--rdzv-backend", backend)
    port = free_port() if backend == "static" else 0
    return Job(folder, (*options, "--rdzv-endpoint", f"localhost:{port}"), arguments)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def lost(monkeypatch):
    """Has the second rank of a first start killed at its end, once the file is there and told."""
    put_away, finish = dist.destroy_process_group, console.finish

    def of(out, then=bool):
        told = Path(f"{out}.told")

        def kill():
            put_away()
            if (os.environ.get("RANK"), os.environ.get("TORCHELASTIC_RESTART_COUNT")) == ("1", "0"):
                while not told.exists():
                    time.sleep(0.01)
                die()

        def finished(code):
            code = finish(code)
            if os.environ.get("RANK") == "0":
                then()
                told.touch()
            return code

        monkeypatch.setattr(dist, "destroy_process_group", kill)
        monkeypatch.setattr(console, "finish", finished)
        return out

    return of


@pytest.mark.parametrize("backend", ["static", "c10d"])
def test_a_rank_is_lost_after_the_gauge_is_written(bmatch_, pair, tmp_path, lost, backend):
    arguments = ("align", *pair, "--tokens", 300, "--cache", tmp_path / "cache")
    out = lost(tmp_path / "g")
    code, said = restarting(tmp_path, (*arguments, "--out", out), backend).end()
    assert code == 0, said
    assert said.count("gauge written to") == said.count(AGAIN) == 1
    assert "error: " not in said
    file = out.stat().st_ino
    assert bmatch_(*arguments, "--out", tmp_path / "alone")[0] == 0
    assert out.read_bytes() == (tmp_path / "alone").read_bytes()
    # To a job that is begun by hand it is another's, as ever.
    code, said = restarting(tmp_path, (*arguments, "--out", out)).end()
    assert code != 0
    assert "exists already" in said
    assert out.stat().st_ino == file


def test_a_rank_is_lost_after_the_path_is_written(tmp_path, tokenizer, lost):
    runs = planted_runs(tmp_path, tokenizer, (50, 100))
    out = lost(tmp_path / "g")
    arguments = ("path", runs.a, runs.b, "--tokens", 300, "--no-witness", "--json")
    job = restarting(tmp_path, (*arguments, "--cache", tmp_path / "cache", "--out", out))
    code, said = job.end()
    assert code == 0, said
    assert said.count(AGAIN) == 1
    whole = job.said.read_text()
    assert json.loads(whole[whole.index("{\n") : whole.rindex("\n}") + 2])["out"] == str(out)


def test_an_answer_that_is_no_gauge_is_found_once(pair, stranger, tmp_path):
    """The picture is there, and the answer is the same."""
    picture = tmp_path / "p.png"
    arguments = ("align", pair[0], stranger, "--tokens", 300, "--picture", picture)
    code, said = restarting(tmp_path, (*arguments, "--out", tmp_path / "g")).end()
    assert code != 0
    assert said.count("no gauge was written") == said.count(AGAIN) == 1
    assert said.count("error: ") == 1
    assert picture.exists()


def test_the_first_rank_is_lost_before_it_has_told(bmatch_, pair, tmp_path, monkeypatch):
    """Though the gauge is there: it is written again, and told."""
    say = console.say
    out = tmp_path / "g"

    def killed(message):
        if os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0" and out.exists():
            die()
        say(message)

    monkeypatch.setattr(console, "say", killed)
    arguments = ("align", *pair, "--tokens", 300, "--cache", tmp_path / "cache")
    code, said = restarting(tmp_path, (*arguments, "--out", out)).end()
    assert code == 0, said
    assert said.count("gauge written to") == 1
    assert AGAIN not in said
    assert bmatch_(*arguments, "--out", tmp_path / "alone")[0] == 0
    assert out.read_bytes() == (tmp_path / "alone").read_bytes()


def test_what_another_job_has_written_meanwhile_stays(pair, tmp_path, lost):
    other, out = tmp_path / "other", tmp_path / "g"
    other.write_text("another's")
    lost(out, lambda: other.exists() and other.replace(out))
    code, said = restarting(tmp_path, ("align", *pair, "--tokens", 300, "--out", out)).end()
    assert code != 0
    assert "exists already" in said
    assert out.read_text() == "another's"


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"),
    [
        (("--help",), "Usage: ", 0),
        (("align", "--help"), "Usage: ", 0),
        (("info", "--help"), "Usage: ", 0),
        (("merge", "a", "-h"), "Usage: ", 0),
        (("--version",), "bmatch 0", 0),
        (("align", "a"), "Missing argument", 1),
        (("nonsense",), "No such command", 1),
    ],
    ids=str,
)
def test_help_and_wrong_usage_are_told_once(tmp_path, arguments, sentence, code):
    found, said = Job(tmp_path, ("--nproc-per-node", 3), arguments).end()
    assert bool(found) == bool(code), said
    assert said.count(sentence) == 1, said
