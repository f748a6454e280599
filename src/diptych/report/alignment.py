"""Which words go with which regions: boxes over a picture, and beside it a table of words by regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image

from diptych.report.boxes import HUES, drawing
from diptych.report.grids import heat_cell
from diptych.report.page import Section

MOST_REGIONS = 10
"""Columns of a table, and boxes over its picture."""


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """A text, a picture with its regions, and how much of each word goes to each region."""

    key: str
    picture: Image.Image
    boxes: np.ndarray
    """(R, 4) in shares of the picture."""
    names: Sequence[str]
    """(R) what each region was taken for, "" where that is not known."""
    words: Sequence[str]
    """(M) pieces of the text, in their order."""
    shares: np.ndarray
    """(M, R) of each word: a row sums to 1."""
    remark: str = ""
    """What else there is to say, e.g. how well text and picture match."""


def alignment_section(title: str, how_to_read: str, examples: Sequence[Aligned]) -> Section:
    """Pictures with their tables.

    Args:
        title: of the section.
        how_to_read: what a cell means; how to read boxes and colours is said after it.
        examples: in the order in which they are shown.
    """
    return Section(
        title=title,
        how_to_read=(
            f"{how_to_read} Rows are words, columns the regions to which most goes, with the numbers and colours of "
            "their boxes; the stronger a cell's colour, the more of the word."
        ),
        body="".join(_example(example) for example in examples),
    )


def _example(example: Aligned) -> str:
    shown = np.argsort(-example.shares.sum(axis=0), kind="stable")[:MOST_REGIONS]
    names = [example.names[region] for region in shown]
    said = " ".join(example.words).replace(" ##", "")
    remark = f'<p class="where">{escape(example.remark)}</p>' if example.remark else ""
    return (
        f'<div class="strip"><p class="said">{escape(said)}</p>{remark}<div class="side">'
        f"{drawing(example.picture, example.boxes[shown], names, example.key)}"
        f"{_table(example, shown, names)}</div></div>"
    )


def _table(example: Aligned, shown: np.ndarray, names: Sequence[str]) -> str:
    heads = "".join(
        f'<th scope="col" style="color:var(--hue-{place % HUES})"><div class="turned">{escape(head)}</div></th>'
        for place, head in enumerate(f"{place} {name}" for place, name in enumerate(names, start=1))
    )
    lines = "".join(
        f'<tr><th scope="row">{escape(word)}</th>{"".join(_cell(float(share)) for share in shares[shown])}</tr>'
        for word, shares in zip(example.words, example.shares, strict=True)
    )
    caption = f"Words of the text by regions of {example.key}, in per cent of the word"
    head = f'<thead><tr><td aria-label="word by row, region by column"></td>{heads}</tr></thead>'
    return (
        f'<div class="wide"><table class="heat"><caption>{escape(caption)}</caption>'
        f"{head}<tbody>{lines}</tbody></table></div>"
    )


def _cell(share: float) -> str:
    return heat_cell(f"{100 * share:.0f}" if share >= 0.05 else "", min(share, 1.0))
