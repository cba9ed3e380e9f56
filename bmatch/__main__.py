"""``bmatch`` and ``python -m bmatch``: the command line, or a sentence if its extra is missing."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from bmatch.cli import app
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: the command line needs {error.name}, which is not installed: "
            "pip install 'bmatch[all]' brings what the commands need"
        )
    app.main()


if __name__ == "__main__":
    main()
