"""Gauges along training runs: a local gauge from checkpoint to checkpoint, and their product."""

from bmatch.trajectory.trajectory import Trajectory
from bmatch.trajectory.turn import path_between
from bmatch.trajectory.watch import Watch

__all__ = ["Trajectory", "Watch", "path_between"]
