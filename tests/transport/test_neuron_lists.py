"""Lists of coordinates in files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_models import WIDTH, tiny_model

from bmatch import OrthogonalGauge, SignedPermutation
from bmatch.transport.neuron_lists import carry_list, find_list
from bmatch.transport.objects import SIDECAR

G = SignedPermutation.random(WIDTH, seed=3)
X = np.random.default_rng(0).normal(size=WIDTH)
FOUND = np.argsort(-np.abs(X))[:6].tolist()


def records(x, numbers):
    return [
        {
            "rank": rank,
            "layer": 2,
            "site": 3,
            "index": number,
            "sign": int(np.sign(x[number])),
            "weight": float(x[number]),
            "token": "ü, \n",
        }
        for rank, number in enumerate(numbers)
    ]


def columns(x, numbers):
    rows = records(x, numbers)
    return {name: [row[name] for row in rows] for name in rows[0]} | {"model": "tiny", "seed": [1]}


def carried(path, gauge=G, signed=None, name="out"):
    found = find_list(path)
    carry_list(found, gauge, path.with_name(name + path.suffix), signed)
    return path.with_name(name + path.suffix)


@pytest.mark.parametrize("make", [records, columns])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_lists_what_the_carried_activation_has(make, indent, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(make(X, FOUND), indent=indent))
    out = carried(file)
    y = G.apply(X)
    assert json.loads(out.read_text()) == make(y, np.argsort(-np.abs(y))[:6].tolist())
    back = carried(out, G.inverse(), name="back")
    assert json.loads(back.read_text()) == json.loads(file.read_text())
    notes = json.loads((tmp_path / f"out.json.{SIDECAR}").read_text())
    assert notes["bmatch_group"] == "signed_permutation"


@pytest.mark.parametrize(("delimiter", "ending"), [(",", "\n"), ("\t", "\r\n"), (";", "\n")])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_csv_keeps_other_columns_and_how_it_is_written(delimiter, ending, start, tmp_path):
    def text(x, numbers):
        rows = [["token", "index", "sign", "weight", "layer"]]
        rows += [["a b", str(n), f"{np.sign(x[n]):.0f}", repr(float(x[n])), "2"] for n in numbers]
        return start + "".join(delimiter.join(row) + ending for row in rows).encode()

    file = tmp_path / "a.csv"
    file.write_bytes(text(X, FOUND))
    out = carried(file)
    y = G.apply(X)
    assert out.read_bytes() == text(y, np.argsort(-np.abs(y))[:6].tolist())
    assert carried(out, G.inverse(), name="back").read_bytes() == file.read_bytes()


def test_signs_may_be_written_as_signs(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("index,sign\n0,+\n1,-\n")
    flip = SignedPermutation([0, 1], [-1, -1])
    assert carried(file, flip).read_text() == "index,sign\n0,-\n1,+\n"


def test_what_is_found_is_told(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(columns(X, FOUND)))
    config = tiny_model().config.to_dict()
    found = find_list(file, config)
    assert (found.kind, found.format, found.rows) == ("attribution list", "JSON columns", 6)
    assert found.width == WIDTH
    assert found.where == {"layer": "2", "site": "3"}
    with pytest.raises(ValueError, match="acts on 5 coordinates"):
        carry_list(found, SignedPermutation.random(5, seed=0), tmp_path / "b.json")
    assert not (tmp_path / "b.json").exists()
    file.write_text('{"index": [1]}')
    bare = find_list(file)
    assert (bare.kind, bare.width, bare.where) == ("neuron set", None, {})


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", "[{", "is damaged"),
        ("a.json", '[{"index": 1}, {"sign": 1}]', "1 records have no 'index'"),
        ("a.json", '{"index": [1, 2], "sign": [1]}', "different lengths"),
        ("a.json", '{"index": [1, 2], "sign": 1}', "sign is no list"),
        ("a.json", '{"index": [1], "site": "blocks.0.mlp.hook_post"}', "inside blocks"),
        ("a.csv", "index,sign\n1\n", "row 0 has 1"),
        ("a.csv", "index,index\n1,2\n", "two columns have one name"),
        ("a.json", '[{"index": 99}]', "index 99 is out of range"),
        ("a.json", '[{"index": 1.5}]', "index of row 0 is 1.5"),
        ("a.json", '[{"index": true}]', "index of row 0 is True"),
        ("a.json", '[{"index": 1, "sign": 2}]', "neither"),
        ("a.csv", "index,weight\n1,0.5\n", "signed=True"),
    ],
)
def test_lists_that_do_not_fit_are_refused_and_nothing_is_written(name, text, told, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=told):
        carried(tmp_path / name, SignedPermutation(range(WIDTH), -np.ones(WIDTH)))
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_rotations_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("index\n1\n")
    with pytest.raises(ValueError, match="no coordinate stays one"):
        carried(tmp_path / "a.csv", OrthogonalGauge.random(WIDTH, seed=0))


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.json", "[1, 2]"), ("a.json", '{"index": 3}'), ("a.csv", ""), ("a.txt", "index\n1\n")],
)
def test_other_files_are_no_lists(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    assert find_list(tmp_path / name) is None
