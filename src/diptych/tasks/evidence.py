"""Evidence: a task's result as scores with chance and interval, and as what a report draws its pictures from."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.data.table import Rows
from diptych.metrics.accuracy import mean_per_class
from diptych.metrics.recall import median_rank
from diptych.report.found import Found
from diptych.report.pictures import Picture
from diptych.report.scores import Score, share
from diptych.tasks.choices import ChoicesResult, KindResult
from diptych.tasks.classified import Classified
from diptych.tasks.retrieval import KS, Ranked, RetrievalResult

WAYS = (("text_to_image", "right picture"), ("image_to_text", "right text"))
"""What is found; the labels made of these have 32 letters at most, so that no table breaks a line of 80."""


def retrieval_scores(result: Ranked, *, group: str = "Retrieval") -> list[Score]:
    """Recall at 1, 5 and 10 and the median rank, both ways.

    Args:
        result: what was found.
        group: the heading.
    """
    scores, chance = [], result.chance()
    for way, words in WAYS:
        ranks = result.text_to_image_ranks if way == "text_to_image" else result.image_to_text_ranks
        for k in KS:
            name = f"{way}_r{k}"
            right = int((ranks < k).sum())
            label = f"{words} first (R@1)" if k == 1 else f"{words} in first {k} (R@{k})"
            scores.append(
                share(name=name, label=label, group=group, right=right, count=len(ranks), chance=chance[name])
            )
        middle = Score(
            name=f"{way}_median_rank",
            label=f"{words}, median rank",
            group=group,
            value=median_rank(ranks),
            count=len(ranks),
            unit="rank",
        )
        scores.append(middle)
    return scores


def choices_scores(*results: ChoicesResult, group: str = "Zero-shot by kind of question") -> list[Score]:
    """Accuracy by kind of question, the kinds with the most texts to choose from first.

    Args:
        results: of one split or several; a kind that several ask counts where it is asked first.
        group: the heading.
    """
    first: dict[str, KindResult] = {}
    for result in results:
        for kind in result.kinds:
            first.setdefault(kind.kind, kind)
    return [
        share(
            name=f"{kind.kind}_accuracy",
            label=kind.kind.replace("_", " "),
            group=group,
            right=kind.hits,
            count=kind.num,
            chance=kind.chance,
        )
        for kind in sorted(first.values(), key=lambda kind: (round(kind.chance, 6), kind.kind))
    ]


def classes_scores(result: Classified, *, group: str = "Zero-shot classes") -> list[Score]:
    """Top-1, top-5 and the mean of the classes' accuracies."""
    names, chance = len(result.class_names), 1 / len(result.class_names)
    scores = [
        share(
            name=f"classes_top{k}",
            label="right class first" if k == 1 else f"right class among the first {k}",
            group=group,
            right=int((result.ranks < k).sum()),
            count=len(result.labels),
            chance=min(k * chance, 1.0),
        )
        for k in (1, 5)
        if k < names
    ]
    mean = Score(
        name="classes_mean_per_class",
        label="mean over classes",
        group=group,
        value=mean_per_class(result.right, result.labels, names),
        count=len(result.labels),
        chance=chance,
    )
    return [*scores, mean]


def found_by(
    result: RetrievalResult, rows: Rows, *, scale: float | None = None, label_names: Sequence[str] = ()
) -> Found:
    """The result with its pictures at hand.

    Args:
        result: what was found.
        rows: the split it was found in.
        scale: what the model multiplies cosines by before its softmax.
        label_names: of the table.
    """
    labels = [rows.sample(row).label for row in result.rows]
    return Found(
        image=result.image.float(),
        text=result.text.float(),
        texts=result.texts,
        pictures_of_text=result.right_pictures(),
        texts_of_picture=result.right_texts(),
        text_ranks=result.text_to_image_ranks,
        image_ranks=result.image_to_text_ranks,
        picture=lambda at: Picture(key=result.keys[at], source=rows.sample(result.rows[at]).image),
        scale=scale,
        labels=labels if any(label is not None for label in labels) else (),
        label_names=label_names,
    )
