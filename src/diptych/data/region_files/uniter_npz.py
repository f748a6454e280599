"""UNITER's folder of .npz files, one a picture, all regions best first."""

from __future__ import annotations

from pathlib import Path

from diptych.data.region_files.old_store import OldStore, named
from diptych.data.region_files.uniter_values import regions_of, spec_of
from diptych.data.regions import Regions, RegionSpec
from diptych.errors import DataError


class UniterNpz(OldStore):
    """Keys are the files' names, as UNITER's databases have them. `num_kept` cuts as its reader does."""

    format = "uniter-npz"

    def __init__(self, path: Path, spec: RegionSpec | None, classes: tuple[str, ...], attributes: tuple[str, ...]):
        """Lists the files, and reads up to the first whole one.

        Raises:
            DataError: none of them is whole.
        """
        files = [path] if path.is_file() else sorted(path.glob("*.npz"))
        places = {file.name: file for file in files}
        super().__init__(path, places, spec or spec_of(_first(path, files)))
        self.spec = named(self.spec, classes, attributes)

    def _read(self, key: str, place: Path) -> Regions:
        return regions_of(place.read_bytes())


def _first(path: Path, files: list[Path]) -> Regions:
    why = ""
    for file in files:
        try:
            return regions_of(file.read_bytes())
        except (ValueError, KeyError) as error:
            why = why or f"{file.name}: {error}"
    raise DataError(f"{path} has no whole .npz file of regions ({why})")
