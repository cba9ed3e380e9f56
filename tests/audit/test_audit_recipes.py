"""What recipes choose, against sorting by hand, and the files that hold them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from bmatch import SignedPermutation
from bmatch.audit import Recipe, read_claim

SCORES = np.array([0.1, -5.0, 3.0, -0.2, 4.0])


def chosen(recipe, **scores):
    return recipe.chosen({int(k[1:]): v for k, v in scores.items()} or {0: SCORES}).items()


def test_sets_pairs_and_weights():
    by_value = Recipe(SCORES, 2, by="value", signed=True)
    assert chosen(by_value) == [((None, (4,), None), 0), ((None, (2,), None), 0)]
    pairs = Recipe(SCORES, 2, items="sign", signed=True)
    assert chosen(pairs) == [((None, (1,), -1), 0), ((None, (4,), 1), 0)]
    weights = Recipe(SCORES, 1, items="weight", signed=False)
    assert chosen(weights) == [((None, (1,), None), -5.0)]


def test_triples_of_sites_and_of_pairs():
    recipe = Recipe("activation", 1, items="sign", sites=(3, 5))
    found = chosen(recipe, s3=SCORES, s5=-SCORES[::-1])
    assert found == [((3, (1,), -1), 0), ((5, (3,), 1), 0)]
    among = np.array([[np.nan, 0.2, -0.9], [0.2, np.nan, 0.5], [-0.9, 0.5, np.nan]])
    pairs = Recipe("correlation", 2, items="sign").chosen({0: among})
    assert pairs.items() == [((None, (0, 2), -1), 0), ((None, (1, 2), 1), 0)]
    most = Recipe("correlation", 9).chosen({0: among})
    assert len(most) == 3


def test_what_was_not_measured_is_not_chosen():
    found = Recipe("ablation", 4, by="value").chosen({0: np.array([np.nan, -1.0, np.nan, 2.0])})
    assert found.index.ravel().tolist() == [3, 1]


def test_scores_are_carried_as_they_turn():
    gauge = SignedPermutation([2, 0, 3, 1, 4], [1, -1, 1, -1, -1])
    turned = Recipe(SCORES, signed=True).carried({0: SCORES}, gauge)[0]
    assert turned.tolist() == [3.0, -0.1, -0.2, 5.0, -4.0]
    plain = Recipe(SCORES, signed=False).carried({0: SCORES}, gauge)[0]
    assert plain.tolist() == [3.0, 0.1, -0.2, -5.0, 4.0]
    square = np.outer(SCORES, SCORES)
    both = Recipe("correlation").carried({0: square}, gauge)[0]
    assert np.array_equal(both, gauge.matrix() @ square @ gauge.matrix().T)


def test_files(tmp_path):
    path = tmp_path / "claim.json"
    path.write_text(json.dumps({"measure": "gradient_x_activation", "site": [1, 2], "top": 3}))
    recipe = read_claim(path, [1])
    assert (recipe.measure, recipe.sites, recipe.top) == ("gradient_x_activation", (1, 2), 3)
    assert (recipe.by, recipe.items, recipe.signed) == ("magnitude", "index", False)
    listed = {"index": [2, 0, 1], "weight": [3.0, 1, 2], "signed": True, "items": "weight"}
    path.write_text(json.dumps(listed))
    assert read_claim(path).scores(None)[0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is no claim"),
        ('{"measure": "activation", "index": [0]}', "is no claim"),
        ('{"measure": "warmth", "site": 1}', "measure must be one of activation"),
        ('{"measure": "activation"}', "site must be a number"),
        ('{"measure": "activation", "site": true}', "site must be a number"),
        ('{"measure": "activation", "site": 1, "top": 0}', "top must be a positive"),
        ('{"measure": "activation", "site": 1, "by": "luck"}', "by must be one of"),
        ('{"measure": "activation", "site": 1, "items": "names"}', "items must be one of"),
        ('{"measure": "activation", "site": 1, "k": 3}', "words that a claim has not: k"),
        ('{"index": [0, 7], "weight": [1, 2], "signed": true}', "those of all coordinates"),
        ('{"index": [0, 1], "weight": [1, "x"], "signed": true}', "lists of numbers"),
        ('{"index": [0, 1], "weight": [1, 2]}', "signed must tell"),
        ('{"index": [0, 1], "weight": [1, 2], "signed": "yes"}', "got 'yes'"),
        ('{"index": [0, 1], "weight": [1, NaN], "signed": true}', "finite"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "claim.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_claim(path)


def test_a_missing_file_and_missing_tokens(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_claim(tmp_path / "absent.json")
    for batches in ([], [torch.ones(2, 1, dtype=torch.int64)]):
        with pytest.raises(ValueError, match="none counts"):
            Recipe("activation", batches=batches)(tiny_model())
    with pytest.raises(ValueError, match="sites must be"):
        Recipe("activation", sites=[3], batches=[torch.ones(1, 3, dtype=torch.int64)])(tiny_model())
