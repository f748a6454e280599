"""Regions drawn over their pictures: boxes, names and attributes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from diptych.data.images import decode
from diptych.data.regions import Regions, RegionSpec, RegionStore
from diptych.data.table import Table
from diptych.errors import DataError
from diptych.report.boxes import HUES, corners, drawing
from diptych.report.page import Page, Section, note
from diptych.report.region_summary import RegionSummary, spread_keys
from diptych.report.tables import facts

SURE = 0.1
"""An attribute is told from this probability on, as in the demonstration of bottom-up attention."""
DAMAGED_SHOWN = 20
UNORDERED = ("window", "given")
"""Kinds of boxes whose order says nothing of how sure they are."""


def regions_page(store: RegionStore, table: Table, summary: RegionSummary, *, num: int, boxes: int) -> Page:
    """The page.

    Args:
        store: of the regions.
        table: with their pictures.
        summary: of the store.
        num: pictures shown, evenly spread over the store.
        boxes: regions drawn over each, the best.
    Raises:
        DataError: not one of the pictures is in the table.
    """
    keys = spread_keys(store, num)
    cards = [_card(key, store, picture, boxes) for key, picture in _pictures(table, keys) if picture is not None]
    if not cards:
        raise DataError(
            f"{table.path} has none of the pictures whose regions {store.path} holds, e.g. {keys[0]!r}; pass the table "
            "that they were extracted from"
        )
    each = f"{summary.fewest}" if summary.fewest == summary.most else f"{summary.fewest} to {summary.most}"
    return Page(
        kicker=f"Regions: {store.path.resolve().name}",
        headline=f"{each} regions in each of {summary.pictures:,} pictures",
        lead=[f"Made with {store.spec.detector}; rule: {store.spec.rule}."],
        sections=[
            Section(
                title="Regions",
                how_to_read=(
                    f"{len(cards)} pictures, evenly spread over the store, none chosen by hand. "
                    f"{_how_to_read(store.spec, boxes)} All regions are in the store."
                ),
                body=f'<div class="drawn">{"".join(cards)}</div>',
            ),
            Section(
                title="Made with",
                how_to_read="What the store says of its regions. Stores that differ in any of it are not mixed.",
                body=facts(summary.rows(), caption=str(store.path.resolve().name)),
            ),
            *_damaged(summary),
        ],
    )


def _damaged(summary: RegionSummary) -> list[Section]:
    if not summary.damaged:
        return []
    return [
        Section(
            title="Damaged rows",
            how_to_read=f"Of the {summary.looked_at:,} pictures looked at; the numbers above are of the others.",
            body=facts(list(summary.damaged.items())[:DAMAGED_SHOWN], caption="Pictures, and what is wrong with them"),
        )
    ]


def _how_to_read(spec: RegionSpec, boxes: int) -> str:
    """Which regions are drawn, and what stands below a picture."""
    if not spec.classes:
        same = "They are the same windows in every picture. " if spec.box_kind == "window" else ""
        words = "a word list gives them some: diptych regions extract DATA ... --words FILE"
        return f"Over each the first {boxes} regions at most. {same}They have no names; {words}."
    drawn = "surest of their names" if spec.box_kind in UNORDERED else "best, in the order of the store"
    return f"Over each {boxes} regions at most, the {drawn}; below it what each was taken for, and how likely that is."


def _pictures(table: Table, keys: Sequence[str]) -> list[tuple[str, bytes | Path | None]]:
    """For each key its picture's file, from whichever split has it; None where none has."""
    found: dict[str, bytes | Path | None] = {}
    for name in table.splits:
        rows = table.split(name)
        for key, row in zip(keys, rows.find(keys), strict=True):
            if row is not None:
                found[key] = rows.sample(row).image
    return [(key, found.get(key)) for key in keys]


def _card(key: str, store: RegionStore, source: bytes | Path, num: int) -> str:
    try:
        picture = decode(source)
        regions = store.regions(key)
    except DataError as error:
        return f"<figure>{note(str(error))}<figcaption>{escape(key)}</figcaption></figure>"
    drawn = best(regions, store.spec, num)
    every, probs = names_of(regions, store.spec), likelihoods(regions)[drawn]
    names = [every[row] for row in drawn]
    listed = "".join(
        f'<li style="--hue:var(--hue-{row % HUES})">{escape(name)} <small>{prob:.2f}</small></li>'
        for row, (name, prob) in enumerate(zip(names, probs, strict=True))
        if name
    )
    said = f"{len(regions)} region{'s' * (len(regions) != 1)}" + (f", {num} drawn" if len(regions) > num else "")
    shown = drawing(picture, corners(regions, store.spec, picture)[drawn], names, key)
    return (
        f"<figure>{shown}{f'<ol>{listed}</ol>' if listed else ''}<figcaption>{escape(key)} · {said}</figcaption>"
        "</figure>"
    )


def best(regions: Regions, spec: RegionSpec, num: int) -> np.ndarray:
    """The rows of at most `num` regions: the first, or of windows and given boxes those with the likeliest names."""
    if spec.box_kind not in UNORDERED or regions.class_probs is None or not spec.classes:
        return np.arange(min(num, len(regions)))
    return (-likelihoods(regions)).argsort(kind="stable")[:num]


def names_of(regions: Regions, spec: RegionSpec) -> list[str]:
    """What each region was taken for, e.g. "brown dog"; "" where there are no names."""
    if regions.class_ids is None or not spec.classes:
        return [""] * len(regions)
    names = [spec.classes[first] for first in regions.class_ids[:, 0]]
    if regions.attribute_ids is None or regions.attribute_probs is None or not spec.attributes:
        return names
    attributes = zip(regions.attribute_ids[:, 0], regions.attribute_probs[:, 0], strict=True)
    return [
        f"{spec.attributes[first]} {name}" if prob >= SURE else name
        for name, (first, prob) in zip(names, attributes, strict=True)
    ]


def likelihoods(regions: Regions) -> np.ndarray:
    """(R,) the probability of the likeliest class; the score where no classes were kept."""
    return regions.scores if regions.class_probs is None else regions.class_probs[:, 0]
