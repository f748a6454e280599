"""The detector's small parts against what the released Python pieces gave: preprocessing, coding, anchors, rules."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from diptych.data.images import decode
from diptych.detector import boxes
from diptych.detector.inputs import (
    DETECTRON2,
    LXMERT,
    Preprocessing,
    factor_size,
    prepare,
    prepare_pixels,
    resize_factor,
    whole_size,
)
from diptych.detector.model import STRIDE, DetectorConfig
from diptych.detector.selection import ButdRule, Candidates, NotebookRule

RESIZE = {"caffe_blob": "factor", "lxmert_float": "size", "pil_uint8": "pillow"}
TOLERANCE = {"factor": 1e-4, "size": 2e-3, "pillow": 0.0}


@pytest.fixture(scope="module")
def cases(golden):
    return golden("detector")


def thresholds(told):
    """A set may tell one alone."""
    return tuple(told) if isinstance(told, list) else (told,)


def weights_in(name):
    """ "10_10_5_5" and "1111" are four weights."""
    parts = name.split("_")
    return tuple(map(float, parts[0] if len(parts) == 1 else parts))


def test_pictures_are_resized_as_opencv_torch_and_pillow_do(cases):
    names = [name for name in cases.names("pre/") if not name.endswith("_image")]
    assert names
    for name in names:
        kind, shrink, shorter, longer = re.fullmatch(r"(\w+?)(_shrink)?_(\d+)_(\d+)", name).groups()
        settings = Preprocessing(shorter=int(shorter), longer=int(longer), resize=RESIZE[kind])
        picture = cases["pre/big_image" if shrink else "pre/small_image"].numpy()
        expected = cases["pre/" + name]
        if kind == "pil_uint8":  # stored before the mean is taken off
            expected = expected.permute(2, 0, 1).float()
            settings = Preprocessing(shorter=int(shorter), longer=int(longer), resize="pillow", mean=(0.0, 0.0, 0.0))
        found = prepare_pixels(picture, settings)
        assert found.size == tuple(expected.shape[1:])
        assert_close(found.pixels, expected, atol=TOLERANCE[settings.resize], rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_sizes_and_factors_are_those_of_both_releases(cases):
    for case in cases.facts["preprocess"]["sizes"]:
        height, width = case["raw_hw"]
        settings = Preprocessing(shorter=case["min"], longer=case["max"])
        factor = resize_factor(height, width, settings)
        whole = whole_size(height, width, settings)
        assert factor == pytest.approx(case["caffe_scale"], rel=1e-6)
        assert factor_size(height, width, factor) == tuple(case["caffe_hw"])
        assert whole == tuple(case["lxmert_hw"])
        assert (height / whole[0], width / whole[1]) == pytest.approx(case["lxmert_scale_yx"], rel=1e-6)


@pytest.mark.parametrize("preset", [Preprocessing(), DETECTRON2, LXMERT])
def test_colours_do_not_depend_on_where_a_picture_comes_from(cases, preset):
    """The port gave its network RGB or BGR by whether a picture was a file or came over the network."""
    rgb = cases.facts["preprocess"]["path_reader"]["file_rgb"]
    picture = Image.fromarray(np.full((5, 7, 3), rgb, dtype=np.uint8))
    file = io.BytesIO()
    picture.save(file, "PNG")
    for same in (picture, decode(file.getvalue()), picture.convert("RGBA")):
        blue_first = prepare(same, preset).pixels[:, 0, 0] + torch.tensor(preset.mean)
        assert_close(blue_first, torch.tensor(rgb[::-1]).float(), atol=1e-4, rtol=0)


def test_boxes_are_coded_and_clipped_as_in_both_conventions(cases):
    source, target, deltas = cases["box/src"], cases["box/target"], cases["box/deltas"]
    expected = {}
    for name in cases.names("box/"):
        found = re.fullmatch(r"(encode|decode|caffe_encode|caffe_decode)(?:_([\d_]+?))?(?:_clipped_(\d+)x(\d+))?", name)
        if found is None:
            continue
        what, weights, height, width = found.groups()
        plus_one = what.startswith("caffe")
        weights = (1.0, 1.0, 1.0, 1.0) if weights is None else weights_in(weights)
        if what.endswith("encode"):
            ours = boxes.encode(target, source, weights, plus_one=plus_one)
        else:
            ours = boxes.decode(deltas, source, weights, plus_one=plus_one)
        if height is not None:
            ours = boxes.clip(ours, int(height), int(width), plus_one=plus_one)
        expected[name] = ours
    assert {"caffe_encode", "caffe_decode"} <= expected.keys()
    for name, ours in expected.items():
        assert_close(ours, cases["box/" + name], rtol=2e-5, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_boxes_of_every_class_are_coded_alike(cases):
    for name in cases.names("box/decode_"):
        found = re.fullmatch(r"(\d+)_classes_([\d_]+)", name)
        if found is None:
            continue
        deltas = cases[f"box/deltas_{found[1]}_classes"].unflatten(1, (int(found[1]), 4))
        source = cases["box/src"][: len(deltas), None]
        ours = boxes.decode(deltas, source, weights_in(found[2])).flatten(1)
        assert_close(ours, cases["box/decode_" + name], rtol=2e-5, atol=2e-4)


def test_boxes_with_a_short_side_are_dropped(cases):
    clipped = next(name for name in cases.names("box/decode_") if "clipped" in name)
    shortest = boxes.sides(cases["box/decode_" + clipped], plus_one=False).amin(dim=1)
    for threshold in cases.names("box/nonempty_after_clip_threshold"):
        expected = cases["box/nonempty_after_clip_threshold" + threshold]
        assert torch.equal(shortest > float(threshold), expected)


def test_suppression_keeps_the_same_boxes_in_both_conventions(cases):
    for name in cases.names("nms/"):
        found = re.fullmatch(r"(exact_)?keep_(?:(torchvision|caffe_plus1)_)?([\d.]+)", name)
        if found is None:
            continue
        exact, convention, threshold = found.groups()
        exact = exact or ""
        kept = boxes.nms(
            cases[f"nms/{exact}boxes"],
            cases[f"nms/{exact}scores"],
            float(threshold),
            plus_one=convention == "caffe_plus1",
        )
        assert kept.tolist() == cases["nms/" + name].tolist(), name


def test_anchors_are_those_of_both_releases(cases):
    config = DetectorConfig()
    ours = boxes.cell_anchors(config.anchor_sizes, config.anchor_ratios, STRIDE)
    assert_close(ours, cases["anchors/lxmert_full_size"], rtol=1e-6, atol=0)
    for name in cases.names("anchors/caffe_scales_"):
        scales = [STRIDE * float(scale) for scale in name.split("_")]
        ours = boxes.cell_anchors(scales, config.anchor_ratios, STRIDE, plus_one=True)
        assert torch.equal(ours, cases["anchors/caffe_scales_" + name])


def candidates(proposals, class_probs, regress=None, *, scale=1.0, plus_one=False):
    """`class_probs` with background first."""
    return Candidates(
        boxes=proposals, class_probs=class_probs, regress=regress, scale=torch.full((4,), scale), plus_one=plus_one
    )


def test_the_original_rule_keeps_the_same_rows_in_the_same_order(cases):
    facts = cases.facts["butd"]
    found = candidates(
        cases["butd/rois"], cases["butd/cls_prob_background_first"], scale=facts["im_scale"], plus_one=True
    )
    assert facts["cases"]
    for name, case in facts["cases"].items():
        numbers = {"min_boxes": case["min"], "max_boxes": case["max"], "confidence": case["conf"], "nms": case["nms"]}
        expected = cases[f"butd/{name}/keep"].tolist()
        selected = ButdRule(release_order=True, **numbers).select(found)
        assert selected.rows.tolist() == expected, name
        assert len(expected) == case["num_boxes"]
        assert_close(found.boxes[selected.rows] / found.scale, cases[f"butd/{name}/boxes"], rtol=1e-6, atol=0)
        sorted_rows = ButdRule(**numbers).select(found)
        assert sorted(sorted_rows.rows.tolist()) == sorted(expected)
        assert sorted_rows.scores.tolist() == sorted(sorted_rows.scores.tolist(), reverse=True)


def test_the_rule_of_the_notebooks_keeps_the_same_pairs(cases):
    probs = cases["roi/class_probs"].roll(1, 1)
    every_class = cases["roi/boxes_all_classes_unclipped"].unflatten(1, (-1, 4))
    height, width = cases["size_hw"].tolist()

    def regress(rows, class_ids):
        return boxes.clip(every_class[rows, class_ids], height, width)

    found = candidates(cases["rpn/proposals"], probs, regress)
    assert cases.facts["rule_a"]
    for name, case in cases.facts["rule_a"].items():
        most = case["topk"] if case["topk"] > 0 else probs.numel()
        rule = NotebookRule(min_boxes=0, max_boxes=most, confidence=case["score_thresh"], nms=thresholds(case["nms"]))
        selected = rule.select(found)
        assert selected.rows.tolist() == cases[f"rule_a/{name}/keep"].tolist(), name
        assert selected.class_ids.tolist() == cases[f"rule_a/{name}/classes"].tolist(), name
        assert_close(selected.scores, cases[f"rule_a/{name}/scores"])
        kept = regress(selected.rows, selected.class_ids)
        assert_close(kept, cases[f"rule_a/{name}/boxes"], atol=1e-4, rtol=0)
