"""Sparse dictionaries of every format: features of carried activations are what they were."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from bmatch import SignedPermutation
from bmatch.files.containers import open_container
from bmatch.files.distributed import DistributedFiles
from bmatch.transport.finding import UnknownObjectError, find_object
from bmatch.transport.objects import carry
from bmatch.transport.sae import sae
from bmatch.transport.sae_formats import FORMATS

D, F = 6, 10
GAUGE = SignedPermutation.random(D, seed=3)
LENGTHS = {"d": D, "o": D, "f": F, "h": 2, "k": 3, "l": 4, "n": 5, "_": 7}


def made(known):
    """A file of a format, every number another one."""
    generator = torch.Generator().manual_seed(0)
    return {
        name.replace("{}", "0").replace("{*}", "hook_in"): torch.randn(
            [LENGTHS[letter] for letter in shape.split()], generator=generator
        )
        for name, shape in known.tensors.items()
    }


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
def test_every_axis_of_the_stream_moves_and_no_other(known, tmp_path):
    tensors = made(known)
    save_file(tensors, tmp_path / "sae.safetensors")
    found = find_object(tmp_path / "sae.safetensors", "sae")
    assert found.width == D
    carry(found, GAUGE, tmp_path / "new.safetensors")
    new = load_file(tmp_path / "new.safetensors")
    matrix = torch.from_numpy(GAUGE.matrix()).float()
    for name, tensor in tensors.items():
        expected = tensor
        for axis, letter in enumerate(known.words(name)):
            if letter in ("d", "o"):
                expected = torch.movedim(expected.movedim(axis, -1) @ matrix.T, -1, axis)
        torch.testing.assert_close(new[name], expected, rtol=0, atol=0)
    carry(find_object(tmp_path / "new.safetensors", "sae"), GAUGE.inverse(), tmp_path / "back")
    back = load_file(tmp_path / "back")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def saelens(folder, width=D, **config):
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    shapes = {"W_enc": (width, F), "W_dec": (F, width), "b_enc": (F,), "b_dec": (width,)}
    save_file(
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()},
        folder / "sae_weights.safetensors",
    )
    told = {"d_in": width, "d_sae": F, "architecture": "standard", "an_unknown_field": [1, {}]}
    (folder / "cfg.json").write_text(json.dumps(told | config))
    save_file({"sparsity": torch.ones(F)}, folder / "sparsity.safetensors")
    return folder


def test_a_folder_tells_model_and_hook_and_keeps_all_else(tmp_path):
    metadata = {"model_name": "smollm2", "hook_name": "blocks.3.hook_resid_post"}
    folder = saelens(tmp_path / "sae", metadata=metadata)
    found = find_object(folder)
    assert (found.kind, found.format) == ("sparse dictionary", "SAELens")
    assert (found.where["model"], found.where["hook"]) == ("smollm2", metadata["hook_name"])
    carry(found, GAUGE, tmp_path / "new")
    assert (tmp_path / "new/cfg.json").read_bytes() == (folder / "cfg.json").read_bytes()
    assert (
        open_container(tmp_path / "new/sae_weights.safetensors").rest["bmatch_group"] == GAUGE.group
    )
    assert torch.equal(load_file(tmp_path / "new/sparsity.safetensors")["sparsity"], torch.ones(F))


def test_in_memory():
    tensors = {name: t.numpy() for name, t in made(FORMATS[0]).items() if "attn" not in name}
    moved = sae(tensors, GAUGE)
    x = np.random.default_rng(0).standard_normal((4, D))
    np.testing.assert_allclose(GAUGE.apply(x) @ moved["W_enc"], x @ tensors["W_enc"], atol=1e-12)
    with pytest.raises(ValueError, match="no format of sparse dictionaries"):
        sae(tensors, SignedPermutation.random(D + 1, seed=0))
    with pytest.raises(ValueError, match="no format of sparse dictionaries"):
        sae({**tensors, "W_other": tensors["W_enc"]}, GAUGE)


def test_what_keeps_a_file_from_being_a_dictionary_is_named(tmp_path):
    folder = saelens(tmp_path / "sae")
    weights = load_file(folder / "sae_weights.safetensors")
    save_file({**weights, "log_sparsity": torch.ones(F)}, folder / "sae_weights.safetensors")
    with pytest.raises(UnknownObjectError, match=r"one of SAELens without log_sparsity \[10\]"):
        find_object(folder)


@pytest.mark.parametrize("key", ["hook_points", "hook_points_in", "hf_hook_point_in"])
def test_a_crosscoder_of_which_a_place_lies_inside_a_block(key, tmp_path):
    tensors = {"W_E": torch.randn(2, D, F), "W_D": torch.randn(2, F, D), "b_D": torch.randn(2, D)}
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    hooks = ["blocks.3.hook_resid_post", "blocks.3.hook_mlp_out"]
    (tmp_path / "config.json").write_text(json.dumps({key: hooks}))
    assert find_object(tmp_path).where["hook"] == ", ".join(hooks)
    (tmp_path / "config.json").write_text(json.dumps({key: [*hooks, "blocks.3.mlp.hook_post"]}))
    with pytest.raises(ValueError, match=r"blocks\.3\.mlp\.hook_post, inside its block"):
        find_object(tmp_path)


def test_names_alone_tell_no_axes(tmp_path):
    """Qwen Scope has SAELens' names, transposed; in a square one nothing tells them apart."""
    square = {"W_enc": torch.randn(D, D), "W_dec": torch.randn(D, D)}
    square |= {"b_enc": torch.randn(D), "b_dec": torch.randn(D)}
    save_file(square, tmp_path / "sae.safetensors")
    with pytest.raises(ValueError, match="cannot be told"):
        find_object(tmp_path / "sae.safetensors")
    with pytest.raises(ValueError, match="cannot be told"):
        sae(square, GAUGE)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hook_name": "blocks.3.mlp.hook_post"}, "leaves it as it is"),
        ({"hook_name": "somewhere"}, "'somewhere' lies in the residual stream is not known"),
        ({"d_in": D + 1}, "no format of sparse dictionaries"),
    ],
)
def test_what_cannot_be_carried(config, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        find_object(saelens(tmp_path / "sae", **config))


@pytest.mark.parametrize(
    "config",
    [
        {"normalize_activations": "layer_norm"},
        {"model_from_pretrained_kwargs": {"center_writing_weights": True}},
    ],
)
def test_signs_do_not_commute_with_means(config, tmp_path):
    found = find_object(saelens(tmp_path / "sae", **config))
    with pytest.raises(ValueError, match=r"cannot be carried by a signed_permutation gauge.*mean"):
        carry(found, GAUGE, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    for sign in (1, -1):
        raw = SignedPermutation(GAUGE.perm, np.full(D, sign))
        carry(found, raw, tmp_path / f"new{sign}")


def trained(weights, state, x, steps):
    """An autoencoder and its optimizer, so many steps on, as SAELens numbers its tensors."""
    own = {name: torch.nn.Parameter(weights[name].clone()) for name in sorted(weights)}
    optimizer = torch.optim.Adam(own.values(), lr=0.01, amsgrad=True)
    if state is not None:
        optimizer.load_state_dict(state)
    for _ in range(steps):
        codes = torch.relu((x - own["b_dec"]) @ own["W_enc"] + own["b_enc"])
        optimizer.zero_grad()
        (codes @ own["W_dec"] + own["b_dec"] - x).square().sum().backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in own.items()}, optimizer.state_dict()


@pytest.mark.parametrize("name", ["trainer_state.pt", "optimizer_0.pt"])  # SAELens, sparsify
def test_training_goes_on_where_the_optimizer_is_carried_along(tmp_path, name):
    folder, x = saelens(tmp_path / "sae"), torch.randn(20, D)
    weights, state = trained(load_file(folder / "sae_weights.safetensors"), None, x, 5)
    save_file(weights, folder / "sae_weights.safetensors")
    counts = {"act_freq_scores": torch.arange(F), "n_training_steps": 5}
    nested = name.startswith("trainer")
    save_file({"n": torch.tensor(7)}, folder / "activations_store_state.safetensors")
    torch.save({"optimizer": state, **counts} if nested else state, folder / name)
    carry(find_object(folder), GAUGE, tmp_path / "new")
    kept = torch.load(tmp_path / "new" / name)
    if nested:
        assert torch.equal(kept["act_freq_scores"], torch.arange(F))
    there, _ = trained(
        load_file(tmp_path / "new/sae_weights.safetensors"),
        kept["optimizer"] if nested else kept,
        GAUGE.apply(x),
        5,
    )
    here, _ = trained(weights, state, x, 5)
    expected = sae(here, GAUGE)
    for key, tensor in there.items():
        torch.testing.assert_close(tensor, expected[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"exp_avg": torch.ones(2, D)}, "has the shape of none of them"),
        ({"state1": torch.ones(F, D)}, "no moment of Adam or SGD"),
    ],
)
def test_an_optimizer_is_refused_where_nothing_tells_how_it_moves(tmp_path, state, message):
    folder = saelens(tmp_path / "sae")
    tree = {"optimizer": {"state": {0: state}, "param_groups": [{"params": [0]}]}}
    torch.save(tree, folder / "trainer_state.pt")
    with pytest.raises(ValueError, match=rf"trainer_state\.pt.*{message}.* take it out"):
        find_object(folder)
    torch.save(
        {"other": torch.ones(D), "param_groups": [{"params": [0]}]}, folder / "trainer_state.pt"
    )
    with pytest.raises(ValueError, match=r"how other \[6\] moves with the stream is not known"):
        find_object(folder)
    (folder / "trainer_state.pt").unlink()
    assert find_object(folder).width == D


def test_an_optimizer_of_a_square_dictionary_is_refused(tmp_path):
    """Encoder and decoder have one shape, and move along different axes."""
    shapes = {"w_enc": (D, D), "w_dec": (D, D), "b_dec": (D,)}
    save_file({k: torch.ones(s) for k, s in shapes.items()}, tmp_path / "params.safetensors")
    state = {0: {"exp_avg": torch.ones(D, D)}}
    torch.save({"state": state, "param_groups": [{"params": [0]}]}, tmp_path / "optimizer.pt")
    with pytest.raises(ValueError, match="the shape of tensors that move differently"):
        find_object(tmp_path)


def test_files_of_llamascopium_that_hold_a_version(tmp_path):
    tensors = {"W_E": torch.randn(D, F), "W_D": torch.randn(F, D), "b_D": torch.randn(D)}
    tensors["dataset_average_activation_norm.blocks.3.hook_resid_post"] = torch.tensor(3.0)
    torch.save({"sae": tensors, "version": "2.0"}, tmp_path / "sae_weights.pt")
    found = find_object(tmp_path / "sae_weights.pt")
    assert found.format == "Llamascopium SAE"
    carry(found, GAUGE, tmp_path / "new.pt")
    new = torch.load(tmp_path / "new.pt")
    assert new["version"] == "2.0"
    expected = sae({"W_E": tensors["W_E"], "W_D": tensors["W_D"], "b_D": tensors["b_D"]}, GAUGE)
    assert all(torch.equal(new["sae"][name], tensor) for name, tensor in expected.items())


def batch_top_k(generator):
    shapes = {"b_dec": (D,), "encoder.weight": (F, D), "encoder.bias": (F,)}
    shapes["decoder.weight"] = (D, F)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {**tensors, "k": torch.tensor(8), "threshold": torch.tensor(0.3)}


def test_a_folder_of_dictionary_learning(tmp_path):
    """As its demo and its tests name where it was trained, and its trainer goes on from it."""
    tensors = batch_top_k(torch.Generator().manual_seed(0))
    told = {"dict_class": "BatchTopKSAE", "activation_dim": D, "dict_size": F, "layer": 12}
    told |= {"lm_name": "google/gemma-2-2b", "submodule_name": "resid_post_layer_12"}
    trainer = tmp_path / "resid_post_layer_12/trainer_0"
    (trainer / "checkpoints").mkdir(parents=True)
    (trainer / "config.json").write_text(json.dumps({"trainer": told, "buffer": {"ctx_len": 128}}))
    torch.save(tensors, trainer / "checkpoints/ae_100.pt")
    own = {k: torch.nn.Parameter(t.clone()) for k, t in tensors.items() if t.ndim}
    optimizer = torch.optim.Adam(own.values())
    sum((p**3).sum() for p in own.values()).backward()
    optimizer.step()
    backup = {"step": 100, "ae": tensors, "optimizer": optimizer.state_dict()}
    torch.save({**backup, "config": told, "norm_factor": 12.5}, trainer / "ae.pt")

    found = find_object(tmp_path / "resid_post_layer_12")
    assert (found.format, found.width) == ("dictionary_learning", D)
    assert (found.where["hook"], found.where["layer"]) == ("resid_post_layer_12", "12")
    carry(found, GAUGE, tmp_path / "new")
    plain = torch.load(tmp_path / "new/trainer_0/checkpoints/ae_100.pt")
    expected = sae(tensors, GAUGE)
    assert all(torch.equal(plain[name], tensor) for name, tensor in expected.items())
    new = torch.load(tmp_path / "new/trainer_0/ae.pt")
    assert (new["step"], new["config"], new["norm_factor"]) == (100, told, 12.5)
    assert all(torch.equal(new["ae"][name], tensor) for name, tensor in expected.items())
    for number, name in enumerate(own):
        was, now = (held["optimizer"]["state"][number] for held in (backup, new))
        signed = sae({**tensors, name: was["exp_avg"]}, GAUGE)[name]
        assert torch.equal(now["exp_avg"], signed)
        square = sae({**tensors, name: was["exp_avg_sq"]}, GAUGE)[name].abs()
        assert torch.equal(now["exp_avg_sq"], square)
        assert now["step"] == was["step"]


def test_counts_of_sparsify_stay(tmp_path):
    """As its trainer leaves them beside the folders of hook points."""
    for hook in ("layers.3", "layers.5.mlp"):
        (tmp_path / "run" / hook).mkdir(parents=True)
        shapes = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
        tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
        save_file(tensors, tmp_path / "run" / hook / "sae.safetensors")
        told = {"num_latents": 0, "expansion_factor": 2, "k": 4, "d_in": D}
        (tmp_path / "run" / hook / "cfg.json").write_text(json.dumps(told))
    counts = {hook: torch.arange(F) for hook in ("layers.3", "layers.5.mlp")}
    state = {"num_tokens_since_fired": counts, "best_loss": dict.fromkeys(counts, 0.5)}
    torch.save(state, tmp_path / "run/rank_0_state.pt")
    torch.save({"global_step": 5}, tmp_path / "run/state.pt")
    carry(find_object(tmp_path / "run"), GAUGE, tmp_path / "new")
    new = torch.load(tmp_path / "new/rank_0_state.pt")
    assert new["best_loss"] == state["best_loss"]
    assert all(torch.equal(new["num_tokens_since_fired"][hook], counts[hook]) for hook in counts)


def test_a_temporal_sae_as_published_has_a_bias_of_one_row(tmp_path):
    tensors = {"D": torch.randn(F, D), "E": torch.randn(D, F), "b": torch.randn(1, D)}
    tensors["expected_min_act"] = torch.zeros(1)
    for name, shape in {"k_ctx": 3, "q_target": 3, "v_ctx": F, "c_proj": F}.items():
        tensors[f"attn_layers.0.{name}.weight"] = torch.randn(shape, F)
        tensors[f"attn_layers.0.{name}.bias"] = torch.randn(shape)
    save_file(tensors, tmp_path / "latest_ckpt.safetensors")
    carry(find_object(tmp_path / "latest_ckpt.safetensors"), GAUGE, tmp_path / "new.safetensors")
    new = load_file(tmp_path / "new.safetensors")
    assert torch.equal(new["b"], GAUGE.apply(tensors["b"]))
    x = torch.randn(4, D)
    codes = (x - tensors["b"]) @ tensors["E"]
    torch.testing.assert_close((GAUGE.apply(x) - new["b"]) @ new["E"], codes)


def distributed(state, folder):
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder))


@pytest.mark.filterwarnings("ignore:.*single process.*:UserWarning")
def test_distributed_checkpoints_of_llamascopium(tmp_path):
    """As its trainer writes them for several processes: weights, optimizer, scheduler."""
    x = torch.randn(20, D)
    names = {"W_enc": "W_E", "W_dec": "W_D", "b_enc": "b_E", "b_dec": "b_D"}
    start = load_file(saelens(tmp_path / "a") / "sae_weights.safetensors")
    weights, state = trained(start, None, x, 3)
    folder = tmp_path / "step_3"
    distributed({names[k]: tensor for k, tensor in weights.items()}, folder / "sae_weights.dcp")
    distributed(state, folder / "optimizer.dcp")
    distributed({"last_epoch": 3, "_last_lr": [0.1]}, folder / "scheduler.dcp")
    (folder / "config.json").write_text(json.dumps({"sae_type": "sae", "d_model": D}))
    found = find_object(folder)
    assert (found.kind, found.format, found.width) == (
        "sparse dictionary",
        "Llamascopium SAE",
        D,
    )
    carry(found, GAUGE, tmp_path / "new")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        *("bmatch.json", "config.json", "optimizer.dcp", "sae_weights.dcp", "scheduler.dcp"),
    ]
    kept = DistributedFiles(tmp_path / "new/sae_weights.dcp")
    read = {k: kept.tensor(names[k]) for k in weights}
    moments = {"state": copy.deepcopy(state["state"])}
    dcp.load(moments, storage_reader=dcp.FileSystemReader(tmp_path / "new/optimizer.dcp"))
    there, _ = trained(read, {**state, **moments}, GAUGE.apply(x), 5)
    here, _ = trained(weights, state, x, 5)
    for key, tensor in sae(here, GAUGE).items():
        torch.testing.assert_close(there[key], tensor, rtol=1e-5, atol=1e-6)

    alone = find_object(folder / "sae_weights.dcp")
    assert alone.width == D
    carry(alone, GAUGE, tmp_path / "alone.dcp")
    carry(find_object(tmp_path / "alone.dcp"), GAUGE.inverse(), tmp_path / "back.dcp")
    back = DistributedFiles(tmp_path / "back.dcp")
    assert all(torch.equal(back.tensor(names[k]), tensor) for k, tensor in weights.items())
    with pytest.raises(ValueError, match="acts on 7 coordinates"):
        carry(found, SignedPermutation.random(7, seed=0), tmp_path / "seven")
    (folder / "sae_weights.dcp" / "__0_0.distcp").unlink()
    with pytest.raises(FileNotFoundError, match=r"sae_weights\.dcp is incomplete"):
        find_object(folder)


def test_strange_files_and_widths(tmp_path):
    folder = saelens(tmp_path / "sae")
    with pytest.raises(ValueError, match="acts on 7 coordinates"):
        carry(find_object(folder), SignedPermutation.random(7, seed=0), tmp_path / "new")
    torch.save({"a": torch.ones(3)}, folder / "trainer_state.pt")
    with pytest.raises(ValueError, match=r"trainer_state\.pt lies beside"):
        find_object(folder)
    with pytest.raises(UnknownObjectError, match="nothing that is known"):
        find_object(folder / "trainer_state.pt", "sae")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownObjectError):
        find_object(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        find_object(tmp_path / "nothing")


def test_companions_without_coordinates(tmp_path):
    """A sparsity of features tells no width, and a whitening moves as what it is done to."""
    folder = saelens(tmp_path / "sae")
    (folder / "cfg.json").unlink()
    whitening = {"mean": torch.randn(D), "matrix": torch.randn(D, D)}
    whitening["inverse_matrix"] = torch.linalg.inv(whitening["matrix"]).contiguous()
    save_file(whitening, folder / "activation_whitening.safetensors")
    carry(find_object(folder), GAUGE, tmp_path / "new")
    new = load_file(tmp_path / "new/activation_whitening.safetensors")
    x = torch.randn(3, D)
    white = (x - whitening["mean"]) @ whitening["matrix"]
    torch.testing.assert_close((GAUGE.apply(x) - new["mean"]) @ new["matrix"], white)
    back = white @ new["inverse_matrix"] + new["mean"]
    torch.testing.assert_close(back, GAUGE.apply(x), rtol=1e-3, atol=1e-3)


def many(path, name, shape, count):
    """A file of so many tensors, the k-th of k, k + 1, ..., written as a whole."""
    size = 4 * int(np.prod(shape))
    entries = {
        name.format(k): {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [k * size, k * size + size],
        }
        for k in range(count)
    }
    header = json.dumps(entries).encode()
    numbers = np.arange(count, dtype=np.float32)[:, None] + np.arange(size // 4, dtype=np.float32)
    path.write_bytes(len(header).to_bytes(8, "little") + header + numbers.tobytes())
    return path


def test_a_hundred_thousand_unknown_keys_are_refused_in_one_sentence(tmp_path):
    with pytest.raises(UnknownObjectError) as told:
        find_object(many(tmp_path / "many.safetensors", "k{}", [1], 100_000))
    assert len(str(told.value)) < 300


def test_ten_thousand_directions_are_carried(tmp_path):
    count = 10_000
    found = find_object(many(tmp_path / "many.safetensors", "layer_{}", [D], count))
    assert found.width == D
    carry(found, GAUGE, tmp_path / "new.safetensors")
    with safe_open(tmp_path / "new.safetensors", "pt") as file:
        assert len(file.keys()) == count
        kept = file.get_tensor(f"layer_{count - 1}")
    assert torch.equal(kept, GAUGE.apply(torch.arange(D) + float(count - 1)))
