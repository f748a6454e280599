"""NLVR2: whether a statement is true of two pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets, join_regions
from diptych.data.examples import ANSWERS, TRUTHS
from diptych.data.sample import Item, Rng
from diptych.errors import DataError, UsageError
from diptych.nn.task_heads import LinearHead, PairHead
from diptych.objectives.objective import Encode, Fused, Loss, RowsApart, pooled

Form = Literal["triplet", "paired", "paired_attn"]
FORMS: tuple[Form, ...] = ("triplet", "paired", "paired_attn")


@dataclass(frozen=True, kw_only=True)
class TwoPictures(RowsApart):
    """True or false, in one of three forms. UNITER, arXiv:1909.11740, section 4 and table 4."""

    form: Form = "paired_attn"
    """"triplet": the statement and both pictures are one sequence; "paired": the statement with each picture, and a
    layer over both pooled vectors; "paired_attn": the two also attend to each other, the best of the paper."""

    @property
    def name(self) -> str:
        """Its term's name."""
        return "nlvr2"

    @property
    def columns(self) -> tuple[str, ...]:
        """Whether it is true."""
        return (ANSWERS,)

    def heads(self, config: Any) -> Mapping[str, nn.Module]:
        """Two logits, named after the form.

        Raises:
            UsageError: the model answers in other words.
        """
        if config.answers != TRUTHS:
            raise UsageError(f"two pictures are judged {' or '.join(TRUTHS)}; found model.answers={config.answers}")
        match self.form:
            case "triplet":
                head: nn.Module = LinearHead(config.width, 2)
            case "paired":
                head = LinearHead(2 * config.width, 2)
            case "paired_attn":
                head = PairHead(
                    config.width, config.heads, dropout=config.dropout, attention_dropout=config.attention_dropout
                )
        return {head_of(self.form): head}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The item in its form; "nlvr2" () 1 where the statement is true.

        Raises:
            DataError: nobody tells whether it is, or there are not two pictures.
        """
        if item.answers is None or not item.answers.any():
            raise DataError(f"{item.key} does not say whether it is {' or '.join(TRUTHS)}")
        return formed(item, self.form), {self.name: item.answers.argmax()}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Rows."""
        return {self.name: len(batch)}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum of cross-entropies in nats."""
        logits = truth_logits(encode, batch, self.form)
        total = F.cross_entropy(logits, targets[self.name], reduction="sum")
        return Loss.term(self.name, total=total, count=len(batch))


def head_of(form: Form) -> str:
    """The name of a form's head."""
    return f"nlvr2_{form}"


def formed(item: Item, form: Form) -> Item:
    """A row of two sequences as a form has them.

    Raises:
        DataError: there are not two.
    """
    if len(item.sequences) != 2:
        found = len(item.sequences)
        raise DataError(f"{item.key} is about {f'{found} pictures' if found else 'one picture'}; expected two")
    if form != "triplet":
        return item
    left, right = item.sequences
    assert left.regions is not None and right.regions is not None
    return replace(item, sequences=(), text_ids=left.text_ids, regions=join_regions([left.regions, right.regions]))


def truth_logits(encode: Encode, batch: Batch, form: Form) -> Tensor:
    """(B, 2) float32, of TRUTHS."""
    head = encode.heads[head_of(form)]
    match form:
        case "triplet":
            logits: Tensor = head(pooled(encode, batch))
        case "paired":
            logits = head(pooled(encode, batch).unflatten(0, (-1, 2)).flatten(1))
        case "paired_attn":
            fused: Fused = encode(batch)
            left, right = (slice(side, None, 2) for side in (0, 1))
            logits = head(fused.hidden[left], fused.hidden[right], fused.mask[left], fused.mask[right])
    return logits.float()
