import json
from pathlib import Path

import pytest

from diptych.cli.json_file import write_json


def test_makes_the_folders_and_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "scores.json"
    write_json(path, {"recall": [0.5, None]})
    assert json.loads(path.read_text()) == {"recall": [0.5, None]}
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]


def test_a_nan_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_json(path, {"recall": 0.5})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"recall": float("nan")})
    assert json.loads(path.read_text()) == {"recall": 0.5}
