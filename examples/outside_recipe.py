"""A recipe from outside the package, with an objective and a head of its own.

    diptych train ./examples/outside_recipe.py:run --data scenes --out runs/colour

CLIP's contrast, and beside it a question that every picture answers by itself: what is its mean colour? A linear head
reads it off the picture's vector, so that vectors keep colour even where no text names it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from diptych.clip import recipes
from diptych.data.batch import Batch, Targets
from diptych.data.sample import Item, Rng
from diptych.objectives.contrastive import contrastive_loss
from diptych.objectives.objective import Encode, Loss, OwnRow
from diptych.train.run import Run


@dataclass(frozen=True, kw_only=True)
class ContrastAndColour(OwnRow):
    """Meets `diptych.objectives.objective.Objective`; its fields are settings: --set objective.weight=0.5."""

    weight: float = 1.0
    name: str = "colour"
    couples_rows: bool = True  # contrast compares rows, so the loop gathers them first

    def chance_loss(self, num_rows: int) -> float | None:
        """For logs; None: of two terms it says little."""
        return None

    def heads(self, config: Any) -> dict[str, nn.Module]:
        """The model owns it, and checkpoints hold it, as `heads.colour`."""
        return {self.name: nn.Linear(config.embed_dim, 3)}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        """In the loader's worker: the answer, from the pixels as they were cropped."""
        assert item.pixels is not None
        return item, {"colour": item.pixels.float().mean((1, 2)) / 255}  # (3,)

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        """Every row counts once in both terms."""
        return {"contrastive": len(batch), "colour": len(batch)}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        """Two sums over the rows; the loop divides them by the counts of the whole step."""
        dual = encode(batch)
        image, text = F.normalize(dual.image, dim=-1), F.normalize(dual.text, dim=-1)
        answer: Tensor = encode.heads[self.name](image).float()  # (B, 3)
        error = F.mse_loss(answer, targets["colour"], reduction="sum")
        colour = Loss.term("colour", total=error, count=len(batch), weight=self.weight)
        return contrastive_loss(image, text, dual.scale) + colour


def run() -> Run:
    """CLIP's smallest recipe under this objective."""
    base = recipes.tiny()
    return replace(base, objective=ContrastAndColour(), training=replace(base.training, micro_batch=16))
