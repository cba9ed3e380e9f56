"""How tensors carry the residual stream: rules by name, and what a gauge does to a tensor.

A gauge acts on every tensor that reads the stream (its last axis) or writes to it (its first),
and on the gains of the norms, which are permuted and never signed: a gain multiplies a
coordinate, and a coordinate's sign passes through. Tensors inside a block (heads, rotary
frequencies, q_norm and k_norm, biases of q, k and v) are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from bmatch.architecture.wrappers import wrapper_in
from bmatch.arrays import AnyArray
from bmatch.groups import Gauge, Group, require_rotation, smaller

Role: TypeAlias = Literal["stream", "gain", "inner"]
"""stream: permuted and signed; gain: permuted only; inner: no axis carries the stream."""


@dataclass(frozen=True)
class Rule:
    """The shape of one kind of tensor, and with it how the tensor carries the stream.

    Attributes
    ----------
    name : str
        ``{layer}`` stands for the block's number, ``{}`` for any.
    shape : str
        One word an axis: ``D`` is the stream, ``+D`` the stream without signs, a digit itself, and
        any other word a size of the family, or of any size where the family names none.
    required : bool
        Whether a whole model has it.
    """

    name: str
    shape: str
    required: bool = True

    @property
    def axes(self) -> tuple[tuple[int, bool], ...]:
        """Which axes carry the stream, most tensors' one, and whether with its signs."""
        words = enumerate(self.shape.split())
        return tuple((axis, word == "D") for axis, word in words if word in ("D", "+D"))

    @property
    def role(self) -> Role:
        """What a gauge does to the tensor."""
        if not self.axes:
            return "inner"
        return "stream" if any(signed for _, signed in self.axes) else "gain"


HEADS = (
    Rule("score.weight", "labels D", required=False),  # of classifiers and reward models
    Rule("score.bias", "labels", required=False),
    Rule("v_head.summary.weight", "1 D", required=False),  # TRL's value head
    Rule("v_head.summary.bias", "1", required=False),
)
"""What is put on a model in place of its unembedding, or beside it."""


@dataclass(frozen=True)
class Family:
    """What the models of one family have in common.

    Attributes
    ----------
    rules : tuple of Rule
    sizes : callable
        From a config to the sizes behind the words of `Rule.shape`: ``D`` and ``V`` of stream and
        vocabulary, ``L`` blocks, and the family's own; without those that the config does not tell.
    keys : mapping of str to str
        The keys of the config without which there is no model, by the words that they give.
    blocks : str
        Where the list of blocks is, below the base model; empty where it is not known.
    prefix : str
        Of the base model's tensors in a model with a head; they are known without it, too.
    heads : tuple of str
        Tensors that a model has beside its base model, if its embeddings are not tied.
    norm : str
    group : str
        The gauge group of the stream: that of the norm.
    """

    rules: tuple[Rule, ...]
    sizes: Callable[[Mapping[str, Any]], dict[str, int]]
    keys: Mapping[str, str]
    blocks: str = "layers"
    prefix: str = "model."
    heads: tuple[str, ...] = ("lm_head.weight",)
    norm: str = "RMSNorm"
    group: Group = "signed_permutation"


@dataclass(frozen=True)
class ResidualAxes:
    """The table for one model.

    Attributes
    ----------
    model_type : str
        As in the model's config.
    family : Family
        Whose rules the table follows.
    sizes : mapping of str to int
        What the words of a rule's shape stand for in this model.
    tied : bool
        Whether the unembedding is the embedding.
    """

    model_type: str
    family: Family
    sizes: Mapping[str, int]
    tied: bool

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.sizes["D"]

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return self.sizes["L"]

    @property
    def vocab_size(self) -> int:
        """Number of token ids that the model reads."""
        return self.sizes["V"]

    @property
    def group(self) -> Group:
        """The gauge group of the stream."""
        return self.family.group

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rows of the table."""
        return self.family.rules

    def rule(self, name: str) -> Rule | None:
        """The row of the table for a tensor of this name, None if there is none.

        The family's prefix may be missing, as in checkpoints of the model without its head.
        """
        if exact := self._by_name.get(name):
            return exact
        layer = re.search(r"(?<=layers\.)\d+(?=\.)", name)
        if layer and int(layer[0]) >= self.num_layers:
            return None
        general = re.sub(r"(?<=layers\.)\d+(?=\.)", "{layer}", name)
        return self._by_name.get(general) or self._by_name.get(numberless(name))

    @cached_property
    def _by_name(self) -> dict[str, Rule]:
        bare = {rule.name.removeprefix(self.family.prefix): rule for rule in self.rules}
        return bare | {rule.name: rule for rule in self.rules}

    def require_names(self, names: Iterable[str]) -> None:
        """Refuse a set of tensors that is not the table's, in either direction.

        Raises
        ------
        ValueError
            Listing the tensors that the table does not know, or those that it misses; where their
            names tell of a wrapper (torch.compile, DDP, FSDP, PEFT), with what to take instead.
        """
        found = set(names)
        unknown = sorted(name for name in found if self.rule(name) is None)
        if unknown:
            wrapper = wrapper_in(unknown)
            raise ValueError(
                f"{len(unknown)} tensors are not in the table for {self.model_type} with "
                f"{self.num_layers} layers, so where they carry the stream is not known: "
                f"{_listed(unknown)}" + (f"; {wrapper}" if wrapper else "")
            )
        prefix = self.family.prefix
        bare = {name.removeprefix(prefix) for name in found}
        missing = [
            name
            for rule in self.rules
            if rule.required
            for name in self._names(rule)
            if name.removeprefix(prefix) not in bare
        ]
        # A base model alone has no unembedding, and a classifier has its scores in its place.
        headless = not any(name.startswith(prefix) for name in found) or "score.weight" in found
        if not (self.tied or headless):
            missing += [head for head in self.family.heads if head not in found]
        if missing:
            raise ValueError(
                f"{len(missing)} tensors of a {self.model_type} with {self.num_layers} layers are "
                f"missing: {_listed(missing)}"
            )

    def _names(self, rule: Rule) -> list[str]:
        if "{layer}" not in rule.name:
            return [rule.name]
        return [rule.name.format(layer=layer) for layer in range(self.num_layers)]

    def require_shapes(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Refuse tensors whose shapes are not those that the table and the config give.

        Parameters
        ----------
        shapes : mapping of str to sequence of int
            By names that `require_names` has accepted.

        Raises
        ------
        ValueError
            Listing tensors without entries, or tensors of other shapes and what was expected.
        """
        empty = sorted(name for name, shape in shapes.items() if 0 in shape)
        if empty:
            raise ValueError(
                f"{len(empty)} tensors are empty, placeholders as ZeRO-3 leaves them where weights "
                f"were not gathered before they were saved: {_listed(empty)}; save the gathered "
                "weights (zero_to_fp32.py makes them from the shards)"
            )
        odd = []
        for name, shape in sorted(shapes.items()):
            rule = self.rule(name)
            assert rule is not None
            expected = self._shape(rule)
            if len(shape) != len(expected) or any(
                size not in (None, there) for size, there in zip(expected, shape, strict=True)
            ):
                wanted = ["any" if size is None else str(size) for size in expected]
                odd.append(f"{name} is {list(shape)} and not [{', '.join(wanted)}]")
        if odd:
            raise ValueError(
                f"{len(odd)} tensors do not have the shapes that the config of this "
                f"{self.model_type} gives them: {_listed(odd)}"
            )

    def _shape(self, rule: Rule) -> list[int | None]:
        words = [word.removeprefix("+") for word in rule.shape.split()]
        return [int(word) if word.isdigit() else self.sizes.get(word) for word in words]

    def require_gauge(self, gauge: Gauge) -> None:
        """Refuse a gauge under which the model would compute something else.

        Raises
        ------
        ValueError
            If it acts on another width, or is of a larger group than the stream's. An orthogonal
            gauge is refused by `transform` where gains differ that it mixes.
        """
        if gauge.dim != self.dim:
            raise ValueError(
                f"the gauge acts on {gauge.dim} coordinates, and the residual stream of this "
                f"{self.model_type} has {self.dim}"
            )
        if gauge.group == "orthogonal":
            require_rotation(gauge, self.group, self.model_type)
        elif smaller(gauge.group, self.group) != gauge.group:
            raise ValueError(
                f"the gauge is a {gauge.group}, and the group of {self.model_type}'s residual "
                f"stream is {self.group}: signs of single coordinates change its function"
            )

    def is_scale(self, signed: bool, ndim: int) -> bool:
        """Whether an axis of a tensor scales single coordinates, as gains do.

        Under one sign for all an axis of a matrix without it tells nothing: the sign may have gone
        to the matrix's other axis, and through the block.
        """
        return not signed and (self.group == "signed_permutation" or ndim == 1)

    def transform(self, name: str, tensor: AnyArray, gauge: Gauge) -> AnyArray:
        """The tensor of this name in the coordinates that `gauge` leads to; `tensor` is kept.

        Raises
        ------
        ValueError
            If the table does not know the name, or the axis has not the gauge's width.
        """
        rule = self.rule(name)
        if rule is None:
            raise ValueError(f"the table for {self.model_type} has no tensor {name}")
        for axis, signed in rule.axes:
            if axis >= tensor.ndim or tensor.shape[axis] != gauge.dim:
                carried = f"{tensor.shape[axis]} coordinates" if axis < tensor.ndim else "none"
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}: axis {axis} carries {carried}, and "
                    f"the gauge acts on {gauge.dim}"
                )
            scales = not signed
            if gauge.group == "orthogonal":
                scales = self.is_scale(signed, tensor.ndim)
            carry = gauge.apply_permutation if scales else gauge.apply
            try:
                tensor = carry(tensor, dim=axis)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return tensor


def numberless(name: str) -> str:
    """A tensor's name with ``{}`` in place of the numbers of modules."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "{}", name)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
