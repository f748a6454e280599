"""What people really have in their folders: each is read right, or listed with its reason, and the import goes on."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_less
from PIL import Image

from diptych.data.images import decode
from diptych.data.importing import import_table
from diptych.data.rejects import Reject, read_rejects
from diptych.data.table import open_table


def encoded(picture: Image.Image, file_format: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, file_format, **options)
    return out.getvalue()


def noise(mode: str = "RGB", width: int = 40, height: int = 24) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def quarters(mode: str = "RGB") -> Image.Image:
    """Four plain rectangles: their corners come back from any format."""
    picture = Image.new("RGB", (40, 24), (255, 0, 102))
    for box, colour in (((20, 0), (0, 204, 51)), ((0, 12), (0, 51, 255)), ((20, 12), (255, 255, 204))):
        picture.paste(colour, (*box, box[0] + 20, box[1] + 12))
    return picture.convert(mode)


JPEG = encoded(noise(), "JPEG")
PNG = encoded(noise(), "PNG")
FINE = {"quality": 95, "subsampling": 0}


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header claims any size and whose pixels are a few bytes: a decompression bomb."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    return encoded(quarters(), "JPEG", exif=exif, **FINE)


BAD_PICTURES = {
    "empty": b"",
    "words": b"<html>404 not found</html>",
    "cut JPEG": JPEG[: len(JPEG) // 2],
    "cut PNG": PNG[: len(PNG) // 2],
    "only a head": JPEG[:12],
    "zeros": bytes(1000),
    "no width": png_of_size(0, 5),
    "bomb": png_of_size(60_000, 60_000),
    "PDF by another name": b"%PDF-1.4\n" + bytes(200),
    "SVG by another name": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "PostScript by another name": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
}

DEEP = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 60


def odd(picture: Image.Image, file_format: str, **options: object) -> tuple[bytes, Image.Image]:
    return encoded(picture, file_format, **options), picture


ODD_PICTURES = {
    "CMYK": odd(quarters("CMYK"), "JPEG", **FINE),
    "grey": odd(quarters("L"), "JPEG", **FINE),
    "palette": odd(quarters("P"), "PNG"),
    "palette with transparency": odd(quarters("P"), "PNG", transparency=3),
    "alpha": odd(quarters("RGBA"), "PNG"),
    "grey with alpha": odd(quarters("LA"), "PNG"),
    "one bit": odd(quarters("1"), "PNG"),
    "turned": (turned(), quarters().transpose(Image.Transpose.ROTATE_270)),
    "animated": odd(quarters("P"), "GIF", save_all=True, append_images=[noise("P")]),
    "WebP": odd(quarters(), "WEBP", lossless=True),
    "TIFF": odd(quarters(), "TIFF"),
    "BMP": odd(quarters(), "BMP"),
    "16 bits": (encoded(Image.fromarray(DEEP), "PNG"), Image.fromarray((DEEP / 257).round().astype(np.uint8))),
    "a pixel": odd(Image.new("RGB", (1, 1), (1, 2, 250)), "PNG"),
    "a thread": odd(Image.new("RGB", (3000, 1), (1, 2, 250)), "PNG"),
}
"""File bytes, and what they show."""


def import_one(folder: Path, name: str, picture: bytes | None, row: dict | None = None) -> list[Reject]:
    """Imports a good picture and one in question; gives the rejects, having checked that the good one is in."""
    source = folder / "in"
    source.mkdir()
    (source / "good.png").write_bytes(PNG)
    if picture is not None:
        (source / name).write_bytes(picture)
    rows = [{"file_name": "good.png", "text": "good"}, row or {"file_name": name, "text": "odd"}]
    (source / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = import_table(str(source), folder / "out", max_rejects=0.5)
    table = open_table(folder / "out")
    assert table.split("train").sample(0).texts == ("good",)
    assert result.rejects + sum(table.splits.values()) == 2
    return read_rejects(folder / "out" / "rejects.jsonl") if result.rejects else []


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_what_is_no_picture_is_listed(tmp_path: Path, name: str) -> None:
    (reject,) = import_one(tmp_path, "odd.png", BAD_PICTURES[name])
    assert (reject.key, reject.source) == ("odd.png", "metadata.jsonl line 2")
    assert len(reject.reason) > 10


def corners(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)[[0, 0, -1, -1], [0, -1, 0, -1]]


@pytest.mark.parametrize("name", ODD_PICTURES)
def test_odd_pictures_are_kept_to_the_byte_and_decode(tmp_path: Path, name: str) -> None:
    file, shown = ODD_PICTURES[name]
    assert import_one(tmp_path, "odd.png", file) == []
    sample = open_table(tmp_path / "out").split("train").sample(1)
    assert sample.image == file
    assert_array_less(np.abs(corners(decode(file)) - corners(shown)), 4)  # JPEG's rounding


def test_a_turned_picture_stands_upright() -> None:
    assert decode(turned()).size == (24, 40)


def test_the_limit_of_pixels_is_the_users(tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "cat").mkdir(parents=True)
    (source / "cat" / "large.png").write_bytes(encoded(Image.new("RGB", (30, 20)), "PNG"))
    (source / "cat" / "small.png").write_bytes(encoded(Image.new("RGB", (30, 10)), "PNG"))
    import_table(str(source), tmp_path / "out", max_pixels=500, max_rejects=0.5)
    (reject,) = read_rejects(tmp_path / "out" / "rejects.jsonl")
    assert reject.key == "cat/large.png"
    assert "30 × 20" in reject.reason


def outside(folder: Path) -> None:
    (folder / "secret.png").write_bytes(PNG)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../secret.png", "leaves the folder"), ("/etc/passwd", "leaves the folder"), ("missing.png", "no such picture")],
)
def test_paths_that_lead_elsewhere_are_listed(tmp_path: Path, name: str, reason: str) -> None:
    outside(tmp_path)
    (reject,) = import_one(tmp_path, name, None)
    assert reason in reject.reason


def test_links_out_of_a_folder_are_listed(tmp_path: Path) -> None:
    outside(tmp_path)
    source = tmp_path / "in" / "cat"
    source.mkdir(parents=True)
    (source / "good.png").write_bytes(PNG)
    (source / "link.png").symlink_to(tmp_path / "secret.png")
    (source / "broken.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(source / "pipe.png")
    result = import_table(str(tmp_path / "in"), tmp_path / "out", max_rejects=1)
    assert (dict(result.splits), result.rejects) == ({"train": 1}, 3)
    reasons = {reject.key: reject.reason for reject in read_rejects(tmp_path / "out" / "rejects.jsonl")}
    assert "leaves the folder" in reasons["cat/link.png"]
    assert "not a regular file" in reasons["cat/pipe.png"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"file_name": "odd.png"}, "no text, label or objects"),
        ({"file_name": "odd.png", "text": "  "}, "no text, label or objects"),
        ({"file_name": "odd.png", "text": None}, "no text, label or objects"),
        ({"file_name": "odd.png", "text": "\ud83d"}, "no Unicode"),
        ({"file_name": "odd.png", "text": "x" * 100_001}, "100,001 characters"),
        ({"file_name": "odd.png", "text": "a", "split": "../../etc"}, "a split may not be called"),
        ({"file_name": "odd.png", "text": "a", "note": "\udfff"}, ""),
        ({"text": "a"}, "names no picture"),
        ({"file_name": 7, "text": "a"}, "names no picture"),
        ({"file_name": "", "text": "a"}, "names no picture"),
    ],
)
def test_words_that_are_no_use_are_listed(tmp_path: Path, row: dict, reason: str) -> None:
    (reject,) = import_one(tmp_path, "odd.png", JPEG if row.get("file_name") == "odd.png" else None, row)
    assert reason in reject.reason


@pytest.mark.parametrize("text", ["<|endoftext|> [SEP]", "\0", "שלום", "👩‍👩‍👧 family", "a\u2028b\r\nc", "x" * 100_000])
def test_strange_texts_are_texts(tmp_path: Path, text: str) -> None:
    assert import_one(tmp_path, "odd.png", JPEG, {"file_name": "odd.png", "text": text}) == []
    assert open_table(tmp_path / "out").split("train").sample(1).texts == (text,)


def write_csv(source: Path) -> None:
    (source / "list.csv").write_bytes(
        b"key,image,caption\nk1,1.png,caf\xe9\nk2,2.png,two\nk2,3.png,three\nk4,4.png,four\n"
    )


def write_json(source: Path) -> None:
    lines = [b'{"image": "1.png", "text": "caf\xe9"}', b'{"key": "k", "image": "2.png", "text": "two"}']
    lines += [b'{"key": "k", "image": "3.png", "text": "three"}', b'{"image": "4.png", "text": "four"}']
    (source / "list.jsonl").write_bytes(b"\n".join(lines))


@pytest.mark.parametrize("write", [write_csv, write_json])
def test_wrong_utf8_and_keys_that_come_twice_are_listed(tmp_path: Path, write: Callable[[Path], None]) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(1, 5):
        (source / f"{number}.png").write_bytes(encoded(Image.new("RGB", (number, 2)), "PNG"))
    write(source)
    result = import_table(str(source), tmp_path / "out", max_rejects=0.5)
    assert (dict(result.splits), result.rejects) == ({"train": 2}, 2)
    first, second = sorted(reject.reason for reject in read_rejects(tmp_path / "out" / "rejects.jsonl"))
    assert "not UTF-8" in first
    assert "the picture is another one" in second


def test_names_that_are_no_utf8_are_keys_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "in" / "cat"
    folder.mkdir(parents=True)
    try:
        (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(PNG)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    import_table(str(tmp_path / "in"), tmp_path / "out")
    assert open_table(tmp_path / "out").split("train").key(0) == "cat/caf\ufffd.png"
