"""Region probe: what region features hold of the objects they lie on, as far as a linear classifier can tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych.data.objects import COLUMN, learnt_objects, name_of
from diptych.data.region_compare import CLOSE, box_iou, matched
from diptych.data.regions import RegionStore, box_edges
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError, UsageError
from diptych.metrics.intervals import Counted
from diptych.progress import SILENT, Progress
from diptych.tasks.linear_probe import set_apart
from diptych.tasks.logistic import Labelled, best_strength, fit_logistic, share_right

STRENGTHS = (1000.0, 100.0, 10.0, 1.0)
"""Lambdas that are tried, on features brought to a spread of 1: a look at features, not a published measure, for which
`linear_probe` searches twelve decades."""
TOLERANCE = 1e-4
EPS = 1e-6
"""Some features are nowhere but 0."""
NAME = "name"
"""What an object is, as `objects.name_of` has it; the other fields are its own."""


@dataclass(frozen=True, kw_only=True)
class FieldProbe(Counted):
    """How well one field of the objects of the test split is told from the features of their regions."""

    field: str
    words: tuple[str, ...]
    """What it may be."""
    chance: float
    """What always saying the training split's most frequent word gets."""
    strength: float
    """The lambda that was best on a fifth of the training objects."""


@dataclass(frozen=True, kw_only=True)
class RegionProbe:
    """Every field that was asked about."""

    fields: tuple[FieldProbe, ...]
    num_train: int
    """Objects that a region lies on, in the training split."""
    objects: int
    """Of the test split."""
    met: int
    """Of these, those that a region lies on; the others are not asked about."""


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The objects of a split that a region lies on."""

    features: Tensor
    """(N, F) float32."""
    said: Sequence[dict[str, str | None]]
    """Of each, what it is by field; None where nothing is said."""
    objects: int


def probe_regions(
    store: RegionStore,
    train: Rows,
    test: Rows,
    *,
    fields: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> RegionProbe:
    """Logistic regression from a region's feature to the words of the object that it lies on.

    A region lies on an object where their boxes overlap by an IoU of 0.5 or more, in the best matching of a picture's
    boxes. A fused model sees no more of a picture than these features: what they do not hold, it cannot learn.

    Args:
        store: the regions.
        train: rows with the column `objects`, to fit on.
        test: rows that the result is about.
        fields: of the objects, each a word; (): all that have one, and the name.
        limit: at most so many pictures of each split, evenly spread over it.
        seed: of the training objects that the strength is chosen on.
        progress: where the work is drawn.
    Raises:
        DataError: there are no objects or no regions on them, or the regions do not say how large a picture is.
        UsageError: the objects have no such field.
    """
    learning, asked = (_seen(store, rows, limit, progress) for rows in (train, test))
    mean, spread = learning.features.mean(dim=0), learning.features.std(dim=0) + EPS
    for one in (learning, asked):
        one.features.sub_(mean).div_(spread)
    return RegionProbe(
        fields=tuple(_probe(field, learning, asked, seed) for field in _fields(learning, fields)),
        num_train=len(learning.said),
        objects=asked.objects,
        met=len(asked.said),
    )


def _fields(learning: _Seen, wanted: Sequence[str]) -> list[str]:
    """Those that are asked about; one that is always the same tells nothing."""
    there = {field: {one[field] for one in learning.said} - {None} for field in learning.said[0]}
    for field in wanted:
        if field not in there:
            raise UsageError(f"the objects have no field {field!r} of words; they have {', '.join(there)}")
    found = [field for field in wanted or there if len(there[field]) > 1]
    if not found:
        raise DataError(f"all objects are alike in {', '.join(wanted or there)}; there is nothing to tell apart")
    return found


def _seen(store: RegionStore, rows: Rows, limit: int | None, progress: Progress) -> _Seen:
    if COLUMN not in rows.columns:
        raise DataError(f"{rows.path} has no column {COLUMN!r} that says what a region lies on")
    chosen = spread_rows(len(rows), limit)
    features: list[np.ndarray] = []
    said: list[dict[str, str | None]] = []
    num = 0
    with progress.bar(f"regions of {rows.name}", len(chosen), "pictures") as bar:
        for row in chosen:
            key, objects = rows.values(row, ("key", COLUMN))
            boxes, of_use = learnt_objects(objects)
            num += len(of_use)
            if len(of_use) and key in store:
                found = store.regions(key)
                if found.width_px is None or found.height_px is None:
                    raise DataError(f"{store.path} does not say how large the picture {key!r} is")
                whole = np.array([found.width_px, found.height_px] * 2, np.float32)
                iou = box_iou(box_edges(key, found, store.spec), boxes / whole)
                pairs = [(region, place) for region, place in matched(iou) if iou[region, place] >= CLOSE]
                features += [found.features[region].astype(np.float32) for region, _ in pairs]
                said += [_said(of_use[place]) for _, place in pairs]
            bar.advance()
    if not said:
        raise DataError(
            f"no region of {store.path} lies on one of the {num:,} objects of {rows.path} {rows.name}; they are of "
            "other pictures, or of boxes that meet nothing"
        )
    return _Seen(features=torch.from_numpy(np.stack(features)), said=said, objects=num)


def _said(one: Mapping[str, Any]) -> dict[str, str | None]:
    words = {field: value or None for field, value in one.items() if value is None or isinstance(value, str)}
    return {NAME: name_of(one), **{field: word for field, word in words.items() if field != NAME}}


def _probe(field: str, learning: _Seen, asked: _Seen, seed: int) -> FieldProbe:
    counted = Counter(one[field] for one in learning.said if one[field] is not None)
    words = tuple(sorted(str(word) for word in counted))
    together, testing = _labelled(learning, field, words), _labelled(asked, field, words)
    if not len(testing):
        raise DataError(f"of no object in the test split is the {field} one of {', '.join(words)}")
    fitting, choosing = set_apart(together, seed)
    searched: dict[float, float] = {}
    model = None
    for strength in STRENGTHS:
        model = fit_logistic(fitting, num_classes=len(words), strength=strength, start=model, tolerance=TOLERANCE)
        searched[strength] = share_right(model, choosing)
    strength = best_strength(searched)
    model = fit_logistic(together, num_classes=len(words), strength=strength, start=model, tolerance=TOLERANCE)
    usual = words.index(str(counted.most_common(1)[0][0]))
    return FieldProbe(
        field=field,
        words=words,
        num=len(testing),
        hits=round(share_right(model, testing) * len(testing)),
        chance=float((testing.labels == usual).double().mean()),
        strength=strength,
    )


def _labelled(seen: _Seen, field: str, words: Sequence[str]) -> Labelled:
    """The objects of which a word of the training split is said."""
    numbers = {word: number for number, word in enumerate(words)}
    kept = [place for place, one in enumerate(seen.said) if one[field] in numbers]
    labels = torch.tensor([numbers[str(seen.said[place][field])] for place in kept], dtype=torch.int64)
    return Labelled(features=seen.features[kept], labels=labels)
