"""Names that torchtitan gives to the tensors of Llama, Qwen 3, DeepSeek 3 and Llama 4.

Queries and keys may come with their rows in another order than in transformers, which the stream
does not see. Names as in torchtitan 0.3.0; and before, where ``attention.qkv_linear.wq`` was
``attention.wq``, the head ``output`` and ``w1_EFD`` ``w1``. After that, experts moved below
``moe.routed_experts.inner_experts``.
"""

from __future__ import annotations

from bmatch.architecture.spellings import Spelling

_DOWN = "mlp.experts.down_proj : E D F | feed_forward.experts.down_proj : E D F"
_UP = " | ".join(  # a half of what transformers has as one, as long as down's
    f"{place}.experts.down_proj + {place}.experts.gate_up_proj : E F D"
    for place in ("mlp", "feed_forward")
)
_GATE, _ROUTER = "mlp.gate.weight", "feed_forward.router.weight"
_INNER = "moe.routed_experts.inner_experts"


def _experts(name: str, axes: str) -> str:
    lettered = f"{name}_{axes}"
    return f"{_INNER}.{lettered} | moe.experts.{lettered} | moe.experts.{name}"


def _shared(projection: str) -> str:
    parts = ("mlp.shared_experts", "feed_forward.shared_expert")
    return " | ".join(f"{part}.{projection}.*" for part in parts)


def _dense(projection: str) -> str:
    return f"mlp.{projection}.* | feed_forward.{projection}.*"


TORCHTITAN = Spelling(
    "torchtitan",
    "tok_embeddings.weight",
    "layers",
    {
        "tok_embeddings.weight": "embed_tokens.weight",
        "norm.*": "norm.*",
        "lm_head.weight | output.weight": "lm_head.weight",
    },
    {
        "attention_norm.*": "input_layernorm.*",
        "ffn_norm.*": "post_attention_layernorm.*",
        **{
            f"attention.qkv_linear.w{x}.* | attention.w{x}.*": f"self_attn.{x}_proj.*"
            for x in "qkv"
        },
        "attention.qkv_linear.wqkv.*": " + ".join(f"self_attn.{x}_proj.*" for x in "qkv"),
        "attention.wo.*": "self_attn.o_proj.*",
        "attention.q_norm.*": "self_attn.q_norm.* | self_attn.q_a_layernorm.*",
        "attention.k_norm.*": "self_attn.k_norm.*",
        "attention.wq_a.*": "self_attn.q_a_proj.*",
        "attention.wq_b.*": "self_attn.q_b_proj.*",
        "attention.wkv_a.*": "self_attn.kv_a_proj_with_mqa.*",
        "attention.kv_norm.*": "self_attn.kv_a_layernorm.*",
        "attention.wkv_b.*": "self_attn.kv_b_proj.*",
        "feed_forward.w1.*": _dense("gate_proj"),
        "feed_forward.w2.*": _dense("down_proj"),
        "feed_forward.w3.*": _dense("up_proj"),
        _experts("w2", "EDF"): _DOWN,
        _experts("w1", "EFD"): _UP,
        _experts("w3", "EFD"): _UP,
        "moe.router.gate.weight": f"{_GATE} | {_ROUTER}",
        "moe.expert_bias_E | moe.expert_bias": "mlp.gate.e_score_correction_bias"
        f" | {_GATE} : E | {_ROUTER} : E",
        "moe.shared_experts.w1.*": _shared("gate_proj"),
        "moe.shared_experts.w2.*": _shared("down_proj"),
        "moe.shared_experts.w3.*": _shared("up_proj"),
    },
    turned=tuple(f"moe.experts.{name}" for name in ("w1", "w2", "w3")),  # before 0.2
)
