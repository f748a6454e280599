"""What the model gets wrong: the pairs it confuses most, and its hardest failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from diptych.report.found import Found
from diptych.report.grids import describe, ordinal
from diptych.report.page import Section, note
from diptych.report.pictures import image_tag

PAIRS, FAILURES = 10, 24


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A text whose own picture loses to another."""

    text: int
    right: int
    wrong: int
    margin: float
    """Cosine with the wrong picture less the best right one; above 0 the wrong one wins."""


def nearest_wrong(found: Found, tile: int = 1024) -> list[Confusion]:
    """For each text the wrong picture it comes closest to, computed in tiles of texts."""
    confusions = []
    for start in range(0, len(found.text), tile):
        cosine = found.text[start : start + tile] @ found.image.mT  # (tile, N)
        confusions += [_against(found, start + at, row) for at, row in enumerate(cosine)]
    return [confusion for confusion in confusions if confusion is not None]


def most_confused(confusions: Sequence[Confusion], num: int = PAIRS) -> list[tuple[Confusion, Confusion | None]]:
    """The pairs of pictures taken for each other the most: by the sum of both directions' margins where both go wrong.

    Args:
        confusions: one a text.
        num: at most so many pairs.
    Returns:
        For each pair the worse direction, and the other one where the other's text goes wrong the same way.
    """
    worst: dict[tuple[int, int], Confusion] = {}
    for confusion in confusions:
        way = (confusion.right, confusion.wrong)
        if confusion.margin > 0 and (way not in worst or worst[way].margin < confusion.margin):
            worst[way] = confusion
    pairs: dict[frozenset[int], list[Confusion]] = {}
    for way, confusion in worst.items():
        pairs.setdefault(frozenset(way), []).append(confusion)
    ordered = sorted(pairs.values(), key=lambda both: -sum(one.margin for one in both))
    both_ways = [sorted(both, key=lambda one: -one.margin) for both in ordered[:num]]
    return [(both[0], both[1] if len(both) > 1 else None) for both in both_ways]


def confused_pairs(found: Found, confusions: Sequence[Confusion]) -> Section:
    """The ten pairs of pictures that are taken for each other the most."""
    how = (
        "Pairs of pictures in which a text of one comes closer to the other, the largest margins first. What the two "
        "have in common is what the model sees; what tells them apart is what it has not learned."
    )
    title = "Most confused pairs"
    pairs = most_confused(confusions)
    if not pairs:
        return Section(
            title=title, how_to_read=how, body=note("No text comes closer to a wrong picture than to its own.")
        )
    cards = "".join(f"<li>{_pair(found, one, other)}</li>" for one, other in pairs)
    return Section(title=title, how_to_read=how, body=f'<ol class="cards">{cards}</ol>')


def hardest_failures(found: Found, confusions: Sequence[Confusion]) -> Section:
    """The texts whose right picture ranks lowest, one a picture."""
    how = (
        f"The texts whose own picture ranks lowest of {len(found.image):,}, at most one a picture: left the right one, "
        "beside it the one that came first. Look for wrong texts here first: a bad text looks just like a bad model."
    )
    title = "Hardest failures"
    failures = _hardest(found, confusions)
    if not failures:
        return Section(title=title, how_to_read=how, body=note("No failures: every text finds its picture first."))
    cards = "".join(f"<li>{_failure(found, failure)}</li>" for failure in failures)
    return Section(title=title, how_to_read=how, body=f'<ol class="cards">{cards}</ol>')


def _against(found: Found, text: int, cosine: Tensor) -> Confusion | None:
    own = list(found.pictures_of_text[text])
    if len(own) >= len(cosine):
        return None
    right = own[int(cosine[own].argmax())]
    others = cosine.clone()
    others[own] = -torch.inf
    wrong = int(others.argmax())
    return Confusion(text=text, right=right, wrong=wrong, margin=float(cosine[wrong] - cosine[right]))


def _hardest(found: Found, confusions: Sequence[Confusion]) -> list[Confusion]:
    failures: dict[int, Confusion] = {}
    for confusion in sorted(confusions, key=lambda one: (-int(found.text_ranks[one.text]), -one.margin, one.text)):
        if int(found.text_ranks[confusion.text]) > 0:
            failures.setdefault(found.owner(confusion.text), confusion)
    return list(failures.values())[:FAILURES]


def _pair(found: Found, one: Confusion, other: Confusion | None) -> str:
    said = f'<p class="said">“{escape(found.texts[one.text])}”</p>'
    if other is not None:
        said += f'<p class="said">“{escape(found.texts[other.text])}”</p>'
    ways = "taken for each other, both ways" if other is not None else f"the wrong one wins by {one.margin:.2f}"
    own = _own(found, one.right, "the first text’s own")
    return f'<div>{said}</div><div class="pair">{own}{_wrong(found, one.wrong, ways)}</div>'


def _failure(found: Found, failure: Confusion) -> str:
    rank = int(found.text_ranks[failure.text]) + 1
    return (
        f'<div><p class="said">“{escape(found.texts[failure.text])}”</p></div><div class="pair">'
        f"{_own(found, failure.right, f'right, but {ordinal(rank)}')}{_wrong(found, failure.wrong, 'came first')}</div>"
    )


def _own(found: Found, row: int, words: str) -> str:
    image = image_tag(found.picture(row), alt=f"right: {describe(found, row)}")
    return f'<div>{image}<small class="mark-right">✓ {escape(words)}</small></div>'


def _wrong(found: Found, row: int, words: str) -> str:
    image = image_tag(found.picture(row), alt=f"wrong: {describe(found, row)}")
    return f'<div>{image}<small class="mark-wrong">✗ {escape(words)}</small></div>'
