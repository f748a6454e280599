"""Ranking: a text and its picture above pairs with another picture, or another text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng, random_for
from diptych.data.swapped import SWAPPED
from diptych.nn.task_heads import LinearHead
from diptych.objectives.objective import Encode, Loss, RowsApart, pooled, single

HEAD = "rank"
WRONG = "wrong"


@dataclass(frozen=True, kw_only=True)
class _Ranked(RowsApart):
    """A row and its K partners as sequences: the true pair, its text with each partner's picture, its picture with each
    partner's text. UNITER, arXiv:1909.11740, section 4, and its released training for retrieval."""

    margin: float = 0.2
    """Between the scores of a true pair and of a false one, each in (0, 1)."""
    swapped: int = 0
    """False pairs more of each row, at most 8: its picture with its own text, two words of it swapped, as a table of
    examples names them. Not of the paper, but of NegCLIP: Yuksekgonul et al., arXiv:2210.01936, section 4."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its term's name."""

    @property
    @abstractmethod
    def num_partners(self) -> int:
        """K, where there are as many other rows."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Swapped texts, where some are wanted."""
        return (SWAPPED,) if self.swapped else ()

    def heads(self, config: Any) -> Mapping[str, nn.Module]:
        """One score, which begins as the head for matches says a match, where the weights have one."""
        return {HEAD: LinearHead(config.width, 1)}

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> tuple[int, ...]:
        """Other rows by chance, none twice."""
        rng = random_for(seed, epoch, str(row), self.name)
        return tuple(rng.choice(num_others, size=min(self.num_partners, num_others), replace=False).tolist())

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The sequences; "wrong" (2 K + swapped,) where the pair is false.

        It is not where a partner shows the same thing as the row. A row with fewer swapped texts than wanted has the
        true pair in their place.
        """
        for one in (item, *partners):
            single(one)
        texts = item.wrong_texts
        chosen = rng.permutation(len(texts))[: self.swapped].tolist() if self.swapped else []
        missing = self.swapped - len(chosen)
        sequences = [
            item,
            *(replace(item, regions=one.regions) for one in partners),
            *(replace(item, text_ids=one.text_ids, text_types=one.text_types) for one in partners),
            *(replace(item, text_ids=texts[place]) for place in chosen),
            *[item] * missing,
        ]
        others = [one.group != item.group for one in partners]
        wrong = torch.tensor([*others, *others, *[True] * len(chosen), *[False] * missing], dtype=torch.bool)
        return replace(item, sequences=tuple(sequences), text_ids=None, regions=None), {WRONG: wrong}

    def _loss(self, encode: Encode, batch: Batch, wrong: Tensor, weight: float = 1.0) -> Loss:
        """Sum of how far the false pairs of `wrong` (B, S - 1) come within the margin of their row's true one."""
        scores = pair_scores(encode, batch).sigmoid()  # (B, S)
        total = (self.margin + scores[:, 1:] - scores[:, :1]).relu().mul(wrong).sum()
        return Loss.term(self.name, total=total, count=int(wrong.sum()), weight=weight)


@dataclass(frozen=True, kw_only=True)
class Ranking(_Ranked):
    """Against partners by chance, or by name."""

    negatives: int = 1
    """Partners of a row; each makes two false pairs."""

    @property
    def name(self) -> str:
        """Its term's name."""
        return "ranking"

    @property
    def num_partners(self) -> int:
        """All are learned from."""
        return self.negatives

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """False pairs."""
        return {self.name: int(targets[WRONG].sum())}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum over the false pairs."""
        return self._loss(encode, batch, targets[WRONG])


@dataclass(frozen=True, kw_only=True)
class HardRanking(_Ranked):
    """Against the hardest of many partners: all are scored at rest, and the best of the false ones are learned from.

    Differs: the true pair of both directions goes through the network once, and not twice.
    """

    candidates: int = 399
    """Partners of a row that are scored."""
    kept: int = 31
    """False pairs that are learned from, in each direction."""

    @property
    def name(self) -> str:
        """Its term's name."""
        return "hard_ranking"

    @property
    def num_partners(self) -> int:
        """All are scored."""
        return self.candidates

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """False pairs that are learned from."""
        return {self.name: sum(int(side.sum(dim=1).clamp(max=self.kept).sum()) for side in self._sides(targets[WRONG]))}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum over the hardest; weighted by 2, since the release adds the means of both directions."""
        wrong = targets[WRONG]
        with encode.at_rest():
            scores = pair_scores(encode, batch)[:, 1:].masked_fill(~wrong, -torch.inf)
        pictures, texts = (side.topk(min(self.kept, side.shape[1])).indices for side in self._sides(scores))
        hardest = torch.cat([pictures, texts + self._num_pictures(wrong)], dim=1)  # (B, up to 2 kept)
        places = nn.functional.pad(1 + hardest, (1, 0))  # the true pair first
        return self._loss(encode, batch.chosen(places), wrong.gather(1, hardest), weight=2.0)

    def _sides(self, pairs: Tensor) -> tuple[Tensor, ...]:
        """What (B, 2 K + swapped) says of other pictures, and of other texts."""
        return pairs.tensor_split([self._num_pictures(pairs)], dim=1)

    def _num_pictures(self, pairs: Tensor) -> int:
        """K, also in a table of fewer rows."""
        return (pairs.shape[1] - self.swapped) // 2


def pair_scores(encode: Encode, batch: Batch) -> Tensor:
    """(B, S) float32: how much each sequence's text and picture belong together."""
    scores: Tensor = encode.heads[HEAD](pooled(encode, batch))
    return scores.float().reshape(len(batch), batch.sequences)
