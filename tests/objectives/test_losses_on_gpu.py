"""A GPU finds the losses and the gradients that a CPU finds, over several tiles and for rows of unequal length."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.objectives.contrastive import contrastive_loss
from diptych.objectives.sigmoid import sigmoid_loss
from diptych.objectives.tiles import TILE
from diptych.objectives.transport import cosine_cost, transport_distance, transport_plan

pytestmark = pytest.mark.gpu

B, E = TILE + 453, 16
LOSSES = {"contrastive": (contrastive_loss, [100.0]), "sigmoid": (sigmoid_loss, [100.0, -10.0])}


def on(device, *tensors):
    return [one.detach().to(device).requires_grad_(one.is_floating_point()) for one in tensors]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_contrast_in_tiles(name, grouped):
    loss, numbers = LOSSES[name]
    generator = torch.Generator().manual_seed(4)
    vectors = [F.normalize(torch.randn(B, E, generator=generator), dim=-1) for _ in range(2)]
    group = torch.randint(B, (B,), generator=generator) if grouped else None
    found = []
    for device in ("cuda", "cpu"):
        leaves = on(device, *vectors, *map(torch.tensor, numbers))
        total = loss(*leaves, group=None if group is None else group.to(device)).divided({name: B})
        assert total.device.type == device
        found.append([one.cpu() for one in (total.detach(), *torch.autograd.grad(total, leaves))])
    for ours, expected in zip(*found, strict=True):
        assert_close(ours, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", LOSSES)
def test_the_rows_of_a_rank_against_all(name):
    """The middle rows, whose own pairs lie in two tiles of columns."""
    loss, numbers = LOSSES[name]
    generator = torch.Generator().manual_seed(5)
    image, text = (F.normalize(torch.randn(B, E, generator=generator), dim=-1) for _ in range(2))
    some = slice(TILE - 7, TILE + 12)
    found = []
    for device in ("cuda", "cpu"):
        leaves = on(device, image[some], text[some], *map(torch.tensor, numbers), image, text)
        *given, all_image, all_text = leaves
        everything = {"all_image": all_image} if name == "contrastive" else {}
        total = loss(*given, all_text=all_text, offset=some.start, **everything).total()
        total.backward()
        found.append([total.detach().cpu(), *(one.grad.cpu() for one in leaves if one.grad is not None)])
    assert_close(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_transport_plan(autocast):
    """In one launch there; the largest batch is too large for it."""
    generator = torch.Generator().manual_seed(6)
    for rows, most_words, most_regions in ((5, 13, 30), (3, 1, 41), (2, 62, 100), (2, 300, 257)):
        words = torch.randn(rows, most_words, 24, generator=generator)
        regions = torch.randn(rows, most_regions, 24, generator=generator)
        masks = [
            torch.arange(most) < torch.randint(1, most + 1, (rows, 1), generator=generator)
            for most in (most_words, most_regions)
        ]
        cost = cosine_cost(words, regions, *masks)
        there = [one.cuda() for one in masks]
        plan = transport_plan(cost.cuda(), *there)
        assert_close(plan.cpu(), transport_plan(cost, *masks), atol=1e-6, rtol=1e-4)
        assert not plan[~(there[0][:, :, None] & there[1][:, None])].any()
        leaves = on("cuda", words, regions)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=autocast):
            distance = transport_distance(*leaves, *there)
        distance.sum().backward()
        expected = on("cpu", words, regions)
        transport_distance(*expected, *masks).sum().backward()
        assert distance.dtype == torch.float32
        for ours, theirs in zip(leaves, expected, strict=True):
            assert_close(ours.grad.cpu(), theirs.grad, atol=1e-6, rtol=1e-3)
