"""What a model can do while it is trained: its loss on rows it never learns from, and how often it finds the pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, move_targets
from diptych.data.loader import LoadedBatch
from diptych.data.rejects import Reject
from diptych.errors import DataError, UsageError
from diptych.metrics.recall import median_rank, ranks_in_tiles, recall_at_k, truth_by_group
from diptych.objectives.objective import Dual, Encode, Loss
from diptych.progress import SILENT, Progress
from diptych.train.caching import encode_in_parts
from diptych.train.parallel import Parallel


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation."""

    loss: float
    """Mean over the rows, weighted as in training."""
    rows: int
    metrics: dict[str, float]
    """Recall at 1, 5, 10 both ways, shares from 0 to 1, and median ranks from 1; empty without two towers."""
    rejects: tuple[Reject, ...] = ()
    """Rows that could not be read and were left out."""

    def score(self, metric: str) -> float:
        """What the best checkpoint is chosen by, higher is better: "recall" or "loss".

        Raises:
            UsageError: recall is asked of a model without two towers.
        """
        if metric == "loss":
            return -self.loss
        if not self.metrics:
            raise UsageError(
                "training.eval_metric is 'recall', but this model does not put pictures and texts into one space. "
                "Pass --set training.eval_metric=loss"
            )
        return (self.metrics["text_to_image_r1"] + self.metrics["image_to_text_r1"]) / 2


@dataclass
class _Vectors:
    """What the towers made of the rows so far."""

    image: list[Tensor] = field(default_factory=list)
    text: list[Tensor] = field(default_factory=list)
    group: list[Tensor] = field(default_factory=list)


class _RecordingEncode:
    """The model's `encode`, whose first vectors of each batch are kept for the ranking."""

    def __init__(self, encode: Encode, micro_batch: int | None, kept: _Vectors) -> None:
        self._encode = encode
        self._micro_batch = micro_batch
        self._kept = kept
        self._first = True

    @property
    def heads(self) -> nn.ModuleDict:
        """The model's."""
        return self._encode.heads

    def __call__(self, batch: Batch) -> Any:
        """The encoding of `batch`."""
        if self._micro_batch is None or self._micro_batch >= len(batch):
            encoding = self._encode(batch)
        else:
            encoding = encode_in_parts(self._encode, batch, self._micro_batch)
        if self._first and isinstance(encoding, Dual):
            self._kept.image.append(F.normalize(encoding.image.float(), dim=-1).cpu())
            self._kept.text.append(F.normalize(encoding.text.float(), dim=-1).cpu())
            self._kept.group.append(encoding.group.cpu())
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
    kept = _Vectors()
    whole = Loss()
    rejects: list[Reject] = []
    largest = rows = 0
    step = parallel.step.eval()
    with progress.bar("evaluating", total=num_rows, unit="rows") as bar:
        for loaded in batches:
            rejects += loaded.rejects
            if loaded.batch is not None:
                batch, targets = loaded.batch.to(device), move_targets(loaded.targets, device)
                around = partial(_RecordingEncode, micro_batch=micro_batch, kept=kept)
                loss: Loss = parallel(batch, targets, around)
                rows += len(batch)
                largest = max(largest, len(batch))
                if len(batch) == largest or not step.objective.couples_rows:
                    whole = whole + loss
            bar.advance(len(loaded.rejects) + (0 if loaded.batch is None else len(loaded.batch)))
    step.train()
    if rows == 0:
        raise DataError(_nothing_to_evaluate(rejects))
    counts = {name: term.count for name, term in whole.terms.items()}
    return Evaluation(loss=float(whole.divided(counts)), rows=rows, metrics=_recalls(kept), rejects=tuple(rejects))


def _nothing_to_evaluate(rejects: Sequence[Reject]) -> str:
    advice = "Choose another split by training.eval_split, or import the table again."
    if not rejects:
        return f"the split to evaluate on has no rows; expected at least one. {advice}"
    first = f"the first, {rejects[0].source}: {rejects[0].reason}"
    return f"none of the {len(rejects)} rows to evaluate on can be read; {first}. {advice}"


def _recalls(kept: _Vectors) -> dict[str, float]:
    if not kept.image:
        return {}
    image, text = torch.cat(kept.image), torch.cat(kept.text)
    group = torch.cat(kept.group).tolist()
    truth = truth_by_group(group, group)
    metrics: dict[str, float] = {}
    for name, queries, gallery in (("text_to_image", text, image), ("image_to_text", image, text)):
        ranks = ranks_in_tiles(queries, gallery, truth)
        metrics |= {f"{name}_r{k}": recall_at_k(ranks, k) for k in (1, 5, 10)}
        metrics[f"{name}_median_rank"] = median_rank(ranks)
    return metrics
