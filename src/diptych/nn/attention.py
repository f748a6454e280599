"""Multi-head attention, with the parameter names that published CLIP weights have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.errors import ShapeError
from diptych.nn.packing import Packing
from diptych.nn.ragged import ragged_kernel


class SelfAttention(nn.Module):
    """Multi-head self-attention with one product for queries, keys and values."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        """Args as their names; `dropout` is of the weights that a position gives to others."""
        if width % heads:
            raise ShapeError(f"width {width} is no multiple of {heads} heads; change one of them")
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, hidden: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Every position attends to the others.

        Args:
            hidden: (B, L, D).
            mask: (B, L) bool, True at the positions that may be attended to; None: all.
            causal: a position sees itself and those before it; not together with `mask`.
        """
        query, key, value = F.linear(hidden, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        return self.out_proj(self._attend(query, key, value, mask, causal))

    def packed(self, hidden: Tensor, packing: Packing, read: Tensor | None = None) -> Tensor:
        """Every token attends to those of its row: (N, D) to (N, D), or (M, D) of the tokens `read` (M,) alone.

        On a GPU by a kernel that knows the rows' lengths, where there is one and nothing is dropped; else padded by
        groups, only between the two linear layers.
        """
        qkv = F.linear(hidden, self.in_proj_weight, self.in_proj_bias)
        kernel = None if self.training and self.dropout else ragged_kernel(qkv, self.heads)
        if kernel is not None:
            query, key, value = qkv.unflatten(1, (3, self.heads, -1)).unbind(dim=1)  # (N, H, K) each
            context = kernel(query, key, value, packing.offsets, packing.lengths[0]).flatten(1)
        else:
            contexts = []
            for group in packing.groups:
                query, key, value = group.padded(qkv).chunk(3, dim=-1)
                contexts.append(group.packed(self._attend(query, key, value, group.mask, causal=False)))
            context = contexts[0] if len(contexts) == 1 else torch.cat(contexts)
        return self.out_proj(context if read is None else context.index_select(0, read))

    def at(self, query: Tensor, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Only the positions in `query` attend: some of a row, or those of another row.

        Args:
            query: (B, Q, D), e.g. the one position of a last layer that is read.
            hidden: (B, L, D) what they attend to.
            mask: as above.
        """
        width = hidden.shape[-1]
        query = F.linear(query, self.in_proj_weight[:width], self.in_proj_bias[:width])
        key, value = F.linear(hidden, self.in_proj_weight[width:], self.in_proj_bias[width:]).chunk(2, dim=-1)
        return self.out_proj(self._attend(query, key, value, mask, causal=False))

    def weights(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """How much each position attends to each other, to be looked at: the kernels never write it down.

        Args:
            hidden: (B, L, D).
            mask: as above.
        Returns:
            (B, H, L, L) float32, by query and key; each row sums to 1. Without dropout.
        """
        width = hidden.shape[-1]
        projected = F.linear(hidden, self.in_proj_weight[: 2 * width], self.in_proj_bias[: 2 * width])
        query, key = (split_heads(side, self.heads).float() for side in projected.chunk(2, dim=-1))
        scores = query @ key.mT * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        return scores.softmax(dim=-1)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        by_key = None if mask is None else mask[:, None, None, :]  # (B, 1, 1, L), the same for heads and queries
        context = F.scaled_dot_product_attention(
            split_heads(query, self.heads),
            split_heads(key, self.heads),
            split_heads(value, self.heads),
            attn_mask=by_key,
            is_causal=causal,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return merge_heads(context)


class AttentionPool(nn.Module):
    """Pools a feature map by one attention whose only query is the mean. CLIP, arXiv:2103.00020, section 2.4."""

    def __init__(self, side: int, width: int, heads: int, out_width: int) -> None:
        if width % heads:
            raise ShapeError(f"width {width} is no multiple of {heads} heads; change one of them")
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(side**2 + 1, width) * width**-0.5)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, out_width)
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(projection.weight, std=width**-0.5)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, D, side, side) to (B, E)."""
        cells = feature_map.flatten(2).mT  # (B, side², D)
        cells = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1) + self.positional_embedding
        context = F.scaled_dot_product_attention(
            split_heads(self.q_proj(cells[:, :1]), self.heads),
            split_heads(self.k_proj(cells), self.heads),
            split_heads(self.v_proj(cells), self.heads),
        )
        return self.c_proj(merge_heads(context)).squeeze(1)


def split_heads(hidden: Tensor, heads: int) -> Tensor:
    """(B, L, D) to (B, H, L, K)."""
    return hidden.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(hidden: Tensor) -> Tensor:
    """(B, H, L, K) to (B, L, D)."""
    return hidden.transpose(1, 2).flatten(2)
