"""Answers of a model as sections with pictures: some as they come, and those that are wrong."""

from __future__ import annotations

from diptych.data.table import Rows
from diptych.report.answers import Answer, answers_section
from diptych.report.found import drawn
from diptych.report.page import Section
from diptych.report.pictures import Picture
from diptych.report.tables import table as html_table
from diptych.tasks.choices import ChoicesResult
from diptych.tasks.classified import Classified
from diptych.tasks.linear_probe import LinearProbeResult

SHOWN = 24
"""Answers of a section."""
SHOWN_OF_KIND = 8


def class_answers(result: Classified, rows: Rows, seed: int) -> list[Section]:
    """Some answers as they come, then the mistakes the model was surest of."""
    some = drawn(SHOWN, len(result.rows), seed=seed, purpose="answers")
    wrong = (~result.right).nonzero()[:, 0].tolist()
    surest = sorted(wrong, key=lambda at: -float(result.confidence[at]))[:SHOWN]
    return [
        answers_section(
            "Some answers",
            f"Every picture is as likely to be drawn (seed {seed}); with the class taken and how sure the model was.",
            [_class_answer(result, rows, at) for at in some],
            none="There are no pictures.",
        ),
        answers_section(
            "Surest mistakes",
            "The wrong answers that the model was surest of. Look for wrong labels here first.",
            [_class_answer(result, rows, at) for at in surest],
            none="No picture is taken for another class.",
        ),
    ]


def _class_answer(result: Classified, rows: Rows, at: int) -> Answer:
    return Answer(
        picture=Picture(key=result.keys[at], source=rows.sample(result.rows[at]).image),
        taken=result.class_names[int(result.predicted[at])],
        right=result.class_names[int(result.labels[at])],
        is_right=bool(result.right[at]),
        remark=f"{100 * float(result.confidence[at]):.0f} % sure",
    )


def strengths(result: LinearProbeResult) -> Section:
    """Every lambda that was tried."""
    rows = [
        (f"{strength:.3g}", f"{100 * share:.1f} %", "chosen" if strength == result.strength else "")
        for strength, share in result.searched.items()
    ]
    return Section(
        title="Choice of lambda",
        how_to_read=(
            f"Accuracy on {result.validation} for each strength of the L2 penalty that was tried; the highest wins, of "
            f"equal ones the strongest. The classifier was then fitted anew on {result.num_train:,} rows, validation "
            "among them."
        ),
        body=html_table(("lambda", "validation", ""), rows),
    )


def wrong_of_kind(result: ChoicesResult, kind: str, rows: Rows, seed: int) -> Section:
    """Some of the questions of one kind that were answered wrong."""
    of_kind = [question for question in result.questions if question.kind == kind]
    wrong = [question for question in of_kind if not question.right]
    shown = [wrong[at] for at in drawn(SHOWN_OF_KIND, len(wrong), seed=seed, purpose=kind)] if wrong else []
    return answers_section(
        f"Wrong about {kind.replace('_', ' ')}",
        f"{len(wrong)} of {len(of_kind)} questions were answered wrong; of these, some drawn by seed {seed}.",
        [
            Answer(
                picture=Picture(key=question.key, source=rows.sample(question.row).image),
                taken=question.texts[question.chosen],
                right=question.texts[question.answer],
                is_right=False,
            )
            for question in shown
        ],
        none="Every question was answered right.",
    )
