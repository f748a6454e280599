"""Re-ranking: what two towers recall, put in order by a model that reads text and regions at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.metrics.recall import top_in_tiles
from diptych.progress import SILENT, Progress
from diptych.tasks.matcher import REGIONS, Matcher
from diptych.tasks.retrieval import RetrievalResult

PAIRS_AT_ONCE = 8192
TOP = 50
"""Candidates of each query, as many as a person could still look through."""


def rerank(
    recalled: RetrievalResult,
    matcher: Matcher,
    rows: Rows,
    *,
    top: int = TOP,
    cosine_weight: float,
    progress: Progress = SILENT,
) -> RetrievalResult:
    """The same retrieval with other ranks: the first `top` of each query in the order of the matcher.

    Towers see the whole picture and a matcher what its regions show, so that one may know what the other does not.

    What stood below them keeps its rank. Ties count against the model.

    Args:
        recalled: what two towers found on these rows.
        matcher: the model.
        rows: the split, with regions joined.
        top: candidates of each query, both ways.
        cosine_weight: what a cosine of the towers counts beside the matcher's log-odds. Their `scale` makes it a
            logit, as they were trained; 0: the matcher alone decides.
        progress: where the work is drawn.
    Raises:
        DataError: a picture has no regions, or they are of another detector; or scores or cosines are no numbers.
    """
    pictures = _candidates(recalled.text, recalled.image, top)  # (T, top)
    texts = _candidates(recalled.image, recalled.text, top)  # (P, top)
    pairs = {(picture, text) for text, found in enumerate(pictures) for picture in found}
    pairs |= {(picture, text) for picture, found in enumerate(texts) for text in found}
    ordered = sorted(pairs)
    samples = [replace(rows.sample(row, (REGIONS,)), image=None) for row in recalled.rows]
    scores = matcher.match(samples, recalled.texts, ordered, progress)
    if not scores.isfinite().all():
        raise DataError("scores of pairs are not finite: the model's weights, or the regions, hold NaN or infinity")
    cosines = _cosines(recalled, ordered)
    if not cosines.isfinite().all():
        raise DataError("cosines of pairs are not finite: the weights of the two towers hold NaN or infinity")
    odds = dict(zip(ordered, (scores + cosine_weight * cosines).tolist(), strict=True))
    return replace(
        recalled,
        text_to_image_ranks=_ranks(
            recalled.text_to_image_ranks,
            recalled.right_pictures(),
            [{picture: odds[picture, text] for picture in found} for text, found in enumerate(pictures)],
        ),
        image_to_text_ranks=_ranks(
            recalled.image_to_text_ranks,
            recalled.right_texts(),
            [{text: odds[picture, text] for text in found} for picture, found in enumerate(texts)],
        ),
    )


def _cosines(recalled: RetrievalResult, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """(N,) of pairs of a picture and a text; a few thousand at a time, since each is of two whole vectors."""
    found = [
        (recalled.image[pictures] * recalled.text[texts]).sum(dim=1)
        for pictures, texts in (one.unbind(dim=1) for one in torch.tensor(pairs).split(PAIRS_AT_ONCE))
    ]
    return torch.cat(found)


def _candidates(queries: Tensor, gallery: Tensor, top: int) -> list[list[int]]:
    return top_in_tiles(queries, gallery, min(top, len(gallery)))[1].tolist()


def _ranks(before: Tensor, right: Sequence[Sequence[int]], odds: Sequence[dict[int, float]]) -> Tensor:
    """For each query the rank of the best right candidate by its odds; as before where none was a candidate."""
    ranks = before.clone()
    for query, (wanted, found) in enumerate(zip(right, odds, strict=True)):
        hits = [found[one] for one in wanted if one in found]
        if hits:
            wrong = [score for one, score in found.items() if one not in set(wanted)]
            ranks[query] = sum(score >= max(hits) for score in wrong)
    return ranks.to(torch.int64)
