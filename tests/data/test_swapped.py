"""Two words of a text in each other's place."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from diptych.data.swapped import MOST, SwappedWords

TEXTS = (
    "a red car and a blue star",
    "a blue car",
    "a red star and a tree",
    "the tree is left of the car",
    "the car is red",
)


def test_words_swap_where_they_may_stand() -> None:
    words = SwappedWords(TEXTS)
    assert words.of("a red car and a blue star") == ["a blue car and a red star", "a red star and a blue car"]
    assert words.of("the tree is left of the car") == ["the car is left of the tree"]
    assert words.of("a blue car") == words.of("a tree") == words.of("") == []


def test_words_that_nobody_saw_stay() -> None:
    assert SwappedWords(TEXTS).of("a green car and a blue star") == []


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=7), min_size=1, max_size=6))
def test_swapped_texts_have_the_same_words_and_read_like_the_texts(rows: list[list[str]]) -> None:
    texts = [" ".join(row) for row in rows]
    words = SwappedWords(texts)
    seen = {pair for row in rows for pair in pairwise(["", *row, ""])}
    for row, text in zip(rows, texts, strict=True):
        found = words.of(text)
        assert len(found) <= MOST and len(set(found)) == len(found) and text not in found
        for swapped in found:
            other = swapped.split()
            assert Counter(other) == Counter(row) and sum(a != b for a, b in zip(other, row, strict=True)) == 2
            assert set(pairwise(["", *other, ""])) <= seen


def test_of_many_the_same_few_are_taken() -> None:
    text = "a b c d e f"
    words = SwappedWords(f"{one} {other}" for one in "abcdef" for other in "abcdef")
    assert len(words.of(text)) == MOST and words.of(text) == words.of(text)
