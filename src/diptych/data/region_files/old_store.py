"""What all old files share as a `RegionStore`: an index of places by key, and checks of every row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.region_checks import check_regions
from diptych.data.region_files.lines import Lines
from diptych.data.regions import Regions, RegionSpec
from diptych.errors import DataError


class OldStore(ABC):
    """Regions in a foreign format. A copy in another process opens the files itself; the index travels with it."""

    format: str
    """Of `detect.NAMES`."""
    _opened: Any = None
    """Handles of this process."""

    def __init__(self, path: Path, places: Mapping[str, Any], spec: RegionSpec) -> None:
        """`places`: where the row of each key is."""
        self.path = path
        self.spec = spec
        self._places = places

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def keys(self) -> Iterator[str]:
        """In the order of the file."""
        return iter(self._places)

    def regions(self, key: str) -> Regions:
        """The regions of one picture, decoded and checked.

        Raises:
            DataError: there are none of this key, or its row is damaged.
        """
        if key not in self._places:
            raise DataError(f"{self.path} has no regions of {key!r}")
        try:
            found = self._read(key, self._places[key])
        except (ValueError, TypeError, KeyError, LookupError, OSError) as error:
            raise DataError(f"the regions of {key!r} in {self.path} are damaged: {error}") from error
        if not len(found):  # no number tells how wide nothing is
            none = np.zeros((0, self.spec.feature_width), dtype=np.float32)
            found = replace(found, boxes=np.zeros((0, 4), dtype=np.float32), features=none)
        check_regions(key, found, self.spec)
        return found

    @abstractmethod
    def _read(self, key: str, place: Any) -> Regions:
        """One row; any ValueError, TypeError or LookupError says that it is damaged."""


def without_torn_row(store: OldStore, lines: Lines, places: dict[str, int]) -> None:
    """Leaves the last row of a TSV out where a download broke off in it."""
    if lines.ends_whole():
        return
    last = next(reversed(places))
    try:
        store.regions(last)
    except DataError:
        del places[last]


def named(spec: RegionSpec, classes: tuple[str, ...], attributes: tuple[str, ...]) -> RegionSpec:
    """The spec with the names that the user gives, since most old files have none."""
    return replace(spec, classes=classes or spec.classes, attributes=attributes or spec.attributes)
