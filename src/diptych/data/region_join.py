"""Regions and tags as fields of a table's samples, from one store or several of the same kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diptych.data.region_checks import COMMAND, difference
from diptych.data.regions import Regions, RegionSpec, RegionStore, box_shares
from diptych.data.table import Rows, Table, join
from diptych.data.tags import tags_of
from diptych.errors import DataError


@dataclass(frozen=True, kw_only=True)
class TagRule:
    """Which tags a sample's "tags" are; see `tags_of`."""

    threshold: float = 0.2
    attribute_threshold: float | None = None
    unique: bool = False


@dataclass(frozen=True)
class RegionColumns:
    """Stores of one spec as a table's `Store`, with the columns "regions" and "tags"."""

    stores: tuple[RegionStore, ...]
    tags: TagRule = field(default_factory=TagRule)
    key_of: Callable[[str], str] | None = None
    """From a key of the table to one of the stores, a function of a module (it is pickled); None: the same."""

    @property
    def path(self) -> Path:
        """Of the first."""
        return self.stores[0].path

    @property
    def columns(self) -> tuple[str, ...]:
        """What a sample may ask for."""
        return "regions", "tags"

    def stored(self, key: str, column: str) -> Any:
        """The `Regions`, or the tags, of one picture. Boxes are shares of the picture, in whatever unit they came.

        Raises:
            DataError: no store has any of this key; the command that makes them is told.
        """
        wanted = key if self.key_of is None else self.key_of(key)
        for store in self.stores:
            if wanted in store:
                return self._regions(store, wanted) if column == "regions" else self._tags(store, wanted)
        where, first = ", ".join(str(store.path) for store in self.stores), next(self.stores[0].keys(), None)
        raise DataError(
            f"{where} has no regions of the picture {wanted!r} (its first is {first!r}); make them of the table of the "
            f"pictures with {COMMAND}"
        )

    def _regions(self, store: RegionStore, key: str) -> Regions:
        found = store.regions(key)
        return replace(found, boxes=box_shares(key, found, store.spec))

    def _tags(self, store: RegionStore, key: str) -> tuple[str, ...]:
        """Oscar's files list tags apart from the regions, and not as many."""
        listed = getattr(store, "tags", None)
        if listed is not None:
            found = listed(key, self.tags.threshold, self.tags.attribute_threshold)
            return tuple(dict.fromkeys(found)) if self.tags.unique else found
        return tags_of(
            store.regions(key),
            store.spec,
            threshold=self.tags.threshold,
            attribute_threshold=self.tags.attribute_threshold,
            unique=self.tags.unique,
        )


def join_regions(
    rows: Rows,
    stores: Sequence[RegionStore],
    *,
    tags: TagRule = TagRule(),
    num_classes: int | None = None,
    key_of: Callable[[str], str] | None = None,
) -> Rows:
    """The same rows, whose samples may also ask for "regions" and "tags"; see `region_columns`."""
    return join(rows, region_columns(stores, tags=tags, num_classes=num_classes, key_of=key_of))


def region_columns(
    stores: Sequence[RegionStore],
    *,
    tags: TagRule = TagRule(),
    num_classes: int | None = None,
    key_of: Callable[[str], str] | None = None,
) -> RegionColumns:
    """Stores as what can be joined to a table or to its rows, whose samples may then ask for "regions" and "tags".

    Args:
        stores: of equal specs, e.g. one for each folder of pictures; the first that has a key answers.
        tags: which names "tags" holds.
        num_classes: the classes that the model expects.
        key_of: see `RegionColumns`.

    Raises:
        DataError: two stores were made in different ways, or have another vocabulary than the model; told in what.
    """
    if not stores:
        raise DataError(f"there is no store of regions to join; make one with {COMMAND}")
    for store in stores[1:]:
        check_same(stores[0], store)
    if num_classes is not None:
        check_vocabulary(stores[0].path, _num_classes(stores), num_classes)
    return RegionColumns(tuple(stores), tags, key_of)


def spec_of(rows: Rows) -> RegionSpec | None:
    """What the regions that are joined to rows were made with; None where none are."""
    joined = _joined(rows)
    return None if joined is None else joined.stores[0].spec


def num_classes_of(rows: Rows) -> int | None:
    """Classes of the regions that are joined to rows, by their names or their soft labels; None where neither is there.

    Background is not counted.
    """
    joined = _joined(rows)
    return None if joined is None else _num_classes(joined.stores)


def _joined(joined_to: Rows | Table) -> RegionColumns | None:
    return next((store for store in joined_to.stores if isinstance(store, RegionColumns)), None)


def _num_classes(stores: Sequence[RegionStore]) -> int | None:
    if stores[0].spec.classes:
        return len(stores[0].spec.classes)
    first = next((store.regions(key) for store in stores for key in store.keys()), None)  # noqa: SIM118 - no dict
    return None if first is None or first.soft_labels is None else first.soft_labels.shape[1] - 1


def check_same_regions(tables: Sequence[Table]) -> None:
    """Refuses tables whose regions were not made alike, or that have none where others have some.

    Raises:
        DataError: saying which two tables, and in what they differ.
    """
    first, *others = [(table.path, _joined(table)) for table in tables]
    for path, joined in others:
        if (joined is None) != (first[1] is None):
            with_, without = (first[0], path) if joined is None else (path, first[0])
            raise DataError(f"{with_} has regions beside it and {without} has none; expected them beside both")
        if joined is not None and first[1] is not None:
            check_same(first[1].stores[0], joined.stores[0])


def check_same(first: RegionStore, second: RegionStore) -> None:
    """Refuses a mixture.

    Raises:
        DataError: saying in what the specs differ.
    """
    differing = difference(first.spec, second.spec)
    if differing:
        raise DataError(
            f"the regions of {first.path} and of {second.path} are not made alike and may not be mixed ({differing}); "
            "make both with one detector and one rule"
        )


def check_vocabulary(path: Path, found: int | None, expected: int) -> None:
    """Refuses classes that are not as many as a model's; None: nobody knows how many there are.

    Raises:
        DataError: with both numbers.
    """
    if found not in (None, expected):
        raise DataError(
            f"{path} has a vocabulary of {found:,} classes and the model expects {expected:,}; "
            "use regions of the detector that it was trained with"
        )
