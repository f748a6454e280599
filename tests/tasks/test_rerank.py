"""Re-ranking: the candidates of each query in the order of a matcher, the rest as they were."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from diptych.errors import DataError
from diptych.metrics.recall import ranks_in_tiles, truth_by_group
from diptych.tasks.rerank import rerank
from diptych.tasks.retrieval import RetrievalResult


class Rows:
    """A split of which nothing but keys is asked."""

    def sample(self, row, columns):
        from diptych.data.sample import Sample

        assert columns == ("regions",)
        return Sample(key=str(row), group=str(row), image=None, fields={"regions": row})


class Odds:
    """A matcher with a table of odds, that remembers what it was asked."""

    name = "table"

    def __init__(self, odds):
        self.odds, self.asked = odds, []

    def fingerprint(self):
        return "table"

    def match(self, samples, texts, pairs, progress=None):
        self.asked = list(pairs)
        return torch.tensor([self.odds[samples[picture].fields["regions"], text] for picture, text in pairs])


def recalled(num, seed, *, texts_each=1):
    generator = torch.Generator().manual_seed(seed)
    image = F.normalize(torch.randn(num, 6, generator=generator), dim=1)
    text = F.normalize(torch.randn(num * texts_each, 6, generator=generator), dim=1)
    owner = [row // texts_each for row in range(num * texts_each)]
    groups, of_texts = [str(row) for row in range(num)], [str(row) for row in owner]
    return RetrievalResult(
        split="test",
        rows=tuple(range(num)),
        keys=tuple(groups),
        groups=tuple(groups),
        texts=tuple(f"text {row}" for row in range(len(owner))),
        text_owner=tuple(owner),
        image=image,
        text=text,
        text_to_image_ranks=ranks_in_tiles(text, image, truth_by_group(of_texts, groups)),
        image_to_text_ranks=ranks_in_tiles(image, text, truth_by_group(groups, of_texts)),
    )


@given(st.integers(2, 9), st.integers(1, 12), st.integers(0, 50))
def test_a_matcher_that_knows_puts_every_candidate_first(num, top, seed):
    before = recalled(num, seed, texts_each=2)
    odds = torch.full((num, 2 * num), -1.0)
    odds[before.text_owner, range(2 * num)] = 1.0
    after = rerank(before, Odds(odds), Rows(), top=top, cosine_weight=0.0)
    for old, new in (
        (before.text_to_image_ranks, after.text_to_image_ranks),
        (before.image_to_text_ranks, after.image_to_text_ranks),
    ):
        assert torch.equal(new, torch.where(old < top, 0, old))


@given(st.integers(2, 9), st.integers(0, 50), st.sampled_from([0.0, 0.5, 30.0]))
def test_cosines_count_as_much_as_they_are_said_to(num, seed, weight):
    before = recalled(num, seed)
    odds = torch.randn(num, num, generator=torch.Generator().manual_seed(seed))
    after = rerank(before, Odds(odds), Rows(), top=num, cosine_weight=weight)
    together = rerank(before, Odds(odds + weight * before.image @ before.text.T), Rows(), top=num, cosine_weight=0.0)
    assert torch.equal(after.text_to_image_ranks, together.text_to_image_ranks)
    assert torch.equal(after.image_to_text_ranks, together.image_to_text_ranks)


@given(st.integers(2, 9), st.integers(0, 50))
def test_with_all_as_candidates_ranks_are_those_of_the_odds(num, seed):
    before = recalled(num, seed)
    odds = torch.randn(num, num, generator=torch.Generator().manual_seed(seed))
    after = rerank(before, Odds(odds), Rows(), top=num, cosine_weight=0.0)
    own = odds.diagonal()
    assert torch.equal(after.text_to_image_ranks, (odds > own[None]).sum(dim=0))
    assert torch.equal(after.image_to_text_ranks, (odds > own[:, None]).sum(dim=1))


def test_a_matcher_that_says_the_same_of_all_finds_nothing_first():
    before = recalled(6, 1)
    after = rerank(before, Odds(torch.zeros(6, 6)), Rows(), top=6, cosine_weight=0.0)
    assert set(after.text_to_image_ranks.tolist()) == {5}


@pytest.mark.parametrize("what", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_rank_nothing(what):
    odds = torch.zeros(6, 6)
    odds[2] = what
    with pytest.raises(DataError, match="scores of pairs are not finite"):
        rerank(recalled(6, 1), Odds(odds), Rows(), top=6, cosine_weight=0.0)
    towers = recalled(6, 1)
    image = towers.image.clone()
    image[2] = what
    with pytest.raises(DataError, match="the weights of the two towers"):
        rerank(replace(towers, image=image), Odds(torch.zeros(6, 6)), Rows(), top=6, cosine_weight=0.0)


def test_no_pair_is_asked_twice_and_none_beyond_the_candidates():
    matcher = Odds(torch.zeros(8, 8))
    rerank(recalled(8, 2), matcher, Rows(), top=2, cosine_weight=0.0)
    assert len(matcher.asked) == len(set(matcher.asked)) <= 2 * 8 * 2


@pytest.mark.parametrize("top", [1, 3])
def test_below_the_candidates_ranks_stay(top):
    before = recalled(7, 3)
    after = rerank(before, Odds(torch.randn(7, 7)), Rows(), top=top, cosine_weight=0.0)
    below = before.text_to_image_ranks >= top
    assert torch.equal(after.text_to_image_ranks[below], before.text_to_image_ranks[below])
    assert (after.text_to_image_ranks[~below] < top).all()
