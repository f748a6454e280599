"""What every task owes the command line and the report, asked of a model that has learned nothing."""

from __future__ import annotations

import copy
import io
import json
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from PIL import Image

from diptych import systems
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.detector.own import OwnDetector
from diptych.errors import UsageError
from diptych.report.scores import plain
from diptych.tasks.asked import Asked, Evaluation
from diptych.tasks.asking import NAMES, OF_DETECTORS, OF_TOWERS
from diptych.tasks.encoder import DualEncoder
from diptych.tasks.evaluation import evaluate, possible
from diptych.tasks.fused_matcher import FusedMatcher

DOCS = Path(__file__).parents[2] / "docs"

ASKED = Asked(limit=24)


def picture(key: str) -> bytes:
    """A picture of one colour, another for each key."""
    out = io.BytesIO()
    Image.new("RGB", (7, 5), f"hsl({7 * sum(key.encode()) % 360}, 80%, 50%)").save(out, "PNG")
    return out.getvalue()


pytestmark = pytest.mark.parametrize("task", NAMES)

TUNED = {"answers": "tiny_vqa", "referring": "tiny_re"}
"""Tasks that a model is fine-tuned for, with a recipe."""


@pytest.fixture(scope="module")
def models(build) -> dict[str, Any]:
    """What each task is asked of."""
    towers, finds = build(systems.recipe("clip", "tiny")), build(systems.recipe("detector", "tiny"))
    encoder = DualEncoder(towers.model, towers.inputs, torch.device("cpu"), "untrained")
    detector = OwnDetector(finds.model, finds.inputs, torch.device("cpu"), "untrained")
    reads_both = build(systems.recipe("uniter", "tiny"))
    matcher = FusedMatcher(reads_both.model, reads_both.inputs, torch.device("cpu"), "untrained")
    tuned = {task: build(systems.recipe("uniter", recipe)) for task, recipe in TUNED.items()}
    of_tuned = {
        task: FusedMatcher(job.model, job.inputs, torch.device("cpu"), "untrained") for task, job in tuned.items()
    }
    of_others = {**dict.fromkeys(OF_DETECTORS, detector), "matching": matcher, **of_tuned}
    return {task: of_others.get(task, encoder) for task in NAMES}


@pytest.fixture(scope="module")
def by_class(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Four classes, one behind the other in every split, with a text and a question each."""
    folder = tmp_path_factory.mktemp("ordered") / "table"
    names = ["red", "green", "blue", "white"]
    kind = pa.list_(pa.struct([("kind", pa.string()), ("texts", pa.list_(pa.string())), ("answer", pa.int32())]))
    with TableWriter(folder, columns={"choices": kind}, meta={"label_names": names}) as writer:
        for split, row in product(("train", "validation", "test"), range(40)):
            label, key = row // 10, f"{split}-{row}"
            question = {"kind": "colours", "texts": names, "answer": label}
            texts, fields = [f"{names[label]} {row}"], {"choices": [question]}
            writer.add(split, key=key, image=picture(key), texts=texts, label=label, fields=fields)
    return open_table(folder)


@pytest.fixture(scope="module")
def tables(world: Table, table_for) -> dict[str, Table]:
    """What each task asks about."""
    tuned = {task: table_for(systems.recipe("uniter", recipe)) for task, recipe in TUNED.items()}
    return {task: tuned.get(task, world) for task in NAMES}


@pytest.fixture(scope="module")
def found(models: dict[str, Any], tables: dict[str, Table]) -> dict[str, Evaluation]:
    return {task: evaluate(task, models[task], tables[task], ASKED) for task in NAMES}


def test_numbers_are_within_their_range(task: str, found: dict[str, Evaluation]) -> None:
    scores = found[task].scores
    assert scores
    for score in scores:
        assert score.count > 0 and score.label and score.group
        if score.unit == "rank":
            assert 1 <= score.value <= score.count
            continue
        assert 0 <= score.value <= 1 and (score.chance is None or 0 < score.chance <= 1)
        assert (score.low is None) == (score.high is None)
        assert score.low is None or score.high is None or 0 <= score.low <= score.value <= score.high <= 1


def test_everything_is_json(task: str, found: dict[str, Evaluation]) -> None:
    written = json.dumps({"results": plain(found[task].scores), "details": found[task].details}, allow_nan=False)
    results = json.loads(written)["results"]
    assert len(results) == len(found[task].scores), "two numbers of one name"
    assert all({"value", "chance", "count", "unit", "label"} <= one.keys() for one in results.values())


def test_the_headline_is_a_sentence(task: str, found: dict[str, Evaluation]) -> None:
    headline = found[task].headline
    assert headline[0].isupper() and "\n" not in headline and "nan" not in headline
    assert any(figure.isdigit() for figure in headline)


def test_asked_twice_it_answers_the_same(
    task: str, models: dict[str, Any], tables: dict[str, Table], found: dict[str, Evaluation]
) -> None:
    again = evaluate(task, models[task], tables[task], ASKED)
    assert (again.scores, again.details) == (found[task].scores, found[task].details)


def test_a_limit_asks_fewer(
    task: str, models: dict[str, Any], tables: dict[str, Table], found: dict[str, Evaluation]
) -> None:
    few = evaluate(task, models[task], tables[task], Asked(limit=5))
    assert max(score.count for score in few.scores) < max(score.count for score in found[task].scores)


def test_a_limit_asks_rows_of_every_class(task: str, models: dict[str, Any], by_class: Table) -> None:
    """An import of class folders is in the order of the classes; its first rows are all of one."""
    if task not in OF_TOWERS:
        pytest.skip("it asks nothing of classes of pictures")
    encoder = models[task]
    rows = by_class.split("test")
    labels = [rows.sample(row).label for row in range(len(rows))]
    assert labels == sorted(labels), "the table is in the order of its classes"
    asked: list[Any] = []
    counting = copy.copy(encoder)
    for name in ("encode_image", "image_features"):
        read = getattr(encoder, name)
        setattr(counting, name, lambda pictures, read=read, **how: asked.extend(pictures) or read(pictures, **how))
    evaluate(task, counting, by_class, Asked(limit=8))
    keys = [sample.key for sample in asked]
    assert len(keys) == len(set(keys))
    for split in {key.split("-")[0] for key in keys}:
        of_split = [sample.label for sample in asked if sample.key.startswith(f"{split}-")]
        assert sorted(of_split) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_model_of_the_other_kind_is_refused(task: str, models: dict[str, Any], tables: dict[str, Table]) -> None:
    other = models["retrieval" if task in OF_DETECTORS else "detection"]
    with pytest.raises(UsageError, match=f"{task} is asked of a "):
        evaluate(task, other, tables[task], ASKED)


def test_the_world_has_what_it_needs(task: str, tables: dict[str, Table]) -> None:
    assert task in possible(tables[task], "test")


def test_it_is_documented(task: str) -> None:
    text = (DOCS / "tasks.md").read_text(encoding="utf-8")
    assert f"\n| `{task}` | " in text
