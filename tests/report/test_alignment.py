"""The picture of words and regions: what stands in it, and that texts cannot break the page."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from diptych.report.alignment import MOST_REGIONS, Aligned, alignment_section


def aligned(num: int = 3, words: tuple[str, ...] = ("a", "red", "##dish", "<b>"), key: str = "k<1>") -> Aligned:
    shares = np.full((len(words), num), 0.04 / max(num - 1, 1))
    shares[:, num - 1] = 0.96
    attention = np.linspace(0.001, 0.2, 2 * shares.size).reshape(2, *shares.shape)
    return Aligned(
        key=key,
        picture=Image.new("RGB", (40, 30), "teal"),
        boxes=np.tile([0.1, 0.2, 0.5, 0.9], (num, 1)),
        names=[f"thing {row}" for row in range(num)],
        words=words,
        shares=shares,
        attention=attention,
        attention_back=attention / 2,
        remark="matches: 97 of 100",
    )


def test_words_stand_by_regions_the_one_that_has_most_first():
    body = alignment_section("Words and regions", "The plan.", [aligned()]).body
    heads = re.findall(r'<div class="turned">([^<]*)</div>', body)
    assert heads == 2 * ["1 thing 2", "2 thing 0", "3 thing 1"]  # of the plan, and of the last layer
    assert body.count('scope="row"') == 8 and body.count(">96<") == 4
    assert "a reddish &lt;b&gt;" in body and "matches: 97 of 100" in body


def test_what_a_text_says_is_no_markup():
    body = alignment_section("Words and regions", "The plan.", [aligned()]).body
    assert "<b>" not in body and "k<1>" not in body


def test_of_many_regions_those_that_matter_are_drawn():
    body = alignment_section("Words and regions", "The plan.", [aligned(num=40)]).body
    boxes = re.findall(r'<rect style="--hue', body)
    assert len(boxes) == MOST_REGIONS == body.count("turned") / 2
    assert "1 thing 39" in body


def test_attention_stands_in_numbers_of_the_last_layer_and_in_small_of_all():
    body = alignment_section("Words and regions", "The plan.", [aligned()]).body
    _, last, small = re.split(r"<table|Attention by layer", body)[1:]
    numbers = re.findall(r"<td[^>]*>([^<]*)</td>", last)
    assert numbers[-3:] == ["20", "18", "19"]  # the last word's, in the order of the columns
    grids = re.findall(r'aria-label="layer (\d): words by row, regions by column">(.*?)</svg>', small)
    assert [layer for layer, _ in grids] == ["1", "2", "1", "2"]  # words to regions, regions to words
    strengths = [[int(one) for one in re.findall(r"--v:(\d+)", grid)] for _, grid in grids]
    assert [len(one) for one in strengths] == [12] * 4
    assert max(strengths[1]) == 100 and max(strengths[3]) == 50, "all grids of a pair have one scale"
    assert all(max(one) == one[9] for one in strengths)  # the last word's first column, which is region 2
