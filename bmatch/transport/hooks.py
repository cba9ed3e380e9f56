"""Names of places in a model: which lie in the residual stream, in the spelling of any library.

TransformerLens 2 and 3 (``blocks.5.hook_resid_post``), 4 (``blocks.5.hook_out``), SAELens, nnsight,
dictionary_learning (``resid_post_layer_5``) and transformers' modules
(``model.layers.5.mlp.output``, ``transformer.h.5``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a hook reads or writes.

    Attributes
    ----------
    name : str
        As it was found.
    in_stream : bool
        Whether its coordinates are those of the residual stream.
    layer : int or None
        The block, None before the first and after the last.
    """

    name: str
    in_stream: bool
    layer: int | None


_LAYER = r"(?:.*\.)?(?:blocks|layers|h|layer)\.(?P<layer>\d+)"
_IN_BLOCK = rf"(?:{_LAYER}\.)?"  # circuit-tracer leaves out which
_ATTENTION = r"(?:self_attn|attn|attention|self_attention|linear_attn|mixer|temporal_block)"
_MLP = r"(?:mlp|feed_forward|block_sparse_moe|ffn|moe|mlp_block)"
_WRITERS = (
    rf"(?:{_ATTENTION}\.(?:o_proj|out_proj|c_proj|dense)|{_MLP}\.(?:down_proj|c_proj|fc2|fc_out|w2|"
    r"dense_4h_to_h))"
)
_NORM = (
    r"(?:input_layernorm|(?:pre|post)_(?:attention|feedforward|mlp)_layernorm|post_attention_norm|"
    r"ln_?[12](?:_post)?|operator_norm|ffn_norm|attention_norm)"
)

_IN_STREAM = (
    r"(?:.*\.)?(?:hook_embed|hook_pos_embed|embed_tokens|wte|embed_in)(?:\.output)?",
    r"(?:.*\.)?(?:ln_final\.hook_normalized|(?:norm|ln_f|final_layer_norm)(?:\.(?:output|input))?)",
    rf"{_LAYER}(?:\.(?:output|input|hook_out|hook_in))?(?:\.0)?",
    rf"{_IN_BLOCK}hook_(?:resid_(?:pre|mid|post)|attn_out|mlp_out|attn_in|mlp_in)",
    rf"{_IN_BLOCK}ln[12](?:_post)?\.hook_(?:normalized|in|out)",
    rf"{_IN_BLOCK}{_NORM}(?:\.(?:output|input))?",
    rf"{_IN_BLOCK}(?:{_ATTENTION}|{_MLP})(?:\.(?:output|input|hook_in|hook_out))?(?:\.0)?",
    rf"{_IN_BLOCK}{_WRITERS}(?:\.output)?",
    r"(?:resid_(?:pre|mid|post|out)|attn_out|mlp_out)_layer_?(?P<layer>\d+)",
)
_INSIDE = (
    rf"{_IN_BLOCK}{_ATTENTION}\.hook_(?:z|q|k|v|rot_q|rot_k|pattern|attn_scores)",
    rf"{_IN_BLOCK}{_MLP}\.(?:hook_(?:pre|post|pre_linear|mid)|act(?:_fn)?(?:\.output)?)",
    rf"{_IN_BLOCK}{_ATTENTION}\.[qkv]_proj(?:\.output)?",
    rf"{_IN_BLOCK}{_MLP}\.(?:gate_proj|up_proj|c_fc|fc1|fc_in|w1|w3)(?:\.output)?",
    rf"{_IN_BLOCK}{_WRITERS}\.(?:input|hook_in)",
)
_PATTERNS = [
    *((re.compile(pattern), False) for pattern in _INSIDE),
    *((re.compile(pattern), True) for pattern in _IN_STREAM),
]


def place_of(hook: str) -> Place:
    """Where a hook lies.

    Raises
    ------
    ValueError
        If the name is not known.
    """
    for pattern, in_stream in _PATTERNS:
        if found := pattern.fullmatch(hook):
            layer = found.groupdict().get("layer")
            return Place(hook, in_stream, None if layer is None else int(layer))
    raise ValueError(
        f"whether the hook {hook!r} lies in the residual stream is not known: names of "
        "TransformerLens, SAELens, dictionary_learning and transformers' modules are"
    )
