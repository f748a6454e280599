"""`diptych evaluate` with a model that knows colours: what it prints, writes and says next."""

import io
import json
import shlex
from functools import partial

import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter
from diptych.tasks import evaluation
from diptych.tasks.evaluation import possible

COLOURS = {"red": (200, 20, 20), "green": (20, 190, 20), "blue": (20, 20, 210), "yellow": (210, 200, 20)}
ASKED = pa.list_(pa.struct([("kind", pa.string()), ("texts", pa.list_(pa.string())), ("answer", pa.int32())]))


class Colours:
    """Two towers that see and read colours."""

    name, scale = "colours", 100.0

    def encode_image(self, pictures):
        return F.normalize(self.image_features(pictures), dim=1)

    def image_features(self, pictures):
        shown = [Image.open(io.BytesIO(sample.image)).resize((1, 1)).getpixel((0, 0)) for sample in pictures]
        return torch.tensor([[channel / 255 - 0.4 for channel in colour] for colour in shown])

    def encode_text(self, texts):
        named = [next((rgb for name, rgb in COLOURS.items() if name in text), (90, 90, 90)) for text in texts]
        return F.normalize(torch.tensor(named) / 255 - 0.4, dim=1)


@pytest.fixture
def table(tmp_path):
    with TableWriter(tmp_path / "table", columns={"choices": ASKED}, meta={"label_names": list(COLOURS)}) as writer:
        for split, num in (("train", 12), ("test", 8)):
            for row in range(num):
                name = list(COLOURS)[row % 4]
                file = io.BytesIO()
                Image.new("RGB", (8, 6), tuple(channel + row for channel in COLOURS[name])).save(file, "PNG")
                question = {"kind": "colours", "texts": ["red", "blue"], "answer": 0}
                writer.add(
                    split,
                    key=f"{split}{row}",
                    image=file.getvalue(),
                    texts=[f"a {name} one"],
                    label=row % 4,
                    fields={"choices": [question] if name == "red" else []},
                )
    return tmp_path / "table"


@pytest.fixture
def run(spoken, monkeypatch, table):
    """`spoken` of `diptych evaluate`, on the table."""
    monkeypatch.setattr("diptych.systems.load_any", lambda source, device: Colours())
    return partial(spoken, "evaluate", "runs/x", "--data", table)


@pytest.mark.parametrize(
    ("task", "name", "words"),
    [
        ("retrieval", "text_to_image_r5", "The right picture, of 8,"),
        ("zero_shot", "classes_top1", "The right class, of 4, comes first for 100 of 100 pictures; guessing gets 25"),
        (
            "linear_probe",
            "classes_top1",
            "The right class, of 4, comes first for 100 of 100 pictures; guessing gets 25",
        ),
        ("choices", "colours_accuracy", "Best at colours: 100 of 100 right, guessing gets 50"),
    ],
)
def test_every_task_prints_a_table_and_writes_json_and_a_page(run, tmp_path, task, name, words):
    numbers, page = tmp_path / "out" / "n.json", tmp_path / "out" / f"{task}.html"
    code, out, err = run("--task", task, "--json", numbers, "--html", page)
    assert (code, "Traceback" in err) == (0, False)
    assert words in out
    found = json.loads(numbers.read_text())
    assert found["task"] == task
    assert found["results"][name]["value"] == 1
    assert found["headline"] in out
    html = page.read_text()
    assert found["headline"] in html
    assert "data:image/webp" in html or task == "choices"
    assert "http://" not in html.replace("http://www.w3.org", "")
    last = out.strip().splitlines()[-1]
    assert last.startswith("Next: diptych evaluate runs/x --task ")
    assert f"--task {task} " not in last


def test_a_run_folder_gets_the_page_unless_it_shall_go_elsewhere(run, tmp_path, monkeypatch):
    (tmp_path / "runs" / "x").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "runs" / "x" / "retrieval.html"
    _, out, _ = run("--task", "retrieval", "--html", "own.html")
    assert not page.exists()
    _, out, _ = run("--task", "retrieval")
    assert "data:image/webp" in page.read_text()
    assert "Report: runs/x/retrieval.html" in out
    last = shlex.split(out.strip().splitlines()[-1])
    assert last[:6] == ["Next:", "diptych", "evaluate", "runs/x", "--task", "zero_shot"]
    assert "--html" not in last


def test_weights_from_elsewhere_have_no_folder_for_a_page(run, table):
    _, out, _ = run("--task", "retrieval", "--limit", 4)
    words = shlex.split(out.strip().splitlines()[-1])
    assert words[:6] == ["Next:", "diptych", "evaluate", "runs/x", "--task", "retrieval"]
    assert words[-2:] == ["--html", "retrieval.html"] and "--limit 4" in " ".join(words)


def test_the_same_again_is_asked_with_all_of_its_words_and_a_page_beside_the_numbers(run, tmp_path):
    given = ["--templates", "a photo of a {}", "--seed", "3", "--device", "cpu"]
    _, out, _ = run("--task", "zero_shot", *given, "--json", tmp_path / "n.json")
    words = shlex.split(out.strip().splitlines()[-1])
    assert words[words.index("--templates") :] == [*given, "--html", str(tmp_path / "zero_shot.html")]


def test_the_next_step_is_a_task_that_the_split_has_rows_for(run, table, tmp_path):
    _, out, _ = run("--task", "zero_shot", "--split", "train", "--html", tmp_path / "a.html")
    assert shlex.split(out.strip().splitlines()[-1])[4:6] == ["--task", "retrieval"]
    _, out, _ = run("--task", "retrieval", "--split", "train", "--html", tmp_path / "a.html")
    assert shlex.split(out.strip().splitlines()[-1])[4:6] == ["--task", "zero_shot"]


def test_a_table_without_texts_is_not_asked_to_retrieve(tmp_path):
    with TableWriter(tmp_path / "t", meta={"label_names": ["a", "b"]}) as writer:
        writer.add("test", key="0", image=b"x", label=0)
    assert possible(open_table(tmp_path / "t"), "test") == ("zero_shot",)


@pytest.mark.parametrize("task", ["retrieval", "choices", "zero_shot"])
def test_two_towers_are_not_asked_about_rows_without_pictures(run, table, tmp_path, task):
    with TableWriter(tmp_path / "texts", columns={"choices": ASKED}) as writer:
        writer.add("test", key="0", image=None, texts=["a red one"], fields={"choices": []})
    code, out, said = run("--task", task, "--data", tmp_path / "texts")
    assert (code, out) == (1, "") and "texts has no pictures: none of the 1 rows of test holds one" in said


def test_scores_of_pairs_are_kept_beside_the_page_or_the_numbers(run, tmp_path, monkeypatch):
    kept, evaluate = [], evaluation.evaluate

    def evaluated(*asked, keep, **named):
        kept.append(keep)
        return evaluate(*asked, keep=keep, **named)

    monkeypatch.setattr(evaluation, "evaluate", evaluated)
    run("--task", "retrieval", "--html", tmp_path / "page" / "p.html", "--json", tmp_path / "n.json")
    run("--task", "retrieval", "--json", tmp_path / "n.json")
    run("--task", "retrieval")
    assert kept == [tmp_path / "page", tmp_path, None]


def test_limit_and_class_names_reach_the_task(run, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("red\ngreen\nblue\nyellow\nnone\n")
    numbers = tmp_path / "n.json"
    run("--task", "zero_shot", "--limit", 3, "--class-names", names, "--templates", "my {} toy", "--json", numbers)
    found = json.loads(numbers.read_text())
    assert found["results"]["classes_top1"]["count"] == 3
    assert found["details"]["class_names"][-1] == "none"
    assert found["details"]["templates"] == ["my {} toy"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--task", "retreival"], 2, "there is no task 'retreival'; did you mean 'retrieval'?"),
        (["--task", "retrieval", "--split", "tset"], 1, "there is no split 'tset'; did you mean 'test'?"),
        (["--task", "zero_shot", "--templates", "food11"], 2, "did you mean 'food101'?"),
        (["--task", "linear_probe", "--split", "train"], 2, "the probe is fitted on the split 'train'"),
        (["--task", "choices", "--split", "train", "--class-names", "none.txt"], 1, "cannot read none.txt"),
    ],
)
def test_mistakes_are_told_in_words(run, words, code, told):
    found, out, err = run(*words)
    assert found == code
    assert told in " ".join(err.split())
    assert "Traceback" not in out + err
