"""Examples made of scenes for NLVR2, VCR and referring expressions, judged again from the objects alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from diptych.data.examples import COLUMNS, Task
from diptych.data.region_join import region_columns
from diptych.data.scene_examples.writing import examples_of_scenes
from diptych.data.scenes import SceneSettings, draw_scenes, easy, hard
from diptych.data.scenes.grammar import NUMBERS
from diptych.data.table import PICTURE_KEY, Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError

WORLDS = {"easy": easy(num=64, seed=5, size_px=32), "hard": hard(num=48, seed=6, size_px=32)}
A = r"an? ((?:\w+ )?\w+)"
Row = dict[str, Any]


@pytest.fixture(scope="module", params=WORLDS)
def scenes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("scenes") / request.param
    draw_scenes(folder, WORLDS[request.param], workers=1)
    return open_table(folder)


def made(scenes: Table, out: Path, task: Task) -> list[Row]:
    """All rows of a table of examples, with their splits."""
    examples_of_scenes(scenes, out, task)
    table = open_table(out)
    names = ["key", "group", "texts", *COLUMNS[task]]
    rows = [(split, table.split(split)) for split in table.splits]
    return [
        {"split": split, **dict(zip(names, of_split.values(row, names), strict=True))}
        for split, of_split in rows
        for row in range(len(of_split))
    ]


@pytest.fixture(scope="module")
def seen(scenes: Table) -> dict[str, dict[str, Row]]:
    """What each scene of each split shows, by key."""
    columns = ("key", "objects", "background")
    return {
        split: {
            values[0]: dict(zip(columns, values, strict=True))
            for row in range(num)
            for values in [scenes.split(split).values(row, columns)]
        }
        for split, num in scenes.splits.items()
    }


def named(objects: list[Row], name: str) -> int:
    """How many objects go by "star", "red thing" or "striped red star"."""
    *looks, thing = name.split(" ")
    return sum(
        thing in (one["name"], "thing") and set(looks) <= {one["colour"], one["texture"], one["size"]}
        for one in objects
    )


def holds(text: str, left: list[Row], right: list[Row]) -> bool:
    """Whether a statement is true of two pictures."""
    if match := re.fullmatch(f"both pictures show {A}", text):
        return named(left, match[1]) > 0 and named(right, match[1]) > 0
    if match := re.fullmatch(f"only one of the pictures shows {A}", text):
        return [named(left, match[1]), named(right, match[1])].count(0) == 1
    if match := re.fullmatch(f"the left picture shows {A} and the right one {A}", text):
        return named(left, match[1]) > 0 and named(right, match[2]) > 0
    if match := re.fullmatch(r"there are (\w+) things in the two pictures together", text):
        return len(left + right) == NUMBERS.index(match[1])
    difference = len(left) - len(right)
    return {
        "the left picture shows more things than the right one": difference > 0,
        "the left picture shows fewer things than the right one": difference < 0,
        "both pictures show the same number of things": difference == 0,
    }[text]


def test_a_statement_is_true_of_one_pair_and_false_of_another(scenes: Table, seen, tmp_path: Path) -> None:
    rows = made(scenes, tmp_path / "nlvr2", "nlvr2")
    assert len(rows) >= 3 * sum(scenes.splits.values()), "of most scenes two statements, each twice"
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        truths = []
        for row in (one, other):
            left, right = (seen[row["split"]][key]["objects"] for key in row["picture_key"])
            (answer,) = row["answers"]
            assert str(holds(row["texts"][0], left, right)) == answer["text"], row
            truths.append(answer["text"])
        assert set(truths) == {"True", "False"} and one["texts"] == other["texts"] and one["kind"] == other["kind"]
        same = [mine == theirs for mine, theirs in zip(one["picture_key"], other["picture_key"], strict=True)]
        assert sum(same) == 1, "the pairs have one picture in common, on the same side"
        assert all(row["picture_key"][0] != row["picture_key"][1] for row in (one, other))
    assert {row["kind"] for row in rows} == {"both", "only one", "each", "compared", "together"}
    firsts = Counter(row["answers"][0]["text"] for row in rows[::2])
    assert min(firsts.values()) > 0.3 * firsts.total(), "neither answer comes first: some rows of many stay balanced"


def told(text: str) -> list[str]:
    """The facts in an answer or a rationale: what things are called, and the background."""
    for form in (r"the (\w+) is on an? (\w+) background", r"the (\w+) is (\w+)", r"the (\w+ thing) is an? (\w+)"):
        if match := re.fullmatch(form, text):
            return [match[1], match[2]]
    match = re.fullmatch(r"because there is an? (\w+) (\w+) (\w+) on an? (\w+) background", text)
    assert match, text
    return list(match.groups())


def is_true(text: str, seen: Row) -> bool:
    *facts, last = told(text)
    if text.startswith("because"):
        return seen["background"] == last and named(seen["objects"], " ".join(facts)) == 1
    if text.endswith("background"):
        return seen["background"] == last and named(seen["objects"], facts[0]) == 1
    if facts[0].endswith(" thing"):
        return named(seen["objects"], facts[0].replace("thing", last)) == named(seen["objects"], facts[0]) == 1
    return named(seen["objects"], f"{last} {facts[0]}") == named(seen["objects"], facts[0]) == 1


def test_one_answer_and_one_rationale_are_right(scenes: Table, seen, tmp_path: Path) -> None:
    rows = made(scenes, tmp_path / "vcr", "vcr")
    assert len(rows) > 3.5 * sum(scenes.splits.values())
    for row in rows:
        (picture,) = row["picture_key"]
        truths = [is_true(option, seen[row["split"]][picture]) for option in row["options"]]
        assert truths == [place == row["right"] for place in range(4)], row
        assert len(set(row["options"])) == 4
    places = Counter(row["right"] for row in rows)
    assert len(places) == 4 and max(places.values()) < 0.4 * len(rows)


def test_a_rationale_is_asked_for_given_the_right_answer(scenes: Table, tmp_path: Path) -> None:
    rows = made(scenes, tmp_path / "vcr", "vcr")
    for answer, reason in zip(rows[::2], rows[1::2], strict=True):
        assert (answer["kind"], reason["kind"]) == ("Q->A", "QA->R")
        assert reason["key"] == answer["key"].replace(":qa", f":qar{answer['right']}")
        right = answer["options"][answer["right"]]
        assert reason["texts"] == [*answer["texts"], right]
        facts = {word for fact in told(right) for word in fact.split() if word != "thing"}
        assert all(facts <= set(told(option)) for option in reason["options"]), "none is against the answer"


def test_training_options_name_no_pair_that_training_may_not_see(scenes: Table, tmp_path: Path) -> None:
    unseen = set(scenes.meta["unseen_pairs"])
    for row in made(scenes, tmp_path / "vcr", "vcr"):
        options = [text for place, text in enumerate(row["options"]) if place != row["right"]]
        pairs = {" ".join(told(text)[1:3]) for text in options if text.startswith("because")}
        pairs |= {" ".join(reversed(told(text))) for text in options if re.fullmatch(r"the \w+ is \w+", text)}
        assert row["split"] == "unseen_pairs" or not pairs & unseen


def test_phrases_have_the_boxes_of_their_objects_as_shares(scenes: Table, tmp_path: Path) -> None:
    rows = made(scenes, tmp_path / "re", "re")
    num = 0
    for split in scenes.splits:
        of_scenes, found = scenes.split(split), [row for row in rows if row["split"] == split]
        said = [
            (key, one)
            for row in range(len(of_scenes))
            for key, phrases in [of_scenes.values(row, ["key", "referring"])]
            for one in phrases
        ]
        assert [(row["picture_key"], row["texts"]) for row in found] == [(key, [one["text"]]) for key, one in said]
        for row, (_, one) in zip(found, said, strict=True):
            assert row["box"] == pytest.approx([one[side] / 32 for side in ("x0", "y0", "x1", "y1")])
            assert all(0 <= side <= 1 for side in row["box"])
        num += len(found)
    assert num == len(rows) > 50
    kinds = {row["texts"][0]: row["kind"] for row in rows}
    for text, kind in kinds.items():
        assert (kind == "thing") == (len(text.split()) == 2)
        assert (kind == "relation") == (text.count("the ") == 2)


@pytest.mark.parametrize("task", ["nlvr2", "vcr", "re"])
def test_the_same_scenes_give_the_same_examples(scenes: Table, tmp_path: Path, task: Task) -> None:
    once, again = (made(scenes, tmp_path / name, task) for name in ("once", "again"))
    assert once == again
    assert all(row["group"] == ([row["picture_key"]] if task == "re" else row["picture_key"])[0] for row in once)


def test_a_small_world_is_asked_what_has_four_options(tmp_path: Path) -> None:
    few = SceneSettings(num=32, size_px=32, num_things=6, num_colours=6, num_backgrounds=2, num_textures=2)
    draw_scenes(tmp_path / "scenes", few, workers=1)
    rows = made(open_table(tmp_path / "scenes"), tmp_path / "vcr", "vcr")
    asked = {row["texts"][0].rsplit(" ", 1)[0] for row in rows}
    assert "what colour is the" in asked and "on what background is the" not in asked


def test_objects_of_other_pictures_are_no_scenes(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "coco", columns={"objects": pa.list_(pa.struct([("name", pa.string())]))}) as writer:
        writer.add("train", key="a", fields={"objects": [{"name": "dog"}]})
    for task in ("nlvr2", "vcr"):
        with pytest.raises(DataError, match="has no picture world behind it; expected a table of scenes"):
            examples_of_scenes(open_table(tmp_path / "coco"), tmp_path / task, task)


def test_regions_of_both_pictures_are_found(scenes: Table, tmp_path: Path, chance_regions: ModuleType) -> None:
    store = chance_regions.write_regions(scenes, tmp_path / "store")
    examples_of_scenes(scenes, tmp_path / "nlvr2", "nlvr2")
    rows = open_table(tmp_path / "nlvr2").joined(region_columns([store])).split("train")
    for row in (0, len(rows) - 1):
        sample = rows.sample(row, ("regions", PICTURE_KEY))
        for found, key in zip(sample.fields["regions"], sample.fields[PICTURE_KEY], strict=True):
            assert (found.features == store.regions(key).features).all()
