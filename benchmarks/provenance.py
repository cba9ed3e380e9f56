"""Where figures come from, and where they are shown: machine, commit, tables of README.md."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def commit() -> str:
    """The commit that is measured; "-dirty" if files differ from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
    )
    return done.stdout.strip() or "unknown"


def _facts() -> dict[str, str]:
    """What Linux tells of the first processor."""
    info = Path("/proc/cpuinfo")
    first = info.read_text().split("\n\n", 1)[0] if info.exists() else ""
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def processor() -> str:
    """The processor by name."""
    return _facts().get("model name") or platform.processor() or platform.machine()


def machine() -> str:
    """The processor, the instruction set that the solver uses on it, system and Python."""
    from bmatch import _core

    facts, python = _facts(), f"Python {platform.python_version()}"
    kind = f"family {facts['cpu family']}, model {facts['model']}" if "cpu family" in facts else ""
    name = f"{processor()} ({kind})" if kind else processor()  # names can be vague
    return f"{name} with {_core.instruction_set()}, {platform.system()}, {python}"


def show(name: str, lines: list[str]) -> None:
    """Puts lines into README.md between the marks of that name."""
    readme = HERE / "README.md"
    text = readme.read_text()
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, tail = text.split(begin)[0], text.split(end)[1]
    readme.write_text(head + begin + "\n".join(lines) + "\n" + end + tail)
