"""What is told of a run that goes on with other things than it began with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from diptych.data.table import Table
from diptych.errors import RunExistsError
from diptych.train.beginning import begin_state
from diptych.train.job import SCRATCH
from diptych.train.plan import make_plan
from diptych.train.state import TrainState, other_partners


def test_partners_that_were_not_there_are_to_be_left_out() -> None:
    assert "Leave out --partners" in other_partners("", "abc")
    assert "of fingerprint abc, and none are given. Pass the --partners" in other_partners("abc", "")
    assert "of fingerprint abc, and those that are given have def" in other_partners("abc", "def")


def test_an_older_checkpoint_does_not_say_what_partners_it_had() -> None:
    kept = TrainState(table="t", partners="abc").plain()
    assert TrainState.of(kept).partners == "abc"
    del kept["partners"]
    assert TrainState.of(kept).partners is None


def test_what_it_did_not_say_is_taken_from_the_first_call_that_goes_on(
    small_room: ModuleType, small_table: Table, tmp_path: Path
) -> None:
    plan = make_plan(small_room.small_job(), small_table, tmp_path / "run", "cpu")
    began = replace(TrainState(table=small_table.fingerprint), partners=None).plain()
    state, _ = begin_state(SimpleNamespace(state=began), plan, SCRATCH)
    assert state.partners == plan.partners == ""
    with pytest.raises(RunExistsError, match="with partners of fingerprint abc, and none are given"):
        begin_state(SimpleNamespace(state=began | {"partners": "abc"}), plan, SCRATCH)
