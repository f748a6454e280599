"""Attention within rows of unequal length that lie one after the other, by the kernels that a GPU has for it.

They are those under torch's attention over nested tensors, called directly. BERT-base's encoder over 134 rows of 20 to
132 tokens, forward and backward on an H200 with torch 2.11: 1.22 times as fast in bf16 and 1.08 times in float32 as
where all rows are padded to the longest, which takes a third more memory. Nested tensors were slower than padding in
both, most of it Python. `torch.nn.attention.varlen` does not know float32.

They are asked for nothing but attention: with dropout the one for float32 kept a network from learning that learned
well without, and with dropout everywhere else (torch 2.11, H100; `docs/benchmarks.md`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]
"""Queries, keys, values (N, H, K), offsets (B + 1,) int32 of rows, the longest row: to (N, H, K)."""


def ragged_kernel(like: Tensor, heads: int) -> Kernel | None:
    """The kernel for heads of such a tensor (N, 3 · H · K); None where there is none for them, as on a CPU."""
    if not like.is_cuda or torch.version.cuda is None:
        return None
    width = like.shape[1] // (3 * heads)
    if like.dtype == torch.float32:
        return _efficient if width % 4 == 0 else None
    flash = like.dtype in (torch.bfloat16, torch.float16) and torch.backends.cuda.is_flash_attention_available()
    new_enough = torch.cuda.get_device_capability(like.device) >= (8, 0)
    return _flash if flash and new_enough and width % 8 == 0 and width <= 256 else None


def _flash(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int) -> Tensor:
    """FlashAttention-2, arXiv:2307.08691."""
    rows = (offsets, offsets, longest, longest)
    context: Tensor = torch.ops.aten._flash_attention_forward(query, key, value, *rows, 0.0, False, False)[0]
    return context


def _efficient(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int) -> Tensor:
    """Memory-efficient attention, arXiv:2112.05682, which takes float32 too."""
    learning = query.requires_grad
    sides = (side[None] for side in (query, key, value))
    rows = (offsets, offsets, longest, longest)
    context: Tensor = torch.ops.aten._efficient_attention_forward(*sides, None, *rows, 0.0, 0, learning)[0]
    return context[0]
