"""Bottom-up attention against stored outputs of the LXMERT port's code, stage by stage.

Tolerances are those of the set's README; indices, counts and sizes are equal.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import yaml
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.detector.bottom_up import BottomUpAttention
from diptych.detector.boxes import clip, decode
from diptych.detector.inputs import prepare, prepare_pixels
from diptych.detector.layouts.lxmert import read_settings
from diptych.detector.model import STRIDE, C4Detector
from diptych.detector.selection import ButdRule, Candidates, LxmertRule
from diptych.detector.weights import read_weights

WHOLE = ("keep", "preds_per_image")
"""Of `select/`, what is not padded to a batch of one."""


@pytest.fixture(scope="module")
def stored(golden):
    return golden("detector")


@pytest.fixture(scope="module")
def release(stored, tmp_path_factory):
    """The set's weights as the hub's folder has them."""
    folder = tmp_path_factory.mktemp("hub") / "frcnn"
    write_folder(folder, stored, stored.facts["config"])
    return read_weights(folder)


def write_folder(folder, stored, config):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    tensors = {name: stored[name] for name in stored.facts["weights"]}
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    torch.save(tensors, folder / "pytorch_model.bin")


def plain_model(release):
    """The network as it would be trained: norms apart, channels first."""
    model = C4Detector(release.config).eval()
    model.load_state_dict(release.state)
    return model


@pytest.fixture(scope="module", params=["plain", "quick"])
def model(request, release):
    model = plain_model(release)
    if request.param == "quick":
        model.quicken()
    return model


def picture_of(blue_first):
    return Image.fromarray(blue_first.numpy()[..., ::-1].copy())


def close(ours, expected, atol, what=""):
    assert_close(ours, expected, atol=atol, rtol=1e-4, msg=lambda m: f"{what}: {m}")


def thresholds(told):
    """A set may tell one alone."""
    return tuple(told) if isinstance(told, list) else (told,)


def logits_last(rotated):
    """Background and "no attribute" last, as the port has them."""
    return rotated.roll(-1, 1)


def test_preprocessing(stored, release):
    found = prepare(picture_of(stored["image"]), release.preprocessing)
    assert found.size == tuple(stored["size_hw"].tolist())
    close(found.pixels, stored["preprocessed"], 5e-3)
    close(1 / torch.tensor(found.scale), stored["scale_yx"], 1e-6)
    assert torch.equal(found.pixels, prepare_pixels(stored["image"].numpy(), release.preprocessing).pixels)


@torch.inference_mode()
def test_backbone(stored, model):
    out = stored["preprocessed"][None]
    for name, part in model.backbone.named_children():
        out = part(out)
        close(out[0], stored[f"stage/{name}"], 2e-3, name)
    assert {f"stage/{name}" for name, _ in model.backbone.named_children()} == {
        f"stage/{name}" for name in stored.names("stage/")
    }


@torch.inference_mode()
def test_proposals(stored, model, release):
    feature_map = stored["stage/res4"][None]
    height, width = feature_map.shape[-2:]
    logits, deltas = model.rpn(feature_map)
    close(logits.unflatten(1, (height, width, -1)).permute(0, 3, 1, 2)[0], stored["rpn/objectness_logits"], 2e-3)
    maps = deltas.flatten(1).unflatten(1, (height, width, -1)).permute(0, 3, 1, 2)[0]
    close(maps, stored["rpn/anchor_deltas"], 2e-3)
    anchors = model.rpn.anchors(height, width)
    close(anchors, stored["rpn/anchors"], 1e-3)
    close(decode(deltas[0], anchors, release.config.rpn_weights), stored["rpn/decoded_boxes"], 0.05)

    (proposals,) = model.rpn.propose(feature_map, [tuple(stored["size_hw"].tolist())], [1.0])
    close(proposals.boxes, stored["rpn/proposals"], 0.05)
    close(proposals.logits, stored["rpn/proposal_logits"], 2e-3)


@torch.inference_mode()
@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_region_features(stored, model, at_once):
    feature_map, boxes = stored["stage/res4"][None], stored["rpn/proposals"]
    rois = F.pad(boxes, (1, 0))
    for number in stored.names("roi/pooled_first"):
        pooled = model.head.pool(feature_map, rois[: int(number)])
        close(pooled, stored["roi/pooled_first" + number], 5e-3)
    for number in stored.names("roi/res5_first"):
        out = model.head.res5(model.head.pool(feature_map, rois[: int(number)]))
        close(out, stored["roi/res5_first" + number], 5e-3)
    close(model.head(feature_map, [boxes], at_once=at_once), stored["roi/features"], 1e-3)


@torch.inference_mode()
def test_predictions(stored, model):
    features, proposals = stored["roi/features"], stored["rpn/proposals"]
    close(logits_last(model.predictor.classes(features)), stored["roi/class_logits"], 3e-3)
    probs = model.predictor.class_probs(features)
    close(logits_last(probs), stored["roi/class_probs"], 5e-4)
    close(model.predictor.boxes(features), stored["roi/box_deltas"], 3e-3)
    num_classes = probs.shape[1] - 1
    rows, class_ids = torch.cartesian_prod(torch.arange(len(features)), torch.arange(num_classes)).unbind(1)
    every = model.predictor.regress(features[rows], proposals[rows], class_ids)
    close(every.view(len(features), -1), stored["roi/boxes_all_classes_unclipped"], 0.05)
    if model.predictor.attributes is not None:
        logits = model.predictor.attributes(features, probs.argmax(dim=1))
        close(logits_last(logits), stored["roi/attr_logits"], 3e-3)
        best = model.predictor.attributes.probs(features, probs).max(dim=1)
        assert best.indices.tolist() == stored["roi/attr_max_id"].tolist()
        close(best.values, stored["roi/attr_max_prob"], 5e-4)


def test_every_setting_of_the_ports_rule(stored, release):
    """End to end, from the picture; and rows from the stored predictions."""
    picture = picture_of(stored["image"])
    assert stored.facts["selections"]
    for name, case in stored.facts["selections"].items():
        rule = LxmertRule(min_boxes=case["min"], max_boxes=case["max"], nms=thresholds(case["nms"]))
        (found,) = BottomUpAttention(release, rule, keep=1).detect([picture])
        count = int(stored[f"select/{name}/preds_per_image"])
        assert len(found) == count == case["count"], name
        compare(found, stored, f"select/{name}/")
        rows = rule.select(stored_candidates(stored)).rows
        assert rows.tolist() == stored[f"select/{name}/keep"].tolist(), name


def compare(found, stored, prefix):
    """Differs: a box that the port moved out of the picture, and so cut to nothing, is the proposal's with us."""
    expected = {name: stored[prefix + name][0, : len(found)] for name in stored.names(prefix) if name not in WHOLE}
    there = (expected["boxes"][:, 2:] > expected["boxes"][:, :2]).all(dim=1)
    boxes, sides = torch.tensor(found.boxes), torch.tensor([found.width_px, found.height_px] * 2)
    close(boxes[there], expected["boxes"][there], 0.05, prefix)
    close((boxes / sides)[there], expected["normalized_boxes"][there], 3e-4, prefix)
    close(boxes[~there], proposals_of(stored)[stored[prefix + "keep"]][~there], 0.05, prefix)
    close(torch.tensor(found.features), expected["roi_features"], 1e-3, prefix)
    close(torch.tensor(found.scores), expected["obj_probs"], 5e-4, prefix)
    close(torch.tensor(found.class_probs[:, 0]), expected["obj_probs"], 5e-4, prefix)
    assert found.class_ids[:, 0].tolist() == expected["obj_ids"].tolist(), prefix
    if found.attribute_ids is not None:
        assert found.attribute_ids[:, 0].tolist() == expected["attr_ids"].tolist(), prefix
        close(torch.tensor(found.attribute_probs[:, 0]), expected["attr_probs"], 5e-4, prefix)


def stored_candidates(stored):
    every_class = stored["roi/boxes_all_classes_unclipped"].unflatten(1, (-1, 4))
    height, width = stored["size_hw"].tolist()
    return Candidates(
        boxes=stored["rpn/proposals"],
        class_probs=stored["roi/class_probs"].roll(1, 1),
        regress=lambda rows, class_ids: clip(every_class[rows, class_ids], height, width),
        scale=1 / stored["scale_yx"][[1, 0, 1, 0]],
    )


def proposals_of(stored):
    """Boxes of all proposals, in pixels of the picture."""
    return stored["rpn/proposals"] * stored["scale_yx"][[1, 0, 1, 0]]


def test_proposals_are_written_under_the_original_rule(stored, release):
    """The feature is the proposal's, and so is the box, in pixels of the picture. Which rows: see the rule's cases."""
    (found,) = BottomUpAttention(release, ButdRule(), soft_labels=True).detect([picture_of(stored["image"])])
    boxes = proposals_of(stored)
    rows = torch.cdist(torch.tensor(found.boxes), boxes).argmin(dim=1)
    assert len(set(rows.tolist())) == len(found) >= min(ButdRule().min_boxes, len(boxes))
    close(torch.tensor(found.boxes), boxes[rows], 0.05)
    close(torch.tensor(found.features), stored["roi/features"][rows], 1e-3)
    close(torch.tensor(found.soft_labels), stored["roi/class_probs"].roll(1, 1)[rows], 5e-4)


def test_given_boxes_have_the_features_of_proposals_there(stored, release):
    """But for those that end halfway between two cells, as at the picture's edge: there rounding decides."""
    sure = ((stored["rpn/proposals"] / STRIDE).frac() - 0.5).abs().amin(dim=1) > 1e-4
    if not sure.any():
        pytest.skip("every proposal of this set ends halfway between two cells")
    boxes = proposals_of(stored)[sure]
    (found,) = BottomUpAttention(release, box_kind="given").detect([picture_of(stored["image"])], [boxes.numpy()])
    close(torch.tensor(found.boxes), boxes, 1e-3)
    close(torch.tensor(found.features), stored["roi/features"][sure], 1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("quick", [False, True])
def test_variants_of_the_network(stored, release, quick):
    assert stored.facts["variants"]
    for name, change in stored.facts["variants"].items():
        config = read_settings(merged(stored.facts["config"], change), name).config
        model = C4Detector(config).eval()
        model.load_state_dict(release.state)
        if quick:
            model.quicken()
        feature_map = model.backbone(stored["preprocessed"][None])
        close(feature_map[0], stored[f"variant/{name}/res4"], 3e-3, name)
        (proposals,) = model.rpn.propose(feature_map, [tuple(stored["size_hw"].tolist())], [1.0])
        close(proposals.boxes, stored[f"variant/{name}/proposals"], 0.05, name)
        close(model.head(feature_map, [proposals.boxes]), stored[f"variant/{name}/features"], 3e-3, name)


def merged(settings, change):
    """Settings with a change, group by group."""
    both = dict(settings)
    for name, value in change.items():
        both[name] = merged(both.get(name, {}), value) if isinstance(value, Mapping) else value
    return both


@torch.inference_mode()
def test_a_padded_batch(stored, release, model):
    """What the port computes of two pictures at once; its mixed-up divisors (`official_wrong`) are not ours."""
    for number, (found, features) in enumerate(in_one_batch(stored, release, model)):
        close(found.boxes, stored[f"batch2/proposals_{number}"], 0.05)
        selected = release.rule.select(found)
        count = int(stored["batch2/preds_per_image"][number])
        assert selected.class_ids.tolist() == stored["batch2/obj_ids"][number, :count].tolist()
        boxes = found.regress(selected.rows, selected.class_ids) / found.scale
        close(boxes, stored["batch2/boxes"][number, :count], 0.05)
        height, width = stored["image2" if number else "image"].shape[:2]
        shares = boxes / torch.tensor([width, height, width, height])
        close(shares, stored["batch2/normalized_boxes_correct"][number, :count], 3e-4)
        close(features[selected.rows], stored["batch2/roi_features"][number, :count], 1e-3)
        close(selected.scores, stored["batch2/obj_probs"][number, :count], 1e-3)
        if model.predictor.attributes is not None:
            vectors, probs = features[selected.rows], found.class_probs[selected.rows]
            best = model.predictor.attributes.probs(vectors, probs).max(dim=1)
            assert best.indices.tolist() == stored["batch2/attr_ids"][number, :count].tolist()
            close(best.values, stored["batch2/attr_probs"][number, :count], 1e-3)


@torch.inference_mode()
def test_a_picture_with_few_boxes_takes_none_of_another(stored, release, model):
    """The port then reported those of the picture before it, or failed."""
    fact = stored.facts["stale_reuse_in_batch"]
    rule = LxmertRule(min_boxes=fact["min"], max_boxes=fact["min"], nms=thresholds(fact["nms"]))
    kept = [len(rule.select(found).rows) for found, _ in in_one_batch(stored, release, model)]
    assert sorted(kept) == sorted(fact["kept_alone"])


def in_one_batch(stored, release, model):
    """Candidates and features of each of the two pictures, padded to one size."""
    prepared = [prepare_pixels(stored[name].numpy(), release.preprocessing) for name in ("image", "image2")]
    assert [list(one.size) for one in prepared] == stored["batch2/sizes"].tolist()
    batch = padded([one.pixels for one in prepared])
    assert list(batch.shape) == stored.facts["batch2"]["batch_shape"]
    close(torch.tensor([one.scale for one in prepared]), 1 / stored["batch2/scale_yx"], 1e-6)
    feature_map = model.backbone(batch)
    proposals = model.rpn.propose(feature_map, [one.size for one in prepared], [1.0, 1.0])
    features = model.head(feature_map, [one.boxes for one in proposals]).split([len(one.boxes) for one in proposals])
    for ready, found, vectors in zip(prepared, proposals, features, strict=True):

        def regress(rows, class_ids, ready=ready, found=found, vectors=vectors):
            return clip(model.predictor.regress(vectors[rows], found.boxes[rows], class_ids), *ready.size)

        yield (
            Candidates(
                boxes=found.boxes,
                class_probs=model.predictor.class_probs(vectors),
                regress=regress,
                scale=torch.tensor(ready.scale)[[1, 0, 1, 0]].float(),
            ),
            vectors,
        )


def padded(pictures):
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
    return torch.stack(
        [F.pad(picture, (0, width - picture.shape[2], 0, height - picture.shape[1])) for picture in pictures]
    )


def test_pictures_are_computed_as_if_each_came_alone(stored, release):
    detector = BottomUpAttention(release)
    pictures = [picture_of(stored[name]) for name in ("image", "image2")]
    for picture, found in zip(pictures, detector.detect(pictures), strict=True):
        (alone,) = detector.detect([picture])
        assert alone.boxes.tobytes() == found.boxes.tobytes()
        assert alone.features.tobytes() == found.features.tobytes()
