"""Oscar's and VinVL's pairs of TSVs: features by picture, and labels (class, rect, conf) by picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.region_files.labels import Object, Size, Vocabulary, completed, objects_of
from diptych.data.region_files.lines import Lines, array, index
from diptych.data.region_files.old_store import OldStore, first_whole, made_by, named, without_torn_row
from diptych.data.region_files.values import count, parsed, text
from diptych.data.regions import Regions, RegionSpec
from diptych.data.rejects import Reject, shown
from diptych.data.tags import first_name
from diptych.errors import DataError

FEATURES, FEATURE_END = "features.tsv", ".feature.tsv"
LABEL_FILES = ("predictions.tsv", "predictions_gt.tsv")
SPATIAL = 6
"""x0, y0, x1, y1, w, h as shares of the picture, behind the features of a region."""


class OscarTsv(OldStore):
    """A feature file with the label file of the same pictures; either order, whatever the counts.

    Boxes are the shares in the last six numbers, which every file has: labels need not say the sizes of the pictures,
    in whose pixels theirs are. Scores and classes are the labels' where they are as many as the features; else the
    scores are 1.
    """

    format = "oscar-tsv"

    def __init__(
        self,
        path: Path,
        spec: RegionSpec | None,
        classes: tuple[str, ...],
        attributes: tuple[str, ...],
        labels: Path | None = None,
    ):
        """Finds the rows of both files; reads all labels once for the names that are not given.

        Raises:
            DataError: a file is damaged, or no row is whole.
        """
        self.features, self.labels = feature_file(path), labels or label_file(path)
        lines, places, rejects = index(self.features)
        lines.check_first()
        self._label_places, bad_labels = (
            ({}, ()) if self.labels is None else _label_rows(self.labels, self.features, places)
        )
        width = first_whole(self.features, places.values(), lambda place: _width(lines.columns(place)))
        told = named(spec or _spec(width, self.labels is not None), classes, attributes)
        super().__init__(path, places, replace(told, box_unit="unit"), rejects=rejects + bad_labels)
        if self.labels is not None and (spec is None or not spec.classes):
            self.spec = completed(self.spec, Lines(self.labels), self._label_places.values())
        self._vocabulary = Vocabulary(self.spec)
        without_torn_row(self, lines, places)

    def tags(self, key: str, threshold: float = 0.0, attribute_threshold: float | None = None) -> tuple[str, ...]:
        """The classes of the label file in its order, which need not be as many as the features; see `tags_of`.

        Raises:
            DataError: the row of labels is damaged.
        """
        with self.telling(key):
            _, objects = self._objects(key)
        return tuple(_tag(one, attribute_threshold) for one in objects if float(one.get("conf", 1)) >= threshold)

    def _read(self, key: str, place: int) -> Regions:
        num, numbers = _numbers(self._files()[0].columns(place))
        if not num:
            numbers = np.zeros((0, self.spec.feature_width + SPATIAL), dtype=np.float32)
        if self.labels is not None and key not in self._label_places:
            raise ValueError(f"{self.labels} has no row of it")
        size, objects = self._objects(key)
        found = Regions(
            height_px=size[0],
            width_px=size[1],
            boxes=numbers[:, -SPATIAL:][:, :4],
            features=numbers[:, :-SPATIAL],
            scores=np.ones(num, dtype=np.float32),
        )
        return replace(found, **self._vocabulary.parts(objects)) if objects and len(objects) == num else found

    def _files(self) -> tuple[Lines, Lines | None]:
        if self._opened is None:
            self._opened = Lines(self.features), None if self.labels is None else Lines(self.labels)
        return self._opened

    def _objects(self, key: str) -> tuple[Size, list[Object]]:
        lines = self._files()[1]
        if lines is None or key not in self._label_places:
            return (None, None), []
        return objects_of(lines.columns(self._label_places[key])[1])


def _label_rows(
    labels: Path, features: Path, places: Mapping[str, int]
) -> tuple[Mapping[str, int], tuple[Reject, ...]]:
    """Where the labels of each picture stand, and the rows that no key leads to.

    Raises:
        DataError: they are of no picture that there are features of.
    """
    _, found, rejects = index(labels)
    if found.keys().isdisjoint(places):
        raise DataError(
            f"{labels} has labels of no picture of {features}: its keys are like {next(iter(found), 'none')!r}, and "
            f"those of the features like {next(iter(places), 'none')!r}; give the labels of these pictures"
        )
    return found, rejects


def _tag(said: Mapping[str, Any], attribute_threshold: float | None) -> str:
    """The class of one object, behind its likeliest attribute where that reaches the threshold."""
    tag, scores = first_name(said["class"]), said.get("attr_scores")
    if attribute_threshold is None or not scores or float(scores[0]) < attribute_threshold:
        return tag
    return f"{first_name(said['attributes'][0])} {tag}"


def feature_file(path: Path) -> Path:
    """The file of features that `path` is, or that lies in it: features.tsv, else the only X.feature.tsv.

    Raises:
        DataError: there are several.
    """
    named, others = path / FEATURES, sorted(path.glob(f"*{FEATURE_END}"))
    if path.is_file() or named.is_file() or not others:
        return path if path.is_file() else named
    if len(others) > 1:
        raise DataError(f"{path} holds {', '.join(file.name for file in others)}; name one of these files")
    return others[0]


def label_file(path: Path) -> Path | None:
    """The labels beside a file of features: predictions.tsv, or X.label.tsv for X.feature.tsv."""
    features = feature_file(path)
    beside = [features.with_name(name) for name in LABEL_FILES]
    if features.name.endswith(FEATURE_END):
        beside.append(features.with_name(features.name.removesuffix(FEATURE_END) + ".label.tsv"))
    return next((file for file in beside if file.is_file()), None)


def is_feature_row(cells: list[bytes]) -> bool:
    """Whether the columns of a row are those of a file of features."""
    return len(cells) in (2, 3) and _whole(cells)


def _whole(cells: list[bytes]) -> bool:
    try:
        return _width(cells) > 0
    except (ValueError, KeyError):
        return False


def _width(cells: list[bytes]) -> int:
    """Of the features of a row; a picture without regions has none to tell it."""
    num, numbers = _numbers(cells)
    if not num:
        raise ValueError("a picture without regions")
    return numbers.shape[1] - SPATIAL


def _numbers(cells: list[bytes]) -> tuple[int, np.ndarray]:
    """The count of regions, and (R, F + 6), of a row of either layout."""
    if len(cells) == 2:
        told = parsed("the column of features", cells[1])
        if not isinstance(told, dict):
            raise ValueError(f"the column of features is {shown(told)}; expected num_boxes and features")
        num, features = str(told["num_boxes"]).encode(), text("features", told["features"]).encode()
    else:
        num, features = cells[1], cells[-1]
    found = count("num_boxes", num)
    return found, array("features", features, "<f4", found, 0)


def _spec(width: int, labelled: bool) -> RegionSpec:
    detector, kind = made_by(width, "bottom-up attention or VinVL")
    return RegionSpec(
        detector=detector,
        detector_hash="",
        rule="unknown, of a file (oscar-tsv)",
        consumer="oscar",
        feature_kind=kind,
        feature_width=width,
        box_kind="proposal",
        box_unit="unit",
        colour="BGR",
        score_kind="class" if labelled else "none",
    )
