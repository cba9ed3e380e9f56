"""A run that is watched: hops as checkpoints appear, alarms, and training that does not notice."""

from __future__ import annotations

import shutil

import pytest
import torch
import transformers
from tiny_models import VOCABULARY, WIDTH, in_gauge, noisy_copy, tensors_of, tiny_model

import bmatch
from bmatch.trajectory import Watch
from bmatch.trajectory.callback import GaugeCallback
from bmatch.trajectory.watch import alarms

TOKENS = torch.randint(VOCABULARY, (8, 40), generator=torch.Generator().manual_seed(0))
GAUGE = bmatch.SignedPermutation.random(WIDTH, seed=3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Three checkpoints, of which the last was renumbered."""
    root = tmp_path_factory.mktemp("saved")
    model = tiny_model(num_hidden_layers=1)
    for step in (1, 2, 3):
        model = noisy_copy(model, 0.05, step)
        (in_gauge(model, GAUGE) if step == 3 else model).save_pretrained(
            root / f"checkpoint-{step}"
        )
    return root


def test_hops_drift_and_alarms(saved):
    watch = Watch([TOKENS])
    assert watch.see(saved / "checkpoint-1") is None
    hop = watch.see(saved / "checkpoint-2")
    assert (hop.verdict, hop.changed, watch.drift) == ("related", 0, 0)
    assert alarms(hop) == []
    assert watch.see(saved / "checkpoint-2") is None
    hop = watch.see(saved / "checkpoint-3")
    assert watch.gauge == hop.gauge == GAUGE
    (said,) = alarms(hop)
    assert said.startswith(f"checkpoint-2 -> checkpoint-3: {watch.drift} coordinates moved")


def test_strangers_are_an_alarm(saved, tmp_path):
    tiny_model(num_hidden_layers=1, seed=9).save_pretrained(tmp_path / "checkpoint-4")
    watch = Watch([TOKENS])
    watch.see(saved / "checkpoint-2")
    (said,) = alarms(watch.see(tmp_path / "checkpoint-4"))
    assert "not related" in said


def test_checkpoints_as_they_are_written(saved, tmp_path):
    """Half of a file is waited for; a broken one is passed over once a later one is there."""
    waits = []

    def write(seconds):
        waits.append(seconds)
        step = len(waits)
        if step == 1:
            shutil.copytree(saved / "checkpoint-1", tmp_path / "checkpoint-1")
        elif step == 2:
            shutil.copytree(saved / "checkpoint-2", tmp_path / "checkpoint-2")
            whole = (tmp_path / "checkpoint-2" / "model.safetensors").read_bytes()
            (tmp_path / "checkpoint-2" / "model.safetensors").write_bytes(whole[:-9])
        elif step == 3:
            shutil.copy(saved / "checkpoint-2" / "model.safetensors", tmp_path / "checkpoint-2")
            (tmp_path / "checkpoint-3").mkdir()
        elif step == 4:
            shutil.copytree(saved / "checkpoint-3", tmp_path / "checkpoint-4")

    watch = Watch([TOKENS])
    seen = list(watch.follow(tmp_path, every=5.0, until=4, sleep=write))
    assert [s.place.step for s in seen] == [1, 2, 3, 4]
    assert [s.hop is None for s in seen] == [True, False, True, False]
    assert [s.broken is None for s in seen] == [True, True, False, True]
    assert "checkpoint-3" in seen[2].broken
    assert waits == [5.0] * 4


def test_patience_ends_it_and_names_what_was_never_whole(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run" / "checkpoint-9").mkdir()
    waits = []
    watch = Watch(evidence="weights")
    seen = list(watch.follow(tmp_path / "run", every=2.0, patience=3.0, sleep=waits.append))
    assert [s.place.step for s in seen] == [1, 2, 3, 9]
    assert "checkpoint-9 is no checkpoint" in seen[-1].broken
    assert waits == [2.0, 2.0]


class Tokens(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, k):
        return {"input_ids": TOKENS[k, :12], "labels": TOKENS[k, :12]}


def trained(folder, callback=None):
    transformers.set_seed(0)
    model = tiny_model(num_hidden_layers=1, attention_dropout=0.1).train()
    arguments = transformers.TrainingArguments(
        str(folder),
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
    )
    callbacks = [] if callback is None else [callback]
    trainer = transformers.Trainer(model, arguments, train_dataset=Tokens(), callbacks=callbacks)
    trainer.train()
    return tensors_of(folder / "checkpoint-4")


def test_a_trainer_is_watched_and_trains_as_without(tmp_path):
    told = []
    callback = GaugeCallback([TOKENS], tell=told.append)
    watched = trained(tmp_path / "a", callback)
    plain = trained(tmp_path / "b")
    assert all(torch.equal(watched[name], plain[name]) for name in plain)
    (hop,) = callback.watch.hops
    assert (hop.source.step, hop.target.step) == (2, 4)
    assert (hop.verdict, hop.changed) == ("related", 0)
    assert told == callback.alarms == []


def test_training_ends_with_an_alarm_if_told(saved, tmp_path):
    callback = GaugeCallback([TOKENS], stop_on_alarm=True, tell=lambda _: None)
    arguments = type("A", (), {"output_dir": str(saved)})
    control = transformers.TrainerControl()
    for step in (1, 2, 3):
        assert not control.should_training_stop
        state = transformers.TrainerState(global_step=step)
        callback.on_save(arguments, state, control)
    assert control.should_training_stop
    assert len(callback.alarms) == 1
