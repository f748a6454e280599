"""The contrastive loss by hand, its symmetries, and that splitting it over rows or ranks changes nothing."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.data.batch import Batch
from diptych.errors import ShapeError
from diptych.objectives.contrastive import Contrastive, contrastive_loss
from diptych.objectives.objective import Dual

B, E = 6, 5
ONE = torch.tensor(1.0)


def vectors(seed: int, rows: int = B, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, E, generator=generator, dtype=torch.float64), dim=-1).to(dtype)


def dense(image: Tensor, text: Tensor, scale: Tensor, twins: Tensor | None = None) -> Tensor:
    """Figure 3 of the paper, over the whole matrix; `twins` are pairs that count as no negatives."""
    logits = scale * image @ text.mT
    if twins is not None:
        logits = logits.masked_fill(twins, -math.inf)
    own = torch.arange(len(image))
    return (F.cross_entropy(logits, own, reduction="sum") + F.cross_entropy(logits.mT, own, reduction="sum")) / 2


def test_two_pairs_that_cannot_be_told_apart_cost_log_two_each() -> None:
    same = F.normalize(torch.ones(2, E), dim=-1)
    loss = contrastive_loss(same, same, torch.tensor(7.0))
    assert loss.terms["contrastive"].count == 2
    assert loss.means()["contrastive"] == pytest.approx(math.log(2), abs=1e-6)


def test_two_pairs_at_right_angles_cost_what_a_softmax_of_scale_and_zero_costs() -> None:
    loss = contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(3.0))
    assert loss.means()["contrastive"] == pytest.approx(math.log1p(math.exp(-3)), abs=1e-6)


def test_swapped_pairs_cost_the_scale_more() -> None:
    right = contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(3.0)).means()["contrastive"]
    swapped = contrastive_loss(torch.eye(2), torch.eye(2).flip(0), torch.tensor(3.0)).means()["contrastive"]
    assert swapped - right == pytest.approx(3.0, abs=1e-6)


def test_one_pair_alone_costs_nothing() -> None:
    assert float(contrastive_loss(vectors(0, 1), vectors(1, 1), torch.tensor(50.0)).total()) == pytest.approx(
        0, abs=1e-5
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1.0, 14.3, 100.0]), order=st.permutations(range(B)))
def test_the_order_of_pairs_and_which_side_is_which_do_not_matter(seed: int, scale: float, order: list[int]) -> None:
    image, text, at = vectors(seed), vectors(seed + 1), torch.tensor(scale)
    whole = contrastive_loss(image, text, at).total()
    assert_close(contrastive_loss(image[order], text[order], at).total(), whole, rtol=1e-5, atol=1e-4)
    assert_close(contrastive_loss(text, image, at).total(), whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("known_pairs", [False, True])
def test_loss_and_gradient_over_ranks_equal_the_whole(size: int, known_pairs: bool) -> None:
    group = torch.tensor([0, 1, 0, 3, 1, 5]) if known_pairs else None
    scale = torch.tensor(9.0, requires_grad=True)
    image, text = vectors(3).requires_grad_(), vectors(4).requires_grad_()
    whole = contrastive_loss(image, text, scale, group=group)
    expected = torch.autograd.grad(whole.total(), (image, text, scale))
    parts = [
        contrastive_loss(
            image[i : i + size],
            text[i : i + size],
            scale,
            all_image=image,
            all_text=text,
            offset=i,
            group=None if group is None else group[i : i + size],
            all_group=group,
        )
        for i in range(0, B, size)
    ]
    total = torch.stack([part.total() for part in parts]).sum()
    assert sum(part.terms["contrastive"].count for part in parts) == B
    assert_close(total, whole.total())
    assert_close(torch.autograd.grad(total, (image, text, scale)), expected, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_that_of_the_dense_form() -> None:
    image, text = vectors(5).requires_grad_(), vectors(6).requires_grad_()
    scale = torch.tensor(20.0, requires_grad=True)
    ours = torch.autograd.grad(contrastive_loss(image, text, scale).total(), (image, text, scale))
    theirs = torch.autograd.grad(dense(image, text, scale), (image, text, scale))
    assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_what_finite_differences_say() -> None:
    image, text, scale = vectors(7), vectors(8), torch.tensor(5.0)
    leaf = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(contrastive_loss(leaf, text, scale).total(), leaf)
    step = 1e-5  # the dense form in float64 is what is differentiated: float32 has too few digits for it
    for row, column in ((0, 1), (4, 3)):
        moved = torch.zeros(B, E, dtype=torch.float64)
        moved[row, column] = step
        double = (image.double(), text.double(), scale.double())
        there, back = dense(double[0] + moved, *double[1:]), dense(double[0] - moved, *double[1:])
        assert float(gradient[row, column]) == pytest.approx(float((there - back) / (2 * step)), abs=1e-4)


def test_known_pairs_are_no_negatives_of_each_other() -> None:
    image, text = vectors(9), vectors(10)
    group = torch.tensor([4, 4, 1, 2, 1, 1])
    twins = (group[:, None] == group[None, :]) & ~torch.eye(B, dtype=torch.bool)
    ours = contrastive_loss(image, text, torch.tensor(11.0), group=group).total()
    assert_close(ours, dense(image, text, torch.tensor(11.0), twins))


def test_a_batch_of_one_group_has_no_negatives_at_all() -> None:
    loss = contrastive_loss(vectors(11), vectors(12), torch.tensor(30.0), group=torch.zeros(B, dtype=torch.int64))
    assert float(loss.total()) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("types", [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float16)])
def test_half_precision_vectors_lose_their_own_digits_and_no_more(types: tuple[torch.dtype, torch.dtype]) -> None:
    image, text, scale = vectors(13, dtype=types[0]), vectors(14, dtype=types[1]), torch.tensor(100.0)
    found = contrastive_loss(image.requires_grad_(), text.requires_grad_(), scale).total()
    assert found.dtype == torch.float32
    assert_close(found, contrastive_loss(image.float(), text.float(), scale).total(), rtol=1e-6, atol=1e-5)
    found.backward()
    assert (image.grad.dtype, text.grad.dtype) == types  # type: ignore[union-attr]


def test_a_rank_without_rows_costs_nothing_and_still_is_part_of_the_graph() -> None:
    image, text, scale = vectors(15).requires_grad_(), vectors(16).requires_grad_(), ONE.clone().requires_grad_()
    none = contrastive_loss(image[:0], text[:0], scale, all_image=image, all_text=text, offset=B)
    assert (float(none.total().detach()), none.terms["contrastive"].count) == (0.0, 0)
    for gradient in torch.autograd.grad(none.total(), (image, text, scale)):
        assert not gradient.any()


def test_sides_of_unequal_shape_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(6, 5\).*\(4, 5\)"):
        contrastive_loss(vectors(1), vectors(2, 4), ONE)


def batch(group: list[int]) -> Batch:
    return Batch(keys=tuple(map(str, range(len(group)))), group=torch.tensor(group))


class Encoded:
    """An `encode` that gives these vectors."""

    heads = torch.nn.ModuleDict()

    def __init__(self, image: Tensor, text: Tensor, **gathered: Tensor | int) -> None:
        self.image, self.text, self.gathered = image, text, gathered

    def __call__(self, batch: Batch) -> Dual:
        return Dual(image=self.image, text=self.text, scale=torch.tensor(4.0), group=batch.group, **self.gathered)  # type: ignore[arg-type]


def test_the_objective_normalises_what_the_towers_give() -> None:
    image, text = vectors(15), vectors(16)
    grown = Encoded(image * torch.arange(1, 7)[:, None], text * 0.3)
    loss = Contrastive().loss(grown, batch([0, 1, 2, 3, 4, 5]), {})
    assert_close(loss.total(), contrastive_loss(image, text, torch.tensor(4.0)).total())


@pytest.mark.parametrize("known_pairs", [False, True])
def test_the_objective_reads_groups_only_when_told_to(known_pairs: bool) -> None:
    image, text, rows = vectors(17), vectors(18), batch([0, 0, 2, 3, 4, 4])
    loss = Contrastive(known_pairs=known_pairs).loss(Encoded(image, text), rows, {})
    expected = contrastive_loss(image, text, torch.tensor(4.0), group=rows.group if known_pairs else None)
    assert_close(loss.total(), expected.total())
