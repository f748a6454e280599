"""Ranks: a matrix one can read, then what never may change them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from diptych.errors import ShapeError
from diptych.metrics.recall import (
    median_rank,
    ranks_in_tiles,
    recall_at_k,
    recall_curve,
    top_in_tiles,
    truth_by_group,
)


def ranks_by_sorting(scores, truth):
    """The definition, in Python: wrong answers that score as high as the best right one, or higher."""
    ranks = []
    for row, answers in zip(scores.tolist(), truth, strict=True):
        best = max(row[answer] for answer in answers)
        ranks.append(sum(score >= best for answer, score in enumerate(row) if answer not in answers))
    return torch.tensor(ranks)


def test_ranks_by_hand():
    scores = torch.tensor([[0.9, 0.1, 0.5, 0.3], [0.2, 0.4, 0.8, 0.1], [0.3, 0.9, 0.1, 0.6]])
    assert ranks_in_tiles(scores, torch.eye(4), [[0], [1], [2]]).tolist() == [0, 1, 3]


def test_of_several_right_answers_the_best_one_counts():
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7]])
    assert ranks_in_tiles(scores, torch.eye(4), [[0, 2]]).tolist() == [2]
    assert ranks_in_tiles(scores, torch.eye(4), [[1, 3]]).tolist() == [0]


def test_a_collapsed_model_finds_nothing():
    queries, gallery = torch.ones(5, 8), torch.ones(7, 8)
    assert ranks_in_tiles(queries, gallery, [[row] for row in range(5)], tile=3).tolist() == [6] * 5


def test_nan_counts_as_the_lowest():
    queries, gallery = torch.ones(2, 1), torch.tensor([[0.5], [torch.nan], [-3.0]])
    assert ranks_in_tiles(queries, gallery, [[1], [2]]).tolist() == [2, 1]
    assert ranks_in_tiles(torch.full((1, 1), torch.nan), gallery, [[0]]).tolist() == [2]


def test_a_picture_twice_in_the_gallery_ties_with_itself():
    rng = torch.Generator().manual_seed(0)
    picture = torch.nn.functional.normalize(torch.randn(1, 512, generator=rng), dim=1)
    gallery = picture.expand(2049, -1)
    assert ranks_in_tiles(picture, gallery, [[2048]], tile=100).tolist() == [2048]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 11), st.integers(1, 12), st.integers(0, 99), st.booleans())
def test_tiles_change_nothing(num_queries, num_gallery, tile, seed, coarse):
    rng = torch.Generator().manual_seed(seed)
    queries, gallery = torch.randn(num_queries, 3, generator=rng), torch.randn(num_gallery, 3, generator=rng)
    if coarse:  # many ties
        queries, gallery = queries.round(), gallery.round()
    truth = [
        torch.randperm(num_gallery, generator=rng)[: 1 + query % num_gallery].tolist() for query in range(num_queries)
    ]
    expected = ranks_by_sorting((queries.double() @ gallery.double().mT).float(), truth)
    assert_close(ranks_in_tiles(queries, gallery, truth, tile=tile), expected)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 99), st.integers(1, 12))
def test_the_order_of_the_gallery_changes_nothing(seed, num_gallery):
    rng = torch.Generator().manual_seed(seed)
    queries, gallery = torch.randn(4, 3, generator=rng).round(), torch.randn(num_gallery, 3, generator=rng).round()
    truth = [[query % num_gallery] for query in range(4)]
    order = torch.randperm(num_gallery, generator=rng)
    moved = [[int((order == row).nonzero()) for row in answers] for answers in truth]
    assert_close(ranks_in_tiles(queries, gallery[order], moved), ranks_in_tiles(queries, gallery, truth))


def test_top_in_tiles_is_the_sorted_row():
    rng = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(5, 3, generator=rng), torch.randn(13, 3, generator=rng)
    scores, rows = top_in_tiles(queries, gallery, k=4, tile=6)
    expected = (queries @ gallery.mT).sort(dim=1, descending=True)
    assert_close(rows, expected.indices[:, :4])
    assert_close(scores, expected.values[:, :4])


def test_top_in_tiles_of_equal_scores_takes_the_earlier_rows():
    scores, rows = top_in_tiles(torch.ones(1, 2), torch.ones(5, 2), k=9, tile=2)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]
    assert scores.tolist() == [[2.0] * 5]


def test_recall_and_median_by_hand():
    ranks = torch.tensor([0, 0, 3, 9, 40])
    assert [recall_at_k(ranks, k) for k in (1, 5, 10)] == [0.4, 0.6, 0.8]
    assert median_rank(ranks) == 4
    assert median_rank(ranks[:4]) == 2.5


def test_the_curve_is_recall_at_every_k():
    ranks = torch.tensor([0, 2, 2, 7, 150])
    curve = recall_curve(ranks)
    assert_close(curve, torch.tensor([recall_at_k(ranks, k) for k in range(1, 101)], dtype=torch.float64))


def test_nothing_to_rank_is_a_recall_of_zero():
    empty = torch.empty(0, dtype=torch.int64)
    assert (recall_at_k(empty, 1), median_rank(empty), float(recall_curve(empty).max())) == (0.0, 0.0, 0.0)
    assert top_in_tiles(torch.empty(0, 2), torch.ones(3, 2), k=2)[1].shape == (0, 2)


def test_truth_by_group_goes_both_ways():
    pictures, texts = ["a", "b"], ["a", "a", "b"]
    assert truth_by_group(pictures, texts) == [[0, 1], [2]]
    assert truth_by_group(texts, pictures) == [[0], [0], [1]]


def test_wrong_shapes_are_told_in_words():
    with pytest.raises(ShapeError, match="expected equal width"):
        ranks_in_tiles(torch.ones(2, 3), torch.ones(4, 5), [[0], [1]])
    with pytest.raises(ShapeError, match="there are 2"):
        ranks_in_tiles(torch.ones(2, 3), torch.ones(4, 3), [[0]])
    with pytest.raises(ShapeError, match="query 1 are \\[\\]"):
        ranks_in_tiles(torch.ones(2, 3), torch.ones(4, 3), [[0], []])
