"""Rows that two towers take for each other, on pictures of one colour."""

import pytest

from diptych.errors import DataError
from diptych.tasks.alike import rows_alike


def test_pictures_and_texts_of_near_colours_are_alike_and_none_of_the_same_group(towers, make_rows, picture):
    shown = [((200, 20, 20), "red"), ((190, 60, 20), "red"), ((20, 20, 210), "blue"), ((150, 60, 90), "red")]
    rows = make_rows([{"image": picture(colour), "texts": [f"a {name} one"]} for colour, name in shown])
    found = dict(rows_alike(towers, rows, top=2))
    assert found["k0"] == ["k1", "k3"] and found["k1"] == ["k0", "k3"]
    assert found["k2"][0] == "k3", "the reddish blue is nearer to blue than the reds are"

    same = make_rows(
        [{"image": picture(colour), "texts": [name], "group": "g" if name == "red" else None} for colour, name in shown]
    )
    assert dict(rows_alike(towers, same, top=3)) == {"k0": ["k2"], "k1": ["k2"], "k2": ["k3", "k0", "k1"], "k3": ["k2"]}


def test_others_by_chance_come_behind_and_none_twice(towers, make_rows, picture):
    rows = make_rows([{"image": picture((9 * n, 200 - 9 * n, 60)), "texts": ["a green one"]} for n in range(20)])
    found = dict(rows_alike(towers, rows, top=3, others=4))
    again, alike = dict(rows_alike(towers, rows, top=3, others=4)), dict(rows_alike(towers, rows, top=3))
    assert found == again
    for key, partners in found.items():
        assert partners[:3] == alike[key] and key not in partners
        assert len(partners) == len(set(partners)) == 7
    assert len({tuple(sorted(partners[3:])) for partners in found.values()}) > 10
    assert {len(partners) for _, partners in rows_alike(towers, rows, top=30, others=40)} == {19}


def test_rows_without_a_picture_or_a_text_have_none(towers, make_rows, picture):
    rows = make_rows(
        [{"image": picture("red"), "texts": ["red"]}, {"image": picture("blue")}, {"image": None, "texts": ["blue"]},
         {"image": picture("blue"), "texts": ["blue", "a blue one"]}]
    )  # fmt: skip
    assert rows_alike(towers, rows, top=5) == [("k0", ["k3"]), ("k3", ["k0"])]
    with pytest.raises(DataError, match="no row has both"):
        rows_alike(towers, make_rows([{"image": picture("red")}, {"image": None, "texts": ["red"]}]), top=5)
