"""Answering: a hand-made loss, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from diptych.data.batch import Batch
from diptych.data.sample import Item, random_for
from diptych.errors import DataError, UsageError
from diptych.objectives.answering import Answering, Questions, Statements
from diptych.objectives.objective import Fused

LOGITS = torch.tensor([[0.0, math.log(3.0)], [math.log(9.0), 0.0]])


@dataclass(frozen=True)
class Config:
    answers: tuple[str, ...]
    width: int = 6


class Model:
    """Its pooled states are the logits, which the head hands on."""

    def __init__(self, name: str) -> None:
        self.heads = nn.ModuleDict({name: nn.Identity()})

    def __call__(self, batch: Batch) -> Fused:
        mask = torch.ones(len(batch), 1, dtype=torch.bool)
        table = torch.zeros(1, 1)
        return Fused(
            hidden=LOGITS[:, None],
            mask=mask,
            lengths={"text": 1},
            pooled=LOGITS,
            word_table=table,
            feature_table=table,
        )


@pytest.mark.parametrize("objective", [Questions(), Statements()])
def test_each_answer_is_judged_on_its_own(objective: Answering) -> None:
    batch, name = Batch(keys=("a", "b"), group=torch.arange(2)), objective.name
    targets = {name: torch.tensor([[1.0, 0.0], [0.5, 0.25]])}
    loss = objective.loss(Model(name), batch, targets)
    # -log σ(0) - log(1 - σ(log 3)) for the first row; the second's logits have σ = 0.9 and 0.5.
    by_hand = math.log(2) + math.log(4) - 0.5 * math.log(0.9) - 0.5 * math.log(0.1) + math.log(2)
    assert_close(loss.terms[name].total, torch.tensor(by_hand))
    assert loss.terms[name].count == 2 == objective.counts(batch, targets)[name]


def test_the_head_has_an_answer_for_each_name() -> None:
    head = Questions().heads(Config(("red", "blue", "green")))["vqa"]
    assert head(torch.zeros(4, 6)).shape == (4, 3)
    with pytest.raises(UsageError, match="no answers to choose among; expected a table of examples"):
        Statements().heads(Config(()))


def test_rows_without_answers_teach_nothing() -> None:
    item = Item(key="q7", group=1, answers=torch.tensor([0.0, 1.0]))
    drawn, targets = Questions().draw(item, None, random_for(0, 0, "q7"))
    assert drawn is item and torch.equal(targets["vqa"], torch.tensor([0.0, 1.0]))
    with pytest.raises(DataError, match="q7 has no answers"):
        Questions().draw(Item(key="q7", group=1), None, random_for(0, 0, "q7"))
