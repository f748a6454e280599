"""Regions of a whole table: predicted first, resumable shard by shard, shared by any number of processes."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from diptych.data.durable import write_whole
from diptych.data.layout import REJECTS_FILE
from diptych.data.region_shards import RegionShards, num_bytes
from diptych.data.regions import RegionDetector, Regions, RegionSpec
from diptych.data.rejects import Reject, check_share, read_rejects, reason_of
from diptych.data.sampler import spread_rows
from diptych.data.table import Table
from diptych.errors import DataError, InterruptedRunError
from diptych.prepare.finding import RegionFinder
from diptych.prepare.forecast import Forecast, forecast
from diptych.prepare.presets import Preset
from diptych.progress import SILENT, Bar, Progress, spoken_size
from diptych.ranks import ALONE, Ranks


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What of a table, and how it is cut into shards."""

    splits: tuple[str, ...] = ()
    """Empty: all."""
    limit: int | None = None
    """At most so many rows of each split, evenly spread."""
    boxes: str | None = None
    """The column that gives the boxes; None: the detector's own."""
    preset: Preset | None = None
    batch: int = 8
    """Pictures handed to the detector together; two batches of them are in memory, decoded."""
    pictures_per_shard: int = 256
    """What a kill costs each process at most."""
    max_rejects: float = 0.05
    """Share of the pictures; more than this many bad ones stop the extraction."""

    def __post_init__(self) -> None:
        check_share(self.max_rejects, "pictures")

    def spec(self, detector: RegionDetector, name: str) -> RegionSpec:
        """What the store's regions are made with.

        Args:
            detector: that finds them.
            name: it goes by in `systems.detectors`, which presets know.
        """
        spec = detector.spec
        if self.boxes is not None:
            spec = replace(spec, box_kind="given", rule=f"given({self.boxes})", score_kind="none")
        return spec if self.preset is None else self.preset.matched(spec, name)

    def source(self, table: Table) -> str:
        """What the store is made of: an unfinished one goes on only with the same, whose shards would be the same."""
        parts = [f"table {table.fingerprint}", f"shards of {self.pictures_per_shard} in batches of {self.batch}"]
        parts += [f"splits {'+'.join(self.splits)}"] if self.splits else []
        parts += [f"at most {self.limit} a split"] if self.limit is not None else []
        parts += [f"boxes of {self.boxes}"] if self.boxes is not None else []
        return ", ".join([*parts, *([f"preset {self.preset.name}"] if self.preset is not None else [])])


@dataclass(frozen=True, kw_only=True)
class ExtractionResult:
    """What came of an extraction, over all processes."""

    out: Path
    pictures: int
    """In the store."""
    regions: int
    rejects: int
    reasons: Mapping[str, int]
    """How many rejects have each reason, the most frequent first."""
    kept: int
    """Shards that earlier, unfinished attempts had written."""
    shards: int
    seconds: float
    """Of this attempt."""
    forecast: Forecast | None
    """None where nothing was left to do."""


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """The rows of one split that make one shard."""

    number: int
    split: str
    rows: Sequence[int]


def extract_regions(
    detector: RegionDetector,
    table: Table,
    shards: RegionShards,
    asked: Asked,
    *,
    ranks: Ranks = ALONE,
    progress: Progress = SILENT,
) -> ExtractionResult:
    """Runs a detector over a table and writes what it finds as a store.

    The rows are cut into shards, and each is one unit of work: which pictures share a batch depends on nothing else, so
    that any number of processes, killed and begun again however often, writes the same bytes. A picture that cannot be
    used is listed with its reason in OUT/rejects.jsonl.

    Args:
        detector: makes the regions.
        table: of pictures.
        shards: the new store.
        asked: what of the table.
        ranks: the processes that share the work, and a file system.
        progress: sees pictures go by.
    Raises:
        RunExistsError: the store is there already, or is being written.
        DataError: too many pictures are bad, the disk is too small for what is predicted, or an unfinished attempt was
            of something else; what is done stays, and the same call goes on from it.
        InterruptedRunError: the user stopped it; the same call goes on.
    """
    try:
        ranks.from_lead(shards.begin)
        return _Extraction(detector, table, shards, asked, ranks, progress).run()
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"stopped; what was extracted is kept in {shards.folder}, and the same command goes on from there"
        ) from error
    finally:
        shards.let_go()


class _Extraction:
    """One attempt of one process."""

    def __init__(
        self,
        detector: RegionDetector,
        table: Table,
        shards: RegionShards,
        asked: Asked,
        ranks: Ranks,
        progress: Progress,
    ) -> None:
        self._shards, self._asked = shards, asked
        self._ranks, self._progress = ranks, progress
        self._rows = {name: table.split(name) for name in asked.splits or table.splits}
        self._finder = RegionFinder(detector, self._rows, batch=asked.batch, boxes=asked.boxes, preset=asked.preset)
        self._plan = list(self._planned())
        self._rejected = 0

    def run(self) -> ExtractionResult:
        """Everything, from the prediction to the finished store."""
        start = time.monotonic()
        todo = self._ranks.from_lead(lambda: [one for one in self._plan if not self._shards.has(one.number)])
        kept = len(self._plan) - len(todo)
        if kept:
            self._progress.say(f"going on from {self._shards.folder}, where {kept:,} of {len(self._plan):,} shards are")
        predicted = self._ranks.from_lead(lambda: self._forecast(todo)) if todo else None
        mine = todo[self._ranks.rank :: self._ranks.size]
        name = "extracting" + (f" (process 1 of {self._ranks.size})" if self._ranks.size > 1 else "")
        with self._progress.bar(name, total=sum(len(one.rows) for one in mine), unit="pictures") as bar:
            for shard in mine:
                self._extract(shard, bar)
        self._ranks.wait()
        pictures, regions, rejects = self._ranks.from_lead(self._finish)
        reasons = Counter(reject.reason for reject in rejects)
        return ExtractionResult(
            out=self._shards.out,
            pictures=pictures,
            regions=regions,
            rejects=len(rejects),
            reasons=dict(reasons.most_common()),
            kept=kept,
            shards=len(self._plan),
            seconds=time.monotonic() - start,
            forecast=predicted,
        )

    def _planned(self) -> Iterator[_Shard]:
        number = 0
        for name, rows in self._rows.items():
            chosen = spread_rows(len(rows), self._asked.limit)
            for start in range(0, len(chosen), self._asked.pictures_per_shard):
                yield _Shard(number=number, split=name, rows=chosen[start : start + self._asked.pictures_per_shard])
                number += 1

    def _forecast(self, todo: Sequence[_Shard]) -> Forecast:
        """By a few pictures from the middle of what is to do.

        Raises:
            DataError: it would not fit on the disk.
        """
        middle = todo[len(todo) // 2]
        found = forecast(
            partial(self._finder.find, middle.split),
            middle.rows,
            self._num_bytes,
            batch=self._asked.batch,
            pictures=sum(len(one.rows) for one in todo),
            processes=min(self._ranks.size, len(todo)),
            free_bytes=shutil.disk_usage(self._shards.folder).free,
        )
        self._progress.say(str(found))
        if found.bytes > found.free_bytes:
            raise DataError(
                f"the regions of {found.pictures:,} pictures take about {spoken_size(found.bytes)}, and the disk of "
                f"{self._shards.out} has {spoken_size(found.free_bytes)} free; choose another disk, fewer regions "
                "or --limit"
            )
        return found

    def _num_bytes(self, regions: Regions) -> int:
        try:
            return num_bytes(self._shards.row("", regions))
        except DataError:  # it will be rejected
            return 0

    def _extract(self, shard: _Shard, bar: Bar) -> None:
        """Writes one shard, and beside it first what it had to leave out."""
        rows: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        for key, found in self._finder.find(shard.split, shard.rows):
            try:
                if isinstance(found, DataError):
                    raise found
                rows.append(self._shards.row(key, found))
            except DataError as error:
                rejects.append(Reject(key=key, source=shard.split, reason=reason_of(key, error)))
            bar.advance(note=f"{self._rejected + len(rejects):,} rejected" if rejects else "")
        if rejects:
            write_whole(self._rejects_file(shard.number), "".join(map(Reject.line, rejects)).encode())
        else:  # of an attempt whose pictures were mended since
            self._rejects_file(shard.number).unlink(missing_ok=True)
        self._rejected += len(rejects)
        self._check_rejects(self._rejected, rejects)
        if rows:
            self._shards.write(shard.number, rows)

    def _finish(self) -> tuple[int, int, list[Reject]]:
        """Of the lead: the rejects in the order of the table, and the store whole."""
        whole = self._shards.folder / REJECTS_FILE
        parts = [self._rejects_file(one.number) for one in self._plan]
        there = [part for part in parts if part.exists()]
        known = read_rejects(whole) if whole.exists() else []  # of an attempt that ended while it joined them
        rejects = list(dict.fromkeys([*known, *(reject for part in there for reject in read_rejects(part))]))
        self._check_rejects(len(rejects), rejects)
        if rejects:
            write_whole(whole, "".join(map(Reject.line, rejects)).encode())
        for part in there:
            part.unlink()
        pictures, regions = self._shards.finish()
        return pictures, regions, rejects

    def _check_rejects(self, num: int, some: Sequence[Reject]) -> None:
        pictures = sum(len(one.rows) for one in self._plan)
        if num > self._asked.max_rejects * pictures:
            worst = "; ".join(f"{times} x {reason}" for reason, times in Counter(r.reason for r in some).most_common(3))
            raise DataError(
                f"{num:,} of {pictures:,} pictures are bad, more than --max-rejects {self._asked.max_rejects} allows: "
                f"{worst}. What was extracted is kept in {self._shards.folder}; mend the files that the table names, "
                "or pass a larger --max-rejects, and the same command goes on from there. (A table that holds its "
                "pictures is imported anew, and then its regions are made anew.)"
            )

    def _rejects_file(self, shard: int) -> Path:
        return self._shards.folder / f"rejects-{shard:05d}.jsonl"
