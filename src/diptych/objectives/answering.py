"""Answering: which of a list of answers is right, for a question or a statement about a picture."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets
from diptych.data.examples import ANSWERS
from diptych.data.sample import Item, Rng
from diptych.errors import DataError, UsageError
from diptych.nn.task_heads import AnswerHead
from diptych.objectives.objective import Encode, Loss, RowsApart, pooled, single

HEADS = ("vqa", "ve")
"""Of questions (VQA) and of statements (SNLI-VE)."""


@dataclass(frozen=True, kw_only=True)
class Answering(RowsApart):
    """Every answer judged on its own, by binary cross-entropy. UNITER, arXiv:1909.11740, section 4.

    The release averages over answers and multiplies by their number, which is the sum taken here.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """Its term's and its head's name."""

    @property
    def columns(self) -> tuple[str, ...]:
        """What each row's answers are worth."""
        return (ANSWERS,)

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """One logit for each answer that the config names.

        Raises:
            UsageError: it names none.
        """
        if not config.answers:
            raise UsageError(
                "there are no answers to choose among; expected a table of examples with a column of answers, as "
                "`diptych data examples` makes it, or model.answers"
            )
        return {self.name: AnswerHead(config.width, len(config.answers))}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The item as it is; (A,) what each answer is worth.

        Raises:
            DataError: nobody tells the item's answers.
        """
        if item.answers is None:
            raise DataError(f"{item.key} has no answers; a model learns of rows that have, and is asked the others")
        return single(item), {self.name: item.answers}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Rows."""
        return {self.name: len(batch)}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum of cross-entropies over rows and answers, in nats."""
        logits = answer_logits(encode, batch, self.name)
        total = F.binary_cross_entropy_with_logits(logits, targets[self.name], reduction="sum")
        return Loss.term(self.name, total=total, count=len(batch))


@dataclass(frozen=True, kw_only=True)
class Questions(Answering):
    """VQA: words that answer a question, of which several may be right."""

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "vqa"


@dataclass(frozen=True, kw_only=True)
class Statements(Answering):
    """Visual entailment: whether a picture shows a statement to be true, false, or neither.

    SNLI-VE, arXiv:1901.06706; trained as questions are, in UNITER's release.
    """

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "ve"


def answer_logits(encode: Encode, batch: Batch, head: str) -> Tensor:
    """(B, A) float32, of each answer."""
    logits: Tensor = encode.heads[head](pooled(encode, batch))
    return logits.float()
