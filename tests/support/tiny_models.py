"""Small models of real architectures, and what tests do with models and their folders."""

from __future__ import annotations

import torch
import transformers

import bmatch
import bmatch.models.checkpoint

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


def change_when_carried(model, inputs, gauge, folder):
    """How far logits of a model of any class move, of the largest, when its files are carried."""
    model.save_pretrained(folder / "source")
    bmatch.transport.checkpoint(folder / "source", gauge, folder / "target")
    moved = type(model).from_pretrained(folder / "target", attn_implementation="eager").eval()
    with torch.no_grad():
        before, after = model(**inputs).logits, moved(**inputs).logits
    return float((before - after).abs().max() / before.abs().max())


def load(folder):
    """The model in a folder, as any user of transformers would load it."""
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def tensors_of(folder):
    """All tensors of a checkpoint by name."""
    return dict(bmatch.models.checkpoint.open_checkpoint(folder).tensors())
