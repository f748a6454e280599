"""What VinVL's extractor writes: predictions.tsv, whose rows are a key and the detections with their features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diptych.data.region_files.labels import Object, Vocabulary, completed, objects_of
from diptych.data.region_files.lines import Lines, array, index
from diptych.data.region_files.old_store import OldStore, first_whole, made_by, named, without_torn_row
from diptych.data.region_files.values import items, number, text
from diptych.data.regions import Regions, RegionSpec

FILE = "predictions.tsv"


class VinvlTsv(OldStore):
    """One such file. It does not tell the sizes of the pictures, whose pixels its boxes are in."""

    format = "vinvl-tsv"

    def __init__(self, path: Path, spec: RegionSpec | None, classes: tuple[str, ...], attributes: tuple[str, ...]):
        """Finds the rows; reads all of them once for the names that are not given.

        Raises:
            DataError: the file is damaged, or no row is whole.
        """
        lines, places, rejects = index(vinvl_file(path))
        lines.check_first()
        width = first_whole(path, places.values(), lambda place: _width(lines.columns(place)))
        found = named(spec or _spec(width), classes, attributes)
        if spec is None or not spec.classes:
            found = completed(found, lines, places.values())
        super().__init__(path, places, found, rejects=rejects)
        self._vocabulary = Vocabulary(found)
        without_torn_row(self, lines, places)

    def _read(self, key: str, place: int) -> Regions:
        if self._opened is None:
            self._opened = Lines(vinvl_file(self.path))
        (height, width), objects = objects_of(self._opened.columns(place)[1])
        features = [_feature(one) for one in objects]
        wrong = next((len(one) for one in features if len(one) != self.spec.feature_width), None)
        if wrong is not None:
            raise ValueError(f"a feature of {wrong:,} numbers; expected {self.spec.feature_width:,}")
        return Regions(
            height_px=height,
            width_px=width,
            boxes=np.array([_rect(one) for one in objects], dtype=np.float32).reshape(len(objects), 4),
            features=np.stack(features) if features else np.zeros((0, self.spec.feature_width), np.float32),
            **self._vocabulary.parts(objects),
        )


def vinvl_file(path: Path) -> Path:
    """The file that `path` is, or that lies in it."""
    return path if path.is_file() else path / FILE


def is_vinvl_row(cells: list[bytes]) -> bool:
    """Whether the columns of a row are those of such a file."""
    try:
        return _width(cells) > 0
    except (ValueError, KeyError):
        return False


def _width(cells: list[bytes]) -> int:
    if len(cells) != 2:
        raise ValueError(f"{len(cells)} columns; expected 2")
    _, objects = objects_of(cells[1])
    if not objects:
        raise ValueError("a picture without regions")
    return len(_feature(objects[0]))


def _feature(one: Object) -> np.ndarray:
    return array("feature", text("feature", one["feature"]).encode(), "<f4", 1, 0)[0]


def _rect(one: Object) -> list[float]:
    sides = [number("a side of rect", side) for side in items("rect", one["rect"])]
    if len(sides) != 4:
        raise ValueError(f"rect has {len(sides)} numbers; expected x0, y0, x1, y1")
    return sides


def _spec(width: int) -> RegionSpec:
    detector, kind = made_by(width, "VinVL, X152-C4")
    return RegionSpec(
        detector=detector,
        detector_hash="",
        rule="unknown, of a file (vinvl-tsv)",
        consumer="oscar+",
        feature_kind=kind,
        feature_width=width,
        box_kind="proposal",
        plus_one=True,
        colour="BGR",
    )
