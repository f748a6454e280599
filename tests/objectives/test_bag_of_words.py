"""The bag of words by hand: which words are in it, and what they cost."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from diptych.data.batch import IGNORE, Batch, Targets, stack_targets
from diptych.data.sample import Item, random_for
from diptych.objectives.bag_of_words import BagOfWordsPrediction, WordPredictor, different_words
from diptych.objectives.objective import Dual, Loss

E, V = 4, 9
START, END = 1, 2
OBJECTIVE = BagOfWordsPrediction()


class Encoded:
    """An `encode` that gives the vectors it was made with."""

    def __init__(self, image: Tensor, head: nn.Module) -> None:
        self.image, self.heads = image, nn.ModuleDict({"bag_of_words": head})

    def __call__(self, batch: Batch) -> Dual:
        return Dual(image=self.image, text=self.image, scale=torch.tensor(1.0), group=batch.group)


def drawn(*texts: list[int]) -> Targets:
    items = [Item(key=str(row), group=row, text_ids=torch.tensor(text)) for row, text in enumerate(texts)]
    return stack_targets([OBJECTIVE.draw(item, None, random_for(0, 0, item.key))[1] for item in items])


def loss(image: Tensor, head: nn.Module, targets: Targets) -> Loss:
    batch = Batch(keys=tuple(str(row) for row in range(len(image))), group=torch.arange(len(image)))
    assert OBJECTIVE.counts(batch, targets) == {"bag_of_words": int((targets["words"] != IGNORE).sum())}
    return OBJECTIVE.loss(Encoded(image, head), batch, targets)


def says(logits: list[float]) -> WordPredictor:
    """A head that says the same of every picture."""
    head = WordPredictor(E, len(logits))
    nn.init.zeros_(head.words.weight)
    head.words.bias.data = torch.tensor(logits)
    return head


def test_of_two_words_nobody_can_tell_apart_each_costs_log_two() -> None:
    found = loss(torch.ones(2, E), says([0.0, 0.0]), drawn([START, 0, END], [START, 1, 0, END]))
    assert found.terms["bag_of_words"].count == 3
    assert found.means()["bag_of_words"] == pytest.approx(math.log(2), abs=1e-6)


def test_the_least_that_a_text_of_two_words_can_cost_is_log_two_a_word() -> None:
    """One softmax over the vocabulary: the words of a bag share its probability."""
    sure = loss(torch.ones(1, E), says([-50.0, -50.0, -50.0, 9.0, 9.0]), drawn([START, 3, 4, END]))
    assert sure.means()["bag_of_words"] == pytest.approx(math.log(2), abs=1e-6)


def test_a_word_counts_once_and_start_end_and_order_not_at_all() -> None:
    assert different_words(torch.tensor([START, 7, 3, 7, 7, END])).tolist() == [3, 7]
    assert different_words(torch.tensor([START, END])).tolist() == []
    assert drawn([START, 7, 3, END], [START, 5, 5, END])["words"].tolist() == [[3, 7], [5, IGNORE]]


@given(st.lists(st.integers(3, V - 1), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_the_words_is_nothing_to_it(words: list[int], random) -> None:
    moved = random.sample(words, len(words))
    assert torch.equal(
        different_words(torch.tensor([START, *words, END])), different_words(torch.tensor([START, *moved, END]))
    )


def test_texts_without_a_word_cost_nothing() -> None:
    found = loss(torch.ones(2, E), says([0.0] * V), drawn([START, END], [START, END]))
    assert (float(found.total().detach()), found.terms["bag_of_words"].count) == (0.0, 0)
    found.divided({"bag_of_words": 0}).backward()


def test_a_text_beside_a_longer_one_costs_what_it_costs_alone() -> None:
    torch.manual_seed(0)
    image, head, texts = torch.randn(2, E), WordPredictor(E, V), ([START, 3, 5, 8, END], [START, 4, END])
    both = loss(image, head, drawn(*texts)).total()
    alone = [loss(image[row : row + 1], head, drawn(texts[row])).total() for row in (0, 1)]
    assert_close(both, sum(alone, torch.tensor(0.0)), atol=1e-6, rtol=1e-6)


def test_the_likelihood_of_a_text_is_that_of_its_words() -> None:
    head = says([math.log(weight) for weight in (1, 1, 1, 2, 5)])
    found = head.log_likelihood(torch.ones(3, E), torch.tensor([START, 3, 4, 3, END]))
    assert_close(found, torch.full((3,), math.log(0.2 * 0.5)))
