"""What a store of regions holds, in numbers and names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np

from diptych.data.region_files.old_store import rejects_of
from diptych.data.regions import RegionSpec, RegionStore
from diptych.data.rejects import Reject, reason_of
from diptych.data.sampler import spread_rows
from diptych.errors import DataError

LOOKED_AT = 500
"""Pictures that are read, evenly spread over the store."""
NAMES_SHOWN = 10
SCORES = {
    "class": "probabilities of the classes: the file holds no others",
    "none": "1: none says which region is the surer",
}


@dataclass(frozen=True, kw_only=True)
class RegionSummary:
    """A store in numbers."""

    pictures: int
    looked_at: int
    """Pictures that the numbers below are of."""
    fewest: int
    median: float
    most: int
    """Regions of a picture."""
    names: Sequence[tuple[str, int]]
    """The likeliest classes of regions, the most frequent first, and of how many regions they are."""
    damaged: Mapping[str, str]
    """Of the pictures looked at, those whose row is damaged, and why; the numbers above are of the others."""
    rejects: Sequence[Reject]
    """Rows of the whole store that no key leads to."""
    spec: RegionSpec

    def rows(self) -> list[tuple[str, str]]:
        """For a table: what is known, and its value."""
        spec = self.spec
        number = (
            f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}, median {self.median:g}"
        )
        rows = [
            ("pictures", f"{self.pictures:,}"),
            ("regions a picture", number),
            ("detector", spec.detector),
            ("its hash", spec.detector_hash[:16] or "not known"),
            ("rule", spec.rule),
            ("for", spec.consumer or "no released weights"),
            ("features", f"{spec.feature_width} numbers, {spec.feature_kind}"),
            ("boxes", f"{spec.box_kind}, {spec.box_unit}s" + (", x1 and y1 inside" if spec.plus_one else "")),
            ("colours", spec.colour),
            (
                "classes",
                f"{len(spec.classes):,}" + (f" and {len(spec.attributes):,} attributes" if spec.attributes else ""),
            ),
        ]
        if spec.score_kind != "rule":
            rows.append(("scores", SCORES[spec.score_kind]))
        if self.damaged:
            rows.append(("damaged", f"{len(self.damaged):,} of {self.looked_at:,} pictures looked at"))
        if self.rejects:
            rows.append(("left out", f"{len(self.rejects):,} rows that no key leads to"))
        if self.names:
            rows.append(("most frequent", ", ".join(f"{name} ({num:,})" for name, num in self.names)))
        return rows

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"format": 1, **asdict(self)}


def describe_regions(store: RegionStore) -> RegionSummary:
    """Reads some pictures' regions, evenly spread, the same ones every time; a damaged row costs itself."""
    keys = spread_keys(store, LOOKED_AT)
    sizes: list[int] = []
    names: Counter[str] = Counter()
    damaged: dict[str, str] = {}
    for key in keys:
        try:
            regions = store.regions(key)
        except DataError as error:
            damaged[key] = reason_of(key, error)
            continue
        sizes.append(len(regions))
        if regions.class_ids is not None and store.spec.classes:
            names.update(store.spec.classes[first] for first in regions.class_ids[:, 0])
    return RegionSummary(
        pictures=len(store),
        looked_at=len(keys),
        fewest=min(sizes, default=0),
        median=float(np.median(sizes)) if sizes else 0.0,
        most=max(sizes, default=0),
        names=names.most_common(NAMES_SHOWN),
        damaged=damaged,
        rejects=rejects_of(store),
        spec=store.spec,
    )


def spread_keys(store: RegionStore, num: int) -> list[str]:
    """At most `num` keys, evenly spread over the store."""
    chosen = spread_rows(len(store), num)
    keys, at, found = store.keys(), 0, []
    for place in chosen:
        found.append(next(islice(keys, place - at, None)))
        at = place + 1
    return found
