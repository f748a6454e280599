"""Runs over several tables: what is mixed is written down, and a run that goes on is the run that was not killed."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from diptych.checkpoint.store import best_or_last
from diptych.data.mixing import mix_tables
from diptych.data.table import Table, open_table
from diptych.errors import DataError, RunExistsError, UsageError
from diptych.train.fit import fit
from diptych.train.plan import make_plan
from diptych.train.review import write_report

SETTINGS = ("training.shares=2,1", "training.steps=10", "training.micro_batch=none")


@pytest.fixture
def tables(tmp_path: Path, small_room: ModuleType) -> list[Table]:
    """Of 23 and of 11 rows under the same keys; the first row of each is bad."""
    return [
        open_table(small_room.write_table(tmp_path / name, num=num, num_bad=1))
        for name, num in (("one", 23), ("two", 11))
    ]


def events(out: Path, kind: str) -> list[dict]:
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [one for one in found if one["event"] == kind]


def test_a_killed_run_that_goes_on_is_the_run_that_was_not(
    tables: list[Table], small_room: ModuleType, tmp_path: Path
) -> None:
    table = mix_tables(tables)
    fit(small_room.small_job(settings=SETTINGS), table, tmp_path / "whole", device="cpu")
    with pytest.raises(small_room.Killed):
        fit(
            small_room.small_job(settings=SETTINGS),
            table,
            tmp_path / "run",
            device="cpu",
            progress=small_room.KillAt(8),
        )
    fit(small_room.small_job(settings=SETTINGS), table, tmp_path / "run", device="cpu", resume=True)
    whole, gone_on = best_or_last(tmp_path / "whole").model(), best_or_last(tmp_path / "run").model()
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole)
    logged = [[(one["step"], one["loss"], one["table"]) for one in events(tmp_path / name, "step")] for name in
              ("whole", "run")]  # fmt: skip
    assert logged[0] == logged[1]


def test_what_was_mixed_is_written_down(tables: list[Table], small_room: ModuleType, tmp_path: Path) -> None:
    table, out = mix_tables(tables), tmp_path / "run"
    job = small_room.small_job(settings=SETTINGS)
    fit(job, table, out, device="cpu")
    (start,) = events(out, "start")
    told = [(one["table"], one["rows"], one["share"]) for one in start["mixed"]]
    assert told == [(str(tmp_path / "one"), 23, 2), (str(tmp_path / "two"), 11, 1)]
    assert start["rows"] == 34
    order = make_plan(job, table, tmp_path / "x", "cpu").order
    assert [one["table"] for one in events(out, "step")] == [order.turn(step)[0] + 1 for step in range(10)]
    assert sorted(one["table"] for one in events(out, "step"))[:3] == [1, 1, 1]
    assert json.loads((out / "run.json").read_text())["training"]["shares"] == [2, 1]
    assert {one["rows"] for one in events(out, "eval")} == {18}, "the validation rows of both"
    card = (out / "card.md").read_text()
    assert "| table 1 | one, train, 23 rows, 2 of 3 steps" in card and "| table 2 | two, train, 11 rows" in card
    page = write_report(out, encoder=None, table=table).report.read_text()
    assert "two, 11 rows, 1 of 3 steps" in page
    bad = {one["key"] for one in events(out, "reject")}
    assert bad and bad <= {"1:train0", "2:train0"}


def test_bad_rows_of_two_tables_under_one_key_are_two(
    tables: list[Table], small_room: ModuleType, tmp_path: Path
) -> None:
    settings = ["training.steps=none", "training.epochs=3", "training.micro_batch=none", "training.batch=3"]
    fit(small_room.small_job(settings=settings), mix_tables(tables), tmp_path / "run", device="cpu")
    assert sorted(one["key"] for one in events(tmp_path / "run", "reject")) == ["1:train0", "2:train0"]
    assert best_or_last(tmp_path / "run").state["bad_rows"] in ([0, 23], [23, 0])


def test_a_run_goes_on_with_its_own_tables_and_shares_alone(
    tables: list[Table], small_room: ModuleType, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    fit(small_room.small_job(settings=SETTINGS), mix_tables(tables), out, device="cpu")

    def refused(table: Table, *settings: str) -> str:
        with pytest.raises(RunExistsError) as error:
            fit(small_room.small_job(settings=[*SETTINGS, *settings]), table, out, device="cpu", resume=True)
        return str(error.value)

    assert "training.shares: [2, 1] in the run, [1, 1] now" in refused(mix_tables(tables), "training.shares=1,1")
    assert "training.shares: [2, 1] in the run, None now" in refused(tables[0], "training.shares=none")
    swapped = refused(mix_tables(tables[::-1]))
    assert f"2 tables, number 1 of them with fingerprint {tables[0].fingerprint}" in swapped
    assert f"{tables[1].path} has {tables[1].fingerprint}" in swapped and "in the same order" in swapped

    other = tmp_path / "by_rows"
    few = ["training.steps=2"]
    fit(small_room.small_job(settings=few), mix_tables(tables), other, device="cpu")
    with pytest.raises(RunExistsError, match="begun on 2 tables, found one table"):
        fit(small_room.small_job(settings=few), tables[0], other, device="cpu", resume=True)


def test_shares_are_expected_for_as_many_tables(tables: list[Table], small_room: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"training\.shares is 2,1, and tables to train on: 1"):
        fit(small_room.small_job(settings=SETTINGS), tables[0], tmp_path / "run", device="cpu")
    with pytest.raises(UsageError, match=r"training\.shares is 2,0; expected whole numbers from 1"):
        small_room.small_job(settings=["training.shares=2,0"])
    with pytest.raises(UsageError, match=r"expected a whole number, or several separated by commas or none"):
        small_room.small_job(settings=["training.shares=half"])


def test_a_table_without_a_row_to_learn_from_is_told(
    tables: list[Table], small_room: ModuleType, tmp_path: Path
) -> None:
    job = small_room.small_job(settings=["training.eval_split=test"])
    with pytest.raises(DataError, match=r"one: .*'test'.*--set training\.eval_split=NAME"):
        fit(job, mix_tables(tables), tmp_path / "run", device="cpu")


def test_a_table_smaller_than_a_batch_gives_all_its_rows(
    tables: list[Table], small_room: ModuleType, tmp_path: Path
) -> None:
    settings = ["training.steps=2", "training.batch=20", "training.micro_batch=none"]
    fit(small_room.small_job(settings=settings), mix_tables(tables), tmp_path / "run", device="cpu")
    (note,) = [one["text"] for one in events(tmp_path / "run", "note") if "asked for" in one["text"]]
    assert note.startswith(f"Each batch of {tables[1].path} has 11 rows, all of 'train', and not the 20")
