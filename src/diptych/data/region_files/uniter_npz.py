"""UNITER's folder of .npz files, one a picture, all regions best first."""

from __future__ import annotations

import os
from pathlib import Path

from diptych.data.region_files.keys import by_key
from diptych.data.region_files.old_store import OldStore, first_whole, named
from diptych.data.region_files.uniter_values import npz_regions, num_soft_labels, spec_of
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
        first = first_whole(path, places.values(), lambda file: npz_regions(file.read_bytes()))
        told = named(spec or spec_of(first), classes, attributes)
        super().__init__(path, places, told, rejects=rejects, num_soft_labels=num_soft_labels(first))

    def _read(self, key: str, place: Path) -> Regions:
        return npz_regions(place.read_bytes())
