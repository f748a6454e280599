"""What every import format owes: it knows its own, and the same pictures come out of it as of any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.data.formats import detect
from diptych.data.formats.record import Record
from diptych.data.importing import import_table
from diptych.data.table import open_table
from diptych.errors import DataError

TEXTS = ["a red hat", "one shoe", "two hats"]
DOCS = Path(__file__).parents[2] / "docs"
Source = Callable[[str], Path]

pytestmark = pytest.mark.parametrize("name", [name for name in detect.NAMES if name not in detect.WITHOUT_PICTURES])


def records(name: str, folder: Path, *, pictures: bool = True) -> list[Record]:
    """The rows of a source in which nothing may be rejected."""
    found = list(detect.read(name, folder, pictures=pictures))
    assert all(isinstance(one, Record) for one in found), found
    return [one for one in found if isinstance(one, Record)]


def test_a_source_is_taken_for_what_it_is(name: str, source: Source) -> None:
    assert detect._format(name).sniff(source(name))
    assert detect.detect(str(source(name)), None) == name


def test_no_surer_format_claims_it(name: str, source: Source) -> None:
    """Formats are tried in the order of NAMES; a plainer one may see a list or folder in a richer one."""
    earlier = detect.NAMES[: detect.NAMES.index(name)]
    assert [other for other in earlier if detect._format(other).sniff(source(name))] == []


def test_an_empty_folder_is_neither_sniffed_nor_read(name: str, tmp_path: Path) -> None:
    assert not detect._format(name).sniff(tmp_path)
    with pytest.raises(DataError):
        list(detect.read(name, tmp_path))


def test_every_row_has_a_key_a_picture_and_one_thing_said_of_it_if_any(name: str, source: Source) -> None:
    rows = records(name, source(name))
    assert len({row.key for row in rows}) == len(rows) == 3
    for row in rows:
        assert isinstance(row.image, bytes) or (row.image is not None and row.image.is_file())
        assert row.split in (None, "train") and row.source
        said = (bool(row.texts), row.label_name is not None)
        assert sum(said) == (name not in detect.WITHOUT_WORDS)


def test_two_readings_agree_with_or_without_pictures(name: str, source: Source) -> None:
    """The import reads twice: the first time quickly, for columns and keys."""
    whole, again, quick = (records(name, source(name), pictures=pictures) for pictures in (True, True, False))
    assert whole == again
    assert [(row.key, row.split, row.texts, row.label_name, row.group) for row in quick] == [
        (row.key, row.split, row.texts, row.label_name, row.group) for row in whole
    ]
    assert not any(isinstance(row.image, bytes) for row in quick)


def test_the_same_pictures_come_out_of_every_format(name: str, source: Source, tmp_path: Path) -> None:
    result = import_table(str(source(name)), tmp_path / "table")
    table = open_table(tmp_path / "table")
    assert (result.format, result.rejects, table.splits) == (name, 0, {"train": 3})
    rows = table.split("train")
    plain = sorted((source("classfolder")).rglob("*.png"))
    assert sorted(rows.sample(row).image for row in range(3)) == sorted(path.read_bytes() for path in plain)  # type: ignore[type-var]
    texts = sorted(rows.texts())
    if name in detect.WITHOUT_WORDS:
        assert not texts and "label_names" not in table.meta
        return
    assert texts == TEXTS or (not texts and table.meta["label_names"] == ["hat", "shoe"])


def test_it_is_documented(name: str, source: Source) -> None:
    assert f"\n| `{name}` | " in (DOCS / "import.md").read_text(encoding="utf-8")
