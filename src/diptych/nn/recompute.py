"""Activation checkpointing: keep a block's input, run the block again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, *inputs: Tensor | None, recompute: bool) -> Tensor:
    """`block(*inputs)`; with `recompute`, what lies between is dropped and computed again in the backward pass.

    The gradient is the same, and batch norm counts its batch once.
    """
    if not (recompute and torch.is_grad_enabled()):
        return block(*inputs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _batch_norm_untracked(block)

    return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _batch_norm_untracked(block: nn.Module) -> Iterator[None]:
    """Batch norm reads its batch without moving its running statistics: the first run has moved them."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not block.training:
        norms = []  # then the running statistics are what it computes with
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
