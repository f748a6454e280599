"""Training on one GPU: through the command line, killed and gone on with, in parts, and what is loaded of it.

What CUDA does not promise, these tests do not ask: sums there may be added in another order from run to run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing import assert_close

import diptych
from diptych import systems
from diptych.checkpoint.store import best_or_last
from diptych.data.region_join import region_columns
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.errors import OutOfMemoryError
from diptych.objectives.contrastive import Contrastive
from diptych.overrides import apply_overrides
from diptych.train import parallel as module
from diptych.train.device import Precision
from diptych.train.fit import fit
from diptych.train.gathering import gather_rows
from diptych.train.learner import Learner
from diptych.train.parallel import Parallel
from diptych.train.step import Step

pytestmark = pytest.mark.gpu

FEW = ("training.steps=6", "training.batch=24", "training.eval_every=4", "training.eval_rows=20", "inputs.workers=0")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, chance_regions) -> Table:
    """With regions drawn by chance."""
    folder = tmp_path_factory.mktemp("world")
    draw_scenes(folder / "scenes", easy(num=160, seed=3, size_px=48), workers=1)
    table = open_table(folder / "scenes")
    return table.joined(region_columns([chance_regions.write_regions(table, folder / "store")]))


def job_of(scenes: Table, system: str, *settings: str):
    run = apply_overrides(systems.recipe(system, "tiny"), [*FEW, *settings])
    rows = scenes.split("train")
    return systems.build(run, texts=rows.texts(), rows=rows)


def numbers(out: Path) -> list[tuple[int, float]]:
    told = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(event["step"], event["loss"]) for event in told if event["event"] in ("step", "eval")]


def dies_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Learner.update

    def dying(self: Learner, batch: Any, targets: Any, number: int, **settings: Any) -> Any:
        if number == step:
            raise SystemExit(9)
        return update(self, batch, targets, number, **settings)

    monkeypatch.setattr(Learner, "update", dying)


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
def test_a_clip_killed_and_gone_on_with_ends_as_if_it_never_was(
    exit_code, scenes, tmp_path, monkeypatch, capsys, precision
):
    more = [f"training.precision={precision}", "training.checkpoint_every=2", "optim.ema=0.9"]
    settings = [word for one in (*FEW, *more) for word in ("--set", one)]
    command = ("train", "clip", "tiny", "--data", scenes.path, "--device", "cuda", *settings)
    assert exit_code(*command, "--out", tmp_path / "whole") == 0
    dies_at(5, monkeypatch)
    assert exit_code(*command, "--out", tmp_path / "run") == 9
    monkeypatch.undo()
    assert exit_code(*command, "--out", tmp_path / "run", "--resume") == 0
    assert "Going on from step 4" in capsys.readouterr().err
    start = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert start["machine"]["device"] == torch.cuda.get_device_name()
    assert_close(numbers(tmp_path / "run"), numbers(tmp_path / "whole"), rtol=1e-3, atol=1e-3)
    one, other = (best_or_last(tmp_path / name).model() for name in ("run", "whole"))
    assert_close(one, other, rtol=1e-2, atol=2e-3)
    assert (
        exit_code("evaluate", tmp_path / "run", "--task", "retrieval", "--data", scenes.path, "--device", "cuda") == 0
    )
    assert "R@1" in capsys.readouterr().out


@pytest.mark.parametrize("system", systems.NAMES)
def test_a_gpu_learns_what_a_cpu_does(scenes, tmp_path, system):
    """Of what has no dropout; a detector's samples are drawn on the CPU."""
    for device in ("cpu", "cuda"):
        fit(job_of(scenes, system, "training.precision=float32"), scenes, tmp_path / device, device=device)
    ours, theirs = numbers(tmp_path / "cuda"), numbers(tmp_path / "cpu")
    assert_close(ours[:2], theirs[:2], rtol=1e-4, atol=1e-4)
    assert_close(ours, theirs, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("system", systems.NAMES)
@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_every_room_trains_in_the_precision_of_a_gpu(scenes, tmp_path, system, precision):
    fit(job_of(scenes, system, f"training.precision={precision}"), scenes, tmp_path / "run", device="cuda")
    losses = [loss for _, loss in numbers(tmp_path / "run")]
    assert len(losses) >= 6 and all(torch.tensor(losses).isfinite())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training"]["micro_batch"] == 24


def test_what_was_trained_embeds_and_matches_alike_on_both(scenes, tmp_path):
    samples = [scenes.split("test").sample(row, ("regions",)) for row in range(7)]
    texts = [sample.texts[0] for sample in samples]
    fit(job_of(scenes, "clip"), scenes, tmp_path / "clip", device="cuda")
    there, here = (diptych.load(tmp_path / "clip", device=device) for device in ("cuda", "cpu"))
    assert_close(there.encode_image(samples).cpu(), here.encode_image(samples), rtol=0, atol=1e-4)
    assert_close(there.encode_text(texts).cpu(), here.encode_text(texts), rtol=0, atol=1e-4)
    fit(job_of(scenes, "uniter"), scenes, tmp_path / "uniter", device="cuda")
    pairs = [(row, (row * 3) % 7) for row in range(7)]
    found = [
        diptych.load(tmp_path / "uniter", device=device).match(samples, texts, pairs).cpu()
        for device in ("cuda", "cpu")
    ]
    assert_close(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
def test_caching_gradients_changes_none(small_room, small_table, compiled):
    job = small_room.small_job(settings=["model.dropout=0.0", f"training.compile={str(compiled).lower()}"])
    learner = Learner(job, steps=6, device=torch.device("cuda"), precision=Precision("float32", "as set"))
    rows = small_table.split("train")
    batch = job.inputs.collate([job.inputs.item(rows.sample(row, ()), None) for row in range(17)])
    state = {name: value.clone() for name, value in learner.model.state_dict().items()}
    found = []
    for micro_batch in (None, 5):
        learner.model.load_state_dict(state)
        update = learner.update(batch, {}, 1, micro_batch=micro_batch)
        gradients = {name: one.grad.clone() for name, one in learner.model.named_parameters()}
        found.append((update.loss, gradients))
    assert_close(*found, rtol=1e-4, atol=1e-5)


def test_memory_that_runs_out_is_told_with_what_saves_it(scenes, tmp_path):
    device, large = torch.device("cuda"), ("training.batch=100", "model.image_size=224", "training.steps=1")
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved(device)
    try:
        torch.cuda.set_per_process_memory_fraction((held + 2**27) / total)
        with pytest.raises(OutOfMemoryError, match=r"(?s)memory ran out: CUDA out of memory.*training\.micro_batch"):
            fit(
                job_of(scenes, "clip", *large, "training.micro_batch=none", "training.precision=float32"),
                scenes,
                tmp_path / "run",
                device="cuda",
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@pytest.fixture
def nccl(monkeypatch):
    torch.cuda.set_device(0)
    dist.init_process_group("cpu:gloo,cuda:nccl", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("nccl")
def test_ddp_and_gathering_over_nccl_in_a_group_of_one(small_room):
    """One GPU can show no more: NCCL refuses two ranks on it."""
    from diptych.data.batch import Batch, ImagePart, TextPart

    batch = Batch(
        keys=tuple("abcd"),
        group=torch.arange(4),
        text=TextPart(ids=torch.randint(97, 122, (4, 5)), mask=torch.ones(4, 5, dtype=torch.bool)),
        image=ImagePart(pixels=torch.randint(0, 256, (4, 3, 4, 4), dtype=torch.uint8)),
    ).to("cuda")
    found = []
    for alone in (True, False):
        model = small_room.SmallRoom(small_room.SmallConfig(dropout=0.0)).to("cuda")
        parallel = Parallel(Step(model, Contrastive()))
        if not alone:
            parallel._ddp = module._data_parallel(parallel.step)
        with parallel.part(last=True):
            parallel(batch, {}).total().backward()
        found.append({name: one.grad for name, one in model.named_parameters()})
    assert_close(*found)
    rows = torch.randn(4, 3, device="cuda", requires_grad=True)
    gathered = gather_rows(rows, [4])
    gathered.square().sum().backward()
    assert torch.equal(gathered, rows) and torch.equal(rows.grad, 2 * rows)
