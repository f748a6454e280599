"""What a run puts up with: rows that cannot be read, and steps whose loss is not finite."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diptych.data.batch import Batch
from diptych.data.rejects import Reject
from diptych.data.table import Rows
from diptych.errors import TrainingError
from diptych.progress import Progress
from diptych.train.learner import Learner, Update
from diptych.train.log import RunLog
from diptych.train.record import write_nan_record
from diptych.train.run import TrainingSettings
from diptych.train.state import TrainState

LAST_LOSSES = 20
"""How many are kept to show what led to a loss that is not finite."""


class NotFiniteError(TrainingError):
    """Loss or gradient is infinite or not a number."""


@dataclass(frozen=True, kw_only=True)
class BadRows:
    """Tells each row that cannot be read once, and stops a run that has too many."""

    rows: Rows
    most: float
    """Share of the rows."""
    state: TrainState
    log: RunLog
    progress: Progress

    def note(self, rejects: Sequence[Reject]) -> None:
        """Takes down what a batch had to leave out.

        Raises:
            TrainingError: there are too many by now.
        """
        for reject, row in zip(rejects, self.rows.find([one.key for one in rejects]), strict=True):
            if row is None or row in self.state.bad_rows:
                continue
            self.state.bad_rows.append(row)
            self._tell(reject)
        self._stop_at_too_many()

    def note_evaluated(self, rejects: Sequence[Reject]) -> None:
        """Takes down what an evaluation had to leave out; only an evaluation without any row stops a run."""
        for reject in rejects:
            if reject.key not in self.state.bad_eval_keys:
                self.state.bad_eval_keys.append(reject.key)
                self._tell(reject)

    def evaluated_on(self, rows: Rows) -> list[int]:
        """Those rows of the split to evaluate on that an earlier evaluation had to leave out."""
        return [row for row in rows.find(self.state.bad_eval_keys) if row is not None]

    def _tell(self, reject: Reject) -> None:
        self.log.write("reject", self.state.step, {"key": reject.key, "reason": reject.reason})
        self.progress.say(f"Left out row {reject.key!r}: {reject.reason}")

    def _stop_at_too_many(self) -> None:
        num_bad = len(self.state.bad_rows)
        if num_bad > self.most * len(self.rows):
            raise TrainingError(
                f"{num_bad} of {len(self.rows)} rows could not be read, more than training.max_bad_rows={self.most}; "
                f"the first is {self.rows.key(self.state.bad_rows[0])!r}. Import the table again, or allow more."
            )


@dataclass(frozen=True, kw_only=True)
class NanWatch:
    """Stops at a loss or gradient that is not finite, or leaves its step out."""

    out: Path
    on_nan: Literal["stop", "skip"]
    settings: TrainingSettings
    learner: Learner
    state: TrainState
    log: RunLog
    progress: Progress
    losses: deque[float] = field(default_factory=lambda: deque(maxlen=LAST_LOSSES))

    def judge(self, update: Update, batch: Batch) -> None:
        """Looks at the step that was just made; the learner has changed nothing where it is not finite.

        Raises:
            NotFiniteError: and nan.json says what led there.
        """
        if update.finite:
            self.state.skipped_in_a_row = 0
            self.losses.append(update.loss)
            return
        if self.learner.forgives(update):
            return
        step = self.state.step + 1
        record = self._record(step, self.learner.parallel.ranks.joined(batch.keys), update)
        what = f"the loss of step {step} is {update.loss} and the norm of its gradient {update.grad_norm}"
        self.state.skipped_in_a_row += 1
        if self.on_nan == "skip" and self.state.skipped_in_a_row <= self.settings.skip_limit:
            self.log.write("note", step, {"text": f"left out: {what}"})
            self.progress.say(f"Left a step out: {what}.")
            return
        advice = "Try a lower optim.lr, a longer optim.warmup_steps or optim.clip_norm=1; or pass --on-nan skip."
        if self.on_nan == "skip":
            advice = f"That is more than training.skip_limit={self.settings.skip_limit} steps in a row."
        raise NotFiniteError(f"{what}. {record} names the batch. No weight or checkpoint was changed by it. {advice}")

    def _record(self, step: int, keys: Sequence[str], update: Update) -> Path:
        broken, temperature = self.learner.broken_gradients(), self.learner.temperature()  # shares are asked of all
        return self.learner.parallel.ranks.from_lead(
            lambda: write_nan_record(self.out, step, keys, update, self.losses, broken, temperature)
        )
