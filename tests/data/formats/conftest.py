"""Small pictures and sources made of them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from diptych.data.formats.record import Record
from diptych.data.rejects import Reject


def picture_bytes(seed: int, *, width: int = 5, height: int = 3, file_format: str = "PNG") -> bytes:
    """A picture of one colour; another seed gives other bytes."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), (seed * 37 % 256, seed * 101 % 256, seed % 256)).save(out, file_format)
    return out.getvalue()


@pytest.fixture
def put_picture() -> Callable[..., bytes]:
    def put(path: Path, seed: int = 0) -> bytes:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = picture_bytes(seed, file_format="JPEG" if path.suffix == ".jpg" else "PNG")
        path.write_bytes(data)
        return data

    return put


@pytest.fixture
def put_lines() -> Callable[[Path, Iterable[object]], None]:
    def put(path: Path, rows: Iterable[object]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    return put


@pytest.fixture
def good() -> Callable[[Iterable[Record | Reject]], list[Record]]:
    """The records of a reading in which nothing may be rejected."""

    def check(found: Iterable[Record | Reject]) -> list[Record]:
        rows = list(found)
        assert [row for row in rows if isinstance(row, Reject)] == []
        return [row for row in rows if isinstance(row, Record)]

    return check


@pytest.fixture
def make_picture() -> Callable[..., bytes]:
    return picture_bytes
