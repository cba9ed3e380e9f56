"""A plug-in of pytest: bmatch in place of other solvers, calls counted, time told.

``-p benchmarks.dropin.plugin`` in a process of its own. The environment says what to do, since
modules are imported before pytest has read its options: BMATCH_DROPIN is "bmatch", or "plain" to
count alone; BMATCH_DROPIN_REPORT is the JSON file that takes what was found.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import bmatch
from bmatch.compat import lap

REPLACED: dict[tuple[str, str], Callable[..., Any]] = {
    ("scipy.optimize", "linear_sum_assignment"): bmatch.linear_sum_assignment,
    ("lap", "lapjv"): lap.lapjv,
    ("lap", "lapmod"): lap.lapmod,
}
"""Functions of others, by module and name, and ours in their place where they are installed."""


@dataclass
class Tally:
    """What a run of tests came to."""

    calls: int = 0  # of the solver
    solver_seconds: float = 0.0
    seconds: float = 0.0  # of the tests that call the solver, it included
    outcomes: dict[str, str] = field(default_factory=dict)  # of each test


TALLY = Tally()


def counted(named: Callable[..., Any], solver: Callable[..., Any]) -> Callable[..., Any]:
    """`solver` under the name of `named`, its calls and its time added to the tally."""

    @functools.wraps(named)
    def call(*args: Any, **kwargs: Any) -> Any:
        TALLY.calls += 1
        begin = time.perf_counter()
        try:
            return solver(*args, **kwargs)
        finally:
            TALLY.solver_seconds += time.perf_counter() - begin

    return call


def put(module: str, name: str, solver: Callable[..., Any] | None) -> None:
    """Replace a function wherever it has been imported to; None counts its calls alone."""
    theirs = getattr(importlib.import_module(module), name)
    ours = counted(theirs, solver or theirs)
    for holder in list(sys.modules.values()):
        for alias, value in list(getattr(holder, "__dict__", {}).items()):
            if value is theirs:
                setattr(holder, alias, ours)


class Watch:
    """Outcomes of tests, and the time of those that call the solver."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._calls = 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Adds a phase of a test; a failure around a test counts as its own."""
        if report.when == "call" or report.outcome != "passed":
            TALLY.outcomes[report.nodeid] = report.outcome
        if report.when == "call" and TALLY.calls > self._calls:
            TALLY.seconds += report.duration
        self._calls = TALLY.calls

    def pytest_sessionfinish(self) -> None:
        """Leaves the tally to who asked for it."""
        self._path.write_text(json.dumps(asdict(TALLY)))


def pytest_configure(config: Any) -> None:
    """Watches the session."""
    config.pluginmanager.register(Watch(Path(os.environ["BMATCH_DROPIN_REPORT"])))


def _allow_older_names() -> None:
    """Gives NumPy back `asfarray`, which it dropped and motmetrics' tests call."""
    import numpy as np

    vars(np).setdefault("asfarray", lambda a: np.asarray(a, dtype=np.float64))


if "BMATCH_DROPIN" in os.environ:
    for (module, name), solver in REPLACED.items():
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            continue
        put(module, name, solver if os.environ["BMATCH_DROPIN"] == "bmatch" else None)
    _allow_older_names()
