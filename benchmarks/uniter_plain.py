"""UNITER's pre-training in plain modules, rebuilt from a description of the release: the peers of `uniter_step.py`.

Every position is computed, padding among them. Modules have the names of released checkpoints, so that both sides can
hold the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.data.batch import IGNORE, Batch, Targets
from diptych.uniter.model import UniterConfig
from transport import released_plan

EPS = 1e-12
Attend = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]
"""Queries, keys, values (B, H, L, K), a mask (B, 1, 1, L) that is added, dropout: to (B, H, L, K)."""


@dataclass(frozen=True, kw_only=True)
class PlainBatch:
    """Words and regions padded to the longest, in the order that the encoder reads them in."""

    task: str
    ids: Tensor
    """(B, T)."""
    features: Tensor
    """(B, R, F), 0 where hidden or padded."""
    boxes: Tensor
    """(B, R, 7)."""
    hidden: Tensor | None
    """(B, R) bool."""
    gather: Tensor | None
    """(B, L) of each position in T + R, where rows begin with their words and go on with their regions; None: words are
    padded to T, and regions follow."""
    key_mask: Tensor
    """(B, 1, 1, L): 0 where real, else -10,000."""
    chosen: Tensor
    """(B, L) bool: the positions that the task asks about."""
    labels: Tensor
    """Of those, or of the rows."""
    places: tuple[Tensor, Tensor]
    """(B, T) and (B, R): where words and regions stand in L."""
    masks: tuple[Tensor, Tensor]
    """(B, T) and (B, R) bool, True where real."""


def plain_batch(task: str, batch: Batch, targets: Targets, *, gathered: bool) -> PlainBatch:
    """The same rows with the same draws.

    Args:
        task: which drew the targets.
        batch: as diptych reads it.
        targets: likewise.
        gathered: rows are as long as their words and regions together, as in the release.
    """
    text, regions = batch.text, batch.regions
    assert text is not None and regions is not None
    num_words, num_regions = text.mask.sum(1, keepdim=True), regions.mask.sum(1, keepdim=True)
    words, first = torch.arange(text.mask.shape[1]), text.mask.shape[1]
    length = int((num_words + num_regions).max()) if gathered else first + regions.mask.shape[1]
    places = torch.arange(length).expand(len(batch), -1)
    word_at = words.expand(len(batch), -1)
    region_at = (num_words if gathered else first) + torch.arange(regions.mask.shape[1]).expand(len(batch), -1)
    region_at = region_at.clamp(max=length - 1)
    real = torch.zeros(len(batch), length, dtype=torch.bool)
    chosen = torch.zeros_like(real)
    real.scatter_(1, word_at, text.mask)
    _put(real, region_at, regions.mask)
    if task == "mlm":
        chosen.scatter_(1, word_at, targets["mlm"] != IGNORE)
    elif regions.hidden is not None:
        _put(chosen, region_at, regions.hidden & regions.mask)
    features = regions.features.float()
    if regions.hidden is not None:
        features = features.masked_fill(regions.hidden[:, :, None], 0)
    is_region = (places >= num_words) & (places < num_words + num_regions)
    return PlainBatch(
        task=task,
        ids=text.ids,
        features=features,
        boxes=regions.box_features,
        hidden=regions.hidden,
        gather=torch.where(is_region, places - num_words + first, places) if gathered else None,
        key_mask=(1 - real.float())[:, None, None] * -10_000,
        chosen=chosen,
        labels=_labels(task, batch, targets),
        places=(word_at, region_at),
        masks=(text.mask, regions.mask),
    )


def _put(into: Tensor, places: Tensor, mask: Tensor) -> None:
    """Sets (B, L) where a place of `mask` is True."""
    row, column = mask.nonzero(as_tuple=True)
    into[row, places[row, column]] = True


def _labels(task: str, batch: Batch, targets: Targets) -> Tensor:
    regions = batch.regions
    assert regions is not None
    if task == "mlm":
        return targets["mlm"][targets["mlm"] != IGNORE]
    if task == "itm":
        return targets["itm"]
    assert regions.hidden is not None
    if task == "mrfr":
        return regions.features[regions.hidden].float()
    right = targets["mrc"]
    return right[torch.arange(right.shape[1]) < regions.hidden.sum(1)[:, None]]


def eager(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """Attention step by step, as released."""
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) + mask
    return F.dropout(scores.softmax(dim=-1), dropout) @ value


def fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """Attention by torch's one function."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)


class SelfAttention(nn.Module):
    def __init__(self, config: UniterConfig, attend: Attend) -> None:
        super().__init__()
        self.heads, self.dropout, self.attend = config.heads, config.attention_dropout, attend
        self.query, self.key, self.value = (nn.Linear(config.width, config.width) for _ in range(3))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        parts = (layer(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in self.children())
        context = self.attend(*parts, mask, self.dropout if self.training else 0.0)
        return context.transpose(1, 2).flatten(2)


class Output(nn.Module):
    """A linear layer, dropout, what it is added to, norm."""

    def __init__(self, width_in: int, width: int, dropout: float) -> None:
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(width_in, width), nn.LayerNorm(width, EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class Layer(nn.Module):
    def __init__(self, config: UniterConfig, attend: Attend) -> None:
        super().__init__()
        width, inner = config.width, config.mlp_width
        attention = {"self": SelfAttention(config, attend), "output": Output(width, width, config.dropout)}
        self.attention = nn.ModuleDict(attention)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, inner)})
        self.output = Output(inner, width, config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        hidden = self.attention["output"](self.attention["self"](hidden, mask), hidden)
        return self.output(F.gelu(self.intermediate["dense"](hidden)), hidden)


class TextEmbeddings(nn.Module):
    def __init__(self, config: UniterConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.types, config.width)
        self.LayerNorm, self.dropout = nn.LayerNorm(config.width, EPS), nn.Dropout(config.dropout)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.position_embeddings(torch.arange(ids.shape[1], device=ids.device)[None])
        types = self.token_type_embeddings(torch.zeros_like(ids))
        return self.dropout(self.LayerNorm(self.word_embeddings(ids) + positions + types))


class ImageEmbeddings(nn.Module):
    def __init__(self, config: UniterConfig) -> None:
        super().__init__()
        self.img_linear, self.pos_linear = (nn.Linear(size, config.width) for size in (config.feature_width, 7))
        self.img_layer_norm, self.pos_layer_norm, self.LayerNorm = (nn.LayerNorm(config.width, EPS) for _ in range(3))
        self.mask_embedding = nn.Embedding(2, config.feature_width, padding_idx=0)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, features: Tensor, boxes: Tensor, types: Tensor, hidden: Tensor | None) -> Tensor:
        if hidden is not None:
            features = features + self.mask_embedding(hidden.long())
        seen = self.img_layer_norm(self.img_linear(features)) + self.pos_layer_norm(self.pos_linear(boxes))
        return self.dropout(self.LayerNorm(seen + types))


class Encoder(nn.Module):
    """Both embeddings, and the layers over them."""

    def __init__(self, config: UniterConfig, attend: Attend) -> None:
        super().__init__()
        self.embeddings, self.img_embeddings = TextEmbeddings(config), ImageEmbeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config, attend) for _ in range(config.depth))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.width, config.width)})

    def forward(self, batch: PlainBatch) -> Tensor:
        types = self.embeddings.token_type_embeddings(torch.ones_like(batch.features[:, :, 0], dtype=torch.long))
        regions = self.img_embeddings(batch.features, batch.boxes, types, batch.hidden)
        hidden = torch.cat([self.embeddings(batch.ids), regions], dim=1)
        if batch.gather is not None:
            hidden = hidden.gather(1, batch.gather[:, :, None].expand(-1, -1, hidden.shape[2]))
        for layer in self.encoder["layer"]:
            hidden = layer(hidden, batch.key_mask)
        return hidden


class PlainUniter(nn.Module):
    """The model with its four tasks, averaged as in the release."""

    def __init__(self, config: UniterConfig, attend: Attend) -> None:
        super().__init__()
        width, transform = config.width, nn.ModuleDict()
        self.uniter = Encoder(config, attend)
        transform["dense"], transform["LayerNorm"] = nn.Linear(width, width), nn.LayerNorm(width, EPS)
        self.cls = nn.ModuleDict({"predictions": nn.ModuleDict({"transform": transform})})
        self.cls["predictions"].register_parameter("bias", nn.Parameter(torch.zeros(config.vocab_size)))
        self.feat_regress = nn.ModuleDict({"net": _transform(width)})
        self.feat_regress.register_parameter("bias", nn.Parameter(torch.zeros(config.feature_width)))
        classes = nn.Linear(width, 1 + config.num_classes)
        self.region_classifier = nn.ModuleDict({"net": nn.Sequential(*_transform(width), classes)})
        self.itm_output = nn.Linear(width, 2)

    def forward(self, batch: PlainBatch) -> Tensor:
        """The loss of the batch's task."""
        hidden = self.uniter(batch)
        if batch.task == "itm":
            return self._matching(hidden, batch)
        asked = hidden[batch.chosen]
        match batch.task:
            case "mlm":
                head = self.cls["predictions"]
                asked = head["transform"]["LayerNorm"](F.gelu(head["transform"]["dense"](asked)))
                logits = F.linear(asked, self.uniter.embeddings.word_embeddings.weight, head.bias)
                return F.cross_entropy(logits, batch.labels)
            case "mrfr":
                table = self.uniter.img_embeddings.img_linear.weight
                found = F.linear(self.feat_regress["net"](asked), table.t(), self.feat_regress.bias)
                return F.mse_loss(found, batch.labels)
            case _:
                logits = self.region_classifier["net"](asked)
                total = F.kl_div(logits.log_softmax(dim=-1), batch.labels, reduction="sum")
                return total / batch.labels.numel()

    def _matching(self, hidden: Tensor, batch: PlainBatch) -> Tensor:
        logits = self.itm_output(torch.tanh(self.uniter.pooler["dense"](hidden[:, 0])))
        words, regions = (hidden.gather(1, at[:, :, None].expand(-1, -1, hidden.shape[2])) for at in batch.places)
        cosine = F.normalize(words, dim=-1, eps=1e-5) @ F.normalize(regions, dim=-1, eps=1e-5).mT
        cost = (1 - cosine) * (batch.masks[0][:, :, None] & batch.masks[1][:, None])
        distances = (cost * released_plan(cost.detach(), *batch.masks)).sum(dim=(1, 2))
        apart = (distances * (2 * batch.labels - 1)).mean()
        return F.cross_entropy(logits, batch.labels) + 0.1 * apart


def _transform(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, EPS))


class PlainAdamW:
    """The release's optimizer, parameter by parameter: `eps` before the correction, decay of what the update left."""

    def __init__(self, model: nn.Module, lr: float, betas: tuple[float, float], eps: float, decay: float) -> None:
        self.lr, self.betas, self.eps, self.steps = lr, betas, eps, 0
        spared = ("bias", "LayerNorm.weight")
        self.decays = {
            one: 0.0 if any(part in name for part in spared) else decay for name, one in model.named_parameters()
        }
        self.moments: dict[nn.Parameter, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def step(self) -> None:
        """One update of what has a gradient."""
        self.steps += 1
        (first, second), rate = self.betas, self.lr
        rate *= math.sqrt(1 - second**self.steps) / (1 - first**self.steps)
        for one, decay in self.decays.items():
            if one.grad is None:
                continue
            mean, square = self.moments.setdefault(one, (torch.zeros_like(one), torch.zeros_like(one)))
            mean.mul_(first).add_(one.grad, alpha=1 - first)
            square.mul_(second).addcmul_(one.grad, one.grad, value=1 - second)
            one.addcdiv_(mean, square.sqrt().add_(self.eps), value=-rate)
            if decay:
                one.add_(one, alpha=-self.lr * decay)
