"""Pictures as users hand them over, decoded in threads while the model computes."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from diptych.data.images import as_decoded, decode, decode_for_training, to_rgb
from diptych.data.sample import Sample
from diptych.errors import DataError, UsageError

Picture = Image.Image | Path | str | bytes | Sample
"""A picture of Pillow, the path of a file, a file's bytes, or a row of a table."""

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What a file of a folder must end in to be taken for a picture."""

Decoded = Tensor | DataError

ToPixels = Callable[[Image.Image | np.ndarray], Tensor]
"""An evaluation transform."""

_LOADING = threading.Lock()  # Pillow reads a file late, and one picture may stand in a list twice


def decode_ahead(
    pictures: Sequence[Picture], to_pixels: ToPixels, *, batch: int, size_hint: int | None = None
) -> Generator[list[Decoded]]:
    """Batches of decoded pictures in their order; the next batch is decoded while the caller works on one.

    Close it (`contextlib.closing`) to end its threads when not all is read.

    Args:
        pictures: any mixture of the kinds of `Picture`.
        to_pixels: the evaluation transform.
        batch: pictures at a time.
        size_hint: hand `to_pixels` arrays as training reads them, see `decode_for_training`; None: pictures.
    Yields:
        For each picture its (3, height, width) pixels, or the DataError that names it.
    """
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="decode")
    ahead: list[Future[Decoded]] = []
    with warnings.catch_warnings():  # `decode` silences some, and threads do not restore what each of them found
        try:
            submit = partial(_submitted, pool, pictures, partial(_decoded, to_pixels, size_hint), batch)
            for start in range(0, len(pictures), batch):
                now = ahead or submit(start)
                ahead = submit(start + batch)
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
    decoded: Callable[[Picture, int], Decoded],
    batch: int,
    start: int,
) -> list[Future[Decoded]]:
    chunk = range(start, min(start + batch, len(pictures)))
    return [pool.submit(decoded, pictures[place], place) for place in chunk]


def _decoded(to_pixels: ToPixels, size_hint: int | None, picture: Picture, place: int) -> Decoded:
    try:
        return to_pixels(_opened(picture, size_hint))
    except DataError as error:
        return DataError(f"{_name(picture, place)}: {error}")


def _opened(picture: Picture, size_hint: int | None) -> Image.Image | np.ndarray:
    match picture:
        case Image.Image():
            with _LOADING:
                opened = as_decoded(picture)
            return opened if size_hint is None else np.asarray(to_rgb(opened))
        case Sample(image=None):
            raise DataError("has no picture")
        case Sample():
            file = picture.image
        case bytes() | Path():
            file = picture
        case str():
            file = Path(picture)
        case _:
            raise UsageError(f"cannot encode a {type(picture).__name__}; expected a PIL picture, a path or bytes")
    assert file is not None
    return decode(file) if size_hint is None else decode_for_training(file, size_hint=size_hint)


def _name(picture: Picture, place: int) -> str:
    match picture:
        case Sample():
            return picture.key
        case str() | Path():
            return str(picture)
        case _:
            return f"picture {place} of the list"
