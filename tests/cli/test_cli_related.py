"""``bmatch related``, and what ``bmatch align`` says of strangers."""

from __future__ import annotations

import json

from bmatch import SignedPermutation


def test_related_names_a_noisy_copy_and_writes_its_gauge(bmatch_, pair, secret, tmp_path):
    code, out, _ = bmatch_("related", *pair, "--out", tmp_path / "g", "--json")
    assert code == 0
    told = json.loads(out)
    assert told["answer"] == "noised"
    assert told["log10_p"] < -6
    assert told["sentence"].startswith("B is A with noise on its weights")
    assert SignedPermutation.load(tmp_path / "g") == secret


def test_a_stranger_has_exit_code_3(bmatch_, pair, stranger, tmp_path):
    code, out, _ = bmatch_("related", pair[0], stranger)
    assert code == 3
    assert "B is a stranger to A" in out
    options = ("align", pair[0], stranger, "--tokens", 500, "--out", tmp_path / "g")
    code, out, err = bmatch_(*options, "--json")
    assert code == 3
    assert "not related: no gauge relates the two models" in err
    assert "--force writes it all the same" in err
    assert json.loads(out)["verdict"] == "not related"
    assert list(tmp_path.iterdir()) == []
    assert bmatch_(*options, "--force")[0] == 0
    assert SignedPermutation.load(tmp_path / "g").metadata["verdict"] == "not related"
