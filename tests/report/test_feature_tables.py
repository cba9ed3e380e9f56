"""What a table and a picture of matched features tell of relatives."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

import bmatch
from bmatch.report import features as shown


@pytest.fixture(scope="module")
def families():
    """Pairs of siblings, of which the target has one: its directions, and the source's."""
    r = np.random.default_rng(0)
    middle = r.normal(size=(300, 1, 48))
    own = (np.sqrt(0.7) * middle + np.sqrt(0.3) * r.normal(size=(300, 2, 48))).reshape(-1, 48)
    return own[::2], own[r.permutation(600)] + 0.4 * r.normal(size=own.shape)


def told(match):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown.features_table(match, ""))
    return capture.get()


def test_relatives_are_what_the_matched_get_without_their_partner(families):
    match = bmatch.match_features(*families)
    cosine = bmatch.Factors(*families, "cosine").dense()
    assert len(match.cosine) > 250
    assert match.bereaved == len(match.cosine)  # so few that each is asked
    assert 0.9 * match.bereaved < len(match.relative_cosine) <= match.bereaved
    cosine[match.target_ind, match.source_ind] = -1.0
    others = np.sort(cosine[match.target_ind], axis=None)
    place = np.searchsorted(others, match.relative_cosine).clip(1, len(others) - 1)
    nearest = np.minimum(
        np.abs(others[place] - match.relative_cosine),
        np.abs(others[place - 1] - match.relative_cosine),
    )
    assert nearest.max() < 1e-9
    share = f"{len(match.relative_cosine) / match.bereaved:.1%}"
    assert f"in the median, for {share} of features whose partner was taken away" in told(match)


def test_nobody_has_relatives():
    match = bmatch.match_features(np.eye(40), np.eye(40))
    assert len(match.cosine) == 40
    assert "none: 40 features found nothing where their partner was taken away" in told(match)


def test_the_picture_has_as_many_relatives_as_there_would_be(families, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(shown, "write_png", lambda figure, path: drawn.append(figure))
    match = bmatch.match_features(*families)
    shown.plot_features(match, tmp_path / "p.png", "")
    left, right = drawn[0].axes
    handles = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
    relatives = handles["the matched, partner taken away"]
    x, y = (relatives[0] if isinstance(relatives, list) else relatives).get_xy().T
    width = x.max() / 60
    area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)) / width
    expected = len(match.cosine) * len(match.relative_cosine) / match.bereaved
    assert area == pytest.approx(expected, rel=1e-6)
    probability = {line.get_label(): line for line in right.lines}["probability"].get_ydata()
    assert np.all(np.diff(probability) <= 0)
