"""UNITER's pre-training: words, features and classes of regions, and matching, one of them a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from diptych.data.examples import OPTIONS, RIGHT
from diptych.data.sample import Item
from diptych.errors import UsageError
from diptych.objectives.choosing import right_text
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
    words_first: int = 0
    """Steps of words alone before the other tasks join in. Not of the paper: what regions show beside the names of
    their classes, colours for instance, is learned of words alone, and by a small network far sooner undisturbed."""
    right_options: bool = False
    """Rows are VCR's, read with their right option: the second stage of pre-training for that task."""

    def __post_init__(self) -> None:
        """Raises UsageError where words are to come first and are not trained."""
        if self.words_first < 0 or (self.words_first and not self.share.mlm):
            raise UsageError(
                f"objective.words_first is {self.words_first}, and objective.share.mlm {self.share.mlm:g}; expected a "
                "share above 0, or objective.words_first=0 (set it first)"
            )

    @property
    def steps_alone(self) -> int:
        """Of words."""
        return self.words_first

    @property
    def name(self) -> str:
        """Of the mixture; terms and heads have those of the tasks."""
        return "pretraining"

    @property
    def columns(self) -> tuple[str, ...]:
        """Options, where rows are VCR's."""
        return (OPTIONS, RIGHT) if self.right_options else ()

    def read(self, item: Item) -> Item:
        """The item, or what is right of it; see `right_text`."""
        return right_text(item) if self.right_options else item

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
