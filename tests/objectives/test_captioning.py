"""Captioning by hand, and what each log-probability may depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from diptych.data.batch import Batch, ImagePart, TextPart, pad
from diptych.objectives.captioning import Captioner, Captioning
from diptych.objectives.objective import Dual

B, E, V = 3, 5, 11
START, END, PAD = 1, 2, 0
TEXTS = ([START, 5, 6, 7, END], [START, 8, END], [START, 4, 4, END])


@dataclass(frozen=True)
class Config:
    embed_dim: int = E
    vocab_size: int = V
    context: int = 9
    text_width: int = 8
    text_layers: int = 2
    text_heads: int = 2
    activation: str = "gelu"


@pytest.fixture
def captioner() -> Captioner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = Captioning(prefix=3).heads(Config())["captioning"]
        nn.init.normal_(head.token_embedding.weight)  # far from the uniform guess that training begins with
    return head.eval()


@pytest.fixture
def image() -> Tensor:
    return torch.randn(B, E, generator=torch.Generator().manual_seed(1))


def texts(*rows: list[int]) -> tuple[Tensor, Tensor]:
    return pad([torch.tensor(row) for row in rows], PAD)


class Encoded:
    """An `encode` that gives the vectors it was made with."""

    def __init__(self, image: Tensor, head: nn.Module) -> None:
        self.image, self.heads = image, nn.ModuleDict({"captioning": head})

    def __call__(self, batch: Batch) -> Dual:
        return Dual(image=self.image, text=self.image, scale=torch.tensor(1.0), group=batch.group)


def batch_of(*rows: list[int]) -> Batch:
    ids, mask = texts(*rows)
    pixels = torch.zeros(len(rows), 3, 2, 2, dtype=torch.uint8)
    keys = tuple(str(row) for row in range(len(rows)))
    return Batch(
        keys=keys, group=torch.arange(len(rows)), text=TextPart(ids=ids, mask=mask), image=ImagePart(pixels=pixels)
    )


def test_of_two_words_nobody_can_tell_apart_each_costs_log_two(image: Tensor) -> None:
    head = Captioning().heads(Config(vocab_size=2))["captioning"]
    nn.init.zeros_(head.token_embedding.weight)  # also the last layer's: every logit is 0
    batch = batch_of([0, 1, 0, 1], [0, 1], [0, 0, 1])
    loss = Captioning().loss(Encoded(image, head), batch, {})
    assert loss.terms["captioning"].count == 6 == Captioning().counts(batch, {})["captioning"]
    assert loss.means()["captioning"] == pytest.approx(math.log(2), abs=1e-6)


def test_it_is_the_cross_entropy_of_the_next_token(captioner: Captioner, image: Tensor) -> None:
    """The probabilities of all that could be said next add up to 1, and the loss takes the one that was said."""
    ids, mask = texts(*TEXTS)
    said = captioner(image, ids, mask)
    for place in range(2):
        others = ids.repeat(V, 1, 1)  # (V, B, T)
        others[:, :, place + 1] = torch.arange(V)[:, None]
        found = torch.stack([captioner(image, other, mask)[:, place] for other in others])  # (V, B)
        assert_close(found.exp().sum(0), torch.ones(B), atol=1e-5, rtol=0)
        assert_close(found.gather(0, ids[None, :, place + 1])[0], said[:, place])
    loss = Captioning(prefix=3).loss(Encoded(image, captioner), batch_of(*TEXTS), {})
    assert_close(loss.total(), -said.sum())


def test_a_later_token_never_changes_an_earlier_one(captioner: Captioner, image: Tensor) -> None:
    ids, mask = texts(*TEXTS)
    before = captioner(image, ids, mask)
    for place in range(1, ids.shape[1]):
        changed = ids.clone()
        changed[:, place] = 10
        after = captioner(image, changed, mask)
        assert_close(after[:, : place - 1], before[:, : place - 1], atol=1e-6, rtol=0)
        assert (after[0, place - 1 :] - before[0, place - 1 :]).abs().min() > 1e-4  # and changes what comes after


def test_padding_is_worth_nothing(captioner: Captioner, image: Tensor) -> None:
    ids, mask = texts(*TEXTS)
    together = captioner(image, ids, mask)
    assert not together[~mask[:, 1:]].any()
    for row, text in enumerate(TEXTS):
        alone = captioner(image[row : row + 1], *texts(text))[0]
        assert_close(together[row, : len(alone)], alone, atol=1e-5, rtol=1e-5)


def test_another_picture_makes_other_words_likely(captioner: Captioner, image: Tensor) -> None:
    ids, mask = texts(*TEXTS)
    assert (captioner(image.roll(1, 0), ids, mask) - captioner(image, ids, mask))[mask[:, 1:]].abs().max() > 1e-3


def test_the_likelihood_of_a_text_is_the_sum_over_its_tokens(captioner: Captioner, image: Tensor) -> None:
    ids, mask = texts(*TEXTS)
    by_row = captioner(image, ids, mask).sum(1)
    for row, text in enumerate(TEXTS):
        found = captioner.log_likelihood(image, torch.tensor(text))
        assert found.shape == (B,)
        assert_close(found[row], by_row[row], atol=1e-5, rtol=1e-5)


def test_a_text_as_long_as_the_context_has_a_place_for_every_token(captioner: Captioner, image: Tensor) -> None:
    text = torch.tensor([START, *[5] * (Config.context - 2), END])
    assert torch.isfinite(captioner.log_likelihood(image, text)).all()


def test_every_parameter_learns(captioner: Captioner, image: Tensor) -> None:
    image = image.clone().requires_grad_()
    Captioning(prefix=3).loss(Encoded(image, captioner), batch_of(*TEXTS), {}).total().backward()
    assert image.grad is not None and image.grad.any(1).all()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in captioner.parameters())
