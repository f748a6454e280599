"""Pictures decoded once as a check, in threads, results in the order of the rows."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from diptych.data.formats.record import MAX_PICTURE_BYTES, Record
from diptych.data.images import decode
from diptych.data.rejects import Reject
from diptych.errors import DataError


def checked(record: Record, *, max_pixels: int, reference: bool) -> Record | Reject:
    """The record with its picture's bytes, decoded once as a check, or why the picture is none.

    Args:
        record: its image is bytes, a path, or None in a source without pictures.
        max_pixels: see `decode`.
        reference: leave a path a path.
    """
    image = record.image
    if image is None:
        return record
    try:
        if isinstance(image, Path):
            size = image.stat().st_size
            if size > MAX_PICTURE_BYTES:
                raise DataError(f"a file of {size:,} bytes; at most {MAX_PICTURE_BYTES:,} are read")
            image = image.read_bytes()
        if not image:
            raise DataError("the file is empty")
        decode(image, max_pixels=max_pixels)
    except OSError as error:
        return Reject(record.key, record.source, f"the picture cannot be read: {error.strerror or error}")
    except DataError as error:
        return Reject(record.key, record.source, str(error))
    return record if reference else replace(record, image=image)


def in_order(
    check: Callable[[Record], Record | Reject], records: Iterable[Record | Reject]
) -> Iterator[Record | Reject]:
    """`check` of every record, run in threads (decoding lets go of Python's lock), results in the order of records.

    Only a few pictures a thread are on the way, so memory stays flat.
    """
    threads = min(16, os.cpu_count() or 1)
    on_the_way: deque[Future[Record | Reject] | Reject] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for record in records:
                on_the_way.append(record if isinstance(record, Reject) else pool.submit(check, record))
                if len(on_the_way) >= 4 * threads:
                    yield _result(on_the_way.popleft())
            while on_the_way:
                yield _result(on_the_way.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _result(found: Future[Record | Reject] | Reject) -> Record | Reject:
    return found if isinstance(found, Reject) else found.result()
