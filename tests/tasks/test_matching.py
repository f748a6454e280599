"""Tasks of models that read text and regions at once, asked of one that knows colours from features."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from diptych.data.region_join import join_regions
from diptych.data.regions import Regions, RegionSpec
from diptych.errors import DataError, UsageError
from diptych.tasks.asked import Asked
from diptych.tasks.choices import choices
from diptych.tasks.evaluation import evaluate
from diptych.tasks.matching import matching

COLOURS = ("red", "green", "blue")
COLUMNS = {
    "choices": pa.list_(pa.struct([("kind", pa.string()), ("texts", pa.list_(pa.string())), ("answer", pa.int32())]))
}
SPEC = RegionSpec(
    detector="by hand", detector_hash="", rule="all", feature_kind="colours", feature_width=3, box_kind="proposal"
)


class ByHand:
    """A store of one region a picture, whose features say its colour."""

    spec = SPEC

    def __init__(self, path, colours):
        self.path, self.colours = path, colours

    def __contains__(self, key):
        return key in self.colours

    def keys(self):
        return iter(self.colours)

    def regions(self, key):
        features = np.eye(3, dtype=np.float16)[[COLOURS.index(self.colours[key])]]
        boxes, scores = np.array([[0, 0, 6, 5]], np.float32), np.ones(1, np.float32)
        return Regions(boxes=boxes, features=features, scores=scores, height_px=6, width_px=8)


class ColourMatcher:
    """High odds where the text names the region's colour."""

    name = "colours"

    def fingerprint(self):
        return "colours"

    def match(self, samples, texts, pairs, progress=None):
        odds = []
        for sample, text in pairs:
            colour = COLOURS[int(samples[sample].fields["regions"].features[0].argmax())]
            odds.append(2.0 if colour in texts[text].split() else -1.0)
        return torch.tensor(odds)


@pytest.fixture
def rows(make_rows, tmp_path):
    asked = {"kind": "colours", "texts": ["red", "green", "blue"]}
    table = [("red", 0), ("blue", 2), ("green", 0)]  # the last question's answer is wrong
    found = make_rows(
        [{"texts": [f"a {one}"], "fields": {"choices": [{**asked, "answer": answer}]}} for one, answer in table],
        columns=COLUMNS,
    )
    return join_regions(found, [ByHand(tmp_path, {f"k{place}": one for place, (one, _) in enumerate(table)})])


def test_questions_are_answered_by_the_odds(rows):
    result = choices(ColourMatcher(), rows)
    assert [question.chosen for question in result.questions] == [0, 2, 1]
    assert [(kind.kind, kind.num, kind.hits) for kind in result.kinds] == [("colours", 3, 2)]


def test_every_text_fits_its_own_picture_better(rows):
    result = matching(ColourMatcher(), rows)
    assert result.keys == ("k0", "k1", "k2") and result.margins == (3.0, 3.0, 3.0)
    assert all(own != other for own, other in zip(result.keys, result.others, strict=True))
    (score,) = result.scores()
    assert (score.value, score.chance, score.count) == (1.0, 0.5, 3)


def test_a_tie_counts_against_the_model(rows):
    class Blind(ColourMatcher):
        def match(self, samples, texts, pairs, progress=None):
            return torch.zeros(len(pairs))

    assert matching(Blind(), rows).right == 0


def test_one_picture_cannot_be_told_from_another(make_rows, tmp_path):
    alone = join_regions(make_rows([{"texts": ["a red"]}]), [ByHand(tmp_path, {"k0": "red"})])
    with pytest.raises(DataError, match="no two pictures with texts"):
        matching(ColourMatcher(), alone)


def test_tasks_are_told_what_they_can_be_asked_of(rows, towers):
    class Table:
        path = "here"

        def split(self, name):
            return rows

    found = evaluate("matching", ColourMatcher(), Table(), Asked())
    assert found.headline == "Of two pictures, 100 of 100 texts fit their own better; guessing gets 50"
    with pytest.raises(
        UsageError,
        match="colours is a model that reads text and regions at once; choose of retrieval, choices, matching",
    ):
        evaluate("zero_shot", ColourMatcher(), Table(), Asked())
    found = evaluate("retrieval", ColourMatcher(), Table(), Asked())
    assert found.headline.startswith("The right picture, of 3, comes first for 100 of 100 texts")
    with pytest.raises(UsageError, match="has two towers; choose of"):
        evaluate("matching", towers, Table(), Asked())
