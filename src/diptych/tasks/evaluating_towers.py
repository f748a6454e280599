"""The tasks of two towers, each with its numbers, sentence and sections."""

from __future__ import annotations

from diptych.data.table import Table
from diptych.errors import DataError, UsageError
from diptych.progress import Progress
from diptych.report.results import classes_section
from diptych.report.retrieval import retrieval_sections
from diptych.report.sentences import of_100, retrieval_headline
from diptych.tasks.answer_sections import class_answers, strengths
from diptych.tasks.asked import Asked, Evaluation
from diptych.tasks.classified import Classified
from diptych.tasks.encoder import Towers
from diptych.tasks.evidence import classes_scores, found_by, retrieval_scores
from diptych.tasks.linear_probe import linear_probe
from diptych.tasks.prompts import DEFAULT, templates
from diptych.tasks.retrieval import retrieval
from diptych.tasks.zero_shot import zero_shot


def evaluate_retrieval(encoder: Towers, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    """All pictures ranked for each text, and all texts for each picture."""
    rows = table.split(asked.split)
    result = retrieval(encoder, rows, limit=asked.limit, text_kind=asked.text_kind, progress=progress)
    names = tuple(table.meta.get("label_names", ()))
    numbers, chance = result.numbers(), result.chance()
    return Evaluation(
        task="retrieval",
        headline=retrieval_headline(
            numbers["text_to_image_r1"], len(result.keys), began_at=None, chance=chance["text_to_image_r1"]
        ),
        scores=tuple(retrieval_scores(result)),
        details={"num_pictures": len(result.keys), "num_texts": len(result.texts)},
        rejects=result.rejects,
        sections=lambda drawing: retrieval_sections(
            found_by(result, rows, scale=encoder.scale, label_names=names), seed=asked.seed, progress=drawing
        ),
    )


def evaluate_zero_shot(encoder: Towers, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    """Classes by the texts of their names."""
    rows = table.split(asked.split)
    texts = asked.templates or tuple(table.meta.get("templates", ())) or templates(DEFAULT)
    result = zero_shot(
        encoder, rows, class_names=_class_names(table, asked), templates=texts, limit=asked.limit, progress=progress
    )
    return Evaluation(
        task="zero_shot",
        headline=_class_headline(result),
        scores=tuple(classes_scores(result)),
        details={
            "class_names": list(result.class_names),
            "templates": list(result.templates),
            "calibration_error": result.numbers()["calibration_error"],
        },
        rejects=result.rejects,
        sections=lambda _: [
            classes_section(
                counts=result.confusion(),
                names=result.class_names,
                confidence=result.confidence,
                right=result.right,
                templates=result.templates,
            ),
            *class_answers(result, rows, asked.seed),
        ],
    )


def evaluate_linear_probe(encoder: Towers, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    """Classes by a linear map of the features."""
    if asked.split == "train":
        raise UsageError("the probe is fitted on the split 'train'; ask about another, e.g. --split test")
    held_out = "validation" in table.splits and asked.split != "validation"
    rows = table.split(asked.split)
    result = linear_probe(
        encoder,
        table.split("train"),
        table.split("validation") if held_out else None,
        rows,
        class_names=tuple(names[0] for names in _class_names(table, asked)),
        limit=asked.limit,
        seed=asked.seed,
        progress=progress,
    )
    return Evaluation(
        task="linear_probe",
        headline=_class_headline(result),
        scores=tuple(classes_scores(result, group="Linear probe")),
        details={
            "lambda": result.strength,
            "chosen_on": result.validation,
            "num_train": result.num_train,
            "class_names": list(result.class_names),
            "searched": [[strength, share] for strength, share in result.searched.items()],
            "calibration_error": result.numbers()["calibration_error"],
        },
        rejects=result.rejects,
        sections=lambda _: [strengths(result), *class_answers(result, rows, asked.seed)],
    )


def _class_names(table: Table, asked: Asked) -> tuple[tuple[str, ...], ...]:
    names = asked.class_names or tuple((name,) for name in table.meta.get("label_names", ()))
    if not names:
        raise DataError(
            f"{table.path} names no labels (label_names in table.json); give a name for each with --class-names FILE, "
            "one a line"
        )
    return names


def _class_headline(result: Classified) -> str:
    numbers = result.numbers()
    return (
        f"The right class, of {len(result.class_names)}, comes first for {of_100(numbers['top1'])} of 100 pictures; "
        f"guessing gets {of_100(numbers['chance'])}"
    )
