"""Rows alike: which pictures and texts two towers take for each other; what is hard to tell apart is learned from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from diptych.data.sample import Sample, random_for
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.metrics.recall import top_in_tiles
from diptych.progress import SILENT, Progress
from diptych.tasks.encoder import Towers
from diptych.tasks.pictures import encode_pictures
from diptych.tasks.texts import encode_texts


def rows_alike(
    encoder: Towers, rows: Rows, *, top: int, others: int = 0, progress: Progress = SILENT
) -> list[tuple[str, list[str]]]:
    """For each row with a picture and a text, the other rows whose pictures fit its texts and whose texts its picture.

    Both cosines are added; a row's texts count by their mean.

    Args:
        encoder: two towers.
        rows: the split.
        top: how many of the likest are wanted, none of the row's group.
        others: how many more by chance, so that what is not alike is not forgotten.
        progress: where the work is drawn.
    Returns:
        Keys, each with those of the rows that are alike, the likest first, and of the others. Fewer where there are.
    Raises:
        DataError: no row has both a picture and a text.
    """
    found = encode_pictures(
        encoder.encode_image, rows, range(len(rows)), wanted=lambda sample: bool(sample.texts), progress=progress
    )
    if not found.rows:
        raise DataError(f"{rows.path}, {rows.name}: no row has both a picture and a text; expected a table of pairs")
    texts = encode_texts(encoder, (text for sample in found.samples for text in sample.texts), progress=progress)
    described = F.normalize(torch.stack([texts.of(sample.texts).mean(dim=0) for sample in found.samples]), dim=1)
    wanted, given = torch.cat([described, found.vectors], dim=1), torch.cat([found.vectors, described], dim=1)
    _, places = top_in_tiles(wanted, given, 2 * top)
    return [
        (sample.key, [found.samples[place].key for place in _partners(found.samples, row, mine, top, others)])
        for row, (sample, mine) in enumerate(zip(found.samples, places.tolist(), strict=True))
    ]


def _partners(samples: Sequence[Sample], row: int, likest: Sequence[int], top: int, others: int) -> list[int]:
    """The first `top` of the likest, and others by chance, the same every time; none of the row's group, none twice."""
    num = len(samples)
    chance = random_for(0, 0, samples[row].key, "others").choice(num, size=min(others + top + 1, num), replace=False)
    alike, rest = (
        [place for place in places if samples[place].group != samples[row].group]
        for places in (likest, chance.tolist())
    )
    taken = dict.fromkeys(alike[:top])
    return [*taken, *[place for place in rest if place not in taken][:others]]
