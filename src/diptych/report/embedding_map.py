"""Embedding map: pictures laid out so that those with close vectors lie together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from diptych.errors import DataError
from diptych.report.charts import GRID, HUES, INK, QUIET, new_chart, to_svg
from diptych.report.found import Found, drawn
from diptych.report.page import Section, missing
from diptych.report.pictures import opened

MOST_POINTS = 500
MOST_PICTURES = 48
PICTURE_PX = 56
LEAST = 5
"""Pictures; fewer make no map."""
MARKERS = ("o", "s", "^", "D")
"""With eight hues they tell 32 labels apart."""


def embedding_map(found: Found, *, seed: int) -> Section:
    """A t-SNE map of at most 500 pictures, coloured by label where there are labels, some shown.

    van der Maaten and Hinton, "Visualizing data using t-SNE", 2008; scikit-learn's.
    """
    title = "Embedding map"
    how = (
        f"Pictures whose vectors are close lie close together (t-SNE, seed {seed}, at most {MOST_POINTS} pictures, "
        "a few of them shown). Islands of one colour mean that the model keeps a label apart; the distance between "
        "islands and the directions mean nothing."
    )
    if len(found.image) < LEAST:
        return missing(title, how, f"a map needs at least {LEAST} pictures; there are {len(found.image)}.")
    rows = drawn(MOST_POINTS, len(found.image), seed=seed, purpose="map")
    places = lay_out(found.image[rows].numpy(), seed=seed)
    return Section(title=title, how_to_read=how, body=_map(found, rows, places))


def lay_out(vectors: np.ndarray, *, seed: int) -> np.ndarray:
    """Places in the plane, scaled to [0, 1].

    Args:
        vectors: (N, E) normalised, N >= 5.
        seed: of t-SNE.
    Returns:
        (N, 2).
    """
    from sklearn.manifold import TSNE  # 1 s to import
    from threadpoolctl import threadpool_limits

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    start = "pca" if min(vectors.shape) >= 2 else "random"
    with threadpool_limits(1):  # for so few points threads cost more than they give, far more on busy cores
        places = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(vectors.astype(np.float32))
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, 1e-9)


def apart(places: np.ndarray, *, least: float, most: int) -> list[int]:
    """Indices of places no two of which are closer than `least`, chosen in order, at most `most`."""
    chosen: list[int] = []
    for index, place in enumerate(places):
        if len(chosen) == most:
            break
        if not chosen or np.linalg.norm(places[chosen] - place, axis=1).min() >= least:
            chosen.append(index)
    return chosen


def _map(found: Found, rows: Sequence[int], places: np.ndarray) -> str:
    labels = [found.labels[row] for row in rows] if found.labels else [None] * len(rows)
    figure, (ax,) = new_chart(height=6.0)
    ax.set_axis_off()
    _dots(ax, places, labels)
    _some_pictures(ax, found, rows, places, labels)
    _legend(ax, labels, found.label_names)
    known = {label for label in labels if label is not None}
    coloured = f", coloured by {len(known)} labels" if known else ""
    return to_svg(figure, name="map", alt=f"A map of {len(rows)} pictures by their vectors{coloured}.")


def _dots(ax: Axes, places: np.ndarray, labels: Sequence[int | None]) -> None:
    for label in sorted(set(labels), key=lambda label: -1 if label is None else label):
        mine = places[[one == label for one in labels]]
        hue, marker = _look(label, alone=len(set(labels)) == 1)
        ax.scatter(mine[:, 0], mine[:, 1], s=22, color=hue, marker=marker, alpha=0.75, linewidths=0)


def _look(label: int | None, *, alone: bool = False) -> tuple[str, str]:
    """Colour and marker of a label; rows without one are quiet, unless there are only such."""
    if label is None:
        return (HUES[0] if alone else QUIET), "o"
    return HUES[label % len(HUES)], MARKERS[label // len(HUES) % len(MARKERS)]


def _some_pictures(
    ax: Axes, found: Found, rows: Sequence[int], places: np.ndarray, labels: Sequence[int | None]
) -> None:
    for index in apart(places, least=0.105, most=MOST_PICTURES):
        try:
            small = opened(found.picture(rows[index])).convert("RGB")
        except DataError:
            continue
        small.thumbnail((PICTURE_PX, PICTURE_PX))
        box = OffsetImage(np.asarray(small), zoom=30 / max(small.size))
        label = labels[index]
        frame = {"edgecolor": GRID if label is None else _look(label)[0], "facecolor": "none", "linewidth": 1.2}
        ax.add_artist(AnnotationBbox(box, tuple(places[index]), pad=0.05, bboxprops=frame))


def _legend(ax: Axes, labels: Sequence[int | None], names: Sequence[str]) -> None:
    known = sorted({label for label in labels if label is not None})
    if not known or len(known) > len(HUES) * len(MARKERS):
        return
    for label in known:
        hue, marker = _look(label)
        ax.scatter([], [], s=26, color=hue, marker=marker, label=names[label] if label < len(names) else str(label))
    if None in labels:
        ax.scatter([], [], s=26, color=QUIET, marker="o", label="no one label")
    where = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": 7}
    ax.legend(frameon=False, fontsize=9, labelcolor=INK, handletextpad=0.2, columnspacing=1.2, **where)
