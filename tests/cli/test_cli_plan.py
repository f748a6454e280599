"""`diptych plan`: its page, the same as JSON, sizes, and the command it ends with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych import systems
from diptych.cli.plan import machines_of
from diptych.cli.sizes import size_of
from diptych.errors import UsageError
from diptych.train.cost import ModelCost
from diptych.train.run import Run

COST = ModelCost(
    parameters=427_616_513,
    flops=506_009_272_320,
    activation_bytes=41_910_360,
    constant_bytes=756_137_936,
    batch_bytes=151_229,
    vector_width=1536,
    largest_block=12_596_224,
    root=40_252_673,
)
"""Of ViT-L/14 with activation checkpointing, counted by `systems.cost_of` in torch 2.14."""
L14 = "plan clip vit_l_14"
Plan = Callable[[str], list[str]]


@pytest.fixture
def plan(exit_code: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    """The lines that a command prints, of a model whose cost is known."""
    monkeypatch.setattr(systems, "cost_of", lambda run: COST)
    monkeypatch.setenv("COLUMNS", "80")

    def lines(command: str) -> list[str]:
        assert exit_code(*shlex.split(command)) == 0
        return capsys.readouterr().out.splitlines()

    return lines


def row(lines: list[str], name: str) -> list[str]:
    return next(line.removeprefix(name).split() for line in lines if line.startswith(f"{name} "))


def test_both_ways_side_by_side(plan: Plan) -> None:
    lines = plan(f"{L14} --gpus 64 --memory 80GB")
    assert lines[0] == "clip vit_l_14: 427,616,513 parameters, 506 GFLOP a pair"
    assert row(lines, "weights") == ["1.71", "GB", "26.7", "MB"]
    assert row(lines, "pairs at once") == ["512", "512"]
    # 0.2 x 312e12 x 64 GPUs over 4/3 of the operations: checkpointing goes forward twice.
    assert row(lines, "pairs/s, all together") == ["5,919", "5,919"]
    assert "Use DDP: both fit, and DDP sends less." in lines


def test_what_follows_from_too_little_memory_is_said(plan: Plan) -> None:
    lines = plan(f"{L14} --gpus 8 --memory 80GB")
    place = lines.index("4,096 pairs at once do not fit. The first part that does not:")
    assert lines[place + 1] == "  activations (what the backward pass needs of the model)"
    assert lines[place + 2] == "1,366 at once fit: gradient caching follows, for 1/3 more work."
    assert row(lines, "--set training.micro_batch=1366") == ["114", "GB", "fits", "1/3", "more", "work"]


def test_the_assumptions_are_said_and_can_be_changed(plan: Plan) -> None:
    lines = plan(f"{L14} --gpus 64 --memory 80GB --peak 989 --utilisation 0.4 --parallel fsdp2")
    assert "Assumed: a peak of 989 TFLOP/s a GPU in bf16, 0.4 of it reached." in lines
    assert row(lines, "pairs/s, all together") == [f"{0.4 * 989e12 * 64 / (506_009_272_320 * 4 / 3):,.0f}"]
    assert not any("DDP:" in line for line in lines)


@pytest.mark.parametrize(
    ("precision", "memory", "peak"),
    [
        ("auto", "80GB", "312 TFLOP/s a GPU in bf16 (A100)"),
        ("float32", "80GB", "19.5 TFLOP/s a GPU in float32 (A100)"),
        ("float32", "24GiB", "82.6 TFLOP/s a GPU in float32 (RTX 4090)"),
        ("float32", "8GB", "20.3 TFLOP/s a GPU in float32 (RTX 3070)"),
        ("fp16", "12GB", "40.6 TFLOP/s a GPU in fp16 (RTX 3070)"),
    ],
)
def test_the_peak_is_of_the_precision(plan: Plan, precision: str, memory: str, peak: str) -> None:
    lines = plan(
        f"{L14} --gpus 64 --memory {memory} --set training.precision={precision} --set training.micro_batch=none"
    )
    assert f"Assumed: a peak of {peak}, 0.2 of it reached." in lines
    rate = 0.2 * 1e12 * float(peak.split()[0]) * 64 / (506_009_272_320 * 4 / 3)
    assert row(lines, "pairs/s, all together")[0] == f"{rate:,.0f}"


def test_fp16_is_planned_with_ddp_alone_and_says_why(plan: Plan) -> None:
    lines = plan(f"{L14} --gpus 64 --memory 80GB --set training.precision=fp16")
    assert row(lines, "pairs at once") == ["512"]
    assert "Use DDP: under FSDP2, fp16's loss scale is not kept over shares of weights." in lines
    assert lines[-1].endswith("--set training.parallel=ddp")


def test_more_at_once_than_a_rank_has_are_all_it_has(plan: Plan) -> None:
    lines = plan(f"{L14} --gpus 8 --memory 1TB --set training.micro_batch=100000")
    assert row(lines, "pairs at once") == ["4,096", "4,096"]


@pytest.mark.parametrize("columns", [80, 30])
def test_what_is_to_be_pasted_is_never_cut(plan: Plan, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    def cost_of(run: Run) -> ModelCost:
        kept = COST.activation_bytes if run.training.activation_checkpointing else 248_362_328
        return replace(COST, activation_bytes=kept)

    monkeypatch.setattr(systems, "cost_of", cost_of)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = plan(f"{L14} --gpus 64 --memory 80GB --set training.activation_checkpointing=false")
    cells = row(lines, "--set training.activation_checkpointing=true")
    assert cells[:3] == ["106", "GB", "fits"] and (cells[3:] == ["1/3", "more", "work"] or columns == 30)
    assert not any("…" in line or "--resume" in line for line in lines)
    assert all(len(line.rstrip()) <= 80 for line in lines[:-1])


@given(gpus=st.integers(1, 600), gpus_per_node=st.integers(1, 16))
def test_machines_have_as_many_gpus_each(gpus: int, gpus_per_node: int) -> None:
    try:
        nodes = machines_of(gpus, gpus_per_node)
    except UsageError:
        assert gpus % -(-gpus // gpus_per_node) > 0
        return
    assert nodes * (gpus // nodes) == gpus and gpus // nodes <= gpus_per_node
    machines_of(2 * gpus, gpus_per_node)  # what a plan may go on with


@pytest.mark.parametrize(
    ("command", "step"),
    [
        (
            f"{L14} --gpus 64 --memory 80GB --set optim.ema=0.999",
            "torchrun --nnodes 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --nproc-per-node 8 -m diptych train "
            "clip vit_l_14 --set optim.ema=0.999 --data DIR --out RUN --set training.parallel=ddp",
        ),
        (
            f"{L14} --gpus 4 --memory 80GiB --batch 4096 --parallel fsdp2",
            "torchrun --nproc-per-node 4 -m diptych train clip vit_l_14 --batch 4096 --data DIR --out RUN "
            "--set training.parallel=fsdp2",
        ),
        (
            f"{L14} --gpus 8 --memory 80GB --set training.parallel=fsdp2",
            "torchrun --nproc-per-node 8 -m diptych train clip vit_l_14 --set training.parallel=fsdp2 --data DIR "
            "--out RUN",
        ),
        (
            f"{L14} --gpus 12 --memory 80GB",
            "torchrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --nproc-per-node 6 -m diptych train "
            "clip vit_l_14 --data DIR --out RUN --set training.parallel=ddp",
        ),
        (
            f"{L14} --gpus 10 --gpus-per-node 4 --memory 80GB",
            "torchrun --nnodes 5 --rdzv-backend c10d --rdzv-endpoint HOST:29500 --nproc-per-node 2 -m diptych train "
            "clip vit_l_14 --data DIR --out RUN --set training.parallel=ddp",
        ),
        (
            f"{L14} --gpus 8 --memory 80GB --set training.micro_batch=none",
            "diptych plan clip vit_l_14 --set training.micro_batch=none --gpus 8 --memory 80GB "
            "--set training.micro_batch=1366",
        ),
        (f"{L14} --gpus 1 --memory 80GB", "diptych train clip vit_l_14 --data DIR --out RUN"),
        (
            f"{L14} --gpus 13 --gpus-per-node 16 --memory 8GB --parallel ddp",
            "diptych plan clip vit_l_14 --gpus 13 --memory 8GB --gpus-per-node 16 --parallel fsdp2",
        ),
        (f"{L14} --gpus 1 --memory 8GB", "diptych plan clip vit_l_14 --memory 8GB --gpus 2"),
        (
            f"{L14} --gpus 1 --memory 8GB --batch 1",
            "diptych plan clip vit_l_14 --batch 1 --gpus 1 --memory 9GB",
        ),
        (
            f"{L14} --gpus 8 --memory 80GB --set training.micro_batch=4096",
            "diptych plan clip vit_l_14 --set training.micro_batch=4096 --gpus 8 --memory 80GB "
            "--set training.micro_batch=1366",
        ),
    ],
)
def test_the_next_command(plan: Plan, command: str, step: str) -> None:
    lines = plan(command)
    assert lines[-1] == f"Next: {step}"
    assert all(len(line.rstrip()) < 80 for line in lines[:-1])


def test_the_json_says_the_same(plan: Plan, tmp_path: Path) -> None:
    lines = plan(f"{L14} --gpus 8 --memory 80GB --json {tmp_path / 'plan.json'}")
    found = json.loads((tmp_path / "plan.json").read_text())
    assert f"Next: {found['next']}" == lines[-1]
    assert (found["use"], found["first_too_large"], found["machine"]["memory"]) == ("ddp", "activations", 80 * 10**9)
    ddp, fsdp2 = found["ways"]
    assert [ddp["micro_batch"], fsdp2["micro_batch"]] == [1366, 1366] and ddp["gradient_caching"]
    assert row(lines, "pairs/s, all together") == [f"{way['pairs_per_s']:,.0f}" for way in (ddp, fsdp2)]
    assert sum(fsdp2["memory"].values()) + fsdp2["left_over"] == pytest.approx(0.9 * 80e9, abs=1)


def test_an_objective_with_a_head_is_told_to_be_known_in_part(plan: Plan) -> None:
    lines = plan("plan clip figure2_captioning --gpus 1 --memory 80GB")
    assert "Of the heads of captioning, the parameters are counted and nothing else." in lines


@pytest.mark.slow
def test_a_real_model_is_counted(exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("plan", "clip", "tiny", "--gpus", 1, "--memory", "1MB") == 0
    lines = capsys.readouterr().out.splitlines()
    assert row(lines, "weights")[-2:] == ["322", "kB"]  # 80,425 parameters of 4 bytes
    assert lines[-1].startswith("Next: diptych plan clip tiny ")


@pytest.mark.parametrize(
    ("text", "size"),
    [("80GB", 80 * 1000**3), ("24GiB", 24 * 1024**3), ("1.5 TB", 1500 * 1000**3), ("512MiB", 512 * 1024**2)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text, "--memory") == size


@pytest.mark.parametrize("text", ["80", "80G", "80gb", "GB", "-1GB", "0GB", "1,5GB", "80GB!", "1e3GB", ""])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--memory is '.*'; expected a number above 0 and a unit, e.g. 80GB or 24GiB"):
        size_of(text, "--memory")


def test_a_detector_is_refused_in_words_and_before_any_work(
    exit_code: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    code = exit_code("plan", "detector", "coco", "--gpus", 8, "--memory", "80GB")
    said = capsys.readouterr()
    assert code == 2 and said.out == "" and "Counting" not in said.err
    assert said.err.startswith("Error: what a detector costs hangs on what is in the pictures")
    assert "diptych train detector coco --data DIR --out RUN --set training.micro_batch=auto" in said.err
