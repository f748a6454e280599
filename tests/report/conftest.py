"""A small retrieval whose answers can be read: one axis a picture, some texts turned towards the wrong one."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from diptych.metrics.recall import ranks_in_tiles
from diptych.report.found import Found
from diptych.report.pictures import Picture

VOID = {"meta", "img", "br", "path", "use"}


class Reader(HTMLParser):
    """Tags in their order, with a check that every one that opens also closes."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.words, self.cells = [], [], [], {}
        self._score, self._cell = None, None

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self._score = attributes.get("data-score")
        if tag in ("td", "th") and self._score:
            self.cells.setdefault(self._score, []).append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes something else"
        if tag == "tr":
            self._score = None

    def handle_data(self, data):
        self.words.append(data)
        if self._score and self.open and self.open[-1] in ("td", "th", "strong"):
            self.cells[self._score][-1] += data


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def read_html():
    return read


@pytest.fixture
def make_found():
    """5 pictures and 5 texts by default; `wrong` maps a text to the picture that its vector leans to."""

    def make(num=5, wrong=None, texts=None, labels=(), label_names=(), scale=10.0):
        image = torch.eye(num)
        text = torch.eye(num)
        for row, other in (wrong or {}).items():
            text[row, other] = 2.0
        text = F.normalize(text, dim=1)
        own = [[row] for row in range(num)]
        return Found(
            image=image,
            text=text,
            texts=list(texts or [f"text {row}" for row in range(num)]),
            pictures_of_text=own,
            texts_of_picture=own,
            text_ranks=ranks_in_tiles(text, image, own),
            image_ranks=ranks_in_tiles(image, text, own),
            picture=lambda row: Picture(key=f"k{row}", source=Image.new("RGB", (9, 7), (20 * row % 255, 90, 40))),
            scale=scale,
            labels=labels,
            label_names=label_names,
        )

    return make
