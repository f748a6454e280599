"""Rows that two towers take for each other, on pictures of one colour."""

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


def test_rows_without_a_picture_or_a_text_have_none(towers, make_rows, picture):
    rows = make_rows(
        [{"image": picture("red"), "texts": ["red"]}, {"image": picture("blue")}, {"image": None, "texts": ["blue"]},
         {"image": picture("blue"), "texts": ["blue", "a blue one"]}]
    )  # fmt: skip
    assert rows_alike(towers, rows, top=5) == [("k0", ["k3"]), ("k3", ["k0"])]
