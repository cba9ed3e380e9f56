"""Adapters on a base model in other coordinates: PEFT loads them, and the logits are the same."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import gguf
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, WIDTH, in_gauge, logits, tiny_model

from bmatch import SignedPermutation, architecture
from bmatch.transport.adapters import adapter, find
from bmatch.transport.objects import SIDECAR, Along, carry
from bmatch.transport.peft_keys import PROMPTS, TENSORS, require_widths
from bmatch.transport.peft_refused import TUNERS

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:peft.*"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]

G = SignedPermutation.random(WIDTH, seed=7)
TURNED = SignedPermutation(SignedPermutation.random(WIDTH, seed=8).perm, -np.ones(WIDTH))
READ = ["q_proj", "gate_proj", "lm_head"]
WRITE = ["o_proj", "down_proj"]
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


def llama():
    return tiny_model(tied=False)


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    return noised(transformers.GPT2LMHeadModel(config)).eval()


def experts(config=transformers.Qwen3MoeConfig, **others):
    made = config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        **others,
    )
    return noised(transformers.AutoModelForCausalLM.from_config(made)).eval()


def experts_the_other_way_round():
    return experts(transformers.GptOssConfig)


def noised(model, seed=3):
    """All that is trained has moved."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def lora(*targets, **options):
    return peft.LoraConfig(r=3, target_modules=list(targets), **options)


SIGNED = {
    "lora": (llama, lora(*READ, *WRITE, rank_pattern={"o_proj": 5}, use_rslora=True)),
    "dora": (llama, lora(*READ, *WRITE, use_dora=True)),
    "embeddings": (llama, lora("embed_tokens", "up_proj", use_dora=True)),
    "biases": (llama, lora(*READ, *WRITE, lora_bias=True, bias="all")),
    "saved modules": (llama, lora("q_proj", modules_to_save=["norm", "lm_head", "embed_tokens"])),
    "tokens": (llama, lora("q_proj", trainable_token_indices=list(range(0, 300, 3)))),
    "pissa": (llama, lora("q_proj", "o_proj", init_lora_weights="pissa")),
    "kasa": (llama, lora("q_proj", "o_proj", kasa_config=peft.tuners.lora.KasaConfig())),
    "adalora": (llama, peft.AdaLoraConfig(total_step=10, target_modules=[*READ, *WRITE])),
    "trainable tokens": (llama, peft.TrainableTokensConfig(token_indices=list(range(99)))),
    "prompt": (llama, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)),
    "p-tuning": (
        llama,
        peft.PromptEncoderConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=8
        ),
    ),
    "experts": (experts, lora("q_proj", target_parameters=EXPERTS)),
    "transposed experts": (experts_the_other_way_round, lora("q_proj", target_parameters=EXPERTS)),
    "gpt2": (
        gpt2,
        lora("c_attn", "c_proj", "c_fc", "wpe", "lm_head", use_dora=True, bias="all"),
    ),
}
UNSIGNED = {
    "ia3": (
        llama,
        peft.IA3Config(
            target_modules=["k_proj", "v_proj", *WRITE, "up_proj"],
            feedforward_modules=["down_proj", "up_proj"],
        ),
    ),
    "prefix": (llama, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)),
    "norms": (llama, peft.LNTuningConfig(target_modules=["input_layernorm", "norm"])),
}


def trained(kind, folder):
    """A base model, an adapter's folder, and the logits of both together."""
    make, config = (SIGNED | UNSIGNED)[kind]
    base = make()
    model = noised(peft.get_peft_model(deepcopy(base), deepcopy(config)))
    model.eval().save_pretrained(folder)
    return base, logits(model)


def gauge_of(kind):
    return TURNED if kind == "gpt2" else G


def loaded(base, folder):
    return logits(peft.PeftModel.from_pretrained(base, folder).eval())


def distance(one, other):
    return float((one - other).norm() / other.norm())


def config_of(model):
    return model.config.to_dict()


@pytest.mark.parametrize("kind", SIGNED | UNSIGNED)
def test_peft_loads_what_was_carried_and_computes_the_same(kind, tmp_path):
    g = gauge_of(kind)
    base, wanted = trained(kind, tmp_path / "here")
    found = find(tmp_path / "here", config_of(base))
    assert found.width == WIDTH
    carry(found, g, tmp_path / "there")
    assert distance(loaded(in_gauge(base, g), tmp_path / "there"), wanted) < 1e-4

    first = load_file(tmp_path / "here" / "adapter_model.safetensors")
    there = load_file(tmp_path / "there" / "adapter_model.safetensors")
    assert any(not torch.equal(first[name], there[name]) for name in first) == (kind != "prefix")
    again = find(tmp_path / "there", config_of(base))
    carry(again, g.inverse(), tmp_path / "back")
    back = load_file(tmp_path / "back" / "adapter_model.safetensors")
    assert list(back) == list(first)
    for name, tensor in first.items():
        assert torch.equal(tensor.view(torch.int32), back[name].view(torch.int32))
    texts = [(tmp_path / f / "adapter_config.json").read_text() for f in ("here", "there")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("kind", SIGNED)
def test_without_signs_it_is_another_adapter(kind, tmp_path):
    g = gauge_of(kind)
    base, wanted = trained(kind, tmp_path / "here")
    found = find(tmp_path / "here", config_of(base))
    carry(found, SignedPermutation(g.perm), tmp_path / "there")
    assert distance(loaded(in_gauge(base, g), tmp_path / "there"), wanted) > 1e-3


def test_magnitudes_and_scales_keep_their_signs(tmp_path):
    base, _ = trained("dora", tmp_path / "here")
    tensors = load_file(tmp_path / "here" / "adapter_model.safetensors")
    moved = adapter(tensors, SIGNED["dora"][1], G, base)
    perm = torch.tensor(np.array(G.perm))
    for name, tensor in tensors.items():
        if name.endswith("down_proj.lora_magnitude_vector"):
            assert torch.equal(moved[name], tensor[perm])
        if name.endswith("q_proj.lora_magnitude_vector"):
            assert moved[name] is tensor


def test_in_memory_as_in_files(tmp_path):
    base, _ = trained("lora", tmp_path / "here")
    carry(find(tmp_path / "here", config_of(base)), G, tmp_path / "there")
    tensors = load_file(tmp_path / "here" / "adapter_model.safetensors")
    moved = adapter(tensors, SIGNED["lora"][1], G, base)
    there = load_file(tmp_path / "there" / "adapter_model.safetensors")
    assert all(torch.equal(moved[name], there[name]) for name in tensors)
    with pytest.raises(ValueError, match="the gauge acts on 16 coordinates"):
        adapter(tensors, SIGNED["lora"][1], SignedPermutation.random(16, seed=0), base)


def test_pickled_weights_are_carried_too(tmp_path):
    base, wanted = trained("lora", tmp_path / "here")
    tensors = load_file(tmp_path / "here" / "adapter_model.safetensors")
    torch.save(tensors, tmp_path / "here" / "adapter_model.bin")
    (tmp_path / "here" / "adapter_model.safetensors").unlink()
    carry(find(tmp_path / "here", config_of(base)), G, tmp_path / "there")
    assert (tmp_path / "there" / SIDECAR).is_file()
    assert distance(loaded(in_gauge(base, G), tmp_path / "there"), wanted) < 1e-4


@pytest.mark.filterwarnings("ignore:The following .*_pattern keys:RuntimeWarning")
def test_experts_apart_as_transformers_4_had_them(tmp_path):
    base = experts(transformers.MixtralConfig)
    shapes = {"q_proj": (WIDTH, WIDTH), "w1": (WIDTH, 24), "w2": (24, WIDTH), "w3": (WIDTH, 24)}
    modules = ["self_attn.q_proj"]
    modules += [f"block_sparse_moe.experts.{e}.w{k}" for e in range(4) for k in (1, 2, 3)]
    tensors = {}
    for seed, module in enumerate(modules):
        taken, given = shapes[module.rpartition(".")[2]]
        name = f"base_model.model.model.layers.0.{module}"
        draw = torch.Generator().manual_seed(seed)
        tensors[f"{name}.lora_A.weight"] = 0.3 * torch.randn(3, taken, generator=draw)
        tensors[f"{name}.lora_B.weight"] = 0.3 * torch.randn(given, 3, generator=draw)
    (tmp_path / "here").mkdir()
    save_file(tensors, tmp_path / "here" / "adapter_model.safetensors")
    (tmp_path / "here" / "adapter_config.json").write_text("{}")
    change(tmp_path / "here", peft_type="LORA", r=3, target_modules=list(shapes))
    carry(find(tmp_path / "here", config_of(base)), G, tmp_path / "there")
    turned = in_gauge(base, G)
    wanted = loaded(base, tmp_path / "here")
    assert distance(loaded(turned, tmp_path / "there"), wanted) < 1e-4


def test_the_base_model_is_read_where_the_adapter_says(tmp_path):
    base, _ = trained("lora", tmp_path / "here")
    with pytest.raises(ValueError, match="--model"):
        find(tmp_path / "here", None)
    base.config.save_pretrained(tmp_path / "base")
    change(tmp_path / "here", base_model_name_or_path=str(tmp_path / "base"))
    assert find(tmp_path / "here", None).where["architecture"] == "llama"


def test_layernorm_models_refuse_single_signs(tmp_path):
    base, _ = trained("gpt2", tmp_path / "here")
    found = find(tmp_path / "here", config_of(base))
    with pytest.raises(ValueError, match="subtract the mean"):
        carry(found, G, tmp_path / "there")
    assert not (tmp_path / "there").exists()


def change(folder, **fields):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"peft_type": "OFT"}, "peft_type OFT are not carried: .* blocks"),
        ({"peft_type": "NEWEST"}, "peft_type NEWEST are not known"),
        ({"init_lora_weights": "olora"}, "'olora': .* QR"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"use_qalora": True}, "use_qalora"),
        ({"peft_type": "IA3"}, "not known: .*lora_A"),
    ],
)
def test_other_configurations_are_refused_by_name(fields, told, tmp_path):
    base, _ = trained("lora", tmp_path / "here")
    change(tmp_path / "here", **fields)
    with pytest.raises(ValueError, match=told):
        find(tmp_path / "here", config_of(base))


def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path):
    base, _ = trained("lora", tmp_path / "here")
    with pytest.raises(ValueError, match="of another model"):
        find(tmp_path / "here", tiny_model(hidden_size=64).config.to_dict())
    file = tmp_path / "here" / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"base_model.model.model.layers.0.odd.lora_A.weight": torch.ones(2)}, file)
    with pytest.raises(ValueError, match=r"layers\.0\.odd"):
        find(tmp_path / "here", config_of(base))
    save_file(tensors, file)
    torch.save({"state": {}}, tmp_path / "here" / "optimizer.pt")
    with pytest.raises(ValueError, match=r"optimizer\.pt lies beside"):
        find(tmp_path / "here", config_of(base))
    file.unlink()
    with pytest.raises(ValueError, match="and no weights"):
        find(tmp_path / "here", config_of(base))


def test_an_axis_that_has_the_stream_twice_is_refused_as_such():
    table = architecture.residual_axes({"model_type": "llama", "hidden_size": WIDTH})
    doubled = [
        replace(rule, shape="any any:D,D") if rule.name.endswith("q_proj.weight") else rule
        for rule in table.rules
    ]
    axes = replace(table, family=replace(table.family, rules=tuple(doubled)))
    shapes = {"a": (4, 2 * WIDTH)}
    known = {"a": Along(((1, True),))}
    with pytest.raises(ValueError, match=r"carry it 2 times over.*merge the adapter"):
        require_widths(shapes, known, axes)
    with pytest.raises(ValueError, match="of another model"):
        require_widths(shapes, known, table)
    with pytest.raises(ValueError, match="of another model"):
        require_widths({"a": (4, 3 * WIDTH)}, known, axes)


def test_what_is_no_adapter_is_left_to_others(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert find(tmp_path, None) is None
    assert find(tmp_path / "config.json", None) is None


def test_every_tuner_of_peft_is_carried_or_has_a_reason():
    known = {*TENSORS, *PROMPTS}
    assert not known & TUNERS.keys()
    assert {kind.value for kind in peft.PeftType} <= known | TUNERS.keys()


NAMES = {
    "model.embed_tokens": "token_embd",
    "model.layers.0.self_attn.q_proj": "blk.0.attn_q",
    "model.layers.1.mlp.down_proj": "blk.1.ffn_down",
}


def write_gguf(tensors, path):
    """As convert_lora_to_gguf.py does."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    for module, name in NAMES.items():
        for letter in "ab":
            for key in (f"lora_{letter.upper()}.weight", f"lora_embedding_{letter.upper()}"):
                found = tensors.get(f"base_model.model.{module}.{key}")
                if found is not None:
                    flipped = found.T if key == "lora_embedding_A" else found
                    writer.add_tensor(f"{name}.weight.lora_{letter}", flipped.numpy().copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path):
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def test_a_lora_for_llama_cpp_moves_as_the_one_that_it_was_made_from(tmp_path):
    base = llama()
    config = lora("embed_tokens", "q_proj", "down_proj")
    tensors = peft.get_peft_model_state_dict(
        noised(peft.get_peft_model(base, config)), save_embedding_layers=False
    )
    write_gguf(tensors, tmp_path / "a.gguf")
    write_gguf(adapter(tensors, config, G, base), tmp_path / "b.gguf")
    with pytest.raises(ValueError, match="--model"):
        find(tmp_path / "a.gguf", None)
    found = find(tmp_path / "a.gguf", config_of(base))
    carry(found, G, tmp_path / "c.gguf")
    wanted, made = read_gguf(tmp_path / "b.gguf"), read_gguf(tmp_path / "c.gguf")
    assert len(wanted) == 6
    for name, array in wanted.items():
        assert np.array_equal(array, made[name])
    carry(find(tmp_path / "c.gguf", config_of(base)), G.inverse(), tmp_path / "d.gguf")
    assert (tmp_path / "d.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()


def test_gguf_tensors_that_no_table_has_are_refused(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_tensor("blk.0.odd.weight.lora_a", np.ones((2, WIDTH), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"blk\.0\.odd"):
        find(tmp_path / "a.gguf", config_of(llama()))
