"""Retrieval on four colours: what is found, what counts as right, and what is left out."""

import pyarrow as pa
import pytest
import torch

from diptych.data.sampler import spread_rows
from diptych.data.scenes.settings import easy
from diptych.data.scenes.splits import evaluation_cell, split_sizes
from diptych.errors import DataError
from diptych.tasks.retrieval import retrieval

COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture
def four(make_rows, picture):
    def make(**changes):
        rows = [{"image": picture(colour), "texts": [f"a {colour} one", f"{colour} again"]} for colour in COLOURS]
        return make_rows(rows, **changes)

    return make


def test_a_model_that_knows_colours_finds_everything(towers, four):
    result = retrieval(towers, four())
    # The other text of a picture has the same vector, and is right too: no tie with a wrong one.
    assert result.text_to_image_ranks.tolist() == [0] * 8
    assert result.image_to_text_ranks.tolist() == [0] * 4
    numbers = result.numbers()
    assert numbers["text_to_image_r1"] == numbers["image_to_text_r1"] == 1
    assert numbers["text_to_image_median_rank"] == 1
    assert result.texts[:3] == ("a red one", "red again", "a green one")
    assert result.text_owner == (0, 0, 1, 1, 2, 2, 3, 3)


def test_wrong_texts_are_not_found(towers, make_rows, picture):
    rows = make_rows([{"image": picture(one), "texts": [two]} for one, two in [("red", "blue"), ("blue", "red")]])
    numbers = retrieval(towers, rows).numbers()
    assert numbers["text_to_image_r1"] == numbers["image_to_text_r1"] == 0
    assert numbers["text_to_image_r5"] == 1


def test_chance_is_what_guessing_reaches(towers, four):
    chance = retrieval(towers, four()).chance()
    assert chance["text_to_image_r1"] == pytest.approx(1 / 4)
    assert chance["image_to_text_r1"] == pytest.approx(2 / 8)
    assert chance["image_to_text_r5"] == pytest.approx(1 - (6 / 8) * (5 / 7) * (4 / 6) * (3 / 5) * (2 / 4))
    assert chance["text_to_image_r10"] == 1


def test_a_model_that_sees_nothing_finds_nothing(towers, four):
    class Blind(type(towers)):
        def image_features(self, pictures):
            return torch.ones(len(pictures), 3)

    assert retrieval(Blind(), four()).numbers()["text_to_image_r1"] == 0


def test_pictures_of_one_group_are_right_for_each_other(towers, make_rows, picture):
    rows = [{"image": picture("red"), "texts": ["red"], "group": "twin"} for _ in range(2)]
    result = retrieval(towers, make_rows([*rows, {"image": picture("blue"), "texts": ["blue"]}]))
    assert result.right_pictures() == [[0, 1], [0, 1], [2]]
    assert result.text_to_image_ranks.tolist() == [0, 0, 0]


def test_the_same_picture_in_two_groups_ties_and_is_not_first(towers, make_rows, picture):
    result = retrieval(towers, make_rows([{"image": picture("red"), "texts": ["red"]} for _ in range(2)]))
    assert result.text_to_image_ranks.tolist() == [1, 1]


def test_texts_of_one_kind(towers, make_rows, picture):
    kinds = {"text_kinds": pa.list_(pa.string())}
    rows = make_rows(
        [
            {"image": picture("red"), "texts": ["red", "x"], "fields": {"text_kinds": ["full", "short"]}},
            {"image": picture("blue"), "texts": ["y"], "fields": {"text_kinds": ["short"]}},
        ],
        columns=kinds,
    )
    result = retrieval(towers, rows, text_kind="full")
    assert (result.texts, result.keys) == (("red",), ("k0",))
    assert retrieval(towers, rows).texts == ("red",)  # full ones are asked where the table says which are
    assert retrieval(towers, rows, text_kind="all").texts == ("red", "x", "y")
    with pytest.raises(DataError, match="no kind of text 'ful'; did you mean 'full'"):
        retrieval(towers, rows, text_kind="ful")


def test_texts_of_a_kind_from_a_table_without_kinds(towers, four):
    with pytest.raises(DataError, match="text_kinds"):
        retrieval(towers, four(), text_kind="full")


def test_the_limit_takes_rows_of_the_whole_split(towers, four):
    assert retrieval(towers, four(), limit=2).keys == ("k0", "k2")
    assert retrieval(towers, four(), limit=9).keys == ("k0", "k1", "k2", "k3")


def test_a_gallery_of_500_scenes_shows_500_things_colours_and_backgrounds():
    """The split test of 40,000 scenes has 756 rows; no two are of the same three, and so none of those asked."""
    scenes = easy(num=40_000)
    rows = spread_rows(split_sizes(scenes)["test"], 500)
    cells = [evaluation_cell(scenes, "test", row) for row in rows]
    assert len({(cell.pair, cell.background) for cell in cells}) == 500


def test_rows_without_text_or_picture_are_passed_over(towers, make_rows, picture):
    rows = make_rows([{"texts": []}, {"image": picture("blue"), "texts": ["blue"]}])
    assert retrieval(towers, rows).rows == (1,)


def test_a_split_without_texts_is_told(towers, make_rows):
    with pytest.raises(DataError, match="no row with both"):
        retrieval(towers, make_rows([{"texts": []}]))


def test_a_bad_picture_costs_itself_only(towers, make_rows, picture):
    rows = make_rows(
        [
            {"image": picture("red"), "texts": ["red"]},
            {"image": b"not a picture", "texts": ["blue"]},
            {"image": picture("green"), "texts": ["green"]},
        ]
    )
    said = []
    result = retrieval(towers, rows, progress=listening(said))
    assert result.keys == ("k0", "k2")
    assert [reject.key for reject in result.rejects] == ["k1"]
    assert said == ["left out 1 of 3 pictures that could not be read: k1"]


def test_only_bad_pictures_are_an_error(towers, make_rows):
    with pytest.raises(DataError, match=r"none of the 1 pictures .* k0"):
        retrieval(towers, make_rows([{"image": b"not a picture", "texts": ["blue"]}]))


def listening(said):
    from diptych.progress import Silent

    class Listening(Silent):
        def say(self, message):
            said.append(message)

    return Listening()
