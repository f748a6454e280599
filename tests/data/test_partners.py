"""Partners of rows that a store names."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.data.mixing import mix_tables
from diptych.data.partners import open_partners, write_partners
from diptych.data.table import Rows, Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError


def table(folder: Path, keys: str) -> Table:
    with TableWriter(folder) as writer:
        for key in keys:
            writer.add("train" if key != "z" else "test", key=key, image=b"1", texts=[key])
    return open_table(folder)


def all_of(rows: Rows, row: int) -> list[int]:
    return rows.partners(row, lambda row, num_others: range(num_others))


def test_the_rows_that_are_named_come_in_their_order(tmp_path: Path) -> None:
    pictures = table(tmp_path / "pictures", "abcdez")
    write_partners(tmp_path / "partners", "train", [("a", ["d", "b"]), ("c", ["e"]), ("e", [])], "by hand")
    rows = pictures.joined(open_partners(tmp_path / "partners")).split("train")
    assert [all_of(rows, row) for row in (0, 2)] == [[3, 1], [4]]
    assert all_of(rows, 4) == [0, 1, 2, 3], "any, of a row that has none"
    assert all_of(rows, 1) == [2, 3, 4, 0], "any, of a row that is not there"
    assert rows.partners(0, lambda row, num_others: [num_others - 1]) == [1]


def test_a_row_is_not_its_own_partner_nor_one_of_another_split(tmp_path: Path) -> None:
    pictures = table(tmp_path / "pictures", "abcdez")
    write_partners(tmp_path / "partners", "train", [("a", ["a", "z", "c", "nobody"])], "by hand")
    assert all_of(pictures.joined(open_partners(tmp_path / "partners")).split("train"), 0) == [2]


def test_a_mixture_knows_those_of_each_table(tmp_path: Path) -> None:
    one, two = table(tmp_path / "one", "abc"), table(tmp_path / "two", "abcd")
    write_partners(tmp_path / "partners", "train", [("a", ["d", "b"])], "by hand")
    rows = mix_tables([one, two.joined(open_partners(tmp_path / "partners"))]).split("train")
    assert [all_of(rows, row) for row in (0, 3, 4)] == [[1, 2], [6, 4], [5, 6, 3]]


def test_the_fewest_of_a_row_are_counted(tmp_path: Path) -> None:
    write_partners(tmp_path / "some", "train", [("a", ["b", "c", "d"]), ("b", []), ("c", ["a", "b"])], "by hand")
    write_partners(tmp_path / "none", "train", [("a", [])], "by hand")
    assert [open_partners(tmp_path / name).fewest for name in ("some", "none")] == [2, 0]


def test_other_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'partners'.*data partners"):
        open_partners(table(tmp_path / "pictures", "ab").path)
