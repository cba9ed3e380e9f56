"""How the tensors of a PEFT adapter lie along the stream, by their names in its file.

A low-rank update of a weight takes in what the weight takes in, and gives out what it gives out: so
its factors move along the axes along which the weight does. What multiplies coordinates one by
one (DoRA's magnitudes, which are norms, and the scales of IA3) is permuted, never signed. All else
that a file holds are tensors of the base model, and move as those.

Names and shapes were read in PEFT 0.21.2.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

from bmatch.architecture.axes import ResidualAxes
from bmatch.transport.objects import Along

Shapes: TypeAlias = Mapping[str, tuple[int, ...]]

PREFIX = "base_model.model."
"""Before the name of the module in the base model."""

# One word an axis: `in` and `out` are what the module takes in and gives out, `+` without signs,
# `_` anything else. `row` is the axis of a token's vector in an embedding.
_LOW_RANK = {
    "lora_A.weight": "_ in",
    "lora_B.weight": "out _",
    "lora_B.bias": "out",
    "lora_magnitude_vector": "+out",
    "lora_embedding_A": "_ in",
    "lora_embedding_B": "out _",
    "lora_diag": "_",
}
_TOKENS = {
    "token_adapter.trainable_tokens_delta": "_ row",
    "trainable_tokens_delta": "_ row",
}
TENSORS: dict[str, dict[str, str]] = {
    "LORA": {**_LOW_RANK, **_TOKENS},
    "ADALORA": {"lora_A": "_ in", "lora_B": "out _", "lora_E": "_ _", **_TOKENS},
    "IA3": {"ia3_l": "+out _"},
    "LN_TUNING": {},
    "TRAINABLE_TOKENS": _TOKENS,
}
"""By ``peft_type``, the ends of names and the words of their axes."""

PROMPTS: dict[str, Along] = {
    "PREFIX_TUNING": Along(),  # keys and values, inside the blocks
    "PROMPT_TUNING": Along(((1, True),)),
    "P_TUNING": Along(((1, True),)),
}
"""By ``peft_type``, how ``prompt_embeddings`` [tokens, ...] move."""


def moves(shapes: Shapes, config: Mapping[str, Any], axes: ResidualAxes) -> dict[str, Along]:
    """How each tensor of an adapter moves.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of its tensors, by their names in the file.
    config : mapping
        The content of ``adapter_config.json``.
    axes : ResidualAxes
        Of the base model.

    Raises
    ------
    ValueError
        If there is a tensor of which nothing tells how it moves, or its axis is of another width.
    """
    kind = str(getattr(config["peft_type"], "value", config["peft_type"]))
    found = {
        name: PROMPTS[kind]
        if kind in PROMPTS and name == "prompt_embeddings"
        else _move(name, shapes, TENSORS.get(kind, {}), config, axes)
        for name in shapes
    }
    unknown = sorted(name for name, along in found.items() if along is None)
    if unknown:
        few = ", ".join(unknown[:6]) + (f" and {len(unknown) - 6} more" if len(unknown) > 6 else "")
        raise ValueError(
            f"how these tensors of a {kind} adapter move with the stream of a {axes.model_type} "
            f"with {axes.num_layers} layers is not known: {few}"
        )
    known = {name: along for name, along in found.items() if along is not None}
    require_widths(shapes, known, axes)
    return known


def require_widths(shapes: Shapes, known: Mapping[str, Along], axes: ResidualAxes) -> None:
    """Refuse axes that carry the stream and are not as long as it is wide.

    Raises
    ------
    ValueError
        With the first of the tensors.
    """
    for name, along in known.items():
        for axis, _ in along.axes:
            length = shapes[name][axis] if len(shapes[name]) > axis else 0
            if length == axes.dim:
                continue
            copies, rest = divmod(length, axes.dim)
            if copies > 1 and not rest and _has_copies(axes, copies):
                raise ValueError(
                    f"{name} has shape {list(shapes[name])}: its axis {axis} is {copies} times as "
                    f"long as the stream of this {axes.model_type} is wide, as are axes of the "
                    f"model that carry it {copies} times over, and adapters of those are not "
                    "carried: merge the adapter into the base model, and carry that"
                )
            raise ValueError(
                f"{name} has shape {list(shapes[name])}: its axis {axis} should carry the "
                f"{axes.dim} coordinates of the stream of this {axes.model_type}; is the "
                "adapter of another model?"
            )


def _has_copies(axes: ResidualAxes, copies: int) -> bool:
    """Whether a tensor of the model has the stream several times over on an axis."""
    words = (word for rule in axes.rules for word in rule.words)
    return any(word.space == "D" and len(word.odd) == copies for word in words)


def _move(
    name: str,
    shapes: Shapes,
    tensors: Mapping[str, str],
    config: Mapping[str, Any],
    axes: ResidualAxes,
) -> Along | None:
    if not name.startswith(PREFIX):
        return None
    inside = name.removeprefix(PREFIX)
    end = next((end for end in tensors if inside.endswith(f".{end}")), None)
    if end is None:
        return _as_base(inside, axes)
    module = inside.removesuffix(f".{end}")
    words = tensors[end].split()
    shape = shapes[name]
    if len(words) > len(shape):
        return None
    if end == "ia3_l":  # [out, 1], or [1, in] where it scales what comes in
        words = words if shape[1] == 1 else ["_", "+in"]
    if not {word.removeprefix("+") for word in words} - {"_"}:
        return Along()
    beside = {e: shapes.get(f"{PREFIX}{module}.{e}") for e in tensors}
    signed = sides(
        _bases(module, config),
        axes,
        (beside.get("lora_A.weight"), beside.get("lora_B.weight")),
        embedding=bool(beside.get("lora_embedding_A")),
    )
    if signed is None:
        return None
    found = []
    for axis, word in enumerate(words):
        side = word.removeprefix("+")
        if side != "_" and signed[side] is not None:
            found.append((axis, bool(signed[side]) and not word.startswith("+")))
    return Along(tuple(found))


def _as_base(inside: str, axes: ResidualAxes) -> Along | None:
    """Saved modules, biases and embeddings: under their names in the base model."""
    for wrapper in (".base_layer", ".ln_tuning_layers"):
        inside = inside.replace(f"{wrapper}.", ".")
    rule = axes.rule(inside)
    return None if rule is None else Along(rule.axes)


def _bases(module: str, config: Mapping[str, Any]) -> list[str]:
    """Names of the parameters that an adapter at a module may be for.

    Parameters that are targeted by name wrap one another, so the module's own says nothing: which
    of them is inside depends on the order in which the model has them.
    """
    plain = module.replace(".base_layer", "")
    wanted = config.get("target_parameters") or ()
    ends = {str(parameter).rpartition(".")[2] for parameter in wanted}
    named = [f"{plain}.{end}" for end in sorted(ends)]
    return [f"{plain}.weight"] + [
        name for name in named if any(f".{name}".endswith(f".{target}") for target in wanted)
    ]


def sides(
    bases: Iterable[str],
    axes: ResidualAxes,
    factors: tuple[tuple[int, ...] | None, tuple[int, ...] | None],
    embedding: bool = False,
) -> dict[str, bool | None] | None:
    """Whether what a parameter takes in and gives out lies in the stream, and with signs.

    Parameters
    ----------
    bases : iterable of str
        Names of parameters, one of which it is; those that the table has not are none.
    axes : ResidualAxes
    factors : tuple of shape or None
        Of ``lora_A`` [..., in] and ``lora_B`` [out, ...]: where experts lie in one tensor, their
        lengths tell which of its axes is which.
    embedding : bool
        Whether it takes in tokens.

    Returns
    -------
    dict of str to bool or None
        For ``in``, ``out``, and ``row``, the axis of a token's vector: None where it lies inside a
        block. None if there is no such parameter.

    Raises
    ------
    ValueError
        If lengths leave open which one it is, and they differ.
    """
    found: list[dict[str, bool | None]] = []
    names = [name for name in bases if axes.rule(name) is not None]
    for name in names:
        signed = dict(axes.row(name).axes)
        for out, taken in _orders(name, axes, factors, embedding):
            told = {"in": signed.get(taken), "out": signed.get(out), "row": signed.get(1)}
            if told not in found:
                found.append(told)
    if len(found) > 1:
        raise ValueError(
            f"which axis of {' or '.join(names)} takes in and which gives out cannot be told from "
            "the lengths of the adapter's factors"
        )
    return found[0] if found else None


def _orders(
    name: str,
    axes: ResidualAxes,
    factors: tuple[tuple[int, ...] | None, tuple[int, ...] | None],
    embedding: bool,
) -> Collection[tuple[int, int]]:
    """The axes that a parameter may give out and take in along."""
    words = axes.row(name).words
    if len(words) == 3 and None not in factors:
        taken, given = factors[0][-1], factors[1][0]  # type: ignore[index]
        orders = {(1, 2): (1, given, taken), (2, 1): (1, taken, given)}
        return [
            order
            for order, shape in orders.items()
            if not {axis for _, axis in axes.other_lengths({name: shape})} & {1, 2}
        ]
    if embedding:
        return [(1, 0)]
    # transformers' Conv1D has its weight the other way round: its bias is as what it gives out.
    bias = axes.rule(f"{name.removesuffix('.weight')}.bias")
    if bias is not None and len(words) == 2 and words[0] != bias.words[0] == words[1]:
        return [(1, 0)]
    return [(0, 1)]
