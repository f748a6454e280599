"""Tags: the names of what a detector saw, as Oscar reads them beside the words."""

from __future__ import annotations

from diptych.data.regions import Regions, RegionSpec
from diptych.errors import DataError


def tags_of(
    regions: Regions,
    spec: RegionSpec,
    *,
    threshold: float = 0.2,
    attribute_threshold: float | None = None,
    unique: bool = False,
) -> tuple[str, ...]:
    """The likeliest class of each region, in the detector's order and with repeats, as Oscar keeps them.

    Args:
        regions: of one picture.
        spec: of the store, for its names; of several names with commas ("stop sign,stopsign") the first is taken.
        threshold: classes of a lower probability are left out.
        attribute_threshold: put the likeliest attribute before the thing where it reaches this; None: never.
        unique: every tag once, where it first came.

    Raises:
        DataError: the regions have no classes, or the store has no names for them.
    """
    if regions.class_ids is None or regions.class_probs is None or not spec.classes:
        raise DataError("these regions have no named classes, and so no tags; give the vocabulary when they are opened")
    tags = []
    for row in range(len(regions)):
        if regions.class_probs[row, 0] < threshold:
            continue
        tag = first_name(spec.classes[regions.class_ids[row, 0]])
        if attribute_threshold is not None and regions.attribute_ids is not None and spec.attributes:
            assert regions.attribute_probs is not None
            if regions.attribute_probs[row, 0] >= attribute_threshold:
                tag = f"{first_name(spec.attributes[regions.attribute_ids[row, 0]])} {tag}"
        tags.append(tag)
    return tuple(dict.fromkeys(tags)) if unique else tuple(tags)


def first_name(names: str) -> str:
    """Of a class's names, with commas between them, the first."""
    return names.split(",")[0].strip().lower()
