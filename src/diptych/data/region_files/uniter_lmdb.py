"""UNITER's databases of LMDB: of pictures (npz or msgpack values), and of texts (LZ4 frames of msgpack)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diptych.data.region_files.old_store import OldStore, named
from diptych.data.region_files.uniter_values import regions_of, spec_of
from diptych.data.regions import Regions, RegionSpec
from diptych.errors import DataError, require_extra

KEYS = b"__keys__"
_OPEN: dict[Path, Any] = {}
"""py-lmdb refuses a second opening of a folder in one process; a forked child may use what its parent opened."""


class UniterLmdb(OldStore):
    """A folder such as feat_th0.2_max100_min10; the counts of regions are beside it, in nbb_th0.2_max100_min10.json."""

    format = "uniter-lmdb"

    def __init__(self, path: Path, spec: RegionSpec | None, classes: tuple[str, ...], attributes: tuple[str, ...]):
        """Reads the keys, the counts and the first picture.

        Raises:
            MissingExtraError: `lmdb` or `msgpack` is not installed.
            DataError: the database is damaged or cut short, or has no pictures.
        """
        counts = _counts(path)
        with _transaction(path) as found:
            names = found.get(KEYS)
            keys = (
                json.loads(names)
                if names is not None
                else [key.decode() for key in found.cursor().iternext(values=False)]
            )
            places = {key: counts.get(key) for key in keys}
            first = next((value for key in keys if (value := found.get(key.encode())) is not None), None)
        if first is None:
            raise DataError(f"{path} is a database without pictures")
        super().__init__(path, places, named(spec or spec_of(regions_of(first)), classes, attributes))

    def _read(self, key: str, place: int | None) -> Regions:
        with _transaction(self.path) as found:
            value = found.get(key.encode())
        if value is None:
            raise LookupError("it is in the list of keys only")
        regions = regions_of(value, place)
        if place is not None and len(regions) < place:
            raise ValueError(f"{len(regions)} regions; the file of counts says {place}")
        return regions


class UniterTexts:
    """A folder NAME.db: examples of words and targets by id, in the order of id2len.json. Spawn-safe."""

    def __init__(self, path: Path) -> None:
        """Reads the JSON files beside the database.

        Raises:
            MissingExtraError: `lmdb`, `lz4` or `msgpack` is not installed.
            DataError: there is no id2len.json, or a file is damaged.
        """
        for module in ("lmdb", "lz4", "msgpack"):
            require_extra(module, "legacy", "reading UNITER's databases of texts")
        self.path = path
        sides = {file.stem: _json(file) for file in sorted(path.glob("*.json"))}
        lengths = [name for name in sides if name.startswith("id2len")]
        if not lengths:
            raise DataError(f"{path} has no id2len.json, which says the order of a database of texts")
        self.lengths: Mapping[str, Mapping[str, int]] = {name: sides[name] for name in lengths}
        """WordPieces without specials by id; VCR has two of them."""
        self.ids: tuple[str, ...] = tuple(sides[lengths[0]])
        self.meta: Mapping[str, Any] = sides.get("meta", {})
        """Ids of the special tokens and the name of the tokenizer."""
        self.pictures: Mapping[str, Any] = sides.get("txt2img", {})
        """The key of the picture, or of two, by id."""
        self.sides: Mapping[str, Any] = sides
        """Every JSON file by its name, e.g. "refs" of referring expressions."""

    def __len__(self) -> int:
        return len(self.ids)

    def example(self, id_: str) -> Mapping[str, Any]:
        """What is stored of one id: input_ids, img_fname, and what its task needs.

        Raises:
            DataError: there is no such id, or it is damaged.
        """
        import lz4.frame
        import msgpack

        with _transaction(self.path) as found:
            value = found.get(id_.encode())
        if value is None:
            raise DataError(f"{self.path} has no example {id_!r}")
        try:
            return msgpack.unpackb(lz4.frame.decompress(value), raw=False)
        except (RuntimeError, ValueError, msgpack.UnpackException) as error:
            raise DataError(f"example {id_!r} of {self.path} is damaged: {error}") from error


@contextmanager
def _transaction(path: Path) -> Iterator[Any]:
    require_extra("lmdb", "legacy", "reading UNITER's databases")
    require_extra("msgpack", "legacy", "reading UNITER's databases")
    import lmdb

    try:
        if path not in _OPEN:
            found = lmdb.open(str(path), readonly=True, lock=False, readahead=False, create=False, max_readers=1)
            _check_whole(path, found)
            _OPEN[path] = found
        with _OPEN[path].begin(buffers=False) as transaction:
            yield transaction
    except lmdb.Error as error:
        raise DataError(f"{path} is no whole LMDB: {error}") from error


def _check_whole(path: Path, found: Any) -> None:
    """Pages behind the end of a file that was cut short would kill the process."""
    pages, size = found.info()["last_pgno"] + 1, (path / "data.mdb").stat().st_size
    if size < pages * found.stat()["psize"]:
        found.close()
        raise DataError(
            f"{path / 'data.mdb'} is cut short: {size:,} bytes of {pages * 4096:,}. The tree of an LMDB begins at its "
            "end, so nothing of it can be read; download it again"
        )


def _counts(path: Path) -> Mapping[str, int]:
    """Regions by key, of the JSON file that belongs to the folder; {} where there is none."""
    name = path.name.removesuffix("_compressed").removeprefix("feat_")
    file = path.parent / f"nbb_{name}.json"
    return _json(file) if file.is_file() else {}


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}") from error
