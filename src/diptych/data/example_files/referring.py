"""RefCOCO's, RefCOCO+'s and RefCOCOg's files: phrases that mean an object, and COCO's boxes of these objects.

The authors' are `refs(unc).p`, `refs(google).p` or `refs(umd).p` beside `instances.json`; UNITER's are `refs.json`
beside `annotations.json` and `images.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from diptych.data.example_files.form import Form, Found, files_of, made_of, number, short, word
from diptych.data.examples import Example
from diptych.data.formats.json_stream import top_level
from diptych.data.formats.record import split_name
from diptych.data.layout import check_split_name
from diptych.data.plain_pickle import read_plain_pickle
from diptych.errors import DataError

EXPECTED = "phrases; expected RefCOCO's, e.g. refs(unc).p beside instances.json"
ANNOTATIONS, IMAGES = "annotations", "images"
BESIDE = ("instances.json", f"{ANNOTATIONS}.json", f"{IMAGES}.json")
KIND = "phrase"
Things = Mapping[int, Mapping[str, Any]]
"""Annotations or images by id."""


def read(source: Path, templates: Sequence[str]) -> Iterator[Found]:
    """Every phrase, in the split of its object: train, validation, and test or testA (people) and testB."""
    file = _refs_file(source)
    known = _beside(file.parent)
    phrase = partial(_phrase, annotations=known[ANNOTATIONS], images=known[IMAGES], template=templates[0])
    for place, ref in enumerate(_refs(file)):
        for row in _by_phrase(ref):
            split = split_name(str(row.get("split", ""))) if isinstance(row, Mapping) else ""
            yield from ((split, one) for one in made_of(row, f"{file}, entry {place}", "sent_id", phrase))


def _refs_file(source: Path) -> Path:
    """The one file of phrases.

    Raises:
        DataError: there is none, or several, which cut the same pictures into splits in their own ways.
    """
    files = files_of(source, "refs*.p", EXPECTED) if not (source / "refs.json").is_file() else [source / "refs.json"]
    if len(files) > 1:
        raise DataError(
            f"{source} has {', '.join(file.name for file in files)}, which share their pictures out in different ways; "
            "name one of these files"
        )
    return files[0]


def _refs(file: Path) -> Iterator[Any]:
    if file.suffix == ".json":
        yield from (ref for _, ref in top_level(file))
        return
    refs = read_plain_pickle(file)
    if not isinstance(refs, list):
        raise DataError(f"{file} holds {short(refs)}; expected a list of objects with their phrases")
    yield from refs


def _by_phrase(ref: Any) -> list[Any]:
    """A row for each phrase of an object, with what is said of the object; one without phrases as it is."""
    phrases = ref.get("sentences") if isinstance(ref, Mapping) else None
    if not isinstance(phrases, list) or not phrases:
        return [ref]
    return [{**ref, **phrase} if isinstance(phrase, Mapping) else phrase for phrase in phrases]


def _beside(folder: Path) -> dict[str, Things]:
    """The annotations and images of the files that lie there, without their outlines."""
    files = [folder / name for name in BESIDE if (folder / name).is_file()]
    known: dict[str, dict[int, Mapping[str, Any]]] = {ANNOTATIONS: {}, IMAGES: {}}
    for name, row in chain.from_iterable(((name or file.stem, row) for name, row in top_level(file)) for file in files):
        if name in known and isinstance(row, Mapping) and isinstance(row.get("id"), int):
            wanted = ("bbox",) if name == ANNOTATIONS else ("file_name", "width", "height")
            known[name][row["id"]] = {field: row[field] for field in wanted if field in row}
    if not (known[ANNOTATIONS] and known[IMAGES]):
        raise DataError(
            f"{folder} has no boxes and sizes of pictures; expected {BESIDE[0]}, or {' and '.join(BESIDE[1:])}"
        )
    return dict(known)


def _phrase(row: Mapping[str, Any], annotations: Things, images: Things, template: str) -> Iterator[Example]:
    image_id, annotation_id = number(row, "image_id"), number(row, "ann_id")
    if annotation_id not in annotations or image_id not in images:
        raise DataError(f"annotation {annotation_id} or image {image_id} is in none of the files beside")
    image = images[image_id]
    name = template.format(id=image_id, name=word(image, "file_name"))
    text = word(row, "sent" if "sent" in row else "raw")
    check_split_name(split_name(word(row, "split")))
    yield Example(
        key=word(row, "sent_id"),
        pictures=(name,),
        texts=(text,),
        kind=KIND,
        box=_shares(annotations[annotation_id].get("bbox"), image),
    )


def _shares(box: Any, image: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Of x, y, width and height in pixels: x0, y0, x1, y1 as shares of the picture, within it."""
    sides = [image.get("width"), image.get("height")]
    numbers = [*box, *sides] if isinstance(box, list) and len(box) == 4 else []
    if not numbers or not all(isinstance(one, int | float) for one in numbers) or min(numbers[4:]) <= 0:
        raise DataError(
            f"its box is {short(box)} in a picture of {short(sides)}; expected x, y, width, height in pixels"
        )
    x, y, width, height = (one / side for one, side in zip(numbers[:4], numbers[4:] * 2, strict=True))
    x0, y0, x1, y1 = (min(max(one, 0.0), 1.0) for one in (x, y, x + width, y + height))
    if not (x0 < x1 and y0 < y1):
        raise DataError(f"its box {short(box)} covers nothing of a picture of {short(sides)}")
    return x0, y0, x1, y1


FORM = Form(name="RefCOCO", picture_key="{name}", fields={"id": 0, "name": ""}, read=read)
