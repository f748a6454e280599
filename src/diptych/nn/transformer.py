"""Transformer blocks, with the parameter names that published CLIP weights have: norms first, or after (BERT)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.errors import unknown
from diptych.nn.attention import SelfAttention
from diptych.nn.packing import Packing
from diptych.nn.recompute import run_block

Activation = Literal["quick_gelu", "gelu"]
ACTIVATIONS = ("quick_gelu", "gelu")


class LayerNorm(nn.LayerNorm):
    """Layer norm in float32 whatever comes in, cast back: bf16 keeps too few bits for a mean over the width."""

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        bias = None if self.bias is None else self.bias.float()
        normed = F.layer_norm(hidden.float(), self.normalized_shape, self.weight.float(), bias, self.eps)
        return normed.to(hidden.dtype)


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x), what all of OpenAI's models have in place of GELU."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Element by element."""
        # silu is one kernel in each direction; the plain product keeps a tensor more for the backward pass.
        return F.silu(1.702 * hidden) / 1.702


def activation_module(activation: Activation) -> nn.Module:
    """The activation of that name."""
    match activation:
        case "quick_gelu":
            return QuickGELU()
        case "gelu":
            return nn.GELU()
        case _:
            raise ValueError(unknown("activation", activation, ACTIVATIONS))


class MLP(nn.Module):
    """Two linear layers and an activation between them."""

    def __init__(self, width: int, mlp_width: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, mlp_width)
        self.activation = activation_module(activation)
        self.c_proj = nn.Linear(mlp_width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return self.c_proj(self.activation(self.c_fc(hidden)))


class Block(nn.Module):
    """Attention and MLP, each on a normed copy and added: x + attn(ln_1(x)), then x + mlp(ln_2(x))."""

    def __init__(self, width: int, heads: int, mlp_width: int, activation: Activation, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.ln_1 = LayerNorm(width)
        self.attn = SelfAttention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = MLP(width, mlp_width, activation)

    def forward(self, hidden: Tensor, mask: Tensor | None = None, position: Tensor | None = None) -> Tensor:
        """One layer.

        Args:
            hidden: (B, L, D).
            mask: (B, L) bool, True where real; not read where causal, since padding comes last.
            position: (B,) the only position a row that is wanted; nothing else is computed then.
        Returns:
            (B, L, D), or (B, 1, D) with `position`.
        """
        normed = self.ln_1(hidden)
        if position is None:
            hidden = hidden + self.attn(normed, None if self.causal else mask, self.causal)
        else:
            if self.causal:
                mask = torch.arange(hidden.shape[1], device=hidden.device) <= position[:, None]
            hidden = one_of(hidden, position) + self.attn.at(one_of(normed, position), normed, mask)
        return hidden + self.mlp(self.ln_2(hidden))


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(
        self, width: int, depth: int, heads: int, *, mlp_width: int, activation: Activation, causal: bool = False
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mlp_width, activation, causal) for _ in range(depth))

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None = None,
        *,
        position: Tensor | None = None,
        recompute: bool = False,
    ) -> Tensor:
        """All layers.

        Args:
            hidden: (B, L, D).
            mask: (B, L) bool, True where real.
            position: (B,) the only position a row that is read; the last layer is computed for it alone, which saves
                five sixths of that layer's products.
            recompute: drop what blocks keep for the backward pass and compute it again there.
        Returns:
            (B, L, D), or (B, D) with `position`.
        """
        *first, last = self.resblocks
        for block in first:
            hidden = run_block(block, hidden, mask, recompute=recompute)
        hidden = run_block(last, hidden, mask, position, recompute=recompute)
        return hidden if position is None else hidden.squeeze(1)


class PostNormBlock(nn.Module):
    """Attention and MLP of packed tokens, each added and normed after: ln_1(x + attn(x)), then ln_2(x + mlp(x)).

    Attention Is All You Need, arXiv:1706.03762, section 3.1, with BERT's GELU and dropout.
    """

    def __init__(
        self, width: int, heads: int, mlp_width: int, *, dropout: float, attention_dropout: float, eps: float
    ) -> None:
        super().__init__()
        self.attn = SelfAttention(width, heads, attention_dropout)
        self.ln_1 = LayerNorm(width, eps)
        self.mlp = MLP(width, mlp_width, "gelu")
        self.ln_2 = LayerNorm(width, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, packing: Packing, read: Tensor | None = None) -> Tensor:
        """(N, D) to (N, D); with `read` (M,), to (M, D) of those tokens alone, where most of a block's products are."""
        context = self.attn.packed(hidden, packing, read)
        hidden = hidden if read is None else hidden.index_select(0, read)
        hidden = self.ln_1(hidden + self.dropout(context))
        return self.ln_2(hidden + self.dropout(self.mlp(hidden)))


def one_of(hidden: Tensor, position: Tensor) -> Tensor:
    """(B, L, D) and (B,) to (B, 1, D)."""
    return hidden.take_along_dim(position[:, None, None], dim=1)
