"""Folders that do not fit."""

from __future__ import annotations

import itertools
import json
import os
import pkgutil
import shutil
import signal
import time

import pytest
import torch
import transformers
from agents import Job
from tiny_models import noisy_copy, tiny_model


@pytest.fixture(autouse=True)
def _restore_environment(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("stranger") / "stranger"
    tiny_model("llama", seed=9).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def misfits(pair, tokenizer, tmp_path_factory):
    """Folders that do not fit the source of `pair`, each in its own way."""
    root = tmp_path_factory.mktemp("misfits")

    def save(name, model):
        model.save_pretrained(root / name, max_shard_size="20KB")
        tokenizer.save_pretrained(root / name)

    save("narrow", tiny_model(hidden_size=16))
    save(
        "gpt2",
        transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2)),
    )
    nan = noisy_copy(tiny_model(), 0.1, 0)
    with torch.no_grad():
        nan.model.layers[0].self_attn.q_proj.weight[0, 0] = float("nan")
    save("nan", nan)
    for name in ("unknown", "extra", "truncated", "missing", "silent", "wide"):
        shutil.copytree(pair[0], root / name)
    config = json.loads((root / "unknown" / "config.json").read_text())
    (root / "unknown" / "config.json").write_text(json.dumps({**config, "model_type": "nonesuch"}))
    (root / "extra" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    wide = {**config, "intermediate_size": 64}
    (root / "wide" / "config.json").write_text(json.dumps(wide))
    shards = sorted(path.name for path in pair[0].glob("*.safetensors"))
    cut = root / "truncated" / shards[0]
    cut.write_bytes(cut.read_bytes()[:-100])
    (root / "missing" / shards[1]).unlink()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (root / "silent" / name).unlink()
    return root


@pytest.fixture
def doomed(monkeypatch):
    """Begins a job of which a rank dies the first time, however busy the machine is.

    At its so manyth call of that, without which the job does not get on, and once it is time.
    """

    def begin(rank, what, number, ready, *job):
        plain, calls = pkgutil.resolve_name(what), itertools.count(1)

        def instead(*arguments, **options):
            there = [os.environ.get(name) for name in ("RANK", "TORCHELASTIC_RESTART_COUNT")]
            if there == [str(rank), "0"] and next(calls) == number:
                while not ready():
                    time.sleep(0.002)
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(what.replace(":", "."), instead)
            return Job(*job)

    return begin
