"""``bmatch match-features`` ended at any moment, by ranks too, and its disks: nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import pytest
import torch
from agents import Job, free_port
from begun import Begun, Disturbed
from disks import disk
from safetensors.torch import save_file

KILL, CTRL_C = signal.SIGKILL, signal.SIGINT
F, D, BLOCKS = 600, 32, 100
BLOCK = "bmatch.features.pairs:torch.nonzero"
"""What is asked once a block."""


@pytest.fixture(scope="module")
def dictionaries(tmp_path_factory):
    """The second is the first with noise, in another order, and half of it is another's."""
    folder = tmp_path_factory.mktemp("dictionaries")
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(F, D, generator=generator)
    source = target[torch.randperm(F, generator=generator)]
    source += 0.1 * torch.randn(F, D, generator=generator)
    source[: F // 2] = torch.randn(F // 2, D, generator=generator)
    for name, rows in (("a", target), ("b", source)):
        (folder / name).mkdir()
        held = {"W_enc": rows.T.contiguous(), "W_dec": rows}
        held |= {"b_enc": torch.zeros(F), "b_dec": torch.zeros(D)}
        save_file(held, folder / name / "sae.safetensors")
        config = {"d_in": D, "d_sae": F, "hook_name": "blocks.1.hook_resid_post"}
        (folder / name / "cfg.json").write_text(json.dumps(config))
    return folder / "a", folder / "b"


@pytest.fixture
def job(dictionaries, monkeypatch):
    """Of many blocks, each of which is kept, as those of large dictionaries."""
    monkeypatch.setattr("bmatch.features.pairs.BLOCK_BYTES", 4 * F * (F // BLOCKS))
    return ("match-features", *dictionaries, "--save-every", 0)


def lines_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def kept_in(folder):
    return list(folder.glob("[0-9a-f]*.safetensors"))


class WithSuffix(Disturbed):
    """Whose output is a table, by its name."""

    def place(self, name, what):
        place = super().place(name, what)
        return place.with_suffix(".csv") if what == "out" else place


def test_it_is_killed_and_interrupted(job, tmp_path):
    disturbed = WithSuffix(tmp_path, job)
    endings = (KILL, CTRL_C) * 4
    kept = [bool(kept_in(disturbed.place("again", "cache"))) for _ in disturbed.by(*endings)]
    assert sum(kept) >= 1
    assert kept_in(disturbed.place("again", "cache")) == []  # its table is written


@pytest.fixture
def whole(bmatch_, job, tmp_path):
    """What a job that nobody disturbs writes."""
    out = tmp_path / "whole.csv"
    assert bmatch_(*job, "--cache", tmp_path / "of the whole", "--out", out)[0] == 0
    assert len(out.read_text().splitlines()) > F // 3
    return out.read_bytes()


@pytest.mark.parametrize(("victim", "others"), [(0, 3), (1, 1), (1, 4)])
def test_a_rank_is_killed_and_others_go_on(bmatch_, job, whole, doomed, tmp_path, victim, others):
    cache, out, metrics = tmp_path / "cache", tmp_path / "out.csv", tmp_path / "m"
    job = (*job, "--cache", cache, "--out", out)

    def some():
        return kept_in(cache)

    two = (tmp_path, ("--nproc-per-node", 2), job)
    code, said = doomed(victim, BLOCK, 20, some, *two).end()
    assert code != 0
    assert said.count("error: ") == 1
    assert "lost" in said
    assert not out.exists()
    job = (*job, "--metrics", metrics)
    if others == 1:
        assert bmatch_(*job)[0] == 0
    else:
        code, said = Job(tmp_path, ("--nproc-per-node", others), job).end()
        assert code == 0, said
    assert out.read_bytes() == whole
    left = lines_of(metrics)[0]["total"]  # blocks of the first of them
    assert left < (BLOCKS - 30) / others + 1
    assert kept_in(cache) == []


@pytest.mark.parametrize("backend", ["static", "c10d"])
def test_torchrun_starts_it_again(job, whole, doomed, tmp_path, backend):
    cache, out = tmp_path / "cache", tmp_path / "out.csv"
    options = ("--max-restarts", 1, "--nproc-per-node", 2, "--rdzv-backend", backend)
    options += ("--rdzv-endpoint", f"localhost:{free_port()}")
    given = (*job, "--cache", cache, "--metrics", tmp_path / "m", "--out", out)
    code, said = doomed(1, BLOCK, 20, lambda: kept_in(cache), tmp_path, options, given).end()
    assert code == 0, said
    assert said.count("pairs written") == 1
    assert out.read_bytes() == whole
    totals = [line["total"] for line in lines_of(tmp_path / "m")[:-1]]
    assert totals[0] == BLOCKS // 2
    assert totals[-1] <= BLOCKS // 2 - 15


def test_other_dictionaries_and_options_do_not_go_on(bmatch_, job, dictionaries, tmp_path):
    """What decides about the pairs is in the key of what is kept."""
    cache = tmp_path / "cache"
    begun = Begun(tmp_path / "one", (*job, "--cache", cache, "--out", tmp_path / "none.csv"))
    while not kept_in(cache):
        time.sleep(0.002)
    assert begun.end(KILL, 0) == -KILL
    (first,) = kept_in(cache)
    a, b = dictionaries
    others = (b, a), (a, b, "--sign-marginalized"), (a, b, "--least", 0.5)
    for number, given in enumerate(others):
        metrics = tmp_path / f"m{number}"
        options = ("--cache", cache, "--metrics", metrics, "--out", tmp_path / f"{number}.csv")
        assert bmatch_("match-features", *given, *options)[0] == 0
        assert lines_of(metrics)[0]["total"] == BLOCKS
    assert kept_in(cache) == [first]


def test_the_cache_vanishes_again_and_again(job, whole, tmp_path):
    cache, out = tmp_path / "cache", tmp_path / "out.csv"
    begun = Begun(tmp_path / "one", (*job, "--cache", cache, "--out", out))
    removed = 0
    while begun.goes_on():
        removed += cache.exists()
        shutil.rmtree(cache, ignore_errors=True)
    assert begun.end() == 0, begun.said.read_text()
    assert removed > 2
    assert out.read_bytes() == whole
    assert begun.said.read_text().count("cannot be kept in") <= 1


def test_no_room_for_what_is_kept(bmatch_, job, whole, tmp_path):
    with disk(tmp_path / "full", 4096):
        (tmp_path / "full" / "filler").write_bytes(bytes(4096))
        given = (*job, "--cache", tmp_path / "full" / "cache", "--out", tmp_path / "out.csv")
        code, _, err = bmatch_(*given)
        assert (code, err.count("cannot be kept in")) == (0, 1)
    assert (tmp_path / "out.csv").read_bytes() == whole


def test_no_room_for_the_table(bmatch_, job, whole, tmp_path):
    """All that was compared is kept, and the same command goes on from there."""
    cache, metrics = tmp_path / "cache", tmp_path / "m"
    with disk(tmp_path / "full", 8192):
        filler, out = tmp_path / "full" / "filler", tmp_path / "full" / "out.csv"
        filler.write_bytes(bytes(8192))
        code, _, err = bmatch_(*job, "--cache", cache, "--out", out)
        assert code == 1
        assert err == f"error: No space left on device ({out}); nothing was left half-written"
        assert os.listdir(tmp_path / "full") == ["filler"]
    assert len(kept_in(cache)) == 1
    given = ("--cache", cache, "--metrics", metrics, "--out", tmp_path / "out.csv")
    assert bmatch_(*job, *given)[0] == 0
    assert [*lines_of(metrics)[0]] == ["matched", "peak_bytes"]
    assert (tmp_path / "out.csv").read_bytes() == whole
