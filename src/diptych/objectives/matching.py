"""Image-text matching, and with it the alignment of words and regions by optimal transport."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng, random_for
from diptych.nn.heads import MatchHead
from diptych.objectives.objective import Encode, Fused, Loss, RowsApart, pooled, single
from diptych.objectives.transport import transport_distance


@dataclass(frozen=True, kw_only=True)
class Matching(RowsApart):
    """ITM, and WRA on the same states. UNITER, arXiv:1909.11740, section 3.2.

    A text keeps its picture, or gets that of any other row of the table, drawn anew every epoch. Nothing is masked.
    """

    negatives: float = 0.5
    """Share of the rows that get another picture."""
    alignment: float = 0.0
    """Weight of the transport distance between words and regions (WRA); the release's is 0.1."""
    push_apart: bool = False
    """The distance of texts and pictures that do not belong together is made larger, and both are divided by all rows:
    as in the release. Else the distance of those that do is made smaller, as in the paper."""

    @property
    def name(self) -> str:
        """Its head's name, and that of the matching's term."""
        return "itm"

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """Two logits, the second for a match."""
        return {self.name: MatchHead(config.width)}

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> tuple[int, ...]:
        """Any other row, for a share of the rows."""
        rng = random_for(seed, epoch, str(row), self.name)
        if num_others == 0 or rng.random() >= self.negatives:
            return ()
        return (int(rng.integers(num_others)),)

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The item, with the partner's regions where it has one; "itm" () 1 where they belong together.

        A partner of the same group is a match as well.
        """
        single(item)
        if not partners or partners[0].group == item.group:
            return item, {self.name: torch.tensor(1)}
        return replace(item, regions=partners[0].regions), {self.name: torch.tensor(0)}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Rows; of the alignment those that match, or all where others are pushed apart."""
        counts = {self.name: len(batch)}
        if self.alignment:
            counts["wra"] = len(batch) if self.push_apart else int(targets[self.name].sum())
        return counts

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum of cross-entropies in nats, and of transport distances."""
        counts, fits = self.counts(batch, targets), targets[self.name]
        fused: Fused | None = encode(batch) if self.alignment else None
        logits = encode.heads[self.name](pooled(encode, batch) if fused is None else fused.pooled).float()
        loss = Loss.term(self.name, total=F.cross_entropy(logits, fits, reduction="sum"), count=counts[self.name])
        if fused is None:
            return loss
        distances = transport_distance(fused.text, fused.regions, fused.text_mask, fused.region_mask)  # (B,)
        signs = fits.float() * 2 - 1 if self.push_apart else fits.float()
        total = (signs * distances).sum()
        return loss + Loss.term("wra", total=total, count=counts["wra"], weight=self.alignment)
