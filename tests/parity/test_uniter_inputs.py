"""What UNITER is fed, against what the released readers fed it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from diptych.data.region_files.detect import open_regions
from diptych.data.regions import box_shares
from diptych.train.run import InputSettings
from diptych.uniter.inputs import UniterInputs, box_features
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
