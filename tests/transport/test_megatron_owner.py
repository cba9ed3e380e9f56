"""Runs of Megatron-core: written by it, carried, and gone on with by it."""

from __future__ import annotations

import contextlib
import json
import types

import pytest
import torch
import transformers

from bmatch import SignedPermutation, transport

pytestmark = [pytest.mark.owners, pytest.mark.filterwarnings("ignore")]  # of the package's

D, F, EXPERTS, TOKENS = 16, 24, 4, 64
GAUGE = SignedPermutation.random(D, seed=1)


@pytest.fixture
def _megatron(monkeypatch):
    """Its process groups, of one process; what asks for a GPU is told of the CPU."""
    pytest.importorskip("megatron.core")
    from megatron.core import parallel_state, tensor_parallel
    from megatron.core.transformer.moe import moe_utils

    tracker = types.SimpleNamespace(fork=lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: "cpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(tensor_parallel, "get_cuda_rng_tracker", lambda *_, **__: tracker)
    monkeypatch.setattr(moe_utils, "te_general_gemm", None, raising=False)
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    parallel_state.initialize_model_parallel(1, 1)
    yield
    parallel_state.destroy_model_parallel()
    torch.distributed.destroy_process_group()


def gpt(experts, seed):
    """A model of two blocks and its optimizer."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.models.gpt.gpt_model import GPTModel
    from megatron.core.transformer.transformer_config import TransformerConfig

    moe = {
        "num_moe_experts": EXPERTS,
        "moe_router_topk": 2,
        "moe_ffn_hidden_size": F,
        "moe_token_dispatcher_type": "allgather",
        "moe_router_load_balancing_type": "none",
    }
    config = TransformerConfig(
        num_layers=2,
        hidden_size=D,
        num_attention_heads=4,
        num_query_groups=2,
        ffn_hidden_size=F,
        use_cpu_initialization=True,
        normalization="RMSNorm",
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        **(moe if experts else {}),
    )
    spec = get_gpt_layer_local_spec(
        num_experts=EXPERTS if experts else None, normalization="RMSNorm"
    )
    torch.manual_seed(seed)
    model = GPTModel(config, spec, TOKENS, 32, position_embedding_type="rope")
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape)
            parameter.copy_(0.3 * noise if parameter.ndim > 1 else 1 + 0.4 * noise)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4)


def asked(model, seed, **labels):
    """Logits, or losses where there are labels."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(TOKENS, (2, 12), generator=generator)
    later = torch.ones(1, 1, 12, 12, dtype=torch.bool).triu(1)
    given = {"labels": tokens} if labels else {}
    return model(tokens, torch.arange(12).expand(2, -1), later, **given)


def stepped(model, optimizer, seeds):
    for seed in seeds:
        optimizer.zero_grad()
        asked(model, seed, labels=True).mean().backward()
        optimizer.step()


def as_shards(model, optimizer, form):
    """What is saved and loaded, as Megatron's optimizers in float32 do it."""
    from megatron.core.dist_checkpointing import optimizer as sharding

    weights = model.sharded_state_dict(metadata=dict(form))
    whose = sharding.get_param_id_to_sharded_param_map(
        model.sharded_state_dict(metadata=dict(form)), iter(model.parameters())
    )
    state = optimizer.state_dict()
    sharding.optim_state_to_sharding_state(state, whose, exclude_keys=("step",))
    return {"model": weights, "optimizer": state, "iteration": 2}


@pytest.mark.parametrize(
    "form", [{}, {"non_homogeneous_layers": True}, {"singleton_local_shards": True}]
)
@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.usefixtures("_megatron")
def test_a_run_of_megatron_goes_on(tmp_path, experts, form):
    from megatron.core import dist_checkpointing

    model, optimizer = gpt(experts, seed=0)
    stepped(model, optimizer, (0, 1))
    (tmp_path / "a").mkdir()
    dist_checkpointing.save(as_shards(model, optimizer, form), str(tmp_path / "a"))
    kind = transformers.MixtralConfig if experts else transformers.LlamaConfig
    config = kind(
        vocab_size=TOKENS - 3,  # Megatron pads
        hidden_size=D,
        intermediate_size=F,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        **({"num_local_experts": EXPERTS} if experts else {}),
    )
    (tmp_path / "a" / "config.json").write_text(json.dumps(config.to_dict()))
    transport.trainer_checkpoint(tmp_path / "a", GAUGE, tmp_path / "b")

    other, stepping = gpt(experts, seed=1)
    stepped(other, stepping, (7,))
    loaded = dist_checkpointing.load(as_shards(other, stepping, form), str(tmp_path / "b"))
    other.load_state_dict(loaded["model"])
    for kept in loaded["optimizer"]["state"].values():
        kept["step"] = torch.tensor(2.0)
    stepping.load_state_dict(loaded["optimizer"])
    assert loaded["iteration"] == 2

    def require_alike():
        one, found = (asked(m, 9).detach() for m in (model, other))
        assert torch.allclose(one, found, atol=1e-4 * float(one.abs().max()))
        rows, moved = (m.embedding.word_embeddings.weight.detach() for m in (model, other))
        assert torch.allclose(GAUGE.apply(rows), moved, atol=1e-5)
        assert not torch.allclose(rows, moved, atol=0.1)

    require_alike()
    stepped(model, optimizer, (2, 3, 4))
    stepped(other, stepping, (2, 3, 4))
    require_alike()
