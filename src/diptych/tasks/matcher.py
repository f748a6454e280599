"""What is asked of a model of one stream, and what of a room it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch
from diptych.data.regions import Regions
from diptych.data.sample import Item, ItemRegions, Sample
from diptych.data.table import Rows
from diptych.data.tokenizers import Tokenizer
from diptych.objectives.objective import Embedded, Fused
from diptych.progress import SILENT, Progress

REGIONS = "regions"
"""The column that a sample's regions are in."""
HEAD = "itm"


@runtime_checkable
class Matcher(Protocol):
    """What the tasks ask of a model that reads both sides at once; `FusedMatcher` is one."""

    @property
    def name(self) -> str:
        """For tables and reports."""

    def fingerprint(self) -> str:
        """Of all that its odds hang on beside text and regions: another for other weights."""

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
    attention: Tensor
    """(layers, M, R) float32, a mean over heads: what each word gives to each region of its own 1, of which words get
    the rest."""
    attention_back: Tensor
    """(layers, M, R) likewise: what each region gives to each word."""


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

    def item(self, sample: Sample, rng: None) -> Item:
        """As the network reads a row of examples; raises DataError where it cannot."""

    def collate(self, items: Sequence[Item]) -> Batch:
        """Items with both parts, or with one and the same, as a batch."""

    def check_rows(self, rows: Rows, tell: Callable[[str], None]) -> None:
        """Raises DataError of rows without regions, or with those of another detector; tells what is not known."""


class FusedModel(Protocol):
    """A room's model as the matcher uses it; an `nn.Module`."""

    @property
    def heads(self) -> nn.ModuleDict:
        """Of the tasks that it was trained for."""

    def at_rest(self) -> AbstractContextManager[None]:
        """As `Encode` has it."""

    def __call__(self, batch: Batch) -> Fused:
        """The states of a batch: `fuse` of `embed`."""

    def embed(self, batch: Batch) -> Mapping[str, Embedded]:
        """The parts of a batch before the first layer, "text" and "regions"; one where it has only that."""

    def fuse(self, parts: Mapping[str, Embedded]) -> Fused:
        """The states of parts that were embedded, together or apart."""

    def attention(self, parts: Mapping[str, Embedded]) -> Tensor:
        """(depth, B, H, L, L) how much each position attends to each other on that way."""

    def modules(self) -> Any:
        """As `nn.Module` has it."""

    def state_dict(self) -> Any:
        """As `nn.Module` has it."""

    def to(self, device: torch.device) -> Any:
        """As `nn.Module` has it."""
