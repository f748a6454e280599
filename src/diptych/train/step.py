"""Step: a batch through the model and the objective. The one module that is wrapped when processes train together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch, Targets
from diptych.data.sample import hash64
from diptych.nn.rest import at_rest
from diptych.objectives.objective import Dual, Encode, Fused, Objective


class AutocastEncode:
    """A model's `encode` in the precision of the run; what it returns is float32, so that losses are exact."""

    def __init__(self, model: nn.Module, autocast: torch.dtype | None) -> None:
        self.model = model
        self.autocast = autocast
        self.last_scale: Tensor | None = None
        """() of the last Dual, without a graph, for the log."""

    @property
    def heads(self) -> nn.ModuleDict:
        """The model's."""
        heads = self.model.heads
        assert isinstance(heads, nn.ModuleDict)
        return heads

    def at_rest(self) -> AbstractContextManager[None]:
        """Neither gradients nor dropout."""
        return at_rest(self.model)

    def __call__(self, batch: Batch) -> Any:
        """The room's encoding of `batch`."""
        with torch.autocast(batch.group.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            encoding = self.model(batch)
        match encoding:
            case Dual():
                self.last_scale = encoding.scale.detach()
                return in_float32(encoding)
            case Fused():
                return replace(encoding, hidden=encoding.hidden.float(), pooled=encoding.pooled.float())
            case _:
                return encoding


Around = Callable[[Encode], Encode]
"""Puts another `encode` around the model's: one that gathers over ranks, or records."""


class Step(nn.Module):
    """Batch -> Loss, or Batch -> Encoding where the loss is to be computed elsewhere."""

    def __init__(self, model: nn.Module, objective: Objective, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.encode = AutocastEncode(model, autocast)

    def forward(self, batch: Batch, targets: Targets | None = None, around: Around | None = None) -> Any:
        """The Loss of `batch`, sums not yet divided; without targets, the room's encoding of it."""
        encode = self.encode if around is None else around(self.encode)
        return encode(batch) if targets is None else self.objective.loss(encode, batch, targets)


def in_float32(dual: Dual) -> Dual:
    """The same vectors in float32.

    bf16 keeps 8 bits of a cosine: too few to order a batch by, and 100 times a cosine is what the softmax reads.
    """
    return replace(dual, image=dual.image.float(), text=dual.text.float(), scale=dual.scale.float())


def reseed(seed: int, step: int, rank: int, micro_batch: int) -> None:
    """Sets torch's own generators, which dropout draws from, by position alone.

    A run that goes on, and a micro-batch that is computed twice, draw what they would have drawn.
    """
    torch.manual_seed(hash64(f"dropout\0{seed}\0{step}\0{micro_batch}\0{rank}") & (2**63 - 1))
