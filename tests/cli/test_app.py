"""The command line as a whole: help, usage, and refusals of all commands."""

from __future__ import annotations

import numpy as np

import bmatch
from bmatch import SignedPermutation


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
