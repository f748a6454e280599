"""Job: a run with the objects that its names stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from diptych.data.batch import Inputs
from diptych.objectives.objective import Objective
from diptych.train.run import Run

if TYPE_CHECKING:
    from diptych.train.cost import ModelCost

SCRATCH = "scratch"
"""The origin of weights that were drawn."""


@dataclass(frozen=True)
class Job:
    """What the loop trains; `systems.build` makes one of a run."""

    run: Run
    model: nn.Module
    """A room's model, an `Encode`: Batch -> Encoding, with the objectives' `heads`."""
    objective: Objective
    inputs: Inputs
    origin: str = SCRATCH
    """Where the model's weights come from before training, for people."""
    cost: Callable[[Run], ModelCost] | None = None
    """What a run's model costs by formula, for what is said when memory runs out; None where nobody knows."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Own columns of a table, or of what is joined to it, that are read."""
        return (*self.inputs.columns, *self.objective.columns)
