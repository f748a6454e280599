"""The losses alone against those of the installed open_clip: value and gradients within 1e-5 in float32."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.objectives.contrastive import contrastive_loss
from diptych.objectives.sigmoid import sigmoid_loss

open_clip_loss = pytest.importorskip("open_clip.loss")

B, E, TOLERANCE = 37, 16, 1e-5


@pytest.fixture(params=[10.0, 100.0])
def given(request: pytest.FixtureRequest) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    image, text = (F.normalize(torch.randn(B, E, generator=generator), dim=-1).requires_grad_() for _ in range(2))
    return image, text, torch.tensor(request.param, requires_grad=True), torch.tensor(-10.0, requires_grad=True)


def test_the_sigmoid_loss_is_theirs(given: tuple[torch.Tensor, ...]) -> None:
    ours, theirs = sigmoid_loss(*given).divided({"sigmoid": B}), open_clip_loss.SigLipLoss()(*given)
    assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)
    mine, right = (torch.autograd.grad(loss, given) for loss in (ours, theirs))
    assert_close(mine, right, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_contrastive_loss_is_theirs(given: tuple[torch.Tensor, ...]) -> None:
    *given, _ = given
    ours, theirs = contrastive_loss(*given).divided({"contrastive": B}), open_clip_loss.ClipLoss()(*given)
    assert_close(ours, theirs, atol=TOLERANCE, rtol=TOLERANCE)
    mine, right = (torch.autograd.grad(loss, given) for loss in (ours, theirs))
    assert_close(mine, right, atol=TOLERANCE, rtol=TOLERANCE)
