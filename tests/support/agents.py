"""torchrun's own agent with ranks that are forks of the tests' process: no library is loaded anew.

Rendezvous, environment, and what becomes of the others when one is lost are those of the command.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

import torch

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_DEATH = 1  # PR_SET_PDEATHSIG


class Job:
    """``torchrun OPTIONS -m bmatch ARGUMENTS``, begun.

    Attributes
    ----------
    said : Path
        Standard output and error of agent and ranks.
    """

    def __init__(self, folder, options, arguments, network=None):
        self.folder = Path(folder) / uuid.uuid4().hex
        self.folder.mkdir()
        self.said = self.folder / "said"
        alone = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0")
        given = [*(() if "--rdzv-endpoint" in options else alone), *options]
        work = (self.folder, [*map(str, given)], [*map(str, arguments)], network)
        self.process = multiprocessing.get_context("fork").Process(target=_agent, args=work)
        self.process.start()

    def pid(self, rank):
        """Of a rank, which is waited for."""
        file = self.folder / str(rank)
        while True:
            with suppress(FileNotFoundError, ValueError):
                return int(file.read_text())
            assert self.process.is_alive(), self.said.read_text()
            time.sleep(0.01)

    def end(self, seconds=120):
        """The exit code, and what was said, in one line."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, self.said.read_text()
        return self.process.exitcode, " ".join(self.said.read_text().split())


def free_port():
    """One at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        return taken.getsockname()[1]


def _agent(folder, options, arguments, network):
    with (folder / "said").open("wb") as said:
        for number in (1, 2):
            os.dup2(said.fileno(), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")  # pytest had put its own there
    if network is not None:
        with open(f"/run/netns/{network}") as namespace:
            if ctypes.CDLL(None).setns(namespace.fileno(), _NEW_NETWORK):
                raise OSError(f"no way into {network}")
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    config, *_ = config_from_args(parse_args([*options, "--start-method", "fork", "bmatch"]))
    elastic_launch(config, _rank)(folder, arguments)


def _rank(folder, arguments):
    from bmatch.__main__ import main

    ctypes.CDLL(None).prctl(_DEATH, 0)  # torch's forks end with the agent, the command's do not
    (folder / os.environ["RANK"]).write_text(str(os.getpid()))
    sys.argv = ["bmatch", *arguments]
    try:
        main()
    finally:  # torch's forks wait for each other now, and have to be ended; the command's are gone
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
