"""Ranks of right answers among many, and what is said of them: recall at k, median rank, the recall curve."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diptych.errors import ShapeError


def ranks_in_tiles(queries: Tensor, gallery: Tensor, truth: Sequence[Sequence[int]], tile: int = 1024) -> Tensor:
    """The rank of the best right answer of each query, from 0, without ever holding all scores.

    The rank is the number of wrong answers that score as high or higher: a tie counts against the model, so that one
    that gives everything the same vector finds nothing. A score of NaN counts as the lowest.
    Scores are those of `dot_products`, so that the tile changes nothing.

    Args:
        queries: (Q, E) vectors whose dot products with the gallery are the scores; normalise them for cosines.
        gallery: (G, E).
        truth: for each query the rows of the gallery that are right, at least one.
        tile: rows of queries and gallery that meet at once; changes nothing but memory, 20 bytes x tile².
    Returns:
        (Q,) int64 in [0, G).
    Raises:
        ShapeError: the vectors disagree in E, truth in Q, or a query has no right answer in the gallery.
    """
    _check(queries, gallery, truth)
    queries, gallery = _where_float64_is(queries), _where_float64_is(gallery)
    ranks = torch.zeros(len(queries), dtype=torch.int64)
    for start in range(0, len(queries), tile):
        mine = queries[start : start + tile]  # (q, E)
        query, answer = _pairs(truth[start : start + tile])
        best = _best_right(mine, gallery, query, answer, tile)  # (q,)
        for left in range(0, len(gallery), tile):
            scores = dot_products(mine, gallery[left : left + tile])  # (q, g)
            inside = (answer >= left) & (answer < left + tile)
            beats = scores >= best[:, None]
            beats[query[inside].to(beats.device), (answer[inside] - left).to(beats.device)] = False
            ranks[start : start + tile] += beats.sum(dim=1).cpu()
    return ranks


def ranks_of_scores(scores: Tensor, truth: Sequence[Sequence[int]], tile: int = 1024) -> Tensor:
    """The same ranks of scores that are at hand; see `ranks_in_tiles`.

    Args:
        scores: (Q, G), in memory or mapped.
        truth: for each query the rows of the gallery that are right, at least one.
        tile: queries that are compared at once.
    Returns:
        (Q,) int64 in [0, G).
    """
    ranks = [torch.empty(0, dtype=torch.int64)]
    for start in range(0, len(scores), tile):
        query, answer = _pairs(truth[start : start + tile])
        mine = _as_compared(scores[start : start + tile])
        best = torch.full((len(mine),), -torch.inf).scatter_reduce(0, query, mine[query, answer], "amax")
        beats = mine >= best[:, None]
        beats[query, answer] = False
        ranks.append(beats.sum(dim=1))
    return torch.cat(ranks)


def top_in_tiles(queries: Tensor, gallery: Tensor, k: int, tile: int = 1024) -> tuple[Tensor, Tensor]:
    """The k best of the gallery for each query, best first; of equal ones the earlier row.

    Args:
        queries: (Q, E).
        gallery: (G, E).
        k: at most G come back.
        tile: rows that meet at once.
    Returns:
        (Q, k) float32 scores and (Q, k) int64 rows of the gallery.
    """
    queries, gallery = _where_float64_is(queries), _where_float64_is(gallery)
    k = min(k, len(gallery))
    kept: list[tuple[Tensor, Tensor]] = []
    for start in range(0, len(queries), tile):
        mine = queries[start : start + tile]
        scores, rows = torch.empty(len(mine), 0), torch.empty(len(mine), 0, dtype=torch.int64)
        for left in range(0, len(gallery), tile):
            more = dot_products(mine, gallery[left : left + tile]).cpu()  # (q, g)
            scores = torch.cat([scores, more], dim=1)
            rows = torch.cat([rows, torch.arange(left, left + more.shape[1]).expand(len(mine), -1)], dim=1)
            order = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
            scores, rows = scores.gather(1, order), rows.gather(1, order)
        kept.append((scores, rows))
    if not kept:
        return torch.empty(0, k), torch.empty(0, k, dtype=torch.int64)
    return torch.cat([scores for scores, _ in kept]), torch.cat([rows for _, rows in kept])


def dot_products(left: Tensor, right: Tensor) -> Tensor:
    """Scores that can be compared: equal vectors have equal ones, whatever the shapes they were multiplied in.

    Args:
        left: (A, E).
        right: (B, E).
    Returns:
        (A, B) float32 of products in float64; NaN is the lowest score, minus infinity.
    """
    return _as_compared(left.double() @ right.double().mT)


def recall_at_k(ranks: Tensor, k: int) -> float:
    """The share of queries with a right answer among the first k.

    Args:
        ranks: (Q,) ranks from 0.
        k: at least 1.
    """
    return float((ranks < k).double().mean()) if len(ranks) else 0.0


def median_rank(ranks: Tensor) -> float:
    """The median rank as papers count it, from 1; of an even number of queries, the mean of the middle two.

    Args:
        ranks: (Q,) ranks from 0.
    """
    return float(ranks.double().quantile(0.5)) + 1 if len(ranks) else 0.0


def recall_curve(ranks: Tensor, largest_k: int = 100) -> Tensor:
    """Recall at every k from 1 to `largest_k`.

    Args:
        ranks: (Q,) ranks from 0.
        largest_k: the last k.
    Returns:
        (largest_k,) float64, never falling.
    """
    hits = torch.bincount(ranks.clamp(max=largest_k), minlength=largest_k + 1)[:largest_k]
    return hits.cumsum(0).double() / max(len(ranks), 1)


def truth_by_group(queries: Sequence[object], gallery: Sequence[object]) -> list[list[int]]:
    """For each query the rows of the gallery that carry the same group: several texts of a picture, one picture twice.

    >>> truth_by_group(["cat", "dog"], ["dog", "cat", "dog"])
    [[1], [0, 2]]
    """
    rows: dict[object, list[int]] = {}
    for row, group in enumerate(gallery):
        rows.setdefault(group, []).append(row)
    return [rows.get(group, []) for group in queries]


def _check(queries: Tensor, gallery: Tensor, truth: Sequence[Sequence[int]]) -> None:
    if queries.dim() != 2 or gallery.dim() != 2 or queries.shape[1] != gallery.shape[1]:
        raise ShapeError(f"queries are {tuple(queries.shape)} and gallery {tuple(gallery.shape)}; expected equal width")
    if len(truth) != len(queries):
        raise ShapeError(f"truth names the answers of {len(truth)} queries; there are {len(queries)}")
    for query, answers in enumerate(truth):
        if not answers or min(answers) < 0 or max(answers) >= len(gallery):
            raise ShapeError(
                f"the right answers of query {query} are {list(answers)}; expected at least one row of the gallery's "
                f"{len(gallery)}; leave queries without an answer out"
            )


def _where_float64_is(vectors: Tensor) -> Tensor:
    return vectors.cpu() if vectors.device.type == "mps" else vectors  # MPS has no float64


def _as_compared(products: Tensor) -> Tensor:
    """Scores as float32, NaN the lowest."""
    return products.float().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def _pairs(truth: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """The right pairs as (num,) queries and (num,) rows of the gallery."""
    counts = torch.tensor([len(answers) for answers in truth])
    answers = torch.tensor([row for answers in truth for row in answers], dtype=torch.int64)
    return torch.arange(len(truth)).repeat_interleave(counts), answers


def _best_right(queries: Tensor, gallery: Tensor, query: Tensor, answer: Tensor, tile: int) -> Tensor:
    """(Q,) the highest score of a right answer of each query."""
    best = torch.full((len(queries),), -torch.inf, device=queries.device)
    for start in range(0, len(query), tile):
        q, g = query[start : start + tile].to(queries.device), answer[start : start + tile].to(queries.device)
        scores = _as_compared((queries[q].double() * gallery[g].double()).sum(dim=1))
        best = best.scatter_reduce(0, q, scores, "amax")
    return best
