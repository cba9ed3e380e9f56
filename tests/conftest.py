"""Small models of real architectures, their tokenizer, and checkpoints in planted gauges."""

from __future__ import annotations

import itertools
import os
import signal
import types

os.environ["TQDM_DISABLE"] = "1"  # transformers' bars would fill the test output

import pytest
import tokenizers
import torch
import transformers

import bmatch
from bmatch.demo import run_demo
from bmatch.text import default_text

WIDTH, VOCABULARY = 32, 300
CONFIGS = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
    "smollm3": transformers.SmolLM3Config,
}


def tiny_model(model_type="llama", tied=True, seed=0, **overrides):
    """A float32 model with generic weights: gains spread about 1, biases not zero."""
    options = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "tie_word_embeddings": tied,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    if model_type == "llama":
        options.update(attention_bias=True, mlp_bias=True)
    config = CONFIGS[model_type](**{**options, **overrides})
    model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.3 * noise if parameter.ndim > 1 else 1 + 0.4 * noise)
    return model.eval()


def noisy_copy(model, noise, seed):
    """The model with weight noise of a fraction of each matrix's spread."""
    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            if parameter.ndim > 1:
                step = noise * parameter.std() * torch.randn(parameter.shape, generator=generator)
                parameter.add_(step)
    return copy.eval()


def in_gauge(model, gauge):
    """The model carried to the coordinates that the gauge leads to."""
    carried = type(model)(model.config)
    carried.load_state_dict(bmatch.transport.state_dict(model.state_dict(), gauge, model))
    return carried.eval()


def logits(model, seed=1):
    """Logits on 40 random tokens."""
    tokens = torch.randint(VOCABULARY, (1, 40), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model(tokens).logits


def load(folder):
    """The model in a folder, as any user of transformers would load it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def heed_ctrl_c():
    """For child processes: jobs in the background inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def tensors_of(folder):
    """All tensors of a checkpoint by name."""
    return dict(bmatch.checkpoint.open_checkpoint(folder).tensors())


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE tokenizer of 300 tokens."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(itertools.islice(default_text(), 5), trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model)


@pytest.fixture(scope="session")
def secret():
    """The gauge planted between the source and the target of `pair`."""
    return bmatch.SignedPermutation.random(WIDTH, seed=7)


@pytest.fixture(scope="session")
def pair(tmp_path_factory, tokenizer, secret):
    """Two checkpoint folders: a tied model in shards, and its noisy image under the secret."""
    root = tmp_path_factory.mktemp("pair")
    source = tiny_model("llama", tied=True)
    for name, model in (
        ("source", source),
        ("target", in_gauge(noisy_copy(source, 0.05, 1), secret)),
    ):
        model.save_pretrained(root / name, max_shard_size="20KB")
        tokenizer.save_pretrained(root / name)
    return root / "source", root / "target"


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo, run once on its real weights: its folder and its result."""
    folder = tmp_path_factory.mktemp("demo") / "bmatch-demo"
    return types.SimpleNamespace(folder=folder, result=run_demo(folder))
