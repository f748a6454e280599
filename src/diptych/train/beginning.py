"""How a run begins, or goes on from its checkpoint: where it stands then, in what precision, and what is told of it."""

from __future__ import annotations

from diptych.checkpoint.store import Checkpoint
from diptych.errors import RunExistsError
from diptych.progress import Progress
from diptych.train.device import Precision, resolve_precision
from diptych.train.job import SCRATCH
from diptych.train.log import RunLog
from diptych.train.plan import Plan
from diptych.train.record import first_event
from diptych.train.state import TrainState, other_data, other_partners


def begin_state(checkpoint: Checkpoint | None, plan: Plan, origin: str) -> tuple[TrainState, Precision]:
    """Where the run begins or goes on, and in what precision: the one that it began with.

    Args:
        checkpoint: that it goes on from; None: it has none yet.
        plan: of this call.
        origin: of the weights that the run began with, as `begin_folder` found it.
    Raises:
        RunExistsError: the run is of other tables or partners, or began with weights that are nowhere in it.
    """
    if checkpoint is None:
        if origin != SCRATCH and plan.job.origin == SCRATCH:
            raise RunExistsError(
                f"the run in {plan.out} began with the weights of {origin} and was stopped before its first "
                f"checkpoint, so they are not in it. Pass --init {origin} again, or choose another --out."
            )
        precision = plan.ranks.from_lead(lambda: resolve_precision(plan.job.run.training.precision, plan.device))
        begun = TrainState(
            table=plan.table.fingerprint, partners=plan.partners, precision=precision.name, origin=origin
        )
        return begun, precision
    state = TrainState.of(checkpoint.state)
    if state.table != plan.table.fingerprint:
        raise RunExistsError(other_data(state.table, plan.table))
    if state.partners is None:
        state.partners = plan.partners
    if state.partners != plan.partners:
        raise RunExistsError(other_partners(state.partners, plan.partners))
    return state, resolve_precision(state.precision, plan.device)


def tell_beginning(
    plan: Plan, precision: Precision, product_rate: float | None, log: RunLog, progress: Progress
) -> None:
    """Tells of a run that has no checkpoint yet: on what it trains, and that its batches are smaller than asked for."""
    log.write("start", 0, first_event(plan, precision, product_rate))
    progress.say(f"Training on {plan.device} in {precision.name} ({precision.reason}).")
    if few := _smaller_batch(plan):
        log.write("note", 0, {"text": few})
        progress.say(few)


def tell_going_on(plan: Plan, step: int, log: RunLog, progress: Progress) -> None:
    """Tells of a run that goes on from the checkpoint of `step`, or that it has made all its steps."""
    if step >= plan.steps:
        progress.say(f"The run in {plan.out} is finished: it made all its {plan.steps} steps.")
        return
    log.write("note", step, {"text": f"went on from the checkpoint of step {step}"})
    progress.say(f"Going on from step {step} of {plan.steps}.")


def _smaller_batch(plan: Plan) -> str:
    """What is said where a table has not the rows of a batch; else nothing."""
    asked, split = plan.job.run.training, plan.job.run.inputs.split
    small = [rows for rows in plan.rows.parts if asked.batch_tokens is None and len(rows) < asked.batch]
    return " ".join(
        f"Each batch{f' of {rows.path}' if rows is not plan.rows else ''} has {len(rows):,} rows, all of {split!r}, "
        f"and not the {asked.batch:,} that were asked for."
        for rows in small
    )
