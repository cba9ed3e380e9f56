"""Ctrl-C in child processes."""

from __future__ import annotations

import signal


def heed_ctrl_c():
    """For child processes: jobs in the background inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
