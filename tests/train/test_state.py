"""What is told of a run that goes on with other things than it began with."""

from __future__ import annotations

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
