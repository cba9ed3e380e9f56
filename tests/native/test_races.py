"""No race, unwritten read or parting of threads in the CUDA solver's kernels; see `races.py`."""

from __future__ import annotations

import os

import pytest
from once import once
from race_places import build_planted
from races import CASES, FAMILIES, NATIVE, build, needs_detector, reports, run

pytestmark = needs_detector
ALL = "BMATCH_RACES" in os.environ  # else a slice
RUNS = [(seed, threads) for seed in range(1, 7) for threads in (64, 96)] if ALL else [(3, 64)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build(tmp_path_factory.mktemp("model"), NATIVE / "race_model.cpp")


MODEL = {
    "release and acquire": "",
    "no release": "RACE",
    "no acquire": "RACE",
    "two fences": "",
    "no fence before the write": "RACE",
    "no fence after the read": "RACE",
    "fence before what is told": "RACE",
    "release of what a block wrote": "",
    "release without the block": "RACE",
    "release handed on by an atomic": "",
    "release hidden by a store": "RACE",
    "what the atomic's thread wrote": "RACE",
    "syncwarp": "",
    "syncwarp of another warp": "RACE",
    "shuffle": "RACE",
    "ballot": "RACE",
    "syncthreads": "",
    "syncthreads of another block": "RACE",
    "barrier of the grid": "",
    "strong against strong": "",
    "weak write against volatile read": "RACE",
    "weak write against atomic": "RACE",
    "weak read against atomic": "RACE",
    "weak read against volatile write": "RACE",
    "the same write of two": "RACE",
    "many readers": "",
    "many readers, then a writer": "",
    "a writer among many readers": "RACE",
    "neighbours": "",
    "halves of words": "",
    "the same half of a word": "RACE",
    "a word and its half": "RACE",
    "half of a double": "RACE",
    "shared memory of two blocks": "",
    "unwritten shared memory": "UNWRITTEN",
    "unwritten": "UNWRITTEN",
    "written input": "INPUT",
    "meeting at two places": "DIVERGED",
}


@pytest.mark.parametrize("kernel", MODEL)
def test_model(kernel, model):
    for seed in range(5):
        done = run(model, kernel, seed)
        assert done.returncode == 0, done.stderr
        kinds = {line.split("|")[0] for line in done.stdout.splitlines()}
        assert kinds == set(filter(None, [MODEL[kernel]])), reports(model, done.stdout)


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    program = once(tmp_path_factory, "races", build_planted) / "check"
    assert run(program, "--list").stdout.split() == CASES
    return program


@pytest.mark.parametrize(("seed", "threads"), RUNS)
@pytest.mark.parametrize("case", [case for case in CASES if ALL or "product" not in case])
def test_kernels(case, seed, threads, check):
    done = run(check, seed, case, THREADS=threads)
    told = [done.stderr, *reports(check, done.stdout), done.stdout[-300:]]
    assert done.returncode == 0, "\n".join(told)
    # The case does what it is for.
    outcomes, _, forest_rounds, rescans, whole_rows = done.stdout.splitlines()[-1].split("|")[2:]
    team, family = case.split("/")
    assert set(outcomes) <= set(FAMILIES[family])
    if family in ("infeasible", "spare", "uniform", "warm", "product"):
        assert int(forest_rounds) > 0
    if family in ("warm", "product") and team != "warp":
        assert int(rescans) > 0
        assert int(whole_rows) > 0 or team != "block"
