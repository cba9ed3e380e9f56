"""The picture of a path: what lies where in it, in grey, of any number of hops."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import bmatch
from bmatch.report import heat_map


def path_of(hops, width, doubtful=()):
    """Gauges at random; the coordinate that begins at 0 is the least settled all along."""
    rng = np.random.default_rng(0)
    origin, made = np.arange(width), []
    for k in range(hops):
        gauge = bmatch.SignedPermutation.random(width, seed=rng)
        origin = origin[gauge.perm]
        made.append(
            SimpleNamespace(
                gauge=gauge,
                margin=np.where(origin == 0, 0.001, 1.0),
                probability=np.where((origin == 0) & (k in doubtful), 0.2, 0.99),
                source=SimpleNamespace(name=f"run-a/checkpoint-{k}"),
                target=SimpleNamespace(name=f"run-a/checkpoint-{k + 1}"),
            )
        )
    agreement = {"path, endpoint": 0.25, "path, via base": 1.0, "way back": 0.5}
    return SimpleNamespace(hops=tuple(made), consistency=agreement)


def test_coordinates_are_followed_from_hop_to_hop():
    sure, margin = heat_map._followed(path_of(5, 9, doubtful=(3,)))
    assert (margin[:, 0] == 0.001).all()
    assert (margin[:, 1:] == 1.0).all()
    assert np.argwhere(sure < 0.5).tolist() == [[3, 0]]


@pytest.mark.parametrize("hops", [1, 6, 90])
def test_picture(hops, tmp_path):
    heat_map.plot_path(path_of(hops, 12, doubtful=(0,)), tmp_path / "p.png", "a title")
    assert [file.name for file in tmp_path.iterdir()] == ["p.png"]
    with Image.open(tmp_path / "p.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    coloured = np.ptp(pixels, axis=2) > 40
    assert 0 < coloured.mean() < 0.02  # dots and marks, and the rest in grey
    height, width = coloured.shape
    map_ = pixels[: height // 2, : int(0.55 * width)].sum(axis=2)
    column = (map_ < 100).sum(axis=0).max()  # the unsettled coordinate, at all hops
    assert column > 0.5 * (0.24 * min(hops, 40)) * 110 * 0.6


def test_one_hop_of_one_coordinate(tmp_path):
    path = path_of(1, 1)
    path.hops[0].margin[:] = np.inf  # nobody else to go to
    heat_map.plot_path(path, tmp_path / "p.png", "")
    assert (tmp_path / "p.png").exists()
