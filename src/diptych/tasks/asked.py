"""What is asked of a model besides the task, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diptych.data.rejects import Reject
from diptych.errors import UsageError
from diptych.progress import Progress
from diptych.report.page import Section
from diptych.report.scores import Score
from diptych.tasks.rerank import TOP


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is asked of the model; what a task has no use for, it leaves alone."""

    split: str = "test"
    limit: int | None = None
    """At most so many rows of a split, evenly spread over it."""
    text_kind: str | None = None
    """retrieval: see there."""
    templates: tuple[str, ...] = ()
    """zero_shot: with `{}` for the name; none: the table's own, else "a photo of a {}."."""
    top: int = TOP
    """retrieval by a matcher: candidates of each query that it puts in order."""
    recall_weight: float = 1.0
    """What the logit of the towers that found these candidates counts beside the matcher's own."""
    class_names: tuple[tuple[str, ...], ...] = ()
    """zero_shot, linear_probe: the names of each class; none: the table's `label_names`."""
    seed: int = 0
    """Of the pictures that are drawn for the page, and of a validation set apart."""

    def __post_init__(self) -> None:
        """Raises UsageError of a weight that is no number."""
        if not math.isfinite(self.recall_weight):
            raise UsageError(f"the towers' logit is to count {self.recall_weight} times; expected a finite number")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What came of it."""

    task: str
    headline: str
    """A sentence that a person would say."""
    scores: tuple[Score, ...]
    details: dict[str, Any]
    """What else there is to know, for JSON."""
    rejects: tuple[Reject, ...]
    sections: Callable[[Progress], list[Section]]
    """Draws what the page shows besides the table."""
