"""The sigmoid loss by hand, against the paper's algorithm, and that splitting it over ranks changes nothing."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.data.batch import Batch
from diptych.errors import ShapeError
from diptych.objectives.objective import Dual
from diptych.objectives.sigmoid import Sigmoid, sigmoid_loss

B, E = 6, 5


def vectors(seed: int, rows: int = B, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, E, generator=generator, dtype=torch.float64), dim=-1).to(dtype)


def number(value: float) -> Tensor:
    return torch.tensor(value, requires_grad=True)


def dense(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, true: Tensor | None = None) -> Tensor:
    """Algorithm 1 of the paper, not divided."""
    logits = image @ text.mT * scale + bias
    labels = torch.eye(len(image)) if true is None else true.float()
    return -F.logsigmoid((2 * labels - 1) * logits).sum()


def test_where_nothing_is_known_each_of_the_four_questions_costs_log_two() -> None:
    loss = sigmoid_loss(torch.eye(2), torch.eye(2), number(0.0), number(0.0))
    assert loss.terms["sigmoid"].count == 2
    assert loss.means()["sigmoid"] == pytest.approx(2 * math.log(2), abs=1e-6)


def test_two_pairs_at_right_angles() -> None:
    """Logits 4 - 1 on the diagonal, to be high, and 0 - 1 beside it, to be low."""
    loss = sigmoid_loss(torch.eye(2), torch.eye(2), number(4.0), number(-1.0))
    assert loss.means()["sigmoid"] == pytest.approx(math.log1p(math.exp(-3)) + math.log1p(math.exp(-1)), abs=1e-6)


def test_in_the_beginning_a_pair_costs_the_bias_and_the_others_nearly_nothing() -> None:
    """Section 3.2: so that training need not first learn that nearly all pairs are none."""
    at_right_angles = torch.eye(2 * B)
    found = sigmoid_loss(at_right_angles[:B], at_right_angles[B:], number(10.0), number(-10.0)).means()["sigmoid"]
    assert found == pytest.approx(10 + B * math.log1p(math.exp(-10)), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1.0, 10.0, 117.0]), grouped=st.booleans())
def test_it_is_the_papers_algorithm_with_its_gradients(seed: int, scale: float, grouped: bool) -> None:
    image, text = vectors(seed).requires_grad_(), vectors(seed + 1).requires_grad_()
    over = (image, text, number(scale), number(-3.0))
    group = torch.tensor([4, 4, 1, 2, 1, 1]) if grouped else None
    ours = sigmoid_loss(*over, group=group).total()
    theirs = dense(*over, true=None if group is None else group[:, None] == group[None, :])
    assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    assert_close(torch.autograd.grad(ours, over), torch.autograd.grad(theirs, over), rtol=1e-4, atol=5e-5 * scale)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), order=st.permutations(range(B)))
def test_the_order_of_pairs_and_which_side_is_which_do_not_matter(seed: int, order: list[int]) -> None:
    image, text, scale, bias = vectors(seed), vectors(seed + 1), number(12.0), number(-4.0)
    whole = sigmoid_loss(image, text, scale, bias).total()
    assert_close(sigmoid_loss(image[order], text[order], scale, bias).total(), whole, rtol=1e-5, atol=1e-5)
    assert_close(sigmoid_loss(text, image, scale, bias).total(), whole, rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, B), max_size=3), known_pairs=st.booleans(), seed=st.integers(0, 99))
def test_loss_and_gradient_over_ranks_equal_the_whole(cuts: list[int], known_pairs: bool, seed: int) -> None:
    """Ranks of any size, some without a row."""
    group = torch.tensor([0, 1, 0, 3, 1, 5]) if known_pairs else None
    over = (vectors(seed).requires_grad_(), vectors(seed + 1).requires_grad_(), number(9.0), number(-2.0))
    image, text, scale, bias = over
    whole = sigmoid_loss(*over, group=group)
    bounds = [0, *sorted(cuts), B]
    parts = [
        sigmoid_loss(
            image[start:stop],
            text[start:stop],
            scale,
            bias,
            all_text=text,
            offset=start,
            group=None if group is None else group[start:stop],
            all_group=group,
        )
        for start, stop in pairwise(bounds)
    ]
    total = torch.stack([part.total() for part in parts]).sum()
    assert sum(part.terms["sigmoid"].count for part in parts) == B
    assert_close(total, whole.total())
    expected = torch.autograd.grad(whole.total(), over)
    assert_close(torch.autograd.grad(total, over), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("types", [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float16)])
def test_half_precision_vectors_lose_their_own_digits_and_no_more(types: tuple[torch.dtype, torch.dtype]) -> None:
    image, text = vectors(13, dtype=types[0]).requires_grad_(), vectors(14, dtype=types[1]).requires_grad_()
    found = sigmoid_loss(image, text, number(100.0), number(-10.0)).total()
    assert found.dtype == torch.float32
    assert_close(found, dense(image.float(), text.float(), number(100.0), number(-10.0)), rtol=1e-5, atol=1e-4)
    found.backward()
    assert (image.grad.dtype, text.grad.dtype) == types  # type: ignore[union-attr]


def test_sides_of_unequal_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(6, 5\).*\(4, 5\)"):
        sigmoid_loss(vectors(1), vectors(2, 4), number(1.0), number(0.0))


class Encoded:
    """An `encode` that gives these vectors."""

    def __init__(self, objective: Sigmoid, image: Tensor, text: Tensor) -> None:
        self.image, self.text, self.heads = image, text, nn.ModuleDict(objective.heads(None))

    def __call__(self, batch: Batch) -> Dual:
        return Dual(image=self.image, text=self.text, scale=torch.tensor(4.0), group=batch.group)


@pytest.mark.parametrize("known_pairs", [False, True])
def test_the_objective_normalises_and_reads_groups_only_when_told_to(known_pairs: bool) -> None:
    image, text, group = vectors(17), vectors(18), torch.tensor([0, 0, 2, 3, 4, 4])
    objective, batch = Sigmoid(known_pairs=known_pairs, bias=-3.0), Batch(keys=tuple("abcdef"), group=group)
    encode = Encoded(objective, image * torch.arange(1, 7)[:, None], text * 0.3)
    loss = objective.loss(encode, batch, {})
    expected = sigmoid_loss(image, text, torch.tensor(4.0), torch.tensor(-3.0), group=group if known_pairs else None)
    assert_close(loss.total(), expected.total())
    loss.total().backward()
    assert encode.heads["sigmoid"].bias.grad is not None


def test_chance_is_the_least_that_a_model_pays_whose_vectors_are_all_the_same() -> None:
    same = F.normalize(torch.ones(B, E), dim=-1)

    def costs(bias: float) -> float:
        return sigmoid_loss(same, same, number(0.0), number(bias)).means()["sigmoid"]

    best = math.log((1 / B) / (1 - 1 / B))
    chance = Sigmoid().chance_loss(B)
    assert costs(best) == pytest.approx(chance, abs=1e-5)
    assert min(costs(best - 0.1), costs(best + 0.1)) > chance
    assert Sigmoid().chance_loss(1) == 0
