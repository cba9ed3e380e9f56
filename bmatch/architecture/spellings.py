"""Names that torchtitan gives to the tensors of models that transformers has, too.

Only what has one axis for one there: dense Llamas and Qwens. Queries and keys may come with their
rows in another order than in transformers, which the stream does not see. Names as in torchtitan
0.3.0 and before 0.2, which called ``attention.qkv_linear.wq`` ``attention.wq`` and the head
``output``.
"""

from __future__ import annotations

import re

_WHOLE = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_A_BLOCK = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.wo": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    **{f"attention.w{x}": f"self_attn.{x}_proj" for x in "qkv"},
    **{f"attention.qkv_linear.w{x}": f"self_attn.{x}_proj" for x in "qkv"},
}
_BLOCK = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")


def as_in_transformers(name: str) -> str:
    """What transformers calls a tensor of torchtitan's; other names stay."""
    found = _BLOCK.fullmatch(name)
    if found is None:
        return _WHOLE.get(name, name)
    number, part, kind = found.groups()
    part = _IN_A_BLOCK.get(part, "")
    return f"model.layers.{number}.{part}.{kind}" if part else name
