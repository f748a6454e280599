import pytest

from diptych.report.found import drawn
from diptych.report.grids import found_for_pictures, found_for_texts, ordinal, texts_by_pictures
from diptych.report.pictures import Picture, image_tag


def test_the_right_picture_is_marked_in_its_place(make_found, read_html):
    body = found_for_texts(make_found(num=9, wrong={0: 3}), seed=0, num=9).body
    assert body.count('class="right"') == body.count("✓ right") == 9
    first = read_html(body[: body.index("</ol>") + 5] + "</div>")
    places = [attributes["alt"] for tag, attributes in first.tags if tag == "img"]
    assert places[0] == "wrong picture in place 1: text 3"
    assert places[1] == "right picture in place 2: text 0"
    assert "The right picture comes 2nd." in body


def test_every_picture_has_an_alternative_text(make_found, read_html):
    found = make_found(num=9)
    for section in (
        found_for_texts(found, seed=1),
        found_for_pictures(found, seed=1),
        texts_by_pictures(found, seed=1),
    ):
        images = [attributes for tag, attributes in read_html(section.body).tags if tag == "img"]
        assert images
        assert all(attributes["alt"] and attributes["src"].startswith("data:image/webp") for attributes in images)


def test_the_seed_is_stated_and_decides(make_found):
    found = make_found(num=40)
    assert "seed 3" in found_for_texts(found, seed=3).how_to_read
    assert found_for_texts(found, seed=3) == found_for_texts(found, seed=3)
    assert found_for_texts(found, seed=3) != found_for_texts(found, seed=4)


def test_drawn_rows_are_different_and_never_more_than_there_are():
    assert drawn(8, 5, seed=0, purpose="texts") == [0, 1, 2, 3, 4]
    rows = drawn(8, 500, seed=0, purpose="texts")
    assert len(set(rows)) == 8
    assert rows != drawn(8, 500, seed=0, purpose="pictures")


def test_the_diagonal_of_the_matrix_is_outlined(make_found):
    body = texts_by_pictures(make_found(num=6), seed=0, num=6).body
    assert body.count('class="own') == 6


def test_texts_are_never_markup(make_found):
    found = make_found(num=6, texts=["<script>alert(1)</script>"] * 6)
    for section in (
        found_for_texts(found, seed=0),
        found_for_pictures(found, seed=0),
        texts_by_pictures(found, seed=0),
    ):
        assert "<script" not in section.body


def test_a_damaged_picture_says_so_in_its_place():
    tag = image_tag(Picture(key="k1", source=b"no picture"), alt="x")
    assert "<img" not in tag
    assert "note" in tag
    assert "k1" in image_tag(Picture(key="k1", source=None), alt="x")


@pytest.mark.parametrize(("rank", "told"), [(1, "1st"), (11, "11th"), (22, "22nd"), (1003, "1,003rd")])
def test_ordinal(rank, told):
    assert ordinal(rank) == told
