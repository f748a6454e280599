"""Pairs of texts and pictures through a model of one stream: each side is embedded once, and fused with many others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from diptych.data.sample import Item, ItemRegions
from diptych.objectives.objective import Embedded
from diptych.tasks.matcher import FusedInputs, FusedModel

CACHED = 65_536
"""Words and regions that are embedded at once: 200 MB of a model 768 wide."""


@dataclass
class Block:
    """Pairs, and the texts and pictures that they are of."""

    texts: list[Tensor] = field(default_factory=list)
    """(T_i,) ids."""
    pictures: list[ItemRegions] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    """Places of a picture and a text."""


def blocks(
    pairs: Iterable[tuple[int, str]], regions: Callable[[int], ItemRegions], ids: Callable[[str], Tensor]
) -> Iterator[Block]:
    """Pairs one after the other, as many to a block as keep its texts and pictures within CACHED.

    Args:
        pairs: of a picture, by its place, and a text; equal ones are embedded once in a block.
        regions: of a picture, as the network reads them.
        ids: of a text.
    """
    block, tokens = Block(), 0
    pictures: dict[int, int] = {}
    texts: dict[str, int] = {}
    for picture, text in pairs:
        if picture not in pictures:
            pictures[picture] = len(pictures)
            block.pictures.append(regions(picture))
            tokens += len(block.pictures[-1])
        if text not in texts:
            texts[text] = len(texts)
            block.texts.append(ids(text))
            tokens += len(block.texts[-1])
        block.pairs.append((pictures[picture], texts[text]))
        if tokens >= CACHED:
            yield block
            block, tokens, pictures, texts = Block(), 0, {}, {}
    if block.pairs:
        yield block


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The words of many texts, or the regions of many pictures, before the first layer, without padding."""

    vectors: Tensor
    """(N, D) of one after the other."""
    starts: Tensor
    """(M,) where each begins."""
    lengths: Tensor
    """(M,)."""

    @classmethod
    def of(cls, parts: Sequence[Embedded]) -> Kept:
        """The rows of all parts, in their order."""
        lengths = torch.cat([part.mask.sum(dim=1) for part in parts])
        return cls(
            vectors=torch.cat([part.hidden[part.mask] for part in parts]),
            starts=lengths.cumsum(dim=0) - lengths,
            lengths=lengths,
        )

    def at(self, places: Tensor) -> Embedded:
        """Those at (B,) places, any of them as often as wanted; what stands where they are padded, no mask shows."""
        lengths = self.lengths[places]
        columns = torch.arange(int(lengths.max()), device=lengths.device)
        rows = (self.starts[places, None] + columns).clamp(max=len(self.vectors) - 1)  # (B, L)
        return Embedded(hidden=self.vectors[rows], mask=columns < lengths[:, None])


def fused_pairs(
    model: FusedModel, inputs: FusedInputs, block: Block, device: torch.device, batch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The pairs of a block through the model, those of like length together.

    Of the last layer only the first word's state is computed, which is all that is pooled.

    Yields:
        (B,) places among the block's pairs, B at most `batch`, and (B, D) what stands for each pair, on the device.
    """

    def kept(name: str, rows: Sequence[Item]) -> Kept:
        parts = (inputs.collate(rows[start : start + batch]).to(device) for start in range(0, len(rows), batch))
        return Kept.of([model.embed(part)[name] for part in parts])

    words = kept("text", [Item(key="", group=0, text_ids=ids) for ids in block.texts])
    regions = kept("regions", [Item(key="", group=0, regions=one) for one in block.pictures])
    pictures, texts = torch.tensor(block.pairs, device=device).unbind(dim=1)
    order = (words.lengths[texts] + regions.lengths[pictures]).argsort(stable=True)
    for places in order.split(batch):
        said, seen = words.at(texts[places]), regions.at(pictures[places])
        first = torch.zeros_like(said.mask)
        first[:, 0] = True
        pairs = {"text": replace(said, read=first), "regions": replace(seen, read=torch.zeros_like(seen.mask))}
        yield places, model.fuse(pairs).pooled
