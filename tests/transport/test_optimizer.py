"""Optimizer states under gauges: twenty steps from a carried state are twenty steps, carried."""

from __future__ import annotations

import copy

import pytest
import torch
import transformers
from steps import alike, departure, trained
from tiny_models import WIDTH, tiny_model

from bmatch import OrthogonalGauge, SignedPermutation, transport
from bmatch.models.trainer import Parameters

STEPS = 20


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, arXiv 2302.06675, algorithm 2."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.1):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                moment = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.sign(torch.lerp(p.grad, moment, first)))
                moment.lerp_(p.grad, 1 - second)


class ScheduleFree(torch.optim.Optimizer):
    """Defazio et al. 2024, arXiv 2405.15682, AdamW with y = x + (1 - beta)(z - x)."""

    def __init__(self, params, lr, betas=(0.9, 0.99)):
        super().__init__(params, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {"z": p.clone(), "exp_avg_sq": torch.zeros_like(p), "step": 0}
                state["step"] += 1
                average = 1 / state["step"]
                state["exp_avg_sq"].lerp_(p.grad**2, 1 - second)
                update = p.grad / (
                    (state["exp_avg_sq"] / (1 - second ** state["step"])).sqrt() + 1e-4
                )
                x = p - (1 - first) / first * (state["z"] - p)
                state["z"].sub_(group["lr"] * update)
                x.lerp_(state["z"], average)
                p.copy_(x + (1 - first) * (state["z"] - x))


def _matrices(make):
    """An optimizer of matrices alone."""
    return lambda params, **options: make([p for p in params if p.ndim == 2], **options)


adam = {"lr": 1e-3, "eps": 3e-4}  # an eps above float32's noise in gradients of next to nothing
OPTIMIZERS = {
    "adamw": (torch.optim.AdamW, adam),
    "amsgrad": (torch.optim.Adam, {**adam, "amsgrad": True}),
    "sgd": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
    "nesterov": (torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"lr": 1e-4, "eps": 1e-3, "momentum": 0.9, "centered": True}),
    "adagrad": (torch.optim.Adagrad, {"lr": 1e-3, "eps": 1e-4}),
    "nadam": (torch.optim.NAdam, adam),
    "muon": (_matrices(torch.optim.Muon), {"lr": 1e-3}),
    "adafactor": (torch.optim.Adafactor, {"lr": 1e-4}),
    "adafactor_of_transformers": (
        transformers.Adafactor,
        {"lr": 1e-3, "relative_step": False, "scale_parameter": False, "beta1": 0.9},
    ),
    "lion": (Lion, {"lr": 1e-4}),
    "schedule_free": (ScheduleFree, {"lr": 1e-3}),
}


def copied(model, weights):
    other = copy.deepcopy(model)
    other.load_state_dict(weights)
    return other


UNSIGNED = {"adagrad", "adafactor"}  # all that they keep are squares


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_after_transport_are_transport_after_steps(name, monkeypatch):
    # Muon's products are of bfloat16, whose sums depend on the order of their terms.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    make, options = OPTIMIZERS[name]
    model = tiny_model("llama", tied=True, num_hidden_layers=1)
    optimizer = make(model.parameters(), **options)
    trained(model, optimizer, 3, 0)
    gauge = SignedPermutation.random(WIDTH, seed=1)
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    names = [n for n, p in model.named_parameters() if name != "muon" or p.ndim == 2]
    other = copied(model, transport.state_dict(model.state_dict(), gauge, model))
    astray = copied(model, other.state_dict())
    carried = transport.optimizer_state(state, gauge, model, names)
    back = transport.optimizer_state(carried, gauge.inverse(), model.config, names)
    assert alike(state, before)
    assert alike(back, before)
    stepping, strayed = make(other.parameters(), **options), make(astray.parameters(), **options)
    stepping.load_state_dict(carried)
    without_signs = SignedPermutation(gauge.perm)
    strayed.load_state_dict(transport.optimizer_state(state, without_signs, model, names))

    few = 5
    for one, by in ((model, optimizer), (other, stepping), (astray, strayed)):
        trained(one, by, few, 3)
    wanted = transport.state_dict(model.state_dict(), gauge, model)
    assert (departure(astray, wanted) > 1e-3) == (name not in UNSIGNED)
    for one, by in ((model, optimizer), (other, stepping)):
        trained(one, by, STEPS - few, 3 + few)
    wanted = transport.state_dict(model.state_dict(), gauge, model)
    assert departure(other, wanted) < 1e-6


def stepped(model, **options):
    optimizer = torch.optim.AdamW(model.parameters(), **adam, **options)
    trained(model, optimizer, 1, 0)
    return optimizer.state_dict()


GAUGE = SignedPermutation.random(WIDTH, seed=1)


def test_names_come_from_the_state_where_it_has_them_and_from_shapes_where_not():
    model = tiny_model("llama", num_hidden_layers=1)
    state = stepped(model)
    wanted = transport.optimizer_state(
        state, GAUGE, model, [n for n, _ in model.named_parameters()]
    )
    assert alike(transport.optimizer_state(state, GAUGE, model.config), wanted)

    turned = dict(reversed(list(model.named_parameters())))  # an order that is in no use
    optimizer = torch.optim.AdamW(turned.items(), **adam)
    trained(model, optimizer, 1, 0)
    told = optimizer.state_dict()
    carried = transport.optimizer_state(told, GAUGE, model)
    for number, name in enumerate(turned):
        both = {name: told["state"][number]["exp_avg"]}
        moved = transport.state_dict({**model.state_dict(), **both}, GAUGE, model)
        assert torch.equal(carried["state"][number]["exp_avg"], moved[name])

    full = {name: told["state"][number] for number, name in enumerate(turned)}
    by_name = {"state": full, "param_groups": [{"lr": 1e-3, "params": list(full)}]}
    again = transport.optimizer_state(by_name, GAUGE, model)
    assert alike(dict(enumerate(again["state"].values())), carried["state"])


def test_an_order_that_fits_no_shapes_is_refused():
    model = tiny_model("llama", num_hidden_layers=1)
    optimizer = torch.optim.AdamW(list(model.parameters())[::-1], **adam)
    trained(model, optimizer, 1, 0)
    with pytest.raises(ValueError, match=r"in no order in use .* give names"):
        transport.optimizer_state(optimizer.state_dict(), GAUGE, model)
    state = stepped(model)
    del state["param_groups"][0]["params"][-1]
    with pytest.raises(ValueError, match="groups and states disagree on 17"):
        transport.optimizer_state(state, GAUGE, model)
    with pytest.raises(ValueError, match="1 names came for 18 parameters"):
        transport.optimizer_state(stepped(model), GAUGE, model, ["model.norm.weight"])


def test_two_orders_that_fit_and_move_tensors_otherwise_are_refused(monkeypatch):
    model = tiny_model("llama", num_hidden_layers=1)
    names = tuple(name for name, _ in model.named_parameters())

    def swapped(one, other):
        kinds = {one: other, other: one}
        return tuple(".".join(kinds.get(part, part) for part in n.split(".")) for n in names)

    def orders(other):
        monkeypatch.setattr(Parameters, "orders", ((names,), (other,)))

    orders(swapped("q_proj", "o_proj"))
    with pytest.raises(ValueError, match=r"number 1 may be .*q_proj\.weight or .*o_proj\.weight"):
        transport.optimizer_state(stepped(model), GAUGE, model)
    orders(swapped("gate_proj", "up_proj"))  # which move alike
    transport.optimizer_state(stepped(model), GAUGE, model)


@pytest.mark.parametrize(
    ("slot", "value", "told"),
    [
        ("state1", torch.zeros(4), "bitsandbytes keeps it in blocks"),
        ("projector", object(), "GaLore and APOLLO keep moments of projected gradients"),
        ("GG", [torch.zeros(4, 4)], "Shampoo and SOAP keep matrices"),
        ("novel", torch.zeros(4), "how it moves with the stream is not known"),
        ("step", torch.zeros(4), "should be one number"),
        ("exp_avg", 3.0, "should be a tensor"),
        ("exp_avg", torch.zeros(4), r"exp_avg \[4\] where model.embed_tokens.weight should be"),
        ("exp_avg", torch.zeros(300, 32).to_sparse(), "quantised, sparse or sharded"),
    ],
)
def test_what_no_table_knows_is_refused_by_name(slot, value, told):
    model = tiny_model("llama", num_hidden_layers=1)
    state = stepped(model)
    state["state"][0][slot] = value
    with pytest.raises(ValueError, match=told):
        transport.optimizer_state(state, GAUGE, model)


def test_projected_groups_rotations_and_other_widths_are_refused():
    model = tiny_model("llama", num_hidden_layers=1)
    state = stepped(model)
    with pytest.raises(ValueError, match="a state is carried by signed permutations alone"):
        transport.optimizer_state(state, OrthogonalGauge.random(WIDTH, seed=0), model)
    with pytest.raises(ValueError, match="the gauge acts on 8 coordinates"):
        transport.optimizer_state(state, SignedPermutation.identity(8), model)
    state["param_groups"][0]["rank"] = 4
    with pytest.raises(ValueError, match="projected gradients"):
        transport.optimizer_state(state, GAUGE, model)
    with pytest.raises(ValueError, match=r"extra is no part of what torch\.optim keeps"):
        transport.optimizer_state({**stepped(model), "extra": 1}, GAUGE, model)


def test_one_sign_for_all_under_layer_norm():
    config = transformers.GPT2Config(
        n_embd=WIDTH, n_layer=1, n_head=2, vocab_size=300, n_positions=32,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), **adam)
    trained(model, optimizer, 2, 0)
    gauge = SignedPermutation(SignedPermutation.random(WIDTH, seed=1).perm, [-1] * WIDTH)
    other = copied(model, transport.state_dict(model.state_dict(), gauge, model))
    stepping = torch.optim.AdamW(other.parameters(), **adam)
    stepping.load_state_dict(transport.optimizer_state(optimizer.state_dict(), gauge, config))
    for one, by in ((model, optimizer), (other, stepping)):
        trained(one, by, 5, 2)
    assert departure(other, transport.state_dict(model.state_dict(), gauge, model)) < 1e-6
