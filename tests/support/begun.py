"""Commands begun in processes of their own, ended at any moment, and begun again."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

FORK = multiprocessing.get_context("fork")


def run_ranks(rank_of, count, *arguments):
    """``rank_of(rank, *arguments)`` in so many processes at a time, until all have ended well."""
    ranks = [FORK.Process(target=rank_of, args=(rank, *arguments)) for rank in range(count)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
        assert rank.exitcode == 0


class Begun:
    """``bmatch ARGUMENTS``, begun: a fork of the tests' process, which has all libraries already.

    Attributes
    ----------
    printed, said : Path
        Standard output and error.
    """

    def __init__(self, folder, arguments):
        folder.mkdir(exist_ok=True)
        self.printed, self.said = folder / "printed", folder / "said"
        ready, theirs = FORK.Pipe(duplex=False)
        self._process = FORK.Process(target=self._serve, args=([*map(str, arguments)], theirs))
        self._process.start()
        theirs.close()
        ready.recv()

    def _serve(self, arguments, ready):
        os.setsid()  # Ctrl-C goes to a whole group, and signal 9 to a process
        for number, file in ((1, self.printed), (2, self.said)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # pytest had its own there
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by jobs in background
        torch.set_num_threads(1)
        sys.argv = ["bmatch", *arguments]
        from bmatch.__main__ import main

        ready.send(None)
        main()

    def goes_on(self):
        """Whether it has not come to an end."""
        return self._process.is_alive()

    def end(self, ending=None, after=None):
        """The exit code: left alone, or given so many seconds and then that signal."""
        self._process.join(after)
        if ending is not None and self._process.exitcode is None:
            (os.killpg if ending == signal.SIGINT else os.kill)(self._process.pid, ending)
        self._process.join(120)
        assert self._process.exitcode is not None, self.said.read_text()
        return self._process.exitcode


class Disturbed:
    """A command that is ended again and again, and writes the same as one that is left alone.

    Parameters
    ----------
    folder : Path
        An empty one, for all that is written.
    arguments : sequence
        Without its output and its cache.
    output : bool
        Whether it has one; otherwise what it prints is held against what the other prints.
    cache : bool
        Whether it keeps how far it has come.
    """

    def __init__(self, folder, arguments, *, output=True, cache=True, seed=0):
        self._folder, self._arguments = folder, arguments
        self._output, self._cache = output, cache
        self._moments = random.Random(seed)
        start = time.monotonic()
        whole = self.begin("whole")
        assert whole.end() == 0, whole.said.read_text()
        self.took = time.monotonic() - start
        self.expected = self._written("whole", whole)

    def place(self, name, what):
        """Of the job of that name its output (``out``), alone in a folder, or its ``cache``."""
        return self._folder / name / what / what

    def begin(self, name):
        """The job of that name, which goes on from what the last of that name has kept."""
        options = ()
        for what, there in (("out", self._output), ("cache", self._cache)):
            if there:
                self.place(name, what).parent.mkdir(parents=True, exist_ok=True)
                options += (f"--{what}", self.place(name, what))
        return Begun(self._folder / name, (*self._arguments, *options))

    def by(self, *endings):
        """End it by each of these signals, and yield then; at last it is left alone."""
        for ending in endings:
            while not self._ended(ending, self._moments.uniform(0, self.took)):
                pass
            yield
        job = self.begin("again")
        assert job.end() == 0, job.said.read_text()
        assert self._written("again", job) == self.expected
        assert self._beside("again") == set()

    def _ended(self, ending, moment):
        """Whether it was ended before it was done."""
        before = self._beside("again")
        job = self.begin("again")
        code = job.end(ending, moment)
        said = job.said.read_text()
        assert code in (0, 130 if ending == signal.SIGINT else -ending), said
        assert "Traceback" not in said
        if code == 130:
            assert said.endswith("error: interrupted; nothing was left half-written\n")
        if ending == signal.SIGINT:
            assert self._beside("again") <= before
        # If there is an output, whether or not it was ended behind that.
        done = self.place("again", "out").exists() if self._output else code == 0
        if done:
            assert self._written("again", job) == self.expected
            shutil.rmtree(self._folder / "again")
        return not done

    def _beside(self, name):
        """What lies beside the output: signal 9 leaves it there, until the next job is begun."""
        out = self.place(name, "out")
        return set(out.parent.glob("*")) - {out}

    def _written(self, name, job):
        """By their names, the bytes of what is there once it is done."""
        if not self._output:
            return job.printed.read_bytes()
        out = self.place(name, "out")
        files = [out] if out.is_file() else filter(Path.is_file, out.rglob("*"))
        return {file.relative_to(out): file.read_bytes() for file in files}
