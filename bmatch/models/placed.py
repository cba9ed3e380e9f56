"""Models that are larger than one device: where they take tokens, and their weights one by one.

accelerate (``device_map``) spreads a model over GPUs, memory and a folder, and leaves hooks that
bring weights to where they are needed; what is not there now is a tensor without content. FSDP2
(``fully_shard``) leaves each process a shard of every tensor, and gathers them as the model runs:
all processes do the same at the same time, with the same tokens, and find the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch


def input_device(model: torch.nn.Module) -> torch.device:
    """Where a model takes its tokens: of one that is spread out, where its first part runs."""
    for module in model.modules():
        for hook in _hooks(module):
            if (device := getattr(hook, "execution_device", None)) is not None:
                return torch.device(device)
    return next(model.parameters()).device


def share_out(model: torch.nn.Module, blocks: Iterable[torch.nn.Module], device: str) -> None:
    """Leave each process of the job its shard of a model, which all of them have on the CPU.

    Parameters
    ----------
    model : module
    blocks : iterable of module
        Those of its modules that are whole one at a time as it runs, and the rest beside them.
    device : str
        ``cpu`` or this process's CUDA device, where no more than a block is whole at a time.
    """
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh, reshard_after_forward=True)


class PlacedWeights(Mapping[str, torch.Tensor]):
    """The tensors of a model by name, whole, wherever they are; each made when it is asked for.

    Of a sharded model all processes must ask for the same, in the same order.

    Parameters
    ----------
    model : module

    Attributes
    ----------
    once : tuple of str
        Names of which no two are one tensor.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._held: dict[str, torch.Tensor] = model.state_dict(keep_vars=True)
        self._tied: Mapping[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
        first: dict[int | str, str] = {}
        for name, tensor in self._held.items():
            # Hooks make tensors without content anew, so that tied ones are told by their names.
            first.setdefault(self._tied.get(name, name) if tensor.is_meta else id(tensor), name)
        self.once = tuple(first.values())

    def __getitem__(self, name: str) -> torch.Tensor:
        """The tensor of that name.

        Raises
        ------
        ValueError
            If it has no content anywhere.
        """
        tensor = self._held[name]
        if not tensor.is_meta:
            whole: torch.Tensor = getattr(tensor, "full_tensor", lambda: tensor)()
            return whole
        for known in (name, self._tied.get(name, name)):
            if (kept := self._kept(known)) is not None:
                return kept
        raise ValueError(f"{name} is on the meta device, without content: load the model's weights")

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def _kept(self, name: str) -> torch.Tensor | None:
        """What accelerate's hooks of the module, or of one that it is in, would bring."""
        parts = name.split(".")
        for cut in reversed(range(len(parts))):
            module = self._model.get_submodule(".".join(parts[:cut]))
            for hook in _hooks(module):
                kept = getattr(hook, "weights_map", None)
                if kept is not None and (own := ".".join(parts[cut:])) in kept:
                    tensor: torch.Tensor = kept[own]
                    return tensor
        return None


def _hooks(module: torch.nn.Module) -> tuple[Any, ...]:
    """accelerate's, of one module."""
    hook = getattr(module, "_hf_hook", None)
    return () if hook is None else tuple(getattr(hook, "hooks", (hook,)))
