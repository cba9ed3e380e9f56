"""What gains say of the gauge: planted groups against what rotations do to logits."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny_models import WIDTH, in_gauge, logits, tiny_model

from bmatch import OrthogonalGauge
from bmatch.architecture import residual_axes
from bmatch.architecture.premise import premise


def gains_of(model):
    axes = residual_axes(model)
    return [p for n, p in model.named_parameters() if axes.rule(n).role == "gain"]


def judged(model):
    return premise(residual_axes(model), model.state_dict().items())


def flattened(model, value=1.0):
    with torch.no_grad():
        for gain in gains_of(model):
            gain.fill_(value)
    return model


def rotated(model, matrix, readers=None):
    """By hand: writers by the matrix, readers by its transpose or by another map."""
    axes, moved = residual_axes(model), copy.deepcopy(model)
    back = matrix.T if readers is None else readers
    with torch.no_grad():
        for name, p in moved.named_parameters():
            rule = axes.rule(name)
            if rule.role == "stream":
                ((axis, _),) = rule.axes
                reads = name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")) or (
                    name.endswith(("gate_proj.weight", "up_proj.weight", "lm_head.weight"))
                )
                with_ = torch.from_numpy(back if reads else matrix.T).float()
                p.copy_((p.movedim(axis, -1) @ with_).movedim(-1, axis))
    return moved


def change(one, other):
    a, b = logits(one), logits(other)
    return float((a - b).abs().max() / a.abs().max())


def rotation_within(group, seed=0):
    matrix = np.eye(WIDTH)
    matrix[np.ix_(group, group)] = OrthogonalGauge.random(len(group), seed=seed).matrix()
    return matrix


def test_generic_gains_allow_no_rotation():
    model = tiny_model(tied=False)
    found = judged(model)
    assert (found.gains, found.whole_gauge) == ("generic", "signed_permutation")
    assert (found.equal, found.proportional, found.vectors) == ((), (), 5)
    assert not found.flat
    gains = np.stack([g.detach().double().numpy() for g in gains_of(model)])
    gains /= np.sqrt((gains**2).mean(1, keepdims=True))
    apart = np.sqrt(((gains[:, :, None] - gains[:, None]) ** 2).mean(0))
    assert found.nearest == pytest.approx(apart[~np.eye(WIDTH, dtype=bool)].min(), rel=1e-6)
    assert change(model, rotated(model, rotation_within([3, 8, 20]))) > 1e-2
    with pytest.raises(ValueError, match=r"not orthogonal: gains of model\..* differ by"):
        found.require_flat()


def test_planted_groups_of_equal_gains_are_found_and_rotate():
    model = tiny_model(tied=False)
    groups = ((1, 30), (3, 8, 20))
    with torch.no_grad():
        for gain in gains_of(model):
            for group in groups:
                gain[list(group)] = gain[group[0]].clone()
        gains_of(model)[2][4] = gains_of(model)[2][5]  # equal in one norm is not equal
    found = judged(model)
    assert found.equal == groups
    assert found.proportional == ()
    assert found.whole_gauge == ("signed_permutation, and rotations within 2 groups of equal gains")
    for group in groups:
        matrix = rotation_within(list(group))
        assert change(model, rotated(model, matrix)) < 1e-5
        assert change(model, in_gauge(model, OrthogonalGauge(matrix))) < 1e-5
    with pytest.raises(ValueError, match="only equal gains let themselves be rotated"):
        in_gauge(model, OrthogonalGauge(rotation_within([1, 3])))
    assert change(model, rotated(model, rotation_within([1, 3]))) > 1e-2


def test_proportional_gains_rotate_by_readers_that_are_not_orthogonal():
    """g(i) = c g(j) is no gauge of the form, and one once c is folded into all readers."""
    model = tiny_model(tied=False)
    group, factors = [2, 9, 17], np.array([1.0, -0.5, 3.0])
    with torch.no_grad():
        for gain in gains_of(model):
            gain[group] = gain[group[0]] * torch.from_numpy(factors).float()
    found = judged(model)
    assert (found.equal, found.proportional) == ((), (tuple(group),))
    assert found.whole_gauge == "signed_permutation"
    matrix = rotation_within(group)
    assert change(model, rotated(model, matrix)) > 1e-2
    scale = np.ones(WIDTH)
    scale[group] = factors
    folded = rotated(model, matrix, readers=np.diag(scale) @ matrix.T)
    with torch.no_grad():
        for gain in gains_of(folded):
            gain[group] = gain[group[0]].clone()
    assert change(model, folded) < 1e-5


def test_flat_gains_rotate_all():
    for value, words in ((1.0, "all 1, as folding leaves them"), (0.6, "flat in every norm")):
        model = flattened(tiny_model(tied=False), value)
        found = judged(model)
        assert (found.flat, found.gains, found.whole_gauge) == (True, words, "orthogonal")
        assert found.equal == (tuple(range(WIDTH)),)
        assert found.require_flat() is None
        assert change(model, rotated(model, rotation_within(list(range(WIDTH))))) < 1e-4


def test_what_counts_as_equal_is_what_rounding_leaves():
    """Folded by a product and a division they are flat; one step of bfloat16 apart they are not."""
    generator = torch.Generator().manual_seed(0)
    axes = residual_axes(tiny_model())
    gain = torch.rand(WIDTH, generator=generator) + 0.5
    scale = torch.rand(WIDTH, generator=generator) + 0.5
    folded = (gain * scale) / scale / gain
    assert not torch.equal(folded, torch.ones(WIDTH))
    name = "model.norm.weight"
    assert premise(axes, [(name, folded)]).gains.startswith("all 1")
    step = torch.ones(WIDTH, dtype=torch.bfloat16)
    step[0] += 2**-7
    assert not premise(axes, [(name, step)]).flat
    # In bfloat16 proportional gains are so up to its rounding.
    rows = [1 + 0.4 * torch.randn(WIDTH, generator=generator) for _ in range(9)]
    for row in rows:
        row[7] = 0.3 * row[4]
    stored = [(f"model.layers.{k % 2}.input_layernorm.weight", r) for k, r in enumerate(rows)]
    assert premise(axes, stored).proportional == ((4, 7),)
    half = [(name, row.bfloat16()) for name, row in stored]
    assert premise(axes, half).proportional == ((4, 7),)


def test_dead_coordinates_are_told():
    """Gains of 0 in every norm: equal, and no direction that others share."""
    axes = residual_axes(tiny_model())
    rows = [1 + torch.rand(WIDTH, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    for row in rows:
        row[[6, 11]] = 0
    found = premise(axes, [("model.norm.weight", row) for row in rows])
    assert (found.equal, found.proportional) == (((6, 11),), ())
    nothing = premise(axes, [])
    assert (nothing.gains, nothing.flat, nothing.vectors) == ("none", True, 0)
    assert nothing.whole_gauge == "orthogonal"
