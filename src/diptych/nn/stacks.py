"""Which layers of a model are one after the other and of equal form."""

from __future__ import annotations

from torch import nn


def stacks(model: nn.Module) -> list[nn.ModuleList]:
    """Layers of equal form, one after the other, inner stacks first: what FSDP2 gathers one by one."""
    return [module for module in reversed(list(model.modules())) if isinstance(module, nn.ModuleList)]
