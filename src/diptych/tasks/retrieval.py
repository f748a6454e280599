"""Retrieval: the picture for a text and a text for a picture, among all of a split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from diptych.data.rejects import Reject
from diptych.data.sample import Sample
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.data.text_kinds import KINDS_COLUMN, places_of_kinds
from diptych.errors import DataError, unknown
from diptych.metrics.recall import median_rank, ranks_in_tiles, recall_at_k, truth_by_group
from diptych.progress import SILENT, Progress
from diptych.tasks.encoder import Towers
from diptych.tasks.pictures import EncodedPictures, encode_pictures
from diptych.tasks.texts import encode_texts

KS = (1, 5, 10)
FULL = "full"
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """Ranks both ways of pictures and texts, whatever ranked them. P pictures, T texts."""

    split: str
    rows: tuple[int, ...]
    """(P) rows of the split, to read the pictures again."""
    keys: tuple[str, ...]
    """(P) keys of the pictures."""
    groups: tuple[str, ...]
    """(P) pictures of one group show the same thing and are right for each other's texts."""
    texts: tuple[str, ...]
    """(T) texts."""
    text_owner: tuple[int, ...]
    """(T) which of the P pictures a text was written for."""
    text_to_image_ranks: Tensor
    """(T,) rank of the right picture, from 0."""
    image_to_text_ranks: Tensor
    """(P,) rank of the best of the right texts, from 0."""
    rejects: tuple[Reject, ...] = ()
    """Pictures that could not be read; they are not in the gallery."""

    def numbers(self) -> dict[str, float]:
        """Recall as shares of 1 and median ranks from 1, both ways, by the names of log and JSON."""
        found: dict[str, float] = {}
        for name, ranks in (("text_to_image", self.text_to_image_ranks), ("image_to_text", self.image_to_text_ranks)):
            found |= {f"{name}_r{k}": recall_at_k(ranks, k) for k in KS}
            found[f"{name}_median_rank"] = median_rank(ranks)
        return found

    def chance(self) -> dict[str, float]:
        """The recall that guessing would reach."""
        found: dict[str, float] = {}
        for k in KS:
            found[f"text_to_image_r{k}"] = _chance(self.right_pictures(), len(self.keys), k)
            found[f"image_to_text_r{k}"] = _chance(self.right_texts(), len(self.texts), k)
        return found

    def right_pictures(self) -> list[list[int]]:
        """For each text the pictures that are right, among the P."""
        return truth_by_group([self.groups[picture] for picture in self.text_owner], self.groups)

    def right_texts(self) -> list[list[int]]:
        """For each picture the texts that are right, among the T."""
        return truth_by_group(self.groups, [self.groups[picture] for picture in self.text_owner])


@dataclass(frozen=True, kw_only=True)
class RetrievalResult(Ranked):
    """What two towers ranked, with what a report needs to show it."""

    image: Tensor
    """(P, E) normalised."""
    text: Tensor
    """(T, E) normalised."""


def retrieval(
    encoder: Towers,
    rows: Rows,
    *,
    limit: int | None = None,
    text_kind: str | None = None,
    progress: Progress = SILENT,
) -> RetrievalResult:
    """Ranks all pictures of a split for each of its texts, and all texts for each picture, by cosine.

    CLIP, arXiv:2103.00020, table 13. A picture counts as found by any of its texts, a text by its picture; rows of one
    group show the same thing and are right for each other. Ties count against the model (`metrics.recall`).

    Args:
        encoder: the model.
        rows: the split.
        limit: at most so many rows, evenly spread over the split.
        text_kind: only texts of this kind, by the column `text_kinds` beside the texts, or "all". None: full
            descriptions where the table says which are, since a short one ("a car") is true of many pictures; else all.
        progress: where the work is drawn.
    Raises:
        DataError: no row has both a picture and a text, or no text is of that kind.
    """
    text_kind = kind_asked(rows, text_kind)
    columns = () if text_kind == ALL else (KINDS_COLUMN,)
    found = encode_pictures(
        encoder.encode_image,
        rows,
        spread_rows(len(rows), limit),
        columns=columns,
        wanted=lambda sample: bool(texts_of_kind(sample, text_kind)),
        progress=progress,
    )
    if not found.rows:
        raise DataError(nothing_found(rows, text_kind))
    texts = [texts_of_kind(sample, text_kind) for sample in found.samples]
    return _ranked(
        split=rows.name,
        found=found,
        texts=tuple(text for mine in texts for text in mine),
        owner=tuple(picture for picture, mine in enumerate(texts) for _ in mine),
        encoder=encoder,
        progress=progress,
    )


def texts_of_kind(sample: Sample, kind: str) -> list[str]:
    """The texts of a sample that are of a kind, by its column `text_kinds`; every one for "all"."""
    if kind == ALL:
        return list(sample.texts)
    return [sample.texts[place] for place in places_of_kinds(sample, [kind])]


def _ranked(
    *,
    split: str,
    found: EncodedPictures,
    texts: tuple[str, ...],
    owner: tuple[int, ...],
    encoder: Towers,
    progress: Progress,
) -> RetrievalResult:
    vectors = encode_texts(encoder, texts, progress=progress).of(texts)
    groups = tuple(sample.group for sample in found.samples)
    text_groups = [groups[picture] for picture in owner]
    return RetrievalResult(
        split=split,
        rows=found.rows,
        keys=tuple(sample.key for sample in found.samples),
        groups=groups,
        texts=texts,
        text_owner=owner,
        image=found.vectors,
        text=vectors,
        text_to_image_ranks=ranks_in_tiles(vectors, found.vectors, truth_by_group(text_groups, groups)),
        image_to_text_ranks=ranks_in_tiles(found.vectors, vectors, truth_by_group(groups, text_groups)),
        rejects=found.rejects,
    )


def kind_asked(rows: Rows, text_kind: str | None) -> str:
    """The kind of text that is meant; see `retrieval`."""
    if text_kind is not None:
        return text_kind
    if KINDS_COLUMN not in rows.columns or not len(rows):
        return ALL
    return FULL if FULL in (rows.values(0, [KINDS_COLUMN])[0] or ()) else ALL


def nothing_found(rows: Rows, text_kind: str) -> str:
    """Why there is nothing to rank."""
    if text_kind == ALL:
        return f"the split {rows.name!r} has no row with both a picture and a text; retrieval needs pairs"
    kinds = sorted({kind for row in rows.column(KINDS_COLUMN).to_pylist() for kind in row or ()})
    return f"in the split {rows.name!r}, {unknown('kind of text', text_kind, kinds)}"


def _chance(truth: Sequence[Sequence[int]], gallery: int, k: int) -> float:
    """The mean chance that k drawn of the gallery hold at least one of a query's right answers."""
    k = min(k, gallery)
    times = Counter(len(answers) for answers in truth)
    misses = {num: math.comb(gallery - num, k) / math.comb(gallery, k) for num in times}
    return 1 - sum(times[num] * misses[num] for num in times) / len(truth)
