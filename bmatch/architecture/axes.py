"""The table of a model: how tensors carry its spaces, by name, and what gauges do to a tensor.

A gauge of the residual stream acts on every tensor that reads the stream (its last axis) or writes
to it (its first), and on the gains of the norms, which are permuted and never signed: a gain
multiplies a coordinate, and a coordinate's sign passes through. Tensors inside a block (rotary
frequencies, q_norm and k_norm, biases of q, k and v) are left alone by it, and carry spaces of the
block: its neurons, its heads, its experts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bmatch.architecture import layout
from bmatch.architecture.rules import BUFFERS, RESIDUAL, Family, Kind, Rule
from bmatch.architecture.spaces import Member, Part, Space, member_of
from bmatch.architecture.templates import Templates, placed
from bmatch.architecture.wrappers import wrapper_in
from bmatch.arrays import AnyArray
from bmatch.gauge import SignedPermutation
from bmatch.groups import Gauge, Group, require_rotation, smaller


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
        return self._kinds["D"].group

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rows of the table."""
        return self.family.rules

    def rule(self, name: str) -> Rule | None:
        """The row of the table for a tensor of this name, None if there is none.

        The family's prefix may be missing, as in checkpoints of the model without its head.
        """
        for full in (name, self.family.prefix + name):
            template = self._templates.find(full)
            if template is not None:
                return self._by_name[template]
        shape = next((BUFFERS[end] for end in BUFFERS if name.endswith(end)), None)
        return None if shape is None else Rule(name, shape, required=False)

    def title(self, key: str, name: str) -> str:
        """The name of the space of this kind that a tensor carries; ``{slab}`` stays."""
        start = self.family.prefix if self._templates.find(name) is None else ""
        return placed(self._kinds[key].name, start + name)

    @cached_property
    def _by_name(self) -> dict[str, Rule]:
        return {rule.name: rule for rule in self.rules}

    @cached_property
    def _lists(self) -> dict[str, int]:
        return {path: self.sizes[length] for path, length in self.family.lists}

    @cached_property
    def _templates(self) -> Templates:
        return Templates(self._by_name, self._lists)

    @cached_property
    def _kinds(self) -> dict[str, Kind]:
        return {kind.key: kind for kind in self.family.kinds}

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
            for name in self.names(rule)
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

    def names(self, rule: Rule) -> list[str]:
        """The names of the tensors that a row is for, one for each block."""
        path, found, _ = rule.name.partition(".{layer}")
        if not found:
            return [rule.name]
        return [rule.name.replace("{layer}", str(number)) for number in range(self._lists[path])]

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
        for name in dict.fromkeys(name for name, _ in self.other_lengths(shapes)):
            expected = self._shape(self.row(name))
            wanted = ["any" if size is None else str(size) for size in expected]
            odd.append(f"{name} is {list(shapes[name])} and not [{', '.join(wanted)}]")
        if odd:
            raise ValueError(
                f"{len(odd)} tensors do not have the shapes that the config of this "
                f"{self.model_type} gives them: {_listed(odd)}"
            )

    def other_lengths(self, shapes: Mapping[str, Sequence[int]]) -> list[tuple[str, int]]:
        """Tensors and their axes that are not as long as the config says, by name.

        Of a tensor with another number of axes the last that it has, or should have.
        """
        found = []
        for name, shape in sorted(shapes.items()):
            expected = self._shape(self.row(name))
            if len(shape) != len(expected):
                found.append((name, len(expected) - 1))
                continue
            pairs = enumerate(zip(expected, shape, strict=True))
            found += [(name, axis) for axis, (size, there) in pairs if size not in (None, there)]
        return found

    def _shape(self, rule: Rule) -> list[int | None]:
        return [self._axis_length(word) for word in rule.words]

    def spaces(self, shapes: Mapping[str, Sequence[int]]) -> tuple[Space, ...]:
        """All gauge spaces of a model, the stream's first, with the tensors that carry them.

        Parameters
        ----------
        shapes : mapping of str to sequence of int
            Of the model's tensors, by names that `require_names` has accepted.

        Returns
        -------
        tuple of Space
            By the names that `transform` takes. Spaces of one unit are left out, those whose size
            the config does not tell, and those of which files have a tensor under another name.
        """
        members: dict[str, list[Member]] = {RESIDUAL: []}
        kinds: dict[str, Kind] = {RESIDUAL: self._kinds["D"]}
        for name, shape in shapes.items():
            for axis, word in enumerate(self.row(name).words):
                size = self._length(self._kinds[word.space].size) if word.space else None
                untold = len(word.pieces) > 1 and self._axis_length(word) is None
                if size is None or size < 2 or untold:
                    continue
                title = self.title(word.space, name)
                parts = self._parts(word, size, shape[axis], axis)
                slabs = range(shape[0]) if "{slab}" in title else (None,)
                for slab in slabs:
                    place = title.replace("{slab}", str(slab))
                    member = member_of((name, axis, slab), parts)
                    members.setdefault(place, []).append(member)
                    kinds[place] = self._kinds[word.space]
        return tuple(
            Space(name, kinds[name].group, self._length(kinds[name].size) or 0, tuple(found))
            for name, found in members.items()
            if {self.row(member.tensor).name for member in found} >= self._carriers[kinds[name].key]
        )

    @cached_property
    def _carriers(self) -> dict[str, set[str]]:
        """Names of the rows, but for biases, that carry a kind of space inside blocks."""
        found: dict[str, set[str]] = {"D": set()}
        for rule in self.rules:
            for word in rule.words:
                if word.space not in ("", "D") and not rule.name.endswith("bias"):
                    found.setdefault(word.space, set()).add(rule.name)
        return found

    def row(self, name: str) -> Rule:
        """As `rule`, for names that have one.

        Raises
        ------
        ValueError
            If there is none.
        """
        rule = self.rule(name)
        if rule is None:
            raise ValueError(f"the table for {self.model_type} has no tensor {name}")
        return rule

    def _parts(self, word: layout.Word, units: int, length: int, axis: int) -> list[Part]:
        try:
            return word.parts(units, length, self._length)
        except ValueError as error:
            raise ValueError(f"axis {axis} has {error}") from None

    def _axis_length(self, word: layout.Word) -> int | None:
        lengths = [self._length(piece.length) for piece in word.pieces]
        return None if None in lengths else sum(length or 0 for length in lengths)

    def _length(self, length: str) -> int | None:
        return int(length) if length.isdigit() else self.sizes.get(length)

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

    def transform(
        self, name: str, tensor: AnyArray, gauge: Gauge | Mapping[str, SignedPermutation]
    ) -> AnyArray:
        """The tensor of this name in the coordinates that gauges lead to; `tensor` is kept.

        Parameters
        ----------
        name : str
        tensor : array or tensor
        gauge : SignedPermutation, OrthogonalGauge or mapping of str to SignedPermutation
            Of the stream, or of spaces by their names; that of a slab for what comes to lie there.

        Raises
        ------
        ValueError
            If the table does not know the name, or an axis has not the gauge's width.
        """
        rule = self.row(name)
        gauges: Mapping[str, Gauge] = gauge if isinstance(gauge, Mapping) else {RESIDUAL: gauge}
        for axis, word in enumerate(rule.words):
            if word.space:
                title = self.title(word.space, name)
                tensor = self._carried(name, tensor, axis, word, title, gauges)
        return tensor

    def _carried(
        self,
        name: str,
        tensor: AnyArray,
        axis: int,
        word: layout.Word,
        title: str,
        gauges: Mapping[str, SignedPermutation] | Mapping[str, Gauge],
    ) -> AnyArray:
        if "{slab}" in title:
            titles = {slab: title.replace("{slab}", str(slab)) for slab in range(tensor.shape[0])}
            apart = {slab: gauges[t] for slab, t in titles.items() if t in gauges}
            if not apart:
                return tensor
            units = next(iter(apart.values())).dim
            parts = self._parts(word, units, tensor.shape[axis], axis)
            return layout.carry_slabs(tensor, axis, apart, parts)
        gauge = gauges.get(title)
        if gauge is None:
            return tensor
        if axis >= tensor.ndim or (
            word.space == "D" and tensor.shape[axis] != len(word.odd) * gauge.dim
        ):
            carried = f"{tensor.shape[axis]} coordinates" if axis < tensor.ndim else "none"
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}: axis {axis} carries {carried}, and "
                f"the gauge acts on {gauge.dim}"
            )
        if gauge.group == "orthogonal":
            signed = not self.is_scale(word.odd[0], tensor.ndim)
            word = layout.stream(*[signed] * len(word.odd), length=word.length)
        try:
            parts = self._parts(word, gauge.dim, tensor.shape[axis], axis)
            return layout.carry(tensor, axis, gauge, parts)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
