"""Keys of one store for those of another: files of one picture go by its name, its number, or a path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

from diptych.data.regions import RegionStore
from diptych.errors import DataError, UsageError, unknown

NAMES = ("same", "name", "number")
"""same: letter by letter. name: without folder, data set and extension. number: the last one in the name, as 42 for
COCO_val2014_000000000042.jpg."""
EXTENSIONS = (".npz", ".npy", ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_DATA_SET = re.compile(r"^(coco_(train|val|test)20\d\d|flickr30k|nlvr2|vcr_gt|vcr|vg|gqa|cc|sbu)_", re.IGNORECASE)
_LAST_NUMBER = re.compile(r"0*(\d+)\D*$")


@dataclass(frozen=True)
class KeyMatch:
    """How keys of `other` are found in `store`."""

    store: RegionStore
    rule: str
    """Of NAMES."""
    names: Mapping[str, str]
    """The store's keys by what the rule makes of them; empty for "same"."""

    def of(self, key: str) -> str | None:
        """The store's key for one of the other's; None where it has none."""
        if self.rule == "same":
            return key if key in self.store else None
        return self.names.get(_reading(self.rule)(key))


def match_keys(store: RegionStore, other: RegionStore, rule: str | None = None) -> KeyMatch:
    """The rule by which both have pictures in common; of NAMES the first, where none is asked for.

    Raises:
        UsageError: there is no such rule.
        DataError: they have no picture in common, or two keys of one store are the same under the rule asked for.
    """
    if rule is not None and rule not in NAMES:
        raise UsageError(unknown("way to match keys", rule, NAMES))
    twice = ""
    for name in NAMES if rule is None else (rule,):
        try:
            found = KeyMatch(store, name, {} if name == "same" else _by_name(store, _reading(name)))
            if name != "same":
                _by_name(other, _reading(name))
        except _SameTwiceError as error:
            twice = f" ({name} was of no use: {error})"
            continue
        if any(found.of(key) is not None for key in other.keys()):  # noqa: SIM118 - a store is no dict
            return found
    raise DataError(
        f"{store.path} and {other.path} share no picture by {rule or ', '.join(NAMES)}{twice}. Keys of the first are "
        f"like {_some(store)}; of the second like {_some(other)}"
    )


class _SameTwiceError(Exception):
    """A rule makes one of two keys."""


def _reading(rule: str) -> Callable[[str], str]:
    return _number if rule == "number" else _name


def _name(key: str) -> str:
    name = key.rpartition("/")[2]
    while name.lower().endswith(EXTENSIONS):
        name = name.rpartition(".")[0]
    return _DATA_SET.sub("", name)


def _number(key: str) -> str:
    """A key without a number stands for itself, and so for none of the other's."""
    found = _LAST_NUMBER.search(_name(key))
    return key if found is None else found[1]


def _by_name(store: RegionStore, reading: Callable[[str], str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in store.keys():  # noqa: SIM118 - a store is no dict
        if (earlier := found.setdefault(reading(key), key)) != key:
            raise _SameTwiceError(f"{earlier!r} and {key!r} of {store.path} would be one picture")
    return found


def _some(store: RegionStore) -> str:
    return ", ".join(repr(key) for key in islice(store.keys(), 3))
