"""The sections of results and rejects, for the report of a run and of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from diptych.report.calibration import calibration_chart, calibration_words
from diptych.report.confusion import confusion_table, worst_classes
from diptych.report.machine import rejects_table
from diptych.report.page import Section, missing, note, paragraphs
from diptych.report.scores import Score, near_chance_words, scores_table

RESULTS_HOW = (
    "Every number with what guessing would get and its 95 % interval: how far it may be off because only so many "
    "rows were asked. A result whose interval includes chance is marked."
)


def results_section(scores: Sequence[Score], *, split: str, why_not: str = "", remark: str = "") -> Section:
    """The table of results.

    Args:
        scores: in groups.
        split: what was asked.
        why_not: said where there are none.
        remark: said after the sentence that names what stays near chance, where there is one.
    """
    if not scores:
        return missing("Results", RESULTS_HOW, why_not)
    near = near_chance_words(scores)
    told = note(" ".join(part for part in (near, remark) if part)) if near else ""
    how = f"On the split {split!r}. {RESULTS_HOW}"
    return Section(title="Results", how_to_read=how, body=scores_table(scores) + told)


def classes_section(
    *, counts: Tensor, names: Sequence[str], confidence: Tensor, right: Tensor, templates: Sequence[str]
) -> Section:
    """What each class is taken for, and whether the model is as sure as it may be.

    Args:
        counts: (C, C) int64, true class by row, class taken by column.
        names: C names.
        confidence: (N,) probability of the class taken.
        right: (N,) bool.
        templates: the texts the names stood in.
    """
    how = (
        f"Each picture is given the class whose text is nearest, among {len(names)}; in training it was never told "
        "a class. A row holds the pictures of one class, a column what they were taken for, in per cent; the "
        f"outlined diagonal is right. The texts: {_quoted(templates)}."
    )
    table = confusion_table(counts, names, caption="Taken for, in per cent of the row.")
    chart = calibration_chart(confidence, right, name="calibration-classes", of="pictures")
    told = paragraphs(worst_classes(counts, names))
    sure = paragraphs(calibration_words(confidence, right))
    return Section(title="Zero-shot classes", how_to_read=how, body=f"{told}{table}{sure}{chart}")


def rejects_section(rejects: Sequence[tuple[str, str]]) -> Section:
    """What was left out of training and of the results."""
    return Section(
        title="Left out",
        how_to_read="Rows whose picture or texts could not be used, in training and in the results, with the reason.",
        body=rejects_table(rejects),
    )


def _quoted(templates: Sequence[str]) -> str:
    shown = ", ".join(f"“{template}”" for template in templates[:3])
    return shown + (f" and {len(templates) - 3} more" if len(templates) > 3 else "")
