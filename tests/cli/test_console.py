"""What a terminal, a pipe or nobody at all gets to see."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys

import noisy
import numpy as np
import pytest
from tiny_models import WIDTH

import bmatch
from bmatch import SignedPermutation
from bmatch.cli import console


@pytest.fixture
def process(tmp_path):
    """Runs a command line as a process of its own, beside a gauge `g` and a matrix `c.npy`."""
    SignedPermutation.random(9, seed=0).save(tmp_path / "g")
    np.save(tmp_path / "c.npy", np.random.default_rng(0).random((9, 9)))

    def run(*arguments, environment=(), **options):
        return subprocess.run(
            [sys.executable, "-m", "bmatch", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100", **dict(environment)},
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "check": False, **options},
        )

    return run


def test_the_error_stands_alone_on_a_terminal(misfits, tmp_path):
    """Under a pseudo-terminal, with a progress bar up when the error comes."""
    import pty

    SignedPermutation.identity(WIDTH).save(tmp_path / "g")
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bmatch", "apply", "g", misfits / "nan", "--out", "out"],
        cwd=tmp_path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            read = os.read(master, 4096)
        except OSError:
            break
        if not read:
            break
        shown += read
    os.close(master)
    assert process.wait() == 1
    text = shown.decode()
    assert "error: " in text
    after = text[text.rindex("error: ") :]
    assert "q_proj.weight" in after
    assert "\x1b[2K" not in after.split("q_proj")[0]  # nothing erases the line it starts on


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", r"\u540d\xe4"), ("latin-1", "\\u540d\xe4"), ("utf-8", "名ä")]
)
def test_names_that_a_terminal_cannot_encode(process, tmp_path, encoding, shown):
    environment = {"PYTHONIOENCODING": encoding}
    done = process("compose", "g", "g", "--out", "名ä", environment=environment)
    assert done.returncode == 0
    assert done.stdout.decode(encoding).endswith(f"composed into {shown}\n")
    assert SignedPermutation.load(tmp_path / "名ä").dim == 9
    done = process("info", "名ä", environment=environment)
    assert done.returncode == 0
    assert shown in done.stdout.decode(encoding)
    done = process("compose", "g", "--out", "名ä", environment=environment)
    assert done.returncode == 1
    assert done.stderr.decode(encoding).startswith(f"error: {shown} exists already")


def test_names_that_are_not_utf_8(process, tmp_path):
    done = process("compose", "g", "--out", os.fsdecode(b"\xe9"))
    assert done.returncode == 0
    assert done.stdout.decode().endswith("composed into \\udce9\n")
    assert process("info", os.fsdecode(b"\xe9"), "--json").returncode == 0


COMMANDS = {
    "--help": [],
    "--version": [],
    "info": ["g"],
    "compose": ["g", "g", "--out", "new"],
    "solve": ["c.npy", "--out", "new"],
}


@pytest.mark.parametrize("streams", [("stdout",), ("stdout", "stderr")], ids=len)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_went_away_is_no_error(process, tmp_path, command, streams):
    """Not of the table, nor of JSON and progress."""
    flags = ["--json"] if len(streams) == 2 and not command.startswith("--") else []
    reading, writing = os.pipe()
    os.close(reading)
    done = process(command, *COMMANDS[command], *flags, **dict.fromkeys(streams, writing))
    os.close(writing)
    assert done.returncode == 0
    assert not done.stderr
    assert (tmp_path / "new").exists() == ("new" in COMMANDS[command])


@pytest.mark.parametrize("command", ["--version", "info", "compose", "solve"])
def test_a_full_standard_output_is_one_sentence(process, tmp_path, command):
    with open("/dev/full", "wb") as full:
        for flags in ([], ["--json"]) if command != "--version" else ([],):
            (tmp_path / "new").unlink(missing_ok=True)
            done = process(command, *COMMANDS[command], *flags, stdout=full)
            assert done.returncode == 1
            assert done.stderr.decode() == (
                "error: standard output cannot be written: No space left on device\n"
            )


@pytest.mark.parametrize("closed", [[1], [2], [1, 2], [0, 1, 2]])
def test_streams_that_are_closed(process, tmp_path, closed):
    """No file of the job takes their place, to be written to by whoever prints."""

    def close():
        for number in closed:
            os.close(number)

    assert process("solve", "c.npy", "--out", "new", preexec_fn=close).returncode == 0
    cost = np.load(tmp_path / "c.npy")
    with np.load(tmp_path / "new") as saved:
        assert np.array_equal(saved["col_of_row"], bmatch.solve(cost).col_of_row)
    done = process("info", "nowhere", preexec_fn=functools.partial(os.close, 1))
    assert done.returncode == 1
    assert done.stderr.decode() == "error: there is no file or folder nowhere\n"


def test_json_stands_alone_whoever_else_prints(process, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import noisy; noisy.let_the_solver_print()")
    folders = [str(tmp_path), os.path.dirname(noisy.__file__), *sys.path]
    environment = {"PYTHONPATH": os.pathsep.join(folders)}
    done = process("solve", "c.npy", "--json", environment=environment)
    assert done.returncode == 0
    assert json.loads(done.stdout)["matched"] == 9
    assert set(done.stderr.decode().splitlines()) == noisy.LINES
    done = process("solve", "c.npy", environment=environment)
    assert set(done.stdout.decode().splitlines()) > noisy.LINES


def test_json_has_null_for_what_is_not_finite(bmatch_, tmp_path):
    values = {"a": [1.5, np.inf, {"b": float("nan"), "c": (-np.inf, "inf")}]}
    with console.only_json():
        console.print_json(values)
    assert console.finish(0) == 0
    np.save(tmp_path / "c.npy", np.ones((2, 2)))
    _, out, _ = bmatch_("solve", tmp_path / "c.npy", "--json")
    first, end = json.JSONDecoder().raw_decode(out)
    assert first == {"a": [1.5, None, {"b": None, "c": [None, "inf"]}]}
    assert json.loads(out[end:])["objective"] == 2


def test_wrong_usage_under_json_leaves_standard_output_as_it_was(bmatch_, tmp_path):
    code, out, err = bmatch_(
        "align", "a", "b", "--json", "--dtype", "int8", "--out", tmp_path / "g"
    )
    assert (code, out) == (2, "")
    assert "--dtype" in err
    assert bmatch_("--version")[1].startswith("bmatch ")
