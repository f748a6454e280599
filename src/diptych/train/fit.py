"""`fit`: makes what the training loop needs of a job and a table, or takes it from a run, and lets it run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from diptych.checkpoint.store import CheckpointStore
from diptych.data.table import Table
from diptych.progress import SILENT, Progress
from diptych.ranks import join_ranks
from diptych.train.beginning import begin_state, tell_beginning, tell_going_on
from diptych.train.device import product_rate, repeatable
from diptych.train.folder import begin_folder, with_its_micro_batch
from diptych.train.job import Job
from diptych.train.learner import Learner
from diptych.train.log import RunLog
from diptych.train.loop import FitResult, Loop
from diptych.train.meter import Meter
from diptych.train.out_of_memory import out_of_memory_explained
from diptych.train.plan import Plan, make_plan
from diptych.train.saver import Saver
from diptych.train.signals import StopSignals


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
    on_begin: Callable[[], None] = lambda: None,
) -> FitResult:
    """Trains the job's model on a table, into a run folder.

    The first Ctrl-C or SIGTERM ends the run after the step it is in, with a checkpoint; a second one at once.
    In processes that `torchrun` began, all train together; the lead alone writes and speaks.

    Args:
        job: from `systems.build`; its model is moved to the device and trained.
        table: with the splits that the run's settings name.
        out: the run folder.
        resume: go on with the run in `out`, if one is there.
        device: see `resolve_device`.
        on_nan: "skip" leaves steps without a finite loss out, up to `training.skip_limit` in a row.
        tensorboard: also log for TensorBoard.
        progress: who is told.
        on_begin: called when all checks are passed; from here on the log says how the run ends.
    Raises:
        RunExistsError: `out` holds a run, and `resume` is False or it is another one.
        TrainingError: the loss is not finite (`nan.json` says what led there), or too many rows are bad.
        InterruptedRunError: the second Ctrl-C.
        LostRankError: another process died.
        OutOfMemoryError: a step, or a pass that measures, needs more memory than there is.
    """
    with join_ranks(device, job.run.training.rank_timeout_s) as ranks:
        job = replace(job, run=with_its_micro_batch(job.run, out)) if resume else job
        progress = progress if ranks.leads else SILENT
        plan = make_plan(job, table, out, device, ranks, progress)
        return _fit(plan, resume=resume, on_nan=on_nan, tensorboard=tensorboard, progress=progress, on_begin=on_begin)


def _fit(
    plan: Plan,
    *,
    resume: bool,
    on_nan: Literal["stop", "skip"],
    tensorboard: bool,
    progress: Progress,
    on_begin: Callable[[], None],
) -> FitResult:
    from diptych.train.cost import PairFlops  # brings torch's tracing along, which loading a model does without

    job, out, ranks = plan.job, plan.out, plan.ranks
    origin = ranks.from_lead(lambda: begin_folder(out, job.run, job.inputs, origin=job.origin, resume=resume))
    store = CheckpointStore(out, job.run.training.keep, progress, ranks)
    checkpoint = store.latest() if resume else None
    state, precision = begin_state(checkpoint, plan, origin)
    meter = Meter(PairFlops(job.model), product_rate(plan.device, precision), ranks.size)
    with repeatable(plan.device):
        with out_of_memory_explained(lambda: job, precision.name, ranks.size):
            learner = Learner(job, steps=plan.steps, device=plan.device, precision=precision, ranks=ranks)
        if checkpoint is not None:
            learner.load(checkpoint, state.loss_scale)
            store.go_on_from(checkpoint.step, state.best_step)
        log = RunLog(
            out / "log.jsonl" if ranks.leads else None,
            keep_bytes=state.log_bytes,
            step=state.step,
            time_s=state.time_s,
            tensorboard=tensorboard,
        )
        with log, StopSignals(progress, ranks) as stop:
            on_begin()
            if checkpoint is None:
                tell_beginning(plan, precision, meter.peak, log, progress)
            else:
                tell_going_on(plan, checkpoint.step, log, progress)
            saver = Saver(
                store=store,
                learner=learner,
                state=state,
                log=log,
                settings=job.run.training,
                steps=plan.steps,
                saved_step=-1 if checkpoint is None else checkpoint.step,
            )
            loop = Loop(
                plan=plan,
                learner=learner,
                meter=meter,
                saver=saver,
                state=state,
                log=log,
                stop=stop,
                on_nan=on_nan,
                progress=progress,
            )
            return loop.run()
