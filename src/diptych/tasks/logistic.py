"""Multinomial logistic regression by L-BFGS in float64, as linear probes are published with; a tile in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from diptych.errors import ShapeError
from diptych.metrics.accuracy import ranks_of_labels
from diptych.metrics.recall import recall_at_k
from diptych.progress import SILENT, Progress

TILE = 16_384
"""Rows that go through at once, in float64: 256 MiB of them for 2,048 features."""
SCALE = 1000.0
"""The loss a row is multiplied by this: torch's L-BFGS forgets curvatures below 1e-10, and then crawls."""
STEPS_PER_DECADE = 8
DECADES = 12
GRID = tuple(10 ** (step / STEPS_PER_DECADE - 6) for step in range(STEPS_PER_DECADE * DECADES + 1))
"""96 logarithmic steps of the strength, from 1e-6 to 1e6."""
FIRST_STRIDE = 2 * STEPS_PER_DECADE
"""The search begins with every second decade: 1e-6, 1e-4, ... 1e6."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Features with their labels, or some rows of them; the features are never copied as a whole."""

    features: Tensor
    """(N, F) any float type; may be mapped from a file larger than memory."""
    labels: Tensor
    """(N,) int64."""
    chosen: Tensor | None = None
    """Which of the N rows are meant; None: every one."""

    def __len__(self) -> int:
        return len(self.labels) if self.chosen is None else len(self.chosen)

    def of(self, rows: Tensor) -> Labelled:
        """Some of the N rows, in rising order, in which a file is read fastest."""
        return Labelled(features=self.features, labels=self.labels, chosen=rows.sort().values)

    def tiles(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(n, F) features, copied in float64, and (n,) labels of the rows that are meant, a tile at a time."""
        for begin in range(0, len(self), TILE):
            rows: slice | Tensor = slice(begin, begin + TILE)
            if self.chosen is not None:
                rows = self.chosen[rows]
            yield self.features[rows].to(torch.float64, copy=True), self.labels[rows]


@dataclass(frozen=True, kw_only=True)
class LogisticRegression:
    """A fitted classifier. C classes, F features."""

    weight: Tensor
    """(C, F) float64."""
    bias: Tensor
    """(C,) float64."""
    strength: float
    """The lambda it was fitted with."""

    def scores(self, features: Tensor) -> Tensor:
        """(N, C) logits in float64 of (N, F) features."""
        return features.double() @ self.weight.mT + self.bias


def fit_logistic(
    rows: Labelled,
    *,
    num_classes: int,
    strength: float,
    start: LogisticRegression | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-8,
) -> LogisticRegression:
    """Minimises the sum of cross-entropies + strength / 2 * |weight|²; the bias is free.

    Every step of the solver reads the features once, a tile at a time. In memory are that tile and the weights with
    the hundred of their size by which L-BFGS remembers the curvature.

    The strength is scikit-learn's 1 / C: a C of 0.316 is a strength of 10^0.5. The solver works on features less
    their mean, with the bias making up for it: the same minimum, in a quarter of the steps.

    Args:
        rows: N features with labels in [0, num_classes).
        num_classes: classes, of which some may have no row.
        strength: lambda, above 0.
        start: where to begin; the problem is convex, so that it saves time only.
        max_iterations: of L-BFGS.
        tolerance: largest entry of the gradient, per row, at which it stops.
    Raises:
        ShapeError: features and labels disagree, or there are no rows.
    """
    if rows.features.dim() != 2 or rows.labels.shape != rows.features.shape[:1] or not len(rows):
        shapes = f"{tuple(rows.features.shape)} and labels {tuple(rows.labels.shape)}"
        raise ShapeError(f"features are {shapes}; expected (N, F) and (N,), N at least 1")
    mean = _mean(rows)  # (F,)
    if start is None:
        weight = torch.zeros(num_classes, rows.features.shape[1], dtype=torch.float64)
        bias = torch.zeros(num_classes, dtype=torch.float64)
    else:
        weight, bias = start.weight.clone(), start.bias + start.weight @ mean
    weight.requires_grad_()
    bias.requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        max_eval=2 * max_iterations,
        tolerance_grad=SCALE * tolerance,
        tolerance_change=1e-14,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        solver.zero_grad()
        return _loss_and_gradient(rows, mean, weight, bias, strength)

    solver.step(closure)
    weight, bias = weight.detach(), bias.detach()
    return LogisticRegression(weight=weight, bias=bias - weight @ mean, strength=strength)


def _mean(rows: Labelled) -> Tensor:
    """(F,) float64."""
    total = torch.zeros(rows.features.shape[1], dtype=torch.float64)
    for features, _ in rows.tiles():
        total += features.sum(dim=0)
    return total / len(rows)


def _loss_and_gradient(rows: Labelled, mean: Tensor, weight: Tensor, bias: Tensor, strength: float) -> float:
    """The loss a row, times SCALE; its gradient is added to that of weight and bias, a tile of rows at a time."""
    per_row = SCALE / len(rows)
    total = 0.0
    for features, labels in rows.tiles():
        logits = F.linear(features.sub_(mean), weight, bias)
        part = per_row * F.cross_entropy(logits, labels, reduction="sum")
        part.backward()
        total += float(part.detach())
    penalty = per_row * strength / 2 * weight.square().sum()
    penalty.backward()
    return total + float(penalty.detach())


def search_strength(
    fitting: Labelled, choosing: Labelled, *, num_classes: int, progress: Progress = SILENT
) -> dict[float, float]:
    """Validation accuracy at 7 strengths two decades apart, then ever closer around the best, to 8 steps a decade.

    CLIP, arXiv:2103.00020, appendix A.3. Strengths are taken from the highest down and each fit begins where the
    nearest one ended, which saves about half of the time.

    Args:
        fitting: rows to fit on.
        choosing: validation rows.
        num_classes: classes.
        progress: where the work is drawn.
    Returns:
        Accuracy of each strength that was tried, in rising order.
    """
    fits: dict[int, LogisticRegression] = {}
    accuracy: dict[float, float] = {}
    with progress.bar("choosing lambda", total=len(GRID[::FIRST_STRIDE]) + 8, unit="fits") as bar:
        stride, places = FIRST_STRIDE, list(range(0, len(GRID), FIRST_STRIDE))
        while stride:
            for place in sorted(set(places) - set(fits), reverse=True):
                nearest = min(fits, key=lambda known: abs(known - place), default=None)
                start = None if nearest is None else fits[nearest]
                fits[place] = fit_logistic(fitting, num_classes=num_classes, strength=GRID[place], start=start)
                accuracy[GRID[place]] = share_right(fits[place], choosing)
                bar.advance()
            stride //= 2
            best = GRID.index(best_strength(accuracy))
            places = [place for place in (best - stride, best + stride) if 0 <= place < len(GRID)]
    return dict(sorted(accuracy.items()))


def share_right(model: LogisticRegression, rows: Labelled) -> float:
    """The share of the rows whose class the model scores highest, ties counting against it."""
    ranks = [ranks_of_labels(model.scores(features), labels) for features, labels in rows.tiles()]
    return recall_at_k(torch.cat(ranks), 1)


def best_strength(searched: Mapping[float, float]) -> float:
    """The strength of the highest accuracy; of equal ones the strongest, as the simplest classifier."""
    return max(searched, key=lambda strength: (searched[strength], strength))
