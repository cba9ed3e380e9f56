"""Small models of real architectures, their tokenizer, checkpoints in planted gauges. What
they need is imported where it is asked for: the tests of the solver run without it."""

from __future__ import annotations

import itertools
import os
import sys
import types

os.environ["TQDM_DISABLE"] = "1"  # transformers' bars would fill the test output

import hypothesis
import pytest

import bmatch

# A core that others work on, too, makes no test wrong.
hypothesis.settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("no deadline")

# In a process of their own, which test_kernels.py starts.
collect_ignore = ["kernels"]

# Begun first, so that no process works on one of them alone while the others have nothing left.
LONGEST = ("kernels", "native", "fibers", "demo", "minilm", "background")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not any(word in item.nodeid.split("::")[0] for word in LONGEST))


# Rich reads these as its consoles are made; the terminal the tests were started from is not theirs.
for name in ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Tables that are derived here are neither read from the user's cache nor kept there."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone, which DDP and FSDP ask for."""
    import torch

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def bmatch_(monkeypatch, capsys):
    """Runs a command line in this process; returns exit code, standard output, standard error."""
    from bmatch.cli import app

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bmatch", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            app.main()
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, " ".join(captured.err.split())

    return run


@pytest.fixture(scope="session")
def tokenizer():
    """A byte-level BPE tokenizer of 300 tokens."""
    import tokenizers
    import transformers
    from tiny_models import VOCABULARY

    from bmatch.models.text import default_text

    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(itertools.islice(default_text(), 5), trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model)


@pytest.fixture(scope="session")
def secret():
    """The gauge planted between the source and the target of `pair`."""
    from tiny_models import WIDTH

    return bmatch.SignedPermutation.random(WIDTH, seed=7)


@pytest.fixture(scope="session")
def pair(tmp_path_factory, tokenizer, secret):
    """Two checkpoint folders: a tied model in shards, and its noisy image under the secret."""
    from tiny_models import in_gauge, noisy_copy, tiny_model

    root = tmp_path_factory.mktemp("pair")
    source = tiny_model("llama", tied=True)
    for name, model in (
        ("source", source),
        ("target", in_gauge(noisy_copy(source, 0.05, 1), secret)),
    ):
        model.save_pretrained(root / name, max_shard_size="20KB")
        tokenizer.save_pretrained(root / name)
    return root / "source", root / "target"


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """The demo, run once on its real weights: its folder and its result."""
    from bmatch.demo import run_demo

    folder = tmp_path_factory.mktemp("demo") / "bmatch-demo"
    return types.SimpleNamespace(folder=folder, result=run_demo(folder))
