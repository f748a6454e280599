"""The names of UNITER's released checkpoints, and of BERT's, from which UNITER begins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from diptych.checkpoint.keymap import KeyMap, Rule, without_prefixes
from diptych.data.examples import ENTAILMENT
from diptych.errors import WeightsError
from diptych.nn.bert import EPS
from diptych.uniter.heads import HeadSizes
from diptych.uniter.model import UniterConfig

MARK = "img_embeddings.img_linear.weight"
"""How the name of a tensor ends that every UNITER has, and no BERT."""
MASK = "uniter.img_embeddings.mask_embedding.weight"
TIED = {
    "cls.predictions.decoder.weight": "uniter.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "feat_regress.weight": "uniter.img_embeddings.img_linear.weight",
}
"""Second names of tensors."""
WRITTEN_TIED = {"cls.predictions.bias": "cls.predictions.decoder.weight", "feat_regress.bias": "feat_regress.weight"}
"""A tensor of a tied head -> the second name that the release writes with it."""
FIXED = {"hidden_act": "gelu", "layer_norm_eps": EPS, "position_embedding_type": "absolute"}
"""Settings of a config file for which there is one value here."""
HEAD_WIDTH = 64
"""Numbers of an attention head, in BERT of every size."""


def _transform(ours: str, dense: str, norm: str) -> tuple[Rule, ...]:
    return Rule(f"{ours}.transform.dense.{{}}", f"{dense}.{{}}"), Rule(f"{ours}.transform.norm.{{}}", f"{norm}.{{}}")


def _answer(ours: str, theirs: str) -> tuple[Rule, ...]:
    parts = (("dense", 0), ("norm", 2), ("output", 3))
    return tuple(Rule(f"heads.{ours}.{part}.{{}}", f"{theirs}.{place}.{{}}") for part, place in parts)


def _block() -> tuple[Rule, ...]:
    ours, theirs = "encoder.blocks.{}.", "uniter.encoder.layer.{}."
    split = {
        f"{ours}attn.in_proj_{kind}": tuple(
            f"{theirs}attention.self.{part}.{kind}" for part in ("query", "key", "value")
        )
        for kind in ("weight", "bias")
    }
    return (
        *(Rule(name, parts) for name, parts in split.items()),
        Rule(ours + "attn.out_proj.{}", theirs + "attention.output.dense.{}"),
        Rule(ours + "ln_1.{}", theirs + "attention.output.LayerNorm.{}"),
        Rule(ours + "mlp.c_fc.{}", theirs + "intermediate.dense.{}"),
        Rule(ours + "mlp.c_proj.{}", theirs + "output.dense.{}"),
        Rule(ours + "ln_2.{}", theirs + "output.LayerNorm.{}"),
    )


KEYS = KeyMap(
    rules=(
        Rule("text.words.weight", "uniter.embeddings.word_embeddings.weight"),
        Rule("text.positions.weight", "uniter.embeddings.position_embeddings.weight"),
        Rule("text.types.weight", "uniter.embeddings.token_type_embeddings.weight"),
        Rule("text.norm.{}", "uniter.embeddings.LayerNorm.{}"),
        Rule("regions.feature_proj.{}", "uniter.img_embeddings.img_linear.{}"),
        Rule("regions.feature_norm.{}", "uniter.img_embeddings.img_layer_norm.{}"),
        Rule("regions.box_proj.{}", "uniter.img_embeddings.pos_linear.{}"),
        Rule("regions.box_norm.{}", "uniter.img_embeddings.pos_layer_norm.{}"),
        Rule("regions.mask_vector", MASK),
        Rule("regions.norm.{}", "uniter.img_embeddings.LayerNorm.{}"),
        *_block(),
        Rule("pooler.dense.{}", "uniter.pooler.dense.{}"),
        *_transform("heads.mlm", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
        Rule("heads.mlm.bias", "cls.predictions.bias"),
        *_transform("heads.mrfr", "feat_regress.net.0", "feat_regress.net.2"),
        Rule("heads.mrfr.bias", "feat_regress.bias"),
        *_transform("heads.mrc", "region_classifier.net.0", "region_classifier.net.2"),
        Rule("heads.mrc.output.{}", "region_classifier.net.3.{}"),
        Rule("heads.itm.output.{}", "itm_output.{}"),
        Rule("heads.rank.output.{}", "rank_output.{}"),
        *_answer("vqa", "vqa_output"),
        *_answer("ve", "vqa_output"),
        *_answer("vcr", "vcr_output"),
        Rule("heads.nlvr2_paired_attn.left_to_right.{}", "attn1.{}"),
        Rule("heads.nlvr2_paired_attn.right_to_left.{}", "attn2.{}"),
        Rule("heads.nlvr2_paired_attn.merge.{}", "fc.0.{}"),
        Rule("heads.nlvr2_paired_attn.score.{}", "attn_pool.fc.0.{}"),
        *(Rule(f"heads.nlvr2_{form}.output.{{}}", "nlvr2_output.{}") for form in ("triplet", "paired", "paired_attn")),
    ),
    ignore=(
        ("cls.seq_relationship.*", "BERT's question whether one sentence follows another, which UNITER does not ask"),
        ("*.position_ids", "a count from 0"),
    ),
)


def renamed(theirs: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Their tensors under the names of the last release, second names left out.

    Older files say gamma and beta of norms, `bert.` for the model and `ITM.` for a head; some were saved inside of a
    wrapper.

    Raises:
        WeightsError: two keys have one name then, or tied tensors differ.
    """
    state: dict[str, Tensor] = {}
    for key, tensor in without_prefixes(theirs, ("module.", "model.")).items():
        name = _name(key)
        if name in state:
            raise WeightsError(f"{source} has {name} twice, the second time as {key}")
        state[name] = tensor
    for name, first in TIED.items():
        second = state.pop(name, None)
        if second is None or (first in state and torch.equal(second, state[first])):
            continue
        raise WeightsError(
            f"{source}: {name} and {first} are one tensor in the model, and differ in the file; it was not written by "
            "the released code"
        )
    return state


def _name(key: str) -> str:
    key = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", key))
    key = re.sub(r"^ITM\.", "itm_output.", re.sub(r"^bert\.", "uniter.", key))
    return f"uniter.{key}" if re.match(r"(embeddings|img_embeddings|encoder|pooler)\.", key) else key


def infer_config(theirs: Mapping[str, Tensor], told: Mapping[str, Any], source: str) -> UniterConfig:
    """The sizes of a model by its tensors; what these do not say by a released config file.

    Args:
        theirs: from `renamed`.
        told: the file's content, or empty: heads are 64 wide then, and dropout is 0.1.
        source: the file of the weights.
    Raises:
        WeightsError: tensors that every model has are missing, or the file says other sizes.
    """
    try:
        vocab_size, width = theirs["uniter.embeddings.word_embeddings.weight"].shape
        positions = len(theirs["uniter.embeddings.position_embeddings.weight"])
        types = len(theirs["uniter.embeddings.token_type_embeddings.weight"])
        mlp_width = len(theirs["uniter.encoder.layer.0.intermediate.dense.weight"])
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{source} holds no BERT or UNITER: {error} is missing or of another shape") from error
    layers = {int(found[1]) for key in theirs if (found := re.match(r"uniter\.encoder\.layer\.(\d+)\.", key))}
    heads = int(told.get("num_attention_heads", width // HEAD_WIDTH))
    if heads < 1 or width % heads:
        raise WeightsError(
            f"{source}: states of {width} numbers in {heads} heads; expected a width that the heads divide. Put the "
            "config file of these weights beside them"
        )
    for name, expected in FIXED.items():
        if told.get(name, expected) != expected:
            raise WeightsError(f"{source}: {name} is {told[name]!r}; BERT's and UNITER's is {expected!r}")
    features, classes = theirs.get(f"uniter.{MARK}"), theirs.get("region_classifier.net.3.weight")
    return UniterConfig(
        width=width,
        depth=max(layers) + 1,
        heads=heads,
        mlp_width=mlp_width,
        dropout=told.get("hidden_dropout_prob", 0.1),
        attention_dropout=told.get("attention_probs_dropout_prob", 0.1),
        vocab_size=vocab_size,
        context=min(UniterConfig.context, positions),
        positions=positions,
        types=types,
        feature_width=UniterConfig.feature_width if features is None else features.shape[1],
        num_classes=UniterConfig.num_classes if classes is None else len(classes) - 1,
    )


def heads_in(theirs: Mapping[str, Tensor], width: int) -> dict[str, HeadSizes]:
    """The heads that a file holds, under our names; some have one name there.

    Args:
        theirs: from `renamed`.
        width: of the model's states.
    """
    sizes: dict[str, HeadSizes] = {}
    for name, output in (
        ("mlm", "cls.predictions.bias"),
        ("mrfr", "feat_regress.bias"),
        ("mrc", "region_classifier.net.3.weight"),
        ("itm", "itm_output.weight"),
        ("rank", "rank_output.weight"),
        ("vqa", "vqa_output.3.weight"),
        ("vcr", "vcr_output.3.weight"),
        ("nlvr2_paired", "nlvr2_output.weight"),
        ("re", "re_output.weight"),
    ):
        if output in theirs:
            sizes[name] = HeadSizes(outputs=len(theirs[output]))
    if "re_output.3.weight" in theirs:
        sizes["re"] = HeadSizes(layers=2)
    if "vqa" in sizes and sizes["vqa"].outputs == len(ENTAILMENT):  # SNLI-VE's, whose head has VQA's name
        sizes["ve"] = sizes.pop("vqa")
    if "nlvr2_paired" in sizes and theirs["nlvr2_output.weight"].shape[1] == width:
        sizes["nlvr2_triplet"] = sizes.pop("nlvr2_paired")
    if "attn1.in_proj_weight" in theirs:
        sizes["nlvr2_paired_attn"] = sizes.pop("nlvr2_paired")
    return sizes


def key_map(names: Iterable[str]) -> KeyMap:
    """KEYS and the head for regions, which is of one layer or of two, by the names of either side."""
    layers = [Rule("heads.re.output.{}", "re_output.{}")]
    if {"re_output.0.weight", "heads.re.transform.dense.weight"} & set(names):
        layers = [*_transform("heads.re", "re_output.0", "re_output.2"), Rule("heads.re.output.{}", "re_output.3.{}")]
    return KeyMap((*KEYS.rules, *layers), KEYS.ignore)
