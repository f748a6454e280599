"""UNITER: regions and words in one stream, through BERT's encoder."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from diptych.data.batch import Batch, RegionPart, TextPart
from diptych.errors import DataError, ShapeError, UsageError
from diptych.nn.bert import EPS, STD, BertEncoder, BertPooler, BertTextEmbedding, draw_as_bert
from diptych.nn.packing import Packing
from diptych.nn.rest import at_rest
from diptych.nn.transformer import LayerNorm
from diptych.objectives.objective import Embedded, Fused

BOX_NUMBERS = 7
"""x0, y0, x1, y1, width, height, area; all as shares of the picture."""
REGION_TYPE = 1
"""The row of the table of types that regions have where a batch does not say: BERT's second sentence."""
NOT_KNOWN = ("", "unknown")
"""What a config or a file of regions says where it does not tell."""


@dataclass(frozen=True, kw_only=True)
class UniterConfig:
    """Sizes of the network, and what it reads. The defaults are UNITER-base."""

    width: int = 768
    """D, of every state."""
    depth: int = 12
    heads: int = 12
    """Of attention."""
    mlp_width: int = 3072
    dropout: float = 0.1
    """Of embeddings and of what each layer adds."""
    attention_dropout: float = 0.1
    init_std: float = STD
    """Of the network's weights as they are drawn, its heads' aside."""
    vocab_size: int = 28_996
    end_id: int = 102
    """The token that ends a text, [SEP]."""
    context: int = 62
    """Longest text in tokens, with start and end; rows with longer ones are left out of training, as released."""
    positions: int = 512
    """Rows of the table of positions: no text may be longer."""
    types: int = 2
    """Rows of the table that tells words from regions: NLVR2's models have 3, VCR's 4."""
    feature_width: int = 2048
    """F, of a region's features."""
    num_classes: int = 1600
    """C, of the detector, background not counted."""
    answers: tuple[str, ...] = ()
    """Among which a model chooses that answers questions, by place; of the table where a recipe states none."""
    max_regions: int = 100
    """A picture's regions after the so many likeliest are not read."""
    detector: str = ""
    """What made the regions, for people."""
    detector_hash: str = ""
    """Of its weights and settings; "": not known, and any detector's regions of that width are taken."""
    feature_kind: str = ""
    """Of those regions, as `RegionSpec` has it; "": not known."""
    box_kind: str = ""
    """Likewise."""

    def __post_init__(self) -> None:
        """Raises UsageError of sizes that do not go together."""
        if self.context > self.positions:
            raise UsageError(
                f"model.context is {self.context} and the table of positions has {self.positions} rows; choose a "
                f"context of at most {self.positions}"
            )

    def check_regions(self, found: UniterConfig) -> None:
        """Refuses regions that are surely others than those that the model was trained with.

        Given boxes go with any: they are no matter of the detector.

        Args:
            found: as it would be, had it been trained with the regions at hand.
        Raises:
            DataError: naming what differs.
        """
        if self.detector_hash and found.detector_hash and self.detector_hash != found.detector_hash:
            raise DataError(
                f"the regions are of {found.detector} (weights {found.detector_hash[:12]}), and the model was trained "
                f"with those of {self.detector} (weights {self.detector_hash[:12]}); extract them with that detector"
            )
        for what, theirs, ours in (
            ("features", found.feature_kind, self.feature_kind),
            ("boxes", found.box_kind, self.box_kind),
        ):
            if theirs != ours and not {theirs, ours} & {*NOT_KNOWN, "given"}:
                raise DataError(
                    f"the regions are of {found.detector}, their {what} {theirs!r}, and the model was trained with "
                    f"those of {self.detector}, {ours!r}; extract them as its own were"
                )

    def doubts(self, found: UniterConfig) -> str:
        """What is not known of regions that are not refused, in a sentence; "" where nothing is open.

        Args:
            found: as `check_regions` takes it.
        """
        open_ = [] if found.detector_hash else [f"which weights made these regions ({found.detector})"]
        open_ += [] if self.detector_hash else ["which detector's regions the model was trained with"]
        if not open_:
            return ""
        return (
            f"Note: it is not known {' nor '.join(open_)}, so that their features may not be those that the model "
            "reads, and nothing would tell; `diptych regions compare` holds them against regions that are."
        )


class RegionEmbedding(nn.Module):
    """Feature and box of each region, projected and normed apart, summed with its type and normed again.

    UNITER, arXiv:1909.11740, section 3.1.
    """

    def __init__(self, feature_width: int, width: int, dropout: float) -> None:
        super().__init__()
        self.feature_proj = nn.Linear(feature_width, width)
        self.feature_norm = LayerNorm(width, EPS)
        self.box_proj = nn.Linear(BOX_NUMBERS, width)
        self.box_norm = LayerNorm(width, EPS)
        # (1, F), so that weight decay takes it, as in the release. It is added before the projection.
        self.mask_vector = nn.Parameter(torch.empty(1, feature_width))
        self.norm = LayerNorm(width, EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor, box_features: Tensor, type_vectors: Tensor, hidden: Tensor | None) -> Tensor:
        """The vectors of N regions.

        Args:
            features: (N, F) of any float type.
            box_features: (N, 7).
            type_vectors: (N, D) or (D,).
            hidden: (N,) bool: the mask vector stands for these features; None: for none.
        Returns:
            (N, D).
        """
        features = features.to(self.mask_vector.dtype)
        if hidden is not None:
            features = torch.where(hidden[:, None], self.mask_vector, features)
        seen = self.feature_norm(self.feature_proj(features)) + self.box_norm(self.box_proj(box_features))
        return self.dropout(self.norm(seen + type_vectors))


class UNITER(nn.Module):
    """Embeddings of words and regions, and one encoder over both. UNITER, arXiv:1909.11740, section 3.1."""

    decayed_gains: ClassVar[tuple[str, ...]] = (
        "regions.feature_norm.weight",
        "regions.box_norm.weight",
        "heads.mrfr.transform.norm.weight",
        "heads.mrc.transform.norm.weight",
        "heads.vqa.norm.weight",
        "heads.ve.norm.weight",
        "heads.vcr.norm.weight",
        "heads.re.transform.norm.weight",
    )
    """Gains that the release decays, since it spares those alone that are called LayerNorm."""

    def __init__(self, config: UniterConfig) -> None:
        super().__init__()
        self.config = config
        self.text = BertTextEmbedding(config.vocab_size, config.positions, config.types, config.width, config.dropout)
        self.regions = RegionEmbedding(config.feature_width, config.width, config.dropout)
        self.encoder = BertEncoder(
            config.width,
            config.depth,
            config.heads,
            config.mlp_width,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
        self.pooler = BertPooler(config.width)
        self.heads = nn.ModuleDict()
        self.activation_checkpointing = False
        """Blocks keep only their input for the backward pass; the training loop sets it."""
        self.apply(partial(draw_as_bert, std=config.init_std))
        nn.init.normal_(self.regions.mask_vector, std=config.init_std)

    def at_rest(self) -> AbstractContextManager[None]:
        """Neither gradients nor dropout; see `Encode`."""
        return at_rest(self)

    def forward(self, batch: Batch) -> Fused:
        """Words, regions or both of every row."""
        return self.fuse(self.embed(batch))

    def embed(self, batch: Batch) -> dict[str, Embedded]:
        """The parts of a batch before the first layer."""
        parts: dict[str, Embedded] = {}
        if batch.text is not None:
            parts["text"] = self.embed_text(batch.text)
        if batch.regions is not None:
            parts["regions"] = self.embed_regions(batch.regions)
        if not parts:
            raise ValueError("UNITER reads texts and regions; this batch has neither")
        return parts

    def embed_text(self, text: TextPart) -> Embedded:
        """Words."""
        return Embedded(hidden=self.text(text.ids, text.types), mask=text.mask, read=text.read)

    def embed_regions(self, regions: RegionPart) -> Embedded:
        """Regions; only real ones are computed, and the others are zero.

        Raises:
            ShapeError: the features are not as wide as the model's.
        """
        if regions.features.shape[2] != self.config.feature_width:
            raise ShapeError(
                f"region features of {regions.features.shape[2]} numbers; this model reads "
                f"{self.config.feature_width}: use regions of the detector that it was trained with"
            )
        packing = Packing.of(regions.mask)
        of_type = self.text.types.weight[REGION_TYPE]
        if regions.types is not None:
            of_type = self.text.types(packing.pack(regions.types))
        vectors = self.regions(
            packing.pack(regions.features),
            packing.pack(regions.box_features),
            of_type,
            None if regions.hidden is None else packing.pack(regions.hidden),
        )
        return Embedded(hidden=packing.unpack(vectors), mask=regions.mask, read=regions.read)

    def fuse(self, parts: Mapping[str, Embedded]) -> Fused:
        """The states of all parts after they have seen each other; the first part's first token is pooled."""
        hidden, mask = _side_by_side(parts)
        read = None
        if any(part.read is not None for part in parts.values()):
            read = torch.cat([part.mask if part.read is None else part.read for part in parts.values()], dim=1)
        hidden = self.encoder(hidden, mask, read=read, recompute=self.activation_checkpointing)
        return Fused(
            hidden=hidden,
            mask=mask,
            lengths={name: part.mask.shape[1] for name, part in parts.items()},
            pooled=self.pooler(hidden),
            word_table=self.text.words.weight,
            feature_table=self.regions.feature_proj.weight,
        )

    def attention(self, parts: Mapping[str, Embedded]) -> Tensor:
        """(depth, B, H, L, L) how much each position of `fuse` attends to each other; to be looked at."""
        return self.encoder.attention(*_side_by_side(parts))


def _side_by_side(parts: Mapping[str, Embedded]) -> tuple[Tensor, Tensor]:
    """(B, L, D) and (B, L) of all parts."""
    hidden = torch.cat([part.hidden for part in parts.values()], dim=1)
    return hidden, torch.cat([part.mask for part in parts.values()], dim=1)
