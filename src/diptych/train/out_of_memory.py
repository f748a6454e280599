"""Memory that ran out, in words for users: which settings save memory, and how much each by formula."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from diptych.errors import OutOfMemoryError, UsageError
from diptych.overrides import apply_overrides, to_plain
from diptych.progress import spoken_size
from diptych.train.budget import Layout, memory_parts
from diptych.train.job import Job
from diptych.train.run import Run

if TYPE_CHECKING:
    from diptych.train.cost import ModelCost

RAN_OUT = ("can't allocate memory", "MPS backend out of memory")
"""What torch says on a CPU and on MPS; on CUDA the error has a type of its own."""
MORE_WORK = "1/3 more work"


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A setting that saves memory."""

    setting: str
    """As `--set` takes it."""
    price: str
    """What is given for it, in a few words for a table."""
    effect: str
    """The same for a run that is under way: on what is learned, and on time."""


@contextmanager
def out_of_memory_explained(
    job: Callable[[], Job], precision: str, ranks: int = 1, *, rows: int | None = None
) -> Iterator[None]:
    """Turns the error of an allocation that failed into one that says what would save memory.

    Args:
        job: what is trained, when it is asked.
        precision: what its setting "auto" came to.
        ranks: processes that share the batch.
        rows: what went through the model, where that was no step but a pass that measures.
    Raises:
        OutOfMemoryError: in place of torch's and Python's own.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        said = str(error).partition("\n")[0] or type(error).__name__
        traceback.clear_frames(error.__traceback__)  # they hold the step's tensors, and what follows takes memory too
        raise OutOfMemoryError(f"memory ran out: {said}\n{advice(job(), precision, ranks, rows=rows)}") from error


def ran_out(error: BaseException) -> bool:
    """Whether the error says that memory could not be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in RAN_OUT)


def advice(job: Job, precision: str, ranks: int = 1, *, rows: int | None = None) -> str:
    """The settings that save memory, each with how much; without figures where no formula is at hand.

    Args:
        job: what is trained.
        precision: what its setting "auto" came to.
        ranks: processes that share the batch.
        rows: see `out_of_memory_explained`; the rest of the batch is not there yet, so a smaller one saves nothing.
    """
    training = replace(job.run.training, precision=precision)  # type: ignore[arg-type]
    run = replace(job.run, training=training if rows is None else replace(training, micro_batch=rows))
    settings = knobs(run, ranks)
    if rows is not None:
        settings = [one for one in settings if one not in batch_knobs(run, ranks)]
    lines = [f"{one.setting}: {one.effect}" for one in settings]
    if job.cost is not None:
        with suppress(RuntimeError, MemoryError):  # what is left may be too little for the formula too
            lines = [
                f"{one.setting} saves {spoken_size(saved)}: {one.effect}"
                for one, saved in savings(run, settings, job.cost, ranks)
            ]
    said = "These settings take less memory:" + "".join(f"\n  {one}" for one in lines)
    return (
        said if rows is None else f"{said}\nIt was over {rows} rows: where these are too little, take a smaller model."
    )


def knobs(run: Run, ranks: int = 1) -> list[Knob]:
    """Settings of the run that could save memory, those that change least first."""
    training = run.training
    local = -(-training.batch // ranks)
    at_once = min(training.rows_at_once or local, local)
    found = [*gradient_knobs(run, micro_batch=at_once // 2), *batch_knobs(run, ranks)]
    if (side := _smaller_picture(to_plain(run.model))) is not None:
        found.append(
            Knob(setting=f"model.image_size={side}", price="another model", effect="another model, which sees less")
        )
    return found


def gradient_knobs(run: Run, *, micro_batch: int) -> list[Knob]:
    """Settings under which the batch stays what it is, and its gradient but for rounding.

    Args:
        run: as it is.
        micro_batch: the smaller one to name; 0: there is none.
    """
    found = []
    if micro_batch > 0:
        found.append(
            Knob(
                setting=f"training.micro_batch={micro_batch}",
                price=MORE_WORK if run.objective.couples_rows else "small products",
                effect="the same gradient, at most a third slower; --resume takes it",
            )
        )
    if not run.training.activation_checkpointing:
        found.append(
            Knob(
                setting="training.activation_checkpointing=true",
                price=MORE_WORK,
                effect="the same gradient, about a third slower; --resume takes it",
            )
        )
    if run.training.precision == "float32":  # "auto" has found that bf16 is slow here, or taken it
        effect = "rounder products; slow on a CPU without them"
        found.append(Knob(setting="training.precision=bf16", price="more rounding", effect=effect))
    if run.optim.ema is not None:
        found.append(Knob(setting="optim.ema=none", price="no averaging", effect="no averaged weights"))
    return found


def batch_knobs(run: Run, ranks: int = 1) -> list[Knob]:
    """Half the batch, where that leaves every rank a row."""
    half = run.training.batch // 2
    effect = "another run, which learns from fewer rows a step"
    return [Knob(setting=f"training.batch={half}", price="another result", effect=effect)] if half >= ranks else []


def savings(
    run: Run, settings: Sequence[Knob], cost: Callable[[Run], ModelCost], ranks: int = 1
) -> Iterator[tuple[Knob, int]]:
    """Bytes of a rank's step that each setting would save by formula, of those that do and that the model can have."""
    cost_now = cost(run)
    now = _step_bytes(run, cost_now, ranks)
    for one in settings:
        try:
            then = apply_overrides(run, [one.setting])
            saved = now - _step_bytes(then, cost_now if of_equal_cost(run, then) else cost(then), ranks)
        except UsageError:
            continue
        if saved > 0:
            yield one, saved


def of_equal_cost(run: Run, other: Run) -> bool:
    """Whether only the split of a step differs: the cost of a pair takes seconds to find."""
    mine, theirs = run.training, other.training
    return (run.model, mine.precision, mine.activation_checkpointing) == (
        other.model,
        theirs.precision,
        theirs.activation_checkpointing,
    )


def _step_bytes(run: Run, cost: ModelCost, ranks: int) -> int:
    training = run.training
    layout = Layout(
        batch=training.batch,
        ranks=ranks,
        parallel=training.parallel,
        micro_batch=training.rows_at_once or training.batch,
        couples_rows=run.objective.couples_rows,
    )
    return sum(memory_parts(cost, layout, averaged=run.optim.ema is not None).values())


def _smaller_picture(config: dict[str, int]) -> int | None:
    """Three quarters of the side, in whole patches; None for models that are not given pictures of a size."""
    side, patch = config.get("image_size"), config.get("patch_size", 32)
    if side is None:
        return None
    step = patch if side % patch == 0 else 32
    return side * 3 // 4 // step * step or None
