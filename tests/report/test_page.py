from hypothesis import given
from hypothesis import strategies as st

from diptych.report.page import Page, Section, missing, render


def test_headline_is_the_first_thing_said(read_html):
    html = render(Page(kicker="run", headline="The right picture comes first", lead=["It finished."]))
    words = [
        word.strip()
        for word in read_html(
            html[html.index("<body>") :].replace("</html>", "").replace("<body>", "").replace("</body>", "")
        ).words
        if word.strip()
    ]
    assert words[:3] == ["run", "The right picture comes first", "It finished."]


def test_page_loads_nothing_and_runs_nothing(read_html):
    section = Section(title="Loss & more", how_to_read="lower is better", body="<p>x</p>")
    html = render(Page(kicker="k", headline="h", sections=[section]))
    tags = read_html(html.split("\n", 1)[1]).tags
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe", "object")]
    assert "default-src 'none'" in html
    assert "http://" not in html
    assert "https://" not in html


def test_contents_lead_to_their_sections(read_html):
    sections = [Section(title=title, how_to_read="how", body="") for title in ("Loss", "Recall at every k")]
    tags = read_html(render(Page(kicker="k", headline="h", sections=sections)).split("\n", 1)[1]).tags
    links = [attributes["href"][1:] for tag, attributes in tags if tag == "a"]
    assert links == [attributes["id"] for tag, attributes in tags if tag == "section"] == ["loss", "recall-at-every-k"]


@given(st.text())
def test_no_text_becomes_markup(text):
    shown = f"<script>{text}</script><img src=x onerror=alert(1)>"
    html = render(Page(kicker=shown, headline=shown, lead=[shown], figures=[(shown, shown)],
                       sections=[missing(shown, shown, shown)]))  # fmt: skip
    assert "<script" not in html
    assert "<img" not in html


def test_a_missing_part_says_why():
    section = missing("Calibration", "how", "the model does not say its scale.")
    assert "Not shown: the model does not say its scale." in section.body
