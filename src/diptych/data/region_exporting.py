"""A store of regions as the files that other systems read: two TSVs, UNITER's npz folder, Oscar's pair of TSVs."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from diptych.data.durable import flush_to_disk, write_whole
from diptych.data.layout import partial_of
from diptych.data.region_files.detect import side_file
from diptych.data.region_files.lines import Lines
from diptych.data.region_files.old_store import rejects_of
from diptych.data.region_files.writers import (
    SCORES,
    butd_row,
    left_out,
    lxmert_row,
    npz,
    oscar_features,
    oscar_labels,
)
from diptych.data.regions import BoxUnit, Regions, RegionSpec, RegionStore, ScoreKind
from diptych.data.rejects import Reject, RejectLog, reason_of
from diptych.errors import DataError, InterruptedRunError, RunExistsError, UsageError, unknown
from diptych.progress import SILENT, Bar, Progress

NAMES = ("butd-tsv", "lxmert-tsv", "uniter-npz", "oscar-tsv")
FLUSH_EVERY = 64
"""Pictures between two waits for the disk."""


@dataclass(frozen=True, kw_only=True)
class RegionExportResult:
    """What came of an export."""

    out: Path
    pictures: int
    left_out: tuple[str, ...]
    """What the regions have and the format does not hold, in words."""
    rejects: int
    reasons: Mapping[str, int]
    """How many rejects have each reason, the most frequent first."""


def export_regions(
    store: RegionStore,
    out: Path,
    *,
    format: str,  # noqa: A002
    progress: Progress = SILENT,
) -> RegionExportResult:
    """Writes all regions of `store` in another format.

    Goes on from an unfinished attempt of the same call: rows that are in are skipped, and a torn last row is cut off.
    A row of old files that is damaged costs itself and a line in `OUT.rejects.jsonl`.
    What the regions were made with, and what of them is left out, goes to `OUT.regions.json` (for Oscar:
    features.tsv.regions.json in the folder), where `open_regions` reads it.

    Args:
        store: of `open_regions`.
        out: a new file for the first two of NAMES, a new folder for the others.
        format: one of NAMES.
        progress: sees pictures go by.

    Raises:
        UsageError: there is no such format.
        RunExistsError: `out` is there already.
        DataError: a picture lacks what the format holds: its size, classes, or a key that fits; or no row is whole.
        InterruptedRunError: the user stopped it; the same call goes on.
    """
    if format not in NAMES:
        raise UsageError(unknown("format", format, NAMES))
    if out.exists():
        raise RunExistsError(f"{out} is there already; choose another, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, about = partial_of(out), out.with_name(f"{out.name}.partial.json")
    _begin(partial, about, _about(store, format))
    lost: set[str] = set()
    listed = rejects_file(out)
    listed.unlink(missing_ok=True)  # bad rows may have been mended since the last attempt
    try:
        with RejectLog(listed) as log, progress.bar("Exporting", len(store), "pictures") as bar:
            whole = _Whole(store, log, bar)
            match format:
                case "uniter-npz":
                    lost = _npz_files(whole, partial)
                case "oscar-tsv":
                    lost = _oscar_files(whole, partial)
                case _:
                    row = butd_row if format == "butd-tsv" else lxmert_row
                    lost = _append(whole, format, [(partial, row)])
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"stopped; what was exported is kept in {partial}, and the same command goes on from there"
        ) from error
    rejects = whole.reasons.total()
    pictures = len(store) + len(rejects_of(store)) - rejects
    if not pictures:
        raise DataError(f"{store.path} has no whole row; {listed} says what is wrong with each")
    if not whole.reasons:
        listed.unlink()
    unit: BoxUnit = "unit" if format == "uniter-npz" else "pixel"
    scores: ScoreKind = "none" if format == "butd-tsv" else "class"
    told = replace(
        store.spec,
        box_unit=unit,
        plus_one=format == "butd-tsv",
        score_kind=scores if SCORES in lost else store.spec.score_kind,
    )
    side = side_file(partial / "features.tsv" if format == "oscar-tsv" else out)
    about_it = {"spec": asdict(told), "source": str(store.path), "left_out": sorted(lost)}
    write_whole(side, (json.dumps(about_it, indent=2) + "\n").encode())
    partial.rename(out)
    about.unlink()
    flush_to_disk(out.parent)
    return RegionExportResult(
        out=out,
        pictures=pictures,
        left_out=tuple(sorted(lost)),
        rejects=rejects,
        reasons=dict(whole.reasons.most_common()),
    )


def rejects_file(out: Path) -> Path:
    """Where an export lists the rows that it could not read."""
    return out.with_name(f"{out.name}.rejects.jsonl")


class _Whole:
    """The pictures of a store that can be read, one by one; the others are listed."""

    def __init__(self, store: RegionStore, log: RejectLog, bar: Bar) -> None:
        self.spec = store.spec
        self.reasons: Counter[str] = Counter()
        self._store, self._log, self._bar = store, log, bar

    def __iter__(self) -> Iterator[tuple[str, Regions]]:
        """Keys and regions in the order of the store."""
        for reject in rejects_of(self._store):
            self._log.add(reject)
            self.reasons[reject.reason] += 1
        for key in self._store.keys():  # noqa: SIM118 - a store is no dict
            try:
                yield key, self._store.regions(key)
            except DataError as error:
                reason = reason_of(key, error)
                self._log.add(Reject(key, str(self._store.path), reason))
                self.reasons[reason] += 1
            self._bar.advance(note=f"{self.reasons.total():,} rejected" if self.reasons else "")


def _about(store: RegionStore, format: str) -> str:  # noqa: A002
    """What an unfinished attempt is of, as it lies beside it."""
    told = {"format": format, "source": str(store.path.resolve()), "pictures": len(store), "spec": store.spec.digest()}
    return json.dumps(told) + "\n"


def _begin(partial: Path, about: Path, wanted: str) -> None:
    """Goes on with an unfinished attempt of the same call alone."""
    if partial.exists() and not (about.is_file() and about.read_text(encoding="utf-8") == wanted):
        raise DataError(
            f"{partial} was begun from another store or in another format; remove it to start anew, or choose another "
            "OUT"
        )
    write_whole(about, wanted.encode())


def _append(
    whole: _Whole,
    format: str,  # noqa: A002
    files: list[tuple[Path, Callable[[str, Regions, RegionSpec], str]]],
) -> set[str]:
    """Writes one row a picture to each file, in step; those of an earlier attempt stay. Returns what is left out."""
    done = min(_whole_rows(path) for path, _ in files)
    there = set(_keys(files[0][0], done))
    handles = [_opened_behind(path, done) for path, _ in files]
    lost: set[str] = set()
    try:
        for number, (key, regions) in enumerate(whole):
            lost |= left_out(format, regions)
            if key in there:
                continue
            if any(mark in key for mark in "\t\n\r") or key != key.strip():
                raise DataError(f"the key {key!r} does not fit into a TSV; it has white space that would be lost")
            for handle, (_, row) in zip(handles, files, strict=True):
                handle.write(f"{key}\t{row(key, regions, whole.spec)}\n".encode())
            if number % FLUSH_EVERY == FLUSH_EVERY - 1:
                _flush(handles)
        _flush(handles)
    finally:
        for handle in handles:
            handle.close()
    return lost


def _keys(path: Path, rows: int) -> list[str]:
    """Those of the first `rows` rows of a file."""
    if not rows:
        return []
    lines = Lines(path)
    return [lines.key(start).decode() for start in islice(lines.starts(), rows)]


def _whole_rows(path: Path) -> int:
    if not path.is_file() or not path.stat().st_size:
        return 0
    lines = Lines(path)
    return sum(1 for _ in lines.starts()) - (not lines.ends_whole())


def _opened_behind(path: Path, rows: int) -> Any:
    """The file, cut behind its first `rows` rows."""
    handle = path.open("ab")
    size = 0
    if rows:
        starts = [*Lines(path).starts(), path.stat().st_size]
        size = starts[rows]
    handle.truncate(size)
    return handle


def _flush(handles: list[Any]) -> None:
    for handle in handles:
        handle.flush()
        os.fsync(handle.fileno())


def _oscar_files(whole: _Whole, folder: Path) -> set[str]:
    folder.mkdir(exist_ok=True)
    files = {"features": oscar_features, "predictions": oscar_labels}
    lost = _append(whole, "oscar-tsv", [(folder / f"{name}.tsv", row) for name, row in files.items()])
    if not any((folder / f"{name}.tsv").stat().st_size for name in files):
        return lost  # every row is damaged
    for name in files:
        starts = Lines(folder / f"{name}.tsv").starts()
        write_whole(folder / f"{name}.lineidx", "".join(f"{start}\n" for start in starts).encode())
    features = folder / "features.tsv"
    rows = {key: row for row, key in enumerate(_keys(features, _whole_rows(features)))}
    write_whole(folder / "imageid2idx.json", json.dumps(rows).encode())
    return lost


def _npz_files(whole: _Whole, folder: Path) -> set[str]:
    folder.mkdir(exist_ok=True)
    lost: set[str] = set()
    for key, regions in whole:
        name = key if key.endswith(".npz") else f"{key}.npz"
        if Path(name).name != name or name.startswith("."):
            raise DataError(f"the key {key!r} is no name of a file, and may not lead out of the folder")
        lost |= left_out("uniter-npz", regions)
        if not (folder / name).exists():
            write_whole(folder / name, npz(key, regions, whole.spec))
    return lost
