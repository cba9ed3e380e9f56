"""``bmatch align``, every refusal by its sentence."""

from __future__ import annotations

import json
import os
import shutil
import threading

import accelerate
import numpy as np
import pytest
import transformers

from bmatch import SignedPermutation


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


def test_align_by_weights_alone(bmatch_, pair, secret, tmp_path):
    arguments = ("align", *pair, "--evidence", "weights", "--out")
    code, out, _ = bmatch_(*arguments, tmp_path / "g", "--json")
    assert code == 0
    figures = json.loads(out)
    assert figures["evidence"] == "weights"
    assert figures["weight_rows"] > 500
    assert "model.embed_tokens.weight" in figures["weight_tensors"]
    assert "tokens" not in figures
    assert SignedPermutation.load(tmp_path / "g") == secret
    code, out, _ = bmatch_(*arguments, tmp_path / "h", "--picture", tmp_path / "p.png")
    assert code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    for more in (("--group", "orthogonal"), ("--spaces", "all")):
        command = ("align", *pair, "--out", tmp_path / "i", "--picture", tmp_path / "q.png", *more)
        code, _, err = bmatch_(*command)
        assert (code, "leave it out with a rotation or --spaces" in err) == (1, True)
    assert f"{figures['weight_rows']} rows of 15 tensors" in out


def test_align_reads_text_from_a_pipe(bmatch_, pair, secret, tmp_path):
    """Once, for both models."""
    os.mkfifo(tmp_path / "pipe")
    words = "the quick brown fox jumps over the lazy dog " * 400
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(words,))
    writer.start()
    code, _, _ = bmatch_(
        *("align", *pair, "--text", tmp_path / "pipe", "--tokens", 300, "--out", tmp_path / "g")
    )
    writer.join()
    assert code == 0
    assert SignedPermutation.load(tmp_path / "g") == secret


def test_names_that_are_not_utf_8_do_not_cost_the_gauge(bmatch_, pair, secret, tmp_path):
    text = tmp_path / os.fsdecode(b"\xe9.txt")
    text.write_text("the quick brown fox jumps over the lazy dog " * 400)
    code, _, _ = bmatch_("align", *pair, "--text", text, "--tokens", 300, "--out", tmp_path / "g")
    assert code == 0
    assert SignedPermutation.load(tmp_path / "g").metadata["text"] == r"\udce9.txt"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (
            "narrow",
            "different widths of the residual stream: 32 in the source and 16 in the target",
        ),
        ("nan", "model.layers.0.self_attn.q_proj.weight in"),
        ("unknown", "unknown architecture 'nonesuch'"),
        ("extra", "tensors are not in the table for llama with 1 layers"),
        ("truncated", "is truncated or damaged"),
        ("missing", "1 of 5 shards named in model.safetensors.index.json are missing"),
        ("nowhere", "there is no folder"),
    ],
)
@pytest.mark.parametrize("evidence", ["activations", "weights"])
def test_align_refuses_in_one_sentence(
    bmatch_, pair, misfits, tmp_path, target, sentence, evidence
):
    code, out, err = bmatch_(
        *("align", pair[0], misfits / target, "--evidence", evidence, "--out", tmp_path / "g")
    )
    assert code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_signed_matching_of_a_layernorm_model_is_refused(bmatch_, misfits, tmp_path):
    gpt2 = misfits / "gpt2"
    code, _, err = bmatch_(
        "align", gpt2, gpt2, "--group", "signed_permutation", "--out", tmp_path / "g"
    )
    assert code == 1
    assert "gpt2's residual stream is permutation_global_sign" in err


def test_a_model_without_a_tokenizer_takes_that_of_the_other(bmatch_, pair, misfits, tmp_path):
    silent = misfits / "silent"
    assert bmatch_("align", silent, pair[1], "--tokens", 100, "--out", tmp_path / "g")[0] == 0
    code, _, err = bmatch_("align", silent, silent, "--tokens", 100, "--out", tmp_path / "h")
    assert code == 1
    assert "has a tokenizer" in err


def test_a_broken_tokenizer_names_its_folder(bmatch_, pair, tmp_path):
    broken = shutil.copytree(pair[0], tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{")
    code, _, err = bmatch_("align", broken, pair[1], "--out", tmp_path / "g")
    assert code == 1
    assert f"transformers cannot read the tokenizer in {broken}" in err


def test_models_that_are_spread_out_have_the_same_gauge(bmatch_, pair, tmp_path, monkeypatch):
    """accelerate is told of so little memory that most of both stays on disk."""
    arguments = ("align", *pair, "--tokens", 600, "--cache", tmp_path / "cache")
    assert bmatch_(*arguments, "--out", tmp_path / "g")[0] == 0
    made, loaded = [], transformers.LlamaForCausalLM.from_pretrained

    def seen(*given, **options):
        made.append(loaded(*given, **options))
        return made[-1]

    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", seen)
    monkeypatch.setattr(accelerate.utils, "get_max_memory", lambda: {"cpu": 100_000})
    code, out, err = bmatch_(*arguments, "--device", "auto", "--out", tmp_path / "h")
    assert (code, err) == (0, "")
    assert "gauge written to" in out
    assert all(any(weight.is_meta for weight in model.parameters()) for model in made)
    assert len(made) == 2
    assert (tmp_path / "h").read_bytes() == (tmp_path / "g").read_bytes()


def test_where_nothing_can_be_spread_or_shared_out(bmatch_, pair, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((8, 4)))
    stored = ("align", tmp_path / "a.npy", tmp_path / "a.npy", "--out", tmp_path / "g")
    models = ("align", *pair, "--out", tmp_path / "g")
    for arguments, sentence in (
        ((*stored, "--device", "auto"), "device 'auto' cannot be used here"),
        ((*models, "--shard"), "leave it out without torchrun"),
        ((*models, "--shard", "--spaces", "all"), "--shard shares models out"),
    ):
        code, _, err = bmatch_(*arguments)
        assert code == 1
        assert sentence in err
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    code, _, err = bmatch_(*models, "--device", "auto")
    assert (code, err) == (1, "error: device 'auto' is by accelerate: pip install accelerate")
