"""What users read when something is off, word for word: what was found, what was expected, what to do."""

from __future__ import annotations

import errno
import importlib.util
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.data.scenes import draw_scenes, easy

Run = Callable[..., tuple[int, str, str]]

RECIPES = (
    "tiny, demo, demo_sigmoid, flickr8k, figure2_captioning, figure2_bag_of_words, figure2_cbow, figure2_transformer, "
    "rn50, rn101, rn50x4, rn50x16, rn50x64, vit_b_32, vit_b_16, vit_l_14, vit_l_14_336, "
    "vit_h_14, vit_g_14, vit_big_g_14"
)
FORMATS = "datasets, uniter-texts, imagefolder, webdataset, parquet, karpathy, coco, jsonl, csv, classfolder, pictures"
TRAIN = "train clip tiny --data scenes --out runs/new"

USAGE = {
    "trian clip tiny": (
        "there is no diptych verb 'trian'; did you mean 'train'? "
        "There are: demo, doctor, train, finetune, plan, evaluate, predict, reproduce, data, recipe, regions, report, "
        "weights"
    ),
    "data shwo scenes": (
        "there is no diptych data verb 'shwo'; did you mean 'show'? There are: scenes, import, examples, partners, show"
    ),
    "weights xyz": "there is no diptych weights verb 'xyz'. There are: identify, convert",
    "--debgu": "there is no option '--debgu'; did you mean '--debug'? There are: --version, --debug, --help",
    "demo --qiuck": (
        "there is no option '--qiuck'; did you mean '--quick'? There are: --out, --quick, --device, --help"
    ),
    "demo region": "there is no demo 'region'; did you mean 'regions'? There are: clip, regions",
    "train clip tiny --data scenes": "Missing option '--out'. Run diptych train --help to see what it takes.",
    f"{TRAIN} --set optim.lrr=1": (
        "there is no setting 'optim.lrr'; did you mean 'optim.lr'? There are: optim.lr, optim.head_lr, optim.betas, "
        "optim.eps, optim.weight_decay, optim.warmup_steps, optim.schedule, optim.clip_norm, optim.ema, "
        "optim.arithmetic"
    ),
    f"{TRAIN} --set optim.lr": "--set 'optim.lr' has no '='; write --set FIELD=VALUE, e.g. --set optim.lr=3e-4",
    f"{TRAIN} --set optim.lr=fast": "optim.lr is 'fast'; expected a number",
    f"{TRAIN} --set inputs.transform=crop": (
        "inputs.transform is 'crop'; expected one of: square_crop, random_resized_crop, resize_and_flip, none"
    ),
    f"{TRAIN} --batch 0": "training.batch is 0; expected a whole number from 1",
    "demo --device gpu --out runs/new": "there is no device 'gpu'; expected auto, cpu, cuda, cuda:N or mps.",
    f"{TRAIN} --device gpu": "there is no device 'gpu'; expected auto, cpu, cuda, cuda:N or mps.",
    f"{TRAIN} --set inputs.tokenizer=train:bep": (
        "there is no tokenizer 'train:bep'; did you mean 'train:bpe'? "
        "There are: train:bpe, train:wordpiece, clip, bert-base-cased, or the path of a vocabulary"
    ),
    "train clip tinny --data scenes --out runs/new": (
        f"there is no recipe 'tinny'; did you mean 'tiny'? There are: {RECIPES}"
    ),
    "train clop tiny --data scenes --out runs/new": (
        "there is no system 'clop'; did you mean 'clip'? There are: clip, uniter, detector"
    ),
    "train clip --data scenes --out runs/new": f"which recipe of clip? There are: {RECIPES}",
    "train tiny --data scenes --out runs/new": (
        "tiny is a recipe of clip, uniter, detector; write: diptych train clip tiny"
    ),
    "train --data scenes --out runs/new": (
        "found no recipe; expected one of: SYSTEM RECIPE (e.g. clip tiny), path/mine.py:run, --repeat run.json"
    ),
    "train --repeat gone.json --data scenes --out runs/new": (
        "there is no gone.json; expected the run.json of a run, or its folder"
    ),
    "plan clip tiny --gpus 8": "Missing option '--memory'. Run diptych plan --help to see what it takes.",
    "plan clip tiny --gpus 8 --memory 80": (
        "--memory is '80'; expected a number above 0 and a unit, e.g. 80GB or 24GiB. Units: MB, GB, TB, MiB, GiB, TiB"
    ),
    "plan clip tiny --gpus 0 --memory 80GB": "--gpus is 0; expected a whole number from 1",
    "plan clip tiny --gpus 8 --memory 80GB --peak 0": "--peak is 0.0; expected a number above 0",
    "plan clip tiny --gpus 8 --memory 80GB --peak nan": "--peak is nan; expected a number above 0",
    "plan clip tiny --gpus 8 --memory 80GB --peak inf": "--peak is inf; expected a number above 0",
    "plan clip tiny --gpus 13 --memory 80GB": (
        "13 GPUs cannot be parted evenly over machines of 8, and torchrun begins as many processes on each; "
        "expected e.g. --gpus 12 or --gpus 14"
    ),
    "plan clip tiny --gpus 8 --memory 80GB --parallel fsdp2 --set training.precision=fp16": (
        "FSDP2 takes no fp16: fp16's loss scale is not kept over shares of weights; set training.precision=bf16, "
        "or choose --parallel ddp"
    ),
    "plan clip tiny --gpus 8 --memory 80GB --utilisation 35": (
        "--utilisation is 35.0; expected a share above 0 and up to 1, e.g. 0.2"
    ),
    "plan tiny --gpus 8 --memory 80GB": "tiny is a recipe of clip, uniter, detector; write: diptych plan clip tiny",
    "plan clip tiny --gpus 64 --memory 80GB": (
        "a batch of 32 on 64 GPUs leaves some without a pair; expected at least one each. "
        "Choose a larger --batch or fewer --gpus"
    ),
    "evaluate runs/old --task retreival --data scenes": (
        "there is no task 'retreival'; did you mean 'retrieval'? "
        "There are: retrieval, zero_shot, linear_probe, choices, matching, answers, referring, detection"
    ),
    "evaluate runs/old --task linear_probe --data scenes --split train --device cpu": (
        "the probe is fitted on the split 'train'; ask about another, e.g. --split test"
    ),
    "data import notes out --format jsnl": (
        f"--format: there is no format 'jsnl'; did you mean 'jsonl'? There are: {FORMATS}"
    ),
    "data import notes out --max-rejects 2": (
        "--max-rejects is 2.0; expected a share of the rows between 0 and 1, e.g. 0.05"
    ),
    "data scenes new --style eazy": "there is no style 'eazy'; did you mean 'easy'? There are: easy, hard",
    "data scenes new --n 2": "num is 2; a picture world takes 16 to 10000000",
    "report compare runs/old": (
        "one run, runs/old, cannot be compared; name two or more: diptych report compare RUN RUN"
    ),
    "weights convert runs/old new --to huggingfase": (
        "there is no layout 'huggingfase'; did you mean 'huggingface'? There are: open_clip, huggingface, uniter, "
        "diptych"
    ),
}
"""The command itself is off: exit code 2."""

FAILURE = {
    "train clip tiny --data scens --out runs/new": (
        "scens is no table: it has no table.json (there is nothing at scens). "
        "Make a table with `diptych data import SOURCE scens`"
    ),
    "data show notes": (
        "notes is no table: it has no table.json. Make a table of it with `diptych data import notes OUT`"
    ),
    "train clip tiny --data scenes --out runs/old": (
        "runs/old holds a run already; pass --resume to go on with it, or choose another --out."
    ),
    f"{TRAIN} --set inputs.split=trian": (
        "scenes: there is no split 'trian'; did you mean 'train'? There are: train, validation, test, unseen_pairs. "
        "Choose one by --set inputs.split=NAME"
    ),
    "train clip tiny --data plain --out runs/new": (
        "plain: there is no split 'validation'. There are: train. Choose one by --set training.eval_split=NAME"
    ),
    "evaluate runs/old --task retrieval --data scenes --split tset": (
        "scenes: there is no split 'tset'; did you mean 'test'? There are: train, validation, test, unseen_pairs"
    ),
    "evaluate runs/old --task retrieval --data scenes --text-kind ful --device cpu": (
        "in the split 'test', there is no kind of text 'ful'; did you mean 'full'? "
        "There are: attribute, colour_thing, count, full, partial, relation, things"
    ),
    "evaluate runs/odl --task retrieval --data scenes": (
        "there is no file or folder runs/odl; did you mean runs/old? Expected a run folder, a file of weights, a "
        "folder of open_clip or Hugging Face, or a name on the hub such as openai/clip-vit-base-patch32"
    ),
    "evaluate runs/old --task choices --data plain --split train --device cpu": (
        "plain: there is no column 'choices'. There are: key, group, image, image_path, texts, label"
    ),
    "data import notes out": (
        "the format of notes is not recognised (found a.md); expected a folder of class folders, one with "
        "metadata.jsonl or metadata.csv, a list of paths and texts (CSV, JSON lines), Parquet, WebDataset tars, COCO "
        f"or Karpathy JSON, or a folder of pictures; name it with --format: {FORMATS}"
    ),
    "data import ./ntes out": "there is nothing at ./ntes; did you mean notes?",
    "data import scenes out": "scenes is a table already; use it as it is: --data scenes",
    "data scenes scenes": "scenes is there already; choose another folder, or remove it first",
    "report show notes": ("notes holds no run (there is no run.json in it); name the folder of `diptych train --out`"),
}
"""Something that the command needs is not as it should be: exit code 1."""

MISSING = {
    ("tensorboard", f"{TRAIN} --device cpu --tensorboard"): (
        "--tensorboard needs the package 'tensorboard'; install it with: pip install 'diptych[track]'"
    ),
    ("timm", f"{TRAIN} --device cpu --set model.image=timm --set model.timm_name=convnext_tiny"): (
        "the picture tower 'convnext_tiny' needs the package 'timm'; install it with: pip install 'diptych[timm]'"
    ),
}


@pytest.fixture(scope="module")
def place(exit_code: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, another without questions, a trained run, and notes that are neither."""
    from diptych.data.table_writer import TableWriter

    folder = tmp_path_factory.mktemp("messages")
    draw_scenes(folder / "scenes", easy(num=60, size_px=32), workers=1)
    (folder / "notes").mkdir()
    (folder / "notes" / "a.md").write_text("")
    with TableWriter(folder / "plain") as writer:
        writer.add("train", key="0", image=b"", texts=["a text"])
    old = ["clip", "tiny", "--data", str(folder / "scenes"), "--out", str(folder / "runs" / "old"), "--device", "cpu"]
    few = ["training.steps=1", "training.batch=4", "training.eval_rows=4", "inputs.workers=0"]
    assert exit_code("train", *old, *(word for one in few for word in ("--set", one))) == 0
    return folder


@pytest.fixture
def run(spoken: Callable[..., tuple[int, str, str]], place: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`spoken` in that folder, of a line as it is typed, where a message that is broken to the width is noticed."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "80")
    return lambda line: spoken(*shlex.split(line))


@pytest.mark.parametrize("line", USAGE)
def test_wrong_usage(run: Run, line: str) -> None:
    assert run(line) == (2, "", f"Error: {USAGE[line]}\n")
    assert not Path("runs/new").exists()


@pytest.mark.parametrize("line", FAILURE)
def test_what_is_not_as_it_should_be(run: Run, line: str) -> None:
    code, out, told = run(line)
    assert (code, out, last_lines(told)) == (1, "", f"Error: {FAILURE[line]}")
    assert not Path("runs/new").exists()


@pytest.mark.parametrize(("module", "line"), MISSING)
def test_a_missing_extra_names_its_pip_line(run: Run, module: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == module else find(name, *more))
    code, _, told = run(line)
    assert (code, last_lines(told)) == (1, f"Error: {MISSING[module, line]}")


def test_values_of_another_kind_name_their_option(run: Run) -> None:
    """Between name and advice stand typer's own words, which change with its version."""
    for option, value in (("--batch", "many"), ("--on-nan", "stopp")):
        code, _, told = run(f"{TRAIN} {option} {value}")
        assert code == 2
        assert told.startswith(f"Error: Invalid value for '{option}': ")
        assert told.endswith(". Run diptych train --help to see what it takes.\n")


def test_a_name_that_may_be_on_the_hub_is_looked_for_beside_first(run: Run) -> None:
    """In brackets stand the words of `datasets`."""
    code, _, told = run("data import ntes out")
    assert code == 1
    before, _, after = last_lines(told).partition(" (ConnectionError: ")
    assert before == (
        "Error: there is nothing at ntes; did you mean notes? "
        "No data set of that name could be had from the Hugging Face hub"
    )
    assert after.endswith(
        "). Check the path, or the name (USER/NAME or USER/NAME:CONFIG) and the network; where there is none, download "
        "it elsewhere, `save_to_disk(FOLDER)` it, and import FOLDER"
    )


@pytest.mark.parametrize("line", ["", "data", "report", "weights"])
def test_without_a_verb_the_help_is_shown(run: Run, line: str) -> None:
    code, out, told = run(line)
    assert (code, told) == (2, "")
    assert f"Usage: {' '.join(['diptych', *line.split()])} " in out


@pytest.mark.parametrize("line", ["--version", "--help", "train -h"])
def test_what_ends_well_ends_with_0(run: Run, line: str) -> None:
    code, out, told = run(line)
    assert (code, told) == (0, "") and out


def test_a_traceback_only_with_debug(place: Path) -> None:
    for debug, words in ((False, ["train", "clip", "tinny"]), (True, ["--debug", "train", "clip", "tinny"])):
        done = process(place, [*words, "--data", "scenes", "--out", "runs/new"])
        stdout, stderr = done.communicate(timeout=60)
        assert (done.returncode, stdout) == (2, "")
        assert ("Traceback" in stderr) == debug
        assert "did you mean 'tiny'?" in stderr


def test_a_bug_of_ours_is_called_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("diptych.data.table.open_table", broken)
    assert run("data show scenes") == (
        1,
        "",
        "Error: ZeroDivisionError: by nothing\n"
        "This looks like a bug of diptych; run the command again with --debug and report what it prints.\n",
    )
    code, _, told = run("data show scenes --debug")
    assert code == 1 and "Traceback" in told and told.endswith("ZeroDivisionError: by nothing\n")


def test_ctrl_c_between_the_steps_of_a_command_is_told_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("diptych.data.table.open_table", interrupted)
    assert run("data show scenes") == (130, "", "Error: stopped by Ctrl-C; what was whole by then is kept\n")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/new/log.jsonl"),
            "runs/new/log.jsonl: No space left on device. Make room there, or choose a folder on another disk; the "
            "same command then does it again.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a", None, "b"),
            "a and b: Permission denied. Choose a folder that you may write to, or ask for the right to this one.",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "a file could not be read or written: No space left on device. Make room there, or choose a folder on "
            "another disk; the same command then does it again.",
        ),
    ],
)
def test_what_the_system_refuses_is_no_bug(
    run: Run, error: OSError, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr("diptych.data.table.open_table", refused)
    assert run("data show scenes") == (1, "", f"Error: {told}\n")


def test_a_folder_that_cannot_be_made(run: Run) -> None:
    code, _, told = run("doctor --json notes/a.md/doctor.json")
    assert code == 1
    assert last_lines(told).startswith("Error: notes/a.md: ") and told.endswith(" Check the path.\n")


@pytest.mark.slow
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(place: Path) -> None:
    many = ["training.steps=100000", "inputs.workers=0"]
    words = ["train", "clip", "tiny", "--data", "scenes", "--out", "runs/long", "--device", "cpu"]
    running = process(place, [*words, *(word for one in many for word in ("--set", one))])
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("training:"):
            break
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=300)  # the report of a stopped run is drawn in it
    assert running.returncode == 130
    assert "Error: stopped after step " in told and "The same command with --resume goes on." in told
    assert "Traceback" not in told


@pytest.mark.parametrize("colour", [True, False])
def test_no_color_means_no_escape_codes(place: Path, colour: bool) -> None:
    environment = {"NO_COLOR": "1"} if not colour else {"FORCE_COLOR": "1"}
    done = process(place, ["data", "show", "notes"], **environment)
    _, told = done.communicate(timeout=60)
    assert ("\x1b[" in told) == colour


def last_lines(told: str) -> str:
    """From the error on; progress may have been told before it."""
    return told[("\n" + told).rindex("\nError: ") :].rstrip("\n")


def process(folder: Path, words: list[str], **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.Popen(
        [sys.executable, "-m", "diptych.cli.main", *words],
        cwd=folder,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
