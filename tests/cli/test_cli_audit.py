"""``bmatch audit`` on the folders of the tiny pair."""

from __future__ import annotations

import json

import pytest

SET = {"measure": "activation", "site": 1, "top": 5}


@pytest.fixture
def claims(tmp_path):
    made = {
        "set": SET,
        "pairs": {**SET, "items": "sign"},
        "value": {**SET, "by": "value"},
        "bad": {**SET, "k": 3},
        "far": {**SET, "site": 9},
    }
    for name, content in made.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return {name: tmp_path / f"{name}.json" for name in made}


def test_kinds_and_a_page(bmatch_, pair, claims, tmp_path):
    files = [claims[name] for name in ("set", "pairs", "value")]
    options = ("--gauges", 4, "--tokens", 40, "--seed", 2, "--json", "-o", tmp_path / "a.html")
    code, out, _ = bmatch_("audit", pair[0], *files, *options)
    told = json.loads(out)
    assert code == 0
    kinds = [told[name]["kind"] for name in ("set", "pairs", "value")]
    assert kinds == ["sign-blind", "signed", "not covariant"]
    assert told["pairs"]["items"]["signed"]["kept"] == 20
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = bmatch_("audit", pair[0], claims["set"], "--one-model", "--tokens", 40)
    assert code == 0
    assert "sign-blind" in out
    assert "never sign" in out


def test_against_another_run(bmatch_, pair, claims, secret, tmp_path):
    secret.save(tmp_path / "g.safetensors")
    between = ("--against", pair[1], "--gauge", tmp_path / "g.safetensors")
    options = ("--truth", tmp_path / "g.safetensors", "--tokens", 40)
    code, out, _ = bmatch_("audit", pair[0], claims["pairs"], *between, *options, "--json")
    told = json.loads(out)["pairs"]
    assert code == 0
    assert told["fidelity"]["rate"] == 1
    assert told["native_agreement"]["of"] == 5
    code, out, _ = bmatch_("audit", pair[0], claims["pairs"], *between, "--tokens", 40)
    assert "the truth is not known" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bad",), "words that a claim has not: k"),
        (("far",), "sites must be"),
        (("set", "set"), "two claims have one name"),
        (("set", "--against", "x"), "--against needs --gauge"),
        (("set", "--out", "a.png"), "must be named .html"),
        (("absent",), "there is no file"),
    ],
)
def test_bad_input(bmatch_, pair, claims, tmp_path, arguments, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [claims.get(a, a) for a in arguments]
    code, _, err = bmatch_("audit", pair[0], *paths, "--tokens", 40)
    assert code == 1
    assert message in err
    assert not [*tmp_path.glob("*.html")]
