"""What `diptych data show` says is what lies in the table."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from diptych.data.contact_sheet import contact_sheet, contact_sheet_html
from diptych.data.examples import COLUMNS, Example, write_example
from diptych.data.show import Spread, describe, even_rows
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter


def _png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    out = tmp_path_factory.mktemp("show") / "t"
    with TableWriter(out, rows_per_shard=2, meta={"label_names": ["cat", "dog"]}, source="a <folder>") as writer:
        writer.add("train", key="a", image=_png(10, 30), texts=["one two  three", "<b>bold</b>"], label=1, group="g")
        writer.add("train", key="b", image=_png(20, 30), texts=["a"], label=1, group="g")
        writer.add("train", key="c", image=_png(40, 30), texts=["x y"], label=0)
        writer.add("test", key="d", image=b"broken", texts=["text of a broken picture"])
        writer.add("test", key="e", image=None, texts=["text alone"])
    (out / "rejects.jsonl").write_text('{"key": "k", "source": "s", "reason": "r"}\n')
    return open_table(out)


def test_counts_are_right(table: Table) -> None:
    summary = describe(table)
    train, test = summary.splits["train"], summary.splits["test"]
    assert (train.rows, train.groups, train.pictures, train.texts, summary.rejects) == (3, 2, 3, 4, 1)
    assert train.width == Spread(least=10, median=20, most=40) and train.height == Spread(least=30, median=30, most=30)
    assert train.words_a_text == Spread(least=1, median=1, most=3)
    assert train.labels == {"dog": 2, "cat": 1} and train.formats == {"PNG": 3}
    assert (test.pictures, test.width, dict(test.labels)) == (1, None, {})
    assert train.sample == ["one two  three", "a", "x y"]


def test_it_is_plain_data_and_tables_for_the_screen(table: Table) -> None:
    summary = describe(table)
    assert json.loads(json.dumps(summary.to_plain()))["splits"]["train"]["width"]["median"] == 20
    first, *others = summary.tables()
    assert first.columns == ("", "train", "test")
    assert ("rows", "3", "2") in first.rows and ("width in pixels", "10 to 40, median 20", "") in first.rows
    assert [shown.title for shown in others] == ["columns", "labels (2)", "some texts"]
    assert all(len(row) == len(shown.columns) for shown in others for row in shown.rows)


def test_a_store_has_rows_and_columns_only(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "s", kind="store", columns={"vector": pa.list_(pa.float32(), 2)}) as writer:
        writer.add("all", key="a", fields={"vector": [1.0, 2.0]})
    summary = describe(open_table(tmp_path / "s"))
    assert summary.holds == "store"
    assert summary.splits["all"].rows == 1 and summary.tables()[1].rows[1][0] == "vector"
    assert "<h1>" in contact_sheet_html(open_table(tmp_path / "s"))


@pytest.fixture
def questions(tmp_path: Path) -> Table:
    """Two examples about pictures that lie elsewhere, one of them without an answer."""
    with TableWriter(tmp_path / "q", columns=COLUMNS["vqa"]) as writer:
        for key, answers in (("p1", {"red": 1.0}), ("p2", None)):
            question = Example(key=f"{key}-0", pictures=(key,), texts=("what <is> it?",), answers=answers, kind="what")
            write_example(writer, "vqa", "train", question)
    return open_table(tmp_path / "q")


def test_what_a_table_holds_is_told_in_a_word(table: Table, questions: Table, tmp_path: Path) -> None:
    assert (describe(table).holds, describe(questions).holds) == ("pairs", "vqa")
    for task in ("ve", "nlvr2", "vcr", "re"):
        with TableWriter(tmp_path / task, columns=COLUMNS[task]) as writer:
            row = Example(key="a", pictures=("p", "q"), texts=("it is red",), answers={"entailment": 1.0}, kind="said")
            write_example(writer, task, "train", row)
        assert describe(open_table(tmp_path / task)).holds == task
    with TableWriter(tmp_path / "t") as writer:
        writer.add("train", key="a", image=None, texts=["text alone"])
    with TableWriter(tmp_path / "p") as writer:
        writer.add("train", key="a", image=_png(5, 3), texts=[], label=0)
    assert [describe(open_table(tmp_path / name)).holds for name in "tp"] == ["texts", "pictures"]
    assert describe(open_table(tmp_path / "t")).tables()[0].title == f"{tmp_path / 't'}: texts without pictures"


def test_rows_without_pictures_are_lines_of_the_contact_sheet(questions: Table) -> None:
    page = contact_sheet_html(questions)
    assert "They hold no pictures" in page and "<figure" not in page
    lines = re.findall("<tr><td>.*?</tr>", page)
    cells = [re.findall("<td>(.*?)</td>", line) for line in lines]
    assert cells == [["p1-0", "what &lt;is&gt; it?", "p1", "red"], ["p2-0", "what &lt;is&gt; it?", "p2", ""]]


def test_rows_are_spread_evenly_with_both_ends() -> None:
    assert even_rows(5, 10) == [0, 1, 2, 3, 4]
    assert even_rows(101, 3) == [0, 50, 100]


def test_the_contact_sheet_is_self_contained_and_escapes_texts(table: Table, tmp_path: Path) -> None:
    contact_sheet(table, tmp_path / "new" / "sheet.html")
    page = (tmp_path / "new" / "sheet.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/') == 3 and not re.search(r'(src|href)="(?!data:)', page)
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page and "a &lt;folder&gt;" in page
    assert "cannot be decoded" in page and "no picture" in page
    assert (page.count("<b>dog</b>"), page.count("<b>cat</b>")) == (2, 1)
