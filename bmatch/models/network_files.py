"""A checkpoint's tensors under the names that they have in a model, read and written part by part.

Files may hold each expert apart where the model has all in one tensor, and bear older names. The
rules are those by which transformers loads and saves.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
from safetensors import safe_open

from bmatch.architecture.deriving import Derivation, derivation
from bmatch.architecture.nesting import without_strays
from bmatch.architecture.rules import BUFFERS
from bmatch.architecture.spaces import Axes
from bmatch.models.checkpoint import Checkpoint

Read = Callable[[str], torch.Tensor]


@dataclass(frozen=True)
class _Group:
    """Tensors of files that are converted together, and what they become."""

    files: tuple[str, ...]
    names: tuple[str, ...]  # in the model
    convert: Callable[[Read], dict[str, torch.Tensor]] | None  # None: one becomes one, as it is


class NetworkFiles:
    """The gauge spaces of a checkpoint's model, and its tensors by their names there.

    Parameters
    ----------
    checkpoint : Checkpoint

    Attributes
    ----------
    axes : Axes
        Of the tensors that the checkpoint has.

    Raises
    ------
    ValueError
        If no spaces can be derived for its type, or the checkpoint has tensors that no model of it
        has or that are not known.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        from transformers import AutoConfig

        self.checkpoint = checkpoint
        config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
        # A model with a head has all that a base model has, but for its pooler.
        for kind in (None, *(config.architectures or ())[:1]):
            found = _derivation(config.model_type, config.to_json_string(use_diff=False), kind)
            self._model: Any = found.full
            weights = found.full.state_dict(keep_vars=True)
            first: dict[int, str] = {}  # of the names that one tensor has
            self._same = {name: first.setdefault(id(t), name) for name, t in weights.items()}
            self._groups = self._grouped(weights)
            self._by_name = {
                self._same.get(name, name): group for group in self._groups for name in group.names
            }
            strange = sorted(name for name in self._by_name if name not in weights)
            if not strange:
                break
        else:
            raise ValueError(
                f"{checkpoint.folder} has tensors that a {config.model_type} has not, so what they "
                f"carry is not known: {', '.join(strange[:5])}"
            )
        unread = [name for name in found.axes.unread if name in self._by_name]
        if unread:
            raise ValueError(
                f"the run that derived the spaces of {config.model_type} did not read {unread[0]}, "
                "so what it carries is not known"
            )
        self.axes = without_strays(_restricted(found.axes, self._by_name))

    def _grouped(self, weights: Mapping[str, torch.Tensor]) -> list[_Group]:
        """As transformers' loader does."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            dot_natural_key,
            rename_source_key,
        )

        rules = get_model_conversion_mapping(self._model)
        renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
        of_pattern = {p: rule for rule in converters for p in rule.source_patterns}
        prefix = self._model.base_model_prefix
        together: dict[str, list[tuple[str, Any]]] = {}
        for name in sorted(self.checkpoint.names, key=dot_natural_key):
            key, pattern = rename_source_key(name, renamings, converters, prefix, dict(weights))
            if key not in weights and name in weights:
                key, pattern = name, None
            if key not in weights and name.endswith(tuple(BUFFERS)):
                continue
            together.setdefault(key, []).append((name, pattern))

        def converted(key: str, parts: list[tuple[str, Any]], read: Read) -> Any:
            converter: Any = copy.deepcopy(of_pattern[parts[0][1]])
            for name, pattern in parts:
                converter.add_tensor(key, name, pattern, read(name))
            made = converter.convert(key, model=self._model, config=self._model.config)
            return {n: t[0] if isinstance(t, list) else t for n, t in made.items()}

        groups = []
        for key, parts in together.items():
            files = tuple(name for name, _ in parts)
            if parts[0][1] is None:
                groups.append(_Group(files, (key,), None))
                continue
            convert = partial(converted, key, parts)
            with self.reading() as read:
                names = convert(partial(_without_entries, read))
            groups.append(_Group(files, tuple(names), convert))
        return groups

    @contextmanager
    def reading(self) -> Iterator[Read]:
        """A function from the name of a tensor in the files to the tensor, on the CPU."""
        home = {name: shard for shard, names in self.checkpoint.shards.items() for name in names}
        with ExitStack() as stack:
            files = {
                shard: stack.enter_context(
                    safe_open(self.checkpoint.folder / shard, framework="pt")
                )
                for shard in self.checkpoint.shards
            }

            def read(name: str) -> torch.Tensor:
                tensor: torch.Tensor = files[home[name]].get_tensor(name)
                return tensor

            yield read

    @contextmanager
    def tensors(self) -> Iterator[Read]:
        """A function from the name of a tensor in the model to the tensor, on the CPU."""
        with self.reading() as read:

            def get(name: str) -> torch.Tensor:
                return self._made(self._by_name[name], read)[name]

            yield get

    def _made(self, group: _Group, read: Read) -> dict[str, torch.Tensor]:
        if group.convert is None:
            made = {group.names[0]: read(group.files[0])}
        else:
            made = group.convert(read)
        return {self._same.get(name, name): tensor for name, tensor in made.items()}

    @contextmanager
    def transforming(
        self, carry: Callable[[str, torch.Tensor], torch.Tensor]
    ) -> Iterator[Callable[[str, torch.Tensor], torch.Tensor]]:
        """From what is done to tensors of the model to what is done to those of the files.

        Those that are converted together are held until all have been asked for.
        """
        from transformers.core_model_loading import revert_weight_conversion

        group_of = {name: group for group in self._groups for name in group.files}
        ready: dict[str, torch.Tensor] = {}
        with self.reading() as read:

            def transform(name: str, tensor: torch.Tensor) -> torch.Tensor:
                group = group_of.get(name)
                if group is None:  # a buffer
                    return tensor
                if group.convert is None:
                    return carry(self._same.get(group.names[0], group.names[0]), tensor)
                if name not in ready:
                    moved = {n: carry(n, t) for n, t in self._made(group, read).items()}
                    files = revert_weight_conversion(self._model, moved)
                    if files.keys() != set(group.files):
                        odd = sorted(files.keys() ^ set(group.files))
                        raise ValueError(
                            f"transformers reads {group.names[0]} from other names than it writes "
                            f"it under: {', '.join(odd[:4])}"
                        )
                    ready.update(files)
                return ready.pop(name).contiguous()

            yield transform


@lru_cache(maxsize=2)
def _derivation(model_type: str, config: str, kind: str | None) -> Derivation:
    """Once for two checkpoints of one config; of a class of transformers, or that with a head."""
    import transformers

    full = transformers.CONFIG_MAPPING[model_type].from_dict(json.loads(config))
    made: Any = getattr(transformers, kind or "", None)
    if not hasattr(made, "_from_config"):
        return derivation(full)
    with torch.device("meta"):
        model = made._from_config(full)
    return derivation(model)


def _without_entries(read: Read, name: str) -> torch.Tensor:
    return read(name).to("meta")


def _restricted(axes: Axes, names: Mapping[str, object]) -> Axes:
    """The spaces of some of a model's tensors."""
    spaces = [
        replace(space, members=tuple(m for m in space.members if m.tensor in names))
        for space in axes.spaces
    ]
    return replace(axes, spaces=tuple(space for space in spaces if space.members))
