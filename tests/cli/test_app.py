"""The command line, run in this process on small checkpoints; every refusal by its sentence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from signals import heed_ctrl_c
from tiny_models import WIDTH, load, logits, noisy_copy, tensors_of, tiny_model

import bmatch
from bmatch import SignedPermutation
from bmatch.cli import app


@pytest.fixture
def bmatch_(monkeypatch, capsys):
    """Runs a command line; returns exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bmatch", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            app.main()
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, " ".join(captured.err.split())

    return run


@pytest.fixture(autouse=True)
def _restore_environment(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TQDM_DISABLE", "1")


def test_align_apply_compose_round_trip(bmatch_, pair, secret, tmp_path):
    source, target = pair
    code, out, _ = bmatch_("align", source, target, "--tokens", 800, "--out", tmp_path / "g")
    assert code == 0
    assert "800 tokens at 3 sites" in out
    g = SignedPermutation.load(tmp_path / "g")
    assert g == secret

    assert bmatch_("apply", tmp_path / "g", source, "--out", tmp_path / "moved")[0] == 0
    code, out, err = bmatch_(
        "apply", tmp_path / "g", tmp_path / "moved", "--inverse", "--out", tmp_path / "back"
    )
    assert code == 0
    assert "is not the target that the gauge was estimated from" in err
    first, last = tensors_of(source), tensors_of(tmp_path / "back")
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert (logits(load(tmp_path / "moved")) - logits(load(source))).abs().max() < 1e-3
    assert (tmp_path / "moved" / "tokenizer.json").exists()

    code, out, err = bmatch_("apply", tmp_path / "g", target, "--inverse", "--out", tmp_path / "r")
    assert code == 0
    assert "note" not in err
    assert bmatch_("align", target, source, "--tokens", 800, "-o", tmp_path / "h")[0] == 0
    assert bmatch_("compose", tmp_path / "h", tmp_path / "g", "--out", tmp_path / "hg")[0] == 0
    loop = SignedPermutation.load(tmp_path / "hg")
    assert loop == SignedPermutation.identity(WIDTH)
    assert loop.metadata["source_sha256"] == loop.metadata["target_sha256"]
    code, _, err = bmatch_("compose", tmp_path / "g", tmp_path / "g", "--out", tmp_path / "x")
    assert code == 1
    assert "starts at the checkpoint 'source'" in err
    assert not (tmp_path / "x").exists()


def test_align_json_and_own_text(bmatch_, pair, secret, tmp_path):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog " * 400)
    code, out, _ = bmatch_(
        *("align", *pair, "--text", tmp_path / "text.txt", "--tokens", 300, "--json"),
        *("--sites", "0,-1", "--out", tmp_path / "g"),
    )
    assert code == 0
    figures = json.loads(out)
    assert figures["tokens"] == 300
    assert figures["sites"] == [0, 2]
    assert figures["correlation_bytes"] > 2 * 8 * figures["dim"] ** 2
    assert figures["metadata"]["text"] == "text.txt"
    assert SignedPermutation.load(tmp_path / "g") == secret


def test_info_on_devices(bmatch_):
    code, out, _ = bmatch_("info", "--gpu", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["matrices_on_the_host"].startswith("solved on the host (")
    assert told["devices"] == torch.cuda.device_count()
    assert (told["trouble"] == "none") == (told["devices"] > 0)
    assert "driver" in bmatch_("info", "--gpu")[1]
    for wrong in (("info",), ("info", "--gpu", "file")):
        code, _, err = bmatch_(*wrong)
        assert code == 2
        assert "give a gauge file, a checkpoint folder, or --gpu" in err


def test_info(bmatch_, pair, tmp_path):
    SignedPermutation.random(9, seed=0).save(tmp_path / "g", {"tokens": "12"})
    code, out, _ = bmatch_("info", tmp_path / "g", "--json")
    assert code == 0
    assert json.loads(out)["coordinates"] == 9
    assert json.loads(out)["tokens"] == "12"
    code, out, _ = bmatch_("info", pair[0])
    assert code == 0
    assert "llama" in out
    assert "signed_permutation" in out


@pytest.mark.parametrize("flags", [[], ["--maximize"], ["--sign-marginalized"]])
def test_solve(bmatch_, tmp_path, flags):
    cost = np.random.default_rng(0).standard_normal((30, 40)).astype(np.float32)
    np.save(tmp_path / "c.npy", cost)
    code, out, _ = bmatch_("solve", tmp_path / "c.npy", "--json", *flags)
    expected = bmatch.solve(
        cost, maximize="--maximize" in flags, sign_marginalized="--sign-marginalized" in flags
    )
    assert code == 0
    values = json.loads(out)
    assert values["objective"] == expected.objective
    assert values["col_ind"] == expected.col_ind.tolist()
    code, out, _ = bmatch_("solve", tmp_path / "c.npy", "--out", tmp_path / "a.npz", *flags)
    assert code == 0
    assert "30 x 40 float32" in out
    with np.load(tmp_path / "a.npz") as saved:
        assert np.array_equal(saved["col_of_row"], expected.col_of_row)
        assert ("sign" in saved) == (flags == ["--sign-marginalized"])


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


@pytest.fixture(scope="module")
def misfits(pair, tokenizer, tmp_path_factory):
    """Folders that do not fit the source of `pair`, each in its own way."""
    root = tmp_path_factory.mktemp("misfits")

    def save(name, model):
        model.save_pretrained(root / name, max_shard_size="20KB")
        tokenizer.save_pretrained(root / name)

    import transformers

    save("narrow", tiny_model(hidden_size=16))
    save(
        "gpt2",
        transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2)),
    )
    nan = noisy_copy(tiny_model(), 0.1, 0)
    with torch.no_grad():
        nan.model.layers[0].self_attn.q_proj.weight[0, 0] = float("nan")
    save("nan", nan)
    for name in ("unknown", "extra", "truncated", "missing", "silent"):
        shutil.copytree(pair[0], root / name)
    config = json.loads((root / "unknown" / "config.json").read_text())
    (root / "unknown" / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    (root / "extra" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    shards = sorted(path.name for path in pair[0].glob("*.safetensors"))
    cut = root / "truncated" / shards[0]
    cut.write_bytes(cut.read_bytes()[:-100])
    (root / "missing" / shards[1]).unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (root / "silent" / name).unlink()
    return root


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (
            "narrow",
            "different widths of the residual stream: 32 in the source and 16 in the target",
        ),
        ("gpt2", "gpt2 normalises with LayerNorm"),
        ("nan", "model.layers.0.self_attn.q_proj.weight in"),
        ("unknown", "unknown architecture 'mamba'"),
        ("extra", "tensors are not in the table for llama with 1 layers"),
        ("truncated", "is truncated or damaged"),
        ("missing", "1 of 5 shards named in model.safetensors.index.json are missing"),
        ("nowhere", "there is no folder"),
    ],
)
def test_align_refuses_in_one_sentence(bmatch_, pair, misfits, tmp_path, target, sentence):
    code, out, err = bmatch_("align", pair[0], misfits / target, "--out", tmp_path / "g")
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_a_layernorm_model_is_refused_even_with_itself(bmatch_, misfits, tmp_path):
    gpt2 = misfits / "gpt2"
    code, _, err = bmatch_(
        "align", gpt2, gpt2, "--group", "signed_permutation", "--out", tmp_path / "g"
    )
    assert code == 1
    assert "signed matching does not apply to it" in err


def test_unmatched_tensors_are_listed(bmatch_, misfits, tmp_path):
    SignedPermutation.identity(WIDTH).save(tmp_path / "g")
    code, _, err = bmatch_("apply", tmp_path / "g", misfits / "extra", "--out", tmp_path / "out")
    assert code == 1
    assert "tensors are not in the table for llama with 1 layers" in err
    assert "model.layers.1.input_layernorm.weight" in err


def test_a_model_without_a_tokenizer_takes_that_of_the_other(bmatch_, pair, misfits, tmp_path):
    silent = misfits / "silent"
    assert bmatch_("align", silent, pair[1], "--tokens", 100, "--out", tmp_path / "g")[0] == 0
    code, _, err = bmatch_("align", silent, silent, "--tokens", 100, "--out", tmp_path / "h")
    assert code == 1
    assert "has a tokenizer" in err


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


def test_apply_never_touches_an_existing_folder(bmatch_, pair, tmp_path):
    SignedPermutation.random(WIDTH, seed=0).save(tmp_path / "g")
    (tmp_path / "out").mkdir()
    code, _, err = bmatch_("apply", tmp_path / "g", pair[0], "--out", tmp_path / "out")
    assert code == 1
    assert "exists already: name another output" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_one_sentence(bmatch_, pair, tmp_path, monkeypatch):
    SignedPermutation.random(WIDTH, seed=0).save(tmp_path / "g")

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device", "shard")

    monkeypatch.setattr("bmatch.models.checkpoint.save_file", full)
    code, _, err = bmatch_("apply", tmp_path / "g", pair[0], "--out", tmp_path / "out")
    assert code == 1
    assert err == "error: No space left on device (shard); nothing was left half-written"
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_ctrl_c_in_the_middle_of_apply(tmp_path):
    """A real process, interrupted while it is writing shards."""
    model = tiny_model(hidden_size=256, intermediate_size=8192, num_hidden_layers=24)
    model.save_pretrained(tmp_path / "model", max_shard_size="4MB")
    SignedPermutation.random(256, seed=0).save(tmp_path / "g")
    process = subprocess.Popen(
        [sys.executable, "-m", "bmatch", "apply", "g", "model", "--out", "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
        preexec_fn=heed_ctrl_c,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(tmp_path.glob(".out.*.partial/*"))) >= 2:
            break
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; nothing was left half-written" in err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g", "model"]


def test_sigterm_leaves_nothing_either(bmatch_, pair, tmp_path, monkeypatch):
    SignedPermutation.random(WIDTH, seed=0).save(tmp_path / "g")

    def terminated(*_args, **_kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    monkeypatch.setattr("bmatch.models.checkpoint.save_file", terminated)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    try:
        code, _, _ = bmatch_("apply", tmp_path / "g", pair[0], "--out", tmp_path / "out")
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGHUP, before[1])
    assert code == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_a_disk_that_fills_up_while_a_gauge_is_written(tmp_path):
    """A real limit of the operating system: no file may grow beyond 300 bytes."""
    SignedPermutation.random(WIDTH, seed=0).save(tmp_path / "g")
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))\n"
        "sys.argv[1:] = ['compose', 'g', '--out', 'out']\n"
        "from bmatch.cli import app\n"
        "app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: out could not be written")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_paths_with_brackets_are_shown_as_they_are(bmatch_, tmp_path):
    SignedPermutation.identity(3).save(tmp_path / "g[step=1]")
    code, out, _ = bmatch_("info", tmp_path / "g[step=1]")
    assert code == 0
    assert "g[step=1]" in out.replace("\n", "")


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


def test_a_broken_tokenizer_names_its_folder(bmatch_, pair, tmp_path):
    broken = shutil.copytree(pair[0], tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    code, _, err = bmatch_("align", broken, pair[1], "--out", tmp_path / "g")
    assert code == 1
    assert f"transformers cannot read the tokenizer in {broken}" in err
