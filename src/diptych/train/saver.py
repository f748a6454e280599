"""When a run writes a checkpoint, and what goes into it."""

from __future__ import annotations

from dataclasses import dataclass, field

from diptych.checkpoint.store import CheckpointStore
from diptych.train.learner import Learner
from diptych.train.log import RunLog
from diptych.train.run import Run, TrainingSettings, plain_run
from diptych.train.state import TrainState


@dataclass(kw_only=True)
class Saver:
    """Writes what must not be lost, by steps and by time. Every rank calls each method at the same moments."""

    store: CheckpointStore
    learner: Learner
    state: TrainState
    log: RunLog
    settings: TrainingSettings
    steps: int
    """Of the whole run."""
    saved_step: int
    """Of the newest checkpoint, -1 while there is none."""
    saved_at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.saved_at_s = self.log.time_s

    def is_due(self) -> bool:
        """Whether the steps made, or the time since the last one, ask for a checkpoint that is not there yet."""
        step, every = self.state.step, self.settings.checkpoint_every
        by_steps = step == self.steps or (every is not None and step % every == 0)
        by_time = self.log.time_s - self.saved_at_s >= 60 * self.settings.checkpoint_minutes
        by_leads_clock = bool(self.learner.parallel.ranks.gathered([by_time])[0][0])
        return self.saved_step != step and (by_steps or by_leads_clock)

    def save(self, run: Run) -> None:
        """Writes the checkpoint of where the run stands, unless it is there.

        Args:
            run: its settings as they are now, with the micro-batch that was found.
        Raises:
            CheckpointError: the disk is full or cannot be written.
        """
        if self.saved_step == self.state.step:
            return
        self.state.time_s = self.log.time_s
        self.state.log_bytes = self.log.num_bytes
        self.state.loss_scale = self.learner.loss_scale()
        model, optimizer = self.learner.tensors()
        state = {**self.state.plain(), "run": plain_run(run)}
        in_shares = self.learner.parallel.sharded
        self.store.save(self.state.step, model=model, optimizer=optimizer, state=state, in_shares=in_shares)
        self.saved_step, self.saved_at_s = self.state.step, self.log.time_s
        self.log.write("checkpoint", self.state.step, {})

    def mark_best(self) -> None:
        """Names the checkpoint of where the run stands the best so far."""
        self.store.mark_best(self.state.step)
