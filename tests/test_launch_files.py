"""The files in examples/launch: bash reads them, torchrun and `diptych train` know all that they pass on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import typer.main
from torch.distributed.run import get_args_parser

from diptych.cli.main import app

LAUNCH = Path(__file__).resolve().parent.parent / "examples" / "launch"
SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.sh"))
TRAIN = ["clip", "tiny", "--data", "my pictures", "--out", "runs/first", "--set", "training.batch=64"]
STANDINS = {
    "torchrun": 'printf "%s\\n" "$@"',
    "srun": '"$@"',
    "scontrol": '[ "$*" = "show hostnames node[3-4]" ] && printf "node3\\nnode4\\n"',
    "nvidia-smi": 'printf "GPU 0: one\\nGPU 1: another\\n"',
}
SLURM = {
    "SLURM_JOB_NODELIST": "node[3-4]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_JOB_ID": "17",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_it(script: str) -> None:
    done = subprocess.run(["bash", "-n", LAUNCH / script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def started(script: str, folder: Path, **variables: str) -> list[str]:
    """The words that torchrun gets; programs that no test machine has are stood in for."""
    for name, text in STANDINS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / name).chmod(0o755)
    environment = {**os.environ, **variables, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["bash", LAUNCH / script, *TRAIN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("script", "variables", "nodes", "each"),
    [("one_node.sh", {}, "1:1", "2"), ("one_node.sh", {"GPUS": "1"}, "1:1", "1"), ("slurm.sh", SLURM, "2", "8")],
)
def test_it_starts_torchrun_as_torchrun_reads_it(
    script: str, variables: dict[str, str], nodes: str, each: str, tmp_path: Path
) -> None:
    words = started(script, tmp_path, **variables)
    read = get_args_parser().parse_args(words)
    assert (read.nnodes, read.nproc_per_node, read.max_restarts) == (nodes, each, 3)
    assert (read.module, read.training_script) == (True, "diptych")
    assert read.training_script_args == ["train", *TRAIN, "--resume"]
    if script == "slurm.sh":
        assert (read.rdzv_backend, read.rdzv_endpoint, read.rdzv_id) == ("c10d", "node3:29500", "17")


def test_train_has_the_options() -> None:
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    options = {name for param in command.params for name in param.opts}
    assert {"--data", "--out", "--set", "--resume"} <= options
