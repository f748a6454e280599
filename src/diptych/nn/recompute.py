"""Activation checkpointing: keep a block's input, run the block again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, *inputs: Any, recompute: bool) -> Tensor:
    """`block(*inputs)`; with `recompute`, what lies between is dropped and computed again in the backward pass.

    The gradient is the same, and batch norm counts its batch once.
    """
    if not (recompute and torch.is_grad_enabled()):
        return block(*inputs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _batch_norm_unmoved(block)

    return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _batch_norm_unmoved(block: nn.Module) -> Iterator[None]:
    """Batch norm reads its batch without moving its running statistics: the first run has moved them."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    counts = [counter.clone() for counter in counters]
    for norm in norms:
        norm.momentum = 0.0  # not `track_running_stats`: the second run must keep the same tensors as the first
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for counter, count in zip(counters, counts, strict=True):
            counter.copy_(count)
