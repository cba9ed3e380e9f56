"""A tiny model of the same structure: the gauge does not depend on sizes.

Fields of a config are told by what their names say (width, layers, heads, experts), not by the
model's type. Fields that tell something of each layer are cut to layers of each kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

WIDTH = 32
HEAD = 8
_NEEDED = (
    r"vocab_size|n_routed_experts|n_shared_experts|num_experts_per_tok|num_key_value_heads"
    r"|head_dim|moe_intermediate_size"
)
LAYERS = re.compile(
    r"^(num_hidden_layers|num_layers|n_layers?|n_layer|(encoder|decoder)_layers|num_blocks"
    r"|num_(encoder|decoder)_layers|num_hidden_(encoder|decoder)_layers|depth|num_layers_per_stack)$"
)
"""Fields that count blocks."""
_KINDS = re.compile("layer_types|layers_block_type|block_types")
"""Lists of the kinds of layers, which count them where no other field does."""
_LAYERS_BY_STAGE = re.compile("block_sizes|block_repeats")
"""Lists that count the blocks of each stage, or how often one is run."""
_SIZES: tuple[tuple[str, int], ...] = (  # the first that matches a field's name
    (r"(\w+_)?vocab_size|n_vocab|vocabulary|vocab_size_per_layer_input|hash_.*buckets?", 96),
    (r"(qk_rope|qk_nope|qk|v|rope|nope)_head_dim|qk_pos_emb_head_dim", HEAD),
    (r".*(head_?dim|head_size|d_kv|kv_channels|head_width|d_head|dim_head)", HEAD),
    (r"rotary_dim|rotary_ndims|.*rotary_dim", 4),
    (r".*lora_rank|.*_rank|low_rank.*|rank", 8),
    (r".*(num_experts_per_tok|topk|top_k|num_selected|moe_k|experts_per_token|experts_top_k).*", 2),
    (r"n_group|num_expert_group|topk_groups?|num_expert_groups", 2),
    (r".*shared_experts?$|num_.*shared.*", 1),
    (r".*(num_experts|n_routed_experts|num_local_experts|num_moe_experts|n_experts|experts)", 4),
    (r"zero_expert_num", 2),
    (
        r"(moe|shared|expert|dense)?_?.*(intermediate|ffn|feed_forward|ff_dim|mlp_dim|d_ff|inner).*",
        48,
    ),
    (r"dff|dim_ff|n_inner|ff_size|ffn|mlp_hidden_size|d_inner|dim_feedforward", 48),
    (r".*(key_value_heads|kv_heads|head_kv|query_groups?|multi_query_group_num)", 2),
    (r"mamba_n_heads|mamba_num_heads|n_mamba_heads|.*mamba.*heads", 8),
    (r"mamba_d_ssm", 64),
    (r".*(attention_heads|num_heads|n_heads?|heads)", 4),
    (r".*(state_size|d_state|state_dim|ssm_state.*)", 8),
    (r".*chunk_size.*|.*block_size", 8),
    (r".*(position_embeddings|n_positions|n_ctx|max_positions|max_.*length|context_length)", 128),
    (r"max_.*positions?.*|seq_len.*|max_seq.*|.*sequence_length", 128),
    (r"hidden_size_per_layer_input", 8),
    (r"attention_hidden_size", 2 * WIDTH),  # of the stream beside the embeddings
    (r"image_size", 28),
    (r"patch_size", 7),  # four by four of them
    (r"mm_tokens_per_image", 4),
    (r"output_channels", 16),
    (
        r".*(hidden_size|d_model|n_embd|n_embed|hidden_dim|embed_dim|embedding_size|model_dim"
        r"|embedding_dim|bottleneck_size)",
        WIDTH,
    ),
    (r"dim|width|.*lru_width|emb_dim|.*embed_size|word_embed_proj_dim|project(ion)?_dim", WIDTH),
    (r"output_dim|.*_out_channel", WIDTH),
    (r".*sliding_window|window_size|attention_window", 64),
    (r".*_cycles", 2),
    (r".*n_groups|num_groups|.*ngroups", 2),
)
_DENSE_FIRST = re.compile("first_k_dense_replace|num_dense_layers|moe_layer_start_index")
"""Fields that count the layers before those with experts: one of each kind."""
_GROUPS = ("n_group", "num_expert_group", "num_expert_groups")
"""Fields that count groups of experts."""
_NOT_BY_LAYER = re.compile(r".*(_limit|_range|multipliers)")
"""Lists that may have as many entries as there are layers by chance."""
_WINDOWS = re.compile(r"compress(ion)?_(rates|ratios)")
"""Numbers of tokens, by kind of layer, that are made one: a run has several times as many."""
_SECTIONS = [2, 1, 1]
"""Of the pairs of a head: those that turn with time, height and width."""
_RESOLUTIONS = re.compile(r".*grid_pinpoints")
"""Lists of heights and widths that are covered by pictures of the size that a tower takes."""
_OTHER_WIDTHS = ("embedding_size", "word_embed_proj_dim")
_COMPILED = tuple((re.compile(f"^({pattern})$"), size) for pattern, size in _SIZES)


def shrunken(config: Any, *, wide_heads: bool = False) -> Any:
    """A config of the same class with few layers, one of each kind at least, and small sizes.

    With `wide_heads` twice the `HEAD`, but for parts of heads: what has to be the sum of two of
    them, or to be divided in four, then is.
    """
    given = values_of(config)
    nested = {key: shrunken(part, wide_heads=wide_heads) for key, part in parts_of(config).items()}
    kept = {key: value for key, value in given.items() if key not in nested}
    small = _small(kept)
    for key, value in small.items():
        if _RESOLUTIONS.fullmatch(key) and value:
            small[key] = _covered(value, config, nested)
    rope = small.get("rope_parameters")
    by_section = "mrope_section" in getattr(type(config), "ignore_keys_at_rope_validation", ())
    if by_section and isinstance(rope, dict) and "rope_type" in rope:  # of all layers
        small["rope_parameters"] = {"mrope_section": _SECTIONS, **rope}
    if {"qk_nope_head_dim", "qk_rope_head_dim", "qk_head_dim"} <= small.keys():
        small["qk_head_dim"] = 2 * HEAD
    if wide_heads and small.get("head_dim") == HEAD:
        small["head_dim"] = 2 * HEAD
    return type(config)(**{**small, **nested})


def _covered(sizes: list[list[int]], config: Any, nested: Mapping[str, Any]) -> list[list[int]]:
    """Heights and widths of as many pictures as before, of the size that small towers take."""
    for name, part in parts_of(config).items():
        old, new = (getattr(held, "image_size", None) for held in (part, nested[name]))
        if isinstance(old, int) and isinstance(new, int):
            return [[length * new // old for length in size] for size in sizes]
    return sizes


def with_fields(config: Any, changes: Mapping[str, Any]) -> Any:
    """A config with other values, and lists as long as there are layers; ``...`` leaves out.

    A field of a config that it holds is ``part.field``.
    """
    given, parts = values_of(config), parts_of(config)
    inside: dict[str, dict[str, Any]] = {name: {} for name in parts}
    outside: dict[str, Any] = {}
    for field, value in changes.items():
        name, _, rest = field.partition(".")
        (inside[name] if rest else outside)[rest or field] = value
    changes = outside
    held = {name: with_fields(part, inside[name]) for name, part in parts.items()}
    values = {**given, **held, **changes}
    for field, count in changes.items():
        for key, value in given.items() if LAYERS.match(field) else ():
            by_layer = isinstance(value, list) and not _NOT_BY_LAYER.fullmatch(key)
            if by_layer and key not in changes and len(value) == given[field] > 0:
                values[key] = [value[k % len(value)] for k in range(count)]
    values |= dict.fromkeys(_computed_anew(config, {**given, **held}) - changes.keys(), ...)
    return type(config)(**{key: value for key, value in values.items() if value is not ...})


def _computed_anew(config: Any, values: Mapping[str, Any]) -> set[str]:
    """Lists of numbers, of layers say, that a class computes from other fields if left out."""
    lists = {k for k, v in values.items() if isinstance(v, list) and {type(n) for n in v} == {int}}
    if not lists:
        return lists
    try:
        fresh = values_of(type(config)(**{k: v for k, v in values.items() if k not in lists}))
    except Exception:  # each class has checks, and errors, of its own
        return set()
    return {key for key in lists if fresh.get(key) == values[key]}


def with_twice_the_experts(config: Any) -> Any:
    """A small config whose groups of experts have several each where there are twice as many."""
    values = values_of(config)
    if not any(type(v := values.get(key)) is int and v > 1 for key in _GROUPS):
        return config
    counts = {k: 8 for k, v in values.items() if k.endswith("experts") and v == 4}
    return with_fields(config, counts)


def parts_of(config: Any) -> dict[str, Any]:
    """The configs that a config holds, by field: that of the text beside that of pictures."""
    held = vars(config).items()
    return {k: v for k, v in held if hasattr(v, "to_dict") and hasattr(v, "model_type")}


def flat_values(config: Any) -> dict[str, Any]:
    """As `values_of`, with the fields of configs that it holds as ``part.field``."""
    parts = parts_of(config)
    found = {key: value for key, value in values_of(config).items() if key not in parts}
    for name, part in parts.items():
        found |= {f"{name}.{key}": value for key, value in flat_values(part).items()}
    return found


def values_of(config: Any) -> dict[str, Any]:
    """What a config was made of: its fields, but for what any config has."""
    values: dict[str, Any] = config.to_dict()
    ignored = {"model_type", "transformers_version", "architectures", "_name_or_path", "dtype"}
    return {k: v for k, v in values.items() if k not in ignored and not k.startswith("_")}


def _small(given: Mapping[str, Any]) -> dict[str, Any]:
    state_space = {"expand", "state_size"} <= given.keys()
    heads = [v for k, v in given.items() if re.fullmatch(r"num_attention_heads|n_heads?", k)]
    widths = [v for k, v in given.items() if re.fullmatch("hidden_size|d_model|n_embd|dim", k)]
    found: dict[str, Any] = {}
    counts = [v for k, v in given.items() if LAYERS.match(k) and isinstance(v, int)]
    counts += [len(v) for k, v in given.items() if _KINDS.fullmatch(k) and isinstance(v, list)]
    layers = next(iter(counts), 0)
    kinds = _kinds(given, layers)
    for key, value in given.items():
        if value is None and re.fullmatch(_NEEDED, key):
            found[key] = _size(key, 1 << 30, heads, 2)
        elif value is None and key in ("pad_token_id", "mask_token_id"):
            found[key] = 0
        elif value is None and key == "audio_token_id":
            found[key] = 2
        elif isinstance(value, bool) or value is None:
            found[key] = value
        elif isinstance(value, int):
            found[key] = _size(key, value, heads, max(2, len(kinds)))
            if key in _OTHER_WIDTHS and value not in widths:  # else there is no map between both
                found[key] = WIDTH // 2
            if state_space and key == "num_heads":
                found[key] = 8
        elif _LAYERS_BY_STAGE.fullmatch(key) and isinstance(value, list):
            found[key] = [1 for _ in value]
        elif isinstance(value, list) and len(value) == layers > 0:
            found[key] = [_in_list(key, value[k], heads) for k in kinds]
        elif key.endswith("layer_ids") and isinstance(value, list):
            found[key] = [j for j, k in enumerate(kinds) if k in value]
        elif key == "per_layer_config" and isinstance(value, dict):
            found[key] = {j: value[k] for j, k in enumerate(kinds) if k in value}
        elif isinstance(value, dict) and "mrope_section" in value:
            found[key] = {**value, "mrope_section": _SECTIONS}
        elif _WINDOWS.fullmatch(key) and isinstance(value, dict):
            found[key] = {kind: min(n, HEAD) for kind, n in value.items()}
        elif key.endswith("visual_indexes") and isinstance(value, list):
            found[key] = list(range(min(len(value), 2)))  # of the layers that are left
        elif key.endswith("token_id") and isinstance(value, list):
            found[key] = [min(v, 2) for v in value]
        else:
            found[key] = value
    wide = found.get("intermediate_size")
    if "num_mel_bins" in given and wide and given["intermediate_size"] == 4 * given["hidden_size"]:
        found["intermediate_size"] = 4 * found["hidden_size"]  # of four frames of a sound together
    return found


def _in_list(key: str, value: Any, heads: list[Any]) -> Any:
    singular = key.removesuffix("s")
    return _size(singular, value, heads, 2) if type(value) is int else value


def _kinds(given: Mapping[str, Any], layers: int) -> list[int]:
    """The first layer of each kind; the first two where all are alike."""
    lists = [v for v in given.values() if isinstance(v, list) and len(v) == layers > 0]
    single = given.get("per_layer_config")
    if isinstance(single, dict) and layers:
        lists.append([single.get(k) for k in range(layers)])
    first: dict[str, int] = {}
    for k in range(layers):
        first.setdefault(repr([v[k] for v in lists]), k)
    kinds = sorted(first.values())[:4]
    return kinds if len(kinds) > 1 else [kinds[0] if kinds else 0] * 2


def _size(key: str, value: int, heads: list[Any], layers: int) -> int:
    if re.fullmatch("image_token_(id|index)", key):
        return 1  # no other token
    if key.endswith("token_index"):
        return min(value, 2)
    if key.endswith("token_id") or key.endswith("_idx"):
        return value if value < 90 else 2
    if LAYERS.match(key):
        return layers
    if _DENSE_FIRST.fullmatch(key):
        return 1
    if value <= 1:
        return value
    for pattern, size in _COMPILED:
        if pattern.match(key):
            if size == 2 and "head" in key and (value in heads):
                return 4
            return min(size, value)
    return value
