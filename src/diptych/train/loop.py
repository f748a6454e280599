"""The one training loop: read a batch, take a step, write down what happened, keep what must not be lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from diptych.checkpoint.store import Checkpoint, CheckpointStore
from diptych.data.batch import Batch
from diptych.data.loader import LoadedBatch, evaluation_batches, load_batches
from diptych.data.sampler import Order
from diptych.data.table import Rows, Table
from diptych.errors import InterruptedRunError, RunExistsError, TrainingError, UsageError
from diptych.progress import SILENT, Progress
from diptych.train.device import Precision, repeatable, resolve_device, resolve_precision
from diptych.train.evaluation import evaluate
from diptych.train.folder import begin_folder
from diptych.train.job import Job
from diptych.train.learner import Learner, Update
from diptych.train.log import RunLog
from diptych.train.meter import Meter
from diptych.train.record import first_event, write_nan_record, write_run_card
from diptych.train.run import TrainingSettings, plain_run
from diptych.train.signals import StopSignals
from diptych.train.state import TrainState

LAST_LOSSES = 20
"""How many are kept to show what led to a loss that is not finite."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a run ended that came to an end by itself or was asked to stop."""

    status: Literal["finished", "interrupted"]
    step: int
    steps: int
    metrics: dict[str, float]
    """Of the last evaluation, its loss among them."""
    best_step: int | None
    best_metrics: dict[str, float]


class NotFiniteError(TrainingError):
    """Loss or gradient is infinite or not a number."""


def fit(
    job: Job,
    table: Table,
    out: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    on_nan: Literal["stop", "skip"] = "stop",
    tensorboard: bool = False,
    progress: Progress = SILENT,
) -> FitResult:
    """Trains the job's model on a table, into a run folder.

    The first Ctrl-C or SIGTERM ends the run after the step it is in, with a checkpoint; a second one at once.

    Args:
        job: from `systems.build`; its model is moved to the device and trained.
        table: with the splits that the run's settings name.
        out: the run folder.
        resume: go on with the run in `out`, if one is there.
        device: see `resolve_device`.
        on_nan: "skip" leaves steps without a finite loss out, up to `training.skip_limit` in a row.
        tensorboard: also log for TensorBoard.
        progress: who is told.
    Raises:
        RunExistsError: `out` holds a run, and `resume` is False or it is another one.
        TrainingError: the loss is not finite (`nan.json` says what led there), or too many rows are bad.
        InterruptedRunError: the second Ctrl-C.
    """
    where = resolve_device(device)
    rows = table.split(job.run.inputs.split)
    order = Order(num_rows=len(rows), batch=job.run.training.batch, seed=job.run.training.seed)
    steps = num_steps(job.run.training, order)
    begin_folder(out, job.run, job.inputs, resume=resume)
    store = CheckpointStore(out, job.run.training.keep, progress)
    checkpoint = store.latest() if resume else None
    state, precision = _begin_state(checkpoint, job, table, where)
    with repeatable(where):
        learner = Learner(job, steps=steps, device=where, precision=precision)
        if checkpoint is not None:
            learner.load(checkpoint, state.loss_scale)
            store.go_on_from(checkpoint.step, state.best_step)
        log = RunLog(out / "log.jsonl", keep_bytes=state.log_bytes, time_s=state.time_s, tensorboard=tensorboard)
        with log, StopSignals(progress) as stop:
            if checkpoint is None:
                log.write("start", 0, first_event(job, table, order, steps, where, precision))
                progress.say(f"Training on {where} in {precision.name} ({precision.reason}).")
            elif checkpoint.step >= steps:
                progress.say(f"The run in {out} is finished: it made all its {steps} steps.")
            else:
                log.write("note", state.step, {"text": f"went on from the checkpoint of step {state.step}"})
                progress.say(f"Going on from step {state.step} of {steps}.")
            return _Loop(
                job,
                table,
                rows,
                order,
                steps,
                out,
                learner,
                store,
                state,
                log,
                stop,
                on_nan,
                progress,
                checkpoint is None,
            ).run()


def num_steps(settings: TrainingSettings, order: Order) -> int:
    """Optimizer steps of a run: as set, or as many as the epochs take.

    Raises:
        UsageError: both or neither are set.
    """
    if (settings.steps is None) == (settings.epochs is None):
        raise UsageError(
            f"training.steps is {settings.steps} and training.epochs {settings.epochs}; set one of them and the other "
            "to none, e.g. --set training.steps=none --set training.epochs=30"
        )
    if settings.steps is not None:
        return settings.steps
    assert settings.epochs is not None
    return max(round(settings.epochs * order.steps_per_epoch), 1)


def _begin_state(
    checkpoint: Checkpoint | None, job: Job, table: Table, device: torch.device
) -> tuple[TrainState, Precision]:
    """Where the run begins or goes on, and in what precision: the one that it began with."""
    if checkpoint is None:
        precision = resolve_precision(job.run.training.precision, device)
        return TrainState(table=table.fingerprint, precision=precision.name), precision
    state = TrainState.of(checkpoint.state)
    if state.table != table.fingerprint:
        raise RunExistsError(
            f"the run was begun on a table with fingerprint {state.table}, and {table.path} has {table.fingerprint}. "
            "Pass the --data that it was begun with, or choose another --out."
        )
    return state, resolve_precision(state.precision, device)


@dataclass
class _Loop:
    """One call of `fit`, from where the state stands to the end or a stop."""

    job: Job
    table: Table
    rows: Rows
    order: Order
    steps: int
    out: Path
    learner: Learner
    store: CheckpointStore
    state: TrainState
    log: RunLog
    stop: StopSignals
    on_nan: Literal["stop", "skip"]
    progress: Progress
    is_new: bool

    def __post_init__(self) -> None:
        self.settings = self.job.run.training
        self.meter = Meter()
        self.losses: deque[float] = deque(maxlen=LAST_LOSSES)
        self.saved_step = -1 if self.is_new else self.state.step
        self.saved_at_s = self.log.time_s
        self.note = ""

    def run(self) -> FitResult:
        """Trains, and writes down how it ended whatever happens."""
        try:
            status = self._train()
        except NotFiniteError as error:
            self._end("nan", str(error))
            raise
        except KeyboardInterrupt as error:
            self._end("interrupted", "stopped at once; the last checkpoint stands")
            raise InterruptedRunError(
                f"stopped at once. Go on from the last checkpoint of {self.out} by --resume."
            ) from error
        except Exception as error:
            self._end("failed", f"{type(error).__name__}: {error}")
            raise
        self._end(status, f"{self.state.step} of {self.steps} steps")
        return FitResult(
            status=status,
            step=self.state.step,
            steps=self.steps,
            metrics=self.state.last_metrics,
            best_step=self.state.best_step,
            best_metrics=self.state.best_metrics,
        )

    def _train(self) -> Literal["finished", "interrupted"]:
        """What is due after a step is looked at before the next, so that a run that goes on makes up for it."""
        batches = self._batches()
        with self.progress.bar("training", total=self.steps, unit="steps", done=self.state.step) as bar:
            while True:
                if self.stop.received is not None:
                    self._save()
                    return "interrupted"
                is_best = self._evaluation_is_due() and self._evaluate()
                if is_best or self._checkpoint_is_due():
                    self._save()
                if is_best:
                    self.store.mark_best(self.state.step)
                if self.state.step >= self.steps:
                    return "finished"
                self._learn(batches)
                bar.advance(1, self.note)

    def _batches(self) -> Iterator[LoadedBatch]:
        return load_batches(
            self.rows,
            self.job.inputs,
            self.order,
            start=self.state.step,
            stop=self.steps,
            draw=self.job.objective,
            workers=self.job.run.inputs.workers,
            bad_rows=self.state.bad_rows,
        )

    def _learn(self, batches: Iterator[LoadedBatch]) -> None:
        with self.meter.loading():
            loaded = next(batches)
        self._take_note_of(loaded)
        if loaded.batch is not None:
            self.meter.count(loaded.batch)
            with self.meter.learning():
                update = self.learner.update(loaded.batch, loaded.targets, self.state.step)
            self._judge(update, loaded.batch)
        self.state.step += 1
        if loaded.batch is not None and self._log_is_due():
            self._log_step(update, loaded.epoch)

    def _judge(self, update: Update, batch: Batch) -> None:
        """Counts a step whose loss or gradient is not finite, or stops."""
        if update.finite:
            self.state.skipped_in_a_row = 0
            self.losses.append(update.loss)
            return
        step = self.state.step + 1
        if self.learner.forgives(update):
            return
        record = write_nan_record(self.out, step, batch.keys, update, self.losses, self.learner)
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

    def _take_note_of(self, loaded: LoadedBatch) -> None:
        """Tells each bad row once, and stops when there are too many."""
        for reject, row in zip(loaded.rejects, self.rows.find([one.key for one in loaded.rejects]), strict=True):
            if row is None or row in self.state.bad_rows:
                continue
            self.state.bad_rows.append(row)
            self.log.write("reject", self.state.step, {"key": reject.key, "reason": reject.reason})
            self.progress.say(f"Left out row {reject.key!r}: {reject.reason}")
        num_bad, most = len(self.state.bad_rows), self.settings.max_bad_rows
        if num_bad > most * len(self.rows):
            raise TrainingError(
                f"{num_bad} of {len(self.rows)} rows could not be read, more than training.max_bad_rows={most}; "
                f"the first is {self.rows.key(self.state.bad_rows[0])!r}. Import the table again, or allow more."
            )

    def _log_is_due(self) -> bool:
        step = self.state.step
        return step in (1, self.steps) or step % self.settings.log_every == 0

    def _log_step(self, update: Update, epoch: int) -> None:
        temperature = self.learner.temperature()
        fields = {
            "loss": update.loss,
            "terms": update.parts.means(),
            "lr": update.rate,
            "temperature": temperature,
            "grad_norm": update.grad_norm,
            "epoch": epoch,
            **self.meter.read(),
        }
        self.log.write("step", self.state.step, fields)
        self.note = f"loss {update.loss:.3f}"

    def _evaluation_is_due(self) -> bool:
        step, every = self.state.step, self.settings.eval_every
        due = step in (0, self.steps) or (every is not None and step % every == 0)
        return due and self.state.evaluated < step

    def _evaluate(self) -> bool:
        """Measures on the held-out split; whether the weights are the best so far."""
        split, state = self.settings.eval_split, self.state
        batches = evaluation_batches(
            self.table.split(split),
            self.job.inputs,
            batch=self.settings.batch,
            limit=self.settings.eval_rows,
            workers=self.job.run.inputs.workers,
        )
        with self.learner.weights_to_use():
            found = evaluate(
                self.learner.step, batches, device=self.learner.device, micro_batch=self.settings.micro_batch
            )
        score = found.score(self.settings.eval_metric)
        state.evaluated = state.step
        state.last_metrics = {"loss": found.loss, **found.metrics}
        fields = {"split": split, "loss": found.loss, "rows": found.rows, "metrics": found.metrics}
        self.log.write("eval", state.step, fields)
        if state.step == 0 or not (state.best_score is None or score >= state.best_score):
            return False  # of equal ones the later is the best
        state.best_step, state.best_score, state.best_metrics = state.step, score, state.last_metrics
        return True

    def _checkpoint_is_due(self) -> bool:
        step, every = self.state.step, self.settings.checkpoint_every
        by_steps = step in (0, self.steps) or (every is not None and step % every == 0)
        by_time = self.log.time_s - self.saved_at_s >= 60 * self.settings.checkpoint_minutes
        return self.saved_step != step and (by_steps or by_time)

    def _save(self) -> None:
        if self.saved_step == self.state.step:
            return
        self.state.time_s = self.log.time_s
        self.state.log_bytes = self.log.num_bytes
        self.state.loss_scale = self.learner.loss_scale()
        model, optimizer = self.learner.tensors()
        state = {**self.state.plain(), "run": plain_run(self.job.run)}
        self.store.save(self.state.step, model=model, optimizer=optimizer, state=state)
        self.saved_step, self.saved_at_s = self.state.step, self.log.time_s
        self.log.write("checkpoint", self.state.step, {})

    def _end(self, status: str, text: str) -> None:
        self.log.write("end", self.state.step, {"status": status, "text": text})
        self.state.time_s = self.log.time_s
        write_run_card(self.out, self.job, self.table, self.state, self.steps, self.learner.device)
