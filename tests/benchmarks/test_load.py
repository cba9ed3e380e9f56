"""benchmarks/load.py: a job's rounds, and the process beside it."""

from __future__ import annotations

import subprocess

from benchmarks import load
from bmatch.jobs.processes import is_there


def test_a_job_is_warmed_up_and_stops_when_rounds_or_time_are_over(monkeypatch):
    made = []
    monkeypatch.setitem(load.JOBS, "a job", lambda: lambda: made.append(1))
    assert len(load.run("a job")) == load.ROUNDS
    assert len(made) == load.ROUNDS + 1
    monkeypatch.setattr(load, "LIMIT", 0.0)
    assert len(load.run("a job")) == 1


def test_the_busy_process_ends_with_what_it_stood_beside():
    with load.busy_process() as pid:
        assert is_there(pid)
    assert not is_there(pid)


def test_a_job_runs_in_as_many_threads_as_its_way_says(monkeypatch):
    told = []

    def pretend(command, env, **_):
        told.append({name: env[name] for name in env if name.endswith("_NUM_THREADS")})
        return subprocess.CompletedProcess(command, 0, "noise\n[0.5, 0.25]\n")

    monkeypatch.setattr(load.subprocess, "run", pretend)
    assert load.in_a_process("a job", load.Way(3, 0)) == [0.5, 0.25]
    assert told[0].items() >= {"OMP_NUM_THREADS": "3", "BMATCH_NUM_THREADS": "3"}.items()


def test_a_real_job_in_a_process_of_its_own():
    taken = load.in_a_process("solve uniform 4096", load.Way(1, 0))
    assert 1 <= len(taken) <= load.ROUNDS
    assert min(taken) > 0
