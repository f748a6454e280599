import pytest

from diptych.report.scores import (
    Score,
    cells,
    from_plain,
    near_chance_words,
    plain,
    scores_table,
    share,
    shown_tables,
    words,
)

THINGS = share(name="things_accuracy", label="things", group="Questions", right=95, count=100, chance=1 / 14)
TEXTURES = share(name="textures_accuracy", label="textures", group="Questions", right=36, count=100, chance=1 / 3)
RANK = Score(name="median", label="median rank", group="Retrieval", value=12.5, count=500, unit="rank")


def test_what_a_guess_could_reach_is_named():
    assert not THINGS.near_chance
    assert TEXTURES.near_chance
    assert near_chance_words([THINGS, TEXTURES]).startswith("Near chance: textures.")
    assert near_chance_words([THINGS, RANK]) is None


def test_worse_than_chance_is_not_near_chance():
    assert not share(name="x", label="x", group="g", right=10, count=100, chance=0.5).near_chance


def test_there_and_back():
    assert from_plain(plain([THINGS, RANK])) == [THINGS, RANK]


def test_page_and_terminal_show_the_same_words(read_html):
    shown = read_html(scores_table([RANK, THINGS, TEXTURES])).cells
    rows = [row for part in shown_tables([RANK, THINGS, TEXTURES]) for row in part.rows]
    assert [tuple(cell.strip() for cell in row) for row in shown.values()] == rows
    assert cells(THINGS) == ("things", "95.0 %", "7.1 %", "88.8 to 97.8", "100")


def test_marks_stand_beside_what_is_near_chance():
    assert scores_table([THINGS]).count("near chance") == 0
    assert scores_table([TEXTURES]).count("near chance") == 1


@pytest.mark.parametrize(
    ("value", "unit", "told"), [(1.0, "share", "100.0 %"), (1.0, "rank", "1"), (None, "share", "–")]
)
def test_words(value, unit, told):
    assert words(value, unit) == told
