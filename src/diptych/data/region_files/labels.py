"""Detections as JSON, in Oscar's files of labels and in VinVL's predictions: class, rect, conf, and attributes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from diptych.data.region_files.lines import Lines
from diptych.data.region_files.values import items, number, parsed, text
from diptych.data.regions import RegionSpec
from diptych.data.rejects import shown

ATTRIBUTES = ("attributes", "attr_scores")
ATTRIBUTES_KEPT = 3
"""Of a region; where it has fewer, the others have the probability 0."""
NO_ATTRIBUTE = "__no_attribute__"
_CLASS = re.compile(rb'"class": *("(?:[^"\\]|\\.)*")')
_ATTRIBUTES = re.compile(rb'"attributes": *(\[(?:[^"\]]|"(?:[^"\\]|\\.)*")*\])')

Size = tuple[int | None, int | None]
"""Height and width of a picture."""
Object = Mapping[str, Any]


class NamesError(ValueError):
    """A name that the vocabulary has not."""


class Vocabulary:
    """Ids of the names that detections go by."""

    def __init__(self, spec: RegionSpec) -> None:
        """Those of a store."""
        self._classes = {name: id_ for id_, name in enumerate(spec.classes)}
        self._attributes = {name: id_ for id_, name in enumerate(spec.attributes)}

    def parts(self, objects: Sequence[Object]) -> dict[str, Any]:
        """What detections say of their regions, by the names of `Regions`' fields.

        Raises:
            NamesError: one of them has a name that is none of the vocabulary.
        """
        conf = np.array([float(one.get("conf", 1)) for one in objects], dtype=np.float32)
        parts: dict[str, Any] = {
            "scores": np.array([float(one.get("score", one.get("conf", 1))) for one in objects], dtype=np.float32),
            "class_ids": np.array([[_id(one["class"], self._classes)] for one in objects], dtype=np.int32).reshape(
                -1, 1
            ),
            "class_probs": conf[:, None],
        }
        if self._attributes and any("attributes" in one for one in objects):
            found = [self._kept(one) for one in objects]
            parts["attribute_ids"] = np.array([[id_ for id_, _ in one] for one in found], dtype=np.int32)
            parts["attribute_probs"] = np.array([[prob for _, prob in one] for one in found], dtype=np.float32)
        return parts

    def _kept(self, one: Object) -> list[tuple[int, float]]:
        names, probs = one.get("attributes", []), one.get("attr_scores", [])
        pairs = [
            (_id(name, self._attributes), float(prob))
            for name, prob in zip(names, probs, strict=True)
            if name != NO_ATTRIBUTE
        ]
        pairs.sort(key=lambda pair: -pair[1])
        return (pairs + [(0, 0.0)] * ATTRIBUTES_KEPT)[:ATTRIBUTES_KEPT]


def _id(name: str, ids: Mapping[str, int]) -> int:
    if name not in ids:
        raise NamesError(f"{name!r} is not among the {len(ids):,} names of the vocabulary")
    return ids[name]


def objects_of(cell: bytes) -> tuple[Size, list[Object]]:
    """The picture's size, as it is told or None, and the detections of a row.

    Raises:
        KeyError, ValueError: it is no such JSON.
    """
    found = parsed("the column of detections", cell)
    if not isinstance(found, dict):
        return (None, None), _checked(found)
    height, width = (_side(found.get(name)) for name in ("image_h", "image_w"))
    return (height, width), _checked(found["objects"])


def _checked(objects: Any) -> list[Object]:
    """The detections, each of which has a name, and numbers where there should be some.

    Raises:
        ValueError: saying which has not.
    """
    for place, one in enumerate(items("the list of detections", objects)):
        if not isinstance(one, dict):
            raise ValueError(f"detection {place} is {shown(one)}; expected its class, rect and conf")
        text(f"the class of detection {place}", one.get("class"))
        for name in ("conf", "score"):
            number(f"the {name} of detection {place}", one.get(name, 1))
        names, probs = (items(f"{name} of detection {place}", one.get(name, [])) for name in ATTRIBUTES)
        if len(names) != len(probs):
            raise ValueError(f"detection {place} has {len(names)} attributes and {len(probs)} attr_scores")
        for attribute, prob in zip(names, probs, strict=True):
            text(f"an attribute of detection {place}", attribute)
            number(f"one of attr_scores of detection {place}", prob)
    return objects


def _side(told: Any) -> Any:
    """A side of a picture as it is told, which `check_regions` looks at; 480.0 is 480."""
    return int(told) if isinstance(told, float) and told.is_integer() else told


def is_label_row(cells: list[bytes]) -> bool:
    """Whether the columns of a row are a key and detections."""
    try:
        return len(cells) == 2 and objects_of(cells[1]) is not None
    except (ValueError, KeyError):
        return False


def names_in(lines: Lines, places: Iterable[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes and attributes of all rows, sorted, since nobody tells their order: a pass over the whole file."""
    classes: set[bytes] = set()
    attributes: set[bytes] = set()
    for place in places:
        cell = lines.columns(place)[-1]
        classes.update(_CLASS.findall(cell))
        attributes.update(_ATTRIBUTES.findall(cell))
    return tuple(sorted(_names(classes))), tuple(sorted(_names(attributes) - {NO_ATTRIBUTE}))


def _names(pieces: Iterable[bytes]) -> set[str]:
    """The texts in pieces of JSON; damaged pieces have none, and their rows say so when they are read."""
    names: set[str] = set()
    for piece in pieces:
        try:
            found = json.loads(piece)
        except ValueError:
            continue
        names.update(name for name in (found if isinstance(found, list) else [found]) if isinstance(name, str))
    return names


def completed(spec: RegionSpec, lines: Lines, places: Iterable[int]) -> RegionSpec:
    """The spec with the names that the rows themselves have, for those that it lacks; see `names_in`."""
    if spec.classes and spec.attributes:
        return spec
    classes, attributes = names_in(lines, places)
    return replace(spec, classes=spec.classes or classes, attributes=spec.attributes or attributes)
