import re
import xml.etree.ElementTree as ElementTree

from diptych.report.charts import HUES, new_chart, spread, to_svg


def drawn(name="loss", alt="from 5 to 1"):
    figure, (ax,) = new_chart()
    ax.plot([0, 1, 2], [5.0, 2.0, 0.003], color=HUES[0], marker="o")
    return to_svg(figure, name=name, alt=alt)


def test_chart_is_well_formed_and_says_what_it_shows():
    svg = ElementTree.fromstring(drawn(alt='"5" < 6 & falling')).find("svg")
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == '"5" < 6 & falling'


def test_colours_are_those_of_the_page():
    svg = drawn()
    assert "var(--hue-0)" in svg
    assert re.findall(r"(?:fill|stroke|color): *(#\w+)", svg) == [], "a fixed colour cannot follow light and dark"


def test_two_charts_share_no_ids():
    ids = [set(re.findall(r'\bid="([^"]+)"', drawn(name))) for name in ("loss", "speed")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_equal_charts_are_equal_bytes():
    assert drawn() == drawn()


def test_numbers_on_axes_keep_their_digits():
    figure, (ax,) = new_chart()
    ax.plot([0, 1], [0.0, 0.003], color=HUES[0])
    assert ">0.003<" in to_svg(figure, name="rate", alt="").replace(" ", "")


def test_spread_keeps_first_and_last():
    assert spread(range(1001), 11) == list(range(0, 1001, 100))
    assert spread([7, 8], 5) == [0, 1]
