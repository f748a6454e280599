from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from diptych.data.formats import webdataset
from diptych.data.rejects import Reject


def put_tar(path: Path, members: list[tuple[str, bytes] | tarfile.TarInfo], mode: str = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("name", "mode"), [("train-000.tar", "w"), ("train-000.tar.gz", "w:gz"), ("train-000.tar.xz", "w:xz")]
)
def test_members_of_a_key_are_one_sample(tmp_path: Path, make_picture, good, name: str, mode: str) -> None:
    words = {"captions": ["one", "two"], "width": 5}
    members = [
        ("a/0001.png", make_picture(1)),
        ("a/0001.txt", b"one\n"),
        ("a/0001.json", json.dumps(words).encode()),
        ("a/0001.seg.npy", b"ignored"),
        ("a/0002.JPG", make_picture(2, file_format="JPEG")),
        ("a/0002.cls", b"7\n"),
        ("a/0002.txt", "café".encode()),
    ]
    put_tar(tmp_path / name, members, mode)
    assert webdataset.sniff(tmp_path)
    one, two = good(webdataset.read(tmp_path))
    assert (one.key, one.split, one.texts, one.fields) == ("a/0001", "train", ("one", "two"), {"width": 5})
    assert (two.key, two.label, two.texts) == ("a/0002", 7, ("café",))
    assert one.image == make_picture(1)
    quick = good(webdataset.read(tmp_path, pictures=False))
    assert [(row.key, row.texts, row.image) for row in quick] == [
        (one.key, one.texts, None),
        (two.key, two.texts, None),
    ]


def test_a_split_is_named_by_its_words_its_file_or_its_folder(tmp_path: Path, make_picture, good) -> None:
    put_tar(tmp_path / "val" / "0.tar", [("1.png", make_picture(1)), ("1.txt", b"a")])
    put_tar(tmp_path / "test-0.tar", [("2.png", make_picture(2)), ("2.json", b'{"text": "a", "split": "dev2"}')])
    put_tar(tmp_path / "test-1.tar", [("3.png", make_picture(3)), ("3.txt", b"a")])
    assert [row.split for row in good(webdataset.read(tmp_path))] == ["dev2", "test", "validation"]


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("../1.png", b""), "'..'"),
        (("a/../../1.png", b""), "'..'"),
        (("/etc/1.png", b""), "absolute"),
        (special("1.png", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (special("1.png", tarfile.LNKTYPE, "2.png"), "link"),
        (special("1.png", tarfile.CHRTYPE), "not a regular file"),
        (special("1.png", tarfile.FIFOTYPE), "not a regular file"),
    ],
)
def test_members_that_lead_elsewhere_are_refused(tmp_path: Path, make_picture, member, reason: str) -> None:
    put_tar(tmp_path / "a.tar", [member, ("2.png", make_picture(2)), ("2.txt", b"a")])
    reject, record = webdataset.read(tmp_path)
    assert isinstance(reject, Reject)
    assert reason in reject.reason
    assert not isinstance(record, Reject)
    assert record.key == "2"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar"]


def test_a_bad_member_costs_its_sample(tmp_path: Path, make_picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MAX_PICTURE_BYTES", 500)
    members = [
        ("1.txt", b"no picture"),
        ("2.png", make_picture(2)),
        ("2.txt", b"caf\xe9"),
        ("3.png", make_picture(3)),
        ("3.json", b"{"),
        ("4.png", bytes(501)),
        ("5.png", make_picture(5)),
        ("5.json", b'{"caption": "\\ud83d"}'),
        ("6.png", make_picture(6)),
        ("6.txt", b"good"),
    ]
    put_tar(tmp_path / "a.tar", members)
    *bad, last = webdataset.read(tmp_path)
    assert [row.key for row in bad if isinstance(row, Reject)] == ["1", "2", "3", "4", "5"]
    assert not isinstance(last, Reject)
    assert last.key == "6"


@pytest.mark.parametrize("keep", [0.35, 0.6, 0.75])
def test_a_cut_tar_keeps_what_came_before(tmp_path: Path, make_picture, keep: float) -> None:
    members = [
        (f"{number}.{end}", data) for number in range(9) for end, data in (("png", make_picture(number)), ("txt", b"a"))
    ]
    put_tar(tmp_path / "a.tar", members)
    put_tar(tmp_path / "b.tar", [("last.png", make_picture(10)), ("last.txt", b"a")])
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: int(len(whole) * keep) // 700 * 700 + 100])
    found = list(webdataset.read(tmp_path))
    bad = [row for row in found if isinstance(row, Reject)]
    assert [row.key for row in bad] == ["a.tar"]
    assert "damaged tar" in bad[0].reason
    kept = [row for row in found if not isinstance(row, Reject)]
    assert 1 < len(kept) < 10
    assert all(row.texts == ("a",) for row in kept)
    assert kept[-1].key == "last"


def test_a_damaged_header_is_no_silent_end(tmp_path: Path, make_picture) -> None:
    """tarfile takes it for the end of the archive; the rest would be lost unsaid."""
    members = [
        (f"{number}.{end}", data) for number in range(4) for end, data in (("png", make_picture(number)), ("txt", b"a"))
    ]
    put_tar(tmp_path / "a.tar", members)
    data = bytearray((tmp_path / "a.tar").read_bytes())
    at = data.index(b"2.png")
    data[at + 10 : at + 200] = b"\xff" * 190
    (tmp_path / "a.tar").write_bytes(bytes(data))
    found = list(webdataset.read(tmp_path))
    assert isinstance(found[-1], Reject)
    assert [row.key for row in found[:-1]] == ["0"]


def test_a_cut_gzip_is_told(tmp_path: Path, make_picture) -> None:
    put_tar(tmp_path / "a.tar.gz", [("1.png", make_picture(1)), ("1.txt", b"a")], "w:gz")
    whole = (tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) // 2])
    assert [type(row) for row in webdataset.read(tmp_path)] == [Reject]


def test_what_is_no_tar_at_all_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"PK\3\4 not a tar" * 100)
    assert [type(row) for row in webdataset.read(tmp_path)] == [Reject]
