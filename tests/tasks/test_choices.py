"""Choices: questions one can answer by looking, and what a tie is worth."""

import pyarrow as pa
import pytest
import torch

from diptych.errors import DataError
from diptych.metrics.intervals import wilson
from diptych.tasks.choices import choices
from diptych.tasks.evidence import choices_scores

COLUMNS = {
    "choices": pa.list_(pa.struct([("kind", pa.string()), ("texts", pa.list_(pa.string())), ("answer", pa.int32())]))
}


def ask(kind, texts, answer):
    return {"kind": kind, "texts": texts, "answer": answer}


@pytest.fixture
def rows(make_rows, picture):
    asked = [
        ("red", [ask("colours", ["red", "blue"], 0), ask("all", ["blue", "green", "red", "yellow"], 2)]),
        ("blue", [ask("colours", ["red", "blue"], 1), ask("wrong", ["blue", "green"], 1)]),
        ("green", []),
    ]
    return make_rows(
        [{"image": picture(colour), "fields": {"choices": questions}} for colour, questions in asked], columns=COLUMNS
    )


def test_accuracy_and_chance_by_kind(towers, rows):
    result = choices(towers, rows)
    assert [(kind.kind, kind.num, kind.hits, kind.chance) for kind in result.kinds] == [
        ("colours", 2, 2, 0.5),
        ("all", 1, 1, 0.25),
        ("wrong", 1, 0, 0.5),
    ]
    numbers = result.numbers()
    assert numbers["colours_accuracy"] == 1
    assert (numbers["wrong_low"], numbers["wrong_high"]) == wilson(0, 1)
    assert numbers["colours_num"] == 2


def test_scores_stand_in_the_order_of_chance_and_count_where_they_are_asked_first(towers, rows, make_rows, picture):
    again = [ask("colours", ["blue", "red"], 0), ask("all", ["red", "blue", "green"], 0), ask("left", ["red", "up"], 0)]
    other = make_rows([{"image": picture("red"), "fields": {"choices": again}}], columns=COLUMNS)
    scores = choices_scores(choices(towers, rows), choices(towers, other))
    assert [(score.label, score.count, score.chance) for score in scores] == [
        ("all", 1, 0.25),
        ("colours", 2, 0.5),
        ("left", 1, 0.5),
        ("wrong", 1, 0.5),
    ]


def test_every_question_says_what_was_taken(towers, rows):
    wrong = choices(towers, rows).questions[-1]
    assert (wrong.row, wrong.key, wrong.texts[wrong.chosen], wrong.right) == (1, "k1", "blue", False)


def test_a_model_that_reads_nothing_is_always_wrong(towers, rows):
    class Illiterate(type(towers)):
        def encode_text(self, texts, *, normalize=True):
            return torch.ones(len(texts), 3)

    assert [kind.hits for kind in choices(Illiterate(), rows).kinds] == [0, 0, 0]


def test_a_split_without_questions_is_told(towers, make_rows):
    with pytest.raises(DataError, match="asks no questions"):
        choices(towers, make_rows([{"fields": {"choices": []}}], columns=COLUMNS))


def test_a_table_without_the_column_is_told(towers, make_rows):
    with pytest.raises(DataError, match="choices"):
        choices(towers, make_rows([{}]))


def test_an_answer_that_is_no_text_is_told(towers, make_rows):
    rows = make_rows([{"fields": {"choices": [ask("colours", ["red"], 1)]}}], columns=COLUMNS)
    with pytest.raises(DataError, match="k0: a question of kind 'colours' has 1 texts and answer 1"):
        choices(towers, rows)
