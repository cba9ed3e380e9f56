"""Objects written, carried and loaded again by the packages that own their formats."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import types

import numpy as np
import pytest
import torch
from steps import departure, trained
from tiny_models import WIDTH, in_gauge, noisy_copy, tensors_of, tiny_model

from bmatch import SignedPermutation, transport
from bmatch.transport import Merged, carry, find_object, merge_by_mergekit
from bmatch.transport.by_mergekit import COMMAND

pytestmark = [pytest.mark.owners, pytest.mark.filterwarnings("ignore")]  # of the packages'

D, F = 16, 48
GAUGE = SignedPermutation.random(D, seed=1)
RAW = SignedPermutation(GAUGE.perm)
X = torch.randn(64, D, generator=torch.Generator().manual_seed(0))


def randomised(module):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return module


def carried(path, out, gauge=GAUGE):
    found = find_object(path)
    assert found.width == D
    carry(found, gauge, out)
    return found


def compare(before, load, path, tmp_path):
    """Its reconstruction goes along with the gauge, and with the permutation alone it does not."""
    errors = []
    for name, gauge in (("signed", GAUGE), ("raw", RAW)):
        carried(path, tmp_path / name, gauge)
        after = load(tmp_path / name)
        with torch.no_grad():
            expected = GAUGE.apply(before(X))
            errors.append(float((after(GAUGE.apply(X)) - expected).norm() / expected.norm()))
    assert errors[0] < 1e-5
    assert errors[1] > 0.1


@pytest.mark.parametrize(
    "architecture",
    [
        *("standard", "gated", "topk", "abstopk", "jumprelu", "matching_pursuit", "temporal"),
        *("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"),
    ],
)
def test_saelens(architecture, tmp_path):
    saelens = pytest.importorskip("sae_lens", exc_type=ImportError)
    made, config = saelens.registry.SAE_CLASS_REGISTRY[architecture]
    options = {"d_in": D, "d_out": D, "d_sae": F, "k": 4, "n_heads": 4, "bottleneck_factor": 4}
    options |= {"sae_diff_type": "relu"}
    if "transcoder" in architecture:
        options["apply_b_dec_to_input"] = False
    fields = {field.name for field in dataclasses.fields(config)}
    sae = randomised(made(config(**{k: v for k, v in options.items() if k in fields})))
    sae.save_model(tmp_path / "sae")

    def run(loaded):
        def call(x):
            y = loaded(x[None] if architecture == "temporal" else x)
            return (y[0] if isinstance(y, tuple) else y).reshape(x.shape)

        return call

    compare(run(sae), lambda p: run(saelens.SAE.load_from_disk(p)), tmp_path / "sae", tmp_path)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_saelens_while_training(architecture, tmp_path):
    """As its trainer saves them, and as what they become: a JumpReLU dictionary."""
    saelens = pytest.importorskip("sae_lens", exc_type=ImportError)
    made, config = saelens.registry.SAE_TRAINING_CLASS_REGISTRY[architecture]
    widths = {"matryoshka_widths": [F // 3, F]} if architecture.startswith("m") else {}
    sae = randomised(made(config(d_in=D, d_sae=F, k=4.0, **widths)))
    sae.topk_threshold.fill_(0.1)
    sae.save_model(tmp_path / "sae")
    compare(sae, saelens.TrainingSAE.load_from_disk, tmp_path / "sae", tmp_path)
    sae.save_inference_model(tmp_path / "after" / "sae")
    load = saelens.SAE.load_from_disk
    compare(load(tmp_path / "after/sae"), load, tmp_path / "after/sae", tmp_path / "after")


@pytest.mark.parametrize("transcode", [False, True])
def test_sparsify(transcode, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSIFY_DISABLE_TRITON", "1")
    sparsify = pytest.importorskip("sparsify", exc_type=ImportError)
    config = sparsify.SparseCoderConfig(
        num_latents=F, k=4, transcode=transcode, skip_connection=transcode
    )
    coder = randomised(sparsify.SparseCoder(D, config))
    coder.save_to_disk(tmp_path / "layers.3")

    def run(loaded):
        return lambda x: loaded(x).sae_out

    compare(
        run(coder),
        lambda p: run(sparsify.SparseCoder.load_from_disk(p)),
        tmp_path / "layers.3",
        tmp_path,
    )


TRAINED = {"BatchTopKSAE": "batch_top_k", "MatryoshkaBatchTopKSAE": "matryoshka_batch_top_k"}
"""Dictionaries of dictionary_learning that lie beside their trainers, by the module."""


@pytest.mark.parametrize(
    "name",
    ["AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder", *TRAINED],
)
def test_dictionary_learning(name, tmp_path, monkeypatch):
    nnsight = types.ModuleType("nnsight")  # the package's buffers name a class of it, and no more
    nnsight.LanguageModel = object
    monkeypatch.setitem(sys.modules, "nnsight", nnsight)
    place = f"trainers.{TRAINED[name]}" if name in TRAINED else "dictionary"
    package = pytest.importorskip(f"dictionary_learning.{place}", exc_type=ImportError)
    further = {"BatchTopKSAE": (4,), "MatryoshkaBatchTopKSAE": (4, [F // 3, F - F // 3])}

    def made():
        return getattr(package, name)(D, F, *further.get(name, ()))

    dictionary = randomised(made())
    (tmp_path / "trainer_0").mkdir()
    torch.save(dictionary.state_dict(), tmp_path / "trainer_0" / "ae.pt")
    told = {"trainer": {"activation_dim": D, "dict_size": F, "dict_class": name, "layer": 3}}
    (tmp_path / "trainer_0" / "config.json").write_text(json.dumps(told))

    def load(path):
        loaded = made()
        loaded.load_state_dict(torch.load(path / "ae.pt"))
        return loaded

    compare(dictionary, load, tmp_path / "trainer_0", tmp_path)


def test_circuit_tracer(tmp_path):
    package = pytest.importorskip(
        "circuit_tracer.transcoder.single_layer_transcoder", exc_type=ImportError
    )
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(3)
    shapes = {"W_enc": (F, D), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,), "W_skip": (D, D)}
    (tmp_path / "set").mkdir()
    save_file(
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()},
        tmp_path / "set" / "layer_0.safetensors",
    )
    (tmp_path / "set" / "config.yaml").write_text(
        "model_kind: transcoder_set\nmodel_name: any\nfeature_input_hook: mlp.hook_in\n"
        "feature_output_hook: mlp.hook_out\n"
    )

    def load(path):
        return package.load_relu_transcoder(
            str(path / "layer_0.safetensors"), 0, device=torch.device("cpu"), dtype=torch.float32,
            lazy_encoder=False, lazy_decoder=False,
        )  # fmt: skip

    compare(load(tmp_path / "set"), load, tmp_path / "set", tmp_path)


def test_control_vectors_of_llama_cpp(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(str(tmp_path / "v.gguf"), "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 2)
    for layer in (1, 2):
        writer.add_tensor(f"direction.{layer}", X[layer].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = carried(tmp_path / "v.gguf", tmp_path / "new.gguf")
    assert (found.format, found.where) == ("control vector of llama.cpp", {"model": "llama"})
    read = gguf.GGUFReader(tmp_path / "new.gguf")
    for tensor in read.tensors:
        layer = int(tensor.name.removeprefix("direction."))
        assert (tensor.data == GAUGE.apply(X[layer]).numpy()).all()
    carry(find_object(tmp_path / "new.gguf"), GAUGE.inverse(), tmp_path / "back.gguf")
    assert (tmp_path / "back.gguf").read_bytes() == (tmp_path / "v.gguf").read_bytes()


def test_control_vectors_of_repeng(tmp_path, monkeypatch):
    # Named in an annotation, and no more in NumPy.
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    repeng = pytest.importorskip("repeng", exc_type=ImportError)
    held = {layer: X[layer].numpy() for layer in (1, 2, 5)}
    made = repeng.ControlVector(model_type="llama", directions=held)
    moved = transport.vector(made, GAUGE)
    made.export_gguf(tmp_path / "v.gguf")
    carried(tmp_path / "v.gguf", tmp_path / "new.gguf")
    read = repeng.ControlVector.import_gguf(tmp_path / "new.gguf")
    assert (read.model_type, sorted(read.directions)) == ("llama", sorted(held))
    for layer, direction in held.items():
        expected = GAUGE.apply(direction)
        assert (read.directions[layer] == expected).all()
        assert (moved.directions[layer] == expected).all()


def test_steering_vectors_in_memory():
    package = pytest.importorskip("steering_vectors", exc_type=ImportError)
    made = package.SteeringVector({3: X[3], 7: X[7]}, layer_type="decoder_block")
    moved = transport.vector(made, GAUGE)
    assert (type(moved), moved.layer_type) == (type(made), made.layer_type)
    for layer, direction in made.layer_activations.items():
        assert torch.equal(moved.layer_activations[layer], GAUGE.apply(direction))


@pytest.mark.parametrize(
    ("package", "name", "options"),
    [
        ("schedulefree", "AdamWScheduleFree", {"lr": 1e-3, "eps": 3e-4, "weight_decay": 0.1}),
        ("schedulefree", "RAdamScheduleFree", {"lr": 1e-3, "eps": 3e-4}),
        ("schedulefree", "SGDScheduleFree", {"lr": 1e-2}),
        ("lion_pytorch", "Lion", {"lr": 1e-4}),
    ],
)
def test_optimizers(package, name, options):
    """Twenty steps from a carried state are twenty steps, carried; without signs they are not."""
    make = getattr(pytest.importorskip(package), name)
    gauge = SignedPermutation.random(WIDTH, seed=1)

    def stepper(model, state=None):
        optimizer = make(model.parameters(), **options)
        if state is not None:
            optimizer.load_state_dict(state)
        getattr(optimizer, "train", lambda: None)()
        return optimizer

    model = tiny_model(num_hidden_layers=1)
    optimizer = stepper(model)
    trained(model, optimizer, 3, 0)
    state = optimizer.state_dict()
    others = []
    for signs in (gauge, SignedPermutation(gauge.perm)):
        other = in_gauge(model, gauge)
        others.append((other, stepper(other, transport.optimizer_state(state, signs, model))))
    for one, by in ((model, optimizer), *others):
        trained(one, by, 20, 3)
    wanted = transport.state_dict(model.state_dict(), gauge, model)
    signed, bare = (departure(other, wanted) for other, _ in others)
    assert signed < 1e-6
    assert bare > 1e-3


@pytest.mark.parametrize("method", ["slerp", "ties", "dare_ties", "dare_linear"])
def test_mergekit(method, tmp_path):
    """A model in another gauge is merged as the same model in the base's."""
    beside = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
    if shutil.which(COMMAND, path=beside) is None:
        pytest.skip("no mergekit")
    base = tiny_model()
    one, two = noisy_copy(base, 0.1, 1), noisy_copy(base, 0.1, 2)
    gauge = SignedPermutation.random(WIDTH, seed=3)
    models = {"base": base, "one": one, "two": two, "moved": in_gauge(two, gauge)}
    for name, model in models.items():
        model.save_pretrained(tmp_path / name)
    aligned = [Merged(tmp_path / "one", None, 0.7)] * (method != "slerp")
    for last, found in (("two", None), ("moved", gauge.inverse())):
        others = [*aligned, Merged(tmp_path / last, found, 0.5)]
        merge_by_mergekit(tmp_path / "base", others, tmp_path / f"by_{last}", method)
    by_itself, by_gauge = (tensors_of(tmp_path / f"by_{name}") for name in ("two", "moved"))
    assert all(torch.equal(by_gauge[name], tensor) for name, tensor in by_itself.items())


@pytest.mark.parametrize("name", ["LogisticRegression", "Pipeline", "LinearDiscriminantAnalysis"])
def test_probes_of_scikit_learn(name):
    pytest.importorskip("sklearn")
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    from bmatch.transport.probes import probe

    estimators = {
        "LogisticRegression": LogisticRegression(),
        "Pipeline": make_pipeline(StandardScaler(), PCA(4), LogisticRegression()),
        "LinearDiscriminantAnalysis": LinearDiscriminantAnalysis(),
    }
    x = X.double().numpy() * 3 + 1
    fitted = estimators[name].fit(x, x[:, 0] + x[:, 3] > 2)
    before = fitted.decision_function(x)
    after = probe(fitted, GAUGE).decision_function(GAUGE.apply(x))
    assert abs(after - before).max() < 1e-9
    assert abs(fitted.decision_function(x) - before).max() == 0
    with pytest.raises(TypeError, match="MinMaxScaler is not known to be linear"):
        probe(MinMaxScaler().fit(x), GAUGE)
    with pytest.raises(ValueError, match="reads 16 coordinates"):
        probe(LogisticRegression().fit(x, x[:, 0] > 1), SignedPermutation.random(8, seed=0))
