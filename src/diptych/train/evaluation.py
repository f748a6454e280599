"""What a model can do while it is trained: its loss on rows it never learns from, and how much it finds of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets, move_targets, rows_of_targets
from diptych.data.loader import LoadedBatch
from diptych.data.rejects import Reject
from diptych.errors import DataError, UsageError
from diptych.metrics.detection import Found, Truth, detection_scores
from diptych.metrics.recall import median_rank, ranks_in_tiles, recall_at_k, truth_by_group
from diptych.objectives.detection import Detected, truths
from diptych.objectives.objective import Dual, Encode, Loss
from diptych.progress import SILENT, Progress
from diptych.train.caching import encode_in_parts
from diptych.train.parallel import Parallel

NEEDED = {
    "recall": (("text_to_image_r1", "image_to_text_r1"), "put pictures and texts into one space"),
    "map": (("map",), "detect objects"),
}
"""The metrics whose mean is a score, and what a model without them does not do."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation."""

    loss: float
    """Mean over the rows, weighted as in training."""
    rows: int
    metrics: dict[str, float]
    """Shares from 0 to 1. Of two towers: recall at 1, 5, 10 both ways, and median ranks from 1; of a detector: average
    precision, and recall at 36 and 100 boxes."""
    rejects: tuple[Reject, ...] = ()
    """Rows that could not be read and were left out."""

    def score(self, metric: str) -> float:
        """What the best checkpoint is chosen by, higher is better: "recall", "map" or "loss".

        Raises:
            UsageError: recall is asked of a model without two towers, or average precision of one that detects nothing.
        """
        if metric == "loss":
            return -self.loss
        names, what = NEEDED[metric]
        if not set(names) <= self.metrics.keys():
            raise UsageError(
                f"training.eval_metric is {metric!r}, but this model does not {what}. "
                "Pass --set training.eval_metric=loss"
            )
        return sum(self.metrics[name] for name in names) / len(names)


@dataclass
class _Kept:
    """What the model made of the rows so far: of two towers their vectors, of a detector what it found."""

    image: list[Tensor] = field(default_factory=list)
    text: list[Tensor] = field(default_factory=list)
    group: list[Tensor] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    truth: list[Truth] = field(default_factory=list)

    def add(self, batch: Batch, encoding: Any) -> None:
        """Takes what can be measured."""
        match encoding:
            case Dual():
                self.image.append(F.normalize(encoding.image.float(), dim=-1).cpu())
                self.text.append(F.normalize(encoding.text.float(), dim=-1).cpu())
                self.group.append(encoding.group.cpu())
            case Detected():
                self.found += encoding.found
                self.truth += truths(batch)

    def metrics(self) -> dict[str, float]:
        """By name; nothing of other encodings."""
        return _recalls(self) if self.image else _precisions(self) if self.found else {}


class _RecordingEncode:
    """The model's `encode`, whose first encoding of each batch is kept to be measured."""

    def __init__(self, encode: Encode, micro_batch: int | None, kept: _Kept) -> None:
        self._encode = encode
        self._micro_batch = micro_batch
        self._kept = kept
        self._first = True

    @property
    def heads(self) -> nn.ModuleDict:
        """The model's."""
        return self._encode.heads

    def at_rest(self) -> AbstractContextManager[None]:
        """The model's."""
        return self._encode.at_rest()

    def __call__(self, batch: Batch) -> Any:
        """The encoding of `batch`."""
        if self._micro_batch is None or self._micro_batch >= len(batch):
            encoding = self._encode(batch)
        else:
            encoding = encode_in_parts(self._encode, batch, self._micro_batch)
        if self._first:
            self._kept.add(batch, encoding)
        self._first = False
        return encoding


@torch.no_grad()
def evaluate(
    parallel: Parallel,
    batches: Iterable[LoadedBatch],
    *,
    device: torch.device,
    micro_batch: int | None = None,
    num_rows: int | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """The loss of `batches` and the recall among all their rows.

    A last batch that is smaller counts in the recall alone: among fewer rows a contrastive loss is lower.

    Args:
        parallel: the model and the objective; the model comes back in training mode. Every rank evaluates all of it.
        batches: from `evaluation_batches`.
        device: where the model is.
        micro_batch: rows that go through the model at once.
        num_rows: that `batches` will bring, for the bar; None: not known.
        progress: where it is drawn.
    Raises:
        DataError: there is not a row that can be read.
    """
    kept = _Kept()
    whole = Loss()
    rejects: list[Reject] = []
    largest = rows = 0
    step = parallel.step.eval()
    with progress.bar("evaluating", total=num_rows, unit="rows") as bar:
        for loaded in batches:
            rejects += loaded.rejects
            if loaded.batch is not None:
                batch, targets = loaded.batch.to(device), move_targets(loaded.targets, device)
                rows += len(batch)
                largest = max(largest, len(batch))
                couples = step.objective.couples_rows
                around = partial(_RecordingEncode, micro_batch=micro_batch if couples else None, kept=kept)
                for part in [(batch, targets)] if couples else _in_parts(batch, targets, micro_batch):
                    loss: Loss = parallel(*part, around)
                    if len(batch) == largest or not couples:
                        whole = whole + loss
            bar.advance(len(loaded.rejects) + (0 if loaded.batch is None else len(loaded.batch)))
    step.train()
    if rows == 0:
        raise DataError(_nothing_to_evaluate(rejects))
    counts = {name: term.count for name, term in whole.terms.items()}
    return Evaluation(loss=float(whole.divided(counts)), rows=rows, metrics=kept.metrics(), rejects=tuple(rejects))


def _in_parts(batch: Batch, targets: Targets, micro_batch: int | None) -> Iterator[tuple[Batch, Targets]]:
    """Rows that do not see each other, as many at once as fit."""
    size = micro_batch or len(batch)
    for start in range(0, len(batch), size):
        yield batch.rows(start, start + size), rows_of_targets(targets, start, start + size)


def _nothing_to_evaluate(rejects: Sequence[Reject]) -> str:
    advice = "Choose another split by training.eval_split, or import the table again."
    if not rejects:
        return f"the split to evaluate on has no rows; expected at least one. {advice}"
    first = f"the first, {rejects[0].source}: {rejects[0].reason}"
    return f"none of the {len(rejects)} rows to evaluate on can be read; {first}. {advice}"


def _precisions(kept: _Kept) -> dict[str, float]:
    scores = detection_scores(kept.found, kept.truth)
    return {
        "map": scores.ap,
        "map50": scores.ap50,
        "map75": scores.ap75,
        "recall_at_36": scores.recall36,
        "recall_at_100": scores.recall100,
    }


def _recalls(kept: _Kept) -> dict[str, float]:
    image, text = torch.cat(kept.image), torch.cat(kept.text)
    group = torch.cat(kept.group).tolist()
    truth = truth_by_group(group, group)
    metrics: dict[str, float] = {}
    for name, queries, gallery in (("text_to_image", text, image), ("image_to_text", image, text)):
        ranks = ranks_in_tiles(queries, gallery, truth)
        metrics |= {f"{name}_r{k}": recall_at_k(ranks, k) for k in (1, 5, 10)}
        metrics[f"{name}_median_rank"] = median_rank(ranks)
    return metrics
