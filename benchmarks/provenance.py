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


def processor() -> str:
    """The processor by name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """The processor, the instruction set that the solver uses on it, system and Python."""
    from bmatch import _core

    python = f"Python {platform.python_version()}"
    return f"{processor()} with {_core.instruction_set()}, {platform.system()}, {python}"


def show(name: str, lines: list[str]) -> None:
    """Puts lines into README.md between the marks of that name."""
    readme = HERE / "README.md"
    text = readme.read_text()
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, tail = text.split(begin)[0], text.split(end)[1]
    readme.write_text(head + begin + "\n".join(lines) + "\n" + end + tail)
