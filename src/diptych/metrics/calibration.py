"""Calibration: is a model right as often as it says it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diptych.errors import ShapeError

NUM_BINS = 15
"""As Guo et al. have them; the error depends on it, so every table and page takes this one."""


@dataclass(frozen=True, kw_only=True)
class CalibrationBins:
    """Answers sorted by how sure the model was of them, in bins of equal width."""

    count: Tensor
    """(num_bins,) int64 answers in each bin; bin i holds confidences in (i, i + 1] / num_bins, the first one 0 too."""
    confidence: Tensor
    """(num_bins,) float64 mean confidence, 0 where the bin is empty."""
    accuracy: Tensor
    """(num_bins,) float64 share that was right, 0 where the bin is empty."""

    def error(self) -> float:
        """The expected calibration error: the mean over answers of |accuracy - confidence| of their bin.

        Guo et al., arXiv:1706.04599, equation 3.
        """
        gap = (self.accuracy - self.confidence).abs()
        return float((self.count * gap).sum() / self.count.sum().clamp(min=1))


def calibration_bins(confidence: Tensor, right: Tensor, num_bins: int = NUM_BINS) -> CalibrationBins:
    """Sorts answers into bins of equal width by their confidence. Guo et al., arXiv:1706.04599, section 2.

    Args:
        confidence: (N,) probability in [0, 1] of the answer given.
        right: (N,) bool.
        num_bins: bins of [0, 1].
    Raises:
        ShapeError: the two disagree, or a confidence is no probability.
    """
    if confidence.shape != right.shape:
        raise ShapeError(f"confidence is {tuple(confidence.shape)} and right {tuple(right.shape)}; expected equal")
    if not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ShapeError("a confidence lies outside [0, 1]; expected probabilities, e.g. a softmax")
    confidence = confidence.double()
    inner_edges = torch.arange(1, num_bins).double() / num_bins
    bins = torch.bucketize(confidence, inner_edges)  # (N,) on an edge: the lower bin
    count = torch.bincount(bins, minlength=num_bins)
    sums = torch.bincount(bins, weights=confidence, minlength=num_bins)
    hits = torch.bincount(bins, weights=right.double(), minlength=num_bins)
    filled = count.clamp(min=1)
    return CalibrationBins(count=count, confidence=sums / filled, accuracy=hits / filled)
