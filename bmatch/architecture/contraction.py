"""Rules of products that are summed over axes: matrix products and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bmatch.architecture.calls import Call, NoRule, full, rule
from bmatch.architecture.constraints import WILD
from bmatch.architecture.forms import Ids
from bmatch.architecture.labels import Label, compact
from bmatch.architecture.merging import (
    Operand,
    agree,
    contract_atoms,
    contract_signs,
    meet,
    meet_terms,
    plus,
    shape_of,
)


def contract(
    call: Call, operands: Sequence[Operand], axes: Sequence[int]
) -> tuple[list[Ids], list[Ids]]:
    """Multiply in the index space and sum over some of its axes, which are dropped.

    Zeros that move with nothing, such as the state before the first token, demand nothing of what
    they meet, and leave zeros.
    """
    if any(not operand.label and not operand.values.any() for operand in operands):
        return [], []
    c = call.constraints
    atoms = contract_atoms(c, meet(c, operands), axes)
    parts = [part for operand in operands for part in operand.label.signs]
    signs = contract_signs(c, plus(c, parts) if _overlap(parts, axes) else parts, axes)

    def dropped(array: Ids) -> Ids:
        return array.reshape([n for k, n in enumerate(array.shape) if k not in axes])

    return [dropped(a) for a in atoms], [dropped(s) for s in signs]


def _overlap(parts: Sequence[Ids], axes: Sequence[int]) -> bool:
    return any(part.shape[axis] > 1 for part in parts for axis in axes)


def _placed(operand: Operand, shape: Sequence[int], place: Sequence[int]) -> Operand:
    sizes = [1] * len(shape)
    for size, axis in zip(operand.tensor.shape, place, strict=True):
        sizes[axis] = size
    return Operand(operand.label.reshaped(sizes, place), operand.tensor.reshape(sizes))


MATRIX_PRODUCTS = {  # the names of the factors, the axes of both, and what is summed over
    "mm": ("self", "mat2", (0, 1), (1, 2), 1),
    "addmm": ("mat1", "mat2", (0, 1), (1, 2), 1),
    "bmm": ("self", "mat2", (0, 1, 2), (0, 2, 3), 2),
    "baddbmm": ("batch1", "batch2", (0, 1, 2), (0, 2, 3), 2),
    "mv": ("self", "vec", (0, 1), (1,), 1),
    "addmv": ("mat", "vec", (0, 1), (1,), 1),
    "dot": ("self", "tensor", (0,), (0,), 0),
}


@rule(*MATRIX_PRODUCTS)
def matrix_product(call: Call) -> None:
    """Rows of the one meet columns of the other."""
    first, second, place_a, place_b, axis = MATRIX_PRODUCTS[call.name]
    shape = (1,) * (1 + max(*place_a, *place_b))
    operands = [
        _placed(call.operand(call[first]), shape, place_a),
        _placed(call.operand(call[second]), shape, place_b),
    ]
    atoms, signs = contract(call, operands, [axis])
    if call.name.startswith(("add", "badd")) and call["beta"] != 0:
        _add(call, call["self"], atoms, signs)
    else:
        call.write(atoms, signs)


def _add(call: Call, bias: torch.Tensor, atoms: Sequence[Ids], signs: Sequence[Ids]) -> None:
    shape = tuple(call.out.shape)
    label = Label(shape, tuple(atoms), tuple(signs))
    beta = 1 if call["beta"] is None else call["beta"]
    product = call.out if label else call.out - beta * bias  # of constants, perhaps of zeros
    operands = [Operand(label, product), call.operand(bias, len(shape))]
    c = call.constraints
    call.write(meet_terms(c, operands), agree(c, operands))


@rule("convolution", "_convolution", "mkldnn_convolution")
def convolution(call: Call) -> None:
    """Windows of the input meet the kernel, whose places along them stay.

    The index space: batch, groups, output and input channels of a group, windows, places in them.
    """
    if call["transposed"]:
        raise NoRule("transposed convolution")
    data, kernel, groups = call["input"], call["weight"], call["groups"]
    rank = kernel.ndim - 2
    windows = [
        _windows(tensor, call["padding"], call["stride"], call["dilation"], kernel.shape[2:], fill)
        for tensor, fill in (
            (call.values(data), 0),
            *((full(a, data.shape), WILD) for a in call.label(data).atoms),
            *((full(s, data.shape), WILD) for s in call.label(data).signs),
        )
    ]
    batch, channels, *rest = windows[0].shape
    spread = (batch, groups, 1, channels // groups, *rest)
    values, *arrays = (window.reshape(spread) for window in windows)
    compacted = [compact(array.numpy()) for array in arrays]
    count = len(call.label(data).atoms)
    read = Operand(Label(spread, tuple(compacted[:count]), tuple(compacted[count:])), values)

    outputs = kernel.shape[0] // groups
    sizes = (1, groups, outputs, kernel.shape[1], *(1,) * rank, *kernel.shape[2:])

    def held(array: torch.Tensor) -> Ids:
        return compact(array.reshape(sizes).numpy())

    label = call.label(kernel)
    weight = Operand(
        Label(
            sizes,
            tuple(held(full(a, kernel.shape)) for a in label.atoms),
            tuple(held(full(s, kernel.shape)) for s in label.signs),
        ),
        kernel.reshape(sizes),
    )
    atoms, signs = contract(call, [read, weight], [3, *range(4 + rank, 4 + 2 * rank)])
    space = (*shape_of([read, weight])[:3], *rest[:rank])

    def joined(array: Ids) -> Ids:
        return compact(full(array, space).reshape(call.out.shape).numpy())

    atoms, signs = [joined(a) for a in atoms], [joined(s) for s in signs]
    if call["bias"] is None:
        call.write(atoms, signs)
    else:
        _add(call, call["bias"].reshape(-1, *(1,) * rank), atoms, signs)


def _windows(
    tensor: torch.Tensor,
    padding: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    sizes: Sequence[int],
    fill: int,
) -> torch.Tensor:
    """All windows of a tensor: ``[batch, channels, windows..., places...]``."""
    around = [pad for pads in reversed(padding) for pad in (pads, pads)]
    seen = torch.nn.functional.pad(tensor, around, value=fill)
    for axis, (step, spread, size) in enumerate(zip(stride, dilation, sizes, strict=True)):
        seen = seen.unfold(axis + 2, spread * (size - 1) + 1, step)[..., ::spread]
    return seen
