"""Keys of a table on disk: the sorted index that finds a row, and the set that sees a key come twice."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from diptych.data.sample import hash64

BUCKET = 1 << 20
"""Hashes sorted at once, so that memory does not grow with the table."""


def write_index(path: Path, keys: Iterable[str], num_rows: int) -> None:
    """Writes the hashes of `keys` in order, then the rows they belong to, as little-endian 64-bit integers.

    Args:
        path: the new file: 16 bytes a row.
        keys: of rows 0, 1, 2 ...; as many as `num_rows`.
    """
    with tempfile.TemporaryFile(dir=path.parent) as unsorted:
        unsorted.truncate(8 * num_rows)
        hashes = np.memmap(unsorted, dtype="<i8", mode="r+", shape=(num_rows,))
        for row, key in enumerate(keys):
            hashes[row] = hash64(key)
        out = np.memmap(path, dtype="<i8", mode="w+", shape=(2, num_rows))
        done = 0
        for wanted in _buckets(num_rows):
            rows = np.concatenate([start + np.flatnonzero(inside) for start, inside in _inside(hashes, wanted)])
            order = rows[np.argsort(hashes[rows], kind="stable")]
            out[0, done : done + len(order)] = hashes[order]
            out[1, done : done + len(order)] = order
            done += len(order)
        out.flush()


def _buckets(num_rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of hashes, both ends included, that hold about BUCKET rows each."""
    num = -(-num_rows // BUCKET)
    edges = [-(1 << 63) + (i << 64) // num for i in range(num + 1)]
    return ((low, high - 1) for low, high in pairwise(edges))


def _inside(hashes: np.ndarray, wanted: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(hashes), BUCKET):
        piece = hashes[start : start + BUCKET]
        yield start, (piece >= wanted[0]) & (piece <= wanted[1])


class KeyIndex:
    """The index of one split, mapped into memory."""

    def __init__(self, path: Path, num_rows: int) -> None:
        self._hashes, self._rows = np.asarray(np.memmap(path, dtype="<i8", mode="r", shape=(2, num_rows)))

    def candidates(self, keys: Sequence[str]) -> list[list[int]]:
        """For each key the rows whose key has the same hash: nearly always none or one; the caller compares keys."""
        wanted = np.array([hash64(key) for key in keys], dtype=np.int64)
        first = np.searchsorted(self._hashes, wanted, side="left")
        last = np.searchsorted(self._hashes, wanted, side="right")
        return [self._rows[a:b].tolist() for a, b in zip(first, last, strict=True)]


class KeySet:
    """A set of strings in a mapped file without a name, so that anonymous memory stays flat.

    Open addressing over 128-bit digests; two keys with the same digest are taken for the same key (for 10^9 keys the
    chance of that is 10^-21).
    """

    def __init__(self, folder: Path, capacity: int = 1 << 12) -> None:
        """An empty set whose file lies in `folder`."""
        self._folder = folder
        self._capacity = capacity
        self._map = _anonymous_file(folder, 16 * capacity)
        self._words = memoryview(self._map).cast("Q")
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, key: str) -> bool:
        digest = _digest(key)
        return self._words[2 * self._slot(digest)] == digest[0]

    def add(self, key: str) -> bool:
        """Puts `key` in; False where it was in already."""
        added = self._add(_digest(key))
        if added and 2 * self._size > self._capacity:
            self._grow()
        return added

    def _add(self, digest: tuple[int, int]) -> bool:
        at = 2 * self._slot(digest)
        if self._words[at]:
            return False
        self._words[at], self._words[at + 1] = digest
        self._size += 1
        return True

    def _slot(self, digest: tuple[int, int]) -> int:
        """Where `digest` stands, or the free place where it belongs."""
        words, last = self._words, self._capacity - 1
        slot = digest[1] & last
        while words[2 * slot] and (words[2 * slot], words[2 * slot + 1]) != digest:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        old = self._words
        larger = KeySet(self._folder, 4 * self._capacity)
        for at in range(0, len(old), 2):
            if old[at]:
                larger._add((old[at], old[at + 1]))
        self._capacity, self._map, self._words = larger._capacity, larger._map, larger._words


def _digest(key: str) -> tuple[int, int]:
    """Two 64-bit numbers, the first never 0, which marks a free place."""
    digest = hashlib.blake2b(key.encode(), digest_size=16).digest()
    return int.from_bytes(digest[:8], "little") or 1, int.from_bytes(digest[8:], "little")


def _anonymous_file(folder: Path, size: int) -> mmap.mmap:
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(size)
        return mmap.mmap(file.fileno(), size)
