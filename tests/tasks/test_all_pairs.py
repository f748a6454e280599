"""Retrieval over all pairs: ranks by hand, tiles, and going on from where it was stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.data.regions import Regions
from diptych.data.sample import Sample
from diptych.errors import DataError, InterruptedRunError, RunExistsError
from diptych.metrics.recall import ranks_in_tiles, ranks_of_scores
from diptych.tasks import all_pairs as module
from diptych.tasks.all_pairs import all_pairs
from diptych.tasks.kept_scores import KeptScores


@dataclass
class Rows:
    """A split of pictures whose one region holds a number."""

    texts: list[tuple[str, ...]]
    groups: list[str] | None = None
    numbers: dict[int, float] = field(default_factory=dict)
    missing: frozenset[int] = frozenset()
    name: str = "test"
    columns: tuple[str, ...] = ()

    def __len__(self):
        return len(self.texts)

    def sample(self, row, columns=()):
        fields: dict[str, Any] = {}
        if "regions" in columns:
            if row in self.missing:
                raise DataError(f"no regions of k{row}")
            fields["regions"] = Regions(
                boxes=np.zeros((1, 4), np.float32),
                features=np.full((1, 1), self.numbers.get(row, row), np.float32),
                scores=np.ones(1, np.float32),
                height_px=None,
                width_px=None,
            )
        group = str(row) if self.groups is None else self.groups[row]
        return Sample(key=f"k{row}", group=group, image=None, texts=self.texts[row], fields=fields)


class Odds:
    """A matcher with odds by picture and text, that may be stopped, and counts what it is asked."""

    name = "odds"

    def __init__(self, odds, stop_after=None, of="these weights"):
        self.odds, self.left, self.of, self.asked = odds, stop_after, of, []

    def fingerprint(self):
        return self.of

    def match(self, samples, texts, pairs, progress):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        shown = [int(sample.fields["regions"].features[0, 0]) for sample in samples]
        self.asked += [(shown[picture], texts[text]) for picture, text in pairs]
        with progress.bar("", total=len(pairs)) as bar:
            bar.advance(len(pairs))
        return torch.tensor([self.odds[shown[picture]][texts[text]] for picture, text in pairs])


class Told:
    """A `Progress` that remembers what was said, and how far each bar came."""

    def __init__(self):
        self.said, self.bars = [], []

    def say(self, message):
        self.said.append(message)

    def bar(self, name, total, unit="", done=0):
        self.bars.append([done, total])
        return self

    def advance(self, num=1, note=""):
        self.bars[-1][0] += num

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


BY_HAND = [{"a": 3.0, "b": 1.0, "c": 0.0}, {"a": 3.5, "b": 2.0, "c": 2.0}]


def test_ranks_by_hand():
    found = all_pairs(Odds(BY_HAND), Rows([("a", "b"), ("c",)]))
    assert found.scores.tolist() == [[3, 1, 0], [3.5, 2, 2]]
    assert found.text_to_image_ranks.tolist() == [1, 1, 0]
    assert found.image_to_text_ranks.tolist() == [0, 2]  # of the second, "a" stands higher and "b" ties
    assert found.numbers()["text_to_image_r1"] == pytest.approx(1 / 3)
    assert (found.keys, found.texts, found.text_owner) == (("k0", "k1"), ("a", "b", "c"), (0, 0, 1))


def test_a_text_of_two_rows_is_asked_once_and_ties_unless_they_show_the_same():
    odds = Odds([{"a": 1.0}, {"a": 1.0}])
    apart = all_pairs(odds, Rows([("a",), ("a",)]))
    assert len(odds.asked) == 2 and apart.text_to_image_ranks.tolist() == [1, 1]
    assert apart.image_to_text_ranks.tolist() == [1, 1]
    together = all_pairs(Odds([{"a": 1.0}, {"a": 1.0}]), Rows([("a",), ("a",)], groups=["x", "x"]))
    assert together.text_to_image_ranks.tolist() == [0, 0] == together.image_to_text_ranks.tolist()


def test_a_picture_of_equal_regions_is_asked_once():
    odds = Odds(BY_HAND)
    found = all_pairs(odds, Rows([("a",), ("b",), ("c",)], numbers={1: 1, 2: 1}))
    assert len(odds.asked) == 6 and torch.equal(found.scores[1], found.scores[2])


def test_a_picture_without_regions_costs_itself():
    told = Told()
    found = all_pairs(Odds(BY_HAND), Rows([("a",), ("b",), ("c",)], missing=frozenset({2})), progress=told)
    assert [reject.key for reject in found.rejects] == ["k2"] and found.texts == ("a", "b")
    assert any("left out 1 pictures" in said for said in told.said)
    with pytest.raises(DataError, match="no regions of k0"):
        all_pairs(Odds(BY_HAND), Rows([("a",)], missing=frozenset({0})))


@pytest.fixture
def many(monkeypatch):
    """Five pictures by seven texts in tiles of 2: 12 of them."""
    monkeypatch.setattr(module, "SIDE", 2)
    texts = [("t0", "t1"), ("t2",), ("t3", "t4"), ("t5",), ("t6",)]
    odds = torch.randn(5, 7, generator=torch.Generator().manual_seed(3))
    table = [{f"t{text}": float(odds[picture, text]) for text in range(7)} for picture in range(5)]
    return Rows(texts), table, odds


def test_tiles_change_nothing(many):
    rows, table, odds = many
    found = all_pairs(Odds(table), rows)
    assert torch.equal(found.scores, odds)
    own = torch.tensor(found.text_owner) == torch.arange(5)[:, None]
    best = odds.masked_fill(~own, -9).amax(dim=1, keepdim=True)
    assert torch.equal(found.image_to_text_ranks, (odds > best).sum(dim=1))
    assert torch.equal(found.text_to_image_ranks, (odds > odds[own.mT.nonzero()[:, 1], range(7)]).sum(dim=0))


@pytest.mark.parametrize("stop_after", [0, 1, 5, 11])
def test_stopped_it_goes_on_from_the_tiles_that_are_whole(many, tmp_path, stop_after):
    rows, table, odds = many
    first = Odds(table, stop_after)
    with pytest.raises(InterruptedRunError, match=r"\d+ of 35 pairs are in .*goes on"):
        all_pairs(first, rows, keep=tmp_path)
    second, told = Odds(table), Told()
    found = all_pairs(second, rows, keep=tmp_path, progress=told)
    assert torch.equal(found.scores, odds)
    assert len(first.asked) + len(second.asked) == 35 == len({*first.asked, *second.asked})
    assert told.bars == [[35, 35]] and "5 pictures with 7 texts: 35 different pairs for odds" in told.said
    third = Odds(table)
    assert torch.equal(all_pairs(third, rows, keep=tmp_path).scores, odds) and not third.asked


def test_half_a_tile_is_asked_again(many, tmp_path):
    rows, table, odds = many
    with pytest.raises(InterruptedRunError):
        all_pairs(Odds(table, 3), rows, keep=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    again = Odds(table)
    assert torch.equal(all_pairs(again, rows, keep=tmp_path).scores, odds)
    assert len(again.asked) == 35 - 8


@pytest.mark.parametrize("change", ["weights", "texts", "regions", "fewer"])
def test_scores_of_something_else_are_not_taken(many, tmp_path, change):
    rows, table, _ = many
    all_pairs(Odds(table), rows, keep=tmp_path)
    other, limit = Odds([row | {"new": 0.0} for row in [*table, table[0]]]), None
    if change == "weights":
        other.of = "other weights"
    elif change == "texts":
        rows = Rows([("new",), *rows.texts[1:]])
    elif change == "regions":
        rows = Rows(rows.texts, numbers={4: 5})
    else:
        limit = 3
    all_pairs(other, rows, keep=tmp_path, limit=limit)
    assert other.asked and len(list(tmp_path.iterdir())) == 2


def test_without_a_folder_nothing_is_kept(many):
    rows, table, _ = many
    with pytest.raises(InterruptedRunError, match="nothing is kept; name a file for the page with --html"):
        all_pairs(Odds(table, 2), rows)


def test_what_takes_long_is_foretold(many, monkeypatch):
    rows, table, _ = many
    clock = iter(range(0, 10_000, 200))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    told = Told()
    all_pairs(Odds(table), rows, progress=told)
    (said,) = [one for one in told.said if "to go" in one]
    assert "about 25 min 50 s to go" in said and "--recall-with RUN" in said  # 200 s for 4 pairs, 31 to go


def test_two_processes_do_not_write_one_file(tmp_path):
    with KeptScores(tmp_path / "s", [2, 3]) as kept:
        kept.add(torch.tensor([1.0, 2.0]))
        with pytest.raises(RunExistsError, match="another process"):
            KeptScores(tmp_path / "s", [2, 3])
    with KeptScores(tmp_path / "s", [2, 3]) as kept:
        assert (kept.tiles, kept.pairs) == (1, 2)
        assert [tile.tolist() for tile in kept.scores()] == [[1.0, 2.0]]


@given(st.integers(1, 7), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_ranks_of_scores_are_those_of_their_vectors(queries, gallery, tile, seed):
    generator = torch.Generator().manual_seed(seed)
    left = torch.randint(-2, 3, (queries, 2), generator=generator).float()  # small numbers: many ties
    right = torch.randint(-2, 3, (gallery, 2), generator=generator).float()
    truth = [sorted({query % gallery, (query * seed) % gallery}) for query in range(queries)]
    assert torch.equal(ranks_of_scores(left @ right.mT, truth, tile), ranks_in_tiles(left, right, truth))


def test_a_score_that_is_no_number_is_the_lowest():
    assert ranks_of_scores(torch.tensor([[torch.nan, 1.0, -5.0]]), [[0]]).tolist() == [2]
