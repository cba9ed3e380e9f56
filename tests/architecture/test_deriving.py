"""Gauge spaces derived from models: equal to the tables written by hand, and smaller where a model
computes something else."""

from __future__ import annotations

import pytest
import torch
import transformers
from tiny_models import CONFIGS, tiny_model
from torch import nn
from toy_models import NEURONS, WIDTH, Toy, rms, tokens

from bmatch import architecture
from bmatch.architecture import deriving
from bmatch.architecture.deriving import proved_spaces, with_whole_slabs
from bmatch.architecture.shrink import shrunken, with_fields
from bmatch.architecture.spaces import Axes, Member, Space
from bmatch.architecture.survey import config_and_class
from bmatch.architecture.tiny import generic_model
from bmatch.architecture.tiny import tiny_model as small_model


def way(space, tensor):
    """Axis and signs of the one member of a space in a tensor, None if there is none."""
    found = [(m.axis, m.odd) for m in space.members if m.tensor == tensor]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_tables_written_by_hand_are_derived(model_type, tied):
    model = tiny_model(model_type, tied, num_hidden_layers=3)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    derived = architecture.derive(model)
    assert derived.unknown == derived.refuted == ()
    space, table = derived.residual, architecture.residual_axes(model)
    assert (space.size, space.group) == (table.dim, table.group)
    for name, _ in model.named_parameters():
        rule = table.rule(name)
        expected = next(((axis, (signed,)) for axis, signed in rule.axes), None)
        assert way(space, name) == expected, name
    assert {m.tensor for m in space.members} <= dict(model.named_parameters()).keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_config_is_enough():
    """Sizes, layers and names are those of the full model, none of whose weights is made."""
    config = transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_key_value_heads=8, num_hidden_layers=5
    )
    derived = architecture.derive(config)
    spaces = {space.name: space for space in derived.spaces}
    assert spaces["residual"].size == 4096
    assert len(spaces["residual"].members) == 3 + 5 * 9
    neurons = spaces["model.layers.4.mlp coordinates"]
    assert (neurons.size, neurons.group) == (14336, "signed_permutation")
    assert way(neurons, "model.layers.4.mlp.gate_proj.weight") == (0, (False,))
    assert way(neurons, "model.layers.4.mlp.up_proj.weight") == (0, (True,))
    assert way(neurons, "model.layers.4.mlp.down_proj.weight") == (1, (True,))
    heads = spaces["model.layers.3.self_attn blocks"]
    assert (heads.size, heads.group) == (8, "permutation")
    assert {len(m.offsets) for m in heads.members} == {4 * 128, 128}
    assert config.num_hidden_layers == 5


def test_experts_are_carried_over_to_more_of_them():
    derived = architecture.derive(transformers.MixtralConfig(num_hidden_layers=3))
    spaces = {space.name: space for space in derived.spaces}
    experts = spaces["model.layers.2.mlp coordinates"]
    assert (experts.size, experts.group) == (8, "permutation")
    assert {m.tensor.rpartition("mlp.")[2] for m in experts.members} == {
        *("gate.weight", "experts.gate_up_proj", "experts.down_proj"),
    }
    neurons = spaces["model.layers.2.mlp.experts blocks of a slab 7"]
    assert (neurons.size, neurons.group) == (14336, "signed_permutation")
    gate_up = neurons.members[0]
    assert (gate_up.slab, gate_up.offsets, gate_up.odd) == (7, (0, 14336), (False, True))


def test_slabs_that_no_run_reads_carry_the_stream_as_the_others():
    """But not those that some run has read."""
    members = [Member("experts", 2, slab, (1,), (0,), (True,)) for slab in (0, 2)]
    members.append(Member("embed", 1, None, (1,), (0,), (True,)))
    axes = Axes((Space("residual", "signed_permutation", 8, tuple(members)),))
    read = {("experts", 0), ("experts", 2)}
    whole = with_whole_slabs(axes, read)
    assert whole.alike == ("experts",)
    assert [(m.tensor, m.slab) for m in whole.residual.members] == [
        ("experts", None),
        ("embed", None),
    ]
    assert with_whole_slabs(axes, {*read, ("experts", 1)}).residual == axes.residual
    members[0] = Member("experts", 2, 0, (1,), (0,), (False,))
    apart = Axes((Space("residual", "signed_permutation", 8, tuple(members)),))
    assert with_whole_slabs(apart, read) == apart


def test_experts_without_weights_leave_slabs_that_nothing_reads(monkeypatch):
    """A router of six over experts of which two only hand on what they are given."""
    monkeypatch.setattr(deriving, "SEEDS", 2)
    monkeypatch.setattr(deriving, "_CLOSER", 0)
    config = with_fields(shrunken(transformers.LongcatFlashConfig()), {"num_layers": 1})
    model = generic_model(config, transformers.LongcatFlashForCausalLM._from_config)
    axes, _ = proved_spaces(model)
    assert axes.unread == ()
    assert axes.alike == ("model.layers.0.mlp.experts.gate_up_proj",)
    assert way(axes.residual, "model.layers.0.mlp.experts.gate_up_proj") == (2, (True,))


def test_a_stream_that_is_read_beside_the_embeddings():
    """Joined with them along one axis, whose norm has gains for both."""
    size = 2 * WIDTH
    joined = nn.Linear(size, NEURONS)
    gains = nn.Parameter(torch.ones(size))

    class Joined(Toy):
        def __init__(self):
            super().__init__(stream=lambda model, x: x + model.back(model.read(x)))
            self.joined, self.gains, self.back = joined, gains, nn.Linear(NEURONS, WIDTH)

        def read(self, x):
            y = torch.cat([x, self.first], dim=-1)
            return self.joined(rms(y) * self.gains)

        def forward(self, tokens):
            self.first = self.embed(tokens)
            return super().forward(tokens)

    derived = architecture.derive(Joined(), tokens())
    assert (derived.residual.size, derived.residual.group) == (WIDTH, "signed_permutation")
    assert way(derived.residual, "joined.weight") == (1, (True, True))
    assert way(derived.residual, "gains") == (0, (False, False))
    twice = next(m for m in derived.residual.members if m.tensor == "gains")
    assert (twice.strides, twice.offsets) == ((1, 1), (0, WIDTH))


def test_models_without_a_head_keep_their_gauge():
    """What they return moves with it, as embeddings of sentences do."""
    config = transformers.BertConfig(num_hidden_layers=3)
    derived = architecture.derive(transformers.BertModel._from_config(config))
    space = derived.residual
    assert (space.size, space.group) == (768, "permutation_global_sign")
    assert way(space, "encoder.layer.2.output.LayerNorm.weight") == (0, (False,))
    assert way(space, "encoder.layer.2.output.LayerNorm.bias") == (0, (True,))


def test_a_module_that_returns_nothing_is_refused():
    class Silent(nn.Linear):
        def forward(self, x):
            return ()

    with pytest.raises(ValueError, match="returns no tensor"):
        architecture.derive(Silent(2, 2), {"x": torch.ones(1, 2)})


def derive_toy(**changes):
    return architecture.derive(Toy(**changes), tokens())


def test_a_plain_network():
    derived = derive_toy()
    space = derived.residual
    assert (space.size, space.group) == (WIDTH, "signed_permutation")
    assert way(space, "gain") == way(space, "last_gain") == (0, (False,))
    assert way(space, "embed.weight") == way(space, "head.weight") == (1, (True,))
    assert way(space, "down.weight") == way(space, "down.bias") == (0, (True,))
    assert way(space, "scale") is None
    (neurons,) = (other for other in derived.spaces if other is not space)
    assert (neurons.size, neurons.group) == (NEURONS, "signed_permutation")
    assert way(neurons, "up.bias") == (0, (True,))
    assert way(neurons, "gate.weight") == (0, (False,))


def test_a_learned_scale_inside_the_block_is_permuted_along():
    derived = derive_toy(normed=lambda model, y: y * model.scale)
    assert derived.residual.group == "signed_permutation"
    assert way(derived.residual, "scale") == (0, (False,))


def test_a_scale_that_no_checkpoint_holds_fixes_the_stream():
    fixed = torch.linspace(1, 2, WIDTH)
    derived = derive_toy(normed=lambda model, y: y * fixed)
    assert all(space.size != WIDTH for space in derived.spaces)


def test_a_norm_over_half_of_the_width_leaves_two_halves():
    def norm(x):
        half = WIDTH // 2
        return torch.cat([rms(x[..., :half]), x[..., half:]], dim=-1)

    derived = derive_toy(norm=norm)
    halves = [s for s in derived.spaces if way(s, "embed.weight")]
    assert [space.size for space in halves] == [WIDTH // 2] * 2
    assert {m.offsets[0] for s in halves for m in s.members if m.tensor == "head.weight"} == {0, 6}


def test_signs_end_at_an_absolute_value():
    """What comes before it may flip, and the head, which comes after it, does not follow."""
    space = derive_toy(stream=lambda model, x: x.abs()).residual
    assert (space.size, way(space, "embed.weight")) == (WIDTH, (1, (True,)))
    assert way(space, "head.weight") == (1, (False,))


def test_an_absolute_value_before_a_sum_leaves_permutations():
    space = derive_toy(stream=lambda model, x: x + x.abs()).residual
    assert (space.size, space.group) == (WIDTH, "permutation")


def test_a_bias_after_the_last_norm_flips():
    derived = derive_toy(last=lambda model, y: y + model.scale)
    assert derived.residual.group == "signed_permutation"
    assert way(derived.residual, "scale") == (0, (True,))


def test_a_constant_added_to_the_stream_leaves_permutations():
    derived = derive_toy(stream=lambda model, x: x + 1)
    assert (derived.residual.size, derived.residual.group) == (WIDTH, "permutation")


def test_a_head_behind_a_fixed_matrix_has_no_gauge():
    mix = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
    derived = derive_toy(last=lambda model, y: y @ mix)
    assert all(space.size != WIDTH for space in derived.spaces)


def test_an_operation_without_a_rule_is_named_and_fixes_what_it_touches():
    derived = derive_toy(stream=lambda model, x: torch.fft.rfft(x, n=2 * WIDTH - 2).real)
    assert derived.unknown == ("_fft_r2c",)
    assert all(space.size != WIDTH for space in derived.spaces)
    assert any(space.size == NEURONS for space in derived.spaces)


def test_layer_norm_leaves_one_sign_for_all():
    def norm(x):
        return nn.functional.layer_norm(x, (WIDTH,))

    space = derive_toy(norm=norm).residual
    assert (space.size, space.group) == (WIDTH, "permutation_global_sign")
    assert way(space, "gain") == (0, (False,))
    assert way(space, "down.bias") == way(space, "down.weight") == (0, (True,))


def test_soft_caps_and_residual_factors_do_not_matter():
    def stream(model, x):
        return 0.3 * torch.tanh(x / 5)

    assert derive_toy(stream=stream).residual.group == "signed_permutation"


def test_gains_that_are_one_more_than_their_weights():
    derived = derive_toy(normed=lambda model, y: y * (1 + model.scale))
    assert way(derived.residual, "scale") == (0, (False,))


def test_a_module_without_inputs_is_refused():
    with pytest.raises(ValueError, match="needs inputs: a mapping of the arguments"):
        architecture.derive(Toy())


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="no model of transformers belongs to a dict"):
        architecture.derive({"model_type": "llama"})


def test_experts_with_biases_and_heads_with_sinks():
    """Rows of biases go with their experts, sinks with their heads; nothing is refuted."""
    model = small_model(*config_and_class("gpt_oss"))
    axes, proof = proved_spaces(model)
    assert not axes.refuted
    assert proof.together < 1e-4
    carried = [{(m.tensor, m.axis, m.slab) for m in space.members} for space in axes.spaces]
    block, experts = "model.layers.1.", "model.layers.1.mlp.experts."
    router = {(f"{block}mlp.router.{kind}", 0, None) for kind in ("weight", "bias")}
    biases = {(f"{experts}{part}_proj_bias", 0, None) for part in ("gate_up", "down")}
    assert sum(router | biases <= found for found in carried) == 1
    neurons = [found for found in carried if (f"{experts}gate_up_proj_bias", 1, 2) in found]
    assert len(neurons) == 1
    assert (f"{experts}down_proj", 1, 2) in neurons[0]
    sinks = [
        space
        for space in axes.spaces
        if any("1.self_attn.sinks" in m.tensor for m in space.members)
    ]
    assert sorted(space.size for space in sinks) == [2, 2, 2]  # groups, and heads in each


def test_heads_of_a_state_space_model():
    """One matrix holds their gates, inputs and steps, and what all heads share between them."""
    model = small_model(*config_and_class("nemotron_h"))
    place = "model.layers.0.mixer."
    axes, proof = proved_spaces(
        model, lambda space: any(m.tensor == f"{place}dt_bias" for m in space.members)
    )
    (heads,) = axes.spaces
    assert (heads.size, heads.group) == (model.config.mamba_num_heads // 2, "permutation")
    assert proof.together < 1e-4 < 1e-2 < proof.larger[heads.name]
    parts = {m.tensor.removeprefix(place): m.parts(4) for m in heads.members}
    assert [part.width for part in parts["in_proj.weight"]] == [8, 8, 1]
    assert [part.width for part in parts["dt_bias"]] == [1]


def test_keys_and_values_that_all_heads_share():
    """A slice at one number is a slice: heads of falcon move, and coordinates of the value."""
    model = small_model(*config_and_class("falcon"))
    axes, _ = proved_spaces(model)
    assert not axes.refuted
    sizes = sorted(s.size for s in axes.spaces if s.name.startswith("transformer.h.1.self_att"))
    assert sizes == [4, 8]
