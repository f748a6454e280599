"""Retrieval by a model that reads a text and a picture together: every pair of a split, a tile at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.data.rejects import Reject
from diptych.data.sample import Sample
from diptych.data.sampler import spread_rows
from diptych.data.table import Rows
from diptych.data.text_kinds import KINDS_COLUMN
from diptych.errors import DataError, InterruptedRunError
from diptych.metrics.recall import ranks_of_scores, truth_by_group
from diptych.progress import SILENT, Bar, Progress, spoken_time
from diptych.tasks.kept_scores import KeptScores
from diptych.tasks.matcher import REGIONS, Matcher
from diptych.tasks.retrieval import ALL, Ranked, kind_asked, nothing_found, texts_of_kind

SIDE = 64
"""Pictures, and texts, of a tile: what a kill may cost, and for how many pairs a side is embedded once."""
LONG_S = 600.0
"""What takes longer is foretold in words."""


@dataclass(frozen=True, kw_only=True)
class AllPairs(Ranked):
    """Every text of a split with every picture."""

    scores: Tensor
    """(P, T) float32 log-odds of a match."""


def all_pairs(
    matcher: Matcher,
    rows: Rows,
    *,
    limit: int | None = None,
    text_kind: str | None = None,
    keep: Path | None = None,
    progress: Progress = SILENT,
) -> AllPairs:
    """Ranks all pictures of a split for each of its texts, and all texts for each picture, by the odds of a match.

    Rows, texts, groups and ties as in `tasks.retrieval`. Equal texts, and pictures of equal regions, are asked about
    once, so that they tie.

    Args:
        matcher: the model.
        rows: the split, with regions joined.
        limit: at most so many rows, evenly spread over the split.
        text_kind: as in `tasks.retrieval`.
        keep: a folder for a file of the scores; the same call then goes on from it where it was stopped, and asks
            nothing anew once it is whole. Its name tells what the scores hang on: weights, texts, regions.
        progress: where the work is drawn.
    Raises:
        DataError: no row has both regions and a text of that kind.
        InterruptedRunError: the user stopped it.
        RunExistsError: another process is at the same.
    """
    text_kind = kind_asked(rows, text_kind)
    found = _read(rows, spread_rows(len(rows), limit), text_kind)
    if not found.samples:
        raise DataError(found.rejects[0].reason if found.rejects else nothing_found(rows, text_kind))
    if found.rejects:
        progress.say(f"left out {len(found.rejects):,} pictures without regions: {found.rejects[0].key} ...")
    texts = tuple(text for sample in found.samples for text in sample.texts)
    owner = tuple(picture for picture, sample in enumerate(found.samples) for _ in sample.texts)
    pictures, of_picture = _different(found.digests)
    sentences, of_text = _different(texts)
    pairs = _Pairs(matcher, rows, [found.rows[picture] for picture in pictures], [texts[text] for text in sentences])
    progress.say(
        f"{len(found.rows):,} pictures with {len(texts):,} texts: {pairs.num:,} different pairs for {matcher.name}"
    )
    name = pairs.name([found.digests[picture] for picture in pictures])
    scores = pairs.scores(None if keep is None else keep / name, progress)[of_picture[:, None], of_text]
    groups = tuple(sample.group for sample in found.samples)
    text_groups = [groups[picture] for picture in owner]
    return AllPairs(
        split=rows.name,
        rows=tuple(found.rows),
        keys=tuple(sample.key for sample in found.samples),
        groups=groups,
        texts=texts,
        text_owner=owner,
        scores=scores,
        text_to_image_ranks=ranks_of_scores(scores.mT, truth_by_group(text_groups, groups)),
        image_to_text_ranks=ranks_of_scores(scores, truth_by_group(groups, text_groups)),
        rejects=tuple(found.rejects),
    )


@dataclass(frozen=True)
class _Read:
    """What is asked about."""

    rows: list[int]
    samples: list[Sample]
    """With the texts that are meant, and without regions: those are read again when their tile comes."""
    digests: list[bytes]
    """Of each picture's regions."""
    rejects: list[Reject]


def _read(rows: Rows, chosen: Sequence[int], text_kind: str) -> _Read:
    found = _Read([], [], [], [])
    for row in chosen:
        sample = rows.sample(row, () if text_kind == ALL else (KINDS_COLUMN,))
        texts = tuple(texts_of_kind(sample, text_kind))
        if not texts:
            continue
        try:
            digest = _digest(rows.sample(row, (REGIONS,)).fields[REGIONS])
        except DataError as error:
            found.rejects.append(Reject(key=sample.key, source=rows.name, reason=str(error)))
            continue
        found.rows.append(row)
        found.samples.append(replace(sample, image=None, texts=texts, fields={}))
        found.digests.append(digest)
    return found


def _digest(regions: Any) -> bytes:
    return hashlib.sha256(regions.boxes.tobytes() + regions.features.tobytes()).digest()


def _different(values: Sequence[Hashable]) -> tuple[list[int], Tensor]:
    """Where each different value first stands, and (N,) for each value which of the different ones it is."""
    first = {value: place for place, value in reversed(list(enumerate(values)))}
    places = sorted(first.values())
    number = {values[place]: number for number, place in enumerate(places)}
    return places, torch.tensor([number[value] for value in values])


class _Pairs:
    """Different pictures and texts, every one with every other."""

    def __init__(self, matcher: Matcher, rows: Rows, pictures: Sequence[int], texts: Sequence[str]) -> None:
        self.matcher, self.rows, self.pictures, self.texts = matcher, rows, pictures, texts
        self.tiles = list(product(_tiles(len(pictures)), _tiles(len(texts))))
        self.num = len(pictures) * len(texts)

    def name(self, digests: Sequence[bytes]) -> str:
        """Of the file that keeps the scores."""
        said = hashlib.sha256(f"{self.matcher.fingerprint()} {SIDE}".encode())
        for part in (*digests, *(hashlib.sha256(text.encode()).digest() for text in self.texts)):
            said.update(part)
        return f"retrieval-{self.rows.name}-{said.hexdigest()[:16]}.scores"

    def scores(self, path: Path | None, progress: Progress) -> Tensor:
        """(pictures, texts) float32."""
        with KeptScores(path, [len(pictures) * len(texts) for pictures, texts in self.tiles]) as kept:
            if kept.tiles:
                progress.say(f"{kept.pairs:,} of them are in {path} already")
            try:
                with progress.bar("matching all pairs", total=self.num, unit="pairs", done=kept.pairs) as bar:
                    self._ask(kept, bar, progress)
            except KeyboardInterrupt as error:
                raise InterruptedRunError(f"stopped; {_goes_on(kept, self.num)}") from error
            if path is not None:
                progress.say(f"the scores are in {path}, where the same question finds them")
            return self._whole(kept.scores())

    def _ask(self, kept: KeptScores, bar: Bar, progress: Progress) -> None:
        """Goes over the tiles that are not kept, row by row, so that a picture's regions are read once."""
        samples: list[Sample] = []
        read, begun, first = range(0), time.monotonic(), kept.tiles
        for number, (pictures, texts) in enumerate(self.tiles[first:]):
            if pictures != read:
                read = pictures
                samples = [replace(self.rows.sample(self.pictures[one], (REGIONS,)), image=None) for one in pictures]
            pairs = list(product(range(len(pictures)), range(len(texts))))
            kept.add(self.matcher.match(samples, [self.texts[text] for text in texts], pairs, _Onto(bar)))
            seconds = (time.monotonic() - begun) / len(pairs) * (self.num - kept.pairs)
            if number == 0 and seconds > LONG_S:
                progress.say(
                    f"about {spoken_time(seconds)} to go. Ctrl-C stops; --limit asks fewer rows, and --recall-with RUN "
                    "only what two towers recall"
                )

    def _whole(self, tiles: Sequence[Tensor]) -> Tensor:
        scores = torch.empty(len(self.pictures), len(self.texts))
        for (pictures, texts), tile in zip(self.tiles, tiles, strict=True):
            tile = tile.unflatten(0, (len(pictures), len(texts)))
            scores[pictures.start : pictures.stop, texts.start : texts.stop] = tile
        return scores


class _Onto:
    """A `Progress` that draws on a bar of another's, which counts the same."""

    def __init__(self, bar: Bar) -> None:
        self._bar = nullcontext(bar)

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> Any:
        """The other's, which outlives this one."""
        return self._bar

    def say(self, message: str) -> None:
        """Nothing of one tile."""


def _tiles(num: int) -> list[range]:
    return [range(start, min(start + SIDE, num)) for start in range(0, num, SIDE)]


def _goes_on(kept: KeptScores, num: int) -> str:
    if kept.path is None:
        return "nothing is kept; name a file for the page with --html, and its folder keeps the scores"
    return f"{kept.pairs:,} of {num:,} pairs are in {kept.path}, and the same command goes on from there"
