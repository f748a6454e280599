"""VCR: which of several answers, or reasons, is right; each is read with the question as a sequence of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets
from diptych.data.examples import OPTIONS, RIGHT
from diptych.data.sample import Item, Rng
from diptych.errors import DataError
from diptych.nn.task_heads import AnswerHead
from diptych.objectives.objective import Encode, Loss, RowsApart, pooled


@dataclass(frozen=True, kw_only=True)
class Choosing(RowsApart):
    """Each option judged on its own, right or wrong. UNITER, arXiv:1909.11740, section 4; VCR, arXiv:1811.10830."""

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "vcr"

    @property
    def columns(self) -> tuple[str, ...]:
        """The options, and the right one."""
        return OPTIONS, RIGHT

    def heads(self, config: Any) -> Mapping[str, nn.Module]:
        """Two logits, the second for right."""
        return {self.name: AnswerHead(config.width, 2, relu=True)}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The item as it is; "vcr" (S,) 1 at the right option.

        Raises:
            DataError: nobody tells which that is.
        """
        return item, {self.name: F.one_hot(torch.tensor(_right(item)), len(item.sequences))}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Options of all rows."""
        return {self.name: len(batch) * batch.sequences}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum of cross-entropies over the options, in nats."""
        logits = option_logits(encode, batch).flatten(0, 1)
        total = F.cross_entropy(logits, targets[self.name].flatten(), reduction="sum")
        return Loss.term(self.name, total=total, count=len(logits))


def right_text(item: Item) -> Item:
    """The right sequence of a row alone, as VCR's second stage of pre-training reads it.

    The token that ends a part is of that part's type, where fine-tuning gives it to the next, as in the release.

    Raises:
        DataError: nobody tells which is right.
    """
    one = item.sequences[_right(item)]
    assert one.text_ids is not None and one.text_types is not None and item.word_ids is not None
    special = torch.tensor([token in item.word_ids.special for token in one.text_ids.tolist()])
    before = one.text_types.roll(1)
    before[0] = one.text_types[0]
    return replace(one, sequences=(), text_types=torch.where(special, before, one.text_types))


def _right(item: Item) -> int:
    if item.right is None:
        raise DataError(f"{item.key} does not say which option is right")
    return item.right


def option_logits(encode: Encode, batch: Batch) -> Tensor:
    """(B, S, 2) float32; the second is what the release orders options by."""
    logits: Tensor = encode.heads["vcr"](pooled(encode, batch))
    return logits.float().unflatten(0, (len(batch), batch.sequences))
