"""``bmatch`` and ``python -m bmatch``: the command line, or a sentence if its extra is missing."""

from __future__ import annotations

import os
import signal
import sys

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Run the command line."""
    parent = os.getppid()  # which may be gone when all is loaded
    try:
        from bmatch.cli import app
        from bmatch.jobs.ranks import begun_by
    except ModuleNotFoundError as error:
        sys.exit(
            f"error: the command line needs {error.name}, which is not installed: "
            "pip install 'bmatch[all]' brings what the commands need"
        )
    except (KeyboardInterrupt, RuntimeError) as error:
        if not isinstance(error.__cause__ or error, KeyboardInterrupt):  # that of a class's body
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":  # of torchrun's processes one tells it
            print("error: interrupted; nothing was left half-written", file=sys.stderr)
        sys.exit(130)
    begun_by(parent)
    try:
        app.main()
    finally:  # all is said and written: who ends it now would have a traceback of what is put away
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
