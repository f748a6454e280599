"""Which of a row's texts is trained on."""

from __future__ import annotations

import pytest

from diptych.data.sample import Sample, random_for
from diptych.data.text_kinds import chosen_place, columns_of
from diptych.errors import DataError

SAMPLE = Sample(
    key="a",
    group="a",
    image=None,
    texts=("a car", "a red car on sand", "a red car", "a red car by the sea"),
    fields={"text_kinds": ["things", "full", "colour", "full"]},
)


def drawn(kinds: tuple[str, ...], sample: Sample = SAMPLE) -> set[str]:
    return {sample.texts[chosen_place(sample, random_for(seed, 0, "a"), kinds)] for seed in range(60)}


def test_any_text_or_any_of_some_kinds() -> None:
    assert drawn(()) == set(SAMPLE.texts)
    assert drawn(("full",)) == {"a red car on sand", "a red car by the sea"}
    assert drawn(("full", "things")) == set(SAMPLE.texts) - {"a red car"}
    assert columns_of(("full",)) == ("text_kinds",) and columns_of(()) == ()


def test_a_row_that_has_none_of_these_gives_any() -> None:
    assert drawn(("relation",)) == set(SAMPLE.texts)
    unsaid = Sample(key="a", group="a", image=None, texts=("x", "y"), fields={"text_kinds": None})
    assert drawn(("full",), unsaid) == {"x", "y"}


@pytest.mark.parametrize(("kinds", "text"), [((), "a car"), (("full",), "a red car on sand")])
def test_evaluation_takes_the_first(kinds: tuple[str, ...], text: str) -> None:
    assert SAMPLE.texts[chosen_place(SAMPLE, None, kinds)] == text


def test_a_column_of_another_length_is_told() -> None:
    short = Sample(key="a", group="a", image=None, texts=("x", "y"), fields={"text_kinds": ["full"]})
    with pytest.raises(DataError, match="a has 2 texts and 1 in the column 'text_kinds'"):
        chosen_place(short, None, ("full",))
