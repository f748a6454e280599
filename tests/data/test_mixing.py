"""Rows of several tables as one: where each lies, what it is called, and who its partners are."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from diptych.data.layout import STORE
from diptych.data.loader import load_batches
from diptych.data.mixed_order import mixed_order
from diptych.data.mixing import mix_tables
from diptych.data.objects import object_names
from diptych.data.region_join import region_columns, spec_of
from diptych.data.sampler import Order
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.objectives.objective import OwnRow


def write(folder: Path, num: int, meta=None, **columns: tuple[pa.DataType, list]) -> Table:
    """Rows a, b, c ...; a picture of the first lies beside the table."""
    with TableWriter(folder, columns={name: kind for name, (kind, _) in columns.items()}, meta=meta or {}) as writer:
        for row in range(num):
            fields = {name: values[row] for name, (_, values) in columns.items()}
            writer.add("train", key="abcdefgh"[row], image=bytes([num, row]), texts=[f"{num}, {row}"], fields=fields)
    return open_table(folder)


@pytest.fixture
def pair(tmp_path: Path) -> list[Table]:
    one = write(tmp_path / "one", 3, meta={"a": 1, "b": 2}, size=(pa.int64(), [7, 8, 9]), odd=(pa.int64(), [1, 2, 3]))
    other = write(tmp_path / "two", 5, meta={"a": 1, "b": 3}, size=(pa.int64(), [1, 2, 3, 4, 5]))
    return [one, other]


def test_rows_stand_one_behind_the_other_by_hand(pair: list[Table]) -> None:
    table = mix_tables(pair)
    rows = table.split("train")
    assert (len(rows), table.splits) == (8, {"train": 8})
    assert [rows.key(row) for row in range(8)] == ["1:a", "1:b", "1:c", "2:a", "2:b", "2:c", "2:d", "2:e"]
    assert [rows.sample(row).texts for row in (2, 3)] == [("3, 2",), ("5, 0",)]
    assert (rows.sample(3).key, rows.sample(3).group, rows.sample(3).image) == ("2:a", "2:a", bytes([5, 0]))
    assert rows.sample(4, ["size"]).fields == {"size": 2}
    assert rows.values(4, ["key", "size", "texts"]) == ["2:b", 2, ["5, 1"]]
    assert rows.column("size").to_pylist() == [7, 8, 9, 1, 2, 3, 4, 5]
    assert rows.column("key").to_pylist() == [rows.key(row) for row in range(8)]
    assert list(rows.texts()) == [f"{num}, {row}" for num in (3, 5) for row in range(num)]
    assert rows.num_pictures == 8
    assert rows.find(["2:b", "1:c", "3:a", "a", "1:e", "0:a"]) == [4, 2, None, None, None, None]
    taken = [rows.partners(row, lambda row, num_others: range(num_others)) for row in (0, 2, 3, 7)]
    assert taken == [[1, 2], [0, 1], [4, 5, 6, 7], [3, 4, 5, 6]]
    assert rows.partners(4, lambda row, num_others: [row, num_others - 1]) == [6, 3]
    assert rows.where(4) == f"{pair[1].path} train, row 1"
    with pytest.raises(IndexError, match="row 8"):
        rows.sample(8)


def test_what_both_have_alike_is_what_the_whole_has(pair: list[Table]) -> None:
    table = mix_tables(pair)
    assert table.meta == {"a": 1}
    assert "size" in table.columns and "odd" not in table.columns
    assert table.split("train").columns == tuple(table.columns)
    assert table.fingerprint == f"{pair[0].fingerprint}+{pair[1].fingerprint}"
    assert [part.path for part in table.parts] == [part.path for part in table.split("train").parts]
    assert mix_tables(pair[:1]) is pair[0]
    table.verify()


def test_a_split_that_one_has_not_is_told_with_its_table(pair: list[Table]) -> None:
    with TableWriter(pair[0].path.parent / "third") as writer:
        writer.add("training", key="a", image=b"1", texts=["a"])
    with pytest.raises(DataError, match=r"third: .*'train'"):
        mix_tables([*pair, open_table(pair[0].path.parent / "third")]).split("train")


def test_columns_of_two_types_are_told(pair: list[Table]) -> None:
    other = write(pair[0].path.parent / "third", 2, size=(pa.string(), ["S", "M"]))
    table = mix_tables([pair[0], other])
    assert "size" not in table.columns
    with pytest.raises(DataError, match=r"'size' is not the same in all tables: int64 in .*one, string in .*third"):
        table.split("train").column("size")


def test_stores_are_no_tables_to_mix(pair: list[Table], tmp_path: Path) -> None:
    with TableWriter(tmp_path / "store", kind=STORE, columns={"n": pa.int64()}) as writer:
        writer.add("train", key="a", fields={"n": 1})
    with pytest.raises(DataError, match="expected tables of one kind"):
        mix_tables([pair[0], open_table(tmp_path / "store")])


def test_rows_are_pickled_as_paths(pair: list[Table]) -> None:
    rows = mix_tables(pair).split("train")
    sent = pickle.dumps(rows)
    assert len(sent) < 5000
    again = pickle.loads(sent)
    assert [again.sample(row) for row in range(8)] == [rows.sample(row) for row in range(8)]
    assert again.columns == rows.columns


class Asks(OwnRow):
    """An objective that wants the rows after its own, and takes down who they were."""

    name = "asks"

    def partners(self, seed, epoch, row, num_others):
        return (0, 1)

    def draw(self, item, partners, rng):
        assert len({one.key[:2] for one in (item, *partners)}) == 1, "partners are of the row's own table"
        assert len({one.key for one in (item, *partners)}) == 3
        return item, {}


def test_partners_are_drawn_within_the_table(tmp_path: Path, small_room: ModuleType) -> None:
    names = (("one", 4), ("two", 7))
    rows = mix_tables([open_table(small_room.write_table(tmp_path / name, num=num)) for name, num in names])
    rows = rows.split("train")
    orders = [Order(num_rows=len(part), batch=3, seed=place) for place, part in enumerate(rows.parts)]
    order = mixed_order(orders, None, 0)
    loaded = load_batches(rows, small_room.SmallInputs(), order, start=0, stop=9, draw=Asks(), workers=0)
    keys = [batch.batch.keys for batch in loaded if batch.batch is not None]
    assert len(keys) == 9
    assert all(len({key[:2] for key in step}) == 1 for step in keys), "a step is of one table"


def test_processes_make_the_batches_of_none(tmp_path: Path, small_room: ModuleType) -> None:
    names = (("one", 4), ("two", 7))
    rows = mix_tables([open_table(small_room.write_table(tmp_path / name, num=num, num_bad=1)) for name, num in names])
    rows = rows.split("train")
    orders = [Order(num_rows=len(part), batch=3, seed=place) for place, part in enumerate(rows.parts)]
    order = mixed_order(orders, [1, 2], 0)

    def loaded(workers, start):
        batches = load_batches(
            rows, small_room.SmallInputs(), order, start=start, stop=9, draw=DrawsNothing(), workers=workers
        )
        return [(one.step, one.epoch, one.batch and one.batch.keys, one.rejects) for one in batches]

    alone = loaded(0, 0)
    assert loaded(2, 0) == alone and loaded(1, 4) == alone[4:]
    rejects = {reject.key: reject.source for *_, found in alone for reject in found}
    assert rejects == {f"{n}:train0": f"{tmp_path / name} train, row 0" for n, name in ((1, "one"), (2, "two"))}


class DrawsNothing(OwnRow):
    """An objective that draws nothing."""

    name = "none"

    def draw(self, item, partners, rng):
        return item, {}


def test_regions_are_joined_to_each_and_must_be_alike(tmp_path: Path, chance_regions: ModuleType) -> None:
    tables, stores = [], []
    for number, name in enumerate(("one", "two")):
        draw_scenes(tmp_path / name, easy(num=16 + number, seed=number, size_px=32), workers=1)
        tables.append(open_table(tmp_path / name))
        stores.append(chance_regions.write_regions(tables[-1], tmp_path / f"regions-{name}"))
    both = [table.joined(region_columns([store])) for table, store in zip(tables, stores, strict=True)]
    rows = mix_tables(both).split("train")
    first, second = (part.sample(0, ["regions"]).fields["regions"] for part in rows.parts)
    start = len(rows.parts[0])
    assert (rows.sample(0, ["regions"]).fields["regions"].features == first.features).all()
    assert (rows.sample(start, ["regions"]).fields["regions"].features == second.features).all()
    assert spec_of(rows) == stores[0].spec and "regions" in rows.all_columns

    with pytest.raises(DataError, match=r"one has regions beside it and .*two has none"):
        mix_tables([both[0], tables[1]])
    with pytest.raises(DataError, match=r"one has regions beside it and .*two has none"):
        mix_tables([tables[1], both[0]])
    stores[1].spec = replace(stores[1].spec, detector="another")
    with pytest.raises(DataError, match="are not made alike"):
        mix_tables([both[0], tables[1].joined(region_columns([stores[1]]))])
    assert object_names(rows) is not None
