"""README.md and the pages of docs/ as what they are to a reader: commands, and what they print."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    code: str
    printed: str | None  # the text block right below it


def blocks(page: Path) -> list[Block]:
    """Blocks of code in order. A ``text`` block belongs to the block above it."""
    fenced = re.compile(
        r"^```(?P<language>\w+)\n(?P<code>.*?)^```$(?:\s*^```text\n(?P<printed>.*?)^```$)?",
        re.MULTILINE | re.DOTALL,
    )
    return [
        Block(found["language"], found["code"], found["printed"])
        for found in fenced.finditer(page.read_text())
        if not found["code"].startswith("--8<--")  # a file, which has tests of its own
    ]


def runs(page: Path) -> bool:
    """Whether there is anything to run on a page: ``python`` and ``bash``, not ``sh``."""
    return any(block.language in ("python", "bash") for block in blocks(page))


def needs_demo(page: Path) -> bool:
    """Whether it works on what the demo leaves behind."""
    return runs(page) and any(
        "bmatch-demo" in block.code for block in blocks(page) if block.language != "sh"
    )


def check(page: Path) -> None:
    """Run a page from top to bottom in the working folder, and compare what it prints.

    Python blocks share their names, as in one session. A command's output is compared where
    the page shows it.
    """
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(block.code, names)
            assert printed.getvalue() == (block.printed or ""), block.code
        elif block.language == "bash":
            printed_by_commands = "".join(map(run, block.code.splitlines()))
            assert block.printed in (None, printed_by_commands), block.code


def run(command: str) -> str:
    """What a bmatch command prints, in this process, which has all libraries already."""
    from bmatch.cli import app

    arguments = shlex.split(command)
    assert arguments[0] == "bmatch", command
    printed, told = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", arguments),
        mock.patch.dict(os.environ, COLUMNS="100"),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(told),
        pytest.raises(SystemExit) as ended,
    ):
        app.main()
    assert ended.value.code == 0, told.getvalue()
    return printed.getvalue()
