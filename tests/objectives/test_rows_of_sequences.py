"""Tasks whose rows are several sequences, or ask for one region: what is drawn, and losses by hand."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from diptych.data.batch import Batch, RegionPart, TextPart, stack_targets
from diptych.data.examples import TRUTHS
from diptych.data.sample import Item, ItemRegions, random_for
from diptych.errors import DataError, UsageError
from diptych.objectives.answering import Questions
from diptych.objectives.choosing import Choosing
from diptych.objectives.matching import Matching
from diptych.objectives.objective import Fused
from diptych.objectives.ranking import HardRanking, Ranking
from diptych.objectives.referring import HARDEST, Referring
from diptych.objectives.two_pictures import TwoPictures


class Model:
    """An `encode` that pools a row to the first word's id and the first feature, as told in its text and regions.

    It counts how many sequences it was shown, and whether it was at rest.
    """

    def __init__(self, **heads: nn.Module) -> None:
        self.heads = nn.ModuleDict(heads)
        self.shown: list[tuple[int, bool]] = []
        self.resting = False

    def at_rest(self) -> AbstractContextManager[None]:
        return Resting(self)

    def __call__(self, batch: Batch) -> Fused:
        assert batch.text is not None and batch.regions is not None
        self.shown.append((len(batch.text.ids), self.resting))
        regions = batch.regions.features
        mask = torch.cat([batch.text.mask, batch.regions.mask], dim=1)
        return Fused(
            hidden=torch.cat([torch.zeros(*batch.text.ids.shape, regions.shape[2]), regions], dim=1),
            mask=mask,
            lengths={"text": batch.text.ids.shape[1], "regions": regions.shape[1]},
            pooled=torch.stack([batch.text.ids[:, 0].float(), regions[:, 0, 0]], dim=1),
            word_table=torch.zeros(1, 1),
            feature_table=torch.zeros(1, 1),
        )


@dataclass
class Resting(AbstractContextManager[None]):
    model: Model

    def __enter__(self) -> None:
        self.model.resting = True

    def __exit__(self, *_: object) -> None:
        self.model.resting = False


class Closeness(nn.Module):
    """The nearer the word's number is to the region's, the more they belong together."""

    def forward(self, pooled: Tensor) -> Tensor:
        return -(pooled[:, :1] - pooled[:, 1:]).abs()


def item(number: int, *, group: int | None = None, region: float | None = None) -> Item:
    """Its word is its number, and so is its region's feature."""
    return Item(
        key=f"row{number}",
        group=number if group is None else group,
        text_ids=torch.tensor([number]),
        regions=regions([float(number) if region is None else region]),
    )


def regions(features: list[float], boxes: list[list[float]] | None = None) -> ItemRegions:
    found = torch.tensor(boxes or [[0.0, 0.0, 1.0, 1.0]] * len(features))
    return ItemRegions(features=torch.tensor(features)[:, None], boxes=found, box_features=found)


def collate(items: list[Item]) -> Batch:
    read = [one for row in items for one in (row.sequences or (row,))]
    features = torch.stack([one.regions.features for one in read])  # type: ignore[union-attr]
    boxes = torch.stack([one.regions.boxes for one in read])  # type: ignore[union-attr]
    ids = torch.stack([one.text_ids for one in read])  # type: ignore[type-var]
    return Batch(
        keys=tuple(one.key for one in items),
        group=torch.tensor([one.group for one in items]),
        sequences=len(read) // len(items),
        text=TextPart(ids=ids, mask=torch.ones_like(ids, dtype=torch.bool)),
        regions=RegionPart(features=features, boxes=boxes, box_features=boxes, mask=torch.ones(features.shape[:2]) > 0),
    )


# -- ranking


def ranked(objective: Ranking | HardRanking, numbers: list[int]) -> tuple[Batch, dict[str, Tensor]]:
    items = [item(number) for number in numbers]
    rows = []
    for row, one in enumerate(items):
        others = items[row + 1 :] + items[:row]
        partners = [others[place] for place in objective.partners(3, 0, row, len(others))]
        rows.append(objective.draw(one, partners, random_for(0, 0, "")))
    return collate([one for one, _ in rows]), dict(stack_targets([targets for _, targets in rows]))


@given(st.integers(0, 39), st.integers(1, 50), st.integers(0, 9))
def test_partners_are_other_rows_and_none_twice(num: int, wanted: int, seed: int) -> None:
    objective = Ranking(negatives=wanted)
    for row in range(num + 1):
        found = objective.partners(seed, 1, row, num)
        assert len(set(found)) == len(found) == min(wanted, num)
        assert all(0 <= other < num for other in found) and found == objective.partners(seed, 1, row, num)


def test_a_pair_is_ranked_by_hand() -> None:
    objective = Ranking(margin=0.2)
    row, targets = objective.draw(item(5), [item(6)], random_for(0, 0, ""))
    assert [(one.text_ids.item(), one.regions.features.item()) for one in row.sequences] == [(5, 5), (5, 6), (6, 5)]
    loss = objective.loss(Model(rank=Closeness()), collate([row]), stack_targets([targets]))
    # Scores 0 and -1 twice: σ(-1) = 0.2689, which is within 0.2 of σ(0) = 0.5 by less than nothing.
    assert loss.terms["ranking"].total.item() == 0 and loss.terms["ranking"].count == 2
    wider = replace(objective, margin=0.3).loss(Model(rank=Closeness()), collate([row]), stack_targets([targets]))
    assert wider.terms["ranking"].total.item() == pytest.approx(2 * (0.3 - 0.5 + 0.268941), abs=1e-5)


def test_a_partner_that_shows_the_same_is_no_false_pair() -> None:
    objective = Ranking(margin=1.0, negatives=2)
    row, targets = objective.draw(item(5), [item(6, group=5), item(7)], random_for(0, 0, ""))
    assert targets["wrong"].tolist() == [False, True, False, True]
    batch, drawn = collate([row]), stack_targets([targets])
    assert objective.counts(batch, drawn) == {"ranking": 2}
    loss = objective.loss(Model(rank=Closeness()), batch, drawn)
    assert loss.terms["ranking"].total.item() == pytest.approx(2 * (1 - 0.5 + 0.119203), abs=1e-5)


@given(st.lists(st.integers(0, 60), min_size=3, max_size=7, unique=True), st.integers(1, 3))
def test_the_hardest_are_those_that_score_highest(numbers: list[int], kept: int) -> None:
    objective, model = HardRanking(candidates=len(numbers) - 1, kept=kept, margin=0.4), Model(rank=Closeness())
    batch, targets = ranked(objective, numbers)
    loss = objective.loss(model, batch, targets).terms["hard_ranking"]
    nearest = [sorted(abs(one - other) for other in numbers if other != one)[:kept] for one in numbers]
    by_hand = [max(0.0, 0.4 + 1 / (1 + 2.718281828**far) - 0.5) for distances in nearest for far in distances]
    assert loss.total.item() == pytest.approx(2 * sum(by_hand), abs=1e-4)
    assert loss.count == 2 * len(by_hand) and loss.weight == 2
    assert objective.counts(batch, targets) == {"hard_ranking": loss.count}
    num = len(numbers)
    learned = 1 + 2 * min(kept, num - 1)
    assert model.shown == [(num * (2 * num - 1), True), (num * learned, False)]


def swapping(number: int, *wrong: int) -> Item:
    return replace(item(number), wrong_texts=tuple(torch.tensor([one]) for one in wrong))


def test_swapped_texts_are_false_pairs_and_what_is_missing_is_none() -> None:
    drawn = [
        Ranking(swapped=2).draw(swapping(5, *wrong), [item(6)], random_for(0, 0, "")) for wrong in ((), (7,), (7, 8, 9))
    ]
    texts = [[one.text_ids.item() for one in row.sequences] for row, _ in drawn]
    assert texts[0] == [5, 5, 6, 5, 5] and texts[1] == [5, 5, 6, 7, 5] and texts[2][:3] == [5, 5, 6]
    assert len(set(texts[2][3:])) == 2 and set(texts[2][3:]) < {7, 8, 9}
    assert all(one.regions.features.item() == 5 for row, _ in drawn for one in row.sequences[2:])
    assert [targets["wrong"].tolist() for _, targets in drawn] == [
        [True, True, False, False],
        [True, True, True, False],
        [True, True, True, True],
    ]
    assert Ranking(swapped=2).columns == ("swapped_texts",) and Ranking().columns == ()


def test_swapped_texts_stand_among_the_texts_of_which_the_hardest_are_kept() -> None:
    objective, model = HardRanking(candidates=1, kept=1, margin=0.4, swapped=2), Model(rank=Closeness())
    rows = [
        objective.draw(swapping(number, *wrong), [item(number + 3)], random_for(0, 0, ""))
        for number, wrong in ((10, (12, 11)), (20, (24,)))
    ]
    batch, targets = collate([row for row, _ in rows]), dict(stack_targets([targets for _, targets in rows]))
    loss = objective.loss(model, batch, targets).terms["hard_ranking"]
    # Of pictures each has one, 3 away; of texts the first keeps the one 1 away of {3, 2, 1}, the second of {3, 4} 3.
    by_hand = [max(0.0, 0.4 + 1 / (1 + 2.718281828**far) - 0.5) for far in (3, 1, 3, 3)]
    assert loss.total.item() == pytest.approx(sum(by_hand), abs=1e-5)
    assert loss.count == 4 and objective.counts(batch, targets) == {"hard_ranking": 4}
    assert model.shown == [(2 * 5, True), (2 * 3, False)]


def test_the_parts_of_a_batch_of_sequences_are_whole_rows() -> None:
    batch, targets = ranked(Ranking(negatives=2, margin=0.9), [1, 4, 6, 9])
    objective, model = Ranking(negatives=2, margin=0.9), Model(rank=Closeness())
    whole = objective.loss(model, batch, targets).terms["ranking"].total
    cut = [(batch.rows(a, b), {"wrong": targets["wrong"][a:b]}) for a, b in ((0, 1), (1, 4))]
    assert [len(part) for part, _ in cut] == [1, 3]
    assert_close(sum(objective.loss(model, *part).terms["ranking"].total for part in cut), whole)


# -- options, two pictures, one region


def test_options_are_judged_one_by_one() -> None:
    rows = [replace(item(number), right=right, sequences=(item(7), item(8))) for number, right in ((1, 0), (2, 1))]
    drawn = [Choosing().draw(row, (), random_for(0, 0, "")) for row in rows]
    assert [targets["vcr"].tolist() for _, targets in drawn] == [[1, 0], [0, 1]]
    batch, targets = collate([row for row, _ in drawn]), stack_targets([one for _, one in drawn])
    loss = Choosing().loss(Model(vcr=nn.Identity()), batch, targets).terms["vcr"]
    # The logits of every option are equal, whether it is right or not.
    assert loss.count == 4 and loss.total.item() == pytest.approx(4 * 0.693147, abs=1e-5)
    with pytest.raises(DataError, match="row1 does not say which option is right"):
        Choosing().draw(replace(rows[0], right=None), (), random_for(0, 0, ""))


@dataclass(frozen=True)
class Config:
    answers: tuple[str, ...] = TRUTHS
    width: int = 8
    heads: int = 2
    dropout: float = 0.0
    attention_dropout: float = 0.0


def test_two_pictures_are_one_sequence_or_two() -> None:
    left, right = item(3, region=1.0), item(3, region=2.0)
    row = replace(item(3), sequences=(left, right), answers=torch.tensor([0.0, 1.0]))
    for form in ("paired", "paired_attn"):
        drawn, targets = TwoPictures(form=form).draw(row, (), random_for(0, 0, ""))
        assert drawn is row and targets["nlvr2"].item() == 1
    drawn, _ = TwoPictures(form="triplet").draw(row, (), random_for(0, 0, ""))
    assert not drawn.sequences and drawn.regions.features.flatten().tolist() == [1, 2]  # type: ignore[union-attr]
    with pytest.raises(DataError, match="row3 is about one picture; expected two"):
        TwoPictures().draw(replace(row, sequences=()), (), random_for(0, 0, ""))
    with pytest.raises(DataError, match="row3 does not say whether it is False or True"):
        TwoPictures().draw(replace(row, answers=torch.zeros(2)), (), random_for(0, 0, ""))
    with pytest.raises(UsageError, match="judged False or True; found model"):
        TwoPictures().heads(Config(answers=("yes", "no")))


BOXES = [[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.4, 0.5]]


def phrase(box: list[float]) -> Item:
    return replace(item(1), regions=regions([2.0, 0.0, 1.0], BOXES), box=torch.tensor(box))


def test_the_region_that_is_meant_overlaps_most() -> None:
    drawn = [Referring().draw(phrase(box), (), random_for(0, 0, ""))[1]["re"].item() for box in BOXES]
    assert drawn == [0, 1, 2]
    with pytest.raises(DataError, match=r"no region overlaps what is meant by more than 0.5, the best by 0.1"):
        Referring().draw(phrase([0.4, 0.4, 0.8, 0.7]), (), random_for(0, 0, ""))
    with pytest.raises(DataError, match="row1 does not say which box is meant"):
        Referring().draw(replace(phrase(BOXES[0]), box=None), (), random_for(0, 0, ""))


class Features(nn.Module):
    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return states.squeeze(-1).masked_fill(~mask, -1e4)


def test_one_region_above_another_by_hand() -> None:
    model, ranked = Model(re=Features()), Referring(margin=0.2)
    batch = collate([phrase(BOXES[2])])
    softmax = Referring(weight=3).loss(model, batch, {"re": torch.tensor([2])}).terms["re"]
    assert softmax.total.item() == pytest.approx(1.407606, abs=1e-5) and softmax.weight == 3
    hardest = ranked.loss(model, batch, {"re": torch.tensor([2]), "other": torch.tensor([HARDEST])}).terms["re"]
    assert hardest.total.item() == pytest.approx(0.2 + 0.880797 - 0.731059, abs=1e-5)
    told = ranked.loss(model, batch, {"re": torch.tensor([2]), "other": torch.tensor([1])}).terms["re"]
    assert told.total.item() == 0
    drawn = [ranked.draw(phrase(BOXES[1]), (), random_for(seed, 0, ""))[1]["other"].item() for seed in range(60)]
    assert set(drawn) == {HARDEST, 0, 2}


def test_a_row_of_several_sequences_is_no_row_of_one_text_and_picture() -> None:
    row = replace(item(1), sequences=(item(1), item(2)), answers=torch.ones(2), box=torch.tensor(BOXES[0]))
    for objective in (Questions(), Referring(), Ranking(), Matching()):
        with pytest.raises(DataError, match="row1 has 2 pictures or options; this task reads one"):
            objective.draw(row, (), random_for(0, 0, ""))
