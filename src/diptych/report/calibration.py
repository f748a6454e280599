"""Calibration: is the model right as often as it says."""

from __future__ import annotations

import torch
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from diptych.metrics.calibration import NUM_BINS, CalibrationBins, calibration_bins
from diptych.report.charts import HUES, QUIET, new_chart, title, to_svg
from diptych.report.found import Found
from diptych.report.page import Section, missing, paragraphs

TITLE = "Calibration"
HOW = (
    "For every text the model spreads 100 % over all pictures; what the first one gets is how sure it is. Left the "
    "share that is right: on the dotted line the model is right as often as it says, below it too sure. Beside it "
    "how many answers there are of each."
)


def calibration(found: Found) -> Section:
    """Whether the first picture of a text is right as often as the model says."""
    if found.scale is None:
        return missing(TITLE, HOW, "the model does not say by what it multiplies its cosines.")
    confidence, right = retrieval_confidence(found, found.scale)
    chart = calibration_chart(confidence, right, name="calibration", of="texts")
    words = paragraphs(calibration_words(confidence, right))
    return Section(title=TITLE, how_to_read=HOW, body=words + chart)


def retrieval_confidence(found: Found, scale: float, tile: int = 1024) -> tuple[Tensor, Tensor]:
    """How sure the model is of the first picture of each text, and whether that one is right.

    Args:
        found: what was ranked.
        scale: the model's inverse temperature; the softmax runs over all pictures of the gallery.
        tile: texts at once.
    Returns:
        (M,) probability in [0, 1] and (M,) bool.
    """
    confidence = [
        torch.softmax(scale * (found.text[start : start + tile] @ found.image.mT).double(), dim=1).amax(dim=1)
        for start in range(0, len(found.text), tile)
    ]
    return torch.cat(confidence).clamp(0, 1), found.text_ranks == 0


def calibration_chart(confidence: Tensor, right: Tensor, *, name: str, of: str) -> str:
    """Accuracy by confidence beside how many answers there are of each.

    Args:
        confidence: (N,) probability of the answer given.
        right: (N,) bool.
        name: of the chart, its own in the page.
        of: what was answered, in words.
    """
    bins = calibration_bins(confidence, right)
    figure, (left, side) = new_chart(panels=2, height=3.0)
    middles = [(index + 0.5) / NUM_BINS for index in range(NUM_BINS)]
    filled = (bins.count > 0).tolist()
    left.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 2.5)))
    left.plot(bins.confidence[bins.count > 0].tolist(), bins.accuracy[bins.count > 0].tolist(),
              color=HUES[0], linewidth=1.6, marker="o", markersize=5)  # fmt: skip
    left.set_xlim(0, 1)
    left.set_ylim(0, 1.02)
    for axis in (left.xaxis, left.yaxis, side.xaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    title(left, "share that is right, by how sure it is")
    left.set_xlabel("how sure: mean confidence of the bin")
    side.bar(middles, bins.count.tolist(), width=0.86 / NUM_BINS, color=HUES[0], alpha=0.75)
    title(side, f"number of {of} in each bin")
    side.set_xlabel("how sure")
    assert any(filled), "there is at least one answer"
    return to_svg(figure, name=name, alt=_told(bins, of))


def calibration_words(confidence: Tensor, right: Tensor) -> str:
    """The mean confidence beside the share that is right, in a sentence."""
    error = calibration_bins(confidence, right).error()
    sure, share = float(confidence.mean()), float(right.double().mean())
    way = "as sure as it may be" if abs(sure - share) < 0.03 else "too sure" if sure > share else "not sure enough"
    return (
        f"On the whole the model is {way}: it gives its answers {100 * sure:.0f} %, and {100 * share:.0f} % of them "
        f"are right (expected calibration error {100 * error:.1f} points)."
    )


def _told(bins: CalibrationBins, of: str) -> str:
    parts = [
        f"{int(count)} {of} given {100 * confidence:.0f} %, {100 * accuracy:.0f} % right"
        for count, confidence, accuracy in zip(
            bins.count.tolist(), bins.confidence.tolist(), bins.accuracy.tolist(), strict=True
        )
        if count
    ]
    return "Calibration: " + "; ".join(parts) + "."
