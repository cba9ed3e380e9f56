"""Tensors of transformers' models as torchtitan and Megatron-core have them, and back."""

from __future__ import annotations

import re

import torch

_TITAN = {
    "model.embed_tokens": "tok_embeddings",
    "model.norm": "norm",
    "model.layers": "layers",
    "self_attn.q_proj": "attention.qkv_linear.wq",
    "self_attn.k_proj": "attention.qkv_linear.wk",
    "self_attn.v_proj": "attention.qkv_linear.wv",
    "self_attn.q_a_proj": "attention.wq_a",
    "self_attn.q_b_proj": "attention.wq_b",
    "self_attn.q_a_layernorm": "attention.q_norm",
    "self_attn.kv_a_proj_with_mqa": "attention.wkv_a",
    "self_attn.kv_a_layernorm": "attention.kv_norm",
    "self_attn.kv_b_proj": "attention.wkv_b",
    "self_attn.o_proj": "attention.wo",
    "self_attn": "attention",
    "mlp.gate.e_score_correction_bias": "moe.expert_bias_E",
    "mlp.gate.": "moe.router.gate.",
    "feed_forward.router.": "moe.router.gate.",
    "mlp.experts": "moe.experts",
    "feed_forward.experts": "moe.experts",
    "mlp.shared_experts": "moe.shared_experts",
    "feed_forward.shared_expert.": "moe.shared_experts.",
    "mlp.": "feed_forward.",
    "gate_proj": "w1",
    "down_proj.": "w2.",
    "up_proj.": "w3.",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}


def torchtitan(tensors, config):
    """Tensors by names of transformers, as torchtitan 0.3 has them."""
    made = {}
    turned = config.model_type == "llama4_text"  # which has experts as [E, D, F]
    for full, tensor in tensors.items():
        name = full
        for ours, theirs in _TITAN.items():
            name = name.replace(ours, theirs)
        if name.endswith("experts.gate_up_proj"):
            gate, up = (tensor.mT if turned else tensor).chunk(2, 1)
            place = name.removesuffix("gate_up_proj")
            made |= {f"{place}w1_EFD": gate.contiguous(), f"{place}w3_EFD": up.contiguous()}
        elif name.endswith("experts.down_proj"):
            place = name.removesuffix("down_proj")
            made[f"{place}w2_EDF"] = (tensor.mT if turned else tensor).contiguous()
        else:
            made[name] = tensor
    return made


def from_torchtitan(tensors, config):
    """The inverse of `torchtitan`."""
    place = "feed_forward" if config.model_type == "llama4_text" else "mlp"
    turned = config.model_type == "llama4_text"
    latent = "layers.0.attention.wkv_a.weight" in tensors
    shared = "shared_expert." if turned else "shared_experts."
    back = {
        **{f"attention.qkv_linear.w{x}": f"self_attn.{x}_proj" for x in "qkv"},
        **{"attention.wq_a": "self_attn.q_a_proj", "attention.wq_b": "self_attn.q_b_proj"},
        "attention.wkv_a": "self_attn.kv_a_proj_with_mqa",
        "attention.wkv_b": "self_attn.kv_b_proj",
        "attention.kv_norm": "self_attn.kv_a_layernorm",
        "attention.wo": "self_attn.o_proj",
        "attention.q_norm": "self_attn.q_a_layernorm" if latent else "self_attn.q_norm",
        "attention.k_norm": "self_attn.k_norm",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "moe.expert_bias_E": f"{place}.gate.e_score_correction_bias",
        "moe.router.gate.": f"{place}.router." if turned else f"{place}.gate.",
        "moe.shared_experts.": f"{place}.{shared}",
        "feed_forward.w": f"{place}.w",
        "w1.": "gate_proj.",
        "w2.": "down_proj.",
        "w3.": "up_proj.",
    }
    made = {}
    for full, tensor in tensors.items():
        name = full.replace("tok_embeddings", "model.embed_tokens")
        name = re.sub(r"^(layers|norm)\.", r"model.\1.", name)
        if "w3_EFD" in name:
            continue
        if "w1_EFD" in name:
            both = torch.cat([tensor, tensors[full.replace("w1", "w3")]], 1)
            name = re.sub(r"moe\.experts\.\w+", f"{place}.experts.gate_up_proj", name)
            made[name] = both.mT.contiguous() if turned else both
        elif "w2_EDF" in name:
            name = re.sub(r"moe\.experts\.\w+", f"{place}.experts.down_proj", name)
            made[name] = tensor.mT.contiguous() if turned else tensor
        else:
            for theirs, ours in back.items():
                name = name.replace(theirs, ours)
            made[name] = tensor
    return made


def _block(found, config, norms, halves):
    """The tensors of one block, by names below it."""
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    q, k, v = (found[f"self_attn.{x}_proj.weight"] for x in "qkv")
    per = [x.reshape(groups, -1, x.shape[-1]) for x in (q, k, v)]  # a query group after the other
    assert per[0].shape[1] == heads // groups * per[1].shape[1]
    inner = norms == "fused"
    before = "self_attention.linear_qkv.layer_norm_weight" if inner else "input_layernorm.weight"
    experts = "mlp.experts.gate_up_proj" in found
    fused = inner and not experts
    between = "mlp.linear_fc1.layer_norm_weight" if fused else "pre_mlp_layernorm.weight"
    made = {
        before: found["input_layernorm.weight"],
        between: found["post_attention_layernorm.weight"],
        "self_attention.linear_qkv.weight": torch.cat(per, 1).reshape(-1, q.shape[-1]),
        "self_attention.linear_proj.weight": found["self_attn.o_proj.weight"],
    }
    for x in "qk":
        if f"self_attn.{x}_norm.weight" in found:
            made[f"self_attention.{x}_layernorm.weight"] = found[f"self_attn.{x}_norm.weight"]
    if experts:
        up, down = found["mlp.experts.gate_up_proj"], found["mlp.experts.down_proj"]
        made["mlp.router.weight"] = found["mlp.gate.weight"]
        place = "mlp.experts.experts"
        if halves:
            for e in range(len(up)):
                gate, rest = up[e].chunk(2)
                made[f"{place}.{e}.linear_fc1.weight_w"] = gate.contiguous()
                made[f"{place}.{e}.linear_fc1.weight_v"] = rest.contiguous()
                made[f"{place}.{e}.linear_fc2.weight"] = down[e].clone()
        else:
            made |= {f"{place}.linear_fc1.weight": up, f"{place}.linear_fc2.weight": down}
        return made
    gate, up = found["mlp.gate_proj.weight"], found["mlp.up_proj.weight"]
    first = "mlp.linear_fc1.weight"
    made |= {f"{first}_w": gate, f"{first}_v": up} if halves else {first: torch.cat([gate, up])}
    return {**made, "mlp.linear_fc2.weight": found["mlp.down_proj.weight"]}


def megatron(tensors, config, stacked, norms="fused", halves=False, padding=0):
    """Tensors by names of transformers, as Megatron-core has them.

    Gains are in the module after the norm (`norms` "fused") or in the norm ("own"); gate and up are
    one matrix or `halves`; tables of tokens have rows of zeros at the end.
    """
    blocks = []
    for number in range(config.num_hidden_layers):
        place = f"model.layers.{number}."
        inside = {n.removeprefix(place): t for n, t in tensors.items() if n.startswith(place)}
        blocks.append(_block(inside, config, norms, halves))

    def padded(tensor):
        return torch.cat([tensor, tensor.new_zeros(padding, tensor.shape[1])])

    made = {
        "embedding.word_embeddings.weight": padded(tensors["model.embed_tokens.weight"]),
        "decoder.final_layernorm.weight": tensors["model.norm.weight"],
    }
    if "lm_head.weight" in tensors:
        made["output_layer.weight"] = padded(tensors["lm_head.weight"])
    if stacked:
        stacks = {n: torch.stack([block[n] for block in blocks]) for n in blocks[0]}
        return made | {f"decoder.layers.{n}": tensor for n, tensor in stacks.items()}
    for number, block in enumerate(blocks):
        made |= {f"decoder.layers.{number}.{n}": tensor for n, tensor in block.items()}
    return made


def from_megatron(tensors, config):
    """The inverse of `megatron` for dense models without padding."""
    groups, dim = config.num_key_value_heads, config.hidden_size
    made = {
        "model.embed_tokens.weight": tensors["embedding.word_embeddings.weight"],
        "model.norm.weight": tensors["decoder.final_layernorm.weight"],
        "lm_head.weight": tensors["output_layer.weight"],
    }
    for number in range(config.num_hidden_layers):
        place = f"decoder.layers.{number}."
        block = {n.removeprefix(place): t for n, t in tensors.items() if n.startswith(place)}
        block = block or {
            n.removeprefix("decoder.layers."): t[number]
            for n, t in tensors.items()
            if n.startswith("decoder.layers.")
        }
        first = "mlp.linear_fc1.weight"
        if first in block:
            gate, up = block[first].chunk(2)
        else:
            gate, up = block[f"{first}_w"], block[f"{first}_v"]
        share = config.head_dim * config.num_attention_heads // groups
        rows = block["self_attention.linear_qkv.weight"].reshape(groups, -1, dim)
        q, k, v = rows.split([share, config.head_dim, config.head_dim], 1)
        norms = ("self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight")
        after = ("mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight")
        found = {
            "input_layernorm": next(block[n] for n in norms if n in block),
            "post_attention_layernorm": next(block[n] for n in after if n in block),
            **{
                f"self_attn.{x}_proj": t.reshape(-1, dim)
                for x, t in zip("qkv", (q, k, v), strict=True)
            },
            "self_attn.o_proj": block["self_attention.linear_proj.weight"],
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block["mlp.linear_fc2.weight"],
        }
        made |= {f"model.layers.{number}.{n}.weight": t.clone() for n, t in found.items()}
    return made
