"""Partners of rows that a store names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from diptych.data.mixing import mix_tables
from diptych.data.partners import Partners, open_partners, write_partners
from diptych.data.table import Rows, Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError, UsageError
from diptych.objectives.masked_words import MaskedWords
from diptych.objectives.matching import Matching
from diptych.objectives.pretraining import Pretraining
from diptych.objectives.ranking import Ranking
from diptych.train.checks import check_partners


def table(folder: Path, keys: str, **columns: pa.DataType) -> Table:
    with TableWriter(folder, columns=columns) as writer:
        for key in keys:
            writer.add("train" if key != "z" else "test", key=key, image=b"1", texts=[folder.name])
    return open_table(folder)


def named(folder: Path, rows: Rows, partners: dict[str, str]) -> Partners:
    write_partners(folder, rows, ((key, list(others)) for key, others in partners.items()), "by hand")
    return open_partners(folder)


def all_of(rows: Rows, row: int) -> list[int]:
    return rows.partners(row, lambda row, num_others: range(num_others))


def test_the_rows_that_are_named_come_in_their_order(tmp_path: Path) -> None:
    pictures = table(tmp_path / "pictures", "abcdez")
    partners = named(tmp_path / "partners", pictures.split("train"), {"a": "db", "c": "e", "e": ""})
    rows = pictures.joined(partners).split("train")
    assert [all_of(rows, row) for row in (0, 2)] == [[3, 1], [4]]
    assert all_of(rows, 4) == [0, 1, 2, 3], "any, of a row that has none"
    assert all_of(rows, 1) == [2, 3, 4, 0], "any, of a row that is not there"
    assert rows.partners(0, lambda row, num_others: [num_others - 1]) == [1]


def test_an_own_column_of_that_name_is_none_of_ours(tmp_path: Path) -> None:
    rows = table(tmp_path / "pictures", "abc", partners=pa.string()).split("train")
    assert all_of(rows, 0) == [1, 2]


def test_a_mixture_knows_those_of_each_table(tmp_path: Path) -> None:
    one, two = table(tmp_path / "one", "abc"), table(tmp_path / "two", "abcd")
    partners = named(tmp_path / "partners", two.split("train"), {"a": "db"})
    rows = mix_tables([one, two.joined(partners)]).split("train")
    assert [all_of(rows, row) for row in (0, 3, 4)] == [[1, 2], [6, 4], [5, 6, 3]]


def test_the_fewest_of_a_row_are_counted(tmp_path: Path) -> None:
    rows = table(tmp_path / "pictures", "abcd").split("train")
    assert named(tmp_path / "some", rows, {"a": "bcd", "b": "", "c": "ab"}).fewest == 2
    assert named(tmp_path / "none", rows, {"a": ""}).fewest == 0


def test_what_does_not_go_with_the_rows_is_refused(tmp_path: Path) -> None:
    pictures, others = table(tmp_path / "pictures", "abcdz"), table(tmp_path / "others", "abcdz")
    partners = named(tmp_path / "partners", pictures.split("train"), {key: "abcd".replace(key, "") for key in "abcd"})
    rows = pictures.joined(partners).split("train")
    check_partners(Ranking(negatives=3), rows)
    check_partners(Pretraining(), rows)
    check_partners(Matching(), rows)
    check_partners(MaskedWords(), pictures.split("train"))
    with pytest.raises(UsageError, match="mlm sets no rows against each other"):
        check_partners(MaskedWords(), rows)
    for other in (others.joined(partners).split("train"), pictures.joined(partners).split("test")):
        with pytest.raises(DataError, match=f"of other rows than those of {other.path}, {other.name}"):
            check_partners(Ranking(), other)
    few = named(tmp_path / "few", pictures.split("train"), {"a": "bc", "b": "acd"})
    with pytest.raises(DataError, match=r"names 2 partners of a row, and ranking sets each row beside 3; take fewer"):
        check_partners(Ranking(negatives=5), pictures.joined(few).split("train"))
    with pytest.raises(DataError, match=r"holds no partners.*data partners"):
        open_partners(pictures.path)
