"""Symmetric InfoNCE: pictures and texts of a batch find each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng
from diptych.errors import ShapeError
from diptych.objectives.logsumexp import tiled_logsumexp
from diptych.objectives.objective import Encode, Loss, OwnRow
from diptych.objectives.tiles import Pairs


def contrastive_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor,
    *,
    all_image: Tensor | None = None,
    all_text: Tensor | None = None,
    offset: int = 0,
    group: Tensor | None = None,
    all_group: Tensor | None = None,
) -> Loss:
    """Symmetric cross-entropy of matching pairs, in tiles. CLIP, arXiv:2103.00020, figure 3.

    Args:
        image: (B, E) normalised vectors of any float type; products and sums are float32.
        text: (B, E), row i the text of picture i.
        scale: () inverse temperature, already clamped.
        all_image: (N, E) pictures that texts choose among; None: the B of this batch.
        all_text: (N, E) likewise.
        offset: where the B rows begin among the N.
        group: (B,) rows of equal group are true pairs: they are no negatives of each other. None: as in the paper,
            every other row is a negative.
        all_group: (N,) likewise; None: the B of this batch.
    Returns:
        Loss with the term "contrastive": half the sum of both directions in nats, over B pairs.
    Raises:
        ShapeError: image and text disagree.
    """
    if image.shape != text.shape:
        raise ShapeError(f"image vectors are {tuple(image.shape)} and text vectors {tuple(text.shape)}; expected equal")
    pairs = Pairs(row_group=group, column_group=group if all_group is None else all_group, offset=offset)
    if all_image is None or all_text is None:
        by_image, by_text, matching = tiled_logsumexp(image, text, scale, pairs)  # (B,) each
    else:
        by_image, _, matching = tiled_logsumexp(image, all_text, scale, pairs)  # (B,) over N texts, and my own pair
        by_text, _, _ = tiled_logsumexp(text, all_image, scale, pairs)  # (B,) over N pictures
    total = by_image.sum() + by_text.sum() - 2 * matching.sum()
    return Loss.term("contrastive", total=total / 2, count=len(image))


@dataclass(frozen=True, kw_only=True)
class Contrastive(OwnRow):
    """CLIP's objective over the pairs of a batch. CLIP, arXiv:2103.00020, section 2.3."""

    known_pairs: bool = False
    """Rows of one group (several texts of a picture, one picture twice) are no negatives; off in the paper."""

    @property
    def name(self) -> str:
        """Its term's name."""
        return "contrastive"

    @property
    def couples_rows(self) -> bool:
        """Every row is a negative of every other."""
        return True

    def chance_loss(self, num_rows: int) -> float | None:
        """The right one among the rows of a batch, by chance."""
        return math.log(num_rows)

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """None: the projections belong to the towers."""
        return {}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """Nothing to draw: the pair is the target."""
        return item, {}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """As many pairs as rows."""
        return {"contrastive": len(batch)}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Normalises the vectors of the encoding and compares each with all."""
        dual = encode(batch)
        return contrastive_loss(
            F.normalize(dual.image, dim=-1),
            F.normalize(dual.text, dim=-1),
            dual.scale,
            all_image=None if dual.all_image is None else F.normalize(dual.all_image, dim=-1),
            all_text=None if dual.all_text is None else F.normalize(dual.all_text, dim=-1),
            offset=dual.offset,
            group=dual.group if self.known_pairs else None,
            all_group=dual.all_group if self.known_pairs else None,
        )
