"""Pictures as users hand them over, decoded in threads while the model computes."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from diptych.data.images import as_decoded, decode
from diptych.data.sample import Sample
from diptych.errors import DataError, UsageError

Picture = Image.Image | Path | str | bytes | Sample
"""A picture of Pillow, the path of a file, a file's bytes, or a row of a table."""

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What a file of a folder must end in to be taken for a picture."""

T = TypeVar("T")

_LOADING = threading.Lock()  # Pillow reads a file late, and one picture may stand in a list twice


def decode_ahead(
    pictures: Sequence[Picture], to_pixels: Callable[[Image.Image], T], *, batch: int
) -> Generator[list[T | DataError]]:
    """Batches of decoded pictures in their order; the next batch is decoded while the caller works on one.

    Close it (`contextlib.closing`) to end its threads when not all is read.

    Args:
        pictures: any mixture of the kinds of `Picture`; each is asked for when its batch is begun.
        to_pixels: what else is done to each in the threads, e.g. the evaluation transform.
        batch: pictures at a time.
    Yields:
        For each picture what `to_pixels` made of it, or the DataError that names it.
    """
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="decode")
    ahead: list[Future[T | DataError]] = []
    with warnings.catch_warnings():  # `decode` silences some, and threads do not restore what each of them found
        try:
            for start in range(0, len(pictures), batch):
                now = ahead or _submitted(pool, pictures, to_pixels, start, batch)
                ahead = _submitted(pool, pictures, to_pixels, start + batch, batch)
                yield [future.result() for future in now]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def find_pictures(where: str | Path | Sequence[str | Path]) -> list[Path]:
    """The files of a list, or those in a folder and below that are named as pictures, sorted.

    Raises:
        DataError: the folder is missing or holds no picture.
    """
    if not isinstance(where, str | Path):
        return [Path(path) for path in where]
    folder = Path(where)
    if folder.is_file():
        return [folder]
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        what = "holds no picture" if folder.is_dir() else "is no folder"
        raise DataError(f"{folder} {what}; expected files that end in {', '.join(SUFFIXES)}")
    return found


def _submitted(
    pool: ThreadPoolExecutor,
    pictures: Sequence[Picture],
    to_pixels: Callable[[Image.Image], T],
    start: int,
    batch: int,
) -> list[Future[T | DataError]]:
    chunk = range(start, min(start + batch, len(pictures)))
    return [pool.submit(_decoded, pictures[place], place, to_pixels) for place in chunk]


def _decoded(picture: Picture, place: int, to_pixels: Callable[[Image.Image], T]) -> T | DataError:
    try:
        return to_pixels(_opened(picture))
    except DataError as error:
        return DataError(f"{_name(picture, place)}: {error}")


def _opened(picture: Picture) -> Image.Image:
    match picture:
        case Image.Image():
            with _LOADING:
                return as_decoded(picture)
        case Sample():
            if picture.image is None:
                raise DataError("has no picture")
            return decode(picture.image)
        case bytes():
            return decode(picture)
        case str() | Path():
            return decode(Path(picture))
        case _:
            raise UsageError(f"cannot encode a {type(picture).__name__}; expected a PIL picture, a path or bytes")


def _name(picture: Picture, place: int) -> str:
    match picture:
        case Sample():
            return picture.key
        case str() | Path():
            return str(picture)
        case _:
            return f"picture {place} of the list"
