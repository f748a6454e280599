"""The one training loop: read a batch, take a step, write down what happened, keep what must not be lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Literal

from diptych.data.loader import LoadedBatch, evaluation_batches, load_batches
from diptych.errors import InterruptedRunError, TrainingError
from diptych.progress import Progress
from diptych.train.budget import Layout
from diptych.train.evaluation import evaluate
from diptych.train.faults import BadRows, NanWatch, NotFiniteError
from diptych.train.folder import write_run
from diptych.train.learner import Learner, Update
from diptych.train.log import RunLog
from diptych.train.meter import Meter
from diptych.train.micro_batch import Fitted, fitting_micro_batch, largest_over
from diptych.train.out_of_memory import out_of_memory_explained
from diptych.train.plan import Plan
from diptych.train.record import write_run_card
from diptych.train.run import TrainingSettings
from diptych.train.saver import Saver
from diptych.train.signals import StopAskedError, StopSignals
from diptych.train.state import TrainState


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


@dataclass(kw_only=True)
class Loop:
    """One call of `fit`, from where the state stands to the end or a stop."""

    plan: Plan
    learner: Learner
    meter: Meter
    saver: Saver
    state: TrainState
    log: RunLog
    stop: StopSignals
    on_nan: Literal["stop", "skip"]
    progress: Progress

    def __post_init__(self) -> None:
        log, state, progress = self.log, self.state, self.progress
        self.bad_rows = BadRows(
            rows=self.plan.rows, most=self.settings.max_bad_rows, state=state, log=log, progress=progress
        )
        self.nan_watch = NanWatch(
            out=self.plan.out,
            on_nan=self.on_nan,
            settings=self.settings,
            learner=self.learner,
            state=state,
            log=log,
            progress=progress,
        )
        self.note = ""

    @property
    def settings(self) -> TrainingSettings:
        """The plan's, which `_fit_micro_batch` changes once."""
        return self.plan.job.run.training

    def run(self) -> FitResult:
        """Trains, and writes down how it ended whatever happens."""
        try:
            with out_of_memory_explained(lambda: self.plan.job, self.state.precision, self.plan.ranks.size):
                status = self._train()
        except NotFiniteError as error:
            self._end_by_error("nan", str(error))
            raise
        except KeyboardInterrupt as error:
            self._end_by_error("interrupted", "stopped at once; the last checkpoint stands")
            raise InterruptedRunError(
                f"stopped at once. Go on from the last checkpoint of {self.plan.out} by --resume."
            ) from error
        except Exception as error:
            self._end_by_error("failed", f"{type(error).__name__}: {error}")
            raise
        self._end(status)
        return FitResult(
            status=status,
            step=self.state.step,
            steps=self.plan.steps,
            metrics=self.state.last_metrics,
            best_step=self.state.best_step,
            best_metrics=self.state.best_metrics,
        )

    def _train(self) -> Literal["finished", "interrupted"]:
        try:
            self._make_steps()
        except StopAskedError:
            self.saver.save(self.plan.job.run)
            return "interrupted"
        return "finished"

    def _make_steps(self) -> None:
        """What is due after a step is looked at before the next, so that a run that goes on makes up for it."""
        batches = self._batches()
        with self.progress.bar("training", total=self.plan.steps, unit="steps", done=self.state.step) as bar:
            while True:
                self.stop.check()
                if self.saver.saved_step < 0:
                    # Before anything can end the run: weights that were given are nowhere else in it.
                    self.saver.save(self.plan.job.run)
                if self.settings.micro_batch == "auto":
                    batches = self._fit_micro_batch(batches)
                # Each rank reads the rows for itself, and may meet others that take too long: the lead's word counts.
                is_best = self._evaluation_is_due() and bool(self.plan.ranks.gathered([self._evaluate()])[0][0])
                if is_best or self.saver.is_due():
                    self.saver.save(self.plan.job.run)
                if is_best:
                    self.saver.mark_best()
                if self.state.step >= self.plan.steps:
                    return
                self._learn(batches)
                bar.advance(1, self.note)

    def _batches(self) -> Iterator[LoadedBatch]:
        return load_batches(
            self.plan.rows,
            self.plan.job.inputs,
            self.plan.order,
            start=self.state.step,
            stop=self.plan.steps,
            draw=self.plan.job.objective,
            workers=self.plan.job.run.inputs.workers,
            bad_rows=self.state.bad_rows,
            decode_timeout_s=self.plan.job.run.inputs.decode_timeout_s,
            tell=self._note,
        )

    def _fit_micro_batch(self, batches: Iterator[LoadedBatch]) -> Iterator[LoadedBatch]:
        """Finds the micro-batch by the first batch and fixes it in run.json; the batches come back whole."""
        first, ranks, rows = next(batches), self.plan.ranks, self.plan.order.batch_rows
        layout = Layout(
            batch=rows,
            ranks=ranks.size,
            parallel=self.settings.parallel,
            micro_batch=rows,
            couples_rows=self.plan.job.objective.couples_rows,
        )
        found = Fitted(rows=layout.local, reason="not a row of the first batch can be read")
        read = ranks.gathered([first.batch is not None])
        if first.batch is not None and all(any_row for (any_row,) in read):
            explained = partial(out_of_memory_explained, lambda: self.plan.job, self.state.precision, ranks.size)
            found = fitting_micro_batch(
                self.learner,
                first.batch,
                first.targets,
                layout,
                agreed=largest_over(ranks),
                explained=lambda rows: explained(rows=rows),
            )
        job = self.plan.job
        job = replace(job, run=replace(job.run, training=replace(self.settings, micro_batch=found.rows)))
        self.plan = replace(self.plan, job=job)
        ranks.from_lead(lambda: write_run(self.plan.out, job.run, self.state.origin))
        text = f"{found.rows:,} of {layout.local:,} rows go through the model at once: {found.reason}"
        self.log.write("note", self.state.step, {"text": text})
        if found.rows < layout.local:
            self.progress.say(f"Gradients are cached: {text}.")
        return chain([first], batches)

    def _note(self, text: str) -> None:
        self.log.write("note", self.state.step, {"text": text})
        self.progress.say(text)

    def _learn(self, batches: Iterator[LoadedBatch]) -> None:
        with self.meter.loading():
            loaded = next(batches)
        ranks = self.plan.ranks
        read = ranks.gathered([len(loaded.rejects), loaded.batch is not None])
        if any(rejects for rejects, _ in read):
            self.bad_rows.note(ranks.joined(loaded.rejects))
        update = None
        # All leave out a step in which some rank has no row that can be read: they would wait for it.
        if loaded.batch is not None and all(any_row for _, any_row in read):
            self.meter.count(loaded.batch)
            with self.meter.learning():
                update = self.learner.update(
                    loaded.batch, loaded.targets, self.state.step, micro_batch=self.settings.rows_at_once
                )
            self.nan_watch.judge(update, loaded.batch)
        self.state.step += 1
        if update is not None and update.finite and self._log_is_due():
            self._log_step(update, loaded)

    def _log_is_due(self) -> bool:
        step = self.state.step
        return step in (1, self.plan.steps) or step % self.settings.log_every == 0

    def _log_step(self, update: Update, loaded: LoadedBatch) -> None:
        temperature, speed = self.learner.temperature(), self.meter.read()
        fields = {
            "loss": update.loss,
            "terms": update.parts.means(),
            "lr": update.rate,
            "temperature": temperature,
            "grad_norm": update.grad_norm,
            "epoch": loaded.epoch,
            **self._table_of(loaded.step),
            **speed,
        }
        self.log.write("step", self.state.step, fields)
        self.note = f"loss {update.loss:.3f}" + (f", MFU {100 * speed['mfu']:.0f} %" if "mfu" in speed else "")

    def _table_of(self, step: int) -> dict[str, int]:
        """The number of the step's table, where several are mixed."""
        order = self.plan.order
        return {} if len(order.orders) == 1 else {"table": order.turn(step)[0] + 1}

    def _evaluation_is_due(self) -> bool:
        step, every = self.state.step, self.settings.eval_every
        due = step in (0, self.plan.steps) or (every is not None and step % every == 0)
        return due and self.state.evaluated < step

    def _evaluate(self) -> bool:
        """Measures on the held-out split; whether the weights are the best so far."""
        split, state = self.settings.eval_split, self.state
        rows = self.plan.table.split(split)
        batches = evaluation_batches(
            rows,
            self.plan.job.inputs,
            batch=self.settings.batch,
            limit=self.settings.eval_rows,
            draw=self.plan.job.objective,
            workers=self.plan.job.run.inputs.workers,
            bad_rows=self.bad_rows.evaluated_on(rows),
            decode_timeout_s=self.plan.job.run.inputs.decode_timeout_s,
            tell=self._note,
        )
        with self.learner.weights_to_use():
            found = evaluate(
                self.learner.parallel,
                self.stop.checked(batches),
                device=self.plan.device,
                micro_batch=self.settings.rows_at_once,
                num_rows=min(len(rows), self.settings.eval_rows),
                progress=self.progress,
            )
        self.bad_rows.note_evaluated(self.plan.ranks.joined(found.rejects))
        score = found.score(self.settings.eval_metric)
        state.evaluated = state.step
        state.last_metrics = {"loss": found.loss, **found.metrics}
        fields = {"split": split, "loss": found.loss, "rows": found.rows, "metrics": found.metrics}
        self.log.write("eval", state.step, fields)
        if state.step == 0 or not (state.best_score is None or score >= state.best_score):
            return False  # of equal ones the later is the best
        state.best_step, state.best_score, state.best_metrics = state.step, score, state.last_metrics
        return True

    def _end_by_error(self, status: str, text: str) -> None:
        """The error that ended the run is what is told, also where the disk has no room to write it down."""
        with suppress(OSError, TrainingError):
            self._end(status, text)

    def _end(self, status: str, text: str = "") -> None:
        self.log.write("end", self.state.step, {"status": status, "text": text})
        self.state.time_s = self.log.time_s
        if self.plan.ranks.leads:
            write_run_card(self.plan, self.state)
