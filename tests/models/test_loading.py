"""Models and tokenizers from folders: no code in them is run, and failures are one sentence."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
import transformers
from tiny_models import load, logits, tiny_model

from bmatch.models.checkpoint import open_checkpoint
from bmatch.models.loading import has_tokenizer, load_model, load_tokenizer

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

CODE = """import transformers
open({mark!r}, "w").close()
class XTok(transformers.PreTrainedTokenizerFast): pass
class XConfig(transformers.LlamaConfig): pass
class XModel(transformers.LlamaForCausalLM): pass
"""


@pytest.fixture
def with_code(pair, tmp_path, monkeypatch):
    """A checkpoint whose config and tokenizer name code in its folder, and where it leaves a mark.

    Whoever is asked for permission agrees.
    """
    folder = shutil.copytree(pair[0], tmp_path / "model")
    mark = tmp_path / "executed"
    (folder / "code_x.py").write_text(CODE.format(mark=str(mark)))
    for name, classes in (
        ("tokenizer_config.json", {"AutoTokenizer": ["code_x.XTok", None]}),
        ("config.json", {"AutoConfig": "code_x.XConfig", "AutoModelForCausalLM": "code_x.XModel"}),
    ):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = classes
        content["tokenizer_class"] = "XTok"
        (folder / name).write_text(json.dumps(content))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    return folder, mark


def test_code_in_a_folder_is_not_run(with_code, pair):
    folder, mark = with_code
    checkpoint = open_checkpoint(folder)
    tokenizer = load_tokenizer(checkpoint)
    theirs = load_tokenizer(open_checkpoint(pair[0]))
    assert tokenizer.get_vocab() == theirs.get_vocab()
    assert tokenizer("some words")["input_ids"] == theirs("some words")["input_ids"]
    model = load_model(checkpoint, "float32", "cpu")
    assert type(model) is transformers.LlamaForCausalLM
    assert not mark.exists()


def test_a_tokenizer_of_code_alone_is_refused(with_code):
    folder, mark = with_code
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")
    checkpoint = open_checkpoint(folder)
    assert has_tokenizer(checkpoint)
    with pytest.raises(ValueError, match="is code of its own, and bmatch runs no code from"):
        load_tokenizer(checkpoint)
    assert not mark.exists()


def test_what_transformers_cannot_read_is_one_sentence(pair, tmp_path):
    folder = shutil.copytree(pair[0], tmp_path / "model")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="transformers cannot read the tokenizer in") as caught:
        load_tokenizer(open_checkpoint(folder))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 4096 bytes. Error code 12 (Cannot allocate memory)"
        ),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
    ],
)
def test_too_little_memory_is_no_damage(pair, monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(MemoryError):
        load_model(open_checkpoint(pair[0]), "float32", "cpu")


def test_an_adapter_beside_the_weights_does_not_compute(pair, tmp_path):
    """transformers loads it on top where peft is there; the folder's weights are what is read."""
    folder = shutil.copytree(pair[0], tmp_path / "model")
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    peft.get_peft_model(tiny_model(), config).save_pretrained(folder)
    plain = load(pair[0])
    assert not torch.equal(logits(load(folder)), logits(plain))
    ours = load_model(open_checkpoint(folder), "float32", "cpu")
    assert torch.equal(logits(ours), logits(plain))
