"""What is known of a family of models: rules for tensors by name, and kinds of spaces."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from bmatch.architecture import layout
from bmatch.groups import Group

Role: TypeAlias = Literal["stream", "gain", "inner"]
"""stream: permuted and signed; gain: permuted only; inner: no axis carries the stream."""


@dataclass(frozen=True)
class Rule:
    """The shape of one kind of tensor, and with it how the tensor carries spaces.

    Attributes
    ----------
    name : str
        ``{layer}`` stands for the number of a block, ``{}`` for any.
    shape : str
        One word an axis, as `layout` has them.
    required : bool
        Whether a whole model has it.
    """

    name: str
    shape: str
    required: bool = True

    @property
    def words(self) -> tuple[layout.Word, ...]:
        """One an axis."""
        return layout.words(self.shape)

    @property
    def axes(self) -> tuple[tuple[int, bool], ...]:
        """Which axes carry the stream, most tensors' one, and whether with its signs.

        An axis may have it several times over, one copy after another.
        """
        return tuple((axis, w.odd[0]) for axis, w in enumerate(self.words) if w.space == "D")

    @property
    def role(self) -> Role:
        """What a gauge of the stream does to the tensor."""
        if not self.axes:
            return "inner"
        return "stream" if any(signed for _, signed in self.axes) else "gain"


@dataclass(frozen=True)
class Kind:
    """A kind of gauge space: the stream, or the neurons of each block.

    Attributes
    ----------
    key : str
        In the words of rules; ``D`` for the stream.
    name : str
        Of the spaces of this kind: ``{layer}`` and ``{}`` as in the names of their tensors, and
        ``{slab}`` for the index on axis 0, one space for each.
    group : str
        The gauge group.
    size : str
        The number of units, as lengths are in words.
    """

    key: str
    name: str
    group: Group
    size: str


RESIDUAL = "residual"
"""The name of the stream's space."""

HEADS = (
    Rule("score.weight", "labels D", required=False),  # of classifiers and reward models
    Rule("score.bias", "labels", required=False),
    Rule("v_head.summary.weight", "1 D", required=False),  # TRL's value head
    Rule("v_head.summary.bias", "1", required=False),
)
"""What is put on a model in place of its unembedding, or beside it."""


BUFFERS = {
    "rotary_emb.inv_freq": "any",
    "embeddings.position_ids": "1 any",
    ".attn.bias": "1 1 any any",  # causal masks
    ".attn.masked_bias": "",
    ".attention.bias": "1 1 any any",
    ".attention.masked_bias": "",
}
"""How names of tensors end that older files hold though the config tells them; their shapes."""


@dataclass(frozen=True)
class Family:
    """What the models of one family have in common.

    Attributes
    ----------
    rules : tuple of Rule
    kinds : tuple of Kind
        The spaces that rules tell of.
    lists : tuple of tuple of str
        What stands before ``.{layer}`` in names, and how many modules there are, as a length.
    blocks : str
        Where the list of blocks is, below the base model; empty where it is not known.
    prefix : str
        Of the base model's tensors in a model with a head; they are known without it, too.
    heads : tuple of str
        Tensors that a model has beside its base model, if its embeddings are not tied.
    norm : str
    unknown : tuple of str
        Operations without a rule in the run that derived the table: what they touched is fixed.
    refuted, left_out : tuple of str
        Spaces that the proof has dropped, and those that rules do not tell, with the reason.
    """

    rules: tuple[Rule, ...]
    kinds: tuple[Kind, ...]
    lists: tuple[tuple[str, str], ...]
    blocks: str = "layers"
    prefix: str = "model."
    heads: tuple[str, ...] = ("lm_head.weight",)
    norm: str = "RMSNorm"
    unknown: tuple[str, ...] = field(default=(), compare=False)
    refuted: tuple[str, ...] = field(default=(), compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)
