"""Bag of words: which words the text of a picture has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import IGNORE, Batch, Targets
from diptych.data.sample import Item, Rng
from diptych.objectives.objective import Encode, Loss, RowsApart


class WordPredictor(nn.Module):
    """A picture's vector to a distribution over the vocabulary."""

    def __init__(self, embed_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.words = nn.Linear(embed_dim, vocab_size)

    def forward(self, image: Tensor) -> Tensor:
        """(B, E) to (B, V), log-probabilities in float32."""
        return F.log_softmax(self.words(image).float(), dim=-1)

    def log_likelihood(self, image: Tensor, ids: Tensor) -> Tensor:
        """Log-probability of the different words of one text, for each picture: (B, E) and (T,) to (B,)."""
        return self(image)[:, different_words(ids)].sum(dim=1)


@dataclass(frozen=True, kw_only=True)
class BagOfWordsPrediction(RowsApart):
    """The words of the text in no order, from the picture. CLIP, arXiv:2103.00020, section 2.3 and figure 2.

    CLIP names Joulin et al. (arXiv:1511.02251) and gives no formula. Of the two losses that they compare, one over the
    softmax of all words and one logistic loss a word, this is the first, which is what they go on with: the sum of
    -log p over the different words of a text.
    """

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "bag_of_words"

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """One linear layer."""
        return {self.name: WordPredictor(config.embed_dim, config.vocab_size)}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The target is the bag; nothing is left to chance."""
        assert item.text_ids is not None
        return item, {"words": different_words(item.text_ids)}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Different words, over all texts."""
        return {"bag_of_words": int((targets["words"] != IGNORE).sum())}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum of -log p over the words, in nats."""
        words = targets["words"]  # (B, W)
        padding = words == IGNORE
        log_p = encode.heads[self.name](encode(batch).image).gather(1, words.masked_fill(padding, 0))
        total = -log_p.masked_fill(padding, 0.0).sum()
        return Loss.term("bag_of_words", total=total, count=self.counts(batch, targets)["bag_of_words"])


def different_words(ids: Tensor) -> Tensor:
    """(T,) ids of one text with start and end to its (W,) different words, sorted, without the two."""
    return ids[1:-1].unique()
