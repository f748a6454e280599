"""The released optimizer and schedule, number for number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from diptych.train.released_adamw import ReleasedAdamW
from diptych.train.run import OptimSettings
from diptych.train.schedule import learning_rate

BASE_RATE = 5e-5
"""Of the schedules in the set, as its README says."""


@pytest.fixture(scope="module")
def facts(golden):
    return golden("uniter").facts


def gradients(case):
    """The formula that `case["grad"]` spells out, for each step."""
    assert case["grad"].startswith("g_s = [0.3,-0.002,1e-7,-1.5]*(1+0.5*s)*(-1)**(s//3)")
    first = torch.tensor([0.3, -0.002, 1e-7, -1.5])
    return [first * (1 + 0.5 * step) * (-1) ** (step // 3) for step in range(len(case["values"]))]


def test_every_step_of_the_optimizer(facts):
    case = facts["adamw_case"]
    weights = nn.Parameter(torch.tensor(case["p0"]))
    settings = {name: case[name] for name in ("lr", "eps", "weight_decay")}
    optimizer = ReleasedAdamW([weights], betas=tuple(case["betas"]), **settings)
    for gradient, expected in zip(gradients(case), case["values"], strict=True):
        weights.grad = gradient.clone()
        optimizer.step()
        np.testing.assert_allclose(weights.detach(), expected, rtol=2e-6, atol=1e-7)


def test_every_schedule(facts):
    assert facts["lr_schedule"]
    for name, expected in facts["lr_schedule"].items():
        warmup_steps, steps = map(int, name.split("_"))
        settings = OptimSettings(lr=BASE_RATE, warmup_steps=warmup_steps, schedule="linear")
        # The release counts from 1, and never asks for its rate 0.
        found = [learning_rate(settings, step, steps) for step in range(len(expected) - 1)]
        np.testing.assert_allclose(found, expected[1:], rtol=1e-12)
