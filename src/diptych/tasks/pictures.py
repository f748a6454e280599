"""The pictures of a split through a picture encoder, a chunk at a time; bad ones cost themselves only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diptych.data.rejects import Reject
from diptych.data.sample import Sample
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.progress import SILENT, Progress
from diptych.tasks.vectors import InMemory, Vectors

CHUNK = 256
"""Pictures whose files are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class EncodedPictures:
    """What became of the pictures of a split."""

    rows: tuple[int, ...]
    """Where they stand in the split, so that a report can read them again."""
    samples: tuple[Sample, ...]
    """Without their pictures, and without texts where they were not asked for."""
    vectors: Tensor
    """(P, D) float32, what the encoder made of each; mapped where they were put into a file."""
    rejects: tuple[Reject, ...]
    """Rows that could not be read or decoded; they are in none of the above."""


def encode_pictures(
    encode: Callable[[Sequence[Sample]], Tensor],
    rows: Rows,
    chosen: Sequence[int],
    *,
    columns: Sequence[str] = (),
    wanted: Callable[[Sample], bool] = lambda sample: True,
    with_texts: bool = True,
    put: Vectors | None = None,
    name: str = "encoding pictures",
    progress: Progress = SILENT,
) -> EncodedPictures:
    """Encodes the pictures of the chosen rows, in their order; rows without a picture are passed over.

    Args:
        encode: samples to (num, D) vectors; raises DataError where it cannot decode one.
        rows: the split.
        chosen: rows of it.
        columns: own columns that the samples shall carry.
        wanted: which samples are of use; the others are passed over.
        with_texts: whether the samples keep their texts.
        put: where the vectors go, a chunk at a time; what earlier calls put there comes first in the result's
            `vectors`. None: into memory.
        name: of the progress bar.
        progress: where it is drawn.
    Raises:
        DataError: there were pictures, and not a single one could be read.
    """
    kept: list[int] = []
    samples: list[Sample] = []
    vectors = InMemory() if put is None else put
    rejects: list[Reject] = []
    with progress.bar(name, total=len(chosen), unit="pictures") as bar:
        for start in range(0, len(chosen), CHUNK):
            chunk = chosen[start : start + CHUNK]
            found = [(row, rows.sample(row, columns)) for row in chunk]
            found = [(row, sample) for row, sample in found if sample.image is not None and wanted(sample)]
            done = list(_encode_chunk(encode, found, rows.name, rejects))
            if done:
                vectors.add(torch.stack([vector for _, _, vector in done]))
            kept += [row for row, _, _ in done]
            samples += [replace(sample, image=None, texts=sample.texts if with_texts else ()) for _, sample, _ in done]
            bar.advance(len(chunk))
    if rejects and not kept:
        raise DataError(
            f"none of the {len(rejects)} pictures of the split {rows.name!r} could be read; the first, "
            f"{rejects[0].key}: {rejects[0].reason}"
        )
    if rejects:
        progress.say(
            f"left out {len(rejects)} of {len(rejects) + len(kept)} pictures that could not be read: {_listed(rejects)}"
        )
    return EncodedPictures(
        rows=tuple(kept),
        samples=tuple(samples),
        vectors=vectors.whole(),
        rejects=tuple(rejects),
    )


def _encode_chunk(
    encode: Callable[[Sequence[Sample]], Tensor],
    found: Sequence[tuple[int, Sample]],
    split: str,
    rejects: list[Reject],
) -> Iterator[tuple[int, Sample, Tensor]]:
    """The chunk as one batch; where a picture of it is bad, one by one, so that only the bad one is lost."""
    try:
        vectors = encode([sample for _, sample in found]) if found else ()
    except DataError:
        vectors = None
    for index, (row, sample) in enumerate(found):
        try:
            yield row, sample, encode([sample])[0] if vectors is None else vectors[index]
        except DataError as error:
            rejects.append(Reject(key=sample.key, source=split, reason=str(error)))


def _listed(rejects: Sequence[Reject]) -> str:
    shown = ", ".join(reject.key for reject in rejects[:3])
    return shown + (" ..." if len(rejects) > 3 else "")
