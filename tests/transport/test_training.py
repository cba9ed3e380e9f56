"""Real runs of transformers' Trainer, resumed from carried folders."""

from __future__ import annotations

import pytest
import torch
import transformers
from tiny_models import VOCABULARY, WIDTH, load, tensors_of, tiny_model

from bmatch import SignedPermutation, transport


class Tokens(torch.utils.data.Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, k):
        generator = torch.Generator().manual_seed(k)
        tokens = torch.randint(VOCABULARY, (12,), generator=generator)
        return {"input_ids": tokens, "labels": tokens}


def run(model, folder, resume=None, **options):
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=6,
        save_steps=3,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        adam_epsilon=1e-4,
        weight_decay=0.1,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        **options,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=Tokens())
    trainer.train(resume_from_checkpoint=resume)
    return trainer.model.state_dict()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run of six steps, and the folder that it left after three."""
    folder = tmp_path_factory.mktemp("run")
    weights = run(tiny_model("llama", tied=True, num_hidden_layers=1).train(), folder)
    return weights, folder / "checkpoint-3"


def test_a_resumed_run_goes_on_as_it_would_have(first, tmp_path):
    weights, folder = first
    gauge = SignedPermutation.random(WIDTH, seed=1)
    transport.trainer_checkpoint(folder, gauge, tmp_path / "checkpoint-3")
    resumed = run(load(tmp_path / "checkpoint-3").train(), tmp_path / "b", str(tmp_path / "checkpoint-3"))
    wanted = transport.state_dict(weights, gauge, load(folder))
    for name, tensor in wanted.items():
        print(name, (resumed[name] - tensor).abs().max() / tensor.abs().max())
    import os
    print(sorted(os.listdir(folder)), sorted(os.listdir(tmp_path / "checkpoint-3")))
