"""Captioning: each next token of a text, from the picture and the tokens before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng
from diptych.nn.transformer import Activation, LayerNorm, Transformer
from diptych.objectives.objective import Encode, Loss, RowsApart


class Captioner(nn.Module):
    """A causal Transformer that goes on from a picture's vector, which stands before the text as a few positions.

    CLIP, arXiv:2103.00020, section 2.3; its layers are unpublished. Differs: VirTex (arXiv:2006.06666), to which it is
    said to be similar, attends to the cells of the map and reads texts both ways. Here the picture is the one vector
    that the other objectives get too. Word vectors are those of the last layer, as in VirTex.
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        vocab_size: int,
        context: int,
        width: int,
        depth: int,
        heads: int,
        activation: Activation,
        prefix: int,
    ) -> None:
        super().__init__()
        self.prefix = nn.Linear(embed_dim, prefix * width)
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(prefix + context - 1, width))
        self.transformer = Transformer(width, depth, heads, mlp_width=4 * width, activation=activation, causal=True)
        self.ln_final = LayerNorm(width)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, image: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Log-probability of every token but the first.

        Args:
            image: (B, E) vectors of the pictures.
            ids: (B, T) with start and end.
            mask: (B, T) bool, True where real.
        Returns:
            (B, T - 1) float32: at t, token t + 1 given the picture and the tokens up to t; 0 where it is padding.
        """
        said = self.token_embedding(ids[:, :-1])  # (B, T - 1, D)
        picture = self.prefix(image).unflatten(-1, (-1, said.shape[-1]))  # (B, P, D)
        hidden = torch.cat([picture, said], dim=1)
        hidden = self.transformer(hidden + self.positional_embedding[: hidden.shape[1]])
        next_ids, real = ids[:, 1:], mask[:, 1:]
        at_real = self.ln_final(hidden[:, picture.shape[1] :][real])  # (N, D): padding costs no product with V words
        logits = F.linear(at_real, self.token_embedding.weight).float()
        found = -F.cross_entropy(logits, next_ids[real], reduction="none")
        return torch.zeros_like(next_ids, dtype=torch.float32).masked_scatter(real, found)

    def log_likelihood(self, image: Tensor, ids: Tensor) -> Tensor:
        """Log-probability of one whole text, its end among it, for each picture: (B, E) and (T,) to (B,).

        A sum, not divided by the length: it is the probability of the text, and a mean over its tokens is not.
        """
        texts = ids.expand(len(image), -1)
        return self(image, texts, torch.ones_like(texts, dtype=torch.bool)).sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class Captioning(RowsApart):
    """Language modelling of the text, given the picture. CLIP, arXiv:2103.00020, section 2.3 and figure 2.

    Its Transformer is as wide and deep as the model's text Transformer would be: the paper's had 63 million parameters,
    like CLIP's text tower. The text tower itself is not read.
    """

    prefix: int = 4
    """Positions before the text that the picture's vector is projected to."""

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "captioning"

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """The decoder."""
        decoder = Captioner(
            embed_dim=config.embed_dim,
            vocab_size=config.vocab_size,
            context=config.context,
            width=config.text_width,
            depth=config.text_layers,
            heads=config.text_heads,
            activation=config.activation,
            prefix=self.prefix,
        )
        return {self.name: decoder}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """Nothing to draw: the text is the target."""
        return item, {}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Tokens that are predicted: all real ones but the start."""
        assert batch.text is not None
        return {"captioning": int(batch.text.mask[:, 1:].sum())}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum of -log p over the tokens, in nats."""
        assert batch.text is not None
        log_p = encode.heads[self.name](encode(batch).image, batch.text.ids, batch.text.mask)
        return Loss.term("captioning", total=-log_p.sum(), count=self.counts(batch, targets)["captioning"])
