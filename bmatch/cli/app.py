"""The command line: ``bmatch`` and ``python -m bmatch`` are the same."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

import bmatch
from bmatch.cli import align, apply, console, demo, info, solve
from bmatch.cli.options import EXIT_CODES

app = typer.Typer(
    name="bmatch",
    help="Find, compose and apply the signed permutations that relate the coordinates of "
    "transformer checkpoints; solve assignment problems exactly.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=align.EXAMPLES)(align.align)
app.command(epilog=apply.APPLY_EXAMPLES)(apply.apply)
app.command(epilog=apply.COMPOSE_EXAMPLES)(apply.compose)
app.command(epilog=info.EXAMPLES)(info.info)
app.command(epilog=solve.EXAMPLES)(solve.solve)
app.command(epilog=demo.EXAMPLES)(demo.demo)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"bmatch {bmatch.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; errors become one sentence and exit code 1."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _end)
    try:
        code = app(standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except typer.Exit as exit_:
        code = exit_.exit_code
    except (ValueError, TypeError, OSError, MemoryError) as error:
        console.fail(_sentence(error))
        code = 1
    except ImportError as error:
        console.fail(
            f"{error.name or error} is not installed: pip install 'bmatch[all]' brings what the "
            "commands need"
        )
        code = 1
    except Exception as error:
        usage = getattr(error, "show", None)  # click's own errors, whichever copy typer carries
        if usage is None:
            raise
        usage()
        code = getattr(error, "exit_code", 2)
    if code == 130:  # typer turns Ctrl-C into this exit code
        console.fail("interrupted; nothing was left half-written")
    sys.exit(code)


def _end(number: int, _frame: object) -> None:
    """Leave by the way that cleans up."""
    raise SystemExit(128 + number)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}; nothing was left half-written"
    if isinstance(error, MemoryError):
        return "there is not enough memory for this"
    return str(error) or type(error).__name__
