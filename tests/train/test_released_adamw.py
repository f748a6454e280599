"""The released AdamW beside torch's: where they agree, where not, and that checkpoints hold both."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from diptych.train.optim import load_optimizer, optimizer_tensors
from diptych.train.released_adamw import ReleasedAdamW

SETTINGS = {"lr": 0.03, "betas": (0.9, 0.98)}


def gradients(seed: int, steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, 4, generator=generator) for _ in range(steps)]


def after(optimizer_class, model: nn.Module, of_steps: list[torch.Tensor], **settings: float) -> torch.Tensor:
    optimizer = optimizer_class(model.parameters(), **SETTINGS, **settings)
    for gradient in of_steps:
        model.weight.grad = gradient.clone()
        optimizer.step()
    return model.weight.detach()


def layer() -> nn.Linear:
    torch.manual_seed(3)
    return nn.Linear(4, 3, bias=False)


@given(st.integers(0, 99), st.integers(1, 6))
def test_without_decay_and_with_a_tiny_epsilon_it_is_torchs(seed, steps):
    ours = after(ReleasedAdamW, layer(), gradients(seed, steps), eps=1e-12, weight_decay=0.0)
    theirs = after(torch.optim.AdamW, layer(), gradients(seed, steps), eps=1e-12, weight_decay=0.0)
    assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_decay_acts_on_what_the_update_left():
    (gradient,) = gradients(0, 1)
    plain = after(ReleasedAdamW, layer(), [gradient], eps=1e-6, weight_decay=0.0)
    decayed = after(ReleasedAdamW, layer(), [gradient], eps=1e-6, weight_decay=0.5)
    assert_close(decayed, plain * (1 - SETTINGS["lr"] * 0.5))


def test_weights_without_a_gradient_stay_and_count_no_step():
    model = nn.ModuleDict({"learning": nn.Linear(2, 2), "resting": nn.Linear(2, 2)})
    optimizer = ReleasedAdamW(model.parameters(), **SETTINGS, eps=1e-6, weight_decay=0.1)
    before = model["resting"].weight.detach().clone()
    model["learning"](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert_close(model["resting"].weight.detach(), before, rtol=0, atol=0)
    assert {name.split(".")[1] for name in optimizer_tensors(optimizer, model)} == {"learning"}


def test_a_run_that_goes_on_is_the_run_that_never_stopped():
    of_steps = gradients(5, 6)
    whole = after(ReleasedAdamW, layer(), of_steps, eps=1e-6, weight_decay=0.1)
    model, kept = layer(), {}
    for part in (of_steps[:2], of_steps[2:]):
        optimizer = ReleasedAdamW(model.parameters(), **SETTINGS, eps=1e-6, weight_decay=0.1)
        load_optimizer(optimizer, model, kept)
        for gradient in part:
            model.weight.grad = gradient.clone()
            optimizer.step()
        kept = {name: value.clone() for name, value in optimizer_tensors(optimizer, model).items()}
    assert_close(model.weight.detach(), whole, rtol=0, atol=0)
