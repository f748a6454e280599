"""Symmetric InfoNCE: pictures and texts of a batch find each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng
from diptych.errors import ShapeError
from diptych.objectives.objective import Encode, Loss


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
    """Symmetric cross-entropy of matching pairs. CLIP, arXiv:2103.00020, figure 3.

    Args:
        image: (B, E) normalised vectors of any float type; the softmax is taken in float32.
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
    all_image = image if all_image is None else all_image
    all_text = text if all_text is None else all_text
    own = offset + torch.arange(len(image), device=image.device)  # (B,) column of my own pair
    by_image = (scale * image @ all_text.mT).float()  # (B, N)
    by_text = (scale * text @ all_image.mT).float()  # (B, N)
    if group is not None:
        twins = group[:, None] == (group if all_group is None else all_group)[None, :]  # (B, N)
        twins = twins.scatter(1, own[:, None], False)
        by_image = by_image.masked_fill(twins, -torch.inf)
        by_text = by_text.masked_fill(twins, -torch.inf)
    total = F.cross_entropy(by_image, own, reduction="sum") + F.cross_entropy(by_text, own, reduction="sum")
    return Loss.term("contrastive", total=total / 2, count=len(image))


@dataclass(frozen=True, kw_only=True)
class Contrastive:
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

    def head(self, config: Any) -> nn.Module | None:
        """None: the projections belong to the towers."""
        return None

    def partner(self, seed: int, epoch: int, row: int, num_rows: int) -> int | None:
        """None: the batch holds the negatives."""
        return None

    def draw(self, item: Item, partner: Item | None, rng: Rng) -> tuple[Item, Targets]:
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
