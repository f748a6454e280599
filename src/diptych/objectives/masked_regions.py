"""Masked region modelling: what hidden regions look like, or what a detector took them for, from words and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets, reading
from diptych.data.sample import Item, Rng
from diptych.errors import DataError
from diptych.nn.heads import ClassHead, FeatureHead
from diptych.objectives.masking import PROBABILITY, hide_regions
from diptych.objectives.objective import Encode, Fused, Loss, RowsApart


@dataclass(frozen=True, kw_only=True)
class MaskedRegions(RowsApart):
    """What both forms share. UNITER, arXiv:1909.11740, section 3.2: all words are seen; boxes are never hidden."""

    probability: float = PROBABILITY
    """That a region is chosen."""


@dataclass(frozen=True, kw_only=True)
class MaskedRegionFeatures(MaskedRegions):
    """MRFR: the features themselves, by their squared error."""

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "mrfr"

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """Tied to the projection of features."""
        return {self.name: FeatureHead(config.width, config.feature_width)}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The item with hidden regions, which still hold the features that are asked for."""
        return hide_regions(item, rng, self.probability), {}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Numbers to be found: the loss is a mean over regions and over what each is described by."""
        assert batch.regions is not None
        return {self.name: int(_hidden(batch).sum()) * batch.regions.features.shape[2]}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum of squared errors over the numbers of hidden regions."""
        assert batch.regions is not None
        hidden = _hidden(batch)
        fused: Fused = encode(reading(batch, regions=hidden))
        found = encode.heads[self.name](fused.regions[hidden], fused.feature_table).float()
        right = batch.regions.features[hidden].float()
        total = F.mse_loss(found, right, reduction="sum")
        return Loss.term(self.name, total=total, count=right.numel())


@dataclass(frozen=True, kw_only=True)
class MaskedRegionClasses(MaskedRegions):
    """MRC and MRC-kl: the detector's classes, the likeliest as the only right one, or all with their probabilities."""

    divergence: bool = True
    """MRC-kl: the Kullback-Leibler divergence from the detector's probabilities, background among them. False: MRC,
    cross-entropy with its likeliest class, which is never background."""
    mean_over_classes: bool = False
    """The divergence is divided by the number of classes, as in the release."""

    @property
    def name(self) -> str:
        """Its term's and its head's name."""
        return "mrc"

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """A layer over the detector's classes and background."""
        return {self.name: ClassHead(config.width, 1 + config.num_classes)}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """The item with hidden regions; "mrc" (K, 1 + C) the probabilities of those, in their order.

        Raises:
            DataError: the store has no soft labels.
        """
        drawn = hide_regions(item, rng, self.probability)
        regions = drawn.regions
        assert regions is not None and regions.hidden is not None
        if regions.soft_labels is None:
            raise DataError(
                f"{item.key}: the classes of regions are predicted from a detector's probabilities, and these regions "
                "have none; leave the task out (--set objective.share.mrc=0), or extract them with --soft-labels by a "
                "detector that knows classes"
            )
        return drawn, {self.name: regions.soft_labels[regions.hidden].float()}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Hidden regions."""
        num = int(_hidden(batch).sum())
        return {self.name: num * targets[self.name].shape[2] if self._per_class else num}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Sum over hidden regions, in nats."""
        hidden = _hidden(batch)
        fused: Fused = encode(reading(batch, regions=hidden))
        log_p = encode.heads[self.name](fused.regions[hidden]).float().log_softmax(dim=-1)  # (N, 1 + C)
        right = _without_padding(targets[self.name], hidden)
        if self.divergence:
            total = F.kl_div(log_p, right, reduction="sum")
        else:
            total = F.nll_loss(log_p, 1 + right[:, 1:].argmax(dim=-1), reduction="sum")
        return Loss.term(self.name, total=total, count=self.counts(batch, targets)[self.name])

    @property
    def _per_class(self) -> bool:
        return self.divergence and self.mean_over_classes


def _hidden(batch: Batch) -> Tensor:
    """(B, R) bool."""
    assert batch.regions is not None and batch.regions.hidden is not None
    return batch.regions.hidden


def _without_padding(targets: Tensor, hidden: Tensor) -> Tensor:
    """(B, K, C), of which each row's first belong to its hidden regions, to (N, C) in their order."""
    real = torch.arange(targets.shape[1], device=targets.device) < hidden.sum(dim=1)[:, None]
    return targets[real]
