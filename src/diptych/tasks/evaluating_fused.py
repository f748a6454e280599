"""The tasks of models that read text and regions at once, each with its numbers, sentence and sections."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from diptych.data.table import Table
from diptych.progress import Progress
from diptych.report.sentences import matching_headline, of_100, retrieval_headline
from diptych.tasks.all_pairs import all_pairs
from diptych.tasks.answering import ALL, Answerer, answering, answering_scores, examples_section
from diptych.tasks.asked import Asked, Evaluation
from diptych.tasks.encoder import Towers
from diptych.tasks.evidence import retrieval_scores
from diptych.tasks.matcher import Matcher
from diptych.tasks.matching import alignments, matching
from diptych.tasks.referring import Pointer, phrases_section, referring, referring_scores
from diptych.tasks.rerank import rerank
from diptych.tasks.retrieval import retrieval


def evaluate_all_pairs(
    matcher: Matcher, table: Table, asked: Asked, keep: Path | None, progress: Progress
) -> Evaluation:
    """Retrieval by a model that reads every pair."""
    result = all_pairs(
        matcher,
        table.split(asked.split),
        limit=asked.limit,
        text_kind=asked.text_kind,
        keep=keep,
        progress=progress,
    )
    r1 = "text_to_image_r1"
    return Evaluation(
        task="retrieval",
        headline=retrieval_headline(result.numbers()[r1], len(result.keys), began_at=None, chance=result.chance()[r1]),
        scores=tuple(retrieval_scores(result, group="Retrieval, all pairs")),
        details={"num_pictures": len(result.keys), "num_texts": len(result.texts)},
        rejects=result.rejects,
        sections=lambda _: [],
    )


def evaluate_reranked(matcher: Matcher, recall: Towers, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    """Retrieval whose candidates two towers find."""
    rows = table.split(asked.split)
    before = retrieval(recall, rows, limit=asked.limit, text_kind=asked.text_kind, progress=progress)
    weight = asked.recall_weight * recall.scale
    after = rerank(before, matcher, rows, top=asked.top, cosine_weight=weight, progress=progress)
    r1 = {name: result.numbers()["text_to_image_r1"] for name, result in (("before", before), ("after", after))}
    counted = " and whose logit counts" if weight > 0 else ""
    alone = [
        replace(score, name=f"recalled_{score.name}")
        for score in retrieval_scores(before, group=f"Retrieval by {recall.name} alone")
    ]
    return Evaluation(
        task="retrieval",
        headline=(
            f"Finds the right picture first for {of_100(r1['after'])} of 100 texts among {len(after.keys):,} pictures, "
            f"where {recall.name}, which recalls {asked.top}{counted}, finds it for {of_100(r1['before'])}"
        ),
        scores=(*retrieval_scores(after, group=f"Retrieval, the first {asked.top} in a new order"), *alone),
        details={
            "num_pictures": len(after.keys),
            "num_texts": len(after.texts),
            "top": asked.top,
            "recall_weight": asked.recall_weight,
        },
        rejects=after.rejects,
        sections=lambda _: [],
    )


def evaluate_matching(matcher: Matcher, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    """Each row's own text against another's."""
    rows = table.split(asked.split)
    result = matching(matcher, rows, limit=asked.limit, seed=asked.seed, progress=progress)
    return Evaluation(
        task="matching",
        headline=matching_headline(result.right, len(result.keys)),
        scores=tuple(result.scores()),
        details={"num_texts": len(result.keys)},
        rejects=(),
        sections=lambda _: alignments(result, matcher, rows, asked.seed),
    )


def evaluate_answers(model: Answerer, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    """Questions, statements and options."""
    found = answering(model, table.split(asked.split), limit=asked.limit, progress=progress)
    scores = answering_scores(found)
    right = next(score for score in scores if score.label == ALL)
    by_chance = "guessing" if model.reads_options else "always giving a kind's usual answer"
    return Evaluation(
        task="answers",
        headline=(
            f"Answers {of_100(right.value)} of 100 questions rightly; {by_chance} gets {of_100(right.chance or 0.0)}"
        ),
        scores=tuple(scores),
        details={"num_questions": len(found), "num_answers": len(model.answers)},
        rejects=(),
        sections=lambda _: [examples_section(found, asked.seed)],
    )


def evaluate_referring(model: Pointer, table: Table, asked: Asked, progress: Progress) -> Evaluation:
    """Phrases that mean one region."""
    found = referring(model, table.split(asked.split), limit=asked.limit, progress=progress)
    scores = referring_scores(found)
    return Evaluation(
        task="referring",
        headline=(
            f"Finds what is meant for {of_100(scores[0].value)} of 100 phrases; choosing a region by chance, for "
            f"{of_100(scores[0].chance or 0.0)}"
        ),
        scores=tuple(scores),
        details={"num_phrases": len(found)},
        rejects=(),
        sections=lambda _: [phrases_section(found, asked.seed)],
    )
