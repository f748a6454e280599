"""COCO annotations: captions and instances JSON, joined by the picture's id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from diptych.data.formats.json_stream import top_level
from diptych.data.formats.objects import one_object
from diptych.data.formats.places import Pictures, files_near, relative_name
from diptych.data.formats.record import Record, split_of_file, texts_of
from diptych.data.formats.spool import Spool
from diptych.data.rejects import Reject
from diptych.errors import DataError

PICTURE_FIELDS = ("width", "height", "license")


def sniff(source: Path) -> bool:
    """Whether `source` is such a file, or a folder with some in it or in its `annotations`."""
    return _is_coco(source) if source.is_file() else bool(_annotation_files(source))


def read(source: Path, *, pictures: bool = True) -> Iterator[Record | Reject]:
    """The pictures that the files list, with the texts and boxes of all files of the same split.

    The picture's id is the key, for `captions_val2017.json` the split is validation. Boxes become the column `objects`
    in pixels, corners first and last; a category's name comes along with its number.

    Raises:
        DataError: there is no such file, or one is no JSON.
    """
    files = [source] if source.is_file() else _annotation_files(source)
    if not files:
        raise DataError(f"{source} has no COCO annotations (captions_*.json or instances_*.json)")
    root = _root(source)
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        by_split.setdefault(split_of_file(file.stem), []).append(file)
    for split, parts in by_split.items():
        yield from _split_rows(parts, split, Pictures(root, split=split))


def _split_rows(files: list[Path], split: str | None, pictures: Pictures) -> Iterator[Record | Reject]:
    names = {row.get("id"): row.get("name") for file in files for row in _rows(file, "categories")}
    with closing(Spool()) as annotations:
        for file in files:
            for row in _rows(file, "annotations"):
                annotations.add(str(row.get("image_id")), _slim(row, names))
        with closing(Spool()) as seen:
            for file in files:
                for row in _rows(file, "images"):
                    key = str(row.get("id"))
                    if next(seen.get(key), None) is None:
                        seen.add(key, True)
                        yield _record(row, key, list(annotations.get(key)), file.name, split, pictures)


def _record(
    row: Mapping[str, Any],
    key: str,
    annotations: list[dict[str, Any]],
    file: str,
    split: str | None,
    pictures: Pictures,
) -> Record | Reject:
    source = f"{file} image {key}"
    name = row.get("file_name")
    if not isinstance(name, str) or "id" not in row:
        return Reject(key, source, "an entry of 'images' without id or file_name")
    objects = [one["object"] for one in annotations if "object" in one]
    fields: dict[str, Any] = {"file_name": name, "objects": objects}
    fields |= {field: row[field] for field in PICTURE_FIELDS if isinstance(row.get(field), int)}
    texts = tuple(text for one in annotations for text in texts_of(one.get("caption")))
    try:
        image = pictures.find(name)
        return Record(key=key, source=source, image=image, texts=texts, split=split, fields=fields)
    except DataError as error:
        return Reject(key, source, str(error))


def _slim(row: Mapping[str, Any], names: Mapping[Any, Any]) -> dict[str, Any]:
    """What is kept of an annotation: its text, or its box without the outline."""
    if isinstance(row.get("caption"), str):
        return {"caption": row["caption"]}
    box, label = row.get("bbox"), row.get("category_id")
    if not isinstance(box, list):
        return {}
    found = one_object(box, label=label, name=names.get(label), crowd=bool(row.get("iscrowd")))
    return {} if found is None else {"object": found}


def _rows(file: Path, part: str) -> Iterator[dict[str, Any]]:
    return (row for name, row in top_level(file) if name == part and isinstance(row, dict))


def _root(source: Path) -> Path:
    """Where pictures are looked for: the folder named, or the one above `annotations`."""
    folder = source if source.is_dir() else source.parent
    return folder.resolve().parent if folder.name == "annotations" else folder


def _annotation_files(folder: Path) -> list[Path]:
    """The files of captions and instances in a folder and its `annotations`, captions first."""
    found = (path for path in files_near(folder, depth=1) if path.suffix == ".json")
    wanted = (path for path in found if path.name.startswith(("captions", "instances")))
    return sorted(
        (path for path in wanted if _is_coco(path)), key=lambda path: (path.name, relative_name(path, folder))
    )


def _is_coco(file: Path) -> bool:
    """Whether a JSON file has COCO's lists; looks no further than the first picture or annotation."""
    if file.suffix != ".json":
        return False
    try:
        for name, row in top_level(file):
            if name == "images":
                return isinstance(row, dict) and "id" in row and "file_name" in row
            if name == "annotations":
                return isinstance(row, dict) and "image_id" in row
            if name == "":
                return False
    except DataError:
        return False
    return False
