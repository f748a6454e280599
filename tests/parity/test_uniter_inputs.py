"""What UNITER is fed, against what the released readers fed it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from diptych.data.batch import IGNORE
from diptych.data.region_files.detect import open_regions
from diptych.data.regions import box_shares
from diptych.data.sample import Item, WordIds, random_for
from diptych.objectives.choosing import right_text
from diptych.objectives.masked_words import MaskedWords
from diptych.train.run import InputSettings
from diptych.uniter.inputs import UniterInputs, box_features, one_text
from diptych.uniter.model import UniterConfig

pytest.importorskip("msgpack")


@pytest.fixture(scope="module")
def stored(golden):
    return golden("uniter")


def test_the_regions_of_a_picture(stored):
    images = stored.folder / "fixtures" / "img" / "coco_train2014"
    (folder,) = (path for path in images.iterdir() if path.is_dir() and not path.name.endswith("_compressed"))
    store, key = open_regions(folder), stored.facts["db"]["dump_image"]
    config = UniterConfig(feature_width=stored.facts["img_dim"], num_classes=stored.facts["img_label_dim"] - 1)
    found = store.regions(key)
    found = replace(found, boxes=box_shares(key, found, store.spec))
    item = UniterInputs(config, InputSettings(), tokenizer=None).regions(key, found)
    assert_close(item.features.float(), stored["db/features"], atol=0, rtol=0)
    assert_close(item.soft_labels.float(), stored["db/soft_labels"], atol=0, rtol=0)
    # The files hold width and height as rounded numbers of their own; ours are those of the rounded corners.
    assert_close(item.box_features[:, :4], stored["db/img_pos_feat"][:, :4], atol=0, rtol=0)
    assert_close(item.box_features, stored["db/img_pos_feat"], atol=1e-3, rtol=0)


def test_seven_numbers_of_boxes_in_pixels(stored):
    case = stored.facts["boxes"]
    sides = torch.tensor([case["width"], case["height"]] * 2, dtype=torch.float32)
    found = box_features(torch.tensor(case["boxes_xyxy"]) / sides)
    expected = torch.tensor(case["pos7"])
    assert_close(found[: len(expected)], expected, atol=1e-3, rtol=0)  # theirs went through float16


def parts_of(row):
    """What stands between the tokens that end a part, each as a text of its own."""
    ids, parts = row["input_ids"], [[]]
    for token in ids[1:]:
        if token == ids[-1]:
            parts.append([])
        else:
            parts[-1].append(token)
    return [torch.tensor([ids[0], *part, ids[-1]]) for part in parts[:-1]]


@pytest.mark.parametrize("kind", ["qa", "qar", "eval_test"])
def test_question_and_option_as_one_text(stored, kind):
    rows = [row for rows in stored.facts["vcr_rows"][kind] for row in rows]
    assert {len(parts_of(row)) for row in rows} == {"qa": {2}, "qar": {3}, "eval_test": {2, 3}}[kind]
    for row in rows:
        ids, types = one_text(parts_of(row))
        assert (ids.tolist(), types.tolist()) == (row["input_ids"], row["txt_type_ids"])


def test_question_answer_and_reason_in_the_second_stage_of_pretraining(stored):
    row = stored.facts["vcr_rows"]["pretrain_qar_sample0"]
    ids, types = one_text(parts_of(row))
    words = WordIds(mask=103, special=frozenset({ids[0].item(), ids[-1].item()}), words=(106, 180))
    option = Item(key="", group=0, text_ids=ids, text_types=types, word_ids=words)
    found = right_text(replace(option, sequences=(option, option), right=1))
    assert (found.text_ids.tolist(), found.text_types.tolist()) == (row["input_ids"], row["txt_type_ids"])
    for seed in range(20):
        _, targets = MaskedWords(probability=0.01).draw(found, (), random_for(seed, 0, ""))
        ends = [place for place, token in enumerate(row["input_ids"]) if token == ids[-1]]
        parts = zip([0, *ends], ends, strict=False)
        assert all((targets["mlm"][start:end] != IGNORE).any() for start, end in parts), "a part without a masked word"
