"""The JSON files that commands write, `--json FILE` and the like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON, whole or not at all, and makes the folders on the way.

    Raises:
        ValueError: it holds a NaN or an infinity, which JSON has no word for; say None instead.
    """
    from diptych.checkpoint.files import write_whole  # loads OpenSSL, which --help does without

    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
