"""The same while transformers' Trainer trains: a hop at each of its saves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from bmatch.models.runs import Place
from bmatch.stream_reading import OneBatch
from bmatch.trajectory.hop import Hop
from bmatch.trajectory.watch import Watch, alarms

_LOG = logging.getLogger(__name__)


class GaugeCallback(TrainerCallback):
    """Holds each checkpoint that a Trainer saves against the one before; training is not touched.

    Two models are loaded beside the one in training, on the CPU by default, in the first process
    alone. The one saved before has to be there still: ``save_total_limit`` of 2 at least.

    Parameters
    ----------
    batches : sequence of int64 [B, T], or of mappings with input_ids and attention_mask
        As for `bmatch.Trajectory`; the same at each save.
    stop_on_alarm : bool
        Whether training ends with the first alarm.
    tell : callable, optional
        Is given a sentence for each alarm. Default: a warning of this module's logger.
    **options
        As for `bmatch.trajectory.Watch`.

    Attributes
    ----------
    watch : Watch
        With the hops so far.
    alarms : list of str
        So far.

    Examples
    --------
    ``Trainer(model, arguments, callbacks=[GaugeCallback(batches)], ...)``
    """

    def __init__(
        self,
        batches: Sequence[OneBatch] = (),
        *,
        stop_on_alarm: bool = False,
        tell: Callable[[str], None] = _LOG.warning,
        **options: Any,
    ) -> None:
        self.watch = Watch(batches, **options)
        self.alarms: list[str] = []
        self._stop, self._tell = stop_on_alarm, tell

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the Trainer when a checkpoint is written."""
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        with torch.random.fork_rng():  # of the training's, not a number is drawn
            hop: Hop | None = self.watch.see(
                Place(folder, state.global_step, Path(args.output_dir))
            )
        for sentence in () if hop is None else alarms(hop):
            self.alarms.append(sentence)
            self._tell(sentence)
            control.should_training_stop |= self._stop
