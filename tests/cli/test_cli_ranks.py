"""``bmatch align`` and ``path`` under torchrun: a rank is killed, others go on to the same file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pages
import pytest
import torch.distributed as dist
import typer
from agents import Job, free_port
from planted_runs import planted_runs

from bmatch import SignedPermutation
from bmatch.cli import app, console


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def kill(job, rank, ready):
    """Kill a rank once it is time."""
    victim = job.pid(rank)
    while not ready():
        assert job.process.is_alive(), job.said.read_text()
        time.sleep(0.002)
    os.kill(victim, signal.SIGKILL)


GIVES, TAKES = "bmatch.streams:send", "bmatch.streams:StreamSums.receive"


def test_a_rank_is_killed_and_a_single_process_goes_on(bmatch_, pair, secret, tmp_path, doomed):
    arguments = ("align", *pair, "--tokens", 12000, "--cache", tmp_path / "cache")
    arguments += ("--save-every", 0, "--sites", "0,-1")
    first = tmp_path / "first.jsonl"
    two = ("--nproc-per-node", 2)
    job = (tmp_path, two, (*arguments, "--metrics", first, "--out", tmp_path / "none"))

    def some():
        return lines_of(first) and lines_of(first)[-1]["tokens"] > 0

    code, said = doomed(1, GIVES, 2, some, *job).end()
    assert code != 0
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


@pytest.mark.parametrize(
    ("backend", "victim", "call"), [("static", 0, TAKES), ("c10d", 1, GIVES)], ids=str
)
def test_torchrun_starts_a_job_again_that_has_lost_a_rank(
    bmatch_, pair, tmp_path, doomed, backend, victim, call
):
    """Which goes on from what was kept, in a store that has the addresses of those before."""
    arguments = ("align", *pair, "--tokens", 12000, "--sites", "0,-1", "--no-witness")
    metrics, cache = tmp_path / "metrics", tmp_path / "cache"
    options = ("--max-restarts", 1, "--nproc-per-node", 2)
    options += ("--rdzv-backend", backend, "--rdzv-endpoint", f"localhost:{free_port()}")
    kept = ("--cache", cache, "--save-every", 0, "--metrics", metrics)
    job = (tmp_path, options, (*arguments, *kept, "--out", tmp_path / "g"))
    code, said = doomed(victim, call, 2, lambda: any(cache.glob("[0-9a-f]*")), *job).end()
    assert code == 0, said
    tokens = [line["tokens"] for line in lines_of(metrics)[:-1]]
    assert tokens[0] == 0
    again = next(k for k in range(1, len(tokens)) if tokens[k] <= tokens[k - 1])
    assert tokens[again] > 0
    assert tokens[-1] == 12000
    alone = ("--cache", tmp_path / "one", "--out", tmp_path / "alone")
    assert bmatch_(*arguments, *alone)[0] == 0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "alone").read_bytes()


def test_the_first_rank_is_killed_and_the_next_one_tells_it(pair, tmp_path):
    """Once, though torchrun ends it before it has heard that the first is gone."""
    arguments = ("align", *pair, "--tokens", 200_000, "--cache", tmp_path / "cache")
    arguments += ("--metrics", tmp_path / "m", "--out", tmp_path / "none")
    job = Job(tmp_path, ("--nproc-per-node", 2), arguments)
    next_one = job.pid(1)

    kill(job, 0, lambda: is_stopped(next_one, tmp_path / "m"))
    while not is_to_end(next_one):
        assert job.process.is_alive(), job.said.read_text()
        time.sleep(0.01)
    os.kill(next_one, signal.SIGCONT)
    code, said = job.end()
    assert code != 0
    assert said.count("error: ") == said.count("error: torchrun ended this job") == 1
    assert "SystemExit" not in said
    assert not (tmp_path / "none").exists()


def test_who_has_heard_of_a_loss_tells_it_though_torchrun_ends_it(pair, tmp_path, monkeypatch):
    """In the middle of what it puts away."""
    put_away, away = dist.destroy_process_group, tmp_path / "away"

    def slowly():
        put_away()
        away.touch()
        time.sleep(5)

    monkeypatch.setattr(dist, "destroy_process_group", slowly)
    arguments = ("align", *pair, "--tokens", 200_000, "--cache", tmp_path / "cache")
    arguments += ("--metrics", tmp_path / "m", "--out", tmp_path / "none")
    job = Job(tmp_path, ("--nproc-per-node", 2), arguments)
    first = job.pid(0)

    kill(job, 1, lambda: is_stopped(job.process.pid, tmp_path / "m"))
    while not away.exists():
        assert is_alive(first), job.said.read_text()
        time.sleep(0.01)
    os.kill(job.process.pid, signal.SIGCONT)
    code, said = job.end()
    assert code != 0
    assert said.count("error: ") == said.count("rank 0 of 2 hears nothing more of another") == 1


def is_stopped(process, metrics):
    """Whether the job has told of itself, and a process of it stands still since."""
    if lines_of(metrics):
        os.kill(process, signal.SIGSTOP)
        return True
    return False


def is_to_end(process):
    """Whether a process that stands still has been sent SIGTERM."""
    status = Path(f"/proc/{process}/status").read_text()
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
    return int(pending.split()[1], 16) >> (signal.SIGTERM - 1) & 1


def test_the_readmes_large_job_runs_as_printed(pair, secret, tmp_path):
    for name, folder in zip("AB", pair, strict=True):
        (tmp_path / name).symlink_to(folder)
    sh = [block.code for block in pages.blocks(pages.ROOT / "README.md") if block.language == "sh"]
    command = next(code for code in sh if code.startswith("torchrun"))
    here = Path(sys.executable).parent
    env = {
        **os.environ,
        "PATH": f"{here}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "largest memory of the ranks" in done.stdout + done.stderr
    assert SignedPermutation.load(tmp_path / "gauge.safetensors") == secret
    assert lines_of(tmp_path / "metrics.jsonl")[-2]["tokens"] == 20_000


def test_four_ranks_find_the_gauge_of_one_process(bmatch_, pair, tmp_path):
    arguments = ("align", *pair, "--tokens", 6000, "--sites", "0,-1", "--cache", tmp_path / "cache")
    code, said = Job(tmp_path, ("--nproc-per-node", 4), (*arguments, "--out", tmp_path / "g")).end()
    assert code == 0, said
    ranks = said.split("largest memory of the ranks: ")[1].split(" MB")[0]
    assert len(ranks.split(", ")) == 4
    assert bmatch_(*arguments, "--out", tmp_path / "alone")[0] == 0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "alone").read_bytes()


@pytest.mark.parametrize("tokens", [300, 9000], ids=["one stretch", "many"])
def test_ranks_that_share_models_find_the_gauge_of_one_process(bmatch_, pair, tmp_path, tokens):
    arguments = ("align", *pair, "--tokens", tokens, "--cache", tmp_path / "cache")
    shared = (*arguments, "--shard", "--out", tmp_path / "g")
    code, said = Job(tmp_path, ("--nproc-per-node", 2), shared).end()
    assert code == 0, said
    assert "largest memory of the ranks" in said
    assert bmatch_(*arguments, "--out", tmp_path / "alone")[0] == 0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "alone").read_bytes()


def test_a_rank_that_has_a_shard_is_killed_and_whole_models_go_on(bmatch_, pair, tmp_path, doomed):
    """Its first restart has shards again, and the next job has none."""
    arguments = ("align", *pair, "--tokens", 12000, "--sites", "0,-1", "--no-witness")
    cache = tmp_path / "cache"
    kept = ("--cache", cache, "--save-every", 0)
    shared = (*arguments, *kept, "--shard", "--out", tmp_path / "g")
    reads = "bmatch.stream_reading:BothModels.read"

    def some():
        return any(cache.glob("[0-9a-f]*"))

    code, said = doomed(1, reads, 4, some, tmp_path, ("--nproc-per-node", 2), shared).end()
    assert code != 0
    assert said.count("error: ") == 1
    assert "lost" in said
    assert not (tmp_path / "g").exists()
    metrics = tmp_path / "metrics"
    assert bmatch_(*arguments, *kept, "--metrics", metrics, "--out", tmp_path / "g")[0] == 0
    assert lines_of(metrics)[0]["tokens"] > 0
    alone = ("--cache", tmp_path / "one", "--out", tmp_path / "alone")
    assert bmatch_(*arguments, *alone)[0] == 0
    assert (tmp_path / "g").read_bytes() == (tmp_path / "alone").read_bytes()

    again = ("--max-restarts", 1, "--nproc-per-node", 2)
    shared = (*shared[:-1], tmp_path / "again")
    code, said = doomed(1, reads, 4, some, tmp_path, again, shared).end()
    assert code == 0, said
    assert (tmp_path / "again").read_bytes() == (tmp_path / "alone").read_bytes()


def test_what_is_the_work_of_one_process_is_refused_once(pair, tmp_path):
    arguments = ("merge", *pair, "--out", tmp_path / "none")
    code, said = Job(tmp_path, ("--nproc-per-node", 3), arguments).end()
    assert code == 1
    assert said.count("error: merge is the work of one process: start it without torchrun") == 1
    assert said.count("without torchrun") == 1
    assert "SystemExit" not in said
    assert not (tmp_path / "none").exists()


def test_what_is_refused_is_told_by_the_first_rank_alone(pair, runs, tmp_path):
    """Others hear of it, and take it for no loss."""
    there = tmp_path / "there"
    there.touch()
    for arguments, sentence in (
        (("align", *pair, "--out", there), "there exists already"),
        (("path", runs.a, runs.b, "--out", there), "there exists already"),
        (("match-features", there, there, "--out", tmp_path / "new.csv"), "no sparse dictionary"),
    ):
        code, said = Job(tmp_path, ("--nproc-per-node", 3), arguments).end()
        assert code == 1
        assert said.count("error: ") == said.count(sentence) == 1, said
        assert "SystemExit" not in said


SHARED = {"align", "path", "match-features"}
COMMANDS: dict[str, object] = vars(typer.main.get_command(app.app))["commands"]


@pytest.mark.parametrize("command", [*sorted(COMMANDS.keys() - SHARED), "align"])
def test_whatever_ranks_do_not_share_is_refused(bmatch_, tmp_path, monkeypatch, command):
    """Before it looks at anything: by a rank that torchrun does not end, too, if later."""
    spaces = ("a", "b", "--spaces", "residual", "--out", tmp_path / "none")
    arguments = (command, *spaces * (command == "align"))
    monkeypatch.setattr("bmatch.jobs.ranks._PATIENCE", 0.0)
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("WORLD_SIZE", "2")
    told = "--spaces" if command == "align" else command
    for local in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", local)
        code, out, err = bmatch_(*arguments)
        assert (code, out) == (1, "")
        assert err == f"error: {told} is the work of one process: start it without torchrun"


def test_torchrun_with_one_process_is_one_process(bmatch_, tmp_path, monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(name, "1")
    assert "there is no file or folder" in bmatch_("info", tmp_path / "no")[2]


def test_torchrun_is_killed_and_no_rank_stays(pair, tmp_path):
    """Not even in the middle of what it waits for, of another that has stopped."""
    arguments = ("align", *pair, "--tokens", 200_000, "--cache", tmp_path / "cache")
    arguments += ("--metrics", tmp_path / "m", "--out", tmp_path / "none")
    job = Job(tmp_path, ("--nproc-per-node", 2), arguments)
    victims = [job.pid(rank) for rank in range(2)]
    while not lines_of(tmp_path / "m"):
        assert job.process.is_alive(), job.said.read_text()
        time.sleep(0.01)
    os.kill(victims[1], signal.SIGSTOP)
    job.process.kill()
    job.process.join()
    os.kill(victims[1], signal.SIGCONT)
    until = time.monotonic() + 60
    while any(is_alive(victim) for victim in victims):
        assert time.monotonic() < until, job.said.read_text()
        time.sleep(0.1)
    assert not (tmp_path / "none").exists()
    said = job.said.read_text()
    assert "torchrun ended this job" in said or "goes on from what was kept last" in said


def test_torchrun_is_killed_while_ranks_are_loading(pair, tmp_path, monkeypatch):
    """Who looks for it only then finds another in its place."""
    plain = console.prepare

    def late():
        parent = os.getppid()
        (tmp_path / os.environ["RANK"]).touch()
        while os.getppid() == parent:
            time.sleep(0.01)
        plain()

    monkeypatch.setattr(console, "prepare", late)
    monkeypatch.setattr("bmatch.jobs.ranks._PATIENCE", 1.0)
    job = Job(tmp_path, ("--nproc-per-node", 2), ("align", *pair, "--out", tmp_path / "none"))
    victims = [job.pid(rank) for rank in range(2)]
    while not all((tmp_path / str(rank)).exists() for rank in range(2)):
        assert job.process.is_alive(), job.said.read_text()
        time.sleep(0.01)
    job.process.kill()
    job.process.join()
    until = time.monotonic() + 60
    while any(is_alive(victim) for victim in victims):
        assert time.monotonic() < until, job.said.read_text()
        time.sleep(0.1)
    assert not (tmp_path / "none").exists()


def is_alive(process):
    """Whether it is there, and not only waits for somebody to ask how it ended."""
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tokenizer):
    return planted_runs(tmp_path_factory.mktemp("runs"), tokenizer, (50, 100))


def test_a_rank_of_a_path_is_killed_and_three_go_on(bmatch_, runs, tmp_path, doomed):
    arguments = ("path", runs.a, runs.b, "--tokens", 4000, "--no-witness")
    alone = ("--cache", tmp_path / "one", "--out", tmp_path / "whole")
    code, _, _ = bmatch_(*arguments, *alone)
    assert code == 0
    cache = tmp_path / "many"
    shared = (*arguments, "--cache", cache, "--out", tmp_path / "g")

    def kept(folder):
        return len(list(folder.glob("[0-9a-f]*.safetensors")))

    job = (tmp_path, ("--nproc-per-node", 2), shared)
    finds = "bmatch.trajectory.shared:estimated"
    code, said = doomed(1, finds, 1, lambda: kept(cache), *job).end()
    assert code != 0
    assert "lost" in said
    assert not (tmp_path / "g").exists()
    before = kept(cache)
    assert 1 <= before < kept(tmp_path / "one")

    code, said = Job(tmp_path, ("--nproc-per-node", 3), shared).end()
    assert code == 0, said
    assert "largest memory of the ranks" in said
    assert kept(cache) == kept(tmp_path / "one")
    assert (tmp_path / "g").read_bytes() == (tmp_path / "whole").read_bytes()
    assert SignedPermutation.load(tmp_path / "g") == runs.truth

    code, _, err = bmatch_(*arguments, "--cache", cache, "--out", tmp_path / "g")
    assert (code, "exists already" in err) == (1, True)
