"""From two folders to a gauge: its provenance, what may differ, and what is refused beforehand."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import tokenizers
import torch
import transformers
from tiny_models import WIDTH, in_gauge, load, noisy_copy, tiny_model

from bmatch.align import align_checkpoints
from bmatch.architecture import ResidualAxes
from bmatch.estimate import combined
from bmatch.models.text import default_text, token_batches
from bmatch.stream_reading import correlation_bytes
from bmatch.streams import correlate_streams


def test_the_memory_stated_before_the_job(pair):
    """Statistics of all sites and one batch of both models' streams; two batches on a GPU."""
    cpu = torch.device("cpu")
    streams = 2 * 3 * 512 * WIDTH * 4
    stated = correlation_bytes(3, WIDTH, 512, cpu)
    assert stated > 8 * 3 * WIDTH**2 + streams
    assert correlation_bytes(3, WIDTH, 1024, cpu) > stated + streams
    said = []
    a = align_checkpoints(*pair, tokens=600, tell=said.append)
    assert a.correlation_bytes == stated
    assert said == [
        f"moments of 3 sites and streams of 512 tokens a batch will take {stated / 1e6:,.1f} MB "
        "on cpu beside the models",
        f"memory in all, models included: about {a.foreseen_bytes / 1e6:,.0f} MB",
    ]


def test_align_checkpoints_recovers_the_secret_with_provenance(pair, secret, tokenizer):
    a = align_checkpoints(*pair, tokens=1000)
    assert a.gauge == secret
    meta = a.gauge.metadata
    assert (meta["source"], meta["target"]) == ("source", "target")
    assert meta["tokens"] == "1000"
    assert len(meta["source_sha256"].removeprefix("xxh3:")) == 64
    assert meta["source_sha256"] != meta["target_sha256"]
    models = [load(folder) for folder in pair]
    batches = token_batches(tokenizer, default_text(), 1000)
    direct = correlate_streams(models[1], models[0], batches)
    assert torch.equal(direct.correlation, a.streams.correlation)


def saved(folder, model, tokenizer=None):
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def test_one_table_a_model(pair, monkeypatch):
    """Everything after the opening of a checkpoint is handed the table that was made then."""
    made = []

    def counted(make):
        return lambda *arguments: made.append(make) or make(*arguments)

    monkeypatch.setattr("bmatch.architecture.stored.ResidualAxes", counted(ResidualAxes))
    for module in ("align", "stream_reading"):
        monkeypatch.setattr(f"bmatch.{module}.correlation_bytes", counted(correlation_bytes))
    align_checkpoints(*pair, tokens=3000)
    assert made.count(ResidualAxes) == 2
    assert made.count(correlation_bytes) == 2  # before models are loaded, and with them there


def test_another_type_with_the_same_tensors(tmp_path, tokenizer, secret):
    """Llamafied weights: the tensors are the same, and so is what they compute."""
    source = tiny_model("mistral", tied=False)
    config = tiny_model("llama", tied=False, attention_bias=False, mlp_bias=False).config
    target = transformers.LlamaForCausalLM(config)
    target.load_state_dict(source.state_dict())
    target = in_gauge(noisy_copy(target, 0.05, 1), secret)
    folders = (
        saved(tmp_path / "source", source, tokenizer),
        saved(tmp_path / "target", target, tokenizer),
    )
    said = []
    a = align_checkpoints(*folders, tokens=1000, tell=said.append)
    assert a.gauge == secret
    meta = a.gauge.metadata
    assert (meta["model_type"], meta["target_model_type"]) == ("mistral", "llama")
    assert len(said) == 2  # of memory, and nothing else


def test_base_and_instruct(pair, tmp_path, tokenizer, secret):
    """More special tokens and a resized vocabulary: ids of the text mean the same to both."""
    target = load(pair[1])
    target.resize_token_embeddings(320)
    more = copy.deepcopy(tokenizer)
    more.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    folder = saved(tmp_path / "instruct", target, more)
    said = []
    there = align_checkpoints(pair[0], folder, tokens=1000, tell=said.append)
    assert there.gauge == secret
    assert "tokens_paired_by" not in there.gauge.metadata
    assert len(said) == 2  # of memory, and nothing else
    before = align_checkpoints(*pair, tokens=1000)
    assert torch.equal(there.streams.correlation, before.streams.correlation)
    back = align_checkpoints(folder, pair[0], tokens=1000)
    assert back.gauge == secret.inverse()


def renumbered(tokenizer, order):
    """The tokenizer with other ids: the token of id k gets ``order[k]``."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {token: order[number] for token, number in vocabulary.items()}
    changed = tokenizers.Tokenizer.from_str(json.dumps(content))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=changed)


def test_other_token_ids_for_the_same_text(pair, tmp_path, tokenizer, secret):
    """The same tokens under other ids, in model and tokenizer: nothing else is different."""
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0)).tolist()
    target = load(pair[1])
    with torch.no_grad():
        embedding = target.model.embed_tokens.weight
        embedding[order] = embedding.clone()
    folder = saved(tmp_path / "target", target, renumbered(tokenizer, order))
    said = []
    a = align_checkpoints(pair[0], folder, tokens=1000, tell=said.append)
    assert a.gauge == secret
    assert a.gauge.metadata["tokens"] == "1000"
    assert a.gauge.metadata["tokens_paired_by"] == "the character at which they end"
    assert said[1] == (
        "the tokenizers differ: both models read the same text, and those tokens count that end at "
        "the same character"
    )
    same = align_checkpoints(*pair, tokens=1000)
    assert (a.streams.correlation - same.streams.correlation).abs().max() < 0.1


def test_another_depth(tmp_path, tokenizer, secret):
    """The target has an idle block more: sites at equal fractions of depth hold the same stream."""
    source = tiny_model(tied=False)
    target = tiny_model(tied=False, num_hidden_layers=3)
    weights = {
        name.replace("layers.1.", "layers.2."): tensor
        for name, tensor in noisy_copy(source, 0.05, 1).state_dict().items()
    }
    idle = {name: torch.zeros_like(t) for name, t in target.state_dict().items() if "s.1." in name}
    target.load_state_dict({**weights, **idle})
    target = in_gauge(target, secret)
    folders = (
        saved(tmp_path / "source", source, tokenizer),
        saved(tmp_path / "target", target, tokenizer),
    )
    said = []
    a = align_checkpoints(*folders, tokens=1000, tell=said.append)
    assert a.gauge == secret
    assert a.match.score > 0.9
    assert a.streams.pairs == ((0, 0), (2, 1), (3, 2))
    assert (a.gauge.metadata["sites"], a.gauge.metadata["source_sites"]) == ("0,2,3", "0,1,2")
    assert said[1] == (
        "the source has 2 blocks and the target 3: sites of source and target that are held "
        "against each other: 0 and 0, 1 and 2, 2 and 3"
    )
    ends = align_checkpoints(*folders, tokens=500, sites=[-1])
    assert ends.gauge == secret
    assert (ends.gauge.metadata["sites"], ends.gauge.metadata["source_sites"]) == ("3", "2")


def test_a_reward_model(pair, tmp_path, tokenizer, secret):
    """Its scores take the place of the unembedding; the gauge needs neither."""
    config = transformers.AutoConfig.from_pretrained(pair[0])
    config.num_labels = 1
    reward = transformers.AutoModelForSequenceClassification.from_config(config)
    reward.model.load_state_dict(load(pair[1]).model.state_dict())
    folder = saved(tmp_path / "reward", reward, tokenizer)
    a = align_checkpoints(pair[0], folder, tokens=1000)
    assert a.gauge == secret


def test_other_widths_are_refused(pair, tmp_path, tokenizer):
    folder = saved(tmp_path / "narrow", tiny_model(hidden_size=16), tokenizer)
    message = "different widths of the residual stream: 32 in the source and 16 in the target"
    with pytest.raises(ValueError, match=message):
        align_checkpoints(pair[0], folder)


def test_a_tokenizer_of_another_model_is_refused(pair, tmp_path, tokenizer):
    folder = saved(tmp_path / "small", tiny_model(vocab_size=120), tokenizer)
    with pytest.raises(ValueError, match=r"vocabulary of the model in .*small has 120: it belongs"):
        align_checkpoints(pair[0], folder, tokens=500)


@pytest.mark.parametrize("device", ["meta", "mps", "hpu", "nonsense", ""])
def test_devices_that_cannot_be_used(pair, device):
    message = f"device '{device}' cannot be used here: bmatch runs on cpu or on a CUDA device"
    with pytest.raises(ValueError, match=message):
        align_checkpoints(*pair, device=device)


def test_tokenizers_that_cannot_be_aligned(pair, tmp_path, tokenizer, monkeypatch):
    order = [1, 0, *range(2, 300)]
    folder = saved(tmp_path / "target", load(pair[1]), renumbered(tokenizer, order))
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match=r"source cannot tell where in the text its tokens end"):
        align_checkpoints(pair[0], folder, tokens=1000)


def test_weights_need_neither_tokenizer_nor_text_nor_model(pair, secret, tmp_path, monkeypatch):
    folders = [tmp_path / folder.name for folder in pair]
    for folder, bare in zip(pair, folders, strict=True):
        ignored = shutil.ignore_patterns("token*", "special*")
        shutil.copytree(folder, bare, ignore=ignored)
    monkeypatch.setattr("bmatch.stream_jobs.load_model", lambda *_: pytest.fail("a model was made"))
    said = []
    a = align_checkpoints(*folders, evidence="weights", tell=said.append)
    assert a.gauge == secret
    assert a.streams is None
    assert said == []
    meta = a.gauge.metadata
    assert meta["evidence"] == "weights"
    assert meta["weight_rows"] == str(a.weights.rows)
    assert len(meta["source_sha256"].removeprefix("xxh3:")) == 64
    assert not {"text", "tokens", "dtype", "sites"} & meta.keys()
    with pytest.raises(ValueError, match="evidence from weights reads no text: leave it out"):
        align_checkpoints(*folders, evidence="weights", text=["notes.txt"])


def test_both_kinds_of_evidence(pair, secret, tmp_path, tokenizer):
    """A vocabulary numbered anew is told, and is no evidence of its own."""
    target = load(pair[1])
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        target.model.embed_tokens.weight.copy_(target.model.embed_tokens.weight[order.argsort()])
    folder = saved(tmp_path / "anew", target, renumbered(tokenizer, order.tolist()))
    said = []
    a = align_checkpoints(pair[0], folder, tokens=300, evidence="both", tell=said.append)
    assert a.gauge == secret
    assert "model.embed_tokens.weight" not in a.weights.tensors
    assert a.gauge.metadata["evidence"] == "both"
    assert a.gauge.metadata["tokens"] == "300"
    assert torch.equal(a.correlation, combined(a.streams, a.weights))
