"""Examples of scenes: every question with its answer, and the regions of the picture it is about."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from diptych.data.example_files import examples_of_files
from diptych.data.examples import ANSWERS, KIND, answer_names, answer_scores
from diptych.data.region_join import region_columns
from diptych.data.scene_examples.writing import examples_of_scenes
from diptych.data.scenes import draw_scenes, easy
from diptych.data.scenes.palette import COLOURS
from diptych.data.show import describe
from diptych.data.swapped import SWAPPED
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError, RunExistsError, UsageError


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("scenes") / "scenes"
    draw_scenes(folder, easy(num=24, seed=5, size_px=32), workers=1)
    return open_table(folder)


def examples(scenes: Table, folder: Path, task) -> Table:
    examples_of_scenes(scenes, folder / task, task)
    return open_table(folder / task)


def test_every_question_is_a_row_of_its_scenes_split(scenes: Table, tmp_path: Path) -> None:
    found = examples(scenes, tmp_path, "vqa")
    for split in scenes.splits:
        rows, of_scenes = found.split(split), scenes.split(split)
        asked = [
            (key, one["question"], one["answer"], one["kind"])
            for row in range(len(of_scenes))
            for key, questions in [of_scenes.values(row, ["key", "questions"])]
            for one in questions
        ]
        told = [rows.sample(row, (ANSWERS, KIND, "picture_key")) for row in range(len(rows))]
        assert [
            (one.fields["picture_key"], one.texts[0], one.fields[ANSWERS][0]["text"], one.fields[KIND]) for one in told
        ] == asked
        assert all(one.group == one.fields["picture_key"] and one.image is None for one in told)


def test_statements_are_entailed_or_contradicted(scenes: Table, tmp_path: Path) -> None:
    rows = examples(scenes, tmp_path, "ve").split("train")
    statements = [one for row in range(len(scenes.split("train"))) for one in said(scenes, row)]
    assert [rows.values(row, [ANSWERS])[0][0]["text"] == "entailment" for row in range(len(rows))] == statements
    assert set(answer_names(rows)) == {"entailment", "contradiction"}


def said(scenes: Table, row: int) -> list[bool]:
    return [one["truth"] for one in scenes.split("train").values(row, ["statements"])[0]]


def test_regions_are_found_by_the_picture(scenes: Table, tmp_path: Path, chance_regions: ModuleType) -> None:
    store = chance_regions.write_regions(scenes, tmp_path / "store")
    rows = examples(scenes, tmp_path, "vqa").joined(region_columns([store])).split("train")
    for row in range(5):
        sample = rows.sample(row, ("regions", "picture_key"))
        assert (sample.fields["regions"].features == store.regions(sample.fields["picture_key"]).features).all()


def test_swapped_colours_are_none_that_a_scene_shows(tmp_path: Path) -> None:
    draw_scenes(tmp_path / "scenes", easy(num=400, seed=5, size_px=32), workers=1)
    scenes = open_table(tmp_path / "scenes")
    rows, of_scenes = examples(scenes, tmp_path, "swapped").split("train"), scenes.split("train")
    kinds = set()
    for row in range(len(rows)):
        text = rows.sample(row).texts[0]
        picture, swapped, kind = rows.values(row, ["picture_key", SWAPPED, KIND])
        (place,) = of_scenes.find([picture])
        assert text in of_scenes.sample(place).texts and swapped[0]
        (objects,) = of_scenes.values(place, ["objects"])
        there = {f"{one['colour']} {one['name']}" for one in objects}
        named = [{f"{a} {b}" for a, b in pairwise(one.split()) if a in COLOURS} - there for one in (text, *swapped[0])]
        assert not named[0], "a true text"
        kinds |= {(kind, bool(wrong)) for wrong in named[1:]}
    assert kinds == {("relation", True), ("relation", False)}


def test_swapped_texts_are_made_of_any_table(scenes: Table, tmp_path: Path) -> None:
    both = ["a hat on a dog", "a dog on a hat"]
    with TableWriter(tmp_path / "plain") as writer:
        for key, texts in (("a", ["red", "a hat on a cat"]), ("b", ["a cat on a hat"]), ("c", ["a cat"]), ("d", both)):
            writer.add("train", key=key, texts=texts, group="hats" if key == "a" else None)
    rows = examples(open_table(tmp_path / "plain"), tmp_path, "swapped").split("train")
    told = [rows.sample(row, (SWAPPED,)) for row in range(len(rows))]
    assert [one.texts[0] for one in told] == ["a hat on a cat", "a cat on a hat"], "not what a row says of itself"
    assert [(one.key, one.group, list(one.fields[SWAPPED][0])) for one in told] == [
        ("a-swapped1", "hats", ["a cat on a hat"]),
        ("b-swapped0", "b", ["a hat on a cat"]),
    ]
    examples(scenes, tmp_path, "ve")
    assert describe(open_table(tmp_path / "swapped")).holds == "swapped"
    for made in ("swapped", "ve"):
        with pytest.raises(DataError, match="is made of another table"):
            examples_of_scenes(open_table(tmp_path / made), tmp_path / "out", "swapped")
    with TableWriter(tmp_path / "dull") as writer:
        writer.add("train", key="a", texts=["a cat"])
    with pytest.raises(DataError, match="has nothing to ask for 'swapped'; expected"):
        examples_of_scenes(open_table(tmp_path / "dull"), tmp_path / "out", "swapped")
    with pytest.raises(UsageError, match="is no table; expected one for 'swapped'"):
        examples_of_files(tmp_path / "plain", tmp_path / "out", "swapped")


def test_answers_come_by_how_often_they_are_given(tmp_path: Path) -> None:
    import pyarrow as pa

    columns = {ANSWERS: pa.list_(pa.struct([("text", pa.string()), ("score", pa.float32())]))}
    with TableWriter(tmp_path / "table", columns=columns) as writer:
        for number, given in enumerate((["red"], ["two", "blue"], None, ["blue"], ["two"])):
            answers = None if given is None else [{"text": one, "score": 0.5} for one in given]
            writer.add("train", key=str(number), texts=["?"], fields={ANSWERS: answers})
    rows = open_table(tmp_path / "table").split("train")
    assert answer_names(rows) == ("blue", "two", "red")
    assert answer_names(rows, most=2) == ("blue", "two")


def test_an_answer_that_is_not_known_is_worth_nothing() -> None:
    given = [{"text": "blue", "score": 0.75}, {"text": "azure", "score": 0.25}]
    assert answer_scores(given, ("red", "blue")) == [0.0, 0.75]
    assert answer_scores([], ("red", "blue")) == [0.0, 0.0]
    assert answer_scores(None, ("red", "blue")) is None


def test_pictures_alone_have_nothing_to_ask(tmp_path: Path, scenes: Table) -> None:
    with TableWriter(tmp_path / "plain") as writer:
        writer.add("train", key="a", texts=["a hat"])
    with pytest.raises(DataError, match="no column 'questions'; expected a table of scenes"):
        examples_of_scenes(open_table(tmp_path / "plain"), tmp_path / "out", "vqa")
    with pytest.raises(RunExistsError, match="is there already"):
        examples_of_scenes(scenes, tmp_path / "plain", "ve")
