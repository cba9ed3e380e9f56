"""``bmatch apply`` and ``bmatch compose``: round trips, refusals, and endings half-way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import torch
from signals import heed_ctrl_c
from tiny_models import WIDTH, load, logits, tensors_of, tiny_model

from bmatch import SignedPermutation
from bmatch.network_gauge import NetworkGauge


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


def test_gauges_of_older_digests_still_tell_their_models(bmatch_, pair, secret, tmp_path):
    """SHA-256 of all bytes, as they were noted at first."""
    source, target = pair
    lines = [
        f"{name} {hashlib.sha256(head + tensor.view(torch.uint8).numpy().tobytes()).hexdigest()}"
        for name, tensor in sorted(tensors_of(source).items())
        for head in (f"{tensor.dtype} {tuple(tensor.shape)}".encode(),)
    ]
    noted = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    gauge = tmp_path / "g.safetensors"
    secret.save(gauge, {"source": "s", "source_sha256": noted, "target_sha256": 64 * "0"})
    for number, (model, inverse, known) in enumerate(
        [(source, (), True), (target, (), False), (target, ("--inverse",), False)]
    ):
        out = tmp_path / str(number)
        code, told, _ = bmatch_("apply", gauge, model, *inverse, "--out", out, "--json")
        told = json.loads(told)
        assert code == 0
        assert told["is_target" if inverse else "is_source"] is known
        assert (told["model_sha256"] == noted) is known
    secret.inverse().save(tmp_path / "h", {"target": "s", "target_sha256": f"xxh3:{noted}"})
    assert bmatch_("compose", gauge, tmp_path / "h", "--out", tmp_path / "gh")[0] == 0  # who knows


def test_apply_carries_the_state_of_an_optimizer_where_it_is_asked_to(bmatch_, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "a")
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.arange(8)[None]).logits.square().mean().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "a" / "optimizer.pt")
    g = SignedPermutation.random(WIDTH, seed=0)
    g.save(tmp_path / "g")
    apply = ("apply", tmp_path / "g", tmp_path / "a", "--out")
    assert bmatch_(*apply, tmp_path / "b", "--with-optimizer")[0] == 0
    state = torch.load(tmp_path / "b" / "optimizer.pt", weights_only=True)["state"]
    moment = optimizer.state[model.model.embed_tokens.weight]["exp_avg"]
    assert torch.equal(state[0]["exp_avg"], g.apply(moment))
    code, _, err = bmatch_(*apply, tmp_path / "c")
    assert code == 0
    assert "not copied along: optimizer.pt" in err
    code, _, err = bmatch_(
        *("apply", tmp_path / "g", tmp_path / "c", "--with-optimizer", "--out", tmp_path / "d")
    )
    assert code == 1
    assert "has no optimizer.pt and no optimizer.bin" in err
    NetworkGauge({"residual": g, "other": SignedPermutation([1, 0])}).save(tmp_path / "n")
    code, _, err = bmatch_(
        *("apply", tmp_path / "n", tmp_path / "a", "--with-optimizer", "--out", tmp_path / "d")
    )
    assert code == 1
    assert "is a gauge of a whole network" in err
    assert not (tmp_path / "d").exists()


def test_unmatched_tensors_are_listed(bmatch_, misfits, tmp_path):
    SignedPermutation.identity(WIDTH).save(tmp_path / "g")
    code, _, err = bmatch_("apply", tmp_path / "g", misfits / "extra", "--out", tmp_path / "out")
    assert code == 1
    assert "tensors are not in the table for llama with 1 layers" in err
    assert "model.layers.1.input_layernorm.weight" in err


def test_apply_tells_on_standard_error_what_is_not_copied(bmatch_, pair, tmp_path):
    folder = shutil.copytree(pair[0], tmp_path / "model")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "chat_template.jinja").symlink_to("../../blobs/gone")
    SignedPermutation.random(WIDTH, seed=0).save(tmp_path / "g")
    code, out, err = bmatch_("apply", tmp_path / "g", folder, "--out", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out)["out"] == str(tmp_path / "out")
    assert err == (
        "note: not copied along: adapter_config.json (its adapter is in the old coordinates); "
        "chat_template.jinja (a link that leads nowhere)"
    )
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    load(tmp_path / "out")


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

    monkeypatch.setattr("bmatch.models.rewrite.copy_safetensors", full)
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
        if len(list(tmp_path.glob(".out.*.partial/*/*"))) >= 2:
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

    monkeypatch.setattr("bmatch.models.rewrite.copy_safetensors", terminated)
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
    assert done.stderr == "error: File too large (out); nothing was left half-written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["g"]
