"""Fine-tuning from the command line: a pre-trained model, a head on it, its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from diptych.data.partners import open_partners
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import open_table

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(exit_code: Callable[..., int], tmp_path_factory: pytest.TempPathFactory, chance_regions: ModuleType) -> Path:
    """Scenes, regions drawn by chance, examples of both tasks, and a model that was pre-trained for two steps."""
    folder = tmp_path_factory.mktemp("finetune")
    draw_scenes(folder / "scenes", easy(num=120, seed=2, size_px=32), workers=1)
    chance_regions.write_regions(open_table(folder / "scenes"), folder / "regions")
    for task in ("vqa", "ve"):
        assert exit_code("data", "examples", folder / "scenes", folder / task, "--task", task) == 0
    few = ("--set", "training.steps=2", "--set", "training.batch=8", "--set", "inputs.vocab_size=300")
    words = ("--data", folder / "scenes", "--regions", folder / "regions", "--out", folder / "pretrained")
    assert (
        exit_code("train", "uniter", "tiny", *words, *few, "--set", "model.width=24", "--set", "inputs.workers=0") == 0
    )
    return folder


@pytest.mark.parametrize("task", ["vqa", "ve"])
def test_a_model_learns_a_task_and_is_asked(
    exit_code: Callable[..., int], world: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--data", world / task, "--regions", world / "regions")
    assert (
        exit_code("finetune", world / "pretrained", f"tiny_{task}", *asked, "--out", world / f"run-{task}", *FEW) == 0
    )
    assert f"--task answers --data {world / task}" in capsys.readouterr().out
    kept = json.loads((world / f"run-{task}" / "run.json").read_text())
    assert kept["model"]["width"] == 24 and kept["objective"]["name"] == task
    assert kept["model"]["answers"] and kept["origin"] == str(world / "pretrained")

    numbers = world / f"{task}.json"
    assert exit_code("evaluate", world / f"run-{task}", "--task", "answers", *asked, "--json", numbers) == 0
    rows = open_table(world / task).split("test")
    assert json.loads(numbers.read_text())["results"]["accuracy"]["count"] == len(rows)

    assert exit_code("predict", world / f"run-{task}", *asked, "--out", world / f"{task}-answers.json") == 0
    answers = json.loads((world / f"{task}-answers.json").read_text())
    assert [one["question_id"] for one in answers] == [rows.key(row) for row in range(len(rows))]
    assert {one["answer"] for one in answers} <= set(kept["model"]["answers"])

    other = {"vqa": "tiny_ve", "ve": "tiny_vqa"}[task]
    assert exit_code("finetune", world / "pretrained", other, *asked, "--out", world / f"run-{task}", "--resume") == 2
    assert f"is of the recipe tiny_{task}, found {other}" in capsys.readouterr().err


FEW = ("--set", "training.steps=3", "--set", "training.batch=8", "--set", "training.eval_rows=20")


@pytest.mark.parametrize(
    ("task", "asked", "form"),
    [("nlvr2", "answers", "True"), ("vcr", "answers", "annot_id"), ("re", "referring", "sent_id")],
)
def test_rows_of_several_sequences_and_of_phrases(
    exit_code: Callable[..., int], world: Path, task: str, asked: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("data", "examples", world / "scenes", world / task, "--task", task) == 0
    words = ("--data", world / task, "--regions", world / "regions")
    assert (
        exit_code("finetune", world / "pretrained", f"tiny_{task}", *words, "--out", world / f"run-{task}", *FEW) == 0
    )
    assert f"--task {asked} --data {world / task}" in capsys.readouterr().out
    numbers = world / f"{task}.json"
    assert exit_code("evaluate", world / f"run-{task}", "--task", asked, *words, "--json", numbers) == 0
    rows = open_table(world / task).split("test")
    assert json.loads(numbers.read_text())["results"]["accuracy"]["count"] == len(rows)
    assert exit_code("predict", world / f"run-{task}", *words, "--out", world / f"{task}-answers") == 0
    assert form in (world / f"{task}-answers").read_text()


@pytest.mark.parametrize("recipe", ["tiny_ranking", "tiny_hard_ranking"])
def test_a_model_learns_to_rank_and_is_asked_by_that(exit_code: Callable[..., int], world: Path, recipe: str) -> None:
    words = ("--data", world / "scenes", "--regions", world / "regions")
    assert exit_code("finetune", world / "pretrained", recipe, *words, "--out", world / recipe, *FEW) == 0
    numbers = world / f"{recipe}.json"
    assert exit_code("evaluate", world / recipe, "--task", "matching", *words, "--json", numbers) == 0
    assert json.loads(numbers.read_text())["results"]["matching_accuracy"]["count"] > 0


def test_kinds_of_texts_that_no_row_has_are_told(
    exit_code: Callable[..., int], world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", world / "scenes", "--regions", world / "regions", "--out", world / "misspelt", *FEW)
    misspelt = ("--set", "inputs.text_kinds=full,relations")
    assert exit_code("finetune", world / "pretrained", "tiny_ranking", *words, *misspelt) == 1
    told = capsys.readouterr().err
    assert "inputs.text_kinds" in told and "relations" in told and "did you mean 'relation'" in told


def test_a_model_learns_from_swapped_words(
    exit_code: Callable[..., int], world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code("data", "examples", world / "scenes", world / "swapped", "--task", "swapped") == 0
    assert f"finetune RUN tiny_swapped --data {world / 'swapped'}" in capsys.readouterr().out
    words = ("--data", world / "swapped", "--regions", world / "regions", "--batch", "7", "--on-nan", "skip",
             "--set", "training.batch_tokens=400")  # fmt: skip
    assert (
        exit_code("finetune", world / "pretrained", "tiny_swapped", *words, "--out", world / "run-swapped", *FEW) == 0
    )
    kept = json.loads((world / "run-swapped" / "run.json").read_text())["training"]
    assert (kept["batch"], kept["batch_tokens"]) == (7, None)
    asked = ("--data", world / "scenes", "--regions", world / "regions")
    assert exit_code("evaluate", world / "run-swapped", "--task", "choices", *asked) == 0
    on_scenes = ("finetune", world / "pretrained", "tiny_swapped", *asked, "--out", world / "no", *FEW)
    assert exit_code(*on_scenes) == 1 and "--task swapped" in capsys.readouterr().err


def test_a_model_learns_to_rank_what_a_clip_takes_for_each_other(
    exit_code: Callable[..., int], world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = ("--set", "training.steps=2", "--set", "training.batch=8", "--set", "training.eval_rows=8")
    assert exit_code("train", "clip", "tiny", "--data", world / "scenes", "--out", world / "clip", *clip) == 0
    alike = ("data", "partners", world / "scenes", world / "alike", "--clip", world / "clip")
    assert exit_code(*alike, "--top", "15", "--others", "5") == 0
    assert f"finetune RUN tiny_alike --data {world / 'scenes'} --regions REGIONS --partners" in (
        capsys.readouterr().out
    )
    named = open_partners(world / "alike")
    assert named.fewest == 20
    words = ("--data", world / "scenes", "--regions", world / "regions", "--partners", world / "alike")
    assert exit_code("finetune", world / "pretrained", "tiny_hard_ranking", *words, "--out", world / "few", *FEW) == 1
    assert "names 20 partners of a row, and hard_ranking sets each row beside 31" in capsys.readouterr().err
    two = ("--data", world / "scenes", *words)
    assert exit_code("train", "uniter", "tiny", *two, "--out", world / "two") == 2
    assert "of the rows of one table" in capsys.readouterr().err
    fewer = ("--set", "objective.candidates=15", "--set", "objective.kept=2")
    assert (
        exit_code("finetune", world / "pretrained", "tiny_hard_ranking", *words, "--out", world / "ok", *FEW, *fewer)
        == 0
    )
    assert exit_code(*alike) == 1 and "is there already" in capsys.readouterr().err
    began = json.loads((world / "ok" / "log.jsonl").read_text().splitlines()[0])
    assert began["partners"] == named.fingerprint
    again = ("finetune", world / "pretrained", "tiny_hard_ranking", *words[:4], "--out", world / "ok", *FEW, *fewer)
    assert exit_code(*again, "--resume") == 1
    assert f"with partners of fingerprint {named.fingerprint}, and none are given" in capsys.readouterr().err
    assert (
        exit_code("data", "partners", world / "scenes", world / "other", "--clip", world / "clip", "--others", "20")
        == 0
    )
    assert exit_code(*again, "--partners", world / "other", "--resume") == 1
    assert f"with partners of fingerprint {named.fingerprint}, and those that are given" in capsys.readouterr().err

    asked = ("evaluate", world / "ok", "--task", "retrieval", *words[:4], "--recall-with", world / "clip", "--top", "5")
    found = {}
    for weight in ("0", "1", "1e9"):
        assert exit_code(*asked, "--recall-weight", weight, "--json", world / "reranked.json") == 0
        found[weight] = json.loads((world / "reranked.json").read_text())
    assert [one["details"]["recall_weight"] for one in found.values()] == [0, 1, 1e9]
    ours, theirs = (
        {weight: one["results"][f"{whose}text_to_image_r5"]["value"] for weight, one in found.items()}
        for whose in ("", "recalled_")
    )
    assert ours["1e9"] == theirs["1e9"] and len(set(theirs.values())) == 1, "the towers' own order"
    assert found["0"]["results"] != found["1e9"]["results"]
    assert "whose logit counts" in found["1"]["headline"] and "logit" not in found["0"]["headline"]
    assert exit_code(*asked, "--recall-weight", "inf") == 2 and "expected a finite number" in capsys.readouterr().err
    assert exit_code(*asked[:-4], "--top", "5") == 2 and "--recall-with" in capsys.readouterr().err
    other = (*asked[:2], "--task", "matching", *asked[4:-2])
    assert exit_code(*other) == 2 and "for retrieval by a fused model" in capsys.readouterr().err


def test_a_report_is_written_again(
    exit_code: Callable[..., int], world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (world / "pretrained" / "report.html").read_text()
    assert exit_code("report", "show", world / "pretrained") == 1
    told = capsys.readouterr().err
    assert "report.html stays as it is" in told and "name the store with --regions" in told
    with_regions = ("report", "show", world / "pretrained", "--regions", world / "regions")
    assert exit_code(*with_regions, "--split", "tset") == 1 and "did you mean 'test'" in capsys.readouterr().err
    assert (world / "pretrained" / "report.html").read_text() == before
    assert exit_code(*with_regions) == 0
    assert "own picture before another" in capsys.readouterr().out


def test_a_released_config_is_a_recipe(
    exit_code: Callable[..., int], world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, recipe = world / "train-ve-base-1gpu.json", world / "ve-as-released.json"
    needed = {"learning_rate": 1e-3, "num_train_steps": 3, "warmup_steps": 1, "train_batch_size": 150}
    rest = {"gradient_accumulation_steps": 1, "train_txt_db": "ve_train.db", "max_bb": 5, "wings": 2}
    file.write_text(json.dumps(needed | rest))
    assert exit_code("recipe", "import", file, "--out", recipe) == 0
    told = capsys.readouterr().out
    assert "training.batch_tokens=150" in told and "A step is that of 1 GPU, and" in told
    assert [line.split() for line in told.splitlines() if "wings" in line] == [["wings", "not", "taken", "over"]]
    assert f"Next: diptych finetune UNITER {recipe} --data DATA --regions REGIONS --out runs/ve-as-released" in told

    words = ("--data", world / "ve", "--regions", world / "regions", "--out", world / "run-recipe")
    assert exit_code("finetune", world / "pretrained", recipe, *words, "--set", "training.eval_rows=20") == 0
    kept = json.loads((world / "run-recipe" / "run.json").read_text())
    assert (kept["recipe"], kept["training"]["steps"], kept["model"]["width"]) == ("train-ve-base-1gpu", 3, 24)
    assert (kept["model"]["max_regions"], kept["optim"]["arithmetic"]) == (5, "released")
    assert exit_code("finetune", world / "pretrained", recipe, *words, "--resume") == 0
    other = world / "pretrained" / "run.json"
    assert exit_code("finetune", world / "pretrained", other, *words[:4], "--out", world / "new") == 2
    assert "trains a uniter for pretraining; expected a uniter" in capsys.readouterr().err


def test_mistakes_are_told(exit_code: Callable[..., int], world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--data", world / "vqa", "--regions", world / "regions", "--out", world / "new")
    assert exit_code("finetune", world / "pretrained", "vqqa", *asked) == 2
    assert "did you mean 'vqa'" in capsys.readouterr().err
    no_examples = ("--data", world / "scenes", "--regions", world / "regions", "--out", world / "new")
    assert exit_code("finetune", world / "pretrained", "tiny_vqa", *no_examples) == 2
    assert "there are no answers to choose among" in capsys.readouterr().err
    assert exit_code("evaluate", world / "pretrained", "--task", "answers", *asked[:4]) == 2
    assert "has no head for answers" in capsys.readouterr().err
    assert exit_code("predict", world / "pretrained", *asked[:4], "--out", world) == 2
    assert "is a directory" in capsys.readouterr().err
    assert exit_code("finetune", world / "pretrained", "tiny", *asked) == 2
    assert "no recipe for a task 'tiny'" in capsys.readouterr().err
    assert not (world / "new").exists()
