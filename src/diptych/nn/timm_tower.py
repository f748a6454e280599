"""Any backbone of the timm library as an image tower."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from diptych.errors import UsageError, nearest, require_extra


class TimmTower(nn.Module):
    """A timm backbone, then a linear projection; parameters named as in open_clip."""

    def __init__(self, name: str, image_size: int, *, pool: str = "", embed_dim: int) -> None:
        require_extra("timm", "timm", f"the picture tower {name!r}")
        import timm

        if not timm.is_model(name):
            guess = nearest(name, timm.list_models())
            hint = f"; did you mean {guess!r}?" if guess is not None else "; timm.list_models() lists them"
            raise UsageError(f"timm {timm.__version__} has no backbone {name!r}{hint}")
        super().__init__()
        self.name = name
        self.trunk: Any = _backbone(name, image_size)
        if pool:
            self.trunk.reset_classifier(0, global_pool=pool)
        num_features: int = self.trunk.num_features
        self.head = nn.Sequential(OrderedDict(proj=nn.Linear(num_features, embed_dim, bias=False)))

    def features(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to the pooled features, (B, D)."""
        self.trunk.set_grad_checkpointing(recompute)
        return self.trunk(images)

    def feature_map(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to the last map, (B, D, h, w), normed where the backbone is a Transformer.

        Raises:
            UsageError: timm gives no map of this backbone.
        """
        if not hasattr(self.trunk, "forward_intermediates"):
            raise UsageError(f"timm gives no feature map of {self.name!r}; use a backbone that has one, e.g. a ViT")
        self.trunk.set_grad_checkpointing(recompute)
        return self.trunk.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[0]

    def forward(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """(B, 3, height, width) to (B, E)."""
        return self.head(self.features(images, recompute=recompute))


def _backbone(name: str, image_size: int) -> Any:
    """Transformers must know the picture size; convolutional networks refuse to be told."""
    import timm

    try:
        return timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size)
    except TypeError:
        return timm.create_model(name, pretrained=False, num_classes=0)
