"""A mixture: which objective a step has, that its batch says so, and that nothing else is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diptych.data.batch import Batch, Targets
from diptych.data.loader import evaluation_batches, load_batches
from diptych.data.sample import Item, Rng
from diptych.data.sampler import Order
from diptych.data.table import Table
from diptych.objectives.mixture import TASK, Mixture
from diptych.objectives.objective import Loss, OwnRow


@dataclass(frozen=True, kw_only=True)
class Told(OwnRow):
    """Draws its number for every row, and counts rows."""

    name: str
    number: int
    couples_rows: bool = False

    def chance_loss(self, num_rows: int) -> float | None:
        return None

    def heads(self, config: Any) -> dict[str, nn.Module]:
        return {self.name: nn.Identity()}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        return item, {"number": torch.tensor(self.number)}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        return {self.name: len(batch)}

    def loss(self, encode: Any, batch: Batch, targets: Targets) -> Loss:
        return Loss.term(self.name, total=targets["number"].sum().float(), count=len(batch))


@dataclass(frozen=True, kw_only=True)
class Two(Mixture):
    first: float = 1.0
    second: float = 3.0
    name: str = "two"

    @property
    def shares(self):
        return ((Told(name="one", number=5), self.first), (Told(name="other", number=7), self.second))


def test_steps_are_shared_out_as_asked() -> None:
    found = Counter(Two().at(0, step).name for step in range(2000))
    assert found["other"] / 2000 == pytest.approx(0.75, abs=0.033)  # 3.4 standard errors


@given(st.integers(0, 99), st.integers(0, 999))
def test_a_step_is_always_the_same_ones_and_seeds_differ(seed, step) -> None:
    assert Two().at(seed, step) == Two().at(seed, step)


def test_seeds_give_other_orders() -> None:
    orders = {tuple(Two().at(seed, step).place for step in range(40)) for seed in range(5)}
    assert len(orders) == 5


def test_what_has_no_share_is_never_drawn() -> None:
    assert {Two(first=0.0).at(1, step).name for step in range(200)} == {"other"}


def test_heads_are_those_of_all() -> None:
    assert Two().heads(None).keys() == {"one", "other"}


def test_every_batch_says_whose_it_is(small_room: ModuleType, small_table: Table) -> None:
    rows, mixture = small_table.split("train"), Two()
    order = Order(num_rows=len(rows), batch=4, seed=3)
    loaded = list(load_batches(rows, small_room.SmallInputs(), order, start=0, stop=12, draw=mixture, workers=0))
    assert {int(one.targets[TASK][0]) for one in loaded} == {0, 1}
    for step, one in enumerate(loaded):
        asked, number = mixture.at(3, step), (5, 7)[mixture.at(3, step).place]
        loss = mixture.loss(None, one.batch, one.targets)
        assert one.targets[TASK].tolist() == [asked.place] * 4
        assert mixture.counts(one.batch, one.targets) == {asked.name: 4}
        assert loss.terms[asked.name].total == 4 * number
    (again,) = load_batches(rows, small_room.SmallInputs(), order, start=7, stop=8, draw=mixture, workers=0)
    assert torch.equal(again.targets[TASK], loaded[7].targets[TASK])


def test_in_an_evaluation_they_take_turns(small_room: ModuleType, small_table: Table) -> None:
    batches = evaluation_batches(small_table.split("train"), small_room.SmallInputs(), batch=5, draw=Two(), workers=0)
    assert [int(one.targets[TASK][0]) for one in batches] == [0, 1, 0, 1, 0]


@dataclass(frozen=True, kw_only=True)
class OneFirst(Two):
    steps_alone: int = 5


def test_the_first_may_begin_alone() -> None:
    places = [OneFirst().at(1, step).place for step in range(60)]
    assert places[:5] == [0] * 5 and places[5:] == [Two().at(1, step).place for step in range(5, 60)]
    assert 1 in places[5:10]
    assert [OneFirst().at(None, step).place for step in range(4)] == [0, 1, 0, 1], "in evaluation they take turns"
