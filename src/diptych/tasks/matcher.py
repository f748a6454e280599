"""A trained model of one stream for people: whether a text and a picture's regions belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch
from diptych.data.region_checks import COMMAND
from diptych.data.regions import Regions
from diptych.data.sample import Item, ItemRegions, Sample
from diptych.data.table import Rows
from diptych.data.tokenizers import Tokenizer
from diptych.errors import DataError, UsageError
from diptych.nn.rest import at_rest
from diptych.objectives.answering import HEADS
from diptych.objectives.objective import Fused
from diptych.objectives.transport import cosine_cost, transport_plan
from diptych.progress import SILENT, Bar, Progress, SilentBar

REGIONS = "regions"
"""The column that a sample's regions are in."""
HEAD = "itm"


@runtime_checkable
class Matcher(Protocol):
    """What the tasks ask of a model that reads both sides at once; `FusedMatcher` is one."""

    @property
    def name(self) -> str:
        """For tables and reports."""

    def match(
        self,
        samples: Sequence[Sample],
        texts: Sequence[str],
        pairs: Sequence[tuple[int, int]],
        progress: Progress = SILENT,
    ) -> Tensor:
        """(P,) float32, how much each (sample, text) of `pairs` belongs together."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Which words of a text go with which regions of a picture."""

    words: tuple[str, ...]
    """(M) pieces of the text, without start and end."""
    shares: Tensor
    """(M, R) float32: how much of each word goes to each region, of its own 1."""
    odds: float
    """Of a match, as a logarithm."""


@runtime_checkable
class Aligner(Matcher, Protocol):
    """A matcher that also says which words go with which regions."""

    def align(self, sample: Sample, text: str) -> Alignment:
        """Of one pair."""


class FusedInputs(Protocol):
    """A room's way from a text and a picture's regions to a batch."""

    @property
    def config(self) -> Any:
        """The model's, which names its answers."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Of its texts."""

    def text_ids(self, text: str) -> Tensor:
        """(T,) int64 with start and end."""

    def regions(self, key: str, found: Regions | None) -> ItemRegions:
        """As the network reads them; raises DataError where there are none."""

    def collate(self, items: Sequence[Item]) -> Batch:
        """Items with both parts as a batch."""

    def check_rows(self, rows: Rows, tell: Callable[[str], None]) -> None:
        """Raises DataError of rows without regions, or with those of another detector; tells what is not known."""


class FusedModel(Protocol):
    """A room's model as the matcher uses it; an `nn.Module`."""

    @property
    def heads(self) -> nn.ModuleDict:
        """Among them the one that tells matches."""

    def __call__(self, batch: Batch) -> Fused:
        """The states of a batch."""

    def modules(self) -> Any:
        """As `nn.Module` has it."""

    def to(self, device: torch.device) -> Any:
        """As `nn.Module` has it."""


class FusedMatcher:
    """A model that knows its tokenizer, and reads the regions that are joined to a table.

    The model is moved to `device` once, and left in the mode it was found in after every call.
    """

    def __init__(self, model: FusedModel, inputs: FusedInputs, device: torch.device, name: str) -> None:
        self.model = model
        self.inputs = inputs
        self.device = device
        self.name = name
        model.to(device)

    def check_rows(self, rows: Rows, tell: Callable[[str], None]) -> None:
        """Sees that rows come with regions that the model can read, before any of them is read.

        Args:
            rows: to be asked about.
            tell: hears what is not known of their regions.
        Raises:
            DataError: they come without regions, or with those of another detector.
        """
        self.inputs.check_rows(rows, tell)

    def match(
        self,
        samples: Sequence[Sample],
        texts: Sequence[str],
        pairs: Sequence[tuple[int, int]],
        progress: Progress = SILENT,
        *,
        batch: int = 64,
    ) -> Tensor:
        """How much each pair belongs together: the log-odds of a match, as the head for it says.

        Args:
            samples: of a table that regions are joined to, asked for with the column "regions".
            texts: too long ones are cut to the context.
            pairs: places of a sample and a text.
            progress: where it is drawn.
            batch: pairs that go through the model at once.
        Returns:
            (P,) float32 on the CPU.
        Raises:
            UsageError: the model was never trained to tell matches.
            DataError: a sample has no regions, or they are of another detector.
        """
        self._check_head()
        different = {text: self.inputs.text_ids(text) for text in dict.fromkeys(texts)}  # questions repeat theirs
        ids = [different[text] for text in texts]
        regions = [self._regions(sample) for sample in samples]
        read = [(ids[text], regions[sample]) for sample, text in pairs]
        with progress.bar("matching", total=len(pairs), unit="pairs") as bar:
            return self._asked(read, self._odds, bar, batch)

    @property
    def answers(self) -> tuple[str, ...]:
        """That the model chooses among; () where it has no head for them, or knows none by name."""
        return self.inputs.config.answers if set(HEADS) & set(self.model.heads) else ()

    def answer(self, samples: Sequence[Sample], *, batch: int = 64) -> Tensor:
        """How much each answer is right: the log-odds that the head for answers gives it.

        Args:
            samples: of a table of examples, asked for with the column "regions"; too long texts are cut.
            batch: questions that go through the model at once.
        Returns:
            (N, A) float32 on the CPU.
        Raises:
            UsageError: the model was never trained to answer, or nobody named its answers.
            DataError: a sample has no regions, or they are of another detector.
        """
        head = self._answer_head()
        read = [(self.inputs.text_ids(sample.texts[0]), self._regions(sample)) for sample in samples]
        return self._asked(read, lambda fused: head(fused.pooled).float().cpu(), SilentBar(), batch)

    def _asked(
        self,
        read: Sequence[tuple[Tensor, ItemRegions]],
        told: Callable[[Fused], Tensor],
        bar: Bar,
        batch: int,
    ) -> Tensor:
        """(N, ...) of what is told of the states of each text with its regions."""
        # Pairs of like length together: little padding.
        order = sorted(range(len(read)), key=lambda place: len(read[place][0]) + len(read[place][1]))
        found: list[Tensor] = []
        with at_rest(self.model):
            for start in range(0, len(order), batch):
                items = [
                    Item(key="", group=0, text_ids=read[place][0], regions=read[place][1])
                    for place in order[start : start + batch]
                ]
                found.append(told(self.model(self.inputs.collate(items).to(self.device))))
                bar.advance(len(items))
        return torch.cat(found)[torch.tensor(order).argsort()] if found else torch.empty(0)

    def align(self, sample: Sample, text: str) -> Alignment:
        """The transport plan between the words of a text and the regions of a picture.

        UNITER, arXiv:1909.11740, section 3.2: word-region alignment; start and end take part in the plan, and are left
        out here. Of a model that was not trained to align it says little.

        Raises:
            UsageError: the model was never trained to tell matches.
            DataError: as in `match`.
        """
        self._check_head()
        ids = self.inputs.text_ids(text)
        batch = self.inputs.collate([Item(key="", group=0, text_ids=ids, regions=self._regions(sample))])
        with at_rest(self.model):
            fused = self.model(batch.to(self.device))
            cost = cosine_cost(fused.text, fused.regions, fused.text_mask, fused.region_mask)
            plan = transport_plan(cost, fused.text_mask, fused.region_mask)[0].cpu()  # (T, R)
            odds = self._odds(fused)
        words, shares = self.inputs.tokenizer.pieces(ids.tolist()), plan / plan.sum(dim=1, keepdim=True)
        return Alignment(words=tuple(words[1:-1]), shares=shares[1:-1].clone(), odds=float(odds))

    def _check_head(self) -> None:
        if HEAD not in self.model.heads:
            raise UsageError(
                f"{self.name} has no head for image-text matching, only {', '.join(self.model.heads) or 'none at all'}"
                "; train it with a share of that task (objective.share.itm)"
            )

    def _answer_head(self) -> nn.Module:
        name = next((name for name in HEADS if name in self.model.heads), None)
        if name is None:
            raise UsageError(
                f"{self.name} has no head for answers, only {', '.join(self.model.heads) or 'none at all'}; train it: "
                f"diptych finetune {self.name} RECIPE --data EXAMPLES --regions REGIONS --out RUN"
            )
        if not self.answers:
            raise UsageError(f"nobody named the answers of {self.name}; convert it with a config that has `answers`")
        return self.model.heads[name]

    def _odds(self, fused: Fused) -> Tensor:
        logits = self.model.heads[HEAD](fused.pooled).float()  # (B, 2), the second for a match
        return (logits[:, 1] - logits[:, 0]).cpu()

    def _regions(self, sample: Sample) -> ItemRegions:
        if REGIONS not in sample.fields:
            raise DataError(
                f"{sample.key} comes without regions; make them with {COMMAND}, and join the store to the table"
            )
        return self.inputs.regions(sample.key, sample.fields[REGIONS])
