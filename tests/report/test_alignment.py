"""The picture of words and regions: what stands in it, and that texts cannot break the page."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from diptych.report.alignment import MOST_REGIONS, Aligned, alignment_section


def aligned(num: int = 3, words: tuple[str, ...] = ("a", "red", "##dish", "<b>"), key: str = "k<1>") -> Aligned:
    shares = np.full((len(words), num), 0.04 / max(num - 1, 1))
    shares[:, num - 1] = 0.96
    return Aligned(
        key=key,
        picture=Image.new("RGB", (40, 30), "teal"),
        boxes=np.tile([0.1, 0.2, 0.5, 0.9], (num, 1)),
        names=[f"thing {row}" for row in range(num)],
        words=words,
        shares=shares,
        remark="matches: 97 of 100",
    )


def test_words_stand_by_regions_the_one_that_has_most_first():
    body = alignment_section("Words and regions", "The plan.", [aligned()]).body
    heads = re.findall(r'<div class="turned">([^<]*)</div>', body)
    assert heads == ["1 thing 2", "2 thing 0", "3 thing 1"]
    assert body.count('scope="row"') == 4 and body.count(">96<") == 4
    assert "a reddish &lt;b&gt;" in body and "matches: 97 of 100" in body


def test_what_a_text_says_is_no_markup():
    body = alignment_section("Words and regions", "The plan.", [aligned()]).body
    assert "<b>" not in body and "k<1>" not in body


def test_of_many_regions_those_that_matter_are_drawn():
    body = alignment_section("Words and regions", "The plan.", [aligned(num=40)]).body
    assert body.count("<rect") == MOST_REGIONS == body.count("turned")
    assert "1 thing 39" in body
