"""Numbers, signs and scores of coordinates: what is read out of the carried is what was carried."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmatch import OrthogonalGauge, SignedPermutation
from bmatch.transport.neurons import attributions, neuron_frame, neurons

SEEDS = st.integers(0, 2**32 - 1)


def largest(x, count):
    """Numbers by magnitude, and signs."""
    found = np.argsort(-np.abs(x))[:count]
    return found, np.sign(x[found]).astype(np.int8)


@given(SEEDS, st.integers(1, 40), st.integers(1, 40))
def test_pairs_of_number_and_sign_are_those_of_the_carried_activation(seed, dim, count):
    x = np.random.default_rng(seed).normal(size=dim)
    g = SignedPermutation.random(dim, seed=seed)
    found, signs = largest(x, min(count, dim))
    wanted, wanted_signs = largest(g.apply(x), min(count, dim))
    moved, moved_signs = neurons(found, g, signs)
    assert moved.tolist() == wanted.tolist()
    assert moved_signs.tolist() == wanted_signs.tolist()
    assert moved.dtype == found.dtype
    assert moved_signs.dtype == signs.dtype
    assert neurons(moved, g.inverse()).tolist() == found.tolist()


@given(SEEDS, st.integers(2, 30))
def test_gradient_times_activation_takes_no_signs(seed, dim):
    activation, gradient = np.random.default_rng(seed).normal(size=(2, 5, dim))
    g = SignedPermutation.random(dim, seed=seed)
    carried = [attributions(x, g, signed=True) for x in (activation, gradient)]
    product = attributions(activation * gradient, g, signed=False)
    assert np.array_equal(carried[0] * carried[1], product)


@given(SEEDS, st.integers(1, 30))
def test_masks_ablate_the_same_coordinates(seed, dim):
    rng = np.random.default_rng(seed)
    x, mask = rng.normal(size=dim), rng.random(dim) < 0.5
    g = SignedPermutation.random(dim, seed=seed)
    moved = attributions(mask, g, signed=False)
    assert moved.dtype == bool
    assert np.array_equal(np.where(moved, 0, g.apply(x)), g.apply(np.where(mask, 0, x)))


def test_the_largest_signed_values_are_those_of_other_coordinates():
    x = np.random.default_rng(0).normal(size=400)
    g = SignedPermutation.random(400, seed=1)
    kept = set(neurons(np.argsort(-x)[:20], g).tolist()) & set(
        np.argsort(-g.apply(x))[:20].tolist()
    )
    assert len(kept) < 15


def test_tensors_come_back_as_tensors():
    g = SignedPermutation([2, 0, 1], [1, -1, 1])
    moved, signs = neurons(torch.tensor([[0, 2]]), g, torch.tensor([[1.0, -1.0]]))
    assert torch.equal(moved, torch.tensor([[1, 0]]))
    assert torch.equal(signs, torch.tensor([[-1.0, -1.0]]))
    assert neurons([], g).tolist() == []


class Frame:
    """What is used of a pandas data frame."""

    def __init__(self, **columns):
        self.held = {name: np.array(values) for name, values in columns.items()}
        self.columns = list(columns)

    def __getitem__(self, name):
        return self.held[name]

    def __setitem__(self, name, values):
        self.held[name] = values

    def copy(self):
        return Frame(**self.held)


@pytest.fixture(params=[pytest.param("pandas", marks=pytest.mark.owners), "alike"])
def frame(request):
    return Frame if request.param == "alike" else pytest.importorskip("pandas").DataFrame


def made(frame, **columns):
    return Frame(**columns) if frame is Frame else frame(columns)


def test_frames_keep_what_is_not_of_coordinates(frame):
    table = made(
        frame,
        note=["a", "b", "c"],
        index=np.array([0, 2, 7], np.int16),
        sign=[1, -1, 1],
        weight=np.array([0.5, -2, 3], np.float32),
        site=["blocks.1.hook_resid_post", "4", "blocks.1.mlp.hook_post"],
    )
    g = SignedPermutation([2, 0, 1], [-1, -1, 1])
    moved = neuron_frame(table, g)
    assert list(moved.columns) == ["note", "index", "sign", "weight", "site"]
    assert moved["index"].tolist() == [1, 0, 7]
    assert moved["sign"].tolist() == [-1, 1, 1]
    assert moved["weight"].tolist() == [-0.5, 2, 3]
    assert moved["note"].tolist() == ["a", "b", "c"]
    assert (moved["index"].dtype, moved["weight"].dtype) == (np.int16, np.float32)
    assert table["index"].tolist() == [0, 2, 7]


@pytest.mark.parametrize(
    ("signs", "weights", "signed", "wanted"),
    [
        ([1, -1], [2.0, -3.0], None, [2.0, 3.0]),
        ([1, -1], [2.0, 3.0], None, [2.0, 3.0]),
        ([1, 1], [2.0, -3.0], True, [2.0, 3.0]),
        ([1, 1], [2.0, -3.0], False, [2.0, -3.0]),
        ([1, 1], [2.0, 3.0], None, None),
        ([-1, 1], [2.0, -3.0], None, None),
        (None, [2.0, -3.0], None, None),
    ],
)
def test_weights_turn_where_their_signs_tell_or_it_is_said(signs, weights, signed, wanted):
    columns = {"index": [0, 1], "weight": weights} | ({"sign": signs} if signs else {})
    g = SignedPermutation([0, 1], [1, -1])
    if wanted is None:
        with pytest.raises(ValueError, match="signed=True"):
            neuron_frame(Frame(**columns), g, signed)
    else:
        assert neuron_frame(Frame(**columns), g, signed)["weight"].tolist() == wanted


@pytest.mark.parametrize(
    ("indices", "signs", "error", "told"),
    [
        ([0.5], None, TypeError, "integers"),
        ([True], None, TypeError, "masks"),
        ([3], None, ValueError, "index 3 is out of range"),
        ([-1], None, ValueError, "index -1 is out of range"),
        ([1], [2], ValueError, "signs must be"),
        ([1], [1, 1], ValueError, "signs must be"),
    ],
)
def test_what_numbers_no_coordinate_is_refused(indices, signs, error, told):
    with pytest.raises(error, match=told):
        neurons(indices, SignedPermutation.random(3, seed=0), signs)


def test_rotations_number_no_coordinates():
    g = OrthogonalGauge.random(4, seed=0)
    with pytest.raises(TypeError, match="no coordinate stays one"):
        neurons([1], g)
    with pytest.raises(TypeError, match="no coordinate stays one"):
        attributions(np.ones(4), g, signed=False)
    assert attributions(np.ones(4), g, signed=True).shape == (4,)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"number": [1]}, "no column 'index'"),
        ({"index": [1], "sign": [0]}, "sign of row 0 is 0"),
        ({"index": [1], "site": ["blocks.0.mlp.hook_post"]}, "inside blocks"),
        ({"index": [1], "site": ["somewhere"]}, "somewhere"),
        ({"index": [1], "weight": ["much"]}, "weight of row 0 is 'much'"),
        ({"index": [0], "weight": np.array([2], np.uint8)}, "holds no signs"),
    ],
)
def test_frames_that_do_not_fit_are_refused(columns, told):
    with pytest.raises(ValueError, match=told):
        neuron_frame(Frame(**columns), SignedPermutation([0, 1, 2], [-1, 1, 1]), signed=True)
