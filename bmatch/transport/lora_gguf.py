"""LoRA adapters as llama.cpp reads them: ``<tensor>.lora_a`` [r, in] and ``.lora_b`` [out, r].

Of the token embedding both are the other way round, [tokens, r] and [d, r]
(``llama-adapter.cpp``, ``convert_lora_to_gguf.py``). Tensors have the names that gguf has for them.
"""

from __future__ import annotations

from bmatch.architecture.axes import ResidualAxes
from bmatch.files.containers import Container
from bmatch.transport.objects import Along, require_known
from bmatch.transport.peft_keys import require_widths, sides

_EMBEDDING = "token_embd.weight"
_PLAIN = ("F32", "F16", "F64")


def is_adapter(container: Container) -> bool:
    """Whether a GGUF file holds an adapter."""
    return container.rest.get("general.type") == "adapter"


def gguf_moves(container: Container, axes: ResidualAxes) -> dict[str, Along]:
    """How each tensor of a LoRA's GGUF file moves.

    Raises
    ------
    ValueError
        If it is another kind of adapter, of another architecture, stored in blocks, or holds a
        tensor of which nothing tells how it moves.
    """
    path, shapes = container.path, container.shapes
    kind = container.rest.get("adapter.type")
    if kind != "lora":
        raise ValueError(f"{path} is an adapter of the type {kind}, and not a LoRA")
    blocks = _in_blocks(container)
    if blocks:
        raise ValueError(
            f"{path}: {blocks} is stored in a type of which coordinates cannot be taken out: write "
            "it as F32 or F16 (convert_lora_to_gguf.py --outtype f32)"
        )
    bases = _bases(container, axes)
    moves = {}
    for name in shapes:
        base, _, factor = name.rpartition(".")
        if factor not in ("lora_a", "lora_b"):
            rule = axes.rule(bases[name]) if name in bases else None
            if rule is not None:  # norms, as mergekit-extract-lora saves them
                moves[name] = Along(rule.axes)
            continue
        a, b = shapes.get(f"{base}.lora_a"), shapes.get(f"{base}.lora_b")
        if base not in bases or a is None or b is None or min(len(a), len(b)) < 2:
            continue
        embedding = base == _EMBEDDING
        try:
            signed = sides([bases[base]], axes, (a, (b[-2],)), embedding)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        side = "in" if factor == "lora_a" else "out"
        axis = len(shapes[name]) - (1 if side == "in" and not embedding else 2)
        if signed is not None:
            flag = signed[side]
            moves[name] = Along(() if flag is None else ((axis, flag),))
    require_known(path, shapes, moves)
    try:
        require_widths(shapes, moves, axes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return moves


def _in_blocks(container: Container) -> str:
    import gguf

    tensors = gguf.GGUFReader(container.path).tensors
    return next((t.name for t in tensors if t.tensor_type.name not in _PLAIN), "")


def _bases(container: Container, axes: ResidualAxes) -> dict[str, str]:
    """By the names of GGUF tensors those of the base model's, as far as they have one each."""
    import gguf

    name = container.rest.get("general.architecture")
    known = {title: arch for arch, title in gguf.MODEL_ARCH_NAMES.items()}
    if name not in known:
        raise ValueError(f"{container.path}: gguf knows no architecture {name}")
    table = gguf.get_tensor_name_map(known[name], axes.num_layers)
    found = {}
    for rule in axes.rules:
        for tensor in axes.names(rule):
            # Experts that are apart in the model's files lie in one tensor here.
            given = table.get_name(tensor.replace(".{}", ""), try_suffixes=(".weight", ".bias"))
            if given is not None:
                found[given] = tensor.replace("{}", "0")
    return found
