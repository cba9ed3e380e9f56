"""Names that Megatron-core gives to the tensors of models like Llama, in ``torch_dist`` folders.

Gains lie in the module that follows the norm, as Transformer Engine has it, or in modules of their
own. Queries, keys and values lie in one matrix, group by group, and gate above up, in rows that
the stream does not see. Rows of tokens are padded. As in megatron-core 0.16.
"""

from __future__ import annotations

from bmatch.architecture.spellings import Spelling

_UP = "{0}.gate_proj.{1} + {0}.up_proj.{1}"
_MLP, _MOE = ("mlp", "feed_forward"), ("mlp.experts", "feed_forward.experts")
_SHARED = ("mlp.shared_experts", "mlp.shared_expert", "feed_forward.shared_expert")


def _either(part: str, places: tuple[str, ...]) -> str:
    return " | ".join(part.format(place, "*") for place in places)


def _gated(place: str, found: tuple[str, ...], fused: str = "") -> dict[str, str]:
    """A gated network: gate and up as one matrix, or as two (``singleton_local_shards``)."""
    return {
        f"{place}.linear_fc1.*": _either(_UP, found) + fused,
        f"{place}.linear_fc1.*_w": _either("{0}.gate_proj.{1}", found),
        f"{place}.linear_fc1.*_v": _either("{0}.up_proj.{1}", found),
        f"{place}.linear_fc2.*": _either("{0}.down_proj.{1}", found),
    }


_EXPERTS = "mlp.experts.experts"

MEGATRON = Spelling(
    "Megatron-core",
    "embedding.word_embeddings.weight",
    "decoder.layers",
    {
        "embedding.word_embeddings.weight": "embed_tokens.weight : any D",
        "decoder.final_layernorm.* | decoder.final_norm.*": "norm.*",
        "output_layer.weight": "lm_head.weight : any D",
    },
    {
        "self_attention.linear_qkv.layer_norm_* | input_layernorm.*": "input_layernorm.*",
        "mlp.linear_fc1.layer_norm_* | pre_mlp_layernorm.*": "post_attention_layernorm.*",
        "self_attention.linear_qkv.*": " + ".join(f"self_attn.{x}_proj.*" for x in "qkv")
        + " | self_attn.qkv_proj.*",
        "self_attention.linear_proj.*": "self_attn.o_proj.*",
        "self_attention.q_layernorm.*": "self_attn.q_norm.* | self_attn.q_a_layernorm.*",
        "self_attention.linear_q_up_proj.layer_norm_*": "self_attn.q_a_layernorm.*",
        "self_attention.k_layernorm.*": "self_attn.k_norm.*",
        "self_attention.linear_q_proj.*": "self_attn.q_proj.*",
        "self_attention.linear_q_down_proj.*": "self_attn.q_a_proj.*",
        "self_attention.linear_q_up_proj.*": "self_attn.q_b_proj.*",
        "self_attention.linear_kv_down_proj.*": "self_attn.kv_a_proj_with_mqa.*",
        "self_attention.kv_layernorm.* | self_attention.linear_kv_up_proj.layer_norm_*": (
            "self_attn.kv_a_layernorm.*"
        ),
        "self_attention.linear_kv_up_proj.*": "self_attn.kv_b_proj.*",
        **_gated("mlp", _MLP, " | mlp.gate_up_proj.*"),
        **_gated("mlp.shared_experts", _SHARED),
        "mlp.shared_experts.gate_weight": "mlp.shared_expert_gate.weight",
        "mlp.router.weight": "mlp.gate.weight | feed_forward.router.weight",
        "mlp.router.expert_bias": "mlp.gate.e_score_correction_bias | mlp.gate.weight : E",
        f"{_EXPERTS}.linear_fc1.weight": _either("{0}.gate_up_proj : E F D", _MOE),
        f"{_EXPERTS}.linear_fc2.weight": _either("{0}.down_proj : E D F", _MOE),
        f"{_EXPERTS}.{{}}.linear_fc1.weight": _either("{0}.gate_up_proj : F D", _MOE),
        f"{_EXPERTS}.{{}}.linear_fc1.weight_w": _either("{0}.down_proj : F D", _MOE),
        f"{_EXPERTS}.{{}}.linear_fc1.weight_v": _either("{0}.down_proj : F D", _MOE),
        f"{_EXPERTS}.{{}}.linear_fc2.weight": _either("{0}.down_proj : D F", _MOE),
    },
    stacks=True,
)
