"""Pictures and pages of audits."""

from __future__ import annotations

import base64
import html.parser
import io
import re

import numpy as np
import pytest
from PIL import Image

from bmatch.audit import Share, Sweep
from bmatch.report.audits import audit_figures, plot_audit, write_audit


def sweep(kind, *rates):
    shares = [Share(round(40 * rate), 40) for rate in rates]
    ways = ("raw", "permutation", "signed")
    return Sweep(
        kind,
        "Carry <both>.",
        dict(zip(ways, shares, strict=True)),
        {way: Share(int(share.rate), 4) for way, share in zip(ways, shares, strict=True)},
        {way: (share.rate,) * 4 for way, share in zip(ways, shares, strict=True)},
        *(10, 576, "signed_permutation", 0.51, 7, False),
    )


SWEEPS = {"a <set>": sweep("sign-blind", 0, 1, 1), "pairs": sweep("signed", 0, 0.5, 1)}


def test_bars_are_as_long_as_the_shares(tmp_path):
    plot_audit(SWEEPS, tmp_path / "a.png", "Two claims")
    with Image.open(tmp_path / "a.png") as image:
        grey = np.asarray(image.convert("L"))
    assert grey.shape[1] > 1000
    longest = {}  # of runs of the two fills, in pixels
    for fill in (0.80, 0.45):
        mask = np.abs(grey.astype(int) - round(255 * fill)) <= 2
        longest[fill] = sorted({int(n) for n in mask.sum(axis=1)})[-1]
    assert longest[0.45] == pytest.approx(longest[0.80], rel=0.02)  # both reach 1 somewhere


def test_a_page_is_one_file_and_escapes_what_it_shows(tmp_path):
    write_audit(SWEEPS, tmp_path / "a.html", "Run <b>", "512 tokens & more.")
    text = (tmp_path / "a.html").read_text()
    html.parser.HTMLParser().feed(text)
    assert "a &lt;set&gt;" in text
    assert "Carry &lt;both&gt;." in text
    assert "<b>" not in text.split("<title>")[1].split("</title>")[0]
    assert "0.500<br><small>[0.352, 0.648]<br>20 of 40; whole 0 of 4" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    picture = base64.b64decode(re.search(r"base64,([^\"]+)", text)[1])
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "PNG"


def test_figures_tell_all():
    told = audit_figures(SWEEPS["pairs"])
    assert told["items"]["permutation"] == {
        "kept": 20,
        "of": 40,
        "rate": 0.5,
        "interval": Share(20, 40).interval(),
    }
    assert (told["kind"], told["gauges"], told["length"]) == ("signed", 4, 10)
