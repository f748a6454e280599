"""Several objectives of which each step takes one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng, random_for
from diptych.objectives.objective import Encode, Loss, Objective, RowsApart

TASK = "task"
"""(B,) among the targets: the place of the step's objective."""


class Mixture(RowsApart):
    """One objective a step, drawn by its share from the seed and the step: the same on all ranks, and after a resume.

    None that is mixed may couple its rows: parts are divided by counts alone. Rows of a batch are all drawn by one, so
    that a batch says whose it is, and no step needs to be told.
    """

    @property
    @abstractmethod
    def shares(self) -> tuple[tuple[Objective, float], ...]:
        """The objectives, with numbers in proportion to their steps."""

    @property
    def steps_alone(self) -> int:
        """Steps of the first objective alone, before the others join it."""
        return 0

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """Those of all objectives."""
        return {name: head for one, _ in self.shares for name, head in one.heads(config).items()}

    def at(self, seed: int | None, step: int) -> Drawn:
        """The objective of a step, as the loader asks for it; `seed` None: in evaluation, where they take turns."""
        if seed is None:
            place = step % len(self.shares)
        elif step < self.steps_alone:
            place = 0
        else:
            bounds = list(accumulate(share for _, share in self.shares))
            drawn = random_for(seed, 0, str(step), TASK).random() * bounds[-1]
            place = sum(bound <= drawn for bound in bounds)
        return Drawn(self, place)

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """The counts of the batch's objective."""
        return self._of(targets).counts(batch, targets)

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """The loss of the batch's objective."""
        return self._of(targets).loss(encode, batch, targets)

    def _of(self, targets: Targets) -> Objective:
        return self.shares[int(targets[TASK][0])][0]

    def read(self, item: Item) -> Item:
        """What the objectives are given of a row: the item as it is."""
        return item

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of all objectives."""
        return tuple(dict.fromkeys(name for one, _ in self.shares for name in one.columns))

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> tuple[int, ...]:
        """Rows are drawn by what `at` returns."""
        raise TypeError("a mixture draws no rows; ask what its `at` returns")

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """Rows are drawn by what `at` returns."""
        raise TypeError("a mixture draws no rows; ask what its `at` returns")


@dataclass(frozen=True)
class Drawn:
    """An objective of a mixture, whose targets say which it is."""

    mixture: Mixture
    place: int

    @property
    def objective(self) -> Objective:
        """The one that is drawn."""
        return self.mixture.shares[self.place][0]

    @property
    def name(self) -> str:
        """The objective's."""
        return self.objective.name

    @property
    def columns(self) -> tuple[str, ...]:
        """The mixture's, so that all rows are read alike."""
        return self.mixture.columns

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> tuple[int, ...]:
        """The objective's."""
        return self.objective.partners(seed, epoch, row, num_others)

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The objective's, with the place of the objective."""
        drawn, targets = self.objective.draw(self.mixture.read(item), [self.mixture.read(one) for one in partners], rng)
        return drawn, {**targets, TASK: torch.tensor(self.place)}
