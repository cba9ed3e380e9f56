"""benchmarks/gpu.sh and what it runs, without a GPU: one stage's end is not another's."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bmatch
from benchmarks import provenance, results
from bmatch.jobs.processes import is_there

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
STAGES = (
    "smoke", "solver", "kernels", "sanitize", "bench-solver", "bench-batch", "bench-correlation",
    "align", "profile",
)  # fmt: skip

# Stands where Python would, on a machine that seems to have a device.
FAKE_PYTHON = """#!/bin/sh
case "$*" in
    "-m benchmarks.bundle"*) exit 0 ;;
    -) cat >/dev/null; echo "a card" ;;
    "-c import "*) exit {missing} ;;
    *"-m benchmarks smoke"*) echo "all is well" ;;
    *-grid*) echo $$ >"{folder}/hung"; sleep 100 & wait ;;
    *scans_by_triton*) echo "SKIPPED [1] tests: could not import 'scipy'"; exit 5 ;;
    *test_kernels_device.py*"(million or memory)") echo "== 4 skipped, 60 deselected in 2.41s ==" ;;
    *"--only matrices"*) echo "Traceback:"; echo "ValueError: a planted fault"; exit 1 ;;
    *"benchmarks correlation"*) echo "one,row" >"{folder}/out/rows.csv"; sleep 100 ;;
    *) echo "3 passed in 0.10s" ;;
esac
"""
FAKE_SANITIZER = """#!/bin/sh
case "$*" in
    *racecheck*) echo "RACECHECK SUMMARY: 7 hazards displayed (7 errors, 0 warnings)"; exit 1 ;;
esac
echo "3 passed in 9.00s"
"""


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if name not in ("OUT", "LIMITS")}
    return kept | {"CUDA_VISIBLE_DEVICES": "", "PYTHON": sys.executable} | more


def run(*arguments, **more):
    return subprocess.run(
        [SCRIPT, *arguments],
        env=environment(**more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def fake(tmp_path):
    """Environment of a machine with a device, on which some things fail and hang."""

    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    (tmp_path / "out").mkdir()
    write("compute-sanitizer", FAKE_SANITIZER)
    return {
        "PYTHON": write("python", FAKE_PYTHON.format(folder=tmp_path, missing=0)),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "LIMITS": "solver=8 bench-correlation=3",
    }


def summary(folder):
    """Stage to the rest of its line."""
    lines = (folder / "summary.txt").read_text().splitlines()[1:]
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}


def test_without_a_device_every_stage_says_so_in_a_line(tmp_path):
    done = run("--quick", "--out", str(tmp_path))
    assert done.returncode == 3, done.stderr
    told = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert tuple(told) == STAGES
    assert all(re.fullmatch("no device: torch .* sees no CUDA device", s) for s in told.values())
    assert "Traceback" not in done.stdout + done.stderr
    assert summary(tmp_path) == told
    assert [path.name for path in tmp_path.iterdir()] == ["summary.txt"]


@pytest.mark.parametrize("options", [(), ("--quick",)], ids=["whole", "quick"])
def test_no_stage_stops_the_next(fake, tmp_path, options):
    done = run(*options, "--out", str(tmp_path / "out"), **fake)
    assert done.returncode == 1, done.stdout + done.stderr
    told = summary(tmp_path / "out")
    assert tuple(told) == STAGES
    assert re.fullmatch(r"passed +\d+ s  passed: all is well", told["smoke"])
    assert told["solver"].startswith("cut off")
    assert "grid cut off after 4 s" in told["solver"]
    assert "warp passed: 3 passed in 0.10s" in told["solver"]
    assert "scans skipped: SKIPPED [1] tests: could not import 'scipy'" in told["solver"]
    assert told["kernels"].startswith("passed")
    assert told["kernels"].endswith(
        "large skipped: 4 skipped, 60 deselected in 2.41s; small passed: 3 passed in 0.10s"
    )
    assert told["sanitize"].startswith("passed")
    assert "7 hazards displayed (7 errors, 0 warnings); failed, exit 1" in told["sanitize"]
    assert re.fullmatch(
        r"failed +\d+ s  failed, exit 1: ValueError: a planted fault", told["bench-solver"]
    )
    assert told["bench-correlation"].startswith("cut off")
    assert told["profile"].startswith("passed")

    logs = (tmp_path / "out" / "logs.txt").read_text()
    parts = re.findall(r"^===== ([\w-]+), ", logs, re.MULTILINE)
    assert list(dict.fromkeys(parts)) == list(STAGES)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"summary.txt", "logs.txt", "rows.csv"}  # what a stage wrote before its end
    assert not is_there(int((tmp_path / "hung").read_text()))


def test_what_passes_passes(fake, tmp_path):
    done = run("smoke", "kernels", **fake | {"OUT": str(tmp_path / "out")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(summary(tmp_path / "out")) == ["smoke", "kernels"]


def test_without_pytest_its_stages_are_skipped(fake, tmp_path):
    lacking = tmp_path / "lacking"
    lacking.write_text(FAKE_PYTHON.format(folder=tmp_path, missing=1))
    lacking.chmod(0o755)
    done = run(
        "kernels", "smoke", "--out", str(tmp_path / "out"), **fake | {"PYTHON": str(lacking)}
    )
    assert done.returncode == 0
    told = summary(tmp_path / "out")
    assert re.fullmatch(r"skipped +\d+ s  skipped: pytest is not installed", told["kernels"])
    assert told["smoke"].startswith("passed")


def test_a_signal_ends_what_was_started(fake, tmp_path):
    process = subprocess.Popen(
        [SCRIPT, "solver", "--out", str(tmp_path / "out")],
        env=environment(**fake | {"LIMITS": "solver=60"}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    hung = tmp_path / "hung"
    for _ in range(100):
        if hung.exists() and hung.read_text().strip():
            break
        time.sleep(0.1)
    assert summary(tmp_path / "out") == {"solver": "running"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 1
    assert not is_there(int(hung.read_text()))


@pytest.mark.parametrize(
    ("arguments", "limits"),
    [(["nonsense"], ""), (["--out"], ""), ([], "nonsense=3"), ([], "smoke=soon")],
)
def test_wrong_usage(arguments, limits):
    done = run(*arguments, LIMITS=limits)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")
    assert all(stage in done.stderr for stage in STAGES)


def test_a_pass_takes_25_minutes_at_most_and_a_quick_one_8():
    text = SCRIPT.read_text()
    told = {
        name: (int(full), int(quick))
        for name, full, quick in re.findall(r"^# ([\w-]+) +(\d+) +(\d+)  ", text, re.MULTILINE)
    }
    sums = told.pop("all")
    assert tuple(told) == STAGES
    assert sums == tuple(sum(limits) for limits in zip(*told.values(), strict=True))
    around = sum(int(s) for s in re.findall(r'\$\(timeout (\d+) "\$PYTHON"', text))
    assert sums[0] + around <= 25 * 60
    assert sums[1] + around <= 8 * 60
    for column, name in enumerate(("full", "short")):
        table = re.search(rf"^declare -A {name}=\((.*?)\)$", text, re.MULTILINE | re.DOTALL)
        used = {stage: int(limit) for stage, limit in re.findall(r"\[([\w-]+)\]=(\d+)", table[1])}
        assert used == {stage: limits[column] for stage, limits in told.items()}


@pytest.mark.parametrize(
    ("arguments", "file", "cases", "shown"),
    [
        (("align", "--quick"), "align.csv", 1, "| 256 | 2048 |"),
        (
            ("assignment", "--quick", "--only", "matrices", "--largest", "512"),
            "assignment_cuda.csv",
            4,
            "| lowrank | 512 x 512 |",
        ),
        (("profile", "--rows", "128"), "profile.txt", None, ""),
    ],
    ids=["align", "assignment", "profile"],
)
def test_benchmarks_write_where_they_are_told(arguments, file, cases, shown, tmp_path):
    command = [sys.executable, "-m", "benchmarks", *arguments, "--device", "cpu"]
    subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert [path.name for path in tmp_path.iterdir()] == [file]
    if cases is None:
        assert (tmp_path / file).read_text().count("Self CPU time total") == 2
        return
    rows = results.read(file.removesuffix(".csv"), tmp_path)
    ours = [row for row in rows if row.provider == "bmatch" and row.metric == "time"]
    assert len(ours) == cases
    assert all(row.commit and row.date and row.machine for row in rows)
    assert all(row.extra["bmatch"] and row.extra["torch"] for row in rows)
    assert all(row.value > 0 for row in rows if row.metric == "time")
    table = importlib.import_module(f"benchmarks.{file.removesuffix('.csv')}").table(rows)
    assert any(line.startswith(shown) for line in table)


def test_the_commit_is_named_where_there_is_no_history(tmp_path, monkeypatch):
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(provenance, "HERE", tmp_path / "benchmarks")
    monkeypatch.delenv("BMATCH_COMMIT", raising=False)
    assert provenance.commit() == "unknown"
    monkeypatch.setenv("BMATCH_COMMIT", "abc1234")
    assert provenance.commit() == "abc1234"


def test_our_version_needs_no_installation(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    assert provenance.version("bmatch") == bmatch.__version__
    assert provenance.version("scipy") == "none"
