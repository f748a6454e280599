"""Masked language modelling: words that are hidden, from the rest of the text and the picture's regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diptych.data.batch import IGNORE, Batch, Targets, reading
from diptych.data.sample import Item, Rng
from diptych.errors import DataError
from diptych.nn.heads import WordHead
from diptych.objectives.masking import PROBABILITY, hide_regions, mask_words
from diptych.objectives.objective import Encode, Fused, Loss, RowsApart


@dataclass(frozen=True, kw_only=True)
class MaskedWords(RowsApart):
    """MLM. BERT, arXiv:1810.04805, section 3.1; UNITER, arXiv:1909.11740, section 3.2: all regions are seen."""

    probability: float = PROBABILITY
    """That a word piece is chosen."""
    joint: bool = False
    """Regions are hidden too, as in the ablation of masking one modality at a time."""

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "mlm"

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """BERT's, tied to the embedded words."""
        return {self.name: WordHead(config.width, config.vocab_size)}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The item with masked words; "mlm" (T,) what stood there, IGNORE elsewhere.

        A text of several parts is masked part by part, so that each has a masked word.

        Raises:
            DataError: the item has no text.
        """
        if item.text_ids is None or item.word_ids is None:
            raise DataError(f"{item.key}: words are masked of a text, and this row has none")
        ids, known = item.text_ids.tolist(), item.word_ids
        text, labels = item.text_ids.clone(), torch.full_like(item.text_ids, IGNORE)
        for special, part in groupby(range(len(ids)), key=lambda place: ids[place] in known.special):
            if special:
                continue
            places = list(part)
            masked, chosen = mask_words(
                [ids[place] for place in places],
                rng,
                mask_id=known.mask,
                replacements=known.words,
                probability=self.probability,
            )
            for one in chosen:
                text[places[one]], labels[places[one]] = masked[one], ids[places[one]]
        drawn = replace(item, text_ids=text)
        return hide_regions(drawn, rng) if self.joint else drawn, {self.name: labels}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Words to be found."""
        return {self.name: int((targets[self.name] != IGNORE).sum())}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum of cross-entropies over the chosen words, in nats."""
        labels = targets[self.name]
        chosen = labels != IGNORE
        fused: Fused = encode(reading(batch, text=chosen))
        logits = encode.heads[self.name](fused.text[chosen], fused.word_table)
        total = F.cross_entropy(logits.float(), labels[chosen], reduction="sum")
        return Loss.term(self.name, total=total, count=len(logits))
