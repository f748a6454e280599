"""Memory that runs out is told with the settings that take less, and how much each saves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from diptych import systems
from diptych.data.batch import Batch, Targets
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table
from diptych.errors import OutOfMemoryError
from diptych.objectives.contrastive import Contrastive
from diptych.objectives.objective import Encode, Loss
from diptych.overrides import apply_overrides
from diptych.progress import spoken_size
from diptych.train import micro_batch
from diptych.train.budget import Layout, memory_parts
from diptych.train.cost import ModelCost
from diptych.train.fit import fit
from diptych.train.job import Job
from diptych.train.learner import Learner
from diptych.train.out_of_memory import advice, knobs, out_of_memory_explained, savings
from diptych.train.run import Run

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.65 GiB"


def cost(run: Run) -> ModelCost:
    """Eight bytes of activations a pixel of a side, half with checkpointing, half in bf16."""
    side = run.model.image_size
    halves = int(run.training.activation_checkpointing) + int(run.training.precision == "bf16")
    return ModelCost(
        parameters=1000,
        flops=0,
        activation_bytes=8 * side >> halves,
        constant_bytes=0,
        batch_bytes=3,
        vector_width=10,
        largest_block=0,
        root=0,
    )


def clip(*settings: str) -> Run:
    """Side 48, batches of 256."""
    return apply_overrides(systems.recipe("clip", "demo"), settings)


def saved(run: Run) -> dict[str, int]:
    return {one.setting: num for one, num in savings(run, knobs(run), cost)}


def test_what_each_setting_saves_by_hand() -> None:
    vectors, tile = 4 * 4 * 10, 2 * 4
    assert saved(clip("training.micro_batch=64")) == {
        "training.micro_batch=32": 32 * 8 * 48,
        "training.activation_checkpointing=true": 64 * 4 * 48,
        "training.precision=bf16": 64 * 4 * 48,
        "training.batch=128": 128 * (3 + vectors) + tile * (256**2 - 128**2),
        "model.image_size=32": 64 * 8 * (48 - 32),
    }


def test_a_batch_that_goes_through_at_once_is_halved_into_micro_batches() -> None:
    assert saved(clip("training.micro_batch=none"))["training.micro_batch=128"] == 128 * 8 * 48


def test_a_rank_of_several_is_told_of_its_own_share() -> None:
    settings = [one.setting for one in knobs(clip(), ranks=4)]
    assert "training.micro_batch=32" in settings and "training.batch=128" in settings
    one, four = (dict(savings(clip(), knobs(clip(), ranks), cost, ranks)) for ranks in (1, 4))
    assert [num for knob, num in four.items() if "checkpointing" in knob.setting] == [64 * 4 * 48]
    assert [num for knob, num in one.items() if "checkpointing" in knob.setting] == [256 * 4 * 48]


def test_what_saves_nothing_is_not_named() -> None:
    run = clip("training.micro_batch=1", "training.activation_checkpointing=true", "training.precision=bf16")
    assert list(saved(run)) == ["training.batch=128", "model.image_size=32"]


def test_pictures_shrink_by_whole_patches() -> None:
    for name, side in (("vit_b_32", 160), ("vit_l_14", 168), ("rn50x4", 192)):
        assert f"model.image_size={side}" in [one.setting for one in knobs(systems.recipe("clip", name))]


def test_the_figures_are_those_of_the_formula() -> None:
    job = Job(run=clip("training.micro_batch=64"), model=None, objective=None, inputs=None, cost=cost)  # type: ignore[arg-type]
    assert "training.micro_batch=32 saves 12.3 kB: the same gradient" in advice(job, "float32")
    many = replace(job, run=apply_overrides(job.run, ["training.batch=65536", "training.micro_batch=32768"]))
    parts = memory_parts(cost(many.run), Layout(batch=65536, ranks=1, parallel="ddp", micro_batch=32768))
    assert f"saves {spoken_size(parts['activations'] / 2)}" in advice(many, "float32")


def test_a_pass_over_two_rows_is_advised_of_one_row_and_of_nothing_that_is_not_in_it() -> None:
    job = Job(run=clip(), model=None, objective=None, inputs=None, cost=cost)  # type: ignore[arg-type]
    _, *settings, last = advice(job, "float32", rows=2).splitlines()
    assert [line.partition(":")[0] for line in settings] == [
        "  training.micro_batch=1 saves 384 B",
        "  training.activation_checkpointing=true saves 384 B",
        "  training.precision=bf16 saves 384 B",
        "  model.image_size=32 saves 256 B",
    ]
    assert last == "It was over 2 rows: where these are too little, take a smaller model."


def test_figures_that_cannot_be_had_leave_the_settings() -> None:
    def short(run: Run) -> ModelCost:
        raise MemoryError

    job = Job(run=clip(), model=None, objective=None, inputs=None, cost=short)  # type: ignore[arg-type]
    assert "training.micro_batch=128: the same gradient" in advice(job, "float32")


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError(CUDA), MemoryError(), RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")],
)
def test_every_device_has_its_own_words(small_room: ModuleType, error: Exception) -> None:
    with (
        pytest.raises(OutOfMemoryError, match="memory ran out") as told,
        out_of_memory_explained(small_room.small_job, "float32"),
    ):
        raise error
    assert (str(error) or "MemoryError") in str(told.value)


def test_other_errors_stay_as_they_are(small_room: ModuleType) -> None:
    error = RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RuntimeError) as told, out_of_memory_explained(small_room.small_job, "float32"):
        raise error
    assert told.value is error


class Hungry(Contrastive):
    """Needs too much memory after its first steps, as a GPU says it."""

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        object.__setattr__(self, "steps", getattr(self, "steps", 0) + 1)
        if self.steps > 8:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError(CUDA)
        return super().loss(encode, batch, targets)


def test_a_run_ends_with_the_advice_in_its_log(small_room: ModuleType, small_table: Table, tmp_path: Path) -> None:
    job = small_room.small_job()
    with pytest.raises(OutOfMemoryError, match=r"2\.00 GiB.*\n.*\n  training\.micro_batch=2: the same gradient"):
        fit(Job(job.run, job.model, Hungry(), job.inputs), small_table, tmp_path, device="cpu")
    end = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert end["status"] == "failed" and "training.micro_batch=2" in end["text"]
    assert (tmp_path / "last").is_file()
    fit(small_room.small_job(settings=["training.micro_batch=2"]), small_table, tmp_path, device="cpu", resume=True)


def test_the_pass_that_begins_to_measure_is_told_by_its_rows(
    small_room: ModuleType, small_table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ "auto" is not the whole batch here."""

    def one_pass(learner: Learner, batch: Batch, targets: Targets, size: int) -> None:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(micro_batch, "_one_pass", one_pass)
    with pytest.raises(OutOfMemoryError, match=r"\n  training\.micro_batch=1: the same gradient") as told:
        fit(small_room.small_job(settings=["training.batch=9"]), small_table, tmp_path, device="cpu")
    assert "training.batch" not in str(told.value) and "over 2 rows" in str(told.value)


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from diptych import open_table, systems
from diptych.overrides import apply_overrides
from diptych.errors import OutOfMemoryError
from diptych.train.fit import fit
torch.set_num_threads(1)
table = open_table(sys.argv[1])
run = apply_overrides(systems.recipe("clip", "tiny"), sys.argv[3:])
job = systems.build(run, texts=table.split("train").texts())
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**28, resource.RLIM_INFINITY))
try:
    fit(job, table, Path(sys.argv[2]), device="cpu")
except OutOfMemoryError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on what a process may have")
def test_a_cpu_that_gives_no_more_is_told_with_figures(tmp_path: Path) -> None:
    draw_scenes(tmp_path / "scenes", easy(num=64, size_px=48), workers=1)
    asked = ["training.steps=1", "training.micro_batch=none", "inputs.workers=0", "model.image_size=512"]
    done: Any = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "scenes"), str(tmp_path / "run"), *asked],
        capture_output=True,
        text=True,
    )
    assert "can't allocate memory" in done.stdout, done.stderr
    assert "training.micro_batch=16 saves" in done.stdout
    assert "MB: the same gradient" in done.stdout or "GB: the same gradient" in done.stdout
