"""Zero-shot on four colours, templates, and the published prompt sets."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.errors import DataError, UsageError
from diptych.tasks import prompts
from diptych.tasks.zero_shot import class_vectors, zero_shot

COLOURS = ("red", "green", "blue", "yellow")
CLASSES = [(name,) for name in COLOURS]


@pytest.fixture
def labelled(make_rows, picture):
    def make(labels, shown=COLOURS):
        return make_rows(
            [{"image": picture(colour), "label": label} for colour, label in zip(shown, labels, strict=True)]
        )

    return make


def test_a_model_that_knows_colours_is_right(towers, labelled):
    result = zero_shot(towers, labelled([0, 1, 2, 3]), class_names=CLASSES, templates=["a {} one"])
    numbers = result.numbers()
    assert (numbers["top1"], numbers["mean_per_class"], numbers["chance"], numbers["num"]) == (1, 1, 0.25, 4)
    assert result.confusion().tolist() == torch.eye(4, dtype=torch.int64).tolist()


def test_what_was_taken_for_what(towers, labelled):
    result = zero_shot(towers, labelled([0, 2, 2, 3]), class_names=CLASSES, templates=["{}"])
    assert result.predicted.tolist() == [0, 1, 2, 3]  # the green picture, labelled blue, was taken for green
    assert result.confusion()[2].tolist() == [0, 1, 1, 0]
    assert result.numbers()["mean_per_class"] == pytest.approx((1 + 0.5 + 1) / 3)  # green has no rows
    assert result.numbers()["top5"] == 1


def test_rows_without_a_label_are_passed_over(towers, labelled):
    assert zero_shot(towers, labelled([0, None, 2, 3]), class_names=CLASSES, templates=["{}"]).rows == (0, 2, 3)


def test_confidence_is_the_softmax_of_scaled_cosines(towers, labelled):
    result = zero_shot(towers, labelled([0, 1, 2, 3]), class_names=CLASSES, templates=["{}"])
    expected = (towers.scale * result.image @ result.classes.mT).softmax(dim=1).amax(dim=1)
    assert_close(result.confidence, expected, atol=1e-5, rtol=0)


def test_a_model_that_reads_nothing_is_never_right(towers, labelled):
    class Illiterate(type(towers)):
        def encode_text(self, texts, *, normalize=True):
            return torch.ones(len(texts), 3)

    result = zero_shot(Illiterate(), labelled([0, 1, 2, 3]), class_names=CLASSES, templates=["{}"])
    assert result.numbers()["top1"] == 0
    assert not (result.predicted == result.labels).any()


def test_ensembling_normalises_averages_and_normalises_again(towers):
    vectors = class_vectors(towers, [("red", "yellow"), ("blue",)], ["a {}", "{} and green"])
    texts = ["a red", "red and green", "a yellow", "yellow and green"]
    expected = F.normalize(towers.encode_text(texts).mean(dim=0), dim=0)
    assert_close(vectors[0], expected)
    assert_close(vectors.norm(dim=1), torch.ones(2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(["a {}", "the {} one", "{} and green", "blue {}"]))
def test_the_order_of_the_templates_changes_nothing(towers, templates):
    assert_close(class_vectors(towers, CLASSES, templates), class_vectors(towers, CLASSES, sorted(templates)))


def test_a_label_without_a_name_is_told(towers, labelled):
    with pytest.raises(DataError, match="the label 4, and there are 4 class names"):
        zero_shot(towers, labelled([0, 1, 2, 4]), class_names=CLASSES, templates=["{}"])


def test_no_labels_or_no_choice_is_told(towers, labelled):
    with pytest.raises(DataError, match="zero-shot needs labels"):
        zero_shot(towers, labelled([None] * 4), class_names=CLASSES, templates=["{}"])
    with pytest.raises(DataError, match="at least two"):
        zero_shot(towers, labelled([0, 0, 0, 0]), class_names=CLASSES[:1], templates=["{}"])


PUBLISHED = {"mnist": 1, "rendered_sst2": 1, "hateful_memes": 1, "ucf101": 48, "kinetics700": 28, "country211": 5}
PUBLISHED |= {"food101": 1, "stanford_cars": 8, "fgvc_aircraft": 2, "oxford_pets": 1, "flowers102": 1, "birdsnap": 1}


@pytest.mark.parametrize(("name", "size"), PUBLISHED.items())
def test_published_sets_have_their_size(name, size):
    assert len(set(prompts.templates(name))) == size


@pytest.mark.parametrize("name", prompts.NAMES)
def test_every_set_has_one_place_for_the_name_and_reads_well(name):
    for template in prompts.templates(name):
        assert template.count("{}") == 1
        assert "  " not in template


def test_spot_checks_of_published_sets():
    assert "a example of the person practicing {}." in prompts.templates("ucf101")  # the article stays before example
    assert "a video of a person {}." in prompts.templates("ucf101")
    assert "a demonstration of {}." in prompts.templates("kinetics700")
    assert "a photo i took while visiting {}." in prompts.templates("country211")
    assert prompts.templates("stanford_cars")[-1] == "i love my {}!"


def test_an_unknown_set_is_told_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'food101'"):
        prompts.find_templates("food100")


def test_templates_come_from_a_line_or_a_file(tmp_path):
    assert prompts.find_templates("a {} toy") == ("a {} toy",)
    file = tmp_path / "mine.txt"
    file.write_text("a {} toy\n\nthe {{}} {} \n")
    assert prompts.find_templates(str(file)) == ("a {} toy", "the {{}} {}")
    file.write_text("a toy\n")
    with pytest.raises(DataError, match="'a toy' has no"):
        prompts.find_templates(str(file))


def test_only_the_place_of_the_name_is_filled():
    assert prompts.fill("a {} {x}", "cat {y}") == "a cat {y} {x}"
