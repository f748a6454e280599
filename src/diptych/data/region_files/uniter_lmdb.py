"""UNITER's databases of LMDB: of pictures (npz or msgpack values), and of texts (LZ4 frames of msgpack)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.data.region_files.keys import by_key
from diptych.data.region_files.lmdb_file import LmdbFile
from diptych.data.region_files.old_store import OldStore, first_whole, named
from diptych.data.region_files.uniter_values import num_soft_labels, regions_of, spec_of
from diptych.data.regions import Regions, RegionSpec
from diptych.data.rejects import in_words
from diptych.errors import DataError, require_extra

KEYS = b"__keys__"


class UniterLmdb(OldStore):
    """A folder such as feat_th0.2_max100_min10; the counts of regions are beside it, in nbb_th0.2_max100_min10.json."""

    format = "uniter-lmdb"

    def __init__(self, path: Path, spec: RegionSpec | None, classes: tuple[str, ...], attributes: tuple[str, ...]):
        """Reads the keys, the counts and the first picture.

        Raises:
            MissingExtraError: `msgpack` is not installed.
            DataError: the database is damaged or cut short, or has no pictures.
        """
        require_extra("msgpack", "legacy", "reading UNITER's databases")
        counts = _counts(path)
        found = LmdbFile(path)
        keys, rejects = by_key(path, ((key, None) for key in _keys(found)))
        places = {key: counts.get(key) for key in keys}
        first = first_whole(path, places, lambda key: regions_of(_value(found, key)))
        listed = max(found.entries - 1, len(keys))  # of the records one is the list of keys
        notes = _notes(found, "pictures", len(keys), listed)
        told = named(spec or spec_of(first), classes, attributes)
        super().__init__(path, places, told, notes, rejects, num_soft_labels(first))
        self._opened = found

    def _read(self, key: str, place: int | None) -> Regions:
        if self._opened is None:
            self._opened = LmdbFile(self.path)
        regions = regions_of(_value(self._opened, key), place)
        if place is not None and len(regions) < place:
            raise ValueError(f"{len(regions)} regions; the file of counts says {place}")
        return regions


class UniterTexts:
    """A folder NAME.db: examples of words and targets by id, in the order of id2len.json. Spawn-safe."""

    def __init__(self, path: Path) -> None:
        """Reads the JSON files beside the database.

        Raises:
            MissingExtraError: `lz4` or `msgpack` is not installed.
            DataError: there is no id2len.json, or a file is damaged.
        """
        for module in ("lz4", "msgpack"):
            require_extra(module, "legacy", "reading UNITER's databases of texts")
        self.path = path
        self._file = LmdbFile(path)
        self.notes = _notes(self._file, "records", self._file.entries - self._file.lost, self._file.entries)
        """What people should know of the files, e.g. that they were cut short."""
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

    def __contains__(self, id_: str) -> bool:
        """Whether the record of an id is in the file, which it need not be in one that was cut short."""
        return self._file.get(id_.encode()) is not None

    def example(self, id_: str) -> Mapping[str, Any]:
        """What is stored of one id: input_ids, img_fname, and what its task needs.

        Raises:
            DataError: there is no such id, or it is damaged.
        """
        import lz4.frame
        import msgpack

        try:
            value = self._file.get(id_.encode())
            if value is None:
                raise DataError(f"{self.path} has no example {id_!r}")
            return msgpack.unpackb(lz4.frame.decompress(value), raw=False)
        except (RuntimeError, ValueError, msgpack.UnpackException) as error:
            raise DataError(f"example {id_!r} of {self.path} is damaged: {in_words(error)}") from error


def _keys(found: LmdbFile) -> list[bytes]:
    """In UNITER's own order, where the list of it is whole."""
    try:
        listed = json.loads(found.get(KEYS) or b"null")
        if isinstance(listed, list) and found.whole:
            return [name.encode() for name in listed]
    except (ValueError, TypeError, AttributeError):
        pass  # a damaged list costs the order alone
    return [key for key in found.keys() if key != KEYS]  # noqa: SIM118 - a file is no dict


def _value(found: LmdbFile, key: str) -> bytes:
    value = found.get(key.encode())
    if value is None:
        raise LookupError("it is in the list of keys only")
    return value


def _notes(found: LmdbFile, unit: str, kept: int, of: int) -> tuple[str, ...]:
    if found.whole:
        return ()
    return (f"{found.path} is cut short or damaged: {kept:,} of its {of:,} {unit} are left",)


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
