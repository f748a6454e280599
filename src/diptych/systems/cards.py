"""What GPUs can do by their makers' word, for plans of machines that are not at hand."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """A GPU."""

    name: str
    memory_gb: int
    half_peak: float
    """Operations a second of dense products in bf16 or fp16, added up in float32."""
    float32_peak: float
    """The same in float32, without TF32: torch leaves that off for products."""

    def peak(self, precision: str) -> float:
        """Operations a second in the precision of a run; "auto" takes bf16 where it is faster, as on all of these."""
        return self.float32_peak if precision == "float32" else self.half_peak


CARDS = (
    Card("RTX 3070", 8, half_peak=40.6e12, float32_peak=20.3e12),
    Card("RTX 4090", 24, half_peak=165e12, float32_peak=82.6e12),
    Card("A100", 80, half_peak=312e12, float32_peak=19.5e12),
)


def card_of(memory: int) -> Card:
    """The one whose memory is nearest to so many bytes, as a ratio."""
    return min(CARDS, key=lambda card: abs(math.log(memory / (card.memory_gb * 1e9))))
