"""Calibration, confusion, the map, the facts of a machine, and the sentences."""

import numpy as np
import pytest
import torch

from diptych.metrics.calibration import calibration_bins
from diptych.report.calibration import calibration, calibration_words, retrieval_confidence
from diptych.report.confusion import confusion_table, worst_classes
from diptych.report.embedding_map import apart, embedding_map, lay_out
from diptych.report.history import History
from diptych.report.machine import rejects_table, run_facts
from diptych.report.retrieval import retrieval_sections
from diptych.report.sentences import loss_headline, of_100, retrieval_headline, status_line

COUNTS = torch.tensor([[8, 2, 0], [0, 5, 0], [1, 3, 6]])
EMPTY = History(start={}, steps=[], evals=[], rejects=[], notes=[], end=None)


def test_confidence_is_the_softmax_over_all_pictures(make_found):
    found = make_found(num=4, scale=2.0)
    confidence, right = retrieval_confidence(found, 2.0)
    assert confidence.tolist() == pytest.approx([np.exp(2) / (np.exp(2) + 3)] * 4)
    assert right.all()


def test_a_model_without_a_scale_is_not_calibrated_in_silence(make_found):
    assert "Not shown" in calibration(make_found(scale=None)).body


def test_too_sure_is_said():
    sure = torch.full((10,), 0.9)
    assert "too sure" in calibration_words(sure, torch.arange(10) < 5)
    assert "not sure enough" in calibration_words(1 - sure, torch.arange(10) < 5)


def test_confusion_shows_shares_of_the_row(read_html):
    table = confusion_table(COUNTS, ["cup", "<key>", "moon"], caption="taken for")
    words = [word for word in read_html(table).words if word.strip()]
    assert words == ["taken for", "cup", "<key>", "moon", "cup", "80", "20", "<key>", "100", "moon", "10", "30", "60"]


def test_of_many_classes_those_with_mistakes_are_shown():
    counts = 5 * torch.eye(40, dtype=torch.int64)
    counts[37, 2] = 3
    table = confusion_table(counts, [f"class{at}" for at in range(40)], caption="taken for.")
    assert "class37" in table
    assert "16 classes with fewer mistakes are not shown." in table


def test_worst_classes_are_named_with_their_counts():
    assert worst_classes(COUNTS, ["cup", "key", "moon"]) == (
        "The most frequent mistakes: moon taken for key (3 of 10), cup taken for key (2 of 10), "
        "moon taken for cup (1 of 10)."
    )
    assert worst_classes(5 * torch.eye(3, dtype=torch.int64), ["a", "b", "c"]) == "No class is taken for another."


def test_the_map_keeps_clusters_together_and_is_the_same_for_a_seed():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8)) * 10
    vectors = np.concatenate([centre + rng.normal(size=(12, 8)) * 0.1 for centre in centres])
    places = lay_out(vectors, seed=1)
    assert np.array_equal(places, lay_out(vectors, seed=1))
    label = np.repeat(np.arange(3), 12)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1) + 10 * np.eye(36)
    assert (label[distance.argmin(axis=1)] == label).all()


def test_shown_places_do_not_overlap():
    places = np.random.default_rng(0).random((200, 2))
    chosen = places[apart(places, least=0.2, most=12)]
    distance = np.linalg.norm(chosen[:, None] - chosen[None], axis=-1) + np.eye(len(chosen))
    assert distance.min() >= 0.2


def test_a_map_names_its_labels(make_found):
    body = embedding_map(make_found(num=12, labels=[0, 1, None] * 4, label_names=["cup", "key"]), seed=0).body
    assert "coloured by 2 labels" in body
    assert ">cup<" in body
    assert ">no one label<" in body


def test_few_pictures_make_no_map(make_found):
    assert "needs at least 5 pictures; there are 4" in embedding_map(make_found(num=4), seed=0).body


def test_vectors_that_are_not_finite_are_said_once(make_found):
    found = make_found()
    found.image[2, 1] = torch.nan
    (section,) = retrieval_sections(found)
    assert "not finite" in section.body


def test_facts_hold_every_setting(read_html):
    run = {"system": "clip", "recipe": "tiny", "optim": {"lr": 0.003, "betas": [0.9, 0.98]}, "seen": None}
    words = read_html(run_facts(EMPTY, run)).words
    assert {"optim.lr", "0.003", "optim.betas", "0.9, 0.98", "seen", "none"} <= set(words)


def test_rejects_are_counted_by_reason_and_escaped():
    table = rejects_table([("a<b", "truncated"), ("c", "truncated"), ("d", "too large")])
    assert table.index("truncated") < table.index("too large")
    assert "a&lt;b" in table
    assert "Nothing" in rejects_table([])


def test_headline_says_where_it_began():
    assert retrieval_headline(0.41, 100, began_at=0.0, chance=0.01).endswith("for 41 of 100 texts; it began at 0")
    assert retrieval_headline(0.41, 100, began_at=None, chance=0.01).endswith("; guessing gets 1")


@pytest.mark.parametrize(("share", "told"), [(0.0, "0"), (1e-4, "fewer than 1"), (0.996, "more than 99"), (1.0, "100")])
def test_of_100(share, told):
    assert of_100(share) == told


ENDS = {
    "finished": "The run finished, at step 0.",
    "nan": "The run ended because the loss was no longer a finite number, at step 0.",
    "unfinished": "The run has not ended: it is still going, or was killed, at step 0.",
}


@pytest.mark.parametrize(("status", "told"), ENDS.items())
def test_status(status, told):
    assert status_line(status, EMPTY) == told


def test_a_run_without_a_step_has_a_headline():
    assert loss_headline(EMPTY, []) == "This run ended before its first step was logged"


def test_the_page_tells_the_calibration_error_of_the_table():
    rng = torch.Generator().manual_seed(2)
    confidence = torch.rand(300, generator=rng)
    right = torch.rand(300, generator=rng) < 0.5 * confidence
    told = f"expected calibration error {100 * calibration_bins(confidence, right).error():.1f} points"
    assert told in calibration_words(confidence, right)
