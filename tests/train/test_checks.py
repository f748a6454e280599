"""What is told before a run begins of a table that cannot serve it."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest

from diptych import systems
from diptych.data.region_join import region_columns
from diptych.data.sampler import scattered_rows
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.errors import DataError
from diptych.train.checks import TRIED, check_tasks
from diptych.train.job import Job
from diptych.train.run import Run


@pytest.fixture(scope="module")
def without_soft_labels(tmp_path_factory: pytest.TempPathFactory, chance_regions: ModuleType) -> Table:
    folder = tmp_path_factory.mktemp("checks")
    draw_scenes(folder / "scenes", easy(num=60, seed=2, size_px=32), workers=1)
    scenes = open_table(folder / "scenes")
    return scenes.joined(region_columns([chance_regions.write_regions(scenes, folder / "regions", soft_labels=False)]))


def built(table: Table, run: Run) -> Job:
    rows = table.split("train")
    return systems.build(replace(run, model=replace(run.model, width=16)), texts=rows.texts(), rows=rows)


def test_a_task_that_no_row_serves_is_told_before_the_first_step(without_soft_labels: Table) -> None:
    run = systems.recipe("uniter", "tiny")
    with pytest.raises(DataError, match=r"mrc can be drawn of none of .* leave the task out .* --soft-labels"):
        check_tasks(built(without_soft_labels, run), without_soft_labels.split("train"))
    others = replace(run.objective, share=replace(run.objective.share, mrc=0))
    check_tasks(built(without_soft_labels, replace(run, objective=others)), without_soft_labels.split("train"))


def test_a_task_that_some_row_serves_is_tried(without_soft_labels: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bad row among the first costs itself alone; it is for the loader to count."""
    run = systems.recipe("uniter", "tiny")
    others = replace(run.objective, share=replace(run.objective.share, mrc=0))
    job, rows = built(without_soft_labels, replace(run, objective=others)), without_soft_labels.split("train")
    read = type(job.inputs).item
    tried = [rows.key(row) for row in scattered_rows(len(rows), TRIED)]
    bad = set(tried) - {tried[3]}
    asked = []

    def item(self, sample, rng):
        asked.append(sample.key)
        if sample.key in bad:
            raise DataError("bad")
        return read(self, sample, rng)

    monkeypatch.setattr(type(job.inputs), "item", item)
    check_tasks(job, rows)
    assert set(tried[:4]) <= set(asked) and not set(tried[4:]) & set(asked)
    bad.add(tried[3])
    with pytest.raises(DataError, match=f"mlm can be drawn of none of {TRIED} rows of .*scenes, train"):
        check_tasks(job, rows)
