"""Sparse dictionaries as the packages leave them on disk, every number another one.

Names, shapes and files are those that the packages write, at the versions that
`bmatch.transport.sae_formats` names; the letters are lengths.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from tiny_models import WIDTH

D, F, OUT, LAYERS, HEADS, RANK, CODES = WIDTH, 10, WIDTH, 2, 3, 4, 5
STREAM = "blocks.1.hook_resid_post"
NORM = "dataset_average_activation_norm."

SAE = {"W_enc": (D, F), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
FLIPPED = {"W_enc": (F, D), "W_dec": (D, F), "b_enc": (F,), "b_dec": (D,)}
LINEAR = {
    "encoder.weight": (F, D),
    "encoder.bias": (F,),
    "decoder.weight": (D, F),
    "decoder.bias": (D,),
}
SPARSIFY = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
AMONG_CODES = {
    f"attn_layers.0.{name}.{part}": ((length, F) if part == "weight" else (length,))
    for name, length in {"k_ctx": CODES, "q_target": CODES, "v_ctx": F, "c_proj": F}.items()
    for part in ("weight", "bias")
}
LLAMASCOPIUM = {"W_E": (D, F), "W_D": (F, D), "b_E": (F,), "b_D": (D,), f"{NORM}{STREAM}": ()}


def saelens(architecture, more=None, without=(), **config):
    shapes = {n: s for n, s in {**SAE, **(more or {})}.items() if n not in without}
    told = {"architecture": architecture, "d_in": D, "d_sae": F, "dtype": "float32"}
    told |= {"metadata": {"model_name": "m", "hook_name": STREAM, "unheard": [1, None]}, **config}
    files = {"sae_weights.safetensors": shapes, "sparsity.safetensors": {"sparsity": (F,)}}
    return {**files, "cfg.json": told, "runner_cfg.json": {"lr": 1e-4}}


TRANSCODER = {"d_out": OUT, "hook_name": "blocks.1.hook_mlp_in", "hook_name_out": STREAM}
SKIP = {"W_skip": (OUT, D)}
WHITENING = {"mean": (D,), "matrix": (D, D), "inverse_matrix": (D, D)}


def of_trainer(shapes, names=None):
    """What torch's Adam keeps of such tensors, by number."""
    state = {
        k: {"step": (), "exp_avg": shapes[name], "exp_avg_sq": shapes[name]}
        for k, name in enumerate(names or shapes)
    }
    groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "params": list(state)}]
    return {"state": state, "param_groups": groups}


TOLD_BY_DICTIONARY_LEARNING = {
    "trainer": {"activation_dim": D, "dict_size": F, "lm_name": "m", "layer": 1},
    "buffer": {"ctx_len": 128},
}
CLT = "model_kind: cross_layer_transcoder\nmodel_name: m\n"
CIRCUITS = (
    "model_kind: transcoder_set\nmodel_name: m\nfeature_input_hook: mlp.hook_in\n"
    "feature_output_hook: mlp.hook_out\n"
)
TRACED = {"W_enc": (F, D), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
GEMMA = {"w_enc": (D, F), "w_dec": (F, D), "b_enc": (F,), "b_dec": (D,), "threshold": (F,)}
GEMMA_TOLD = {"architecture": "jump_relu", "model_name": "m", "hf_hook_point_in": "model.layers.1"}
GATED = {"bias": (D,), "encoder.weight": (F, D), "decoder.weight": (D, F)}
TOP_K = {**SPARSIFY, "decoder.weight": (D, F), "k": (), "threshold": ()}
TOP_K.pop("W_dec")


def learned(shapes):
    return {"trainer_0/ae.pt": shapes, "trainer_0/config.json": TOLD_BY_DICTIONARY_LEARNING}


def scopium(shapes, file="sae_weights.safetensors", **config):
    return {file: shapes, "config.json": {"d_model": D, **config}}


DICTIONARIES = {
    "SAELens standard": saelens("standard"),
    "SAELens top-k": saelens("topk", k=4),
    "SAELens abs-top-k": saelens("abstopk", k=4),
    "SAELens batch-top-k while training": saelens("batchtopk", {"topk_threshold": ()}),
    "SAELens matryoshka": saelens("matryoshka_batchtopk", {"topk_threshold": ()}, k=4),
    "SAELens JumpReLU": saelens("jumprelu", {"threshold": (F,)}),
    "SAELens JumpReLU of before": saelens("jumprelu", {"log_threshold": (F,)}),
    "SAELens gated": saelens(
        "gated", {"r_mag": (F,), "b_gate": (F,), "b_mag": (F,)}, without=("b_enc",)
    ),
    "SAELens matching pursuit": saelens("matching_pursuit", without=("W_enc", "b_enc")),
    "SAELens temporal": saelens("temporal", AMONG_CODES, without=("b_enc",)),
    "SAELens transcoder": saelens("transcoder", **TRANSCODER),
    "SAELens skip transcoder": saelens("skip_transcoder", SKIP, **TRANSCODER),
    "SAELens JumpReLU transcoder": saelens(
        "jumprelu_transcoder", {"threshold": (F,)}, **TRANSCODER
    ),
    "SAELens JumpReLU skip transcoder": saelens(
        "jumprelu_skip_transcoder", {"threshold": (F,), **SKIP}, **TRANSCODER
    ),
    "SAELens checkpoint": {
        **saelens("standard", normalize_activations="none"),
        "trainer_state.pt": {
            "optimizer": of_trainer(SAE),
            "act_freq_scores": (F,),
            "n_training_steps": 5,
        },
        "activation_scaler.json": {"scaling_factor": 0.5, "has_whitening": True},
        "activation_whitening.safetensors": WHITENING,
        "activations_store_state.safetensors": {"n_dataset_processed": ()},
    },
    "SAELens before 6": {
        "sae_weights.safetensors": SAE,
        "cfg.json": {"d_in": D, "d_sae": F, "hook_point": STREAM, "activation_fn_str": "relu"},
    },
    "temporal SAE as published": {
        "latest_ckpt.safetensors": {"D": (F, D), "E": (D, F), "b": (1, D), **AMONG_CODES},
        "conf.yaml": "sae:\n  n_heads: 1\n",
    },
    "Gemma Scope": {"params.npz": {name.replace("w_", "W_"): s for name, s in GEMMA.items()}},
    "Gemma Scope, its other names": {"params.npz": GEMMA},
    "Gemma Scope 2": {"params.safetensors": GEMMA, "config.json": GEMMA_TOLD},
    "Gemma Scope 2 transcoder": {
        "params.safetensors": {**GEMMA, "affine_skip_connection": (D, OUT)},
        "config.json": {**GEMMA_TOLD, "hf_hook_point_out": "model.layers.1.output"},
    },
    "Gemma Scope 2 cross-layer transcoder": {
        **{
            f"layer_{k}.safetensors": {
                **{**GEMMA, "w_dec": (F, LAYERS, D)},
                "affine_skip_connection": (D, D),
            }
            for k in range(LAYERS)
        },
        "config.json": {"architecture": "jump_relu", "model_name": "m"},
    },
    "Llama Scope": {
        "checkpoints/final.safetensors": {
            **{**LINEAR, "dataset_average_activation_norm.in": ()},
            **{"dataset_average_activation_norm.out": (), "jump_relu_threshold": ()},
        },
        "hyperparams.json": {"d_model": D, "d_sae": F, "hook_point_in": STREAM},
    },
    "Llama Scope R1": {
        "sae_weights.safetensors": {**LINEAR, "log_jumprelu_threshold": (F,)},
        "config.json": {"d_model": D, "d_sae": F},
    },
    "Llamascopium SAE": scopium(LLAMASCOPIUM, sae_type="sae"),
    "Llamascopium SAE, gated": scopium({**LLAMASCOPIUM, "W_E_glu": (D, F), "b_E_glu": (F,)}),
    "Llamascopium SAE, pickled": scopium(
        {"sae": LLAMASCOPIUM, "version": "2.0"}, "sae_weights.pt", sae_type="sae"
    ),
    "Llamascopium SAE, distributed": scopium(LLAMASCOPIUM, "sae_weights.dcp", sae_type="sae"),
    "Llamascopium crosscoder": scopium(
        {
            **{"W_E": (HEADS, D, F), "W_D": (HEADS, F, D), "b_E": (HEADS, F)},
            **{"b_D": (HEADS, D), "log_jumprelu_threshold": (F,)},
        },
        hook_points=[STREAM, "blocks.0.hook_resid_post", "blocks.1.hook_mlp_out"],
    ),
    "Llamascopium cross-layer transcoder": scopium(
        {
            **{"W_E": (LAYERS, D, F), "b_E": (LAYERS, F)},
            **{f"W_D.{k}": (k + 1, F, D) for k in range(LAYERS)},
            **{f"b_D.{k}": (D,) for k in range(LAYERS)},
        }
    ),
    "Llamascopium Lorsa": scopium(
        {
            **{"W_Q": (HEADS, D, RANK), "W_K": (HEADS, D, RANK), "W_V": (F, D), "W_O": (F, D)},
            **{"b_Q": (HEADS, RANK), "b_K": (HEADS, RANK), "b_V": (F,), "b_D": (D,)},
        }
    ),
    "Llamascopium MOLT": scopium(
        {
            **{"W_E": (D, F), "b_E": (F,), "b_D": (D,)},
            **{"U_matrices.4": (CODES, D, RANK), "V_matrices.4": (CODES, RANK, D)},
            **{"U_matrices.2": (CODES, D, 2), "V_matrices.2": (CODES, 2, D)},
        }
    ),
    "sparsify": {
        "layers.1/sae.safetensors": SPARSIFY,
        "layers.1/cfg.json": {"num_latents": F, "k": 4, "d_in": D},
    },
    "sparsify, a run with two hooks": {
        **{f"{hook}/sae.safetensors": SPARSIFY for hook in ("layers.0", "layers.1.mlp")},
        **{f"{hook}/cfg.json": {"k": 4, "d_in": D} for hook in ("layers.0", "layers.1.mlp")},
        "config.json": {"k": 4, "lr": None},
        "state.pt": {"global_step": 5},
        "optimizer_0.pt": of_trainer(SPARSIFY),
        "lr_scheduler_0.pt": {"last_epoch": 5, "_last_lr": [0.1]},
        "rank_0_state.pt": {"num_tokens_since_fired": {"layers.0": (F,), "layers.1.mlp": (F,)}},
    },
    "sparsify transcoder": {
        "sae.safetensors": {**SPARSIFY, "W_skip": (D, D)},
        "cfg.json": {"num_latents": F, "transcode": True, "skip_connection": True, "d_in": D},
    },
    "dictionary_learning": learned({**GATED, "encoder.bias": (F,)}),
    "dictionary_learning, new": learned(LINEAR),
    "dictionary_learning gated": learned(
        {**GATED, "decoder_bias": (D,), "r_mag": (F,), "gate_bias": (F,), "mag_bias": (F,)}
    ),
    "dictionary_learning top-k": learned(TOP_K),
    "dictionary_learning JumpReLU": learned({**SAE, "threshold": (F,)}),
    "dictionary_learning matryoshka": learned(
        {**SAE, **dict.fromkeys(("k", "threshold"), ()), "group_sizes": (3,)}
    ),
    "dictionary_learning while training": {
        **learned(TOP_K),
        "trainer_0/checkpoints/ae_10.pt": TOP_K,
        "trainer_0/ae.pt": {
            **{"step": 10, "ae": TOP_K, "config": {"k": 4}, "norm_factor": 2.5},
            "optimizer": of_trainer(TOP_K, ["b_dec", "encoder.weight", "encoder.bias"]),
        },
    },
    "dictionary_learning crosscoder": {
        "ae.pt": {
            **{"encoder.weight": (LAYERS, D, F), "encoder.bias": (F,)},
            **{"decoder.weight": (LAYERS, F, D), "decoder.bias": (LAYERS, D)},
        }
    },
    "Qwen Scope": {"layer1.sae.pt": FLIPPED},
    "Goodfire": {
        "one.pth": {
            **{"encoder_linear.weight": (F, D), "decoder_linear.weight": (D, F)},
            **{"encoder_linear.bias": (F,), "decoder_linear.bias": (D,)},
        }
    },
    "DeepSeek R1": {"one.pt": LINEAR},
    "circuit-tracer transcoders": {
        **{f"layer_{k}.safetensors": {**TRACED, "W_skip": (D, D)} for k in range(LAYERS)},
        "config.yaml": CIRCUITS,
    },
    "circuit-tracer JumpReLU": {
        "layer_0.safetensors": {**TRACED, "activation_function.threshold": (F,)},
        "config.yaml": CIRCUITS,
    },
    "circuit-tracer cross-layer transcoders": {
        **{
            f"W_enc_{k}.safetensors": {
                **{f"W_enc_{k}": (F, D), f"b_enc_{k}": (F,)},
                **{f"b_dec_{k}": (D,), f"threshold_{k}": (F,)},
            }
            for k in range(LAYERS)
        },
        **{f"W_dec_{k}.safetensors": {f"W_dec_{k}": (F, LAYERS - k, D)} for k in range(LAYERS)},
        "config.yaml": CLT,
    },
}
"""By format, what its folder holds: shapes of tensors, or the content of other files."""


def write_dictionary(name: str, folder: Path) -> Path:
    """Write a folder of a format; where it has but one file, that file is the dictionary."""
    generator = torch.Generator().manual_seed(0)

    def filled(tree):
        if isinstance(tree, tuple) and all(isinstance(length, int) for length in tree):
            return torch.randn(tree, generator=generator)
        if isinstance(tree, dict):
            return {key: filled(below) for key, below in tree.items()}
        return tree

    files = DICTIONARIES[name]
    for place, content in files.items():
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            path.write_text(json.dumps(content, indent=1))
        elif path.suffix == ".yaml":
            path.write_text(content)
        elif path.suffix == ".safetensors":
            save_file(filled(content), path)
        elif path.suffix == ".npz":
            np.savez(path, **{key: tensor.numpy() for key, tensor in filled(content).items()})
        elif path.suffix == ".dcp":
            dcp.save(filled(content), storage_writer=dcp.FileSystemWriter(path))
        else:
            torch.save(filled(content), path)
    return folder / next(iter(files)) if len(files) == 1 else folder
