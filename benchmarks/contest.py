"""One matrix, all solvers: who answers rightly, who is slow, and the least times of the others.

First each has a trial in a process of its own, which may crash or run out of time; then those that
are right and within reach of the best take turns in this process.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks import harness, peers
from benchmarks.harness import Spread
from benchmarks.peers import OURS, Solver

READY, LEAST, TIMES, MOST = 60.0, 0.3, 20.0, 10.0
"""Seconds to import and allocate; what a peer has: `TIMES` the best so far, and `LEAST` at least,
but never more than `MOST` times what it has where twice the best is less."""
NEAR = 2.5
"""Who needs more than so many times the best peer is timed by the trial alone."""
MODULES = ("scipy.optimize", "laprust", "lapcpp", "lap", "lapjv", "fastlap")
"""What the processes of trials find imported, where it is installed."""
QUICK = ("laprust", "lapjvr", OURS, "lapcpp")
"""Whose trials come first, so that the limits of the others are near."""

OPTIMAL, WRONG, REFUSED, CRASHED, SLOW = "optimal", "wrong", "refused", "crashed", "slow"


class Trial(NamedTuple):
    """Of one solver, alone: how it ended, seconds a matrix (its limit if slow), objectives."""

    outcome: str
    seconds: float
    objectives: tuple[float, ...] = ()
    note: str = ""


class Measured(NamedTuple):
    """Of one solver on one case; `spread` is over the rounds, and excess is relative."""

    outcome: str
    spread: Spread
    least: float
    rounds: int
    excess: float
    note: str

    @property
    def is_timed(self) -> bool:
        """Whether it found an optimum in time."""
        return self.outcome == OPTIMAL


def objective(cost: Any, rows: Any, cols: Any) -> float:
    """The exact sum of the pairs' entries; not a number where they are no complete matching."""
    size, count = min(cost.shape), len(rows)
    sides = [np.asarray(side) for side in (rows, cols)]
    complete = count == len(cols) == size and all(
        len(np.unique(side)) == size and side.min() >= 0 and side.max() < length
        for side, length in zip(sides, cost.shape, strict=True)
    )
    if not complete:
        return math.nan
    return math.fsum(np.asarray(cost[sides[0], sides[1]], np.float64))


def _work(pipe: Any) -> None:
    """The process of trials: takes matrices, then solvers, one after the other."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where peers print how they fail
    matrices: list[Any] = []
    while (order := pipe.recv()) is not None:
        if isinstance(order, list):
            matrices = order
            continue
        try:
            order.solve(np.eye(4, dtype=matrices[0].dtype))  # the first call imports and allocates
            pipe.send(None)
            begin = time.perf_counter()
            answers = [order.solve(c) for c in matrices]
            taken = (time.perf_counter() - begin) / len(matrices)
            sums = tuple(
                objective(c, *order.matched(found))
                for c, found in zip(matrices, answers, strict=True)
            )
        except BaseException as error:  # a panic of Rust is no Exception
            pipe.send(Trial(REFUSED, math.nan, note=f"{type(error).__name__}: {error}"[:100]))
        else:
            pipe.send(Trial(OPTIMAL, taken, sums))


class Trials:
    """A process for trials, begun again where a solver took it down."""

    def __enter__(self) -> Trials:
        self._process: Any = None
        self._matrices: list[Any] = []
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def take(self, matrices: list[Any]) -> None:
        """What the next trials are of."""
        self._matrices = matrices
        if self._process is not None:
            self._pipe.send(matrices)

    def of(self, solver: Solver, limit: float) -> Trial:
        """One solver on these matrices, `limit` seconds for all of them."""
        if self._process is None:
            self._start()
        self._pipe.send(solver)
        try:
            for seconds in (READY, limit + 0.1):  # to be ready, and for the trial and the way back
                if not self._pipe.poll(seconds):
                    break
                found: Trial | None = self._pipe.recv()
                if found is not None:
                    return found
        except (EOFError, ConnectionResetError):
            code = self._process.join() or self._process.exitcode
            self._stop()
            return Trial(CRASHED, math.nan, note=f"exit code {code}")
        self._stop()
        return Trial(SLOW, limit / len(self._matrices))

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["benchmarks.contest", *MODULES])
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=_work, args=(there,), daemon=True)
        self._process.start()
        there.close()
        self._pipe.send(self._matrices)

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None


def tried(
    trials: Trials, solvers: Mapping[str, Solver], matrices: list[Any], slowest: float
) -> dict[str, Trial]:
    """All trials of a case; who is above the least objective by more than roundings is wrong."""
    found: dict[str, Trial] = {}
    trials.take(matrices)
    count, best = len(matrices), math.inf
    for name in sorted(
        solvers, key=lambda name: (name not in QUICK, QUICK.index(name) if name in QUICK else 0)
    ):
        limit = max(LEAST, min(TIMES * best, max(slowest, 2 * best), MOST * slowest))
        found[name] = trials.of(solvers[name], limit * count)
        if found[name].outcome == OPTIMAL:
            best = min(best, found[name].seconds)
    return found


def excesses(found: Mapping[str, Trial]) -> dict[str, float]:
    """Of every solver that answered: the largest excess of an objective, relative."""
    sums = {name: trial.objectives for name, trial in found.items() if trial.objectives}
    worst = dict.fromkeys(sums, 0.0)
    for k in range(max(map(len, sums.values()), default=0)):
        whole = {name: one[k] for name, one in sums.items() if not math.isnan(one[k])}
        above = peers.excesses(whole) if whole else {}
        for name in worst:
            worst[name] = max(worst[name], above.get(name, math.inf))
    return worst


def hold(
    matrices: list[Any],
    solvers: Mapping[str, Solver],
    trials: Trials,
    seed: int,
    seconds: float = 0.5,
    slowest: float = peers.SLOWEST,
) -> dict[str, Measured]:
    """Every solver on some matrices of one case.

    Parameters
    ----------
    matrices : list of array [n, m]
        Small ones are several, or branch predictors learn one by heart.
    seconds : float
        What a solver's rounds may take, about; one that is longer has one.
    slowest : float
        What a peer's trial may take where twice the best is less.
    """
    found = tried(trials, solvers, matrices, slowest)
    excess = excesses(found)
    right = {
        name: trial.seconds
        for name, trial in found.items()
        if trial.outcome == OPTIMAL and excess[name] <= peers.EXACT
    }
    best = min((taken for name, taken in right.items() if name != OURS), default=math.inf)
    timed = [name for name, taken in right.items() if name == OURS or taken <= NEAR * best]
    calls, rounds = {}, {}
    for name in timed:
        once = max(right[name] * len(matrices), 1e-6)
        loops = max(1, int(2e-4 / once))
        calls[name] = partial(passes, solvers[name].solve, matrices, loops)
        rounds[name] = max(1, min(11, int(seconds / (once * loops))))
    times = harness.in_turns(calls, rounds, seed, warm_up=max(right.values(), default=1.0) < 0.05)
    out = {}
    for name, trial in found.items():
        outcome = WRONG if trial.outcome == OPTIMAL and name not in right else trial.outcome
        taken = times.get(name, [trial.seconds] if outcome == OPTIMAL else [])
        spread = Spread.of(taken) if taken else Spread(math.nan, math.nan, math.nan)
        least = min(taken, default=trial.seconds if outcome == SLOW else math.nan)
        out[name] = Measured(outcome, spread, least, len(taken), excess.get(name, 0.0), trial.note)
    return out


def passes(solve: Callable[[Any], Any], matrices: Sequence[Any], loops: int) -> float:
    """Seconds a matrix."""
    begin = time.perf_counter()
    for _ in range(loops):
        for c in matrices:
            solve(c)
    return (time.perf_counter() - begin) / (loops * len(matrices))


class Ratios(NamedTuple):
    """The least times of others in multiples of ours.

    A solver that was stopped counts with its limit: where it is ours, the ratios are at most these,
    and where it is SciPy, `scipy` is at least that. NaN where there is none.
    """

    best: float
    peer: str
    scipy: float

    @classmethod
    def of(cls, outcomes: Mapping[str, tuple[str, float]]) -> Ratios:
        """From every solver's outcome and its least seconds."""
        ours = outcomes[OURS][1] if OURS in outcomes else math.nan
        right = {
            name: least
            for name, (outcome, least) in outcomes.items()
            if name != OURS and outcome == OPTIMAL
        }
        peer = min(right, key=right.__getitem__, default="")
        outcome, least = outcomes.get("scipy", ("", math.nan))
        scipy = least / ours if outcome in (OPTIMAL, SLOW) else math.nan
        return cls(right[peer] / ours if peer else math.nan, peer, scipy)


def installed(names: Iterable[str] | None = None) -> dict[str, Solver]:
    """The solvers of the host that are here, ours and those of `names` (all if None)."""
    wanted = set(peers.HOST if names is None else names) | {OURS}
    return {
        name: solver
        for name, solver in peers.HOST.items()
        if name in wanted and name not in peers.BOUNDS and solver.is_installed
    }
