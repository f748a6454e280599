"""UNITER's databases of captions as tables: what comes in, what is joined to it, what is lost of one cut short."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from diptych.data.formats import detect
from diptych.data.importing import import_table
from diptych.data.region_files.detect import open_regions
from diptych.data.region_files.uniter_lmdb import UniterTexts
from diptych.data.region_join import join_regions
from diptych.data.rejects import read_rejects
from diptych.data.table import open_table
from diptych.data.tokenizers import load_tokenizer
from diptych.errors import DataError

GOLDEN = Path(__file__).parents[2] / "golden" / "uniter" / "fixtures"
DOCS = Path(__file__).parents[3] / "docs"
CAPTIONS = "pretrain_coco_train.db"
CONTROLS = {100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 106: "!"}

pytest.importorskip("lz4")
pytest.importorskip("msgpack")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The released form of a database, and beside it as many words as its ids reach to."""
    shutil.copytree(GOLDEN / "txt" / CAPTIONS, tmp_path / CAPTIONS)
    (tmp_path / "vocab.txt").write_text("".join(f"{word(id_)}\n" for id_ in range(186)))
    return tmp_path / CAPTIONS


def word(id_: int) -> str:
    """A word for each id; those below 50, which the released form does not use here, go on where another ended."""
    spelt = "".join(chr(97 + int(digit)) for digit in f"{id_:03d}")
    return "[PAD]" if id_ == 0 else CONTROLS.get(id_, f"##{spelt}" if id_ < 50 else f"W{spelt}")


def write(folder: Path, examples: dict[str, dict[str, Any]]) -> Path:
    """A database of these examples."""
    import lz4.frame
    import msgpack

    lmdb = pytest.importorskip("lmdb")
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 24) as made, made.begin(write=True) as put:
        for id_, example in examples.items():
            put.put(id_.encode(), lz4.frame.compress(msgpack.packb(example, use_bin_type=True)))
    pictures = {id_: example["img_fname"] for id_, example in examples.items()}
    (folder / "txt2img.json").write_text(json.dumps(pictures))
    (folder / "id2len.json").write_text(json.dumps({id_: len(one["input_ids"]) for id_, one in examples.items()}))
    return folder


def test_captions_become_rows_that_their_regions_are_joined_to(folder: Path, tmp_path: Path) -> None:
    result = import_table(str(folder), tmp_path / "table")
    assert (result.format, result.splits, result.texts, result.rejects) == ("uniter-texts", {"train": 3}, 6, 0)
    golden = json.loads((GOLDEN.parent / "golden.json").read_text())["db"]["records"]
    stores = [open_regions(GOLDEN / "img" / "coco_train2014" / "feat_th0.2_max100_min10")]
    rows = join_regions(open_table(tmp_path / "table").split("train"), stores)
    tokenizer = load_tokenizer(folder.parent / "vocab.txt")
    for row in range(len(rows)):
        sample = rows.sample(row, ["regions"])
        assert sample.image is None and len(sample.fields["regions"]) == len(stores[0].regions(sample.key))
        ids = [one["input_ids"] for one in golden.values() if one["img_fname"] == sample.key]
        assert [tokenizer.encode(text, 99)[1:-1] for text in sample.texts] == ids


def test_a_text_whose_pieces_would_not_come_back_is_rejected(folder: Path, tmp_path: Path) -> None:
    ids = {"whole": [60, 7, 8, 61], "unknown": [60, 100], "end": [60, 102, 61], "torn": [7, 60], "wild": [10**6]}
    source = write(
        tmp_path / "pretrain_mine.db", {id_: {"input_ids": one, "img_fname": id_} for id_, one in ids.items()}
    )
    result = import_table(str(source), tmp_path / "table", max_rejects=1)
    assert (result.splits, result.rejects) == ({"train": 1}, 4)
    sample = open_table(tmp_path / "table").split("train").sample(0)
    assert (sample.key, sample.texts) == ("whole", ("Wagaaahaai Wagb",))
    found = read_rejects(tmp_path / "table" / "rejects.jsonl")
    assert {one.source for one in found} == {f"pretrain_mine.db {id_}" for id_ in list(ids)[1:]}
    reasons = {one.source.split()[-1]: one.reason for one in found}
    assert reasons.pop("wild") == "its id 1,000,000 is none of the 186 words of the vocabulary"
    assert all(one.startswith("its pieces spell no text that would be read as the same") for one in reasons.values())


def test_a_record_without_ids_that_are_numbers_costs_itself(folder: Path, tmp_path: Path) -> None:
    ids = {"whole": [60, 61], "letter": ["x", 3], "nothing": [], "no number": [float("nan")], "bytes": [b"zz"]}
    source = write(
        tmp_path / "pretrain_mine.db", {id_: {"input_ids": one, "img_fname": id_} for id_, one in ids.items()}
    )
    result = import_table(str(source), tmp_path / "table", max_rejects=1)
    assert (result.splits, result.rejects) == ({"train": 1}, 4)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vqa_train", "its examples have target"),
        ("nlvr2_dev", "its examples have target"),
        ("vcr_train", "its examples have input_ids_as, qa_target"),
        ("refcoco_train", "its examples have bbox, ref_id"),
    ],
)
def test_databases_of_tasks_are_known_and_refused(name: str, told: str, tmp_path: Path) -> None:
    source = str(GOLDEN / "txt" / f"{name}.db")
    assert detect.detect(source, None) == "uniter-texts"
    with pytest.raises(DataError, match=f"holds the questions of a task \\({told}\\)"):
        import_table(source, tmp_path / "table")


def test_what_is_lost_of_a_database_that_was_cut_short_is_rejected(folder: Path, tmp_path: Path) -> None:
    examples = {f"{row}": {"input_ids": [60 + row % 2] * 40, "img_fname": f"p{row}.npz"} for row in range(400)}
    whole = write(tmp_path / "itm_mine_val.db", examples)
    assert UniterTexts(whole).notes == ()
    data = (whole / "data.mdb").read_bytes()
    (whole / "data.mdb").write_bytes(data[: len(data) * 2 // 3])
    (note,) = UniterTexts(whole).notes
    assert "is cut short or damaged" in note and "of its 400 records are left" in note
    result = import_table(str(whole), tmp_path / "table", max_rejects=1)
    assert result.splits == {"validation": 400 - result.rejects} and 0 < result.rejects < 400
    assert result.reasons == {note: result.rejects}
    with pytest.raises(DataError, match=r"rows of .* are bad, more than --max-rejects"):
        import_table(str(whole), tmp_path / "other")


def test_without_the_vocabulary_it_says_where_to_put_it(folder: Path, tmp_path: Path) -> None:
    (folder.parent / "vocab.txt").unlink()
    with pytest.raises(DataError, match=r"put the vocab\.txt of bert-base-cased into it or beside it") as error:
        import_table(str(folder), tmp_path / "table")
    assert "weights" not in str(error.value)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "bert": "bert-base-uncased"}))
    with pytest.raises(DataError, match="made with the tokenizer 'bert-base-uncased'; expected bert-base-cased"):
        import_table(str(folder), tmp_path / "table")


@pytest.mark.parametrize(
    ("lines", "name", "told"),
    [
        ({101: "Wcls", 2: "[CLS]"}, "CLS", r"the id 101 for \[CLS\], and .*vocab\.txt has 2 for it"),
        ({103: "Wmask"}, "MASK", r"the id 103 for \[MASK\], and .*vocab\.txt has no such word"),
    ],
)
def test_another_vocabulary_than_the_ids_are_of_is_refused(
    lines: dict[int, str], name: str, told: str, folder: Path, tmp_path: Path
) -> None:
    """It would spell other texts, and nobody would see it."""
    file = folder.parent / "vocab.txt"
    words = file.read_text().splitlines()
    for line, changed in lines.items():
        words[line] = changed
    file.write_text("\n".join(words) + "\n")
    with pytest.raises(DataError, match=told) as error:
        import_table(str(folder), tmp_path / "table")
    assert "put the vocab.txt that they were made with, bert-base-cased's" in str(error.value)
    meta = json.loads((folder / "meta.json").read_text())
    del meta[name]
    (folder / "meta.json").write_text(json.dumps(meta))
    import_table(str(folder), tmp_path / "table")  # what a database does not say cannot differ


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda words: [word if word[0] == "[" else word.lower() for word in words], "none with an upper-case letter"),
        (lambda words: words[:120], "has 180 words, and .* has 120"),
        (lambda words: [*words[:106], "Wbag", *words[107:]], "has the id 106 for !, and .* has no such word"),
        (lambda words: [*words[:20], "!", *words[21:106], "Wbag", *words[107:]], "106 for !, and .* has 20 for it"),
    ],
    ids=["lower", "short", "no mark", "uncased"],
)
def test_a_vocabulary_that_spells_other_texts_is_refused(change, told: str, folder: Path, tmp_path: Path) -> None:
    """As that of the uncased BERT, whose words for controls have the ids of the cased one."""
    file = folder.parent / "vocab.txt"
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")
    with pytest.raises(DataError, match=told):
        import_table(str(folder), tmp_path / "table")


def test_the_released_size_of_the_vocabulary_is_exact(folder: Path, tmp_path: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "v_range": [106, 28_996]}))
    more = folder.parent / "vocab.txt"
    more.write_text(more.read_text() + "".join(f"more{row}\n" for row in range(28_811)))
    with pytest.raises(DataError, match=r"has 28,996 words, and .* has 28,997"):
        import_table(str(folder), tmp_path / "table")


def test_it_is_surest_of_its_own_and_documented(folder: Path) -> None:
    assert next(name for name in detect.NAMES if detect._format(name).sniff(folder)) == "uniter-texts"
    assert detect.WITHOUT_PICTURES == ("uniter-texts",)
    assert "\n| `uniter-texts` | " in (DOCS / "import.md").read_text(encoding="utf-8")
