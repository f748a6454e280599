"""Phrases and regions, of a model that is written down; what leaderboards take."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diptych.data.choosing import rows_of_question
from diptych.data.examples import COLUMNS, Example, write_example
from diptych.data.regions import Regions
from diptych.data.sample import Sample
from diptych.data.table import Rows, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.tasks.answering import Answered, answering, answering_scores
from diptych.tasks.referring import Pointed, referring, referring_scores
from diptych.tasks.submission import answers_file, boxes_file

BOXES = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 0.4], [0.9, 0.0, 1.0, 0.1]]


class AlikeRegions:
    """Four regions for every picture."""

    path, columns = Path("nowhere"), ("regions", "tags")

    def stored(self, key: str, column: str) -> Regions:
        boxes = np.array(BOXES, dtype=np.float32)
        return Regions(height_px=1, width_px=1, boxes=boxes, features=np.zeros((4, 2), np.float32), scores=boxes[:, 0])


class Points:
    """Always at the region of the number that the text is."""

    name = "written down"

    def point(self, samples: Sequence[Sample]) -> list[Tensor]:
        return [torch.nn.functional.one_hot(torch.tensor(int(sample.texts[0])), 4).float() for sample in samples]


def phrases(folder: Path, told: bool = True) -> Rows:
    meant = {"0": BOXES[0], "1": BOXES[0], "2": BOXES[0], "3": [0.0, 0.6, 0.3, 0.9]}
    with TableWriter(folder / "table", columns=COLUMNS["re"]) as writer:
        for text, box in meant.items():
            known: Any = tuple(box) if told else None
            write_example(
                writer, "re", "test", Example(key=f"7{text}", pictures=("a",), texts=(text,), kind="", box=known)
            )
    return open_table(folder / "table").joined(AlikeRegions()).split("test")


def test_a_region_is_right_where_it_overlaps_by_more_than_half(tmp_path: Path) -> None:
    found = referring(Points(), phrases(tmp_path))
    # The third overlaps by 0.2 / 0.25; the last phrase means what no region is.
    assert [one.overlap for one in found] == pytest.approx([1.0, 0.0, 0.8, 0.0])
    assert [one.right for one in found] == [True, False, True, False]
    assert [one.hits for one in found] == [0.5, 0.5, 0.5, 0.0]
    every, reachable = referring_scores(found)
    assert (every.value, every.chance, every.count) == (0.5, 0.375, 4)
    assert (reachable.value, reachable.count) == (pytest.approx(2 / 3), 3)
    assert reachable.chance == pytest.approx(0.5)


def test_a_box_that_overlaps_by_half_is_wrong() -> None:
    half = Pointed(key="a", text="", kind="", box=(0, 0, 1, 1), overlap=0.5, hits=0)
    assert not half.right


def test_boxes_are_written_where_nobody_tells_them(tmp_path: Path) -> None:
    found = referring(Points(), phrases(tmp_path, told=False))
    assert {one.overlap for one in found} == {None}
    with pytest.raises(DataError, match="no row tells which box is meant"):
        referring_scores(found)
    written = json.loads(boxes_file(found))
    assert written == [{"sent_id": 70 + place, "box": box} for place, box in enumerate(BOXES)]


# -- VCR's options


@dataclass
class Chooses:
    """The option at a place that the row's kind says."""

    places: dict[str, int]
    name: str = "written down"
    answers: tuple[str, ...] = ()
    reads_options: bool = True

    def answer(self, samples: Sequence[Sample]) -> Tensor:
        chosen = torch.tensor([self.places[sample.fields["kind"]] for sample in samples])
        return 5.0 * torch.nn.functional.one_hot(chosen, 4)


def questions(folder: Path, rights: Sequence[tuple[int | None, int | None]]) -> Rows:
    with TableWriter(folder / "table", columns=COLUMNS["vcr"]) as writer:
        for number, (right, rationale) in enumerate(rights):
            rows = rows_of_question(
                f"val-{number}", ("a", "b"), "who?", "ABCD", "efgh", right=right, right_rationale=rationale
            )
            for example in rows:
                write_example(writer, "vcr", "test", example)
    return open_table(folder / "table").joined(AlikeRegions()).split("test")


def test_a_right_answer_needs_the_right_reason_too(tmp_path: Path) -> None:
    rows = questions(tmp_path, [(1, 2), (1, 0), (3, 2), (0, 0)])
    found = answering(Chooses({"Q->A": 1, "QA->R": 2}), rows)
    assert [(one.answer, one.right) for one in found[:2]] == [("B", "B"), ("g", "g")]
    assert found[1].text == "who? B"
    scores = {score.label: (score.value, score.count) for score in answering_scores(found)}
    assert scores == {"all kinds": (0.5, 8), "Q->A": (0.5, 4), "QA->R": (0.5, 4), "Q->AR": (0.25, 4)}
    assert {score.label: score.chance for score in answering_scores(found)} == {
        **dict.fromkeys(("all kinds", "Q->A", "QA->R"), 0.25),
        "Q->AR": 0.0625,
    }
    assert {score.name for score in answering_scores(found)} >= {"accuracy", "Q_to_AR_accuracy"}


def test_vcrs_table_has_every_rationale_given_every_answer(tmp_path: Path) -> None:
    found = answering(Chooses({"Q->A": 1, "QA->R": 2}), questions(tmp_path, [(None, None)] * 2), scored=False)
    rows = list(csv.DictReader(io.StringIO(answers_file(found, ()))))
    assert [row["annot_id"] for row in rows] == ["val-0", "val-1"]
    assert len(rows[0]) == 1 + 4 + 16 and all(rows[0].values())
    likely, other = 0.980186, 0.006605  # e^5 : 1 : 1 : 1
    assert [float(rows[0][f"answer_{place}"]) for place in range(4)] == pytest.approx(
        [other, likely, other, other], abs=2e-6
    )
    for given in range(4):
        assert float(rows[1][f"rationale_conditioned_on_a{given}_2"]) == pytest.approx(likely, abs=2e-6)


def test_a_table_without_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no column 'options'"):
        answering(Chooses({}), phrases(tmp_path))


def said(key: str, answer: str) -> Answered:
    return Answered(key=key, text="", kind="", answer=answer, right="", worth=None, usual=None)


def test_the_forms_of_the_other_servers() -> None:
    assert answers_file([said("dev-0-1-0", "True"), said("dev-1-1-0", "False")], ("False", "True")) == (
        "dev-0-1-0,True\ndev-1-1-0,False\n"
    )
    written = json.loads(answers_file([said(key, "blue") for key in ("42001", "007", "0", "q7")], ("red", "blue")))
    assert [one["question_id"] for one in written] == [42001, "007", 0, "q7"]
    assert {one["answer"] for one in written} == {"blue"}


def test_rows_that_do_not_tell_what_is_meant_are_refused_before_they_are_asked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no column 'box'; expected phrases"):
        referring(Points(), questions(tmp_path, [(0, 0)]))
