"""Files that survive a power cut, and the sums that show whether they did."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from contextlib import suppress
from pathlib import Path


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file and waits until the disk has it; flush its folder too, so that the name lasts."""
    path.write_bytes(content)
    flush_to_disk(path)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that its name holds either what it held before or all of this, whatever happens meanwhile.

    Raises:
        IsADirectoryError: it is the name of a folder.
    """
    if path.is_dir():  # else the temporary file's name would be told, which nobody gave
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_synced(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of names, has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        _flush(handle)
    finally:
        os.close(handle)


def _flush(handle: int) -> None:
    """macOS's fsync leaves data in the drive's own memory; its F_FULLFSYNC, where the file system has it, does not."""
    full: int | None = getattr(fcntl, "F_FULLFSYNC", None)  # of macOS alone
    if full is not None:
        with suppress(OSError):
            fcntl.fcntl(handle, full)
            return
    os.fsync(handle)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
