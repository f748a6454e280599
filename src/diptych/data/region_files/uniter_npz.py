"""UNITER's folder of .npz files, one a picture, all regions best first."""

from __future__ import annotations

import os
from pathlib import Path

from diptych.data.region_files.keys import by_key
from diptych.data.region_files.old_store import OldStore, first_whole, named
from diptych.data.region_files.uniter_values import regions_of, spec_of
from diptych.data.regions import Regions, RegionSpec


class UniterNpz(OldStore):
    """Keys are the files' names, as UNITER's databases have them. `num_kept` cuts as its reader does."""

    format = "uniter-npz"

    def __init__(self, path: Path, spec: RegionSpec | None, classes: tuple[str, ...], attributes: tuple[str, ...]):
        """Lists the files, and reads up to the first whole one.

        Raises:
            DataError: none of them is whole.
        """
        files = [path] if path.is_file() else sorted(path.glob("*.npz"))
        places, rejects = by_key(path, ((os.fsencode(file.name), file) for file in files))
        first = first_whole(path, places.values(), lambda file: regions_of(file.read_bytes()))
        super().__init__(path, places, named(spec or spec_of(first), classes, attributes), rejects=rejects)

    def _read(self, key: str, place: Path) -> Regions:
        return regions_of(place.read_bytes())
