"""Llama and what is built like it: Mistral, Qwen2, Qwen3, SmolLM, SmolLM2, SmolLM3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bmatch.architecture.axes import HEADS, Family, Rule


def sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """What the words of the rules stand for; a head not described shares the stream evenly."""

    def number(key: str) -> int | None:
        value = config.get(key)
        return value if isinstance(value, int) and value > 0 else None

    width, heads = number("hidden_size"), number("num_attention_heads")
    kv_heads = number("num_key_value_heads") or heads
    head = number("head_dim") or (width // heads if width and heads else None)
    known = {
        "D": width,
        "L": number("num_hidden_layers"),
        "V": number("vocab_size"),
        "F": number("intermediate_size"),
        "H": heads * head if heads and head else None,  # queries of all heads
        "K": kv_heads * head if kv_heads and head else None,  # keys, and values
        "head": head,
    }
    return {word: size for word, size in known.items() if size is not None}


LLAMA = Family(
    rules=(
        Rule("model.embed_tokens.weight", "V D"),
        Rule("model.layers.{layer}.input_layernorm.weight", "+D"),
        Rule("model.layers.{layer}.self_attn.q_proj.weight", "H D"),
        Rule("model.layers.{layer}.self_attn.k_proj.weight", "K D"),
        Rule("model.layers.{layer}.self_attn.v_proj.weight", "K D"),
        Rule("model.layers.{layer}.self_attn.o_proj.weight", "D H"),
        Rule("model.layers.{layer}.post_attention_layernorm.weight", "+D"),
        Rule("model.layers.{layer}.mlp.gate_proj.weight", "F D"),
        Rule("model.layers.{layer}.mlp.up_proj.weight", "F D"),
        Rule("model.layers.{layer}.mlp.down_proj.weight", "D F"),
        Rule("model.norm.weight", "+D"),
        Rule("lm_head.weight", "V D", required=False),  # absent where tied
        *HEADS,
        Rule("model.layers.{layer}.self_attn.q_proj.bias", "H", required=False),
        Rule("model.layers.{layer}.self_attn.k_proj.bias", "K", required=False),
        Rule("model.layers.{layer}.self_attn.v_proj.bias", "K", required=False),
        Rule("model.layers.{layer}.self_attn.o_proj.bias", "D", required=False),
        Rule("model.layers.{layer}.mlp.gate_proj.bias", "F", required=False),
        Rule("model.layers.{layer}.mlp.up_proj.bias", "F", required=False),
        Rule("model.layers.{layer}.mlp.down_proj.bias", "D", required=False),
        Rule("model.layers.{layer}.self_attn.q_norm.weight", "head", required=False),
        Rule("model.layers.{layer}.self_attn.k_norm.weight", "head", required=False),
        Rule("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "frequencies", required=False),
        Rule("model.rotary_emb.inv_freq", "frequencies", required=False),
    ),
    sizes=sizes,
    keys={"D": "hidden_size", "L": "num_hidden_layers", "V": "vocab_size"},
)
