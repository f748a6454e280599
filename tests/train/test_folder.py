"""A run folder is begun once, and goes on only as the same run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from diptych.errors import CheckpointError, RunExistsError
from diptych.overrides import apply_overrides
from diptych.train.folder import FREE, begin_folder, holds_run
from diptych.train.run import plain_run


def test_a_folder_becomes_a_run_when_its_settings_are_in(small_room: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "run"
    assert not holds_run(out)
    begin_folder(out, small_room.small_run(), small_room.SmallInputs(), resume=False)
    assert holds_run(out) and (out / "letters.txt").read_text() == "ord"
    plain = json.loads((out / "run.json").read_text())
    assert plain["format"] == 1 and plain["objective"] == {"name": "contrastive", "known_pairs": False}
    assert plain["optim"]["lr"] == 1e-2


def test_resume_begins_where_there_is_nothing_yet(small_room: ModuleType, tmp_path: Path) -> None:
    begin_folder(tmp_path, small_room.small_run(), small_room.SmallInputs(), resume=True)
    assert holds_run(tmp_path)


def test_every_differing_setting_is_named(small_room: ModuleType, tmp_path: Path) -> None:
    run, inputs = small_room.small_run(), small_room.SmallInputs()
    begin_folder(tmp_path, run, inputs, resume=False)
    other = apply_overrides(run, ["optim.betas=0.9,0.99", "training.seed=8", "model.embed_dim=9"])
    with pytest.raises(RunExistsError) as error:
        begin_folder(tmp_path, other, inputs, resume=True)
    for words in ("optim.betas: [0.9, 0.98] in the run, [0.9, 0.99] now", "training.seed", "model.embed_dim: 6"):
        assert words in str(error.value)
    assert "lr" not in str(error.value)


def test_settings_that_no_weight_depends_on_may_change(small_room: ModuleType, tmp_path: Path) -> None:
    run, inputs = small_room.small_run(), small_room.SmallInputs()
    begin_folder(tmp_path, run, inputs, resume=False)
    changed = apply_overrides(run, ["inputs.workers=1", "training.keep=5", "training.log_every=3"])
    begin_folder(tmp_path, changed, inputs, resume=True)
    assert json.loads((tmp_path / "run.json").read_text())["training"]["keep"] == 5


def test_the_free_settings_are_settings(small_room: ModuleType) -> None:
    plain = plain_run(small_room.small_run())
    for name in FREE:
        group, _, field = name.partition(".")
        assert field in plain[group], name


def test_a_run_of_a_newer_format_is_refused(small_room: ModuleType, tmp_path: Path) -> None:
    run, inputs = small_room.small_run(), small_room.SmallInputs()
    begin_folder(tmp_path, run, inputs, resume=False)
    plain = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**plain, "format": 7}))
    with pytest.raises(CheckpointError, match="format 7"):
        begin_folder(tmp_path, run, inputs, resume=True)


def test_a_recipe_of_another_name_is_another_run(small_room: ModuleType, tmp_path: Path) -> None:
    run, inputs = small_room.small_run(), small_room.SmallInputs()
    begin_folder(tmp_path, run, inputs, resume=False)
    with pytest.raises(RunExistsError, match="recipe: 'test' in the run, 'other' now"):
        begin_folder(tmp_path, replace(run, recipe="other"), inputs, resume=True)
