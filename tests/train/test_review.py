"""The report of a run: its numbers are those of metrics.json, and it is written however the run ended."""

import io
import json
import math
import re
from html.parser import HTMLParser

import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.report.scores import from_plain as scores_from
from diptych.report.scores import interval, words
from diptych.train.review import write_report

COLOURS = {"red": (200, 20, 20), "green": (20, 190, 20), "blue": (20, 20, 210)}
CHOICES = pa.list_(pa.struct([("kind", pa.string()), ("texts", pa.list_(pa.string())), ("answer", pa.int32())]))
NUM = 12


class Towers:
    """Pictures become their colour, texts the colour they name; nothing else is seen."""

    name, scale = "colours", 20.0

    def encode_image(self, pictures):
        shown = [Image.open(io.BytesIO(sample.image)).convert("RGB").getpixel((0, 0)) for sample in pictures]
        return F.normalize(torch.tensor(shown).float() - 100, dim=1)

    def encode_text(self, texts):
        named = [next((rgb for name, rgb in COLOURS.items() if name in text), (101, 101, 101)) for text in texts]
        return F.normalize(torch.tensor(named).float() - 100, dim=1)

    def image_features(self, pictures):
        return self.encode_image(pictures)


def picture(number):
    colour = list(COLOURS.values())[number % 3]
    file = io.BytesIO()
    Image.new("RGB", (6, 5), tuple(min(255, channel + number) for channel in colour)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "table"
    with TableWriter(folder, columns={"choices": CHOICES}, meta={"label_names": list(COLOURS)}) as writer:
        for number in range(NUM):
            name = list(COLOURS)[number % 3]
            questions = [
                {"kind": "colours", "texts": [f"a {other}" for other in COLOURS], "answer": number % 3},
                {"kind": "sides", "texts": ["left", "right"], "answer": number % 2},
            ]
            writer.add(
                "validation",
                key=f"k{number}",
                image=picture(number),
                texts=[f"a {name} <b>card</b> {number}"],
                label=number % 3,
                fields={"choices": questions},
            )
    return open_table(folder)


def log(status="finished", steps=3, **end):
    start = {"machine": {"cpu": "a processor", "threads": 2}, "versions": {"torch": "2.14"}, "precision": "float32"}
    yield {"event": "start", "step": 0, "time_s": 0.0, "batch": 4, "steps": 9, "chance_loss": math.log(4), **start}
    yield {"event": "eval", "step": 0, "split": "validation", "rows": NUM, "loss": 1.4,
           "metrics": {"text_to_image_r1": 0.0, "image_to_text_r1": 0.0}}  # fmt: skip
    for step in range(1, steps + 1):
        yield {"event": "step", "step": step, "time_s": step, "loss": 1.4 / step, "lr": 1e-3, "temperature": 0.07,
               "samples_per_s": 9.0, "loader_share": 0.1, "grad_norm": 1.0}  # fmt: skip
    yield {"event": "reject", "step": 1, "key": "bad<key>", "reason": "truncated"}
    if status is not None:
        yield {"event": "end", "step": steps, "time_s": steps, "status": status, "text": "", **end}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    def make(*events):
        folder = tmp_path_factory.mktemp("run")
        (folder / "run.json").write_text(json.dumps({"system": "clip", "recipe": "tiny", "training": {}}))
        (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
        return folder

    return make


@pytest.fixture(scope="module")
def review(table, run_folder):
    """Of a run that finished."""
    return write_report(run_folder(*log()), encoder=Towers(), table=table)


class Cells(HTMLParser):
    """The cells of the table of results, by the name of their score."""

    def __init__(self, html):
        super().__init__()
        self.found, self._name = {}, None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self._name = dict(attrs).get("data-score") if tag == "tr" else self._name
        if tag in ("td", "th") and self._name is not None:
            self.found.setdefault(self._name, []).append("")

    def handle_endtag(self, tag):
        self._name = None if tag == "tr" else self._name

    def handle_data(self, data):
        if self._name is not None:
            self.found[self._name][-1] += data


def test_every_number_of_the_page_is_the_one_of_the_json(review):
    results = json.loads(review.metrics.read_text())["results"]
    shown = Cells(review.report.read_text()).found
    assert list(shown) == list(results)
    for score in scores_from(results):
        chance = words(score.chance, score.unit)
        assert shown[score.name][1:] == [words(score.value, score.unit), chance, interval(score), f"{score.count:,}"]


def test_results_are_what_the_towers_can_do(review):
    results = json.loads(review.metrics.read_text())["results"]
    assert results["colours_accuracy"]["value"] == results["classes_top1"]["value"] == 1.0
    assert results["colours_accuracy"]["chance"] == pytest.approx(1 / 3)
    assert results["sides_accuracy"]["value"] == 0.0, "ties count against the model"
    assert results["text_to_image_r1"]["value"] < results["text_to_image_r5"]["value"] == 1.0


def test_the_first_line_says_what_was_learned_and_where_it_began(review):
    html = review.report.read_text()
    assert f"<h1>{review.headline}</h1>" in html
    assert re.fullmatch(r"The right picture, of 12, comes first for \d+ of 100 texts; it began at 0", review.headline)


def test_what_stays_near_chance_is_named_and_why(table, run_folder):
    towers = Towers()
    by_colour = towers.encode_text
    towers.encode_text = lambda texts: by_colour(
        ["a blue" if text == "left" else text for text in texts]
    )  # as by a coin
    html = write_report(run_folder(*log()), encoder=towers, table=table).report.read_text()
    near = re.search("Near chance: [^.]*", html)[0]
    assert "sides" in near
    assert "colours" not in near
    assert "The fused models" in html
    assert "Wrong about sides" in html


def test_a_model_that_learned_nothing_is_not_excused_by_its_towers(table, run_folder):
    towers = Towers()
    by_colour = towers.encode_text
    towers.encode_text = lambda texts: by_colour([text.replace("red", "green") for text in texts])
    towers.encode_image = lambda pictures: by_colour(["blue"] * len(pictures))
    html = write_report(run_folder(*log()), encoder=towers, table=table).report.read_text()
    assert "the run has not learned yet" in html
    assert "The fused models" not in html


@pytest.mark.parametrize(
    ("status", "told"),
    [("interrupted", "was stopped by hand, at step 3 of 9"), ("nan", "no longer a finite number"),
     ("failed", "The run failed, at step 3 of 9"), (None, "has not ended")],
)  # fmt: skip
def test_written_however_the_run_ended(run_folder, status, told):
    review = write_report(run_folder(*log(status)), encoder=None, table=None)
    html = review.report.read_text()
    assert told in html[: html.index("<main>")]


def test_a_killed_run_that_left_a_checkpoint_still_shows_what_it_finds(table, run_folder):
    html = write_report(run_folder(*log(None)), encoder=Towers(), table=table).report.read_text()
    assert "has not ended" in html
    assert "Found for a text" in html


def test_without_a_checkpoint_the_curves_stand_and_the_rest_says_why(table, run_folder):
    review = write_report(run_folder(*log("failed", text="out of memory")), encoder=None, table=table)
    html = review.report.read_text()
    assert review.headline.startswith("The loss went from 1.40 to 0.47 in 3 steps; guessing gives 1.39")
    assert "out of memory" in html
    assert "ended before its first checkpoint" in html
    assert "Training loss: from 1.4" in html
    assert json.loads(review.metrics.read_text())["results"] == {}


def test_a_run_that_never_took_a_step(run_folder):
    html = write_report(run_folder(), encoder=None, table=None).report.read_text()
    assert "ended before its first step" in html
    assert "the log holds no loss" in html


def test_losses_that_are_not_finite_leave_valid_json(run_folder):
    events = [*log("nan"), {"event": "step", "step": 4, "time_s": 4, "loss": math.nan}]
    review = write_report(run_folder(*events), encoder=None, table=None)
    json.loads(review.metrics.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_a_split_that_is_not_there_is_said(table, run_folder):
    html = write_report(run_folder(*log()), encoder=Towers(), table=table, split="tset").report.read_text()
    assert "there is no split" in html


def test_a_report_with_answers_stays_where_the_model_cannot_be_asked_any_more(table, run_folder):
    folder = run_folder(*log())
    assert "ended before its first checkpoint" in write_report(folder, encoder=None, table=table).report.read_text()
    write_report(folder, encoder=Towers(), table=table, keep_answers=True)
    before = (folder / "report.html").read_bytes(), (folder / "metrics.json").read_bytes()
    for given in ({"table": None}, {"table": table, "split": "tset"}):
        with pytest.raises(DataError, match=r"report\.html stays as it is: .*(the table that|there is no split)"):
            write_report(folder, encoder=Towers(), **given, keep_answers=True)
    assert before == ((folder / "report.html").read_bytes(), (folder / "metrics.json").read_bytes())


def test_words_of_users_are_no_markup(review):
    html = review.report.read_text()
    assert "<b>card" not in html
    assert "bad&lt;key&gt;" in html
    assert "<script" not in html


def test_the_report_stays_small_and_is_the_same_again(review, table):
    before = review.report.read_bytes()
    again = write_report(review.report.parent, encoder=Towers(), table=table)
    assert again.report.read_bytes() == before
    assert len(before) < 5_000_000
