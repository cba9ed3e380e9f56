"""Folders to resume a training run from: the weights and the optimizer's state, carried together."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bmatch.files.containers import Container, leaves, open_container, unpickled
from bmatch.groups import Gauge
from bmatch.jobs.progress import Progress, silent
from bmatch.models.checkpoint import Checkpoint, open_checkpoint
from bmatch.models.rewrite import Write, rewrite_checked
from bmatch.transport.moved import require_moved
from bmatch.transport.objects import Along
from bmatch.transport.optimizer import require_exact, state_of
from bmatch.transport.weights import noted

_STATE = re.compile(r"optimizer(_\d+)?\.(pt|bin)")
_KEPT = re.compile(  # transformers' Trainer, and accelerate's save_state
    r"scheduler(_\d+)?\.(pt|bin)|scaler\.pt|trainer_state\.json|training_args\.bin"
    r"|rng_state(_\d+)?\.pth|random_states_\d+\.pkl|sampler(_\d+)?\.bin|dl_state_dict(_\d+)?\.bin"
)
_OTHERS = (
    (
        re.compile(r"global_step\d+|zero_pp_rank_.*|bf16_zero_pp_rank_.*"),
        "of DeepSpeed, slices of all parameters in one row: make the universal form of it "
        "(ds_to_universal.py)",
    ),
    (
        re.compile(r"(optimizer|pytorch_model_fsdp).*_rank\d+\.bin|rank\d+-of-\d+-.*"),
        "one process's shard: save the full state, or with torch.distributed.checkpoint",
    ),
    (re.compile(r"user_content\.pt"), "of SageMaker, in parts"),
)


def trainer_checkpoint(
    folder: str | os.PathLike[str],
    gauge: Gauge,
    out: str | os.PathLike[str],
    progress: Progress = silent,
    tell: Callable[[str], None] | None = None,
) -> str:
    """Carry a folder to resume training from: what ``bmatch apply --with-optimizer`` does.

    The weights are carried as `checkpoint` does, the optimizer's state with them; schedulers,
    random states and the trainer's log stay as they are. Before the folder appears, moments are
    compared with the weights beside them.

    Parameters
    ----------
    folder : path
        ``checkpoint-N`` of transformers' Trainer, or a folder of accelerate's ``save_state`` with
        the model's ``config.json``: safetensors weights, and ``optimizer.pt`` or ``optimizer.bin``.
    gauge : SignedPermutation
        From the coordinates of the weights to those wanted.
    out, progress, tell
        As for `checkpoint`.

    Returns
    -------
    str
        SHA-256 of the weights that were read.

    Raises
    ------
    FileExistsError, FileNotFoundError, OSError
        As `checkpoint`; FileNotFoundError, too, if there is no state of an optimizer.
    ValueError
        As `checkpoint` and `optimizer_state`; if a state could run code when it is loaded, or is
        kept in slices; or if moments did not move as their weights did. Nothing is left behind in
        any of these cases.
    """
    model = open_checkpoint(folder)
    try:
        require_exact(model.axes, gauge)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from None
    beside: dict[str, Write] = {}
    kept: dict[str, Write] = {}
    for path in sorted(model.folder.iterdir()):
        reason = next((told for known, told in _OTHERS if known.fullmatch(path.name)), None)
        if reason is not None:
            raise ValueError(f"{path} is {reason}")
        if _STATE.fullmatch(path.name):
            beside[path.name] = _writer(model, open_container(path), gauge)
        elif _KEPT.fullmatch(path.name):
            kept[path.name] = partial(shutil.copyfile, path)
    if not beside:
        raise FileNotFoundError(
            f"{model.folder} has no optimizer.pt and no optimizer.bin: without an optimizer's "
            "state to carry, its weights are carried alone"
        )

    def carry(name: str, tensor: torch.Tensor) -> torch.Tensor:
        carried: torch.Tensor = model.axes.transform(name, tensor, gauge)
        return carried

    header, title = noted(gauge.group), "Applying gauge"
    return rewrite_checked(model, out, carry, progress, title, tell, header, {**kept, **beside})


def _writer(model: Checkpoint, state: Container, gauge: Gauge) -> Write:
    found = state_of(state, model.axes, model.config)
    keys = {name: key for key, name in found.names.items() if name in model.names}

    def transform(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return found.moves[name](tensor, gauge)

    def write(out: Path) -> None:
        state.copy(out, transform, {})
        carried = open_checkpoint(out.parent)
        tensors = tuple(dict(leaves(unpickled(path))) for path in (state.path, out))
        require_moved(
            state.path, (model.tensor, carried.tensor), (tensors[0], tensors[1]), keys, gauge
        )

    return write
