"""Matching: of two pictures, the one that a text belongs to; asked of models that read both sides at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from diptych.data.images import decode
from diptych.data.region_join import spec_of
from diptych.data.regions import Regions, RegionSpec
from diptych.data.sample import Sample, random_for
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.progress import SILENT, Progress
from diptych.report.alignment import Aligned, alignment_section
from diptych.report.found import drawn
from diptych.report.page import Section
from diptych.report.regions import names_of
from diptych.report.scores import Score, share
from diptych.tasks.matcher import REGIONS, Aligner, Alignment, Matcher

NAME = "matching_accuracy"
ALIGNED = 6
"""Pairs whose words and regions a page shows."""


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


def alignments(result: MatchingResult, matcher: Matcher, rows: Rows, seed: int) -> list[Section]:
    """Words and regions of some pairs, none chosen by hand; nothing of a matcher that cannot say."""
    spec = spec_of(rows)
    if spec is None or not isinstance(matcher, Aligner):
        return []
    places = drawn(ALIGNED, len(result.keys), seed=seed, purpose="alignment")
    found = rows.find([result.keys[place] for place in places])
    samples = [rows.sample(row, (REGIONS,)) for row in found if row is not None]
    samples = [sample for sample in samples if sample.image is not None]
    return [
        alignment_section(
            "Words and regions",
            f"{len(samples)} texts drawn by seed {seed} with their own pictures. First the transport plan that carries "
            "every word to the regions at little cost, the cost being how unlike their states are; then how much words "
            "and regions attend to each other.",
            [_aligned(sample, matcher.align(sample, sample.texts[0]), spec) for sample in samples],
        )
    ]


def _aligned(sample: Sample, found: Alignment, spec: RegionSpec) -> Aligned:
    regions: Regions = sample.fields[REGIONS]
    assert sample.image is not None, "what is drawn has a picture"
    num = found.shares.shape[1]  # of the regions those that the model reads
    return Aligned(
        key=sample.key,
        picture=decode(sample.image),
        boxes=regions.boxes[:num],
        names=names_of(regions, spec)[:num],
        words=found.words,
        shares=found.shares.numpy(),
        attention=found.attention.numpy(),
        attention_back=found.attention_back.numpy(),
        remark=f"{100 / (1 + math.exp(-found.odds)):.0f} % sure that they belong together",
    )


def _other(samples: list[Sample], place: int, seed: int) -> int:
    """The place of a sample that shows something else."""
    rng = random_for(seed, 0, samples[place].key, NAME)
    while samples[other := int(rng.integers(len(samples)))].group == samples[place].group:
        pass
    return other
