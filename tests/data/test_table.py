"""Tables: there and back, whole or not at all, and no damage that goes unseen."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data import layout
from diptych.data.table import Rows, Table, check_files, join, open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError, DiptychError, RunExistsError

COLUMNS = {"regions": pa.list_(pa.float32()), "note": pa.string()}


def _write(out: Path, num: int = 23, first: int = 0, **settings: object) -> Path:
    """Rows key0 ...: every third goes to test, the others to train."""
    with TableWriter(out, columns=COLUMNS, rows_per_shard=5, **settings) as writer:  # type: ignore[arg-type]
        for i in range(first, num):
            _add(writer, i)
    return out


def _add(writer: TableWriter, i: int) -> None:
    split = "test" if i % 3 == 0 else "train"
    image = bytes([i]) * (i + 1)
    fields = {"regions": [i / 2] * (i % 4), "note": f"note {i}"}
    writer.add(split, key=f"key{i}", image=image, texts=[f"text {i}", "ä✓"], label=i, group=f"g{i // 2}", fields=fields)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    return open_table(_write(tmp_path_factory.mktemp("table") / "t", meta={"label_names": ["a", "b"]}, source="us"))


def test_rows_come_back_as_they_went_in(table: Table) -> None:
    assert table.splits == {"train": 15, "test": 8}
    assert table.meta["label_names"] == ["a", "b"] and table.source == "us" and table.kind == "pictures"
    sample = table.split("train").sample(6, ["regions", "note"])
    assert (sample.key, sample.group, sample.image, sample.label) == ("key10", "g5", bytes([10]) * 11, 10)
    assert sample.texts == ("text 10", "ä✓") and sample.fields == {"regions": [5.0, 5.0], "note": "note 10"}
    assert table.split("train").sample(6).fields == {}


@settings(max_examples=15, deadline=None)
@given(
    texts=st.lists(st.lists(st.text(), max_size=3), min_size=1, max_size=12),
    rows_per_shard=st.integers(1, 5),
    data=st.binary(max_size=20),
)
def test_any_texts_and_bytes_survive(
    texts: list[list[str]], rows_per_shard: int, data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("any") / "t"
    with TableWriter(out, rows_per_shard=rows_per_shard) as writer:
        for number, own in enumerate(texts):
            writer.add("train", key=str(number), image=data, texts=own)
    rows = open_table(out).split("train")
    assert [rows.sample(row).texts for row in range(len(rows))] == [tuple(own) for own in texts]
    assert list(rows.texts()) == [text for own in texts for text in own]
    assert rows.sample(len(rows) - 1).image == data


def test_referenced_pictures_lie_relative_to_the_table(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "t") as writer:
        writer.add("train", key="near", image=None, image_path="../pictures/a.png", texts=["a"])
        writer.add("train", key="far", image=None, image_path="/pictures/b.png", texts=["b"])
        writer.add("train", key="none", image=None, texts=["text alone"])
    rows = open_table(tmp_path / "t").split("train")
    images = [rows.sample(row).image for row in range(3)]
    assert images == [tmp_path / "t/../pictures/a.png", Path("/pictures/b.png"), None]


def test_keys_are_found_and_strangers_are_not(table: Table) -> None:
    rows = table.split("train")
    keys = [rows.key(row) for row in range(len(rows))]
    assert rows.find(keys) == list(range(len(rows)))
    assert rows.find(["key0", "no such", "key1"]) == [None, None, 0]  # key0 is in test


def test_rows_outside_are_an_index_error(table: Table) -> None:
    for row in (-1, 15):
        with pytest.raises(IndexError, match="which has 15"):
            table.split("train").sample(row)


def test_rows_are_pickled_as_a_path(table: Table) -> None:
    rows = table.split("train")
    assert len(pickle.dumps(rows)) < 3000
    assert pickle.loads(pickle.dumps(rows)).sample(6) == rows.sample(6)


def test_wrong_names_are_told_with_the_nearest(table: Table) -> None:
    with pytest.raises(DataError, match="no split 'trian'; did you mean 'train'"):
        table.split("trian")
    with pytest.raises(DataError, match="no column 'nots'; did you mean 'note'"):
        table.split("train").sample(0, ["nots"])
    with pytest.raises(DataError, match="no column 'nots'"):
        table.split("train").column("nots")


def test_datasets_and_pyarrow_open_the_shards_without_us(table: Table, tmp_path: Path) -> None:
    file = str(table.path / "train-00001.arrow")
    assert pa.ipc.open_file(file).read_all()["key"].to_pylist()[0] == "key8"
    datasets = pytest.importorskip("datasets")
    files = sorted(str(file) for file in table.path.glob("train-*.arrow"))
    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("arrow", data_files={"train": files}, cache_dir=str(tmp_path), split="train")
    assert loaded["note"][:] == table.split("train").column("note").to_pylist()


def test_the_fingerprint_is_of_the_content(table: Table, tmp_path: Path) -> None:
    same = open_table(_write(tmp_path / "same", meta={"label_names": ["a", "b"]}, source="elsewhere"))
    other = open_table(_write(tmp_path / "other", num=22, meta={"label_names": ["a", "b"]}))
    assert same.fingerprint == table.fingerprint != other.fingerprint


# Stores


def _store(out: Path, keys: list[int]) -> Rows:
    with TableWriter(out, kind="store", columns={"tags": pa.list_(pa.string())}, rows_per_shard=4) as writer:
        for i in keys:
            writer.add("all", key=f"key{i}", fields={"tags": [f"tag {i}"]})
    return open_table(out).split("all")


def test_a_store_joins_by_key_whatever_its_order(table: Table, tmp_path: Path) -> None:
    joined = join(table.split("train"), _store(tmp_path / "s", list(reversed(range(23)))))
    for rows in (joined, pickle.loads(pickle.dumps(joined))):
        for row in range(len(rows)):
            sample = rows.sample(row, ["tags", "note"])
            number = sample.key.removeprefix("key")
            assert sample.fields == {"tags": [f"tag {number}"], "note": f"note {number}"}
    with pytest.raises(DataError, match="did you mean 'tags'"):
        joined.sample(0, ["tagz"])


def test_a_store_that_lacks_a_row_says_so(table: Table, tmp_path: Path) -> None:
    joined = join(table.split("train"), _store(tmp_path / "s", [1, 2]))
    assert joined.sample(0, ["tags"]).fields == {"tags": ["tag 1"]}
    with pytest.raises(DataError, match="has no row of key 'key4'"):
        joined.sample(2, ["tags"])


def test_two_columns_of_one_name_cannot_be_joined(table: Table, tmp_path: Path) -> None:
    with TableWriter(tmp_path / "s", kind="store", columns={"note": pa.string()}) as writer:
        writer.add("all", key="key1", fields={"note": "mine"})
    with pytest.raises(DataError, match="both have the column note"):
        join(table.split("train"), open_table(tmp_path / "s").split("all"))


def test_hashes_that_collide_are_told_apart_by_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.data.index.hash64", lambda key: len(key))
    rows = open_table(_write(tmp_path / "t")).split("train")
    assert rows.find([f"key{i}" for i in (1, 2, 10, 3, 99)]) == [0, 1, 6, None, None]


def test_an_index_sorted_in_buckets_is_the_same(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.data.index.BUCKET", 3)
    found = (_write(tmp_path / "t") / "train.index").read_bytes()
    assert found == (table.path / "train.index").read_bytes()


# Writing


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"key": "key1"}, "the key 'key1' came twice"),
        ({"key": ""}, "without a key"),
        ({"key": "x", "image": b"a", "image_path": "a.png"}, "both a picture and a path"),
        ({"key": "x", "texts": "one string"}, "give a list"),
        ({"key": "x", "texts": ["\udce4"]}, "stray surrogate"),
        ({"key": "x", "fields": {"region": []}}, "did you mean 'regions'"),
        ({"key": "x", "split": "../up"}, "may not be called '../up'"),
    ],
)
def test_rows_that_cannot_be_written_are_refused_at_once(tmp_path: Path, row: dict, message: str) -> None:
    writer = TableWriter(tmp_path / "t", columns=COLUMNS)
    writer.add("train", key="key1", texts=["a"])
    with pytest.raises(DataError, match=message):
        writer.add(row.pop("split", "test"), **({"texts": ["a"]} | row))


def test_values_of_a_wrong_type_name_row_and_column(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="row 'b', column 'note': expected string"),
        TableWriter(tmp_path / "t", columns=COLUMNS) as writer,
    ):
        writer.add("train", key="a", fields={"note": "fine"})
        writer.add("train", key="b", fields={"note": 7})


def test_own_columns_may_not_hide_standard_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found label"):
        TableWriter(tmp_path / "t", columns={"label": pa.string()})


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(RunExistsError, match="is there already"):
        TableWriter(tmp_path)
    (tmp_path / "t.partial").mkdir()
    (tmp_path / "t.partial" / "holiday.png").write_bytes(b"mine")
    with pytest.raises(RunExistsError, match="no unfinished table of ours"):
        TableWriter(tmp_path / "t")
    assert (tmp_path / "t.partial" / "holiday.png").exists()


def test_two_writers_of_one_table_do_not_meet(tmp_path: Path) -> None:
    first = TableWriter(tmp_path / "t")
    with pytest.raises(RunExistsError, match="being written by another process"):
        TableWriter(tmp_path / "t", resume=True)
    first.add("train", key="a")
    first.finish()
    assert open_table(tmp_path / "t").splits == {"train": 1}


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows came"), TableWriter(tmp_path / "t"):
        pass
    assert not (tmp_path / "t").exists()


def test_an_error_leaves_finished_shards_and_a_resume_makes_the_same_table(table: Table, tmp_path: Path) -> None:
    meta = {"label_names": ["a", "b"]}
    with (
        pytest.raises(ZeroDivisionError),
        TableWriter(tmp_path / "t", columns=COLUMNS, rows_per_shard=5, meta=meta, source="us") as writer,
    ):
        for i in range(17):
            _add(writer, i)
        raise ZeroDivisionError
    assert not (tmp_path / "t").exists()
    with pytest.raises(DataError, match=r"unfinished one lies at .*t\.partial"):
        open_table(tmp_path / "t")
    with TableWriter(tmp_path / "t", columns=COLUMNS, rows_per_shard=5, meta=meta, source="us", resume=True) as writer:
        assert writer.rows == {"test": 5, "train": 10}
        assert len(writer.written_keys()) == 15 and "key16" not in writer.written_keys()
        for i in range(23):
            if f"key{i}" not in writer.written_keys():
                _add(writer, i)
    assert open_table(tmp_path / "t").fingerprint == table.fingerprint
    assert not (tmp_path / "t.partial").exists()


def test_a_resume_of_something_else_is_refused_and_a_fresh_start_clears_it(tmp_path: Path) -> None:
    TableWriter(tmp_path / "t", source="one").__exit__(ValueError, ValueError(), None)
    with pytest.raises(DataError, match=r"begun with one \(now two\)"):
        TableWriter(tmp_path / "t", source="two", resume=True)
    (tmp_path / "t.partial" / "train-00000.arrow").write_bytes(b"old")
    with TableWriter(tmp_path / "t", source="two") as writer:
        writer.add("train", key="a")
    assert open_table(tmp_path / "t").splits == {"train": 1}


def test_a_killed_writer_leaves_no_table_and_can_be_gone_on_with(tmp_path: Path) -> None:
    script = """if True:
        import os, signal, sys
        from pathlib import Path
        from diptych.data.table_writer import TableWriter
        writer = TableWriter(Path(sys.argv[1]), rows_per_shard=4)
        for i in range(10):
            writer.add("train", key=f"key{i}", texts=["a"])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "t")], check=False)
    with TableWriter(tmp_path / "t", rows_per_shard=4, resume=True) as writer:
        assert writer.rows == {"train": 8}
        writer.add("train", key="key8")
    assert open_table(tmp_path / "t").splits == {"train": 9}


def test_memory_of_writing_and_reading_is_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty times the rows, at most a little more of Python's and Arrow's memory at once."""
    monkeypatch.setattr("diptych.data.split_writer.BATCH_BYTES", 100_000)
    peaks = [_peak(tmp_path / str(num), num) for num in (200, 4000)]
    assert peaks[1] < peaks[0] + 500_000


def _peak(out: Path, num: int) -> int:
    tracemalloc.start()
    with TableWriter(out, rows_per_shard=100) as writer:
        for i in range(num):
            writer.add("train", key=f"key{i}", image=bytes(1000), texts=["a text"])
    rows = open_table(out).split("train")
    for row in range(0, num, 50):
        rows.sample(row)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak + pa.total_allocated_bytes()


# Damage


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    file = _write(tmp_path / "t") / "table.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 7}))
    with pytest.raises(DataError, match=r"table format 7 and this diptych reads up to 1; upgrade"):
        open_table(tmp_path / "t")


def test_what_is_no_table_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="diptych data import SOURCE"):
        open_table(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no table.json. Make a table of it"):
        open_table(tmp_path)


@pytest.mark.parametrize("file", ["train-00001.arrow", "test.index", "table.json"])
def test_every_flipped_bit_is_a_data_error_that_names_the_file(tmp_path: Path, file: str) -> None:
    path = _write(tmp_path / "t") / file
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            open_table(tmp_path / "t")
        except DataError as error:
            assert path.name in str(error) or "format" in str(error) or "damaged" in str(error)
        else:  # white space and the source in table.json bind nothing
            assert file == "table.json"


@pytest.mark.parametrize("file", ["train-00001.arrow", "test.index", "table.json"])
def test_files_cut_short_or_gone_are_named(tmp_path: Path, file: str) -> None:
    path = _write(tmp_path / "t") / file
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=path.name):
        open_table(tmp_path / "t")
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        open_table(tmp_path / "t")


def test_without_checksums_damage_is_an_error_or_readable_but_never_a_crash(tmp_path: Path) -> None:
    """Tables too large to be summed at every opening still validate every offset and every text."""
    path = _write(tmp_path / "t") / "train-00000.arrow"
    content, whole, chance = layout.read_layout(tmp_path / "t"), path.read_bytes(), random.Random(1)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            schema = check_files(tmp_path / "t", content, checksum=False)
        except DiptychError:
            refused += 1
            continue
        rows = Table(tmp_path / "t", content, schema).split("train")
        for row in range(5):
            rows.sample(row, ["regions", "note"])
    assert 50 < refused < 190


def test_a_shard_that_shrinks_after_opening_is_an_error_not_a_crash(tmp_path: Path) -> None:
    rows = open_table(_write(tmp_path / "t")).split("train")
    path = tmp_path / "t" / "train-00001.arrow"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"train-00001.arrow is damaged: it has 100 bytes"):
        pickle.loads(pickle.dumps(rows)).sample(7)


def test_file_names_may_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    file = _write(tmp_path / "t") / "table.json"
    file.write_text(file.read_text().replace('"train-00000.arrow"', '"../train-00000.arrow"'))
    with pytest.raises(DataError, match="leads out of the folder"):
        open_table(tmp_path / "t")
