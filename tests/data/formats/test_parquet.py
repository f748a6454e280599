from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.data.formats import parquet
from diptych.data.rejects import Reject
from diptych.errors import DataError


def test_the_hubs_pictures_with_their_words(tmp_path: Path, make_picture, good) -> None:
    rows = {
        "image": [{"bytes": make_picture(1), "path": "a.png"}, {"bytes": make_picture(2), "path": "b.png"}],
        "image_id": [17, 18],
        "captions": [["one", "two"], []],
        "keywords": [["x"], None],
        "thumbnail": [b"\1", b"\2"],
    }
    pq.write_table(pa.table(rows), tmp_path / "dev-00000-of-00001.parquet")
    assert parquet.sniff(tmp_path)
    first, second = good(parquet.read(tmp_path))
    assert (first.key, first.split, first.texts, first.image) == ("17", "validation", ("one", "two"), make_picture(1))
    assert (first.fields, second.fields, second.texts) == ({"keywords": ["x"]}, {"keywords": None}, ())


def test_a_reading_without_pictures_gives_the_same_words(tmp_path: Path, make_picture, good) -> None:
    for name, column in (("struct", {"bytes": make_picture(1), "path": "a.png"}), ("bytes", make_picture(1))):
        pq.write_table(pa.table({"image": [column], "text": ["a"]}), tmp_path / f"{name}.parquet")
        quick, whole = (
            good(parquet.read(tmp_path / f"{name}.parquet", pictures=pictures)) for pictures in (False, True)
        )
        assert quick[0].image is None
        assert [(row.key, row.texts, row.spare_key) for row in quick] == [
            (row.key, row.texts, row.spare_key) for row in whole
        ]


def test_a_picture_without_key_goes_by_its_file_name_and_row(tmp_path: Path, make_picture, good) -> None:
    """The name is a mere name: pictures of several folders may share it."""
    images = [{"bytes": make_picture(1), "path": "1.png"}, {"bytes": make_picture(2), "path": None}]
    pq.write_table(pa.table({"image": images, "text": ["a", "b"]}), tmp_path / "a.parquet")
    named, unnamed = good(parquet.read(tmp_path))
    assert (named.key, named.spare_key) == ("1.png", "a.parquet row 0")
    assert unnamed.key == "a.parquet row 1"


def test_paths_lead_to_files_in_the_folder_alone(tmp_path: Path, put_picture) -> None:
    put_picture(tmp_path / "root" / "1.png")
    put_picture(tmp_path / "secret.png")
    table = pa.table({"file_name": ["1.png", "../secret.png", None], "text": ["a", "b", "c"]})
    pq.write_table(table, tmp_path / "root" / "a.parquet")
    for pictures in (False, True):
        first, *bad = parquet.read(tmp_path / "root", pictures=pictures)
        assert not isinstance(first, Reject)
        assert (first.key, first.image) == ("1.png", tmp_path / "root" / "1.png")
        assert isinstance(bad[0], Reject)
        assert "leaves the folder" in bad[0].reason


def test_a_split_is_the_rows_own_or_its_files_or_its_folders(tmp_path: Path, make_picture, good) -> None:
    (tmp_path / "val").mkdir()
    image = [make_picture(1)]
    pq.write_table(pa.table({"image": image, "text": ["a"], "split": ["extra"]}), tmp_path / "test.parquet")
    pq.write_table(pa.table({"image": image, "text": ["a"]}), tmp_path / "val" / "part1.parquet")
    assert [row.split for row in good(parquet.read(tmp_path))] == ["extra", "validation"]


def test_names_of_classes_come_from_the_schema(tmp_path: Path, make_picture) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "yak"])})
    data = {"image": [{"bytes": make_picture(1), "path": None}], "label": [1]}
    datasets.Dataset.from_dict(data, features=features).to_parquet(tmp_path / "train.parquet")
    assert parquet.label_names(tmp_path) == ["cat", "dog", "yak"]


def test_a_cut_file_costs_itself(tmp_path: Path, make_picture) -> None:
    pq.write_table(pa.table({"image": [make_picture(1)], "text": ["a"]}), tmp_path / "b.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    reject, record = parquet.read(tmp_path)
    assert isinstance(reject, Reject)
    assert reject.reason.startswith("damaged Parquet")
    assert not isinstance(record, Reject)


def test_a_damaged_group_of_rows_costs_itself(tmp_path: Path, make_picture) -> None:
    images = [make_picture(number) for number in range(6)]
    table = pa.table({"image": images, "text": ["a"] * 6})
    file = tmp_path / "a.parquet"
    pq.write_table(table, file, row_group_size=2, compression="zstd", use_dictionary=False)
    start = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + 40] = b"\xff" * 40
    file.write_bytes(bytes(data))
    found = list(parquet.read(file))
    assert [row.key for row in found] == [
        "a.parquet row 0",
        "a.parquet row 1",
        "rows 2 to 3 of a.parquet",
        "a.parquet row 4",
        "a.parquet row 5",
    ]


def test_text_that_is_no_utf8_costs_its_row(tmp_path: Path, make_picture) -> None:
    texts = pa.array([b"good", b"caf\xe9", b"too"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"image": [make_picture(n) for n in range(3)], "text": texts}), tmp_path / "a.parquet")
    found = list(parquet.read(tmp_path))
    assert [isinstance(row, Reject) for row in found] == [False, True, False]


def test_parquet_without_pictures_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["https://example.org/1.png"], "text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="its columns are url, text; expected one such as image"):
        list(parquet.read(tmp_path))
