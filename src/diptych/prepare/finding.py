"""The regions of rows: pictures decoded ahead, looked at in batches, and one by one where a batch has a bad one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from PIL import Image

from diptych.data.decoding import decode_ahead
from diptych.data.regions import RegionDetector, Regions
from diptych.data.sample import Sample
from diptych.data.table import Rows
from diptych.errors import DataError
from diptych.prepare.given import boxes_of
from diptych.prepare.presets import Preset


class RegionFinder:
    """Asks a detector for the regions of rows; what is wrong with a row is its answer."""

    def __init__(
        self,
        detector: RegionDetector,
        rows: Mapping[str, Rows],
        *,
        batch: int,
        boxes: str | None = None,
        preset: Preset | None = None,
    ) -> None:
        """Reads nothing yet.

        Args:
            detector: makes the regions.
            rows: of each split.
            batch: pictures handed to the detector together; two batches of them are in memory, decoded.
            boxes: the column that gives the boxes; None: the detector's own.
            preset: which of the regions are kept; None: all.
        """
        self._detector, self._rows = detector, rows
        self._batch, self._boxes, self._preset = batch, boxes, preset

    def find(self, split: str, rows: Sequence[int]) -> Iterator[tuple[str, Regions | DataError]]:
        """The key of each row, and its regions or what is wrong with it; decoding is a batch ahead of the detector."""
        samples = _Samples(self._rows[split], rows, () if self._boxes is None else (self._boxes,))
        with closing(decode_ahead(samples, _as_it_is, batch=self._batch)) as batches:
            for number, pictures in enumerate(batches):
                first = number * self._batch
                batch = [samples.given_up(place) for place in range(first, first + len(pictures))]
                for sample, found in zip(batch, self._detected(batch, pictures), strict=True):
                    yield sample.key, found

    def _detected(
        self, samples: Sequence[Sample], pictures: Sequence[Image.Image | DataError]
    ) -> list[Regions | DataError]:
        """The regions of those that are pictures; where the detector cannot use one, one by one."""
        found: list[Regions | DataError] = [one if isinstance(one, DataError) else DataError("") for one in pictures]
        good = [place for place, one in enumerate(pictures) if isinstance(one, Image.Image)]
        for places in (good, *[[place] for place in good]):
            try:
                regions = self._detect([samples[place] for place in places], [pictures[place] for place in places])
            except DataError as error:
                for place in places:
                    found[place] = error
                continue
            for place, one in zip(places, regions, strict=True):
                found[place] = one
            if places is good:
                break
        return found

    def _detect(self, samples: Sequence[Sample], pictures: Sequence[Any]) -> list[Regions]:
        given = None
        if self._boxes is not None:
            values = [sample.fields[self._boxes] for sample in samples]
            given = [boxes_of(value, picture) for value, picture in zip(values, pictures, strict=True)]
        found = self._detector.detect(pictures, given) if pictures else []
        return found if self._preset is None else [self._preset.keep(regions) for regions in found]


class _Samples(Sequence[Sample]):
    """Rows of a split, read when they are asked for; kept until they are given up."""

    def __init__(self, rows: Rows, chosen: Sequence[int], columns: Sequence[str]) -> None:
        self._rows, self._chosen, self._columns = rows, chosen, columns
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, place: Any) -> Any:
        sample = self._rows.sample(self._chosen[place], self._columns)
        self._kept[place] = replace(sample, image=None)
        return sample

    def given_up(self, place: int) -> Sample:
        """The sample without its picture, for the last time."""
        return self._kept.pop(place)


def _as_it_is(picture: Image.Image) -> Image.Image:
    return picture
