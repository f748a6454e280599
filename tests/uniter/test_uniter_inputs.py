"""Texts and regions as UNITER reads them, and rows that it cannot read."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diptych.data.region_join import join_regions
from diptych.data.region_store import RegionWriter, open_region_table
from diptych.data.regions import Regions, RegionSpec
from diptych.data.sample import Sample, random_for
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter
from diptych.data.tokenizers import load_tokenizer
from diptych.errors import DataError
from diptych.train.run import InputSettings
from diptych.uniter.inputs import UniterInputs, box_features, with_regions
from diptych.uniter.model import UniterConfig

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", "A", "dog", "##s", "runs", "on", "grass")
SPEC = RegionSpec(
    detector="toy",
    detector_hash="one",
    rule="all",
    feature_kind="drawn",
    feature_width=3,
    classes=("cat", "dog"),
    box_kind="given",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    file.write_text("\n".join(WORDS) + "\n")
    return load_tokenizer(file)


@pytest.fixture(scope="module")
def inputs(tokenizer):
    config = UniterConfig(
        width=8,
        depth=1,
        heads=2,
        context=6,
        positions=9,
        feature_width=3,
        num_classes=2,
        max_regions=4,
        vocab_size=len(WORDS),
    )
    return UniterInputs(config, InputSettings(), tokenizer)


def regions(num, width=3, **changes):
    boxes = np.array([[1, 2, 4 + place, 6] for place in range(num)], dtype=np.float32).reshape(num, 4)
    return replace(
        Regions(
            height_px=8,
            width_px=16,
            boxes=boxes / np.array([16, 8, 16, 8], dtype=np.float32),
            features=np.arange(num * width, dtype=np.float16).reshape(num, width),
            scores=np.linspace(0.9, 0.1, num, dtype=np.float32),
            soft_labels=np.full((num, 3), 1 / 3, dtype=np.float16),
        ),
        **changes,
    )


def sample(texts=("A dog runs",), found=None, key="a"):
    fields = {"regions": regions(2) if found is None else found}
    return Sample(key=key, group=key, image=None, texts=tuple(texts), fields=fields)


def test_wrong_texts_are_those_of_the_text_that_is_read(inputs):
    one = sample(["A dog", "dog on grass", "runs"])
    swapped = [None, ["grass on dog", "on dog grass"], []]
    one = replace(one, fields={**one.fields, "swapped_texts": swapped})
    found = {
        tuple(item.text_ids.tolist()): [wrong.tolist() for wrong in item.wrong_texts]
        for item in (inputs.item(one, random_for(seed, 0, "a")) for seed in range(40))
    }
    dog, on, grass = (WORDS.index(word) for word in ("dog", "on", "grass"))
    assert found == {
        (2, WORDS.index("A"), dog, 3): [],
        (2, dog, on, grass, 3): [[2, grass, on, dog, 3], [2, on, dog, grass, 3]],
        (2, WORDS.index("runs"), 3): [],
    }
    with pytest.raises(DataError, match="a has 3 texts and 1 in the column 'swapped_texts'"):
        inputs.item(replace(one, fields={**one.fields, "swapped_texts": [[]]}), None)


def test_an_item_by_hand(inputs):
    item = inputs.item(sample(["A dogs !"]), None)
    assert [WORDS[number] for number in item.text_ids] == ["[CLS]", "A", "dog", "##s", "!", "[SEP]"]
    assert (item.word_ids.mask, item.word_ids.words) == (4, (5, len(WORDS)))
    assert item.word_ids.special == {0, 2, 3}
    assert item.regions.features.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert item.regions.boxes.tolist() == [[1 / 16, 2 / 8, 4 / 16, 6 / 8], [1 / 16, 2 / 8, 5 / 16, 6 / 8]]
    assert item.regions.box_features[1].tolist() == [1 / 16, 2 / 8, 5 / 16, 6 / 8, 4 / 16, 4 / 8, 1 / 8]
    assert item.regions.soft_labels.shape == (2, 3)


def test_control_words_in_a_text_are_text(inputs):
    ids = inputs.item(sample(["A [SEP]"]), None).text_ids.tolist()
    assert ids.count(WORDS.index("[SEP]")) == 1 and ids[-1] == WORDS.index("[SEP]")


@given(st.lists(st.tuples(*[st.floats(0, 1, width=32)] * 4), min_size=1, max_size=5))
def test_seven_numbers_of_a_box(corners):
    boxes = torch.tensor(corners)
    found = box_features(boxes)
    assert torch.equal(found[:, :4], boxes)
    assert torch.equal(found[:, 4], boxes[:, 2] - boxes[:, 0]) and torch.equal(found[:, 5], boxes[:, 3] - boxes[:, 1])
    assert torch.equal(found[:, 6], found[:, 4] * found[:, 5])


def test_a_text_is_drawn_in_training_and_the_first_taken_else(inputs):
    texts = ["dog", "A dog", "runs"]
    drawn = {tuple(inputs.item(sample(texts), random_for(0, epoch, "a")).text_ids.tolist()) for epoch in range(30)}
    assert len(drawn) == 3
    first = inputs.item(sample(texts), None).text_ids
    assert first.tolist() == inputs.text_ids("dog").tolist()


def test_long_texts_are_left_out_of_training_and_read_else(inputs):
    long, longer = "A dog runs on grass", "A dog runs on grass on grass on"
    with pytest.raises(DataError, match="a: a text of more than 6 tokens"):
        inputs.item(sample([long]), random_for(0, 0, "a"))
    assert len(inputs.item(sample([long]), None).text_ids) == 7
    with pytest.raises(DataError, match="a: a text of more than 9 tokens"):
        inputs.item(sample([longer]), None)


def test_the_likeliest_regions_are_read(inputs):
    item = inputs.item(sample(found=regions(7)), None)
    assert len(item.regions) == 4 == len(item.regions.boxes) == len(item.regions.soft_labels)
    assert torch.equal(item.regions.features, torch.from_numpy(regions(7).features[:4]))


def test_tokens_are_counted_before_they_are_drawn(inputs):
    assert inputs.num_tokens(sample(["dog", "A dog"], regions(7))) == 4 + 4
    assert inputs.num_tokens(sample(["dog", "A dog runs on grass"], regions(1))) == 3 + 1, "too long to be read"


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (sample(texts=()), "a has no text"),
        (sample(found=regions(0)), "a has no regions; make them with `diptych regions extract"),
        (replace(sample(), fields={}), "a has no regions; make them with `diptych regions extract"),
        (sample(found=regions(2, width=5)), "a has region features of 5 numbers; this model reads 3"),
        (
            sample(found=regions(2, soft_labels=np.full((2, 4), 0.25, dtype=np.float16))),
            "a has soft labels of 4 classes, background among them; this model knows 3",
        ),
    ],
)
def test_rows_that_cannot_be_read(inputs, bad, told):
    with pytest.raises(DataError, match=told):
        inputs.item(bad, None)


def test_a_batch_is_padded_and_holds_no_soft_labels(inputs):
    hidden = torch.tensor([True, False])
    items = [inputs.item(sample(["dog"], regions(3), "a"), None), inputs.item(sample(["A dogs"], key="b"), None)]
    batch = inputs.collate(items)
    assert batch.keys == ("a", "b")
    assert batch.text.mask.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert batch.text.ids[0].tolist() == [2, 7, 3, 0, 0]
    assert batch.regions.mask.tolist() == [[True] * 3, [True, True, False]]
    assert batch.regions.features.dtype == torch.float16
    assert not batch.regions.features[1, 2].any() and not batch.regions.box_features[1, 2].any()
    assert batch.regions.hidden is None and batch.regions.types is None
    second = replace(items[1], regions=replace(items[1].regions, hidden=hidden))
    assert inputs.collate([second, second]).regions.hidden.tolist() == [[True, False]] * 2
    alone = inputs.collate([replace(item, text_ids=None) for item in items])
    assert alone.text is None and alone.regions is not None


def test_inputs_travel_to_workers(inputs):
    travelled = pickle.loads(pickle.dumps(inputs))
    assert travelled.item(sample(), None).text_ids.tolist() == inputs.item(sample(), None).text_ids.tolist()


# -- what a table says


@pytest.fixture
def rows(tmp_path):
    with TableWriter(tmp_path / "t") as writer:
        writer.add("train", key="a", texts=["A dog"])
    return open_table(tmp_path / "t").split("train")


def store(out, spec=SPEC, **settings):
    with RegionWriter(out, spec, num_classes_kept=0, num_attributes_kept=0, soft_labels=True, **settings) as writer:
        found = regions(2)
        writer.add("a", replace(found, boxes=found.boxes * np.array([16, 8, 16, 8], dtype=np.float32)))
    return open_region_table(out)


def test_a_row_of_a_table_with_a_store(inputs, rows, tmp_path):
    joined = join_regions(rows, [store(tmp_path / "r")])
    item = inputs.item(joined.sample(0, inputs.columns), None)
    assert torch.equal(item.regions.boxes, torch.from_numpy(regions(2).boxes))
    item.regions.features[0] = 7  # memory of its own: a store's is mapped and may not be written to
    assert inputs.item(joined.sample(0, inputs.columns), None).regions.features[0].tolist() == [0, 1, 2]


def test_the_config_takes_what_the_regions_are(inputs, rows, tmp_path):
    told: list[str] = []
    found = with_regions(UniterConfig(), join_regions(rows, [store(tmp_path / "r")]), told.append)
    assert (found.feature_width, found.num_classes, found.detector, found.detector_hash) == (3, 2, "toy", "one")
    assert told == ["Regions of toy, 3 numbers each."]
    unnamed = join_regions(rows, [store(tmp_path / "s", replace(SPEC, classes=()), num_soft_labels=3)])
    assert with_regions(UniterConfig(), unnamed, told.append).num_classes == 2, "by the soft labels"
    with pytest.raises(DataError, match="has no regions beside it; make them of the table of its pictures with"):
        with_regions(UniterConfig(), rows, told.append)


def test_regions_of_another_detector_are_refused(rows, tmp_path):
    trained = UniterConfig(detector="other", detector_hash="two")
    with pytest.raises(DataError, match=r"the regions are of toy \(weights one\).* trained with those of other"):
        with_regions(trained, join_regions(rows, [store(tmp_path / "r")]), lambda text: None)
    unknown = join_regions(rows, [store(tmp_path / "s", replace(SPEC, detector_hash=""))])
    assert with_regions(trained, unknown, lambda text: None).detector_hash == "two", "nothing speaks against it"


def test_rows_of_another_detector_are_told_before_they_are_read(inputs, rows, tmp_path):
    known = replace(inputs, config=replace(inputs.config, detector="other", detector_hash="two"))
    joined = join_regions(rows, [store(tmp_path / "r")])
    told: list[str] = []
    inputs.check_rows(joined, told.append)
    (said,) = told
    assert said.startswith("Note: it is not known which detector's regions the model was trained with, so that")
    with pytest.raises(DataError, match="trained with those of other"):
        known.check_rows(joined, told.append)
    with pytest.raises(DataError, match="has no regions beside it"):
        inputs.check_rows(rows, told.append)
    wider = replace(inputs, config=replace(inputs.config, feature_width=4))
    with pytest.raises(DataError, match="are of toy, 3 numbers each, and the model reads 4; use"):
        wider.check_rows(joined, told.append)


@pytest.mark.parametrize(
    ("trained", "told"),
    [
        ({"feature_kind": "c4-mean"}, "their features 'colours', .* with those of R101, 'c4-mean'"),
        ({"feature_kind": "unknown"}, ""),
        ({"feature_kind": ""}, ""),
        ({"box_kind": "window"}, "their boxes 'proposal', .* with those of R101, 'window'"),
        ({"box_kind": "given"}, ""),
    ],
)
@pytest.mark.parametrize("detector_hash", ["", "one"])
def test_features_and_boxes_of_another_kind_are_refused_whoever_made_them(
    trained, told, detector_hash, inputs, rows, tmp_path
):
    config = replace(inputs.config, detector="R101", detector_hash="one", **trained)
    known = replace(inputs, config=config)
    spec = replace(SPEC, detector_hash=detector_hash, feature_kind="colours", box_kind="proposal")
    joined = join_regions(rows, [store(tmp_path / "s", spec)])
    heard: list[str] = []
    with pytest.raises(DataError, match=told) if told else nullcontext():
        known.check_rows(joined, heard.append)
    assert bool(heard) == (not told and not detector_hash)
    assert all(one.startswith("Note: it is not known which weights made these regions (toy), so that") for one in heard)


def test_a_training_with_regions_of_unknown_weights_says_so(rows, tmp_path):
    told: list[str] = []
    joined = join_regions(rows, [store(tmp_path / "s", replace(SPEC, detector_hash=""))])
    found = with_regions(UniterConfig(), joined, told.append)
    assert (found.feature_kind, found.box_kind) == ("drawn", "given") and len(told) == 2
    assert told[1].startswith("Note: which weights made these regions is not known")


def asked(right, *options):
    fields = {**sample().fields, "options": list(options), "right": right}
    return replace(sample(texts=("a red hat",)), fields=fields)


def test_options_are_sequences_of_one_picture(inputs):
    row = inputs.item(asked(1, "a hat", "two red hats"), None)
    assert row.right == 1 and row.text_ids is None and len(row.sequences) == 2
    assert all(one.text_types.max() == 2 and len(one.text_ids) == len(one.text_types) for one in row.sequences)
    batch = inputs.collate([row, row])
    assert (len(batch), batch.sequences, len(batch.text.ids)) == (2, 2, 4)
    assert inputs.num_tokens(asked(1, "a hat", "two red hats")) == 2 * max(map(tokens_of, row.sequences))


def tokens_of(item):
    return len(item.text_ids) + len(item.regions)


@pytest.mark.parametrize("right", [-1, 2])
def test_a_right_option_that_is_not_there_is_told(inputs, right):
    with pytest.raises(DataError, match=f"a: the right option is {right}; expected 0 to 1, or null"):
        inputs.item(asked(right, "a hat", "two hats"), None)


def test_rows_with_more_options_than_others_are_named(inputs):
    rows = [inputs.item(asked(0, *options), None) for options in (("a", "red"), ("a", "red", "hat"))]
    with pytest.raises(DataError, match="a has 2 options and a 3; expected as many in every row"):
        inputs.collate(rows)
