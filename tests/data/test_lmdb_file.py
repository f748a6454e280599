"""LMDB's format by hand: the same records as the library reads, and what is left of files that it would die of."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from diptych.data.region_files.lmdb_file import LmdbFile
from diptych.errors import DataError

lmdb = pytest.importorskip("lmdb")


def written(folder: Path, turns: list[dict[bytes, bytes | None]]) -> dict[bytes, bytes]:
    """A database that was committed after each turn; None deletes. What the library reads of it is returned."""
    with lmdb.open(str(folder), map_size=1 << 26, sync=False) as database:
        for turn in turns:
            with database.begin(write=True) as transaction:
                for key, value in turn.items():
                    transaction.delete(key) if value is None else transaction.put(key, value)
        with database.begin() as transaction:
            return dict(transaction.cursor().iternext())


def records(num: int, seed: int, longest: int = 9000) -> dict[bytes, bytes]:
    """Values on pages of leaves and on their own, in an order that is not that of the keys."""
    rng = np.random.default_rng(seed)
    return {
        f"picture{number:05d}{'x' * rng.integers(0, 60)}".encode(): rng.bytes(int(rng.integers(0, longest)))
        for number in rng.permutation(num)
    }


def cut(source: Path, folder: Path, size: int) -> Path:
    folder.mkdir()
    (folder / "data.mdb").write_bytes((source / "data.mdb").read_bytes()[:size])
    return folder


@pytest.mark.parametrize(("num", "longest"), [(1, 10), (40, 9000), (900, 60), (3000, 4)])
def test_every_record_is_as_the_library_reads_it(tmp_path, num, longest):
    told = written(tmp_path, [records(num, 0, longest)])
    found = LmdbFile(tmp_path)
    assert found.keys() == list(told) and (found.entries, found.lost) == (num, 0)
    assert all(found.get(key) == value for key, value in told.items())
    for key in (b"", b"a", b"picture00000/", b"zz"):
        assert found.get(key) is None
    assert pickle.loads(pickle.dumps(found)).get(found.keys()[0]) == told[found.keys()[0]]


def test_what_was_deleted_or_written_again_is_read_in_its_last_form(tmp_path):
    first = records(300, 1, 3000)
    keys = list(first)
    again = dict.fromkeys(keys[:50], b"again")
    told = written(tmp_path, [first, dict.fromkeys(keys[100:200]), again])
    found = LmdbFile(tmp_path)
    assert found.keys() == list(told) and len(told) == 200
    assert all(found.get(key) == value for key, value in told.items())


def test_an_empty_database_has_no_keys(tmp_path):
    written(tmp_path, [])
    found = LmdbFile(tmp_path)
    assert found.keys() == [] and found.get(b"a") is None


@pytest.mark.parametrize("turns", [1, 7])
def test_a_file_cut_anywhere_gives_what_is_left_and_counts_what_is_not(tmp_path, turns):
    all_records = list(records(160, 2).items())
    step = -(-len(all_records) // turns)
    told = written(tmp_path / "whole", [dict(all_records[at : at + step]) for at in range(0, len(all_records), step)])
    size = (tmp_path / "whole" / "data.mdb").stat().st_size
    kept = []
    for number, end in enumerate([0, 100, 4096, 8192, 20_000, *range(50_000, size, 60_000), size - 1]):
        folder = cut(tmp_path / "whole", tmp_path / f"{number}", end)
        try:
            found = LmdbFile(folder)
        except DataError as error:
            assert "download it again" in str(error) or "no whole LMDB" in str(error)
            kept.append(0)
            continue
        assert found.keys() == sorted(found.keys()) and len(found.keys()) + found.lost == len(told)
        assert all(found.get(key) == told[key] for key in found.keys())  # noqa: SIM118 - a file is no dict
        kept.append(len(found.keys()))
    assert kept == sorted(kept) and kept[-1] >= len(told) - 60 and max(kept[:4]) == 0


def test_a_broken_page_costs_the_records_on_it(tmp_path):
    told = written(tmp_path / "whole", [records(400, 3, 300)])
    data = (tmp_path / "whole" / "data.mdb").read_bytes()
    rng = np.random.default_rng(0)
    for page in range(2, len(data) // 4096, 3):
        broken = bytearray(data)
        broken[page * 4096 : (page + 1) * 4096] = rng.bytes(4096)
        folder = tmp_path / f"{page}"
        folder.mkdir()
        (folder / "data.mdb").write_bytes(broken)
        found = LmdbFile(folder)
        keys = found.keys()
        assert len(told) - 40 <= len(keys) <= len(told)
        assert all(found.get(key) == told[key] for key in keys)


def test_of_two_values_of_one_key_none_can_be_told_to_be_the_last(tmp_path):
    told = written(tmp_path / "whole", [records(30, 4, 100), {min(records(30, 4, 100)): b"another"}])
    data = (tmp_path / "whole" / "data.mdb").read_bytes()
    assert data.count(min(told)) == 2  # on the leaf before, and on the one after
    found = LmdbFile(cut(tmp_path / "whole", tmp_path / "cut", len(data) + 4096 - 1))
    assert found.get(min(told)) == b"another" and found.lost == 0  # nothing is cut
    grown = bytearray(data)
    for head in (0, 4096):  # the file says that it has a page more
        place = head + 16 + 24 + 96
        grown[place : place + 8] = (int.from_bytes(grown[place : place + 8], "little") + 9).to_bytes(8, "little")
    (tmp_path / "cut" / "data.mdb").write_bytes(grown)
    found = LmdbFile(tmp_path / "cut")
    assert found.get(min(told)) is None and found.lost == 1
    assert all(found.get(key) == told[key] for key in told if key != min(told))


@pytest.mark.parametrize("at", [16, 20, 40, 43])
def test_a_head_of_another_kind_is_told(tmp_path, at):
    written(tmp_path, [records(3, 0)])
    data = bytearray((tmp_path / "data.mdb").read_bytes())
    data[at] ^= 0xFF
    (tmp_path / "data.mdb").write_bytes(data)
    with pytest.raises(DataError, match="is no whole LMDB"):
        LmdbFile(tmp_path)
