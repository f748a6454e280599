"""What all old files share as a `RegionStore`: an index of places by key, and checks of every row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from diptych.data.region_checks import check_regions
from diptych.data.region_files.labels import NamesError
from diptych.data.region_files.lines import Lines
from diptych.data.regions import Regions, RegionSpec, RegionStore
from diptych.data.rejects import Reject, in_words
from diptych.errors import DataError, UsageError

FIRST = 100
"""Rows of which one is whole, or the file is taken for none."""
NAMED = 20
"""Pictures whose ids are held against the names that a user gives."""
RELEASED_WIDTH = 2048
"""Numbers of a region in the files of all releases, where they are the mean of a C4 network's last stage."""
DAMAGE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError, OSError)
"""What decoding a row may raise."""
Row = TypeVar("Row")
Read = TypeVar("Read")


class OldStore(ABC):
    """Regions in a foreign format. A copy in another process opens the files itself; the index travels with it."""

    format: str
    """Of `detect.NAMES`."""
    _opened: Any = None
    """Handles of this process."""

    def __init__(
        self,
        path: Path,
        places: Mapping[str, Any],
        spec: RegionSpec,
        notes: tuple[str, ...] = (),
        rejects: tuple[Reject, ...] = (),
        num_soft_labels: int = 0,
    ) -> None:
        """`places`: where the row of each key is; `num_soft_labels`: of a region in the first whole row; 0: none."""
        self.path = path
        self.rejects = rejects
        """Rows that no key leads to; see `by_key`."""
        self.spec = spec
        self.notes = notes
        """What people should know of the files, e.g. that they were cut short."""
        self._places = places
        self._num_soft_labels = num_soft_labels

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
        with self.telling(key):
            found = self._read(key, self._places[key])
            if not len(found):  # no number tells how wide nothing is
                found = self._none_of(found)
            check_regions(key, found, self.spec)
            self._check_soft_labels(key, found)
        return found

    def _none_of(self, regions: Regions) -> Regions:
        """A picture without regions, whose parts are as wide as those of the others."""
        none, soft = (np.zeros((0, num), dtype=np.float32) for num in (self.spec.feature_width, self._num_soft_labels))
        soft_labels = soft if self._num_soft_labels else regions.soft_labels
        return replace(regions, boxes=np.zeros((0, 4), dtype=np.float32), features=none, soft_labels=soft_labels)

    def _check_soft_labels(self, key: str, regions: Regions) -> None:
        """Files that name no classes tell by their first whole row how many there are."""
        found = 0 if regions.soft_labels is None else regions.soft_labels.shape[1]
        if self._num_soft_labels and found != self._num_soft_labels:
            raise DataError(
                f"the regions of {key!r}: soft_labels has {found} numbers a region; expected {self._num_soft_labels}, "
                "as in the first row"
            )

    @contextmanager
    def telling(self, key: str) -> Iterator[None]:
        """Says of whatever decoding a row raises that the regions of `key` are damaged."""
        try:
            yield
        except DAMAGE as error:
            raise DataError(f"the regions of {key!r} in {self.path} are damaged: {in_words(error)}") from error

    def first_whole(self, most: int) -> list[Regions]:
        """Those of the first `most` pictures that can be read and have regions, by whatever names they go.

        Raises:
            NamesError: a name in a row is none of the vocabulary.
        """
        found = []
        for key, place in islice(self._places.items(), most):
            try:
                found.append(self._read(key, place))
            except NamesError:
                raise
            except DAMAGE:
                continue
        return [regions for regions in found if len(regions)]

    @abstractmethod
    def _read(self, key: str, place: Any) -> Regions:
        """One row; any ValueError, TypeError or LookupError says that it is damaged."""


def notes_of(store: RegionStore) -> tuple[str, ...]:
    """What people should know of a store's files."""
    if not isinstance(store, OldStore):
        return ()
    if not store.rejects:
        return store.notes
    first, num = store.rejects[0], len(store.rejects)
    some = "1 row is left out" if num == 1 else f"{num:,} rows are left out, the first"
    return (*store.notes, f"{some} {first.source}, since {first.reason}")


def rejects_of(store: RegionStore) -> tuple[Reject, ...]:
    """Rows of a store's files that no key leads to."""
    return store.rejects if isinstance(store, OldStore) else ()


def without_torn_row(store: OldStore, lines: Lines, places: dict[str, int]) -> None:
    """Leaves the last row of a TSV out where a download broke off in it."""
    if not lines.torn():
        return
    last, row = next(reversed(places)), "its last row"
    if lines.is_last(places[last]):
        try:
            store.regions(last)
            return
        except DataError:
            del places[last]
            row += f", {last!r}"
    store.notes += (f"{store.path} is cut short within {row}, which is left out",)


def first_whole(path: Path, rows: Iterable[Row], read: Callable[[Row], Read]) -> Read:
    """What `read` makes of the first row that is whole, of the first FIRST.

    Raises:
        DataError: none of them is; it tells why.
    """
    why = "there are no rows"
    for number, row in enumerate(islice(rows, FIRST)):
        try:
            return read(row)
        except DAMAGE as error:
            why = in_words(error) if not number else why
    raise DataError(f"{path} has no whole row of regions ({why})")


def made_by(width: int, detector: str) -> tuple[str, str]:
    """The detector and the kind of the features in a file that names neither, as far as their width tells."""
    return (detector, "c4-mean") if width == RELEASED_WIDTH else ("unknown", "unknown")


def named(spec: RegionSpec, classes: tuple[str, ...], attributes: tuple[str, ...]) -> RegionSpec:
    """The spec with the names that the user gives, since most old files have none."""
    return replace(spec, classes=classes or spec.classes, attributes=attributes or spec.attributes)


def check_names(store: OldStore, classes: tuple[str, ...], attributes: tuple[str, ...]) -> None:
    """Holds the names that a user gives against the first whole rows; () are none.

    Raises:
        UsageError: the files have nothing that goes by such names.
        DataError: the names are too few, or others.
    """
    try:
        first = store.first_whole(NAMED)
    except NamesError as error:
        raise DataError(f"the names that were given are not those of {store.path}: {error}") from error
    for what, names, ids in (
        ("classes", classes, [one.class_ids for one in first]),
        ("attributes", attributes, [one.attribute_ids for one in first]),
    ):
        softs = [one.soft_labels.shape[1] - 1 for one in first if what == "classes" and one.soft_labels is not None]
        numbers = [1 + int(some.max()) for some in ids if some is not None]
        if not names or not first:
            continue
        if not softs and not numbers:
            raise UsageError(f"{store.path} ({store.format}) has no {what}; leave --{what} out")
        wrong = next((f"{soft:,}" for soft in softs if soft != len(names)), "")
        if max(numbers, default=0) > len(names):
            wrong = f"{max(numbers):,} or more"
        if wrong:
            raise DataError(
                f"{store.path} has {wrong} {what}, background not counted, and {len(names):,} names were given; give "
                "the vocabulary of the detector that made it, in the order of its ids"
            )
