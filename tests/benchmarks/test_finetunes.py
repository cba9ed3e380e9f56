"""benchmarks/paper/finetunes.py on a model of two layers: killed jobs go on, and end alike."""

from __future__ import annotations

import functools
import types

import pytest
import torch
from tiny_models import tiny_model

from benchmarks import paper, results
from benchmarks.paper import finetunes, smollm2
from benchmarks.paper.claim import Size
from bmatch import SignedPermutation


def by_bytes(text, **_):
    """A tokenizer of a vocabulary of 256."""
    return types.SimpleNamespace(input_ids=list(text.encode()))


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    model = tiny_model(attention_bias=False, mlp_bias=False)
    monkeypatch.setattr(smollm2, "model_and_tokenizer", lambda _: (model, by_bytes))
    monkeypatch.setattr(finetunes, "SITE", 1)
    regimes = [r._replace(sites=[1] if r.sites != "all" else "all") for r in finetunes.REGIMES]
    monkeypatch.setattr(finetunes, "REGIMES", regimes)
    for name, less in {"LENGTH": 16, "SAVED": 4, "SHOWN": (1, 4), "SUBSETS": 2}.items():
        monkeypatch.setattr(finetunes, name, less)
    monkeypatch.setattr(finetunes.provenance, "commit", lambda: "0123456")
    return model


class Killed(BaseException):
    """At once, with nothing put away."""


@pytest.fixture
def kill_at(monkeypatch):
    """Sets the step of all the job's at which it is killed."""
    train = finetunes.Training._train

    def set_moment(moment):
        done = 0

        @functools.wraps(train)
        def counted(self):
            nonlocal done
            done += 1
            if done == moment:
                raise Killed
            train(self)

        monkeypatch.setattr(finetunes.Training, "_train", counted)

    return set_moment


def test_a_killed_job_goes_on_to_the_same_figures(kill_at, monkeypatch, tmp_path):
    monkeypatch.setattr(finetunes, "SHOWN", (4,))
    monkeypatch.setattr(finetunes, "REGIMES", finetunes.REGIMES[:1])
    whole = Size("full", "cpu", 8, tmp_path / "whole")
    expected = list(finetunes.measure(7, whole))
    size = whole._replace(work=tmp_path / "killed")
    for moment in (1, 3, 8, 4):  # steps since the last start: both runs, and between saves
        kill_at(moment)
        with pytest.raises(Killed):
            list(finetunes.measure(7, size))
    kill_at(0)
    assert list(finetunes.measure(7, size)) == expected
    (folder,) = size.work.iterdir()
    assert [path.name for path in folder.iterdir()] == ["figures.json"]
    kill_at(1)  # nothing is trained again
    assert list(finetunes.measure(7, size)) == expected


def test_what_is_told(tmp_path):
    figures = list(finetunes.measure(7, Size("full", "cpu", 8, tmp_path)))
    shares = {(f.case, f.route): f.value for f in figures if f.metric == "recovered"}
    steps = [2 * shown for shown in finetunes.SHOWN]
    cases = [f"SmolLM2, {regime.name}, {k} steps" for k in steps for regime in finetunes.REGIMES]
    assert dict.fromkeys(case for case, _ in shares) == dict.fromkeys(cases)
    for case in cases:
        assert {"path", "endpoint", "via base"} <= {route for of, route in shares if of == case}
        difference = shares[case, "path"] - shares[case, "endpoint"]
        assert shares[case, "path less endpoint"] == pytest.approx(difference)
    for k in steps:
        case = f"SmolLM2, {finetunes.REGIMES[0].name}, {k} steps"
        assert shares[case, "weights"] == 1
        assert shares[case, "weights, neurons and heads renumbered"] == 1
    assert shares[cases[-2], "path"] == 1  # 2,048 tokens


def test_checkpoints_are_the_run_in_gauges(kill_at, tmp_path, tiny):
    kill_at(9)  # when run a is done
    with pytest.raises(Killed):
        list(finetunes.measure(7, Size("full", "cpu", 8, tmp_path)))
    (work,) = tmp_path.iterdir()
    assert {path.name for path in (work / "a").iterdir()} == {
        "state.pt",
        *(f"checkpoint-{step}" for step in range(0, 9, 2)),
    }
    plain = torch.load(work / "a" / "state.pt", weights_only=True)["model"]
    rows = plain["model.embed_tokens.weight"]
    start = type(tiny).from_pretrained(work / "a" / "checkpoint-0").model.embed_tokens.weight
    end = type(tiny).from_pretrained(work / "a" / "checkpoint-8").model.embed_tokens.weight
    for step, home, there in ((8, rows, end), (0, tiny.model.embed_tokens.weight, start)):
        gauge = finetunes.gauge_of(7, "a", step, rows.shape[1])
        assert gauge != SignedPermutation.identity(rows.shape[1])
        assert torch.equal(torch.as_tensor(gauge.apply(home.detach().numpy(), 1)), there)
    assert not torch.equal(rows, tiny.model.embed_tokens.weight)


def test_a_full_disk_is_told_before_anything_is_trained(monkeypatch, tmp_path):
    usage = finetunes.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(finetunes.shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(SystemExit, match="GB are free: name another folder with --work"):
        list(finetunes.measure(0, Size("full", "cpu", 8, tmp_path)))


def test_the_command(monkeypatch, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--work", str(tmp_path), "--processes", "1"]
    paper.main(["--claims", "finetunes", *out])
    assert "finetunes: left out, for it is measured with --full alone" in capsys.readouterr().out
    options = ["--full", "--claims", "finetunes", "--steps", "1", "--runs", "2"]
    with pytest.raises(SystemExit):
        paper.main(options)
    assert "--steps needs --out" in capsys.readouterr().err
    monkeypatch.setattr(paper, "missing", lambda _: [])
    monkeypatch.setattr(finetunes, "SHOWN", (1,))
    threads = torch.get_num_threads()
    paper.main([*options, *out])
    torch.set_num_threads(threads)
    rows = results.read("paper", tmp_path / "out")
    assert {row.extra["seed"] for row in rows} == {0, 1}
    lines = paper.table(rows)
    assert "## On SmolLM2, composing local gauges recovers more than matching endpoints" in lines
    paper.plot(rows, tmp_path / "paper.svg")
    assert "SmolLM2" in (tmp_path / "paper.svg").read_text()
