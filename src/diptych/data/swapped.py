"""Swapped words: a text with two of its words in each other's place, the same words that say something else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

from diptych.data.sample import Sample, random_for
from diptych.errors import DataError

SWAPPED = "swapped_texts"
"""The column of a table of examples that holds, for each text of a row, such texts."""
MOST = 8
"""Of one text."""
EDGE = ""


class SwappedWords:
    """Knows which words follow each other in some texts, and swaps words so that only such do.

    "A red car and a blue star" gives "a blue car and a red star", and nothing that sounds wrong without a picture. What
    a model must learn to refuse it is which word belongs to which: Yuksekgonul et al., arXiv:2210.01936, section 4.
    Differs: words are exchanged by what stands beside them, and not by a parser's parts of speech. A text may stay true
    ("a star and a car"); choose kinds of texts for which it does not.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._neighbours = {pair for text in texts for pair in pairwise(_words(text))}

    def of(self, text: str) -> list[str]:
        """The text with two words swapped, in every way that reads like the texts; of more than 8 some, by chance."""
        words = _words(text)
        found = dict.fromkeys(
            " ".join(swapped[1:-1])
            for first, second in combinations(range(1, len(words) - 1), 2)
            if words[first] != words[second] and self._reads_well(swapped := _swapped(words, first, second))
        )
        texts = list(found)
        if len(texts) <= MOST:
            return texts
        chosen = random_for(0, 0, text, SWAPPED).choice(len(texts), size=MOST, replace=False)
        return [texts[place] for place in sorted(chosen.tolist())]

    def _reads_well(self, words: Sequence[str]) -> bool:
        return all(pair in self._neighbours for pair in pairwise(words))


def swapped_of(sample: Sample, place: int) -> Sequence[str]:
    """Of one of the sample's texts; none where its column was not asked for, or has nothing of the row.

    Raises:
        DataError: the column has not as many of them as there are texts.
    """
    texts: Sequence[Sequence[str] | None] = sample.fields.get(SWAPPED) or ()
    if not texts:
        return ()
    if len(texts) != len(sample.texts):
        raise DataError(f"{sample.key} has {len(sample.texts)} texts and {len(texts)} in the column {SWAPPED!r}")
    return texts[place] or ()


def _words(text: str) -> list[str]:
    return [EDGE, *text.split(), EDGE]


def _swapped(words: Sequence[str], first: int, second: int) -> list[str]:
    swapped = list(words)
    swapped[first], swapped[second] = words[second], words[first]
    return swapped
