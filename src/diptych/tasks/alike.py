"""Rows alike: which pictures and texts two towers take for each other; what is hard to tell apart is learned from."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from diptych.data.sample import random_for
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
    places = top_in_tiles(torch.cat([described, found.vectors], 1), torch.cat([found.vectors, described], 1), 2 * top)[
        1
    ]
    named = []
    for sample, mine in zip(found.samples, places.tolist(), strict=True):
        alike = [place for place in mine if found.samples[place].group != sample.group][:top]
        rest = [
            place
            for place in _by_chance(sample.key, len(places), others + top + 1)
            if place not in alike and found.samples[place].group != sample.group
        ]
        named.append((sample.key, [found.samples[place].key for place in (*alike, *rest[:others])]))
    return named


def _by_chance(key: str, num: int, wanted: int) -> list[int]:
    """Places of rows, none twice, the same every time."""
    return random_for(0, 0, key, "others").choice(num, size=min(wanted, num), replace=False).tolist()
