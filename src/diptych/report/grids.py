"""Picture grids: what was found for a text, what was found for a picture, and texts against pictures."""

from __future__ import annotations

from html import escape

import torch

from diptych.metrics.recall import top_in_tiles
from diptych.report.found import Found, drawn
from diptych.report.page import Section
from diptych.report.pictures import image_tag

ACROSS = 8


def found_for_texts(found: Found, *, seed: int, num: int = 8) -> Section:
    """The best pictures for texts drawn by seed."""
    rows = drawn(num, len(found.texts), seed=seed, purpose="texts")
    scores, pictures = top_in_tiles(found.text[rows], found.image, ACROSS)
    strips = [_text_strip(found, row, scores[at].tolist(), pictures[at].tolist()) for at, row in enumerate(rows)]
    return Section(
        title="Found for a text",
        how_to_read=(
            f"{len(rows)} texts, every text as likely to be drawn (seed {seed}), none chosen by hand. Under each, the "
            f"pictures that the model ranks highest among {len(found.image):,}, best first, with their cosine. The "
            "right one is framed and ticked; where none is, it ranks lower, as the line says."
        ),
        body="".join(strips),
    )


def found_for_pictures(found: Found, *, seed: int, num: int = 8, texts: int = 5) -> Section:
    """The best texts for pictures drawn by seed."""
    rows = drawn(num, len(found.image), seed=seed, purpose="pictures")
    scores, best = top_in_tiles(found.image[rows], found.text, texts)
    blocks = [_picture_block(found, row, scores[at].tolist(), best[at].tolist()) for at, row in enumerate(rows)]
    return Section(
        title="Found for a picture",
        how_to_read=(
            f"{len(rows)} pictures drawn the same way (seed {seed}), and the texts that rank highest among "
            f"{len(found.texts):,}, best first. Texts that belong to the picture are ticked."
        ),
        body=f'<div class="side">{"".join(blocks)}</div>',
    )


def texts_by_pictures(found: Found, *, seed: int, num: int = 8) -> Section:
    """Cosines of some texts with some pictures, the right ones outlined."""
    pictures = drawn(num, len(found.image), seed=seed, purpose="matrix")
    pictures = [row for row in pictures if found.texts_of_picture[row]]
    texts = [found.texts_of_picture[row][0] for row in pictures]
    cosine = found.text[texts] @ found.image[pictures].mT  # (texts, pictures)
    return Section(
        title="Texts against pictures",
        how_to_read=(
            f"The cosine of every text with every picture, for {len(pictures)} pictures drawn with seed {seed}. The "
            "stronger the colour, the closer; the outlined diagonal holds the pairs that belong together, and should "
            "stand out in its row and column."
        ),
        body=_matrix(found, texts, pictures, cosine),
    )


def _text_strip(found: Found, text: int, scores: list[float], pictures: list[int]) -> str:
    right = set(found.pictures_of_text[text])
    cells = "".join(
        _cell(found, row, place, score, row in right)
        for place, (row, score) in enumerate(zip(pictures, scores, strict=True), 1)
    )
    rank = int(found.text_ranks[text]) + 1
    where = "The right picture comes first." if rank == 1 else f"The right picture comes {ordinal(rank)}."
    return (
        f'<div class="strip"><p class="said">“{escape(found.texts[text])}”</p><p class="where">{where}</p>'
        f'<ol class="row">{cells}</ol></div>'
    )


def _cell(found: Found, row: int, place: int, score: float, right: bool) -> str:
    alt = f"{'right' if right else 'wrong'} picture in place {place}: {describe(found, row)}"
    mark = "✓ right · " if right else ""
    opening = '<li class="right">' if right else "<li>"
    return f"{opening}{image_tag(found.picture(row), alt=alt)}<small>{mark}{score:.2f}</small></li>"


def _picture_block(found: Found, row: int, scores: list[float], best: list[int]) -> str:
    right = set(found.texts_of_picture[row])
    items = "".join(
        f"<li{' class=mark-right' * (text in right)}><span>{'✓ ' * (text in right)}{escape(found.texts[text])}</span>"
        f"<span>{score:.2f}</span></li>"
        for text, score in zip(best, scores, strict=True)
    )
    image = image_tag(found.picture(row), alt=f"the picture asked with: {describe(found, row)}")
    rank = int(found.image_ranks[row]) + 1
    where = "" if rank == 1 else f'<p class="where">The first right text comes {ordinal(rank)}.</p>'
    return f'<div class="found">{image}<div><ol>{items}</ol>{where}</div></div>'


def _matrix(found: Found, texts: list[int], pictures: list[int], cosine: torch.Tensor) -> str:
    low, high = float(cosine.min()), float(cosine.max())
    heads = "".join(
        f'<th scope="col">{image_tag(found.picture(row), alt=describe(found, row))}</th>' for row in pictures
    )
    lines = []
    for at, text in enumerate(texts):
        right = set(found.pictures_of_text[text])
        cells = "".join(
            heat_cell(f"{value:.2f}", (value - low) / max(high - low, 1e-9), own=row in right)
            for row, value in zip(pictures, cosine[at].tolist(), strict=True)
        )
        lines.append(f'<tr><th scope="row">{escape(found.texts[text])}</th>{cells}</tr>')
    head = f'<thead><tr><td aria-label="texts by row, pictures by column"></td>{heads}</tr></thead>'
    return f'<div class="wide"><table class="heat pictures">{head}<tbody>{"".join(lines)}</tbody></table></div>'


def heat_cell(words: str, strength: float, *, own: bool = False) -> str:
    """A cell of a heat table, its colour as strong as `strength` in [0, 1]; `own` outlines it."""
    look = " ".join(["own"] * own + ["full"] * (strength > 0.65))  # full: a colour that needs light letters
    return f'<td class="{look}" style="--v:{100 * strength:.0f}">{words}</td>'


def describe(found: Found, row: int) -> str:
    """A picture in words, for those who cannot see it: its first text, else its key."""
    texts = found.texts_of_picture[row]
    return found.texts[texts[0]] if texts else found.picture(row).key


def ordinal(rank: int) -> str:
    """A place in words.

    >>> ordinal(1), ordinal(2), ordinal(13), ordinal(121)
    ('1st', '2nd', '13th', '121st')
    """
    ending = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank:,}{ending}"
