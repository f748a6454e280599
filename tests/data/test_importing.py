"""From a source to a table: what is kept, what is refused, and how an import goes on."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.data import importing, split_writer
from diptych.data.importing import import_table
from diptych.data.rejects import read_rejects
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError, InterruptedRunError, RunExistsError, UsageError

T = TypeVar("T")


def picture_bytes(seed: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (5, 3), (seed % 256, seed // 256 % 256, 7)).save(out, "PNG")
    return out.getvalue()


def put_source(folder: Path, rows: list[dict], *, num: int | None = None) -> Path:
    """An imagefolder: `num` pictures (as many as rows, if left out) called 0.png, 1.png ..."""
    folder.mkdir(parents=True)
    for number in range(len(rows) if num is None else num):
        (folder / f"{number}.png").write_bytes(picture_bytes(number))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


def named(num: int) -> list[dict]:
    return [{"file_name": f"{number}.png", "text": f"text {number}"} for number in range(num)]


def all_texts(table_folder: Path) -> dict[str, tuple[str, ...]]:
    table = open_table(table_folder)
    rows = [table.split(split).sample(row) for split in table.splits for row in range(table.splits[split])]
    return {sample.key: sample.texts for sample in rows}


def test_a_table_holds_the_bytes_texts_and_columns_of_its_source(tmp_path: Path) -> None:
    rows = [
        {"file_name": "0.png", "captions": ["a", "b"], "width": 5, "split": "train", "tags": ["x"]},
        {"file_name": "1.png", "captions": ["c"], "width": 5.5, "split": "dev", "tags": []},
    ]
    result = import_table(str(put_source(tmp_path / "in", rows)), tmp_path / "out")
    table = open_table(tmp_path / "out")
    assert dict(result.splits) == dict(table.splits) == {"train": 1, "validation": 1}
    assert (result.format, result.texts, result.rejects) == ("imagefolder", 3, 0)
    sample = table.split("train").sample(0, columns=["width", "tags"])
    assert (sample.key, sample.image, sample.texts) == ("0.png", picture_bytes(0), ("a", "b"))
    assert sample.fields == {"width": 5.0, "tags": ["x"]}
    assert not (tmp_path / "out" / "rejects.jsonl").exists()
    assert not (tmp_path / "out.partial").exists()


def test_rows_of_the_same_path_become_one_sample(tmp_path: Path) -> None:
    put_source(tmp_path / "in", [])
    (tmp_path / "in" / "metadata.jsonl").unlink()
    for number in range(2):
        (tmp_path / "in" / f"{number}.png").write_bytes(picture_bytes(number))
    lines = ["image,caption", "0.png,a", "1.png,x", "./0.png,b", "1.png,y", f"{tmp_path}/in/0.png,c"]
    (tmp_path / "in" / "captions.csv").write_text("\n".join(lines))
    import_table(str(tmp_path / "in"), tmp_path / "out")
    assert all_texts(tmp_path / "out") == {"0.png": ("a", "b", "c"), "1.png": ("x", "y")}


def test_labels_by_name_get_numbers_in_order_of_the_alphabet(tmp_path: Path) -> None:
    rows = [{"file_name": f"{n}.png", "class_name": name} for n, name in enumerate(["yak", "cat", "yak"])]
    import_table(str(put_source(tmp_path / "in", rows)), tmp_path / "out")
    table = open_table(tmp_path / "out")
    assert table.meta["label_names"] == ["cat", "yak"]
    assert table.split("train").column("label").to_pylist() == [1, 0, 1]


def test_labels_by_number_keep_it_and_their_name(tmp_path: Path) -> None:
    rows = [{"file_name": f"{n}.png", "label": label, "class_name": f"class {label}"} for n, label in enumerate([2, 0])]
    import_table(str(put_source(tmp_path / "in", rows)), tmp_path / "out")
    table = open_table(tmp_path / "out")
    assert table.meta["label_names"] == ["class 0", "", "class 2"]
    assert table.split("train").column("label").to_pylist() == [2, 0]


def test_pictures_by_reference_stay_where_they_are(tmp_path: Path) -> None:
    source = put_source(tmp_path / "in", named(2))
    import_table(str(source), tmp_path / "out", reference=True)
    sample = open_table(tmp_path / "out").split("train").sample(1)
    assert sample.image == source / "1.png"
    assert open_table(tmp_path / "out").split("train").column("image").null_count == 2


def test_pictures_inside_an_archive_cannot_be_referred_to(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info = tarfile.TarInfo("1.png")
        info.size = len(picture_bytes(1))
        tar.addfile(info, io.BytesIO(picture_bytes(1)))
    with pytest.raises(UsageError, match="--reference"):
        import_table(str(tmp_path / "a.tar"), tmp_path / "out", reference=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_a_few_bad_rows_are_listed_and_the_rest_is_imported(tmp_path: Path) -> None:
    source = put_source(tmp_path / "in", named(20))
    (source / "7.png").write_bytes(b"no picture")
    result = import_table(str(source), tmp_path / "out", validation=0)
    assert (result.splits["train"], result.rejects) == (19, 1)
    (reject,) = read_rejects(tmp_path / "out" / "rejects.jsonl")
    assert (reject.key, reject.source) == ("7.png", "metadata.jsonl line 8")
    assert list(result.reasons) == [reject.reason]


def test_too_many_bad_rows_stop_and_the_same_call_goes_on_once_mended(tmp_path: Path) -> None:
    source = put_source(tmp_path / "in", named(20))
    for number in (7, 11):
        (source / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2 of the 20 rows .* more than --max-rejects 0\.05 allows") as caught:
        import_table(str(source), tmp_path / "out", validation=0)
    listed = tmp_path / "out.partial" / "rejects.jsonl"
    assert str(listed) in str(caught.value)
    assert [reject.key for reject in read_rejects(listed)] == ["7.png", "11.png"]
    assert not (tmp_path / "out").exists()
    (source / "7.png").write_bytes(picture_bytes(7))
    result = import_table(str(source), tmp_path / "out", validation=0)
    assert (result.kept, result.splits["train"], result.texts) == (10, 19, 19)
    assert [reject.key for reject in read_rejects(tmp_path / "out" / "rejects.jsonl")] == ["11.png"]


@pytest.mark.parametrize("num", [20, 40, 400])
def test_rows_are_held_out_by_their_key_alone(num: int, tmp_path: Path) -> None:
    result = import_table(str(put_source(tmp_path / "in", named(num))), tmp_path / "out")
    table = open_table(tmp_path / "out")
    assert result.held_out == table.splits["validation"] == max(1, result.held_out)
    assert sum(table.splits.values()) == num
    assert table.splits["validation"] < num / 5
    again = import_table(str(put_source(tmp_path / "half", named(num)[::-1])), tmp_path / "again", validation=0.5)
    held = {table.split("validation").key(row) for row in range(result.held_out)}
    more = open_table(tmp_path / "again").split("validation")
    assert held <= {more.key(row) for row in range(again.held_out)}  # the same keys first, in whatever order they come
    assert num / 5 < again.held_out < num * 4 / 5


def test_few_rows_and_sources_with_splits_are_left_whole(tmp_path: Path) -> None:
    assert import_table(str(put_source(tmp_path / "few", named(19))), tmp_path / "1").splits == {"train": 19}
    rows = [{**row, "split": "train"} for row in named(30)]
    assert import_table(str(put_source(tmp_path / "named", rows)), tmp_path / "2").splits == {"train": 30}
    whole = import_table(str(put_source(tmp_path / "off", named(30))), tmp_path / "3", validation=0)
    assert (whole.splits, whole.held_out) == ({"train": 30}, 0)


def test_rows_of_one_group_are_never_parted(tmp_path: Path) -> None:
    rows = [{**row, "group": f"g{number // 10}"} for number, row in enumerate(named(200))]
    result = import_table(str(put_source(tmp_path / "in", rows)), tmp_path / "out", validation=0.3)
    assert 0 < result.held_out < 200
    assert result.held_out % 10 == 0
    alone = import_table(
        str(put_source(tmp_path / "one", [{**row, "group": "g"} for row in named(30)])), tmp_path / "1"
    )
    assert alone.splits == {"train": 30}


def test_more_bad_rows_can_be_allowed(tmp_path: Path) -> None:
    source = put_source(tmp_path / "in", named(4))
    (source / "1.png").write_bytes(b"")
    with pytest.raises(DataError):
        import_table(str(source), tmp_path / "out")
    assert import_table(str(source), tmp_path / "out", max_rejects=0.5).splits["train"] == 3


def test_a_source_of_bad_rows_alone_makes_no_table(tmp_path: Path) -> None:
    source = put_source(tmp_path / "in", named(2), num=0)
    with pytest.raises(DataError, match="all rows are bad"):
        import_table(str(source), tmp_path / "out", max_rejects=1)
    assert not (tmp_path / "out").exists()


def test_an_empty_source_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        import_table(str(put_source(tmp_path / "in", [])), tmp_path / "out")


def test_out_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(RunExistsError, match="there already"):
        import_table(str(tmp_path), tmp_path / "out")


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_is_between_nothing_and_everything(tmp_path: Path, share: float) -> None:
    with pytest.raises(UsageError, match="--max-rejects"):
        import_table(str(tmp_path), tmp_path / "out", max_rejects=share)


def test_another_source_does_not_go_on_from_the_first(tmp_path: Path) -> None:
    first = put_source(tmp_path / "first", named(4))
    (first / "3.png").write_bytes(b"")
    with pytest.raises(DataError):
        import_table(str(first), tmp_path / "out")
    with pytest.raises(DataError, match="was begun with"):
        import_table(str(put_source(tmp_path / "second", named(4))), tmp_path / "out")


class Stopping:
    """A progress that presses Ctrl-C after some rows."""

    def __init__(self, after: int) -> None:
        self.left = after

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> Stopping:
        self.importing = name == "Importing"
        return self

    def say(self, message: str) -> None:
        pass

    def advance(self, num: float = 1, note: str = "") -> None:
        self.left -= self.importing
        if self.left == 0:
            raise KeyboardInterrupt

    def __enter__(self) -> Stopping:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_ctrl_c_keeps_what_is_there_and_the_end_is_the_same(tmp_path: Path) -> None:
    source = put_source(tmp_path / "in", named(100))
    with pytest.raises(InterruptedRunError, match=r"kept in .*out\.partial"):
        import_table(str(source), tmp_path / "out", progress=Stopping(after=90))
    assert not (tmp_path / "out").exists()
    result = import_table(str(source), tmp_path / "out")
    import_table(str(source), tmp_path / "never stopped")
    assert result.kept > 0
    assert list(all_texts(tmp_path / "out").items()) == list(all_texts(tmp_path / "never stopped").items())


def test_rows_of_one_key_are_complete_whenever_the_import_was_stopped(tmp_path: Path) -> None:
    rows = [{"file_name": f"{number % 40}.png", "text": f"text {number}"} for number in range(80)]
    source = put_source(tmp_path / "in", rows, num=40)
    for after in (50, 70, 79):
        with pytest.raises(InterruptedRunError):
            import_table(str(source), tmp_path / "out", progress=Stopping(after=after))
    import_table(str(source), tmp_path / "out")
    assert all_texts(tmp_path / "out") == {f"{n}.png": (f"text {n}", f"text {n + 40}") for n in range(40)}


@pytest.mark.parametrize("step", range(5))
def test_ctrl_c_while_a_shard_is_ended_goes_on_as_well(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard may have its name already, or not yet; neither is ended twice."""
    source = put_source(tmp_path / "in", named(30))
    monkeypatch.setattr(importing, "TableWriter", partial(TableWriter, rows_per_shard=4))
    calls = iter([*(None for _ in range(step)), KeyboardInterrupt])

    def interrupted(function: Callable[[Path], T]) -> Callable[[Path], T]:
        def call(path: Path) -> T:
            if (error := next(calls, None)) is not None:
                raise error
            return function(path)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(split_writer, "flush_to_disk", interrupted(split_writer.flush_to_disk))
        patch.setattr(split_writer, "sha256_of", interrupted(split_writer.sha256_of))
        with pytest.raises(InterruptedRunError):
            import_table(str(source), tmp_path / "out")
    import_table(str(source), tmp_path / "out")
    assert all_texts(tmp_path / "out") == {f"{n}.png": (f"text {n}",) for n in range(30)}


@pytest.mark.slow
def test_a_killed_import_goes_on(tmp_path: Path) -> None:
    source = put_source(tmp_path / "in", named(6000))
    code = "import sys; from pathlib import Path; from diptych.data.importing import import_table\n"
    code += "import_table(sys.argv[1], Path(sys.argv[2]))"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(source), str(tmp_path / "out")], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    while not list(tmp_path.glob("out.partial/*.arrow")) and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "out").exists()
    result = import_table(str(source), tmp_path / "out")
    assert result.kept >= 2048
    assert all_texts(tmp_path / "out") == {f"{n}.png": (f"text {n}",) for n in range(6000)}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).map(str.strip).filter(bool)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(TEXT, min_size=1, max_size=3), min_size=1, max_size=4))
@pytest.mark.parametrize("spread", [False, True], ids=["a line a picture", "a line a text"])
def test_texts_there_and_back(tmp_path_factory: pytest.TempPathFactory, spread: bool, texts: list[list[str]]) -> None:
    folder = tmp_path_factory.mktemp("import")
    if spread:
        rows = [{"file_name": f"{n}.png", "text": text} for n, some in enumerate(texts) for text in some]
    else:
        rows = [{"file_name": f"{n}.png", "texts": some} for n, some in enumerate(texts)]
    import_table(str(put_source(folder / "in", rows, num=len(texts))), folder / "out")
    assert all_texts(folder / "out") == {f"{n}.png": tuple(some) for n, some in enumerate(texts)}


def test_a_table_exported_as_json_lines_comes_back(tmp_path: Path) -> None:
    source = put_source(
        tmp_path / "in", [row | {"split": "dev" if n % 3 else "train"} for n, row in enumerate(named(7))]
    )
    import_table(str(source), tmp_path / "first")
    table = open_table(tmp_path / "first")
    rows = []
    (tmp_path / "again").mkdir()
    for split in table.splits:
        for number in range(table.splits[split]):
            sample = table.split(split).sample(number)
            assert isinstance(sample.image, bytes)
            (tmp_path / "again" / sample.key).write_bytes(sample.image)
            rows.append({"file_name": sample.key, "texts": sample.texts, "split": split})
    (tmp_path / "again" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_table(str(tmp_path / "again"), tmp_path / "second")
    assert all_texts(tmp_path / "second") == all_texts(tmp_path / "first")
    assert open_table(tmp_path / "second").splits == table.splits


@pytest.fixture(scope="module")
def packs(shared: Path) -> Iterator[Path]:
    yield shared / "data"


@pytest.mark.parametrize(
    ("name", "splits", "texts"),
    [
        ("clothing", {"train": 1534, "validation": 341, "test": 372}, 0),
        ("openclipart", {"train": 3235, "validation": 176, "test": 178}, 7329),
        ("imagenet500", {"train": 500}, 0),
        ("coco128", {"train": 128}, 72),
        ("smoke", {"train": 82, "validation": 2}, 340),
        ("smoke/flickr8k_64.tar", {"train": 64}, 320),
        pytest.param("flickr8k", {"train": 6000, "validation": 1000, "test": 1000, "extra": 91}, 40455),
    ],
)
@pytest.mark.slow
def test_real_packs_import_without_a_reject(
    packs: Path, tmp_path: Path, name: str, splits: dict[str, int], texts: int
) -> None:
    result = import_table(str(packs / name), tmp_path / "out", max_rejects=0)
    assert dict(result.splits) == splits
    assert (result.texts, result.rejects) == (texts, 0)
    table = open_table(tmp_path / "out")
    assert dict(table.splits) == splits
    if name == "flickr8k":
        assert {len(found) for split in splits for found in table.split(split).column("texts").to_pylist()} == {5}
    if name == "clothing":
        assert table.meta["label_names"][3:6] == ["outwear", "pants", "shirt"]
