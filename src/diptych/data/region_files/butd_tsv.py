"""The TSVs of bottom-up attention (6 columns), of LXMERT (10) and their mixture (the six, then ids): see LAYOUTS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diptych.data.region_checks import INT32_MAX
from diptych.data.region_files.lines import Lines, array, index
from diptych.data.region_files.old_store import OldStore, first_whole, made_by, named, without_torn_row
from diptych.data.region_files.values import count
from diptych.data.regions import Regions, RegionSpec

LABELS = ("objects_id", "objects_conf", "attrs_id", "attrs_conf")
LAYOUTS: Mapping[str, tuple[str, ...]] = {
    "butd-tsv": ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features"),
    "lxmert-tsv": ("img_id", "img_h", "img_w", *LABELS, "num_boxes", "boxes", "features"),
    "butd-labels-tsv": ("image_id", "image_w", "image_h", "num_boxes", "boxes", "features", *LABELS),
}
"""Always read by name: the heights and widths of two of them are in another order."""


class ButdTsv(OldStore):
    """One TSV in one of the LAYOUTS."""

    def __init__(self, path: Path, spec: RegionSpec | None, classes: tuple[str, ...], attributes: tuple[str, ...]):
        """Finds the rows, and the layout by the byte counts of the first that is whole.

        Raises:
            DataError: none of the first rows is of one of the layouts.
        """
        self.path = path
        lines = Lines(path)
        lines.check_first()
        self.format, width = _layout(path, lines)  # before keys are looked at, which other files may have twice
        lines, places, rejects = index(path)
        told = named(spec or _spec(self.format, width), classes, attributes)
        super().__init__(path, places, told, rejects=rejects)
        without_torn_row(self, lines, places)

    def _read(self, key: str, place: int) -> Regions:
        if self._opened is None:
            self._opened = Lines(self.path)
        return _decoded(self._opened.columns(place), LAYOUTS[self.format])


def _layout(path: Path, lines: Lines) -> tuple[str, int]:
    """The layout that the first whole row fits, and the width of its features."""
    return first_whole(path, lines.starts(), lambda start: _fitting(lines.columns(start)))


def _fitting(cells: list[bytes]) -> tuple[str, int]:
    why = ""
    for name, columns in LAYOUTS.items():
        if len(cells) != len(columns):
            continue
        try:
            found = _decoded(cells, columns)
            if not len(found):
                raise ValueError("a picture without regions, which fits any")
            return name, found.features.shape[1]
        except (ValueError, KeyError) as error:
            why = f" ({error})"
    told = "; ".join(" ".join(columns) for columns in LAYOUTS.values())
    raise ValueError(f"{len(cells)} columns{why}; expected one of: {told}")


def _decoded(cells: list[bytes], columns: tuple[str, ...]) -> Regions:
    if len(cells) != len(columns):
        raise ValueError(f"{len(cells)} columns; expected {len(columns)}: {' '.join(columns)}")
    cell = dict(zip(columns, cells, strict=True))
    num = count("num_boxes", cell["num_boxes"])
    height, width = (next(name for name in columns if name.endswith(end)) for end in ("_h", "_w"))

    def read(name: str, dtype: str, width: int | None = None) -> np.ndarray:
        return array(name, cell[name], dtype, num, width)

    labels = {}
    if "objects_id" in cell:
        labels["class_ids"] = _ids("objects_id", read("objects_id", "<i8"))
        labels["class_probs"] = read("objects_conf", "<f4", 1)
        attributes, probs = read("attrs_id", "<i8"), read("attrs_conf", "<f4", 1)
        if probs.any():  # who has no attributes fills the columns with zeros
            labels["attribute_ids"] = _ids("attrs_id", attributes)
            labels["attribute_probs"] = probs
    return Regions(
        height_px=count(height, cell[height]),
        width_px=count(width, cell[width]),
        boxes=read("boxes", "<f4", 4),
        features=read("features", "<f4", 0),
        scores=labels["class_probs"][:, 0] if labels else np.ones(num, dtype=np.float32),
        **labels,
    )


def _ids(name: str, ids: np.ndarray) -> np.ndarray:
    """(R, 1) of Regions' own type, whose range is seen to before: a cast would wrap."""
    if ids.size and not 0 <= ids.min() <= ids.max() < INT32_MAX:
        raise ValueError(f"{name} reaches from {ids.min()} to {ids.max()}; expected ids of classes, counted from 0")
    return ids[:, None].astype(np.int32)


def _spec(name: str, width: int) -> RegionSpec:
    regressed = name == "lxmert-tsv"
    detector, kind = made_by(width, "bottom-up attention, R101-C4")
    return RegionSpec(
        detector=detector,
        detector_hash="",
        rule=f"unknown, of a file ({name})",
        feature_kind=kind,
        feature_width=width,
        box_kind="regressed" if regressed else "proposal",
        plus_one=not regressed,
        colour="BGR",
        score_kind="none" if name == "butd-tsv" else "class",
    )
