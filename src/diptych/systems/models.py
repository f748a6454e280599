"""A room's model as it is before training."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from diptych.systems.rooms import room


def new_model(system: str, config: Any, objective: Any = None, *, seed: int = 0) -> nn.Module:
    """A room's model with the heads of an objective, its weights drawn from `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = room(system).model(config)
        if objective is not None:
            model.heads.update(objective.heads(config))  # type: ignore[operator,union-attr]
    return model
