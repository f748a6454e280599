"""One process of an extraction: TABLE OUT [PAUSE_S]."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from conftest import SPEC, Brightness  # type: ignore[import-not-found]
from diptych.data.region_shards import RegionShards
from diptych.data.table import open_table
from diptych.prepare.extraction import Asked, extract_regions
from diptych.ranks import join_ranks


class Slow(Brightness):
    def detect(self, pictures: Sequence[Any], given: Any = None) -> Any:
        time.sleep(float(sys.argv[3]) if len(sys.argv) > 3 else 0.0)
        return super().detect(pictures, given)


def main() -> None:
    with join_ranks("cpu") as ranks:
        shards = RegionShards(Path(sys.argv[2]), SPEC, source="test")
        asked = Asked(batch=2, pictures_per_shard=4, max_rejects=0.5)
        extract_regions(Slow(), open_table(Path(sys.argv[1])), shards, asked, ranks=ranks)


if __name__ == "__main__":
    main()
