"""Which words and regions are masked, and by what: one draw a piece, as UNITER and BERT make it."""

from __future__ import annotations

from dataclasses import replace

import torch

from diptych.data.sample import Item, Rng
from diptych.errors import DataError

PROBABILITY = 0.15
"""That a piece is masked. BERT, arXiv:1810.04805, section 3.1; UNITER, arXiv:1909.11740, section 3.2."""


def mask_words(
    ids: list[int], rng: Rng, *, mask_id: int, replacements: tuple[int, int], probability: float = PROBABILITY
) -> tuple[list[int], list[int]]:
    """Masked word pieces and where they stood.

    Each piece is chosen for itself. Of those that are, 80 % become `mask_id`, 10 % another piece, and 10 % stay; the
    same draw decides both. Where none was, the first becomes `mask_id`.

    Args:
        ids: of the pieces, without special ones.
        rng: of the sample.
        mask_id: what a masked piece becomes.
        replacements: [first, end) of the ids that are no special ones.
        probability: that a piece is chosen.
    Returns:
        The ids with masks, and the positions that were chosen.
    """
    masked, chosen = list(ids), []
    for position in range(len(ids)):
        share = rng.random() / probability
        if share < 1:
            chosen.append(position)
            if share < 0.8:
                masked[position] = mask_id
            elif share < 0.9:
                masked[position] = int(rng.integers(*replacements))
    if ids and not chosen:
        masked[0], chosen = mask_id, [0]
    return masked, chosen


def mask_regions(num_regions: int, rng: Rng, *, probability: float = PROBABILITY) -> list[int]:
    """Positions of the masked regions: each chosen for itself, and any one where none was."""
    chosen = [position for position in range(num_regions) if rng.random() < probability]
    return chosen or [int(rng.integers(num_regions))]


def hide_regions(item: Item, rng: Rng, probability: float = PROBABILITY) -> Item:
    """The item with some of its regions hidden, features and soft labels as they were.

    Raises:
        DataError: it has no region.
    """
    if item.regions is None or len(item.regions) == 0:
        raise DataError(f"{item.key}: regions are hidden of a picture, and this row has none")
    hidden = torch.zeros(len(item.regions), dtype=torch.bool)
    hidden[mask_regions(len(item.regions), rng, probability=probability)] = True
    return replace(item, regions=replace(item.regions, hidden=hidden))
