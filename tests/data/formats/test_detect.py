from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.data.formats import detect
from diptych.errors import DataError, UsageError


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("metadata.jsonl", '{"file_name": "1.png", "text": "a"}', "imagefolder"),
        ("captions.txt", "image,caption\n1.png,a\n", "csv"),
        ("pairs.jsonl", "{}", "jsonl"),
        ("shard.tar", "", "webdataset"),
        ("data/train.parquet", "", "parquet"),
        ("state.json", "{}", "datasets"),
        ("dataset.json", json.dumps({"images": [{"filename": "1.png", "sentences": []}]}), "karpathy"),
        ("annotations/captions_val2017.json", json.dumps({"images": [{"id": 1, "file_name": "1.png"}]}), "coco"),
        ("hat/1.png", "", "classfolder"),
        ("1.png", "", "pictures"),
    ],
)
def test_a_folder_is_recognised_by_what_is_in_it(tmp_path: Path, name: str, content: str, format_: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    assert detect.detect(str(tmp_path), None) == format_


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no format 'parket'; did you mean 'parquet'"):
        detect.detect(str(tmp_path), "parket")


def test_a_misspelt_path_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "flickr8k").mkdir()
    with pytest.raises(DataError, match=r"did you mean .*flickr8k\?"):
        detect.detect(str(tmp_path / "flicker8k"), None)


def test_what_is_no_source_is_told_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(DataError, match=r"found notes\.md.*classfolder"):
        detect.detect(str(tmp_path), None)


def test_a_table_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "table.json").write_text("{}")
    with pytest.raises(DataError, match="a table already"):
        detect.detect(str(tmp_path), None)


def test_a_name_that_is_no_path_is_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert detect.detect("someone/flickr8k", None) == "datasets"


def test_a_single_parquet_file_is_recognised(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "a.parquet")
    assert detect.detect(str(tmp_path / "a.parquet"), None) == "parquet"
