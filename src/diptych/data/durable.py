"""Files that survive a power cut, and the sums that show whether they did."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file and waits until the disk has it; flush its folder too, so that the name lasts."""
    path.write_bytes(content)
    flush_to_disk(path)


def flush_to_disk(path: Path) -> None:
    """Waits until a file, or a folder's list of names, has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
