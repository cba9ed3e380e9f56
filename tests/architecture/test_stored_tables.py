"""Tables as files: those that come with bmatch, and which configs they are for."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from tiny_models import CONFIGS, tiny_model

from bmatch import SignedPermutation, architecture
from bmatch.architecture.plans import agreement
from bmatch.architecture.shrink import with_fields
from bmatch.architecture.stored import FOLDER, from_text, shipped, stored, to_text
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import covering, generic_model, inputs_for, randomise

# What a llama is, as its paper and its code have it: who reads the stream, and who writes it.
READS = r"embed_tokens|lm_head|[qkv]_proj|gate_proj|up_proj"
WRITES = r"o_proj|down_proj"
GAINS = r"input_layernorm|post_attention_layernorm|model\.norm"


def expected(name):
    """Axes of a llama-like model's tensor that carry the stream, and whether with signs."""
    place, _, kind = name.rpartition(".")
    if re.search(rf"({GAINS})$", place):
        return ((0, False),)
    if re.search(rf"({READS})$", place):
        return () if kind == "bias" else ((1, True),)
    if re.search(rf"({WRITES})$", place):
        return ((0, True),)
    assert re.search("[qk]_norm$", place)
    return ()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_llama_and_its_like(model_type, tied):
    model = tiny_model(model_type, tied)
    axes = architecture.residual_axes(model)
    assert axes.family == stored(model_type).family
    for name, tensor in model.state_dict().items():
        assert axes.rule(name).axes == expected(name), name
        assert len(axes.rule(name).words) == tensor.ndim
    size = model.config.hidden_size
    for head in ("score.weight", "v_head.summary.weight"):
        assert axes.rule(head).axes == ((1, True),)
    for buffer in ("model.rotary_emb.inv_freq", "model.layers.1.self_attn.rotary_emb.inv_freq"):
        assert axes.rule(buffer).role == "inner"
        axes.require_shapes({buffer: (4,)})
    assert (axes.dim, axes.group) == (size, "signed_permutation")


KINDS = ["linear_attention", "moe", "full_attention", "mlp"]


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("falcon_mamba", {"num_hidden_layers": 3, "state_size": 12, "time_step_rank": 7}),
        ("longcat_flash", {"num_layers": 3, "n_routed_experts": 12, "v_head_dim": 12}),
        ("zamba", {"hidden_size": 64, "attention_hidden_size": 128, "attention_head_dim": 32}),
        ("zamba", {"num_hidden_layers": 7, "mamba_d_state": 12, "num_key_value_heads": 4}),
        ("zamba2", {"num_hidden_layers": 8, "num_mem_blocks": 2, "intermediate_size": 40}),
        ("zamba2", {"adapter_rank": 12, "mamba_d_state": 12, "num_key_value_heads": 4}),
        ("dots1", {"num_hidden_layers": 4, "first_k_dense_replace": 2, "attention_bias": True}),
        ("llama4_text", {"num_hidden_layers": 5, "num_local_experts": 6}),
        ("nemotron_h", {"layers_block_type": KINDS[:3] * 2, "moe_intermediate_size": 20}),
        ("nemotron_h", {"layers_block_type": KINDS[::-1] + KINDS[1:], "n_routed_experts": 12}),
    ],
)
def test_all_spaces_at_once_in_other_sizes(model_type, changes):
    config, build = config_and_class(model_type)
    model = generic_model(with_fields(covering(config, build), changes), build)
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    axes = stored(model_type).table(model.config.to_dict())
    gauges = {}
    for seed, space in enumerate(axes.spaces({n: tuple(t.shape) for n, t in tensors.items()})):
        gauge = SignedPermutation.random(space.size, seed=seed)
        signs = gauge.sign if space.group == "signed_permutation" else np.ones(space.size)
        gauges[space.name] = SignedPermutation(gauge.perm, signs)
    inputs = inputs_for(model)
    with torch.no_grad():
        before = model(**inputs).logits
        model.load_state_dict({n: axes.transform(n, t, gauges) for n, t in tensors.items()})
        after = model(**inputs).logits
    assert (after - before).abs().max() < 1e-4 * before.abs().max()
    assert len(gauges) > 2 * 3
    moved = [n for n, t in model.state_dict().items() if axes.rule(n).role != "inner"]
    with torch.no_grad():  # all are moved, but for one that carries the stream
        model.load_state_dict({moved[1]: tensors[moved[1]]}, strict=False)
        assert (model(**inputs).logits - before).abs().max() > 1e-2 * before.abs().max()


def test_the_most_common_types_come_with_bmatch():
    assert len(shipped()) >= 60
    assert {"llama", "gemma3_text", "gpt2", "mixtral", "bert", "t5", "mamba"} <= set(shipped())


@pytest.mark.parametrize("model_type", shipped())
def test_files_are_whole(model_type):
    table = stored(model_type)
    assert table.model_type == model_type
    text = (FOLDER / f"{model_type}.json").read_text()
    assert to_text(from_text(text)) == text
    lines = text.splitlines()
    assert sum(line.startswith('    "') for line in lines) >= len(table.family.rules)
    assert table.proved["alone"] <= 1e-4
    assert table.proved["together"] <= 1e-4
    assert table.family.kinds[0].key == "D"
    axes = table.table({"model_type": model_type})  # all is left out
    names = {name for rule in axes.rules for name in axes.names(rule) if "{" not in name}
    axes.require_names(names - {"score.weight"})


PLANNED = [t for t in shipped() if getattr(transformers.CONFIG_MAPPING[t], "base_model_tp_plan", 0)]


@pytest.mark.parametrize("model_type", PLANNED)
def test_plans_for_tensor_parallelism_say_the_same(model_type):
    plan = transformers.CONFIG_MAPPING[model_type].base_model_tp_plan
    found = agreement(stored(model_type).family, plan)
    assert not found.other
    # Latents that attention goes through are split, too.
    assert all(re.search(r"[qk]v?_[ab]_proj|norm", name) for name in found.inside)


def test_plans_of_wrong_tables_differ():
    llama = stored("llama").family
    rules = [dataclasses.replace(r, shape=" ".join(reversed(r.shape.split()))) for r in llama.rules]
    wrong = dataclasses.replace(llama, rules=tuple(rules))
    plan = transformers.LlamaConfig.base_model_tp_plan
    assert len(agreement(llama, plan).same) == len(agreement(wrong, plan).other) == 7


def test_configs_of_another_structure_are_not_taken():
    table = stored("llama")
    config = transformers.LlamaConfig(num_hidden_layers=3).to_dict()
    assert table.fits(config)
    assert table.fits({**config, "hidden_act": "gelu", "attention_bias": True})
    assert table.fits({"model_type": "llama", "some_note": "nothing to the model"})
    assert not table.fits({**config, "hidden_act": "tanh"})
    assert not table.fits({**config, "mlp_bias": "perhaps"})
    gemma = stored("gemma3_text")
    assert gemma.fits({"layer_types": ["full_attention", "sliding_attention"]})
    assert not gemma.fits({"layer_types": ["full_attention", "linear_attention"]})
    assert stored("opt").fits({"hidden_size": 64, "word_embed_proj_dim": 64})
    assert not stored("opt").fits({"hidden_size": 64, "word_embed_proj_dim": 32})
    assert not stored("qwen2_moe").fits({"mlp_only_layers": [0]})
    assert stored("../stored") is None
    assert stored("nonesuch") is None


PUBLISHED = (  # as files on the hub have them, with names of fields that are no longer read
    {"model_type": "llama", "hidden_size": 4096, "rope_scaling": None, "torch_dtype": "bfloat16"},
    {"model_type": "mistral", "hidden_size": 4096, "head_dim": None, "sliding_window": 4096},
    {"model_type": "qwen2", "hidden_size": 896, "use_mrope": False, "sliding_window": 32768},
    {"model_type": "gemma", "hidden_size": 2048, "hidden_act": "gelu", "hidden_activation": None},
    {"model_type": "gemma2", "hidden_size": 2304, "final_logit_softcapping": 30.0},
    {"model_type": "gpt2", "n_embd": 768, "n_ctx": 1024, "summary_type": "cls_index"},
    {"model_type": "phi3", "hidden_size": 3072, "sliding_window": 2047, "attention_bias": False},
    {"model_type": "opt", "hidden_size": 768, "word_embed_proj_dim": 768},
    {"model_type": "mpt", "d_model": 4096, "attn_config": {"alibi": True, "attn_impl": "torch"}},
    {"model_type": "zamba2", "hidden_size": 2560, "layers_block_type": ["mamba", "hybrid"] * 27},
    {"model_type": "llama4_text", "hidden_size": 5120, "num_hidden_layers": 24},
    {"model_type": "bert", "hidden_size": 768, "position_embedding_type": "absolute"},
)


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda config: config["model_type"])
def test_configs_as_they_are_published(config):
    table = stored(config["model_type"])
    assert table.fits(config)
    width = next(config[field] for field in ("hidden_size", "n_embd", "d_model") if field in config)
    assert table.table(config).dim == width


def test_what_is_left_out_and_what_is_null():
    axes = stored("llama").table({"hidden_size": 64, "num_attention_heads": 4, "head_dim": None})
    assert (axes.dim, axes.num_layers, axes.vocab_size) == (64, 32, 32000)
    shapes = {"model.layers.0.self_attn.k_proj.weight": (64, 64)}
    axes.require_shapes(shapes)
    grouped = stored("llama").table(
        {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    )
    with pytest.raises(ValueError, match=r"is \[64, 64\] and not \[32, 64\]"):
        grouped.require_shapes(shapes)
    assert stored("gpt2").table({"hidden_size": 64}).dim == 64  # as n_embd is called, too


def test_a_list_of_kinds_tells_how_many_layers_there_are():
    table = stored("nemotron_h")
    kinds = ["linear_attention", "mlp", "full_attention"]
    for config in (
        {"layers_block_type": kinds, "num_hidden_layers": 52},  # which the class does not read
        {"layer_types": kinds},
        {"hybrid_override_pattern": "M-*"},
        {"layers_block_type": None, "hybrid_override_pattern": "M-*"},
        {"layers_block_type": kinds, "hybrid_override_pattern": "MM"},
        {"layers_block_type": ["mamba", "mlp", "attention"]},
    ):
        read = transformers.CONFIG_MAPPING["nemotron_h"].from_dict(config)
        assert table.fits(config)
        assert table.table(config).num_layers == read.num_hidden_layers == 3
    assert not table.fits({"hybrid_override_pattern": "M?*"})
    assert not table.fits({"layers_block_type": None})
    assert not table.fits({"layers_block_type": ["convolution"]})
    with pytest.raises(ValueError, match="it has no layers_block_type"):
        table.table({"layers_block_type": 3})


def test_damaged_files_are_no_tables():
    text = (FOLDER / "llama.json").read_text()
    for damaged in ("{}", text[:-20], text.replace('"spaces"', '"places"'), "[]"):
        with pytest.raises((ValueError, KeyError, TypeError)):
            from_text(damaged)


def test_nothing_is_imported_for_them():
    code = (
        "import sys\n"
        "from bmatch.architecture import residual_axes\n"
        "for model_type in ('llama', 'smollm3', 'mixtral', 'gpt2', 't5'):\n"
        "    assert residual_axes({'model_type': model_type}).dim\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_spaces_are_those_that_derivation_finds():
    """By name, group, size and every tensor; but for those inside single heads."""
    model = tiny_model("qwen3", num_hidden_layers=3)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    derived = {space.name: space for space in architecture.derive(model.config).spaces}
    ours = architecture.residual_axes(model).spaces(shapes)
    assert {space.name.rpartition(".")[2] for space in ours} == {
        "residual",
        "mlp coordinates",
        "self_attn blocks",
    }
    assert len(ours) == 1 + 3 + 3
    for space in ours:
        twin = derived[space.name]
        assert (space.group, space.size) == (twin.group, twin.size)
        members = {m for m in space.members if m.tensor != "lm_head.weight"}  # tied
        assert members == set(twin.members)
        assert np.array_equal(space.random(1).perm, twin.random(1).perm)


@pytest.mark.parametrize(
    ("model_type", "sizes", "units"),
    [
        ("phi3", {"hidden_size": 72, "num_attention_heads": 6, "num_key_value_heads": 2}, 2),
        ("gpt_bigcode", {"n_embd": 72, "n_head": 6, "n_layer": 2}, 6),
    ],
)
def test_heads_that_lie_in_pieces_of_one_matrix(model_type, sizes, units):
    """Of the table and of derivation alike, and proved on the outputs."""
    small = {"intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 96, "pad_token_id": 0}
    config = transformers.CONFIG_MAPPING[model_type](**small, **sizes)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    randomise(model.float().eval())
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    table = stored(model_type).table(config.to_dict())
    table.require_shapes(shapes)
    heads = [space for space in table.spaces(shapes) if "attn blocks" in space.name]
    assert [space.size for space in heads] == [units] * 2
    in_part = dataclasses.replace(heads[0], name="in part", members=heads[0].members[1:])
    kept, _ = architecture.prove(model, architecture.Axes((*heads, in_part)))
    assert kept.spaces == tuple(heads)
    derived = {space.name: space for space in architecture.derive(config).spaces}
    for space in heads:
        assert set(space.members) == set(derived[space.name].members)


@pytest.mark.parametrize("model_type", shipped())
def test_embeddings_write_the_stream_with_its_signs(model_type):
    """A sign that leaves embeddings alone would be none of the stream."""
    table = stored(model_type)
    group = table.family.kinds[0].group
    words = [
        rule.words
        for rule in table.family.rules
        if re.search(r"((word|tok)_embeddings|embed_(tokens|in)|wte|shared)\.weight$", rule.name)
    ]
    signs = [word.odd for shape in words for word in shape if word.space == "D"]
    assert all(odd == (group != "permutation",) for odd in signs)
