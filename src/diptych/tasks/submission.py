"""What leaderboards take: the answers of a model to the rows of a split as the text of a file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from diptych.data.choosing import TO_ANSWER, question_of
from diptych.data.examples import TRUTHS
from diptych.tasks.answering import Answered
from diptych.tasks.referring import Pointed


def answers_file(found: Sequence[Answered], names: Sequence[str]) -> str:
    """The form that the server of a task takes.

    Args:
        found: of a split.
        names: the answers that the model chooses among; none where each row has options of its own.
    Returns:
        VCR's table where rows have options, NLVR2's lines where answers are TRUTHS, else VQA's list.
    """
    if not names:
        return _options_file(found)
    return _truths_file(found) if tuple(names) == TRUTHS else _list_file(found)


def boxes_file(found: Sequence[Pointed]) -> str:
    """A list of {sent_id, box}: corners as shares of the picture. No server of RefCOCO's states a form."""
    return _lines([{"sent_id": _id(one.key), "box": [round(edge, 5) for edge in one.box]} for one in found])


def _list_file(found: Sequence[Answered]) -> str:
    """VQA's: a list of {question_id, answer}; keys that are whole numbers, as VQA's are, are written as such."""
    return _lines([{"question_id": _id(one.key), "answer": one.answer} for one in found])


def _truths_file(found: Sequence[Answered]) -> str:
    """NLVR2's: a line with identifier and answer for each row."""
    return "".join(f"{one.key},{one.answer}\n" for one in found)


def _options_file(found: Sequence[Answered]) -> str:
    """VCR's: a row a question, with how likely each answer is, and each rationale given each answer.

    Where rationales were asked for given one answer alone, the columns of the others stay empty.
    """
    places = range(max((len(one.shares) for one in found), default=0))
    of_answers = [f"answer_{place}" for place in places]
    of_rationales = [f"rationale_conditioned_on_a{given}_{place}" for given in places for place in places]
    rows: dict[str, dict[str, str]] = {}
    for one in found:
        row = rows.setdefault(question_of(one.key), {"annot_id": question_of(one.key)})
        given = one.key.removeprefix(f"{question_of(one.key)}:qar")
        prefix = "answer_" if one.kind == TO_ANSWER else f"rationale_conditioned_on_a{given}_"
        row |= {f"{prefix}{place}": f"{likely:.6f}" for place, likely in enumerate(one.shares)}
    out = io.StringIO()
    writer = csv.DictWriter(out, ["annot_id", *of_answers, *of_rationales], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    return out.getvalue()


def _lines(rows: Sequence[dict[str, object]]) -> str:
    return json.dumps(rows, ensure_ascii=False, indent=0) + "\n"


def _id(key: str) -> int | str:
    """A key as its source has it, a whole number, where nothing of it is lost by that."""
    return int(key) if key.isdecimal() and str(int(key)) == key else key
