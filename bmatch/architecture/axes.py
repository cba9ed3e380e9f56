"""Which axes of which tensors carry the residual stream, as a table.

A gauge acts on every tensor that reads the stream (its last axis) or writes to it (its first),
and on the gains of the norms, which are permuted and never signed: a gain multiplies a
coordinate, and a coordinate's sign passes through. Tensors inside a block (heads, rotary
frequencies, q_norm and k_norm, biases of q, k and v) are left alone.

`verify` proves the table for a model: its logits do not change under a random gauge.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from bmatch.arrays import AnyArray
from bmatch.gauge import Group, SignedPermutation

Role: TypeAlias = Literal["stream", "gain", "inner"]
"""stream: permuted and signed; gain: permuted only; inner: no axis carries the stream."""


@dataclass(frozen=True)
class Rule:
    """How one kind of tensor carries the stream; ``{layer}`` stands for the block's number."""

    name: str
    role: Role
    axis: int | None = None
    required: bool = True


LLAMA = (
    Rule("model.embed_tokens.weight", "stream", 1),  # [V, D]
    Rule("model.layers.{layer}.input_layernorm.weight", "gain", 0),  # [D]
    Rule("model.layers.{layer}.self_attn.q_proj.weight", "stream", 1),  # [H, D]
    Rule("model.layers.{layer}.self_attn.k_proj.weight", "stream", 1),  # [K, D]
    Rule("model.layers.{layer}.self_attn.v_proj.weight", "stream", 1),  # [K, D]
    Rule("model.layers.{layer}.self_attn.o_proj.weight", "stream", 0),  # [D, H]
    Rule("model.layers.{layer}.post_attention_layernorm.weight", "gain", 0),  # [D]
    Rule("model.layers.{layer}.mlp.gate_proj.weight", "stream", 1),  # [F, D]
    Rule("model.layers.{layer}.mlp.up_proj.weight", "stream", 1),  # [F, D]
    Rule("model.layers.{layer}.mlp.down_proj.weight", "stream", 0),  # [D, F]
    Rule("model.norm.weight", "gain", 0),  # [D]
    Rule("lm_head.weight", "stream", 1, required=False),  # [V, D]; absent where tied
    Rule("model.layers.{layer}.self_attn.q_proj.bias", "inner", required=False),
    Rule("model.layers.{layer}.self_attn.k_proj.bias", "inner", required=False),
    Rule("model.layers.{layer}.self_attn.v_proj.bias", "inner", required=False),
    Rule("model.layers.{layer}.self_attn.o_proj.bias", "stream", 0, required=False),  # [D]
    Rule("model.layers.{layer}.mlp.gate_proj.bias", "inner", required=False),
    Rule("model.layers.{layer}.mlp.up_proj.bias", "inner", required=False),
    Rule("model.layers.{layer}.mlp.down_proj.bias", "stream", 0, required=False),  # [D]
    Rule("model.layers.{layer}.self_attn.q_norm.weight", "inner", required=False),
    Rule("model.layers.{layer}.self_attn.k_norm.weight", "inner", required=False),
    Rule("model.layers.{layer}.self_attn.rotary_emb.inv_freq", "inner", required=False),
    Rule("model.rotary_emb.inv_freq", "inner", required=False),
)

RMSNORM_TABLES: Mapping[str, tuple[Rule, ...]] = {
    "llama": LLAMA,  # SmolLM and SmolLM2 are of this type
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "smollm3": LLAMA,
}

LAYERNORM_TYPES = frozenset(
    (
        *("bloom", "codegen", "cohere", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox"),
        *("gptj", "mpt", "olmo", "opt", "persimmon", "phi", "stablelm", "starcoder2", "xglm"),
    )
)
"""Types known to normalise with LayerNorm: told apart, so that they are refused by name."""


@dataclass(frozen=True)
class ResidualAxes:
    """The table for one model.

    Attributes
    ----------
    model_type : str
        As in the model's config.
    dim : int
        Width of the residual stream.
    num_layers : int
        Number of blocks.
    group : str
        The gauge group of the stream.
    rules : tuple of Rule
    tied : bool
        Whether the unembedding is the embedding.
    """

    model_type: str
    dim: int
    num_layers: int
    group: Group
    rules: tuple[Rule, ...]
    tied: bool

    def rule(self, name: str) -> Rule | None:
        """The row of the table for a tensor of this name, None if there is none.

        The leading ``model.`` may be missing, as in checkpoints of the model without its head.
        """
        layer = re.search(r"(?<=layers\.)\d+(?=\.)", name)
        if layer and int(layer[0]) >= self.num_layers:
            return None
        general = re.sub(r"(?<=layers\.)\d+(?=\.)", "{layer}", name)
        for rule in self.rules:
            if general in (rule.name, rule.name.removeprefix("model.")):
                return rule
        return None

    def require_names(self, names: Iterable[str]) -> None:
        """Refuse a set of tensors that is not the table's, in either direction.

        Raises
        ------
        ValueError
            Listing the tensors that the table does not know, or those that it misses.
        """
        found = set(names)
        unknown = sorted(name for name in found if self.rule(name) is None)
        if unknown:
            raise ValueError(
                f"{len(unknown)} tensors are not in the table for {self.model_type} with "
                f"{self.num_layers} layers, so where they carry the stream is not known: "
                f"{_listed(unknown)}"
            )
        bare = {name.removeprefix("model.") for name in found}
        missing = [
            name
            for rule in self.rules
            if rule.required
            for name in self._names(rule)
            if name.removeprefix("model.") not in bare
        ]
        headless = not any(name.startswith("model.") for name in found)
        if not (self.tied or headless) and "lm_head.weight" not in found:
            missing.append("lm_head.weight")
        if missing:
            raise ValueError(
                f"{len(missing)} tensors of a {self.model_type} with {self.num_layers} layers are "
                f"missing: {_listed(missing)}"
            )

    def _names(self, rule: Rule) -> list[str]:
        if "{layer}" not in rule.name:
            return [rule.name]
        return [rule.name.format(layer=layer) for layer in range(self.num_layers)]

    def transform(self, name: str, tensor: AnyArray, gauge: SignedPermutation) -> AnyArray:
        """The tensor of this name in the coordinates that `gauge` leads to; `tensor` is kept.

        Raises
        ------
        ValueError
            If the table does not know the name, or the axis has not the gauge's width.
        """
        rule = self.rule(name)
        if rule is None:
            raise ValueError(f"the table for {self.model_type} has no tensor {name}")
        if rule.axis is None:
            return tensor
        if tensor.shape[rule.axis] != gauge.dim:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}: axis {rule.axis} carries "
                f"{tensor.shape[rule.axis]} coordinates, and the gauge acts on {gauge.dim}"
            )
        if rule.role == "gain":
            return gauge.apply_permutation(tensor, dim=rule.axis)
        return gauge.apply(tensor, dim=rule.axis)


def residual_axes(model_or_config: Any) -> ResidualAxes:
    """The table of residual axes for a model.

    Parameters
    ----------
    model_or_config
        A transformers model, its config, or the content of a ``config.json``.

    Raises
    ------
    ValueError
        If the architecture is not in the table; LayerNorm architectures are named as such.
    """
    config = getattr(model_or_config, "config", model_or_config)
    if not isinstance(config, Mapping):
        config = config.to_dict()
    model_type = config.get("model_type")
    if model_type in LAYERNORM_TYPES:
        raise ValueError(
            f"{model_type} normalises with LayerNorm, under which signs of single coordinates "
            "change the function: its gauge group is permutation_global_sign, and signed matching "
            "does not apply to it"
        )
    if model_type not in RMSNORM_TABLES:
        raise ValueError(
            f"unknown architecture {model_type!r}: bmatch knows the residual axes of "
            f"{', '.join(sorted(RMSNORM_TABLES))}"
        )
    for key in ("hidden_size", "num_hidden_layers", "vocab_size"):
        if not isinstance(config.get(key), int):
            raise ValueError(f"the config of this {model_type} is damaged: it has no {key}")
    return ResidualAxes(
        model_type=model_type,
        dim=int(config["hidden_size"]),
        num_layers=int(config["num_hidden_layers"]),
        group="signed_permutation",
        rules=RMSNORM_TABLES[model_type],
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def verify(model: Any, *, num_tokens: int = 64, seed: int = 0) -> float:
    """Prove the table for a model: under a random gauge its logits stay what they were.

    Parameters
    ----------
    model
        A transformers causal language model in float32; left as it is.
    num_tokens : int
        Length of the random input.
    seed : int
        Of the gauge and of the input.

    Returns
    -------
    float
        Largest difference of a logit, relative to the largest logit.

    Raises
    ------
    ValueError
        If the difference exceeds 1e-3, that is, the table is wrong for this model, or the model
        is not in float32 (lower precision moves logits by more).
    """
    import torch

    if model.dtype != torch.float32:
        raise ValueError(f"verify needs the model in float32, got {model.dtype}: use model.float()")
    axes = residual_axes(model)
    gauge = SignedPermutation.random(axes.dim, axes.group, seed=seed).to(model.device)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in moved.named_parameters():  # a tied parameter comes once
            parameter.copy_(axes.transform(name, parameter, gauge))
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(model.config.vocab_size, (1, num_tokens), generator=generator)
        before = model(tokens.to(model.device)).logits
        after = moved(tokens.to(model.device)).logits
    difference = float((before - after).abs().max() / before.abs().max())
    if not difference <= 1e-3:
        raise ValueError(
            f"the table for {axes.model_type} is wrong for this model: a gauge changes its logits "
            f"by {difference:.1e} of the largest"
        )
    return difference


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
