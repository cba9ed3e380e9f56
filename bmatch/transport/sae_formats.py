"""The formats of sparse autoencoders, transcoders and their kin, one table each.

``d`` is the stream that is read, ``o`` the one that is written, ``f`` features; see `formats`.
Shapes are as the packages write them: SAELens 6.54, Gemma Scope 1 and 2, Llama Scope, Llamascopium,
sparsify 1.3, dictionary_learning 0.1, Qwen Scope, Goodfire, circuit-tracer 0.5.
"""

from __future__ import annotations

from bmatch.transport.formats import Format

_OF_FEATURES = dict.fromkeys(
    ("b_enc", "threshold", "log_threshold", "r_mag", "b_gate", "b_mag", "scaling_factor"), "f"
)

# Attention among codes, of temporal ones.
_AMONG_CODES = {
    **{f"attn_layers.{{}}.{name}.weight": "n f" for name in ("k_ctx", "q_target")},
    **{f"attn_layers.{{}}.{name}.weight": "f f" for name in ("v_ctx", "c_proj")},
    **{f"attn_layers.{{}}.{name}.bias": "n" for name in ("k_ctx", "q_target")},
    **{f"attn_layers.{{}}.{name}.bias": "f" for name in ("v_ctx", "c_proj")},
}
_NORMS = {"dataset_average_activation_norm.{*}": ""}

FORMATS = (
    Format(
        "SAELens",
        {
            "W_enc": "d f",
            "W_dec": "f o",
            "b_dec": "o",
            "W_skip": "o d",
            **_OF_FEATURES,
            "topk_threshold": "",
            "group_sizes": "_",
            "k": "",
            **_AMONG_CODES,
        },
        ("W_dec",),
    ),
    Format(
        "temporal SAE",
        {"E": "d f", "D": "f o", "b": "_ o", "expected_min_act": "_", **_AMONG_CODES},
        ("D", "b"),
    ),
    Format(
        "Qwen Scope",
        {"W_enc": "f d", "W_dec": "o f", "b_enc": "f", "b_dec": "o"},
        ("W_enc", "W_dec", "b_dec"),
    ),
    Format(
        "circuit-tracer transcoder",
        {
            "W_enc": "f d",
            "W_dec": "f o",
            "b_enc": "f",
            "b_dec": "o",
            "activation_function.threshold": "f",
            "W_skip": "o d",
        },
        ("W_enc", "W_dec"),
    ),
    Format(
        "circuit-tracer cross-layer encoder",
        {"W_enc_{}": "f d", "b_enc_{}": "f", "b_dec_{}": "o", "threshold_{}": "f"},
        ("W_enc_{}",),
    ),
    Format("circuit-tracer cross-layer decoder", {"W_dec_{}": "f _ o"}, ("W_dec_{}",)),
    Format(
        "Gemma Scope",
        {
            "w_enc": "d f",
            "w_dec": "f o",
            "b_enc": "f",
            "b_dec": "o",
            "threshold": "f",
            "affine_skip_connection": "d o",
        },
        ("w_enc", "w_dec"),
    ),
    Format(
        "Gemma Scope cross-layer transcoder",
        {
            "w_enc": "d f",
            "w_dec": "f l o",
            "b_enc": "f",
            "b_dec": "o",
            "threshold": "f",
            "affine_skip_connection": "d o",
        },
        ("w_enc", "w_dec"),
    ),
    Format(
        "Llama Scope",
        {
            "encoder.weight": "f d",
            "decoder.weight": "o f",
            "encoder.bias": "f",
            "decoder.bias": "o",
            "log_jumprelu_threshold": "f",
            "dataset_average_activation_norm.in": "",
            "dataset_average_activation_norm.out": "",
            "jump_relu_threshold": "",
        },
        ("encoder.weight", "decoder.weight", "decoder.bias"),
    ),
    Format(
        "Llamascopium SAE",
        {
            **_NORMS,
            "W_E": "d f",
            "W_D": "f o",
            "b_E": "f",
            "b_D": "o",
            "W_E_glu": "d f",
            "b_E_glu": "f",
            "log_jumprelu_threshold": "f",
        },
        ("W_E", "W_D"),
    ),
    Format(
        "Llamascopium crosscoder",
        {
            **_NORMS,
            "W_E": "h d f",
            "W_D": "h f o",
            "b_E": "h f",
            "b_D": "h o",
            "log_jumprelu_threshold": "_",
        },
        ("W_E", "W_D"),
    ),
    Format(
        "Llamascopium cross-layer transcoder",
        {**_NORMS, "W_E": "l d f", "b_E": "l f", "W_D.{}": "_ f o", "b_D.{}": "o"},
        ("W_E", "W_D.{}"),
    ),
    Format(
        "Llamascopium Lorsa",
        {
            **_NORMS,
            "W_Q": "h d k",
            "W_K": "h d k",
            "W_V": "f d",
            "W_O": "f o",
            "b_Q": "h k",
            "b_K": "h k",
            "b_V": "f",
            "b_D": "o",
        },
        ("W_Q", "W_K", "W_V", "W_O"),
    ),
    Format(
        "Llamascopium MOLT",
        {
            **_NORMS,
            "W_E": "d f",
            "b_E": "f",
            "U_matrices.{}": "_ d _",
            "V_matrices.{}": "_ _ o",
            "b_D": "o",
            "log_jumprelu_threshold": "f",
        },
        ("U_matrices.{}", "V_matrices.{}"),
    ),
    Format(
        "Goodfire",
        {
            "encoder_linear.weight": "f d",
            "decoder_linear.weight": "o f",
            "encoder_linear.bias": "f",
            "decoder_linear.bias": "o",
        },
        ("encoder_linear.weight", "decoder_linear.weight"),
    ),
    Format(
        "sparsify",
        {
            "encoder.weight": "f d",
            "encoder.bias": "f",
            "W_dec": "f o",
            "b_dec": "o",
            "W_skip": "o d",
        },
        ("encoder.weight", "b_dec"),
    ),
    Format(
        "dictionary_learning",
        {
            "bias": "o",
            "encoder.weight": "f d",
            "encoder.bias": "f",
            "decoder.weight": "o f",
            "decoder_bias": "o",
            "r_mag": "f",
            "gate_bias": "f",
            "mag_bias": "f",
            "b_dec": "o",
            "k": "",
            "threshold": "",
        },
        ("encoder.weight", "decoder.weight"),
    ),
    Format(
        "dictionary_learning matryoshka",
        {
            "W_enc": "d f",
            "W_dec": "f o",
            "b_enc": "f",
            "b_dec": "o",
            "k": "",
            "threshold": "",
            "group_sizes": "_",
        },
        ("W_enc", "W_dec", "threshold", "group_sizes"),
    ),
    Format(
        "dictionary_learning crosscoder",
        {
            "encoder.weight": "h d f",
            "encoder.bias": "f",
            "decoder.weight": "h f o",
            "decoder.bias": "h o",
            "code_normalization_id": "",
            "k": "",
            "threshold": "",
        },
        ("encoder.weight", "decoder.weight"),
    ),
)

COMPANIONS = (
    Format("SAELens sparsity", {"sparsity": "f"}, ("sparsity",)),
    Format("sparsify counts", {"num_tokens_since_fired/{*}": "_"}, ("num_tokens_since_fired/{*}",)),
    Format(
        "SAELens whitening",
        {"mean": "d", "matrix": "d _", "inverse_matrix": "_ d"},
        ("mean", "matrix", "inverse_matrix"),
    ),
)
"""What lies beside them."""
