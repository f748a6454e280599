"""The heads that UNITER's releases hold, and a model's heads by what its weights say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from diptych.errors import WeightsError, unknown
from diptych.nn.heads import ClassHead, FeatureHead, MatchHead, WordHead
from diptych.nn.task_heads import AnswerHead, LinearHead, PairHead, RegionScoreHead
from diptych.uniter.model import UniterConfig

PREFIX = "heads."
OBJECTIVES = ("mlm", "mrfr", "mrc", "itm")
TASKS = ("vqa", "ve", "vcr", "nlvr2_triplet", "nlvr2_paired", "nlvr2_paired_attn", "rank", "re")
NAMES = (*OBJECTIVES, *TASKS)


@dataclass(frozen=True)
class HeadSizes:
    """What a head's weights say beyond the model's config."""

    outputs: int = 1
    """Answers or classes, background among them; read where a head is not tied."""
    layers: int = 1
    """Of the head "re"."""


def sizes_in(state: Mapping[str, Tensor]) -> dict[str, HeadSizes]:
    """The heads that a state dict has weights of, in its order."""
    sizes: dict[str, HeadSizes] = {}
    for name in dict.fromkeys(key.split(".")[1] for key in state if key.startswith(PREFIX)):
        output = state.get(f"{PREFIX}{name}.output.weight")
        sizes[name] = HeadSizes(
            outputs=1 if output is None else len(output),
            layers=2 if name == "re" and f"{PREFIX}re.transform.dense.weight" in state else 1,
        )
    return sizes


def new_heads(sizes: Mapping[str, HeadSizes], config: UniterConfig) -> nn.ModuleDict:
    """Heads of these names and sizes.

    Raises:
        WeightsError: a name is none of NAMES.
    """
    return nn.ModuleDict({name: _head(name, size, config) for name, size in sizes.items()})


def _head(name: str, sizes: HeadSizes, config: UniterConfig) -> nn.Module:
    width = config.width
    match name:
        case "mlm":
            return WordHead(width, config.vocab_size)
        case "mrfr":
            return FeatureHead(width, config.feature_width)
        case "mrc":
            return ClassHead(width, sizes.outputs)
        case "itm":
            return MatchHead(width)
        case "vqa" | "ve":
            return AnswerHead(width, sizes.outputs)
        case "vcr":
            return AnswerHead(width, sizes.outputs, relu=True)
        case "nlvr2_triplet" | "rank":
            return LinearHead(width, sizes.outputs)
        case "nlvr2_paired":
            return LinearHead(2 * width, sizes.outputs)
        case "nlvr2_paired_attn":
            return PairHead(width, config.heads, dropout=config.dropout, attention_dropout=config.attention_dropout)
        case "re":
            return RegionScoreHead(width, sizes.layers)
        case _:
            raise WeightsError(unknown("head", name, NAMES))
