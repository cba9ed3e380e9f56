"""What an optimizer keeps of a parameter, and how each of it moves with the stream.

A gradient moves as its weight does, a square of it without signs. Under a signed permutation every
step that is made entry by entry, or by products of matrices, is then the same step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bmatch.transport.objects import Along


@dataclass(frozen=True)
class Slot:
    """One of the things that an optimizer keeps of a parameter.

    Attributes
    ----------
    signed : bool
        Whether it has the signs of the weight, where that has signs.
    missing : int, optional
        The axis, from the end, that was averaged away.
    kept : bool
        Whether that is still there, with one entry.
    """

    signed: bool
    missing: int | None = None
    kept: bool = False

    def shape(self, weight: tuple[int, ...]) -> tuple[int, ...]:
        """Its shape, where the weight has this one."""
        if self.missing is None:
            return weight
        axis = len(weight) - self.missing
        return (*weight[:axis], *((1,) if self.kept else ()), *weight[axis + 1 :])

    def along(self, ndim: int, axes: Iterable[tuple[int, bool]]) -> Along:
        """How it moves, where a weight of so many axes moves along these."""
        gone = None if self.missing is None else ndim - self.missing
        left = [(axis, signed and self.signed) for axis, signed in axes if axis != gone]
        if gone is not None and not self.kept:
            left = [(axis - (axis > gone), signed) for axis, signed in left]
        return Along(tuple(left))


_GRADIENT, _SQUARE = Slot(signed=True), Slot(signed=False)

SLOTS: Mapping[str, Slot] = {
    "exp_avg": _GRADIENT,  # Adam and all of its kind, Lion, Adafactor
    "exp_avg_sq": _SQUARE,  # Adam; Adafactor, of vectors
    "max_exp_avg_sq": _SQUARE,  # amsgrad
    "exp_inf": _SQUARE,  # Adamax: the greatest magnitude
    "momentum_buffer": _GRADIENT,  # SGD, Nesterov, RMSprop, Muon
    "square_avg": _SQUARE,  # RMSprop, Adadelta
    "grad_avg": _GRADIENT,  # RMSprop, centred
    "acc_delta": _SQUARE,  # Adadelta
    "sum": _SQUARE,  # Adagrad
    "prev": _GRADIENT,  # Rprop
    "step_size": _SQUARE,  # Rprop
    "ax": _GRADIENT,  # ASGD: the mean of the weights
    "exp_avg_sq_row": Slot(False, missing=1),  # Adafactor of transformers
    "exp_avg_sq_col": Slot(False, missing=2),
    "row_var": Slot(False, missing=1, kept=True),  # Adafactor of torch
    "col_var": Slot(False, missing=2, kept=True),
    "variance": _SQUARE,
    "z": _GRADIENT,  # schedule-free: the weights that are stepped
    "master_param": _GRADIENT,  # Apex: weights in float32
    "fp32": _GRADIENT,  # DeepSpeed's universal form: the same
    "fp32_param": _GRADIENT,  # Megatron-core: the same
    "param": _GRADIENT,  # Megatron-core, of an optimizer that processes share
    "compensation": _GRADIENT,  # AnyPrecisionAdamW: what rounding took from the weights
}
"""By the names that torch, transformers and others give them."""

SCALARS = frozenset({"step", "RMS", "mu_product", "eta", "mu"})
"""What is one number for a parameter, and stays: the last three of NAdam and ASGD."""

_TOLD: Mapping[str, str] = {
    **dict.fromkeys(
        ("state1", "state2", "absmax1", "absmax2", "qmap1", "qmap2", "new_max1", "new_max2"),
        "bitsandbytes keeps it in blocks of entries, or under a name that does not tell what it "
        "is: train with an optimizer of torch",
    ),
    **dict.fromkeys(
        ("projector", "ortho_matrix", "proj", "seed", "rank"),
        "GaLore and APOLLO keep moments of projected gradients, in coordinates of their own",
    ),
    **dict.fromkeys(
        ("preconditioner", "preconditioners", "GG", "Q", "L", "R", "shampoo", "factor_matrices"),
        "Shampoo and SOAP keep matrices whose eigenvectors are computed in rounded arithmetic, and "
        "moments in those: they are not carried exactly",
    ),
    **dict.fromkeys(
        ("d", "t", "old_dirs", "old_stps", "prev_flat_grad", "al"),
        "L-BFGS keeps all parameters in one vector",
    ),
}


def refused(slot: str) -> str:
    """Why this cannot be carried, in words that follow its name."""
    return _TOLD.get(slot, "how it moves with the stream is not known")


def plain(tensor: Any) -> bool:
    """Whether a tensor is one of numbers and no more: no quantised, sharded or sparse one."""
    import torch

    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
    )
