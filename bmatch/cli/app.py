"""The command line: ``bmatch`` and ``python -m bmatch`` are the same."""

from __future__ import annotations

import errno
import signal
import sys
import time
from contextlib import nullcontext
from typing import Annotated

import typer

import bmatch
from bmatch.cli import (
    align,
    apply,
    audit,
    console,
    demo,
    features,
    info,
    merge,
    path,
    related,
    solve,
    transport,
    watch,
)
from bmatch.cli.options import EXIT_CODES
from bmatch.jobs.ranks import is_told_by_another, require_one_process, wait_to_end

_HELP = ["-h", "--help"]
app = typer.Typer(
    name="bmatch",
    help="Find, compose and apply the signed permutations that relate the coordinates of "
    "transformer checkpoints; solve assignment problems exactly.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": _HELP},
)
app.command(epilog=align.EXAMPLES)(align.align)
app.command(epilog=related.EXAMPLES)(related.related)
app.command(epilog=path.EXAMPLES)(path.path)
app.command(epilog=watch.EXAMPLES)(watch.watch)
app.command(epilog=apply.APPLY_EXAMPLES)(apply.apply)
app.command(epilog=apply.COMPOSE_EXAMPLES)(apply.compose)
app.command(epilog=transport.EXAMPLES)(transport.transport)
app.command(epilog=merge.EXAMPLES)(merge.merge)
app.command("match-features", epilog=features.EXAMPLES)(features.match_features)
app.command(epilog=audit.EXAMPLES)(audit.audit)
app.command(epilog=info.EXAMPLES)(info.info)
app.command(epilog=solve.EXAMPLES)(solve.solve)
app.command(epilog=demo.EXAMPLES)(demo.demo)


_SHARED = ("align", "path", "match-features")
"""Commands whose work ranks share."""


@app.callback(invoke_without_command=True)
def _before(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        console.say(f"bmatch {bmatch.__version__}")
        raise typer.Exit
    command = context.invoked_subcommand
    helped = not set(_HELP).isdisjoint(sys.argv)  # help is told, once, of any command
    if command is not None and command not in _SHARED and not helped:
        require_one_process(command)


_LESS_MEMORY = {
    "align": "a smaller --batch-size or --sequence-length, fewer --sites, or --dtype bfloat16",
    "demo": "a smaller --model",
    "path": "fewer --jobs, a smaller --batch-size, fewer --sites, or --dtype bfloat16",
    "watch": "a smaller --batch-size, fewer --sites, or --dtype bfloat16",
}
_NO_MEMORY = (
    *("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory"),
    *("memoryerror", "failed to map segment", "bad_alloc", "alloc_failed"),
)
"""How Python, torch, CUDA, safetensors and the loader of shared libraries say it."""


_ENDED: dict[int, int] = {number: 128 + number for number in (signal.SIGTERM, signal.SIGHUP)}
"""Signals that end a job, and the exit codes of those whom they end."""


def main() -> None:
    """Run the command line; errors become one sentence and exit code 1."""
    console.prepare()
    for number in _ENDED:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)
    _interrupts.clear()
    _endings.clear()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        # Ranks that have nothing to print would print the help.
        with console.unheard() if is_told_by_another() else nullcontext():
            code = app(standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except typer.Exit as exit_:
        code = exit_.exit_code
    except SystemExit as ending:
        under_way = ending.__context__
        if isinstance(under_way, BrokenPipeError):
            code = 0  # nobody reads what typer prints
        elif isinstance(under_way, ConnectionError) and ending.code in _ENDED.values():
            code = _fail(under_way)  # torchrun ends who has just heard that another is lost
        else:
            raise
    except Exception as error:
        if _endings and not isinstance(error, ConnectionError):  # which tells of the ending
            sys.exit(_ENDED[_endings[0]])
        code = 130 if _interrupts else _fail(error)
    if code == 130 and not is_told_by_another():  # typer turns Ctrl-C into this exit code
        console.fail("interrupted; nothing was left half-written")
    sys.exit(console.finish(code))


def _end(number: int, _frame: object) -> None:
    """Leave by the way that cleans up, and is not to be ended in its turn."""
    _endings.append(number)
    for other in _ENDED:
        signal.signal(other, signal.SIG_IGN)
    raise SystemExit(_ENDED[number])


_interrupts: list[float] = []
"""When Ctrl-C has come. Libraries may make another error of it, as `numpy.unique` with axis=1."""
_ONCE = 1.0
"""Seconds in which it counts once: ranks have it from the terminal and from torchrun, too."""
_endings: list[int] = []
"""Another ending that has come, of which Python itself makes an error in the middle of a class."""


def _interrupt(_number: int, _frame: object) -> None:
    now = time.monotonic()
    again = bool(_interrupts) and now - _interrupts[-1] < _ONCE
    _interrupts.append(now)
    if not again:  # or it would interrupt what is put away
        raise KeyboardInterrupt


def _fail(error: Exception) -> int:
    """Say what went wrong, and give the exit code; an error that none expects is raised."""
    if _is_out_of_memory(error):
        advice = [_LESS_MEMORY[word] for word in sys.argv[1:2] if word in _LESS_MEMORY]
        console.fail(": try ".join(["there is not enough memory for this", *advice]))
    elif isinstance(error, ValueError | TypeError | OSError):
        console.fail(_sentence(error))
    elif isinstance(error, ImportError):
        console.fail(
            f"{error.name or error} is not installed: pip install 'bmatch[all]' brings what the "
            "commands need"
        )
    elif usage := getattr(error, "show", None):  # click's own, whichever copy typer carries
        if is_told_by_another():
            wait_to_end()
        else:
            usage()
        return int(getattr(error, "exit_code", 2))
    else:
        raise error
    return 1


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory is what was missing, here or where the error comes from."""
    if error is None:
        return False
    text = f"{type(error).__name__} {error}".lower()
    # Sentences about values and files may have any words in them.
    speaks = not isinstance(error, ValueError | TypeError | OSError) or type(error) is OSError
    told = speaks and any(words in text for words in _NO_MEMORY)
    return (
        told
        or getattr(error, "errno", None) == errno.ENOMEM
        or _is_out_of_memory(error.__cause__ or error.__context__)
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}; nothing was left half-written"
    return str(error) or type(error).__name__
