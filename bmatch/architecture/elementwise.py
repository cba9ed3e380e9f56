"""Rules of operations that work entry by entry, and of sums along axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bmatch.architecture.calls import Call, rule
from bmatch.architecture.forms import Ids
from bmatch.architecture.labels import Label, compact, extent
from bmatch.architecture.merging import (
    agree,
    contract_atoms,
    contract_signs,
    meet,
    meet_terms,
    never_flips,
    pin,
    plus,
    shape_of,
    total,
)


@rule("mul", "div")
def product(call: Call) -> None:
    """Signs add."""
    c = call.constraints
    operands = call.operands("self", "other")
    for operand in operands:
        call.labels.mark_gain(operand.tensor)
    signs = plus(c, [part for operand in operands for part in operand.label.signs])
    atoms = meet(c, operands)
    if call["rounding_mode"] == "floor":
        never_flips(c, Label(shape_of(operands), (), signs))
        signs = ()
    call.write(atoms, signs)


@rule("add", "sub", "rsub")
def addition(call: Call) -> None:
    """Both flip together."""
    c, operands = call.constraints, call.operands("self", "other")
    call.write(meet_terms(c, operands), agree(c, operands))


@rule(
    *("eq", "ne", "lt", "le", "gt", "ge", "maximum", "minimum", "fmod", "remainder"),
    *("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"),
    *("floor_divide", "atan2", "clamp_min", "clamp_max", "isclose"),
)
def comparison(call: Call) -> None:
    """No entry may flip."""
    operands = call.operands(
        *(n for n in call.arguments if n in ("self", "other", "exponent", "min", "max"))
    )
    for operand in operands:
        never_flips(call.constraints, operand.label)
    call.write(meet_terms(call.constraints, operands), ())


@rule(
    *("neg", "tanh", "erf", "sin", "tan", "atan", "asin", "sinh", "asinh", "atanh", "sign", "sgn"),
    *("trunc", "round", "reciprocal", "clone", "_to_copy", "nan_to_num", "erfinv"),
    *("convert_element_type", "positive", "lift_fresh_copy", "conj_physical", "resolve_conj"),
)
def odd(call: Call) -> None:
    """Signs pass through."""
    label = call.label(next(iter(call.arguments.values())))
    call.write(label.atoms, label.signs)


@rule("abs", "cos", "cosh", "isnan", "isinf", "isfinite")
def even(call: Call) -> None:
    """Signs go."""
    call.write(call.label(call["self"]).atoms, ())


@rule(
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "sigmoid", "silu"),
    *("gelu", "relu", "relu6", "elu", "celu", "selu", "leaky_relu", "softplus", "log_sigmoid"),
    *("mish", "hardswish", "hardsigmoid", "threshold", "floor", "ceil", "logical_not", "erfc"),
    *("bitwise_not", "acos", "log_sigmoid_forward", "logit", "special_expit", "digamma", "frac"),
)
def neither(call: Call) -> None:
    """No entry may flip."""
    label = call.label(call["self"])
    never_flips(call.constraints, label)
    call.write(label.atoms, (), call.out[0] if isinstance(call.out, tuple) else call.out)


@rule("clamp", "hardtanh")
def clamp(call: Call) -> None:
    """Odd between bounds that mirror each other."""
    low = call["min"] if "min" in call.arguments else call["min_val"]
    high = call["max"] if "max" in call.arguments else call["max_val"]
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        comparison(call)
    elif low is not None and high is not None and low == -high:
        odd(call)
    else:
        neither(call)


@rule("pow")
def power(call: Call) -> None:
    """Even or odd as its exponent."""
    exponent = call["other"] if call["exponent"] is None else call["exponent"]
    if isinstance(exponent, torch.Tensor) or isinstance(call["self"], (int, float)):
        comparison(call)
    elif exponent % 2 == 0:
        even(call)
    elif exponent % 2 == 1:
        odd(call)
    else:
        neither(call)


@rule("where", "masked_fill")
def choice(call: Call) -> None:
    """Each entry is one of two."""
    c = call.constraints
    names = ("condition", "self", "other") if call.name == "where" else ("mask", "value", "self")
    condition, one, other = call.operands(*names)
    never_flips(c, condition.label)
    atoms = meet(c, [condition, one, other], points=False)
    if not (one.label.signs or other.label.signs):
        call.write(atoms, ())
        return
    ndim = condition.tensor.ndim
    picked = np.where(
        condition.tensor.numpy().astype(bool),
        total(c, one.label.signs, ndim) if one.label else _constant(one.tensor),
        total(c, other.label.signs, ndim) if other.label else _constant(other.tensor),
    )
    call.write(atoms, (compact(picked),))


def _constant(tensor: torch.Tensor) -> Ids:
    """Forms of numbers that no parameter moves: zeros agree with all."""
    return np.where(tensor.numpy() == 0, -1, 0)


# Along axes


def reduced(
    label: Label, atoms: Sequence[Ids], signs: Sequence[Ids], axes: Sequence[int], keep: bool
) -> tuple[list[Ids], list[Ids]]:
    """Without the axes that were summed over."""
    if keep:
        return list(atoms), list(signs)

    def dropped(array: Ids) -> Ids:
        return array.reshape([n for k, n in enumerate(array.shape) if k not in axes])

    return [dropped(a) for a in atoms], [dropped(s) for s in signs]


@rule("sum", "mean", "nansum")
def summed(call: Call) -> None:
    """What is added flips together."""
    c, label = call.constraints, call.label(call["self"])
    axes = call.axes(call["dim"], len(label.shape))
    atoms = contract_atoms(c, label.atoms, axes)
    signs = contract_signs(c, label.signs, axes)
    call.write(*reduced(label, atoms, signs, axes, bool(call["keepdim"])))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def pooled(call: Call) -> None:
    """Means of neighbours along axes whose order counts."""
    c, label = call.constraints, call.label(call["self"])
    rank, ndim = int(call.name[-2]), len(label.shape)
    axes = range(ndim - rank, ndim)
    for atoms in label.atoms:
        pin(c, atoms, axes)
    signs = contract_signs(c, label.signs, axes)
    call.write([atoms for atoms in label.atoms if not extent(atoms) & {*axes}], signs)


@rule("linalg_vector_norm", "norm")
def norm(call: Call) -> None:
    """Even in every entry."""
    label = call.label(call["self"])
    axes = call.axes(call["dim"], len(label.shape))
    atoms = contract_atoms(call.constraints, label.atoms, axes)
    call.write(*reduced(label, atoms, (), axes, bool(call["keepdim"])))


@rule("var", "std", "var_mean", "std_mean")
def variance(call: Call) -> None:
    """Even where all entries flip together; the mean flips with them."""
    c, label = call.constraints, call.label(next(iter(call.arguments.values())))
    axes = call.axes(call["dim"], len(label.shape))
    atoms = contract_atoms(c, label.atoms, axes)
    signs = contract_signs(c, label.signs, axes)
    kept = reduced(label, atoms, signs, axes, bool(call["keepdim"]))
    if isinstance(call.out, torch.Tensor):
        call.write(kept[0], ())
    else:
        call.write(kept[0], (), call.out[0])
        call.write(*kept, call.out[1])


@rule("amax", "amin", "logsumexp", "prod", "any", "all")
def extreme(call: Call) -> None:
    """No entry may flip."""
    label = call.label(call["self"])
    never_flips(call.constraints, label)
    axes = call.axes(call["dim"], len(label.shape))
    atoms = contract_atoms(call.constraints, label.atoms, axes)
    call.write(*reduced(label, atoms, (), axes, bool(call["keepdim"])))


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax")
def softmax(call: Call) -> None:
    """A set of entries that is normalised; none may flip."""
    label = call.label(call["self"])
    never_flips(call.constraints, label)
    contract_atoms(call.constraints, label.atoms, call.axes(call["dim"], len(label.shape)))
    call.write(label.atoms, ())


@rule("cumsum", "cumprod", "logcumsumexp")
def running(call: Call) -> None:
    """Along an axis whose order counts."""
    c, label = call.constraints, call.label(call["self"])
    axes = call.axes(call["dim"], len(label.shape))
    for atoms in label.atoms:
        pin(c, atoms, axes)
    if call.name == "cumsum":
        call.write(label.atoms, contract_signs(c, label.signs, axes))
    else:
        never_flips(c, label)
        call.write(label.atoms, ())


@rule("view_as_complex")
def pairs(call: Call) -> None:
    """Two entries that move and flip as one."""
    c, label = call.constraints, call.label(call["self"])
    last = len(label.shape) - 1
    atoms = []
    for component in label.atoms:
        if component.shape[last] == 2:
            firsts, seconds = c.find(component[..., 0]), c.find(component[..., 1])
            valid = (firsts > 0) & (seconds > 0)
            c.union(firsts[valid], seconds[valid])
        atoms.append(component[..., 0])
    signs = contract_signs(c, label.signs, [last])
    call.write(atoms, [part[..., 0] for part in signs])


@rule("view_as_real")
def unpaired(call: Call) -> None:
    """Both entries of each pair carry its label."""
    label = call.label(call["self"])
    call.write([a[..., None] for a in label.atoms], [s[..., None] for s in label.signs])
