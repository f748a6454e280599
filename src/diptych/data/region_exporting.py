"""A store of regions as the files that other systems read: two TSVs, UNITER's npz folder, Oscar's pair of TSVs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diptych.data.durable import flush_to_disk, write_whole
from diptych.data.layout import partial_of
from diptych.data.region_checks import difference
from diptych.data.region_files.appending import append, write_lists
from diptych.data.region_files.detect import side_file
from diptych.data.region_files.old_store import OldStore, rejects_of
from diptych.data.region_files.writers import BOX_UNITS, NO_NAMES, ROWS, SCORES, left_out, npz_name
from diptych.data.regions import Regions, RegionSpec, RegionStore, ScoreKind
from diptych.data.rejects import Reject, RejectLog, reason_of
from diptych.errors import DataError, InterruptedRunError, RunExistsError, UsageError, unknown
from diptych.progress import SILENT, Bar, Progress

NAMES = tuple(ROWS)
FIRST = 20
"""Pictures with regions of which one fits into the format, or the store is taken for one that does not."""


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
    side: Path
    """The file that says what the regions were made with, and which convention their boxes have."""


def export_regions(
    store: RegionStore,
    out: Path,
    *,
    format: str,  # noqa: A002
    progress: Progress = SILENT,
) -> RegionExportResult:
    """Writes all regions of `store` in another format.

    Goes on from an unfinished attempt of the same call: rows that are in are skipped, and a torn last row is cut off.
    A picture whose row is damaged, or does not fit into the format, costs itself and a line in `OUT.rejects.jsonl`.
    Where none of the first fits, nothing is written.
    What the regions were made with, which convention their boxes have, and what of them is left out, goes to
    `OUT.regions.json` (for Oscar: features.tsv.regions.json in the folder), where `open_regions` reads it.

    Args:
        store: of `open_regions`.
        out: a new file for the first two of NAMES, a new folder for the others.
        format: one of NAMES.
        progress: sees pictures go by.

    Raises:
        UsageError: there is no such format.
        RunExistsError: `out` is there already.
        DataError: the pictures lack what the format holds: their sizes, classes, or keys that fit; or no row is whole;
            or an unfinished attempt of another call is in the way.
        InterruptedRunError: the user stopped it; the same call goes on.
    """
    if format not in NAMES:
        raise UsageError(unknown("format", format, NAMES))
    if out.exists():
        raise RunExistsError(f"{out} is there already; choose another, or remove it first")
    _check_fits(store, format)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial, about = partial_of(out), out.with_name(f"{out.name}.partial.json")
    _begin(partial, about, _about(store, format))
    listed = rejects_file(out)
    listed.unlink(missing_ok=True)  # bad rows may have been mended since the last attempt
    try:
        with RejectLog(listed) as log, progress.bar("Exporting", len(store), "pictures") as bar:
            fitting = _Fitting(store, format, log, bar)
            _write(fitting, format, partial)
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"stopped; what was exported is kept in {partial}, and the same command goes on from there"
        ) from error
    finally:
        if listed.is_file() and not listed.stat().st_size:
            listed.unlink()
    side = side_file(partial / "features.tsv" if format == "oscar-tsv" else out)
    _write_side(side, store, format, fitting.lost)
    partial.rename(out)
    about.unlink()
    flush_to_disk(out.parent)
    return RegionExportResult(
        out=out,
        pictures=fitting.pictures,
        left_out=tuple(sorted(fitting.lost)),
        rejects=fitting.reasons.total(),
        reasons=dict(fitting.reasons.most_common()),
        side=out / side.name if format == "oscar-tsv" else side,
    )


def _write_side(side: Path, store: RegionStore, format: str, lost: set[str]) -> None:  # noqa: A002
    """Writes what the regions of an export were made with, and what of them it leaves out."""
    scores: ScoreKind = "none" if format == "butd-tsv" else "class"
    told = replace(
        store.spec,
        box_unit=BOX_UNITS[format],
        score_kind=scores if SCORES in lost else store.spec.score_kind,
    )
    about_it = {"format": format, "spec": asdict(told), "source": str(store.path), "left_out": sorted(lost)}
    write_whole(side, (json.dumps(about_it, indent=2) + "\n").encode())


def rejects_file(out: Path) -> Path:
    """Where an export lists the rows that it could not read or write."""
    return out.with_name(f"{out.name}.rejects.jsonl")


def _check_fits(store: RegionStore, format: str) -> None:  # noqa: A002
    """Sees that of the first pictures one fits into the format, before anything is written.

    Raises:
        DataError: why the first does not, and what would work.
    """
    sample = _sample(store)
    refused = _refused(format, sample, store.spec)
    if refused is None:
        return
    key, why = refused
    others = [name for name in NAMES if _refused(name, sample, store.spec) is None]
    advice = [f"write {' or '.join(others)}"] if others else ["`diptych regions import` keeps them as they are"]
    if why == NO_NAMES:
        old = isinstance(store, OldStore)
        advice.insert(0, f"{'give them by' if old else 'import the old files again with'} --classes FILE")
    raise DataError(f"the regions of {key!r}: {why}; {', or '.join(advice)}")


def _sample(store: RegionStore) -> list[tuple[str, Regions]]:
    """The first pictures that are whole, FIRST of them with regions.

    Raises:
        DataError: none is whole.
    """
    damaged: DataError | None = None
    sample: list[tuple[str, Regions]] = []
    num = 0
    for key in store.keys():  # noqa: SIM118 - a store is no dict
        try:
            sample.append((key, store.regions(key)))
        except DataError as error:
            damaged = damaged or error
            continue
        num += len(sample[-1][1]) > 0
        if num == FIRST:
            break
    if not sample:
        raise DataError(f"{store.path} has no whole row ({damaged})")
    return sample


def _refused(format: str, sample: list[tuple[str, Regions]], spec: RegionSpec) -> tuple[str, str] | None:  # noqa: A002
    """The first picture that does not fit, and why; None where one with regions does, since nothing fits anywhere."""
    refused = None
    for key, regions in sample:
        try:
            _rows(format, key, regions, spec)
            if len(regions):
                return None
        except DataError as error:
            refused = refused or (key, reason_of(key, error))
    return refused


def _rows(format: str, key: str, regions: Regions, spec: RegionSpec) -> list[bytes]:  # noqa: A002
    """What the files of `format` say of a picture, one by one."""
    return [row(key, regions, spec) for row in ROWS[format].values()]


class _Fitting:
    """The rows of a store's pictures in one format, one by one; the pictures of which there are none are listed."""

    def __init__(self, store: RegionStore, format: str, log: RejectLog, bar: Bar) -> None:  # noqa: A002
        self.pictures = 0
        self.lost: set[str] = set()
        """What the format leaves out of them."""
        self.reasons: Counter[str] = Counter()
        self._store, self._format, self._log, self._bar = store, format, log, bar

    def rows(self, there: Container[str] = ()) -> Iterator[tuple[str, list[bytes]]]:
        """Keys, and a row for each file of the format, in the order of the store; of those that are there, none."""
        for reject in rejects_of(self._store):
            self._reject(reject)
        for key in self._store.keys():  # noqa: SIM118 - a store is no dict
            rows: list[bytes] = []
            try:
                regions = self._store.regions(key)
                if key not in there:
                    rows = _rows(self._format, key, regions, self._store.spec)
                self.lost |= left_out(self._format, key, regions, self._store.spec)
                self.pictures += 1
            except DataError as error:
                self._reject(Reject(key, str(self._store.path), reason_of(key, error)))
            if rows:
                yield key, rows
            self._bar.advance(note=f"{self.reasons.total():,} rejected" if self.reasons else "")

    def _reject(self, reject: Reject) -> None:
        self._log.add(reject)
        self.reasons[reject.reason] += 1


def _about(store: RegionStore, format: str) -> dict[str, Any]:  # noqa: A002
    """What an unfinished attempt is of, as it lies beside it."""
    told = {"format": format, "source": str(store.path.resolve()), "pictures": len(store), "spec": asdict(store.spec)}
    return json.loads(json.dumps(told))


def _begin(partial: Path, about: Path, wanted: Mapping[str, Any]) -> None:
    """Goes on with an unfinished attempt of the same call alone.

    Raises:
        DataError: it is of another; in what, and what to do.
    """
    if partial.exists():
        try:
            found = json.loads(about.read_bytes())
            differing = _differing(found, wanted)
        except (OSError, ValueError, TypeError, LookupError):
            differing = "nothing beside it says of what"
        if differing:
            raise DataError(
                f"{partial} was begun by another export ({differing}); go on with that one by its own command, choose "
                f"another OUT, or remove {partial} to start anew"
            )
    write_whole(about, (json.dumps(wanted) + "\n").encode())


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In what two exports differ, in words; "" where they are the same."""
    told = [
        f"{name}: {found[name]} there, {wanted[name]} here"
        for name in wanted
        if name != "spec" and found[name] != wanted[name]
    ]
    specs = difference(RegionSpec.of(found["spec"]), RegionSpec.of(wanted["spec"]))
    return "; ".join([*told, specs] if specs else told)


def _write(fitting: _Fitting, format: str, partial: Path) -> None:  # noqa: A002
    """Writes the files; what is there of an earlier attempt stays."""
    names = list(ROWS[format])
    if format == "uniter-npz":
        partial.mkdir(exist_ok=True)
        there = {name for file in partial.glob("*.npz") for name in (file.name, file.stem)}
        for key, (value,) in fitting.rows(there):
            write_whole(partial / npz_name(key), value)
    elif names == [""]:
        append(fitting.rows, [partial])
    else:
        partial.mkdir(exist_ok=True)
        files = [partial / name for name in names]
        append(fitting.rows, files)
        write_lists(files)
