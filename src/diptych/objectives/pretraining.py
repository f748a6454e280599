"""UNITER's pre-training: words, features and classes of regions, and matching, one of them a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from diptych.errors import UsageError
from diptych.objectives.masked_regions import MaskedRegionClasses, MaskedRegionFeatures
from diptych.objectives.masked_words import MaskedWords
from diptych.objectives.matching import Matching
from diptych.objectives.mixture import Mixture
from diptych.objectives.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Steps of each task in proportion; 0: it is not trained, and has no head."""

    mlm: float = 2.0
    mrfr: float = 1.0
    mrc: float = 1.0
    itm: float = 2.0

    def __post_init__(self) -> None:
        """Raises UsageError of numbers that share nothing out."""
        if min(self.mlm, self.mrfr, self.mrc, self.itm) < 0 or self.mlm + self.mrfr + self.mrc + self.itm <= 0:
            raise UsageError(f"objective.share is {self}; expected numbers of at least 0, and one above")


@dataclass(frozen=True, kw_only=True)
class Pretraining(Mixture):
    """The mixture of UNITER, arXiv:1909.11740, section 3.2, in the proportions of its release."""

    share: Shares = field(default_factory=Shares)
    mlm: MaskedWords = field(default_factory=MaskedWords)
    mrfr: MaskedRegionFeatures = field(default_factory=MaskedRegionFeatures)
    mrc: MaskedRegionClasses = field(default_factory=MaskedRegionClasses)
    itm: Matching = field(default_factory=lambda: Matching(alignment=0.1))

    @property
    def name(self) -> str:
        """Of the mixture; terms and heads have those of the tasks."""
        return "pretraining"

    @property
    def shares(self) -> tuple[tuple[Objective, float], ...]:
        """The tasks that are trained."""
        mixed: tuple[tuple[Objective, float], ...] = (
            (self.mlm, self.share.mlm),
            (self.mrfr, self.share.mrfr),
            (self.mrc, self.share.mrc),
            (self.itm, self.share.itm),
        )
        return tuple((task, share) for task, share in mixed if share > 0)
