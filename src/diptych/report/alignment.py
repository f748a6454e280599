"""Which words go with which regions: boxes over a picture, and beside it tables of words by regions."""

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
CELL_PX = 9
"""Of a small grid."""
LAST = "Attention of words, last layer, in per cent of the word"


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
    attention: np.ndarray
    """(layers, M, R) what each word gives to each region, of its own 1."""
    attention_back: np.ndarray
    """(layers, M, R) what each region gives to each word, likewise."""
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
            "their boxes; the stronger a cell's colour, the more of the word. Attention is the mean over heads: of the "
            "last layer in numbers, the rest of a word's attention being for words; of every layer in small, all of a "
            "pair on one scale."
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
        f"{_table(example.words, example.shares[:, shown], names, 'Transport plan, in per cent of the word')}"
        f"{_table(example.words, example.attention[-1][:, shown], names, LAST)}"
        f"{_layers(example, shown)}</div></div>"
    )


def _table(words: Sequence[str], shares: np.ndarray, names: Sequence[str], caption: str) -> str:
    heads = "".join(
        f'<th scope="col" style="color:var(--hue-{place % HUES})"><div class="turned">{escape(head)}</div></th>'
        for place, head in enumerate(f"{place} {name}" for place, name in enumerate(names, start=1))
    )
    lines = "".join(
        f'<tr><th scope="row">{escape(word)}</th>{"".join(_cell(share, float(shares.max())) for share in row)}</tr>'
        for word, row in zip(words, shares.tolist(), strict=True)
    )
    head = f'<thead><tr><td aria-label="word by row, region by column"></td>{heads}</tr></thead>'
    return (
        f'<div class="wide"><table class="heat"><caption>{escape(caption)}</caption>'
        f"{head}<tbody>{lines}</tbody></table></div>"
    )


def _cell(share: float, most: float) -> str:
    return heat_cell(f"{100 * share:.0f}" if share >= most / 20 else "", share / max(most, 1e-9))


def _layers(example: Aligned, shown: np.ndarray) -> str:
    """Both directions of attention in every layer, as small grids under each other."""
    ways = (("words to regions", example.attention), ("regions to words", example.attention_back))
    most = max(float(way.max()) for _, way in ways)
    lines = "".join(
        f'<div class="layers"><p>{words}</p>'
        + "".join(_grid(layer[:, shown] / most, f"layer {place}") for place, layer in enumerate(way, start=1))
        + "</div>"
        for words, way in ways
    )
    return f'<div class="wide"><p class="where">Attention by layer, mean of heads</p>{lines}</div>'


def _grid(strengths: np.ndarray, caption: str) -> str:
    """Words by regions, a coloured square each."""
    num_words, num_regions = strengths.shape
    label = f"{caption}: words by row, regions by column"
    cells = "".join(
        f'<rect style="--v:{100 * strength:.0f}" x="{column}" y="{row}"/>'
        for row, line in enumerate(strengths.tolist())
        for column, strength in enumerate(line)
    )
    return (
        f'<figure><svg viewBox="0 0 {num_regions} {num_words}" width="{CELL_PX * num_regions}" '
        f'height="{CELL_PX * num_words}" role="img" aria-label="{label}">{cells}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )
