"""Matching: of two pictures, the one that a text belongs to; asked of models that read both sides at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diptych.data.sample import Sample, random_for
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.progress import SILENT, Progress
from diptych.report.scores import Score, share
from diptych.tasks.matcher import REGIONS, Matcher

NAME = "matching_accuracy"


@dataclass(frozen=True, kw_only=True)
class MatchingResult:
    """Every text with its own picture and another."""

    split: str
    keys: tuple[str, ...]
    """(N) of the pictures that the texts belong to."""
    others: tuple[str, ...]
    """(N) of the pictures that they were held against."""
    margins: tuple[float, ...]
    """(N) log-odds of the own picture less those of the other."""

    @property
    def right(self) -> int:
        """Texts that fit their own picture better; a tie counts against the model."""
        return sum(margin > 0 for margin in self.margins)

    def scores(self) -> list[Score]:
        """The share of right answers; guessing gets half."""
        return [
            share(
                name=NAME,
                label="own picture before another",
                group="Matching",
                right=self.right,
                count=len(self.keys),
                chance=0.5,
            )
        ]


def matching(
    matcher: Matcher, rows: Rows, *, limit: int | None = None, seed: int = 0, progress: Progress = SILENT
) -> MatchingResult:
    """Holds the first text of each row against its own picture and that of another row, drawn by seed.

    Args:
        matcher: the model.
        rows: the split, with regions joined.
        limit: at most so many rows, evenly spread over the split.
        seed: of the other pictures.
        progress: where the work is drawn.
    Raises:
        DataError: there are no two rows that show different things, or a row has no regions.
    """
    samples = [replace(rows.sample(row, (REGIONS,)), image=None) for row in spread_rows(len(rows), limit)]
    samples = [sample for sample in samples if sample.texts]
    if len({sample.group for sample in samples}) < 2:
        raise DataError(f"the split {rows.name!r} has no two pictures with texts; expected at least two to tell apart")
    own = list(range(len(samples)))
    others = [_other(samples, place, seed) for place in own]
    pairs = [pair for place in own for pair in ((place, place), (others[place], place))]
    odds = matcher.match(samples, [sample.texts[0] for sample in samples], pairs, progress).unflatten(0, (-1, 2))
    return MatchingResult(
        split=rows.name,
        keys=tuple(sample.key for sample in samples),
        others=tuple(samples[other].key for other in others),
        margins=tuple((odds[:, 0] - odds[:, 1]).tolist()),
    )


def _other(samples: list[Sample], place: int, seed: int) -> int:
    """The place of a sample that shows something else."""
    rng = random_for(seed, 0, samples[place].key, NAME)
    while samples[other := int(rng.integers(len(samples)))].group == samples[place].group:
        pass
    return other
