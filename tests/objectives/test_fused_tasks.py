"""The tasks of a model of one stream: what is drawn, what is counted, and losses by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.data.batch import IGNORE, Batch, RegionPart, TextPart, pad, stack_targets
from diptych.data.sample import Item, ItemRegions, WordIds, random_for
from diptych.errors import DataError, UsageError
from diptych.objectives.masked_regions import MaskedRegionClasses, MaskedRegionFeatures
from diptych.objectives.masked_words import MaskedWords
from diptych.objectives.matching import Matching
from diptych.objectives.objective import Fused
from diptych.objectives.pretraining import Pretraining, Shares
from diptych.objectives.transport import transport_distance

START, END, MASK = 1, 2, 3
WORDS = WordIds(mask=MASK, special=frozenset({0, START, END}), words=(4, 30))
WIDTH, FEATURES, CLASSES = 6, 5, 3


@dataclass(frozen=True)
class Config:
    width: int = WIDTH
    vocab_size: int = 30
    feature_width: int = FEATURES
    num_classes: int = CLASSES


def item(key: str = "a", *, words: int = 4, regions: int = 3, group: int = 0, soft: bool = True) -> Item:
    generator = torch.Generator().manual_seed(words * 17 + regions)
    ids = torch.randint(4, 30, (words,), generator=generator)
    labels = torch.rand(regions, 1 + CLASSES, generator=generator)
    return Item(
        key=key,
        group=group,
        text_ids=torch.cat([torch.tensor([START]), ids, torch.tensor([END])]),
        word_ids=WORDS,
        regions=ItemRegions(
            features=torch.randn(regions, FEATURES, generator=generator),
            boxes=torch.rand(regions, 4, generator=generator),
            box_features=torch.rand(regions, 7, generator=generator),
            soft_labels=labels / labels.sum(dim=1, keepdim=True) if soft else None,
        ),
    )


def batch_of(items: list[Item]) -> Batch:
    ids, mask = pad([one.text_ids for one in items], 0)
    parts = [one.regions for one in items]
    hidden = None
    if parts[0].hidden is not None:
        hidden = pad([one.hidden for one in parts], 0)[0]
    features, region_mask = pad([one.features for one in parts], 0)
    return Batch(
        keys=tuple(one.key for one in items),
        group=torch.tensor([one.group for one in items]),
        text=TextPart(ids=ids, mask=mask),
        regions=RegionPart(
            features=features,
            boxes=pad([one.boxes for one in parts], 0)[0],
            box_features=pad([one.box_features for one in parts], 0)[0],
            mask=region_mask,
            hidden=hidden,
        ),
    )


@dataclass
class Encoded:
    """An `encode` whose states are drawn once, and do not see the batch's content."""

    heads: nn.ModuleDict
    fused: list[Fused] = field(default_factory=list)

    def __call__(self, batch: Batch) -> Fused:
        assert batch.text is not None and batch.regions is not None
        generator = torch.Generator().manual_seed(9)
        mask = torch.cat([batch.text.mask, batch.regions.mask], dim=1)
        self.fused.append(
            Fused(
                hidden=torch.randn(*mask.shape, WIDTH, generator=generator) * mask[..., None],
                mask=mask,
                lengths={"text": batch.text.mask.shape[1], "regions": batch.regions.mask.shape[1]},
                pooled=torch.randn(len(batch), WIDTH, generator=generator),
                word_table=torch.randn(30, WIDTH, generator=generator),
                feature_table=torch.randn(WIDTH, FEATURES, generator=generator),
            )
        )
        return self.fused[-1]


def encoded(objective) -> Encoded:
    torch.manual_seed(4)
    return Encoded(nn.ModuleDict(objective.heads(Config())))


def drawn(objective, items: list[Item], seed: int = 0):
    pairs = [objective.draw(one, (), random_for(seed, 0, one.key)) for one in items]
    return batch_of([one for one, _ in pairs]), stack_targets([targets for _, targets in pairs])


ITEMS = [item("a", words=4, regions=3), item("b", words=7, regions=6), item("c", words=1, regions=1)]


@given(st.integers(0, 200))
def test_words_are_masked_between_start_and_end_and_their_labels_are_what_stood_there(seed):
    for one in ITEMS:
        masked, targets = MaskedWords().draw(one, (), random_for(seed, 0, one.key))
        labels = targets["mlm"]
        there = labels != IGNORE
        assert there.any() and not there[0] and not there[-1]
        assert torch.equal(labels[there], one.text_ids[there])
        assert torch.equal(masked.text_ids[~there], one.text_ids[~there])
        assert masked.regions is one.regions
        joint, _ = MaskedWords(joint=True).draw(one, (), random_for(seed, 0, one.key))
        assert torch.equal(joint.text_ids, masked.text_ids) and joint.regions.hidden.any()


def test_words_by_hand():
    objective = MaskedWords()
    batch, targets = drawn(objective, ITEMS)
    encode = encoded(objective)
    loss = objective.loss(encode, batch, targets).terms["mlm"]
    rows, columns = (targets["mlm"] != IGNORE).nonzero(as_tuple=True)
    (fused,) = encode.fused
    expected = sum(
        F.cross_entropy(
            encode.heads["mlm"](fused.hidden[row, column][None], fused.word_table), targets["mlm"][row, column][None]
        )
        for row, column in zip(rows, columns, strict=True)
    )
    assert_close(loss.total, expected)
    assert loss.count == len(rows) == objective.counts(batch, targets)["mlm"]


def test_features_by_hand():
    objective = MaskedRegionFeatures()
    batch, targets = drawn(objective, ITEMS)
    assert torch.equal(batch.regions.features[0, :3], ITEMS[0].regions.features)  # asked for, and so still there
    encode = encoded(objective)
    loss = objective.loss(encode, batch, targets).terms["mrfr"]
    (fused,) = encode.fused
    hidden = batch.regions.hidden
    found = encode.heads["mrfr"](fused.regions[hidden], fused.feature_table)
    assert_close(loss.total, (found - batch.regions.features[hidden]).square().sum())
    assert loss.count == int(hidden.sum()) * FEATURES == objective.counts(batch, targets)["mrfr"]


def classes(objective: MaskedRegionClasses) -> tuple[Tensor, Tensor, int, float]:
    """Logits and right probabilities of the hidden regions, the count and the sum that were found."""
    batch, targets = drawn(objective, ITEMS)
    encode = encoded(objective)
    term = objective.loss(encode, batch, targets).terms["mrc"]
    hidden = batch.regions.hidden
    right = torch.cat([one.regions.soft_labels[hidden[row, : len(one.regions)]] for row, one in enumerate(ITEMS)])
    assert term.count == objective.counts(batch, targets)["mrc"]
    return encode.heads["mrc"](encode.fused[0].regions[hidden]), right, term.count, term.total


def test_the_divergence_from_all_classes_by_hand():
    logits, right, count, total = classes(MaskedRegionClasses())
    assert_close(total, (right * (right.log() - logits.log_softmax(1))).sum())
    assert count == len(right)
    assert classes(MaskedRegionClasses(mean_over_classes=True))[2] == right.numel()


def test_the_likeliest_class_is_never_background():
    logits, right, count, total = classes(MaskedRegionClasses(divergence=False))
    assert_close(total, F.cross_entropy(logits, 1 + right[:, 1:].argmax(1), reduction="sum"))
    assert count == len(right)


def test_a_class_that_is_ruled_out_counts_as_nothing():
    objective = MaskedRegionClasses(probability=1.0)
    one = item("a", regions=1)
    sure = replace(one, regions=replace(one.regions, soft_labels=torch.tensor([[0.0, 1.0, 0.0, 0.0]])))
    batch, targets = drawn(objective, [sure])
    encode = encoded(objective)
    total = objective.loss(encode, batch, targets).terms["mrc"].total
    logits = encode.heads["mrc"](encode.fused[0].regions[0])
    assert_close(total, -logits.log_softmax(1)[0, 1])


def test_classes_want_soft_labels():
    with pytest.raises(DataError, match="--soft-labels"):
        MaskedRegionClasses().draw(item(soft=False), None, random_for(0, 0, "a"))


@pytest.mark.parametrize("objective", [MaskedWords(), MaskedRegionFeatures()], ids=lambda one: one.name)
def test_a_row_without_what_is_masked_is_told(objective):
    without = replace(item(), text_ids=None, regions=None)
    with pytest.raises(DataError, match="and this row has none"):
        objective.draw(without, (), random_for(0, 0, "a"))


def test_half_of_the_rows_get_any_other_picture():
    matching, num = Matching(), 50
    partners = [matching.partners(1, 0, row, num) for row in range(num) for _ in (0,)]
    many = [(row, matching.partners(seed, 0, row, num)) for row in range(num) for seed in range(60)]
    others = [(row, other) for row, found in many for other in found]
    assert len(others) / len(many) == pytest.approx(0.5, abs=0.031)  # 3.4 standard errors
    assert all(0 <= other < num for _, other in others)
    assert len(Counter(other for _, other in others)) == num
    assert partners != [matching.partners(1, 1, row, num) for row in range(num)]
    assert matching.partners(1, 0, 0, 0) == ()


def test_a_partner_gives_its_regions_and_one_of_the_same_group_is_a_match():
    matching, one, other = Matching(), item("a", group=1), item("b", regions=5, group=2)
    kept, targets = matching.draw(one, (), random_for(0, 0, "a"))
    assert kept is one and targets["itm"] == 1
    swapped, targets = matching.draw(one, (other,), random_for(0, 0, "a"))
    assert swapped.regions is other.regions and swapped.text_ids is one.text_ids and targets["itm"] == 0
    same, targets = matching.draw(one, (replace(other, group=1),), random_for(0, 0, "a"))
    assert same is one and targets["itm"] == 1


@pytest.mark.parametrize("push_apart", [False, True])
def test_matching_and_alignment_by_hand(push_apart):
    objective = Matching(alignment=0.1, push_apart=push_apart)
    batch, targets = batch_of(ITEMS), {"itm": torch.tensor([1, 0, 1])}
    encode = encoded(objective)
    loss = objective.loss(encode, batch, targets)
    (fused,) = encode.fused
    assert_close(
        loss.terms["itm"].total,
        F.cross_entropy(encode.heads["itm"](fused.pooled), targets["itm"], reduction="sum"),
    )
    far = transport_distance(fused.text, fused.regions, fused.text_mask, fused.region_mask)
    expected = far[0] - far[1] + far[2] if push_apart else far[0] + far[2]
    assert_close(loss.terms["wra"].total, expected)
    assert loss.terms["wra"].weight == 0.1
    assert {name: term.count for name, term in loss.terms.items()} == objective.counts(batch, targets)
    assert objective.counts(batch, targets) == {"itm": 3, "wra": 3 if push_apart else 2}


def test_pretraining_has_the_tasks_that_have_a_share():
    assert list(Pretraining().heads(Config())) == ["mlm", "mrfr", "mrc", "itm"]
    words_and_matching = Pretraining(share=Shares(mrfr=0, mrc=0))
    assert [task.name for task, _ in words_and_matching.shares] == ["mlm", "itm"]
    with pytest.raises(Exception, match="share"):
        Shares(mlm=0, mrfr=0, mrc=0, itm=0)


def test_words_come_first_where_they_are_trained():
    mixed = Pretraining(words_first=3)
    assert [mixed.at(7, step).name for step in range(3)] == ["mlm"] * 3
    assert {mixed.at(7, step).name for step in range(3, 40)} == {"mlm", "mrfr", "mrc", "itm"}
    with pytest.raises(UsageError, match=r"words_first is 3, and objective\.share\.mlm 0; expected"):
        Pretraining(words_first=3, share=Shares(mlm=0))
