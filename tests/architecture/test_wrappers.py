"""What wraps a model is taken off, or refused; what it leaves in names of tensors is told."""

from __future__ import annotations

import peft
import pytest
import torch
from tiny_models import WIDTH, logits, tiny_model
from torch.distributed.fsdp import fully_shard

import bmatch
from bmatch import SignedPermutation, architecture
from bmatch.architecture.wrappers import unwrapped

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def with_adapter(model, **options):
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False, **options
    )
    return peft.get_peft_model(model, config)


def random_batches(count=2):
    g = torch.Generator().manual_seed(0)
    return [torch.randint(300, (4, 64), generator=g) for _ in range(count)]


def test_what_is_not_wrapped_stays_as_it_is():
    model = tiny_model()
    for given in (model, model.config, {"model_type": "llama"}):
        assert unwrapped(given) is given


def test_compiled_and_parallel_models_are_taken_out(one_process):
    model = tiny_model()
    wrapped = (
        torch.compile(model),
        torch.nn.DataParallel(model),
        torch.nn.parallel.DistributedDataParallel(model),
        torch.nn.DataParallel(torch.compile(model)),
    )
    plain = bmatch.estimate_gauge(model, tiny_model(seed=1), random_batches())
    for wrapper in wrapped:
        assert unwrapped(wrapper) is model
        assert architecture.residual_axes(wrapper) == architecture.residual_axes(model)
        assert architecture.verify(wrapper) < 1e-4
        gauge = SignedPermutation.random(WIDTH, seed=1)
        carried = bmatch.transport.state_dict(model.state_dict(), gauge, wrapper)
        assert carried.keys() == model.state_dict().keys()
        found = bmatch.estimate_gauge(wrapper, tiny_model(seed=1), random_batches())
        assert found.gauge == plain.gauge
        assert found.score == plain.score


def test_shards_have_the_table_of_the_whole_model(one_process):
    """Gauges between such models are in tests/models/test_placed.py."""
    model, gauge = tiny_model(), SignedPermutation.random(WIDTH, seed=1)
    sharded = fully_shard(tiny_model())
    assert architecture.residual_axes(sharded) == architecture.residual_axes(model)
    carried = bmatch.transport.state_dict(model.state_dict(), gauge, sharded)
    expected = bmatch.transport.state_dict(model.state_dict(), gauge, model)
    assert all(torch.equal(carried[name], tensor) for name, tensor in expected.items())
    sharded.model.layers[1].mlp = torch.nn.Identity()
    with pytest.raises(ValueError, match="holds shards of its weights"):
        architecture.residual_axes(sharded)


def test_what_needs_whole_weights_is_refused(one_process):
    sharded = fully_shard(tiny_model())
    with pytest.raises(ValueError, match="a model under FSDP holds shards of its weights"):
        architecture.verify(sharded)
    gauge = SignedPermutation.identity(WIDTH)
    with pytest.raises(ValueError, match=r"embed_tokens\.weight is a shard of a tensor: take"):
        bmatch.transport.state_dict(sharded.state_dict(), gauge, sharded)


def test_flat_shards_are_refused():
    flat = type("FullyShardedDataParallel", (torch.nn.Module,), {"__module__": "torch.fsdp"})()
    with pytest.raises(ValueError, match="holds its weights in flat shards: shard it by"):
        architecture.residual_axes(flat)


def test_an_adapter_computes_along():
    """The gauge is that of the merged model: what the PEFT model computes, not its base."""
    adapted = with_adapter(tiny_model())
    base = tiny_model()
    assert (logits(adapted) - logits(base)).abs().max() > 0.1
    found = bmatch.estimate_gauge(adapted, base, random_batches())
    merged = adapted.merge_and_unload()
    expected = bmatch.estimate_gauge(merged, base, random_batches())
    assert found.gauge == expected.gauge
    assert abs(found.score - expected.score) < 1e-5
    unadapted = bmatch.estimate_gauge(base, base, random_batches())
    assert abs(found.score - unadapted.score) > 1e-3


def test_weights_with_an_adapter_are_refused():
    adapted = with_adapter(tiny_model())
    gauge = SignedPermutation.identity(WIDTH)
    for weights in (adapted.state_dict(), adapted.get_base_model().state_dict()):
        with pytest.raises(ValueError, match=r"take those of model\.merge_and_unload\(\)"):
            bmatch.transport.state_dict(weights, gauge, adapted)
    with pytest.raises(ValueError, match="PEFT keeps an adapter beside the weights"):
        architecture.verify(adapted)
    merged = adapted.merge_and_unload()
    assert bmatch.transport.state_dict(merged.state_dict(), gauge, merged)


def test_prompt_tuning_is_refused():
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    tuned = peft.get_peft_model(tiny_model(), config)
    with pytest.raises(ValueError, match="PROMPT_TUNING reads tokens of its own before the text"):
        bmatch.estimate_gauge(tuned, tiny_model(), random_batches())


@pytest.mark.parametrize(
    ("prefix", "advice"),
    [
        ("_orig_mod.", r"torch\.compile wraps the model: take those of model\._orig_mod"),
        ("module.", r"DataParallel or DistributedDataParallel wraps .* model\.module"),
        ("module._orig_mod.", r"torch\.compile wraps the model"),
        ("base_model.model.", r"PEFT keeps an adapter .*merge_and_unload"),
        ("_fsdp_wrapped_module.", r"FSDP wraps the model: take its full state dict"),
    ],
)
def test_prefixes_in_names_are_told(prefix, advice):
    model = tiny_model()
    axes = architecture.residual_axes(model)
    with pytest.raises(ValueError, match=f"34 tensors are not in the table .*; {advice}"):
        axes.require_names(prefix + name for name in model.state_dict() if name != "lm_head.weight")
