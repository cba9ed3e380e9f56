"""``bmatch match-features`` on files of dictionaries."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from agents import Job
from disks import disk
from safetensors.torch import save_file

import bmatch.features.match
from bmatch import SignedPermutation

D, F = 32, 60
GAUGE = SignedPermutation.random(D, seed=3)


@pytest.fixture
def dictionaries(tmp_path):
    """Two SAELens dictionaries, the source in other coordinates; the source of each target."""
    generator = torch.Generator().manual_seed(0)

    def write(name, rows):
        (tmp_path / name).mkdir()
        encoder = rows.T.contiguous()
        bias = {"b_enc": torch.zeros(len(rows)), "b_dec": torch.zeros(D)}
        save_file({"W_enc": encoder, "W_dec": rows, **bias}, tmp_path / name / "sae.safetensors")
        config = {"d_in": D, "d_sae": len(rows), "hook_name": "blocks.1.hook_resid_post"}
        (tmp_path / name / "cfg.json").write_text(json.dumps(config))

    target = torch.randn(F, D, generator=generator)
    order = torch.randperm(F, generator=generator)
    source = target[order] + 0.1 * torch.randn(F, D, generator=generator)
    source[:20] = torch.randn(20, D, generator=generator)
    write("a", target)
    write("b", GAUGE.inverse().apply(source, 1))
    GAUGE.save(tmp_path / "g.safetensors")
    truth = np.full(F, -1)
    truth[order[20:]] = np.arange(20, F)
    return tmp_path, truth


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_features_are_found_through_a_gauge(bmatch_, dictionaries):
    folder, truth = dictionaries
    places = (folder / "a", folder / "b", "--gauge", folder / "g.safetensors")
    names = {str(number): f"about {number}" for number in range(F)}
    (folder / "b.json").write_text(json.dumps(names))
    code, out, _ = bmatch_(
        "match-features", *places, "--out", folder / "pairs.csv",
        "--picture", folder / "pairs.png",
        "--labels", folder / "b.json", "--labels-out", folder / "a.json",
    )  # fmt: skip
    assert code == 0
    assert "40 (66.7% of the target, 66.7% of the source)" in out
    assert "labels of 40 features written" in out
    found = {int(row["target"]): int(row["source"]) for row in read(folder / "pairs.csv")}
    assert found == {t: s for t, s in enumerate(truth.tolist()) if s >= 0}
    carried = json.loads((folder / "a.json").read_text())
    assert carried == {str(t): f"about {s}" for t, s in found.items()}
    assert (folder / "pairs.png").read_bytes().startswith(b"\x89PNG")

    code, out, _ = bmatch_(
        "match-features", *places, "--by", "encoder", "--json", "--out", folder / "by.csv"
    )
    assert (code, json.loads(out)["matched"]) == (0, 40)
    assert [row["source"] for row in read(folder / "by.csv")] == [
        row["source"] for row in read(folder / "pairs.csv")
    ]


def test_metrics_have_a_line_a_block(bmatch_, dictionaries):
    folder, truth = dictionaries
    places = (folder / "a", folder / "b", "--gauge", folder / "g.safetensors")
    options = ("--metrics", folder / "m", "--out", folder / "pairs.csv")
    assert bmatch_("match-features", *places, *options)[0] == 0
    *blocks, last = [json.loads(line) for line in (folder / "m").read_text().splitlines()]
    assert {line["stage"] for line in blocks} == {"Comparing"}
    assert blocks[-1]["done"] == blocks[-1]["total"]
    assert last["matched"] == np.count_nonzero(truth >= 0)


def test_two_ranks_write_the_table_of_one(bmatch_, dictionaries):
    folder, _ = dictionaries
    places = (folder / "a", folder / "b", "--gauge", folder / "g.safetensors")
    job = Job(folder, ("--nproc-per-node", 2), ("match-features", *places, "-o", folder / "2.csv"))
    code, said = job.end()
    assert code == 0
    assert said.count("pairs written") == 1
    assert bmatch_("match-features", *places, "--out", folder / "1.csv")[0] == 0
    assert (folder / "1.csv").read_bytes() == (folder / "2.csv").read_bytes()


def test_without_its_gauge_nothing_is_found(bmatch_, dictionaries):
    folder, _ = dictionaries
    arguments = ("match-features", folder / "a", folder / "b", "--out", folder / "pairs.csv")
    code, out, _ = bmatch_(*arguments)
    assert code == 3
    assert "none: nothing is closer than strangers come" in out
    assert read(folder / "pairs.csv") == []


def carry_labels(bmatch_, folder, labels, out):
    return bmatch_(
        *("match-features", folder / "a", folder / "b", "--gauge", folder / "g.safetensors"),
        *("--out", folder / "pairs.csv", "--labels", labels, "--labels-out", out),
    )


def test_no_room_for_the_labels(bmatch_, dictionaries):
    """The table, for which there is room, does not appear without them."""
    folder, _ = dictionaries
    (folder / "b.json").write_text(json.dumps({str(n): "about " * 200 for n in range(F)}))
    before = sorted(folder.iterdir())
    with disk(folder / "full", 20000):
        places = (folder / "a", folder / "b", "--gauge", folder / "g.safetensors")
        outputs = ("--out", "pairs.csv", "--labels-out", "a.json")
        given = [folder / "full" / name if "." in name else name for name in outputs]
        code, _, err = bmatch_("match-features", *places, "--labels", folder / "b.json", *given)
        assert code == 1
        assert err == (
            f"error: No space left on device ({folder / 'full' / 'a.json'}); nothing was left "
            "half-written"
        )
        assert list((folder / "full").iterdir()) == []
        given[1] = folder / "pairs.csv"
        code, _, _ = bmatch_("match-features", *places, "--labels", folder / "b.json", *given)
        assert code == 1
        assert list((folder / "full").iterdir()) == []
    assert sorted(folder.iterdir()) == sorted([*before, folder / "full"])


def test_what_has_appeared_meanwhile_stays_and_so_does_all_that_was_found(
    bmatch_, dictionaries, monkeypatch
):
    folder, _ = dictionaries
    (folder / "b.json").write_text(json.dumps({str(n): f"about {n}" for n in range(F)}))
    matched = bmatch.features.match.match_features

    def slowly(*given, **options):
        (folder / "pairs.csv").write_text("theirs")
        return matched(*given, **options)

    monkeypatch.setattr(bmatch.features.match, "match_features", slowly)
    code, _, err = carry_labels(bmatch_, folder, folder / "b.json", folder / "a.json")
    assert code == 1
    assert f"is in {folder / 'pairs-2.csv'}, {folder / 'a.json'}" in err
    assert (folder / "pairs.csv").read_text() == "theirs"
    assert len(read(folder / "pairs-2.csv")) == len(json.loads((folder / "a.json").read_text()))


def test_labels_in_csv_keep_their_other_columns(bmatch_, dictionaries):
    folder, truth = dictionaries
    (folder / "b.csv").write_text(
        "layer,index,text\n"
        + "".join(f'1,{n},"about {n}, one"\n1,{n},two\n' for n in range(15, 25))
    )
    code, _, _ = carry_labels(bmatch_, folder, folder / "b.csv", folder / "a.csv")
    assert code == 0
    target = {int(s): t for t, s in enumerate(truth) if s >= 0}
    expected = sorted(
        (target[n], text) for n in range(20, 25) for text in (f"about {n}, one", "two")
    )
    assert [(int(r["index"]), r["text"]) for r in read(folder / "a.csv")] == expected
    assert {row["layer"] for row in read(folder / "a.csv")} == {"1"}


def test_by_activations(bmatch_, tmp_path):
    r = np.random.default_rng(0)
    seen = r.exponential(size=(5000, 50)) * (r.random((5000, 50)) < 0.1)
    order = r.permutation(50)
    np.save(tmp_path / "a.npy", seen.astype(np.float16))
    np.save(tmp_path / "b.npy", seen[:, order].astype(np.float32))
    code, out, _ = bmatch_(
        "match-features", tmp_path / "a.npy", tmp_path / "b.npy", "--by", "activations",
        "--out", tmp_path / "pairs.csv", "--json",
    )  # fmt: skip
    assert (code, json.loads(out)["matched"]) == (0, 50)
    assert all(order[int(r["source"])] == int(r["target"]) for r in read(tmp_path / "pairs.csv"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--out", "pairs.txt"), "must be named .csv or .parquet"),
        (("--out", "o.csv", "--labels", "l.json"), "--labels and --labels-out go together"),
        (("--out", "o.csv", "--labels", "l.json", "--labels-out", "m.csv"), "as they were read"),
        (("--out", "o.csv", "--labels", "l.json", "--labels-out", "m.json"), "there is no file"),
        (("--out", "o.csv", "--picture", "p.jpg"), "must be named .png"),
        (("--out", "o.csv", "--by", "activations"), "reads .npy files"),
        (("--out", "o.csv", "--least", "2"), "least must be from 0 to 1"),
        (("--out", "o.csv", "--metrics", "./o.csv"), "o.csv is named for two outputs"),
        (("--out", "o.csv", "--tensorboard", "o.csv"), "o.csv is named for two outputs"),
        (("--out", "o.csv", "--metrics", "a/cfg.json"), "has something else than metrics in it"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_written(
    bmatch_, dictionaries, monkeypatch, options, told
):
    folder, _ = dictionaries
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    code, _, err = bmatch_("match-features", "a", "b", *options)
    assert code == 1
    assert told in err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("l.json", '{"a": 1}', "must hold a list, or an object by numbers of features"),
        ("l.json", '{"60": 1}', "feature 60 has a label, and the source has 60 features"),
        ("l.csv", "layer,text\n1,a\n", "has no column index, feature, feature_index"),
        ("l.csv", "index,text\nx,a\n", "line 2: 'x' is no number of a feature"),
        ("l.csv", "index,text\n1,\xe9\n".encode("latin-1"), "l.csv is damaged ('utf-8' codec"),
        ("l.csv", f"index,text\n1,{'a' * 2**18}\n", "l.csv is damaged (field larger than"),
        ("l.json", "[" * 5000, "must hold a list, or an object by numbers of features"),
    ],
)
def test_damaged_labels(bmatch_, dictionaries, name, content, told):
    folder, _ = dictionaries
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(folder.iterdir())
    out = (folder / name).with_stem("m")
    code, _, err = carry_labels(bmatch_, folder, folder / name, out)
    assert code == 1
    assert told in err
    assert sorted(folder.iterdir()) == before


def test_labels_that_begin_with_a_mark(bmatch_, dictionaries):
    """As spreadsheets write them."""
    folder, truth = dictionaries
    (folder / "b.csv").write_text("index,text\n40,a\n", "utf-8-sig")
    code, _, _ = carry_labels(bmatch_, folder, folder / "b.csv", folder / "a.csv")
    assert code == 0
    (row,) = read(folder / "a.csv")
    assert (truth[int(row["index"])], row["text"]) == (40, "a")
