"""CLIP's text encoders: a Transformer, and a bag of words."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from diptych.errors import ShapeError, unknown
from diptych.nn.transformer import Activation, Block, LayerNorm, Transformer

Pool = Literal["end", "mean"]
POOLS = ("end", "mean")


class TextTransformer(nn.Module):
    """A Transformer over text, read at the end token or as the mean of all. CLIP, arXiv:2103.00020, section 2.4.

    The paper's is causal and read at the end; neither is needed without a language model, and small models learn faster
    without a causal mask, from the mean.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        *,
        activation: Activation,
        embed_dim: int,
        end_id: int,
        causal: bool = True,
        pool: Pool = "end",
    ) -> None:
        if pool not in POOLS:
            raise ValueError(unknown("text pooling", pool, POOLS))
        super().__init__()
        self.end_id = end_id
        self.pool = pool
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(context, width))
        self.transformer = Transformer(width, depth, heads, mlp_width=4 * width, activation=activation, causal=causal)
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        _scale_blocks(self.transformer, width)

    def features(self, ids: Tensor, mask: Tensor | None = None, *, recompute: bool = False) -> Tensor:
        """The normed state that is read, before the projection.

        Args:
            ids: (B, T) with start and end; what follows the first end token is never read where the pool is "end".
            mask: (B, T) bool, True where real; None: every position is.
            recompute: activation checkpointing.
        Returns:
            (B, D).
        Raises:
            ShapeError: the texts are longer than the context.
        """
        _check_length(ids, len(self.positional_embedding))
        hidden = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        if self.pool == "end":
            end = first_end(ids, self.end_id)
            return self.ln_final(self.transformer(hidden, mask, position=end, recompute=recompute))
        return masked_mean(self.ln_final(self.transformer(hidden, mask, recompute=recompute)), mask)

    def forward(self, ids: Tensor, mask: Tensor | None = None, *, recompute: bool = False) -> Tensor:
        """(B, T) to (B, E)."""
        return self.features(ids, mask, recompute=recompute) @ self.text_projection


class BagOfWords(nn.Module):
    """The mean of a text's word vectors, normed and projected. CLIP, arXiv:2103.00020, figure 3 ("CBOW").

    Differs: the paper does not say what its bag of words is made of; this is the least that can be meant.
    """

    def __init__(self, vocab_size: int, width: int, *, embed_dim: int, end_id: int) -> None:
        super().__init__()
        self.end_id = end_id
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def features(self, ids: Tensor, mask: Tensor | None = None, *, recompute: bool = False) -> Tensor:
        """(B, T) to (B, D): start, end and padding are left out; a text without words gives the norm's bias."""
        place = torch.arange(ids.shape[1], device=ids.device)
        words = (place > 0) & (place < first_end(ids, self.end_id)[:, None])  # (B, T)
        if mask is not None:
            words = words & mask
        return self.ln_final(masked_mean(self.token_embedding(ids), words))

    def forward(self, ids: Tensor, mask: Tensor | None = None, *, recompute: bool = False) -> Tensor:
        """(B, T) to (B, E)."""
        return self.features(ids, mask) @ self.text_projection


def first_end(ids: Tensor, end_id: int) -> Tensor:
    """(B, T) to (B,): where the first end token stands.

    OpenAI's code takes the largest id, which is the end token's there; in a vocabulary of one's own it need not be.
    Padding may repeat the end token (Hugging Face's does), so that the last one would be wrong.
    """
    return (ids == end_id).to(torch.uint8).argmax(dim=1)


def masked_mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T, D) to (B, D): the mean over positions where `mask` is True, in float32; zero where there is none."""
    if mask is None:
        return hidden.float().mean(dim=1).to(hidden.dtype)
    weight = mask[:, :, None].float()
    return ((hidden.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)).to(hidden.dtype)


def _check_length(ids: Tensor, context: int) -> None:
    if ids.shape[1] > context:
        raise ShapeError(f"texts of {ids.shape[1]} tokens; the model's context is {context}: cut them to it")


def _scale_blocks(transformer: Transformer, width: int) -> None:
    """GPT-2's initialisation as in CLIP's released code: what adds to the residual is scaled down with depth."""
    into = width**-0.5
    back = into * (2 * len(transformer.resblocks)) ** -0.5
    for block in transformer.resblocks:
        assert isinstance(block, Block)
        nn.init.normal_(block.attn.in_proj_weight, std=into)
        nn.init.normal_(block.attn.out_proj.weight, std=back)
        nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(block.mlp.c_proj.weight, std=back)
