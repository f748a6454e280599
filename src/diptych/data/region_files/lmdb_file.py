"""LMDB's file format (data version 1, 64 bit), read by hand: a whole tree, or what is left of one that was cut short.

The library maps the pages that a file says it has. Where a download broke off, or pages are damaged, reading them
kills the process. Here nothing outside of the file is looked at, and a broken page costs the records on it.
"""

from __future__ import annotations

import mmap
import struct
from bisect import bisect_right
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from diptych.errors import DataError

FILE = "data.mdb"
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
BIG, DATABASE_OR_REPEATS = 0x01, 0x06
"""Flags of a record: its value has pages of its own; it is no plain record."""
DEEPEST = 64
"""Levels of a tree; a damaged one may lead in a circle."""
BLOCK = 1 << 16
"""Pages whose heads are looked at together."""

_HEAD = struct.Struct("<Q2xHHH")  # number, flags, then the end of the pointers and the start of the nodes
_COUNT = struct.Struct("<12xI")  # of an overflow page: how many belong to it
_META = struct.Struct("<16xIIQQ" + "IHHQQQQQ" * 2 + "QQ")  # magic, version, address, size; two trees; last page, id
_NODE = struct.Struct("<HHHH")  # of a leaf: size of the value, low and high, flags, size of the key
_NUMBER = struct.Struct("<Q")


class Node(NamedTuple):
    """An entry of a page."""

    key: bytes
    low: int
    flags: int
    at: int
    """The byte behind its key, where the value is, or the number of the page that holds it."""


class LmdbFile:
    """The records of a folder's data.mdb by key. Pickled as a path."""

    def __init__(self, folder: Path) -> None:
        """Maps the file; looks for what is left of it where it is shorter than it should be.

        Raises:
            DataError: it is no such file, or nothing is left.
        """
        self.path = folder / FILE
        self._page, last_page, self.entries, self._root = _meta(self.path)
        with self.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._left: dict[bytes, Node] | None = None
        """What is left of a file that has not all its pages, or not the first of its tree."""
        if len(self._map) < (last_page + 1) * self._page or (self.entries and not self._has_tree()):
            self._left = self._gathered()
            if not self._left:
                raise DataError(f"{self.path} is cut short or damaged, and no whole record is left; download it again")

    def __reduce__(self) -> tuple[type[LmdbFile], tuple[Path]]:
        return LmdbFile, (self.path.parent,)

    @property
    def whole(self) -> bool:
        """Whether records are read by the tree, and not gathered from what is left."""
        return self._left is None

    @property
    def lost(self) -> int:
        """Records of which nothing is left."""
        return 0 if self._left is None else max(self.entries - len(self._left), 0)

    def keys(self) -> list[bytes]:
        """In their order; those that are left, where pages of the tree are damaged."""
        if self._left is None and self.entries:
            try:
                return [node.key for node in self._nodes_under(self._root, 0)]
            except ValueError:
                self._left = self._gathered()
        return list(self._left or ())

    def get(self, key: bytes) -> bytes | None:
        """The value, copied; None where there is no such key.

        Raises:
            ValueError: the pages of this record are damaged.
        """
        if not self.entries:
            return None
        node = self._found(key) if self._left is None else self._left.get(key)
        return None if node is None else self._value(node)

    def _has_tree(self) -> bool:
        try:
            self._found(b"\0")
        except ValueError:
            return False
        return True

    def _found(self, key: bytes) -> Node | None:
        """Down the tree: on every page the last node whose key is not behind this one."""
        number = self._root
        for _ in range(DEEPEST):
            at, flags = self._head(number)
            places = self._places(at)
            # The first key of a branch is not written: it stands for all that come before the second.
            behind = bisect_right(places, key, lo=flags & BRANCH, key=partial(self._key, at))
            if not behind:
                return None
            node = self._node(at, places[behind - 1])
            if flags & LEAF:
                return node if node.key == key else None
            number = _child(node)
        raise ValueError("the tree has no end")

    def _nodes_under(self, number: int, depth: int) -> Iterator[Node]:
        if depth == DEEPEST:
            raise ValueError("the tree has no end")
        at, flags = self._head(number)
        for place in self._places(at):
            node = self._node(at, place)
            if flags & LEAF:
                yield node
            else:
                yield from self._nodes_under(_child(node), depth + 1)

    def _gathered(self) -> dict[bytes, Node]:
        """All records on whole leaves, wherever these are: the root comes last in a file, and is the first to be lost.

        A database that was written in several turns has older copies of some leaves too. The records on them are those
        of the newer ones where nothing was written twice; where their values differ, none can be told to be the last.
        """
        found: dict[bytes, Node] = {}
        unclear: set[bytes] = set()
        for number in self._leaves():
            for node in self._whole_nodes(number):
                earlier = found.setdefault(node.key, node)
                if earlier is not node and self._value(earlier) != self._value(node):
                    unclear.add(node.key)
        return {key: found[key] for key in sorted(found.keys() - unclear)}

    def _leaves(self) -> Iterator[int]:
        pages = len(self._map) // self._page
        kind = np.dtype(
            {"names": ["number", "flags"], "formats": ["<u8", "<u2"], "offsets": [0, 10], "itemsize": self._page}
        )
        for start in range(0, pages, BLOCK):
            heads = np.frombuffer(self._map, kind, min(BLOCK, pages - start), start * self._page)
            numbers = np.arange(start, start + len(heads), dtype=np.uint64)
            yield from (start + np.flatnonzero((heads["number"] == numbers) & (heads["flags"] == LEAF))).tolist()

    def _whole_nodes(self, number: int) -> list[Node]:
        """Records of a leaf whose values are in the file; a list of free pages is a leaf too, with numbers for keys."""
        whole = []
        at = number * self._page
        try:
            for node in (self._node(at, place) for place in self._places(at)):
                if b"\0" not in node.key and not node.flags & DATABASE_OR_REPEATS and self._has_value(node):
                    whole.append(node)
        except ValueError:
            return whole
        return whole

    def _head(self, number: int) -> tuple[int, int]:
        """Where a page of the tree begins, and its flags."""
        at = number * self._page
        if at + self._page > len(self._map):
            raise ValueError(f"page {number:,} is behind the end of the file")
        found, flags, _, _ = _HEAD.unpack_from(self._map, at)
        if found != number or flags not in (BRANCH, LEAF):
            raise ValueError(f"page {number:,} is no page of a tree")
        return at, flags

    def _places(self, at: int) -> tuple[int, ...]:
        """Where the nodes of the page at `at` begin, in it."""
        _, _, lower, _ = _HEAD.unpack_from(self._map, at)
        num = (lower - _HEAD.size) // 2
        if not 1 <= num <= (self._page - _HEAD.size) // 2:
            raise ValueError(f"a page of {num:,} nodes")
        return struct.unpack_from(f"<{num}H", self._map, at + _HEAD.size)

    def _node(self, at: int, place: int) -> Node:
        if not _HEAD.size <= place <= self._page - _NODE.size:
            raise ValueError("a node outside of its page")
        low, high, flags, size = _NODE.unpack_from(self._map, at + place)
        begin = place + _NODE.size
        if begin + size > self._page:
            raise ValueError("a key outside of its page")
        return Node(self._map[at + begin : at + begin + size], low | high << 16, flags, at + begin + size)

    def _key(self, at: int, place: int) -> bytes:
        return self._node(at, place).key

    def _has_value(self, node: Node) -> bool:
        try:
            self._span(node)
        except ValueError:
            return False
        return True

    def _value(self, node: Node) -> bytes:
        begin, end = self._span(node)
        return self._map[begin:end]

    def _span(self, node: Node) -> tuple[int, int]:
        """From where to where a value is; `low` is its size."""
        if node.flags & DATABASE_OR_REPEATS:
            raise ValueError("no plain record")
        if not node.flags & BIG:
            if (node.at - 1) // self._page != (node.at + node.low - 1) // self._page:
                raise ValueError("a value outside of its page")
            return node.at, node.at + node.low
        if node.at + _NUMBER.size > len(self._map):
            raise ValueError("a value outside of its page")
        (number,) = _NUMBER.unpack_from(self._map, node.at)
        begin = number * self._page + _HEAD.size
        if begin + node.low > len(self._map):
            raise ValueError("its value is behind the end of the file")
        found, flags, _, _ = _HEAD.unpack_from(self._map, begin - _HEAD.size)
        (count,) = _COUNT.unpack_from(self._map, begin - _HEAD.size)
        if found != number or flags != OVERFLOW or count * self._page < _HEAD.size + node.low:
            raise ValueError(f"page {number:,} does not hold its value")
        return begin, begin + node.low


def _child(node: Node) -> int:
    """The page under a node of a branch, whose flags are the number's highest bits."""
    return node.low | node.flags << 32


def _meta(path: Path) -> tuple[int, int, int, int]:
    """The size of a page, the number of the last one, and entries and root of the tree, of the newer of two heads.

    Raises:
        DataError: there is no head of a file of this kind.
    """
    found = []
    with path.open("rb") as file:
        size = _page_size(path, file.read(_META.size))
        for number in (0, 1):
            file.seek(number * size)
            head = file.read(_META.size)
            if len(head) == _META.size and _HEAD.unpack_from(head)[1] & META:
                fields = _META.unpack(head)
                if fields[:2] == (MAGIC, VERSION):
                    found.append(fields)
    if not found:
        raise DataError(f"{path} has no head of an LMDB; download it again")
    newest = max(found, key=lambda fields: fields[-1])
    return size, newest[-2], newest[18], newest[19]


def _page_size(path: Path, head: bytes) -> int:
    told = _META.unpack(head) if len(head) == _META.size else None
    if told is None or told[:2] != (MAGIC, VERSION):
        raise DataError(f"{path} is no whole LMDB: it does not begin as one (of data version {VERSION}, 64 bit)")
    size = told[4]
    if size & (size - 1) or not 256 <= size <= 1 << 16:
        raise DataError(f"{path} is no whole LMDB: pages of {size:,} bytes")
    return size
