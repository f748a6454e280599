"""The linear probe: against scikit-learn, against the published search, and on four colours."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diptych.errors import DataError, ShapeError
from diptych.metrics.accuracy import predictions
from diptych.tasks.linear_probe import linear_probe
from diptych.tasks.logistic import GRID, Labelled, best_strength, fit_logistic, search_strength, share_right
from diptych.tasks.vectors import InFile, InMemory

COLOURS = ("red", "green", "blue", "yellow")


def clouds(num, *, width=5, classes=3, spread=1.0, seed=0):
    """Classes as clouds of points that overlap."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(num) % classes
    return Labelled(features=centres[labels] + spread * torch.randn(num, width, generator=rng), labels=labels)


@pytest.mark.parametrize("strength", [1e-2, 10**0.5, 1e3])
def test_coefficients_and_predictions_are_those_of_scikit_learn(strength):
    from sklearn.linear_model import LogisticRegression

    rows, fresh = clouds(61), clouds(40, seed=1)
    ours = fit_logistic(rows, num_classes=3, strength=strength)
    theirs = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=10_000)
    theirs.fit(rows.features.double().numpy(), rows.labels.numpy())
    # Of weights up to 5; the weaker the penalty, the flatter the bottom on which both stop.
    assert_close(ours.weight, torch.from_numpy(theirs.coef_), atol=1e-5, rtol=0)
    assert_close(ours.bias, torch.from_numpy(theirs.intercept_), atol=1e-5, rtol=0)
    expected = torch.from_numpy(theirs.predict_proba(fresh.features.double().numpy()))
    assert_close(ours.scores(fresh.features).softmax(dim=1), expected, atol=1e-5, rtol=0)


def test_a_warm_start_ends_where_a_cold_one_does():
    rows = clouds(50)
    far = fit_logistic(rows, num_classes=3, strength=1e3)
    cold = fit_logistic(rows, num_classes=3, strength=0.1)
    warm = fit_logistic(rows, num_classes=3, strength=0.1, start=far)
    assert_close(warm.weight, cold.weight, atol=1e-5, rtol=0)


def test_tiles_of_rows_change_nothing(monkeypatch):
    whole = fit_logistic(clouds(50), num_classes=3, strength=1.0)
    monkeypatch.setattr("diptych.tasks.logistic.TILE", 7)
    tiled = fit_logistic(clouds(50), num_classes=3, strength=1.0)
    assert_close(tiled.weight, whole.weight, atol=1e-6, rtol=0)
    assert share_right(tiled, clouds(50)) == share_right(whole, clouds(50))


def test_no_more_than_a_tile_is_ever_in_float64(monkeypatch):
    monkeypatch.setattr("diptych.tasks.logistic.TILE", 7)
    rows = clouds(50)
    kept = rows.features.clone()
    some = rows.of(torch.tensor([30, 2, 41, 7, 8, 9, 10, 11]))
    assert [tile.shape for tile, _ in rows.tiles()] == 7 * [(7, 5)] + [(1, 5)]
    assert [labels.tolist() for _, labels in some.tiles()] == [[2, 1, 2, 0, 1, 2, 0], [2]]  # in rising order
    for tile, _ in rows.tiles():
        tile.zero_()
    assert torch.equal(rows.features, kept), "a tile is a copy"


def test_features_in_a_file_are_those_in_memory(tmp_path):
    kept, held = InFile(tmp_path / "features"), InMemory()
    assert kept.whole().shape == held.whole().shape == (0, 0)
    for num in (3, 1, 4):
        chunk = torch.randn(num, 5, generator=torch.Generator().manual_seed(num))
        kept.add(chunk)
        held.add(chunk)
    assert torch.equal(kept.whole(), held.whole())
    assert (tmp_path / "features").stat().st_size == 8 * 5 * 4


def test_the_gradient_is_zero_where_it_ends():
    rows = clouds(50)
    model = fit_logistic(rows, num_classes=3, strength=2.0)
    wrong_by = model.scores(rows.features).softmax(dim=1) - torch.eye(3, dtype=torch.float64)[rows.labels]
    assert_close(wrong_by.mT @ rows.features.double(), -2.0 * model.weight, atol=1e-5, rtol=0)
    assert_close(wrong_by.sum(dim=0), torch.zeros(3).double(), atol=1e-5, rtol=0)


def test_the_grid_has_8_steps_a_decade_and_holds_the_published_value():
    assert len(GRID) == 97
    assert (GRID[0], GRID[-1]) == pytest.approx((1e-6, 1e6))
    assert GRID[8] / GRID[0] == pytest.approx(10)
    assert min(abs(1 / strength - 0.316) for strength in GRID) < 1e-3  # the release's example, C = 0.316


def test_the_search_starts_wide_and_ends_beside_the_best(monkeypatch):
    peak = GRID.index(min(GRID, key=lambda strength: abs(strength - 10**0.5)))
    monkeypatch.setattr("diptych.tasks.logistic.fit_logistic", lambda rows, *, strength, **_: Fitted(strength))
    monkeypatch.setattr("diptych.tasks.logistic.share_right", lambda fit, _: -abs(GRID.index(fit.strength) - peak))
    searched = search_strength(clouds(9), clouds(9), num_classes=3)
    tried = [GRID.index(strength) for strength in searched]
    assert {0, 16, 32, 48, 64, 80, 96} <= set(tried)
    assert tried == sorted(tried)
    assert len(tried) <= 7 + 8
    assert GRID.index(best_strength(searched)) == peak
    assert {peak - 1, peak + 1} <= set(tried)


class Fitted:
    def __init__(self, strength):
        self.strength = strength


def test_of_equal_accuracies_the_strongest_penalty_is_taken():
    assert best_strength({0.1: 0.8, 1.0: 0.9, 10.0: 0.9, 100.0: 0.7}) == 10.0


def test_features_and_labels_must_agree():
    with pytest.raises(ShapeError, match="expected"):
        fit_logistic(Labelled(features=torch.ones(3, 2), labels=torch.zeros(2).long()), num_classes=2, strength=1.0)


@pytest.fixture
def splits(make_rows, picture):
    """Colours that vary a little, with their number as label."""

    def make(name, num, labels=None):
        rng = np.random.default_rng(num)
        base = {"red": (200, 20, 20), "green": (20, 190, 20), "blue": (20, 20, 210), "yellow": (210, 200, 20)}
        rows = []
        for row in range(num):
            colour = np.clip(np.array(base[COLOURS[row % 4]]) + rng.integers(-15, 16, 3), 0, 255)
            label = row % 4 if labels is None else labels[row]
            rows.append({"split": name, "image": picture(tuple(map(int, colour))), "label": label})
        return make_rows(rows, split=name)

    return make


def test_colours_are_told_apart(towers, splits):
    train, validation, test = splits("train", 24), splits("validation", 8), splits("test", 12)
    result = linear_probe(towers, train, validation, test, class_names=COLOURS)
    numbers = result.numbers()
    assert (numbers["top1"], numbers["mean_per_class"], numbers["num"], numbers["num_train"]) == (1, 1, 12, 32)
    assert result.confusion().tolist() == (3 * torch.eye(4, dtype=torch.int64)).tolist()
    assert result.validation == "the 8 rows of the split 'validation'"


def test_the_last_fit_is_on_training_and_validation(towers, splits):
    train, validation, test = splits("train", 24), splits("validation", 8), splits("test", 12)
    result = linear_probe(towers, train, validation, test, class_names=COLOURS)
    pictures = [rows.sample(row) for rows in (train, validation) for row in range(len(rows))]
    labels = torch.tensor([sample.label for sample in pictures])
    both = Labelled(features=towers.image_features(pictures), labels=labels)
    model = fit_logistic(both, num_classes=4, strength=result.strength)
    scores = model.scores(towers.image_features([test.sample(row) for row in range(12)]))
    assert_close(result.confidence, scores.softmax(dim=1).amax(dim=1))
    assert result.predicted.tolist() == predictions(scores, result.labels).tolist()


def test_pictures_of_every_split_that_cannot_be_read_are_told(towers, make_rows, picture):
    def some(split):
        rows = [{"image": picture(COLOURS[row % 4]), "label": row % 4, "key": f"{split}{row}"} for row in range(8)]
        return make_rows([*rows, {"image": b"torn", "label": 0, "key": f"bad {split}"}], split=split)

    result = linear_probe(towers, some("train"), some("validation"), some("test"), class_names=COLOURS)
    assert [reject.key for reject in result.rejects] == ["bad train", "bad validation", "bad test"]
    assert (result.numbers()["num_train"], result.numbers()["num"]) == (16, 8)


def test_the_features_leave_no_file_behind(towers, splits, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    linear_probe(towers, splits("train", 8), None, splits("test", 4), class_names=COLOURS)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_validation_a_fifth_of_training_stands_in(towers, splits):
    train, test = splits("train", 25), splits("test", 8)
    first, again = (linear_probe(towers, train, None, test, class_names=COLOURS, seed=3) for _ in range(2))
    assert first.validation == "5 of the training rows, drawn by seed 3"
    assert first.searched == again.searched
    assert first.numbers()["num_train"] == 25


def test_labels_that_are_missing_or_have_no_name_are_told(towers, splits):
    with pytest.raises(DataError, match="a probe needs labels"):
        linear_probe(towers, splits("train", 4, [None] * 4), None, splits("test", 4), class_names=COLOURS)
    with pytest.raises(DataError, match="the label 7"):
        linear_probe(towers, splits("train", 4, [0, 1, 2, 7]), None, splits("test", 4), class_names=COLOURS)
    with pytest.raises(DataError, match="too few"):
        linear_probe(towers, splits("train", 2), None, splits("test", 4), class_names=COLOURS)
