"""The command line as a whole: help, usage, and refusals of all commands."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from lfs import POINTER
from privileges import heed_permissions
from tiny_models import WIDTH

import bmatch
from bmatch import SignedPermutation
from bmatch.cli import app


def test_help_has_examples_and_versions_agree(bmatch_):
    for command in ("align", "apply", "compose", "info", "solve", "demo"):
        code, out, _ = bmatch_(command, "--help")
        assert code == 0
        assert f"$ bmatch {command}" in out
    assert bmatch_("--version")[1] == f"bmatch {bmatch.__version__}\n"
    from importlib.metadata import version

    assert version("bmatch") == bmatch.__version__


def test_wrong_usage_is_exit_code_2(bmatch_):
    assert bmatch_("nonsense")[0] == 2
    assert bmatch_("apply")[0] == 2
    assert bmatch_("align", "a", "b", "--out", "c", "--group", "rotations")[0] == 2
    assert bmatch_()[0] == 2


def test_other_refusals(bmatch_, pair, misfits, tmp_path):
    g = tmp_path / "g"
    SignedPermutation.identity(8).save(g)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "there").mkdir()
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    np.save(tmp_path / "inf.npy", np.full((2, 2), np.inf))
    before = sorted(tmp_path.iterdir())
    align = ("align", *pair, "--out", tmp_path / "new")
    for arguments, sentence in (
        ((*align, "--text", tmp_path / "empty.txt"), "the text is too short: 4096 tokens"),
        ((*align, "--tokens", 10**7), "the text is too short: 10000000 tokens"),
        ((*align, "--text", tmp_path / "no.txt"), "there is no text file"),
        ((*align, "--sites", "9"), "sites must be 'all' or numbers from 0 to 2"),
        ((*align, "--sites", "x"), "--sites must be 'all' or numbers"),
        (("align", *pair, "--out", tmp_path / "no" / "g"), "does not exist"),
        (("align", *pair, "--out", g), "exists already: name another output"),
        (("compose", g, "--out", g), "exists already: name another output"),
        (("solve", tmp_path / "cube.npy", "--out", tmp_path / "cube.npy"), "exists already"),
        ((*align, "--device", "nonsense"), "device 'nonsense' cannot be used here"),
        (("info", tmp_path / "[red]no[/b]"), "there is no file or folder"),
        (("apply", g, pair[0], "--out", tmp_path / "new"), "the gauge acts on 8 coordinates"),
        (("apply", g, misfits / "nan", "--out", tmp_path / "new"), "the gauge acts on 8"),
        (("apply", tmp_path / "no", pair[0], "--out", tmp_path / "new"), "there is no gauge file"),
        (("apply", pair[0] / "config.json", pair[0], "--out", tmp_path / "new"), "is damaged"),
        (("compose", g, tmp_path / "no", "--out", tmp_path / "new"), "there is no gauge file"),
        (("info", tmp_path / "no"), "there is no file or folder"),
        (("info", tmp_path / "empty.txt"), "is not a safetensors file"),
        (("solve", tmp_path / "cube.npy"), "expected a matrix (2-D array), got a 3 array"),
        (("solve", tmp_path / "objects.npy"), "is no array written by numpy.save"),
        (("solve", tmp_path / "empty.txt"), "is no array written by numpy.save"),
        (("solve", tmp_path / "inf.npy"), "cost matrix is infeasible: row 0 has no finite entry"),
        (("demo", "--out", tmp_path / "there"), "exists already"),
    ):
        code, out, err = bmatch_(*arguments)
        assert code == 1, arguments
        assert out == ""
        assert err.startswith("error: ")
        assert sentence in err, (arguments, err)
        assert sorted(tmp_path.iterdir()) == before, arguments


@pytest.mark.parametrize("arguments", [["--help"], ["align", "--help"], ["info", "g"]])
def test_what_needs_no_torch_loads_none(tmp_path, arguments):
    SignedPermutation.identity(3).save(tmp_path / "g")
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *sys.modules))\n"
        f"sys.argv = ['bmatch', *{arguments!r}]\n"
        "from bmatch.cli import app\n"
        "app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.split("loaded:")[1].split()
    assert "typer" in loaded
    assert {"torch", "transformers", "triton", "matplotlib"}.isdisjoint(loaded)


def raised_by(job):
    with pytest.raises(Exception) as caught:
        job()
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        raised_by(lambda: torch.empty(1 << 60)),
        raised_by(lambda: np.empty(1 << 55)),
        raised_by(lambda: bytearray(1 << 62)),
        torch.OutOfMemoryError("Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(errno.ENOMEM, "Cannot allocate memory", "model.safetensors"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_want_of_memory_is_one_sentence_with_what_to_try(bmatch_, tmp_path, monkeypatch, error):
    def fails(*_args, **_kwargs):
        raise error

    def fails_in_a_library(*_args, **_kwargs):
        try:
            fails()
        except Exception as reason:
            raise ValueError("transformers cannot read the weights") from reason

    for job in (fails, fails_in_a_library):
        monkeypatch.setattr("bmatch.align.align_checkpoints", job)
        monkeypatch.setattr("bmatch.solve", job)
        code, out, err = bmatch_("align", "a", "b", "--out", tmp_path / "g")
        assert (code, out) == (1, "")
        assert err == (
            "error: there is not enough memory for this: try a smaller --batch-size or "
            "--sequence-length, fewer --sites, or --dtype bfloat16"
        )
        np.save(tmp_path / "c.npy", np.zeros((2, 2)))
        assert bmatch_("solve", tmp_path / "c.npy") == (
            1,
            "",
            "error: there is not enough memory for this",
        )


def test_errors_that_only_speak_of_memory_keep_their_sentence(bmatch_, tmp_path):
    code, _, err = bmatch_("info", tmp_path / "out of memory")
    assert code == 1
    assert "there is no file or folder" in err


def test_a_job_that_is_to_outlive_its_terminal_does(bmatch_):
    before = [signal.getsignal(ending) for ending in (signal.SIGTERM, signal.SIGHUP)]
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        bmatch_("--version")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])


def test_an_error_that_none_expects_is_not_hidden(monkeypatch, tmp_path):
    def fails(*_args, **_kwargs):
        raise RuntimeError("a fault of ours")

    np.save(tmp_path / "c.npy", np.zeros((2, 2)))
    monkeypatch.setattr("bmatch.solve", fails)
    monkeypatch.setattr(sys, "argv", ["bmatch", "solve", str(tmp_path / "c.npy")])
    with pytest.raises(RuntimeError, match="a fault of ours"):
        app.main()


def test_ctrl_c_of_which_a_library_makes_another_error_is_one(bmatch_, monkeypatch, tmp_path):
    def fails(*_args, **_kwargs):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise TypeError("Cannot compare structured arrays")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        np.save(tmp_path / "c.npy", np.zeros((2, 2)))
        monkeypatch.setattr("bmatch.solve", fails)
        code, out, err = bmatch_("solve", tmp_path / "c.npy")
        assert (code, out) == (130, "")
        assert err == "error: interrupted; nothing was left half-written"
        assert bmatch_("info", tmp_path / "no")[0] == 1
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_that_comes_twice_leaves_what_is_put_away_alone(bmatch_, monkeypatch, tmp_path):
    """From the terminal, and from torchrun; and of ranks one tells it."""
    put_away = []

    def fails(*_args, **_kwargs):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            put_away.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        np.save(tmp_path / "c.npy", np.zeros((2, 2)))
        monkeypatch.setattr("bmatch.solve", fails)
        told = "error: interrupted; nothing was left half-written"
        assert bmatch_("solve", tmp_path / "c.npy") == (130, "", told)
        monkeypatch.setattr("bmatch.cli.app.is_told_by_another", lambda: True)
        assert bmatch_("solve", tmp_path / "c.npy") == (130, "", "")
        assert put_away == [True, True]
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_ending_of_which_python_makes_another_error_is_one(bmatch_, monkeypatch, tmp_path):
    """As it does in the middle of a class, while libraries are loaded."""

    class Ends:
        def __set_name__(self, owner, name):
            signal.raise_signal(signal.SIGTERM)

    def fails(*_args, **_kwargs):
        type("Class", (), {"ends": Ends()})

    before = [signal.getsignal(ending) for ending in (signal.SIGTERM, signal.SIGHUP)]
    try:
        np.save(tmp_path / "c.npy", np.zeros((2, 2)))
        monkeypatch.setattr("bmatch.solve", fails)
        assert bmatch_("solve", tmp_path / "c.npy") == (128 + signal.SIGTERM, "", "")
        assert bmatch_("info", tmp_path / "no")[0] == 1
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])


INTERRUPTED = """
import signal, sys
class Ends:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGINT)
class Finder:
    def find_spec(self, name, *_):
        if name == "bmatch.cli.app":
            type("Class", (), {"ends": Ends()})
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
from bmatch.__main__ import main
main()
"""


def test_ctrl_c_in_the_middle_of_a_class_that_is_loaded():
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "error: interrupted; nothing was left half-written\n"


OUTPUTS = {
    "align": ["a", "b"],
    "apply": ["g", "a"],
    "compose": ["g", "g"],
    "solve": ["c.npy"],
    "demo": [],
}


@pytest.mark.parametrize("command", OUTPUTS)
def test_outputs_that_cannot_be_are_refused_before_the_job(bmatch_, tmp_path, command):
    """Nothing of what the job would read is there: it is not looked at."""
    (tmp_path / "file").touch()
    for name, sentence in (
        ("名" * 86, "(File name too long): name another output"),
        ("file/out", "the folder"),
        ("nowhere/out", "does not exist"),
        ("file", "exists already"),
    ):
        code, out, err = bmatch_(command, *OUTPUTS[command], "--out", tmp_path / name)
        assert (code, out) == (1, "")
        assert err.startswith("error: ")
        assert sentence in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("command", ["compose", "solve"])
def test_outputs_without_permission(tmp_path, command):
    (tmp_path / "closed").mkdir(mode=0o555)
    done = subprocess.run(
        [sys.executable, "-m", "bmatch", command, *OUTPUTS[command], "--out", "closed/out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=heed_permissions,
    )
    assert done.returncode == 1
    assert done.stderr == ("error: closed/out cannot be written: no permission to write closed\n")


def test_an_output_that_is_the_input_is_refused(bmatch_, pair, tmp_path):
    g, c = tmp_path / "g", tmp_path / "c.npy"
    SignedPermutation.identity(WIDTH).save(g)
    np.save(c, np.zeros((2, 2)))
    model = shutil.copytree(pair[0], tmp_path / "model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for arguments in (
        ("apply", g, model, "--out", model),
        ("apply", g, model, "--out", g),
        ("align", model, model, "--out", model / "config.json"),
        ("compose", g, g, "--out", g),
        ("solve", c, "--out", c),
    ):
        code, _, err = bmatch_(*arguments)
        assert code == 1
        assert "exists already" in err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert bmatch_("apply", g, model, "--out", model / "inside")[0] == 0
    assert {path.name for path in (model / "inside").iterdir()} == {
        path.name for path in pair[0].iterdir()
    }


def test_pointers_of_git_lfs_are_named_by_every_command(bmatch_, pair, tmp_path):
    pointer, g = tmp_path / "pointer", tmp_path / "g"
    pointer.write_text(POINTER)
    SignedPermutation.identity(WIDTH).save(g)
    folders = {}
    for name in ("tokenizer.json", "model-00001-of-00005.safetensors"):
        folders[name] = shutil.copytree(pair[0], tmp_path / name.partition(".")[0])
        (folders[name] / name).write_text(POINTER)
    words, weights = folders.values()
    for arguments, named in (
        (("info", pointer), "pointer"),
        (("compose", pointer, "--out", tmp_path / "new"), "pointer"),
        (("solve", pointer), "pointer"),
        (("align", *pair, "--text", pointer, "--out", tmp_path / "new"), "pointer"),
        (("align", pair[0], words, "--out", tmp_path / "new"), "tokenizer.json"),
        (("apply", g, words, "--out", tmp_path / "new"), "tokenizer.json"),
        (("apply", g, weights, "--out", tmp_path / "new"), "00005.safetensors"),
        (("info", weights), "00005.safetensors"),
    ):
        code, out, err = bmatch_(*arguments)
        assert (code, out) == (1, ""), arguments
        assert f"{named} is a Git-LFS pointer and not the file itself" in err
        assert "`git lfs pull`" in err
