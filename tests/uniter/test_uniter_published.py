"""UNITER's published results: rows that say all that is needed, a page that lists them, and one that is run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer.main
from torch.testing import assert_close
from typer.core import TyperGroup

from diptych import systems
from diptych.cli.main import app
from diptych.data.scenes import draw_scenes, easy
from diptych.data.table import Table, open_table
from diptych.errors import DataError, UsageError
from diptych.metrics.recall import recall_at_k
from diptych.report.scores import Score
from diptych.systems.reproducing import reproduce
from diptych.tasks.answering import Answered, answering_scores
from diptych.tasks.evidence import retrieval_scores
from diptych.tasks.published import Expected, Need, Published, check_rows, judged, markdown
from diptych.tasks.referring import Pointed, referring_scores
from diptych.tasks.retrieval import RetrievalResult
from diptych.uniter import published
from diptych.uniter.heads import HeadSizes, new_heads
from diptych.uniter.model import UNITER, UniterConfig
from diptych.uniter.weights import write_weights

ROOT = Path(__file__).resolve().parents[2]
ROWS = {row.name: row for row in published.rows()}
CONFIG = UniterConfig(
    width=8, depth=1, heads=2, mlp_width=12, vocab_size=12, end_id=3, positions=40, context=40, feature_width=16,
    num_classes=4,
)  # fmt: skip
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "a", "red", "##s", "thing", "on", "star")


def row(**fields: Any) -> Published:
    need = Need(what="something")
    return Published(
        **{
            "name": "uniter/small",
            "what": "a small one",
            "numbers": (Expected(score="matching_accuracy", label="", value=0.5),),
            "source": "nowhere",
            "task": "matching",
            "split": "test",
            "rows": 5,
            "weights": need,
            "data": need,
            "regions": need,
            "tolerance": 0.001,
            "because": "of no reason",
            **fields,
        }
    )


def test_the_page_lists_every_row() -> None:
    told = "run: diptych reproduce --markdown docs/reproduced.md"
    assert (ROOT / "docs" / "reproduced.md").read_text(encoding="utf-8") == markdown(systems.published()), told
    assert markdown(systems.published()).count("not yet run") == len(ROWS) == 50


def test_names_are_unique_and_numbers_are_those_of_the_paper() -> None:
    assert len(ROWS) == len(published.rows())
    found = {one.score: round(100 * one.value, 2) for one in ROWS["uniter/flickr-zero-shot"].numbers}
    pictures = {"text_to_image_r1": 66.16, "text_to_image_r5": 88.40, "text_to_image_r10": 92.94}
    texts = {"image_to_text_r1": 80.70, "image_to_text_r5": 95.70, "image_to_text_r10": 98.00}
    assert found == pictures | texts
    assert {one.surplus for one in ROWS["uniter/flickr"].numbers} == {0, 1 / 5_000, 5 / 5_000, 10 / 5_000}
    coco = {
        "coco": [50.33, 78.52, 87.16, 64.40, 87.40, 93.08],
        "coco-large": [52.93, 79.93, 87.95, 65.68, 88.56, 93.76],
    }
    for name, values in coco.items():
        assert [round(100 * one.value, 2) for one in ROWS[f"uniter/{name}"].numbers] == values
        assert {one.surplus for one in ROWS[f"uniter/{name}"].numbers} == {0, 1 / 25_000, 5 / 25_000, 10 / 25_000}
    assert [round(100 * one.value, 2) for one in ROWS["uniter/vcr-large-val"].numbers] == [77.22, 80.49, 62.59]
    phrases = ["refcoco-testB", "refcoco+-large-testA-detected", "refcocog-test", "refcocog-large-val-detected"]
    assert [ROWS[f"uniter/{name}"].numbers[0].value for name in phrases] == [0.9046, 0.8145, 0.8652, 0.7486]
    read_elsewhere = {name for name, one in ROWS.items() if any(number.confirmed for number in one.numbers)}
    assert read_elsewhere == {f"uniter/{name}" for name in ("vqa", "vqa-large", "ve-val", "nlvr2-dev")}


COMMANDS = sorted(
    {
        *(line for one in ROWS.values() for need in (one.weights, one.data, one.regions) for line in need.commands),
        *(one.answers for one in ROWS.values()),
    }
)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_those_of_the_command_line(line: str) -> None:
    words = shlex.split(line)[1:]
    command: Any = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        command, words = command.commands[words[0]], words[1:]
    found = command.make_context(command.name, list(words)).params  # raises where an option or argument is amiss
    if "recipe" in found:
        assert found["recipe"] in systems.recipes("uniter")


def test_the_release_s_recall_may_have_been_too_high() -> None:
    """Of N texts at most k / N: golden data, `tests/golden/uniter`; ours may be lower by that, and no higher."""
    numbers = ROWS["uniter/flickr-zero-shot"].numbers
    assert [round(one.surplus, 6) for one in numbers] == [0.0002, 0.001, 0.002, 0, 0, 0]
    ranks = torch.full((5_000,), 999)
    inflated = [(int((torch.arange(5_000) < k).sum()) / 5_000) for k in (1, 5, 10)]  # rows of the index table below k
    assert [recall_at_k(ranks, k) for k in (1, 5, 10)] == [0, 0, 0]
    assert inflated == [one.surplus for one in numbers[:3]]


@pytest.mark.parametrize(
    ("got", "passed"), [(0.5, True), (0.501, True), (0.5011, False), (0.4971, True), (0.4969, False)]
)
def test_a_number_passes_within_its_tolerance(got: float, passed: bool) -> None:
    asked = row(numbers=(Expected(score="r", label="", value=0.5, surplus=0.002),))
    (found,) = judged(asked, [Score(name="r", label="", group="", value=got, count=9)])
    assert found.passed == passed


def test_another_split_is_refused_at_once() -> None:
    check_rows(row(rows=1_000), 991, "t")
    with pytest.raises(DataError, match=r"'test' of t has 989 rows, and uniter/small is published for 1,000"):
        check_rows(row(rows=1_000), 989, "t")


def test_what_a_server_scores_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scored by VQA's server alone; .* diptych predict WEIGHTS .* --split test"):
        reproduce(ROWS["uniter/vqa"], tmp_path, None)  # type: ignore[arg-type]


def test_names_that_are_none_get_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'uniter/flickr-zeroshot'; did you mean uniter/flickr-zero-shot\? All of"):
        systems.published_row("uniter/flickr-zeroshot")
    with pytest.raises(UsageError, match=r"did you mean uniter/vcr-val, uniter/vcr-large-val\?"):
        systems.published_row("uniter/vcr")


def test_tasks_give_the_scores_that_rows_name() -> None:
    def answer(kind: str, key: str) -> Answered:
        return Answered(key=key, text="", kind=kind, answer="", right="", worth=1.0, usual=0.0)

    result = RetrievalResult(
        split="test",
        rows=(0,),
        keys=("a",),
        groups=("a",),
        texts=("x", "y"),
        text_owner=(0, 0),
        image=torch.ones(1, 2),
        text=torch.ones(2, 2),
        text_to_image_ranks=torch.tensor([0, 0]),
        image_to_text_ranks=torch.tensor([0]),
    )
    pointed = Pointed(key="k", text="", kind="", box=(0, 0, 1, 1), overlap=1.0, hits=1.0)
    given = {
        "retrieval": retrieval_scores(result),
        "answers": answering_scores([answer("Q->A", "q:qa"), answer("QA->R", "q:qar0")]),
        "referring": referring_scores([pointed]),
    }
    names = {task: {score.name for score in scores} for task, scores in given.items()}
    for one in ROWS.values():
        assert {number.score for number in one.numbers} <= names[one.task], one.name


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, chance_regions: ModuleType) -> Path:
    """Scenes, regions drawn by chance, and a file in the release's layout, drawn by chance too."""
    folder = tmp_path_factory.mktemp("published")
    draw_scenes(folder / "scenes", easy(num=60, seed=2, size_px=32), workers=1)
    chance_regions.write_regions(open_table(folder / "scenes"), folder / "regions")
    torch.manual_seed(5)
    model = UNITER(CONFIG)
    model.heads = new_heads({"itm": HeadSizes(outputs=2), "mrc": HeadSizes(outputs=5)}, CONFIG)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    write_weights(folder / "weights", CONFIG, model.state_dict(), "uniter")
    (folder / "weights" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder


def joined(world: Path) -> Table:
    from diptych.data.region_files.detect import open_regions
    from diptych.data.region_join import region_columns

    return open_table(world / "scenes").joined(region_columns([open_regions(world / "regions")]))


def test_pairs_are_scored_by_the_logit_of_a_match_alone(world: Path) -> None:
    table = joined(world)
    rows = table.split("test")
    samples = [replace(rows.sample(place, ("regions",)), image=None) for place in range(3)]
    texts, pairs = [sample.texts[0] for sample in samples], [(0, 0), (1, 1), (2, 0)]
    both = systems.load_any(world / "weights", "cpu")
    alone = systems.reproducing._ranking(world / "weights", "cpu")
    items = [both.inputs.item(replace(samples[one], texts=(texts[text],)), None) for one, text in pairs]
    with torch.inference_mode():
        logits = both.model.heads["itm"](both.model(both.inputs.collate(items)).pooled)
    assert_close(alone.match(samples, texts, pairs), logits[:, 1])
    assert_close(both.match(samples, texts, pairs), logits[:, 1] - logits[:, 0])


def test_a_row_from_the_command_line(
    exit_code: Callable[..., int], world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--weights", world / "weights", "--data", world / "scenes", "--regions", world / "regions")
    size = len(open_table(world / "scenes").split("test"))
    (found,) = reproduce(row(rows=size), world / "weights", joined(world), "cpu")

    def expect(value: float) -> None:
        numbers = (Expected(score="matching_accuracy", label="found", value=value),)
        monkeypatch.setattr(published, "rows", lambda: (row(rows=size, numbers=numbers, remark="by hand"),))

    expect(found.got)
    assert exit_code("reproduce", "uniter/small", *files, "--json", world / "got.json") == 0
    told = capsys.readouterr().out
    assert "Pass: 1 of 1 as published." in told and "Note: by hand." in told
    assert f"evaluate {world / 'weights'} --task matching" in " ".join(told.split())
    numbers = json.loads((world / "got.json").read_text())
    assert numbers["passed"] and numbers["numbers"][0]["got"] == found.got and numbers["numbers"][0]["from_memory"]

    expect(found.got + 0.01)
    assert exit_code("reproduce", "uniter/small", *files) == 1
    assert "Fail: 0 of 1 as published." in capsys.readouterr().out
    assert exit_code("reproduce", "uniter/small", *files[:4], "--regions", world / "gone") == 2
    told = capsys.readouterr()
    assert f"for want of --regions ({world / 'gone'} is not there)" in " ".join(told.err.split())
    assert "--regions: something" in told.out
    assert exit_code("reproduce", "uniter/small") == 2
    assert "for want of --weights, --data, --regions" in " ".join(capsys.readouterr().err.split())


def test_zero_shot_retrieval_is_run_over_all_pairs(
    exit_code: Callable[..., int],
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of a network drawn by chance: it is run, judged by every number, and fails."""
    size = len(open_table(world / "scenes").split("test"))
    monkeypatch.setattr(published, "rows", lambda: (replace(ROWS["uniter/flickr-zero-shot"], rows=size),))
    files = ("--weights", world / "weights", "--data", world / "scenes", "--regions", world / "regions")
    assert exit_code("reproduce", "uniter/flickr-zero-shot", *files, "--json", tmp_path / "got.json") == 1
    assert "Fail: " in capsys.readouterr().out
    found = json.loads((tmp_path / "got.json").read_text())
    assert [one["score"] for one in found["numbers"]] == [one.score for one in ROWS["uniter/flickr-zero-shot"].numbers]
    first, last = found["numbers"][0], found["numbers"][2]
    assert first["got"] < 0.65 and last["got"] == 1  # of fewer than ten pictures the right one is among ten
    assert (round(first["low"], 6), round(first["high"], 6)) == (0.6594, 0.6636)
