"""What a run's model costs, without building it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from diptych.errors import UsageError
from diptych.nn.unfilled import Unfilled
from diptych.systems.models import new_model
from diptych.systems.outside import refuse_outside
from diptych.systems.rooms import room
from diptych.train.run import Run

if TYPE_CHECKING:
    from diptych.train.cost import ModelCost


def cost_of(run: Run, *, num_tokens: int | None = None) -> ModelCost:
    """Sizes, operations and memory of the model of a run, which may be larger than this machine.

    Of the objective's head, where it has one, the parameters are counted and nothing else.

    Args:
        run: with the vocabulary that it states. Where its precision is "auto", bf16 is taken, as on any recent GPU.
        num_tokens: of the longest text of a batch; None: as long as the model reads.
    Raises:
        UsageError: the objective's code is not in this package, or the cost is not known from shapes.
    """
    from diptych.train.cost import model_cost  # brings torch's tracing along, which loading a model does without

    refuse_unknown_cost(run)
    blank = room(run.system).blank
    assert blank is not None
    with torch.device("meta"), Unfilled():
        model = new_model(run.system, run.model, run.objective, seed=run.training.seed)
    return model_cost(
        model,
        partial(blank, run.model),
        num_tokens=run.model.context if num_tokens is None else num_tokens,
        autocast={"float32": None, "fp16": torch.float16}.get(run.training.precision, torch.bfloat16),
        recompute=run.training.activation_checkpointing,
    )


def refuse_unknown_cost(run: Run) -> None:
    """Tells, before any work, a run of which no formula says what it costs.

    Raises:
        UsageError: the objective's code is not in this package, or the cost is not known from shapes.
    """
    refuse_outside(run)
    if room(run.system).blank is None:
        raise UsageError(
            f"what a {run.system} costs hangs on what is in the pictures, how many objects and how large, so "
            "no formula tells it. Measure it on one GPU: diptych train "
            f"{run.system} {run.recipe} --data DIR --out RUN --set training.micro_batch=auto finds out when it begins "
            "how many pictures fit at once, and logs pictures a second"
        )
