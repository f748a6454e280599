import pytest

from diptych.report.mistakes import confused_pairs, hardest_failures, most_confused, nearest_wrong


def test_nearest_wrong_is_what_the_text_leans_to(make_found):
    found = make_found(num=6, wrong={1: 4})
    by_text = {one.text: one for one in nearest_wrong(found)}
    assert (by_text[1].right, by_text[1].wrong) == (1, 4)
    assert by_text[1].margin == pytest.approx(1 / 5**0.5)
    assert by_text[0].margin == -1.0


@pytest.mark.parametrize("tile", [1, 2, 1024])
def test_tiles_change_nothing(make_found, tile):
    found = make_found(num=7, wrong={1: 4, 5: 2})
    assert nearest_wrong(found, tile) == nearest_wrong(found)


def test_pictures_taken_for_each_other_are_one_pair_and_come_first(make_found):
    found = make_found(num=7, wrong={1: 4, 4: 1, 5: 2})
    (one, other), (lone, none) = most_confused(nearest_wrong(found))
    assert {one.right, one.wrong} == {other.right, other.wrong} == {1, 4}
    assert (lone.right, lone.wrong, none) == (5, 2, None)


def test_only_texts_that_go_wrong_are_confused(make_found):
    assert most_confused(nearest_wrong(make_found())) == []
    assert "No text comes closer" in confused_pairs(make_found(), nearest_wrong(make_found())).body


def test_hardest_failures_come_hardest_first(make_found, read_html):
    found = make_found(num=6, wrong={2: 0})
    body = hardest_failures(found, nearest_wrong(found)).body
    assert body.count("<li>") == 1
    assert "right, but 2nd" in body
    assert "text 2" in body
    alts = [attributes["alt"] for tag, attributes in read_html(body).tags if tag == "img"]
    assert alts == ["right: text 2", "wrong: text 0"]


def test_a_picture_that_is_always_right_has_no_wrong_one(make_found):
    assert nearest_wrong(make_found(num=1)) == []
