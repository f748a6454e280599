"""The three published layouts and our own folder: what is read, what is left out and why, what is refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import pytest
import torch
import yaml

from diptych.checkpoint.files import write_sums
from diptych.detector.layouts import detectron2
from diptych.detector.layouts.lxmert import read_settings
from diptych.detector.model import DetectorConfig
from diptych.detector.selection import ButdRule, LxmertRule
from diptych.detector.weights import identify, read_weights, write_release
from diptych.errors import WeightsError

SETTINGS = {
    "resnets": {
        "depth": 50,
        "stem_out_channels": 4,
        "res2_out_channels": 8,
        "width_per_group": 3,
        "norm": "BN",
    },
    "ANCHOR_GENERATOR": {"SIZES": [[16, 32]], "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]},
    "proposal_generator": {"hidden_channels": 6},
    "RPN": {"PRE_NMS_TOPK_TEST": 50, "POST_NMS_TOPK_TEST": 9, "BATCH_SIZE_PER_IMAGE": 256},
    "ROI_HEADS": {"NUM_CLASSES": 5, "NMS_THRESH_TEST": [0.4, 0.8], "SCORE_THRESH_TEST": 0.2},
    "ROI_BOX_HEAD": {"NUM_ATTRS": 7},
    "INPUT": {"MIN_SIZE_TEST": 48, "MAX_SIZE_TEST": 80, "FORMAT": "RGB"},
    "MIN_DETECTIONS": 3,
    "MAX_DETECTIONS": 4,
}
STAGES = (3, 4, 6, 3)


@pytest.fixture
def release(make_release):
    return make_release(stages=STAGES)


@pytest.fixture
def theirs(release):
    """The release's tensors as the ports have them: background last, and a count beside every norm."""
    last = {
        name: tensor.roll(-1, 0) if name in detectron2.BACKGROUND_LAST else tensor
        for name, tensor in release.state.items()
    }
    state = detectron2.KEYS.to_theirs(last)
    counts = {name.replace("running_var", "num_batches_tracked"): torch.tensor(0) for name in state if "_var" in name}
    return state | counts


@pytest.fixture
def folder(theirs, tmp_path):
    """As the hub has it."""
    (tmp_path / "port").mkdir()
    (tmp_path / "port" / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    torch.save(theirs, tmp_path / "port" / "pytorch_model.bin")
    return tmp_path / "port"


def same_state(found, release):
    assert found.state.keys() == release.state.keys()
    for name, tensor in release.state.items():
        assert torch.equal(found.state[name], tensor), name


def test_the_ports_folder(folder, release):
    assert identify(folder) == "lxmert"
    found = read_weights(folder)
    same_state(found, release)
    assert found.config == release.config
    assert (found.preprocessing.shorter, found.preprocessing.longer, found.preprocessing.resize) == (48, 80, "size")
    assert found.preprocessing.colour == "BGR"  # whatever FORMAT says
    assert found.rule == LxmertRule(min_boxes=3, max_boxes=4, nms=(0.4, 0.8))
    assert "background last" in found.source


def test_what_is_left_out_is_listed_with_its_reason(folder):
    ignored = read_weights(folder).ignored
    assert "norms stand still" in ignored["backbone.stem.conv1.norm.num_batches_tracked"]
    assert "want BGR" in ignored["INPUT.FORMAT"]
    assert "never applied" in ignored["ROI_HEADS.SCORE_THRESH_TEST"]
    assert "training" in ignored["RPN.BATCH_SIZE_PER_IMAGE"]
    assert "RPN.PRE_NMS_TOPK_TEST" not in ignored


@pytest.mark.parametrize("name", ["a.pkl", "a.pth", "nested.pkl", "nested.pth"])
def test_the_other_ports_files(name, theirs, release, tmp_path):
    file = tmp_path / name
    arrays = {key: tensor.numpy() for key, tensor in theirs.items()} if file.suffix == ".pkl" else theirs
    arrays = {"model": arrays, "__author__": "somebody"} if name.startswith("nested") else arrays
    if file.suffix == ".pkl":
        file.write_bytes(pickle.dumps(arrays))
    else:
        torch.save(arrays, file)
    found = read_weights(file, release.config)
    same_state(found, release)
    assert found.preprocessing.resize == "pillow"


def test_sizes_of_a_file_without_a_config_are_read_from_its_tensors(make_release, tmp_path):
    wide = make_release(stages=(1, 3, 2, 1), anchor_sizes=(64.0, 128.0, 256.0, 512.0), bottleneck=4, groups=2)
    theirs = detectron2.KEYS.to_theirs(wide.state)
    del theirs[detectron2.ANCHORS]  # the pickles have none
    torch.save(theirs, tmp_path / "a.pth")
    found = read_weights(tmp_path / "a.pth")
    assert found.config == replace(wide.config, pre_nms=6000, post_nms=300)
    assert torch.equal(found.state["rpn.cell_anchors"], wide.state["rpn.cell_anchors"])


def test_files_without_a_config_whose_anchors_are_unknown_are_refused(make_release, tmp_path):
    for sizes, said in (((64.0, 128.0), "has 6 anchors"), ((8.0,) * 8, r"apart \(24 channels\), as Caffe did")):
        torch.save(detectron2.KEYS.to_theirs(make_release(anchor_sizes=sizes).state), tmp_path / "a.pth")
        with pytest.raises(WeightsError, match=said):
            read_weights(tmp_path / "a.pth")


def test_anchors_are_those_of_the_file_and_checked(folder, theirs):
    assert read_weights(folder).notes == ()
    theirs[detectron2.ANCHORS] = theirs[detectron2.ANCHORS] + 0.5
    torch.save(theirs, folder / "pytorch_model.bin")
    found = read_weights(folder)
    assert torch.equal(found.state["rpn.cell_anchors"], theirs[detectron2.ANCHORS])
    assert "0.5 pixels" in found.notes[0]
    theirs[detectron2.ANCHORS][2, 2] = -99
    torch.save(theirs, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="are no boxes"):
        read_weights(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("backbone.res4.5.conv2.weight"), "missing: backbone.res4.5.conv2.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "no place in the model: extra"),
        (
            lambda state: state.update({"roi_heads.box_predictor.cls_score.bias": torch.zeros(92)}),
            r"cls_score.bias is \(92,\), expected \(6,\)",
        ),
        (
            lambda state: state["roi_heads.res5.0.conv1.weight"].fill_(torch.nan),
            "not finite, the first is head.res5.0.conv1.weight",
        ),
    ],
)
def test_other_tensors_are_refused(change, said, folder, theirs):
    change(theirs)
    torch.save(theirs, folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=said):
        read_weights(folder)


def test_a_checkpoint_of_another_detector_is_refused(tmp_path):
    torch.save({"backbone.body.conv1.weight": torch.zeros(4, 3, 7, 7)}, tmp_path / "fpn.pth")
    with pytest.raises(WeightsError, match="not bottom-up attention"):
        read_weights(tmp_path / "fpn.pth")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(WeightsError, match="no detector that is known here"):
        read_weights(tmp_path / "notes.txt")
    with pytest.raises(WeightsError, match=r"there is no file or folder .*fpm\.pth; did you mean .*fpn\.pth"):
        read_weights(tmp_path / "fpm.pth")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"RESNETS": {"DEPTH": 18}}, "18"),
        ({"RESNETS": {"NORM": "GN"}}, "RESNETS.NORM is 'GN'; expected 'BN' or 'FrozenBN'"),
        ({"SIZE_DIVISIBILITY": 32}, "SIZE_DIVISIBILITY is 32"),
        ({"ROI_BOX_HEAD": {"CLS_AGNOSTIC_BBOX_REG": True}}, "CLS_AGNOSTIC_BBOX_REG is True"),
        ({"ANCHOR_GENERATOR": {"SIZES": [[1], [2]]}}, "unknown form"),
    ],
)
def test_settings_of_other_networks_are_refused(settings, said):
    with pytest.raises(WeightsError, match=said):
        read_settings(settings, "config.yaml")


def test_settings_that_are_left_out_are_the_releases():
    assert read_settings({}, "config.yaml").config == DetectorConfig()


@pytest.mark.parametrize("content", ["- a\n- b", "a: [", "!!python/object/apply:os.system ['echo']"])
def test_a_config_that_is_none_is_refused(content, folder):
    (folder / "config.yaml").write_text(content)
    with pytest.raises(WeightsError, match=r"config\.yaml"):
        read_weights(folder)


def test_our_folder_gives_back_all_that_was_put_in(release, tmp_path):
    written = replace(release, rule=ButdRule(min_boxes=2, confidence=0.3))
    write_release(tmp_path / "ours", written)
    assert identify(tmp_path / "ours") == "diptych"
    found = read_weights(tmp_path / "ours")
    same_state(found, release)
    assert replace(found, state={}) == replace(written, state={})
    assert found.fingerprint() == release.fingerprint()
    told = json.loads((tmp_path / "ours" / "detector.json").read_text())
    assert told["class_order"] == "background first"
    assert told["model"]["plus_one"] is False
    assert told["preprocessing"]["colour"] == "BGR"


def test_what_others_published_is_converted_once(folder, tmp_path):
    published = read_weights(folder)
    write_release(tmp_path / "ours", published)
    converted = read_weights(tmp_path / "ours")
    same_state(converted, published)
    assert converted.fingerprint() == published.fingerprint()
    assert (converted.rule, converted.source) == (published.rule, published.source)


def test_fingerprints_tell_weights_settings_and_preprocessing_apart(release):
    other = dict(release.state)
    other["predictor.classes.bias"] = other["predictor.classes.bias"] + 1
    changed = [
        replace(release, state=other),
        replace(release, config=replace(release.config, post_nms=8)),
        replace(release, preprocessing=replace(release.preprocessing, shorter=50)),
    ]
    assert len({one.fingerprint() for one in (release, *changed)}) == 4


def test_damaged_and_newer_folders_of_ours_are_refused(release, tmp_path):
    write_release(tmp_path / "cut", release)
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="not as it was written"):
        read_weights(tmp_path / "cut")
    write_release(tmp_path / "newer", release)
    told = json.loads((tmp_path / "newer" / "detector.json").read_text())
    (tmp_path / "newer" / "detector.json").write_text(json.dumps({**told, "format": 2}))
    write_sums(tmp_path / "newer", ("detector.json", "model.safetensors"))
    with pytest.raises(WeightsError, match="has format 2; this diptych reads up to 1"):
        read_weights(tmp_path / "newer")


def test_names_that_are_given_are_as_many_as_classes(folder):
    names = ("yolk", "stop sign", "cat", "dog", "man")
    assert read_weights(folder, classes=names).classes == names
    with pytest.raises(WeightsError, match=r"4 class names .* which has 5"):
        read_weights(folder, classes=names[:4])


def test_a_name_on_the_hub_is_fetched_only_when_it_is_one(monkeypatch, folder):
    asked = []

    def fetched(repository, names):
        asked.append((repository, *names))
        return folder / names[0]

    monkeypatch.setattr("diptych.detector.weights.download_first", fetched)
    assert read_weights("unc-nlp/frcnn-vg-finetuned").config.num_classes == 5
    assert asked == [("unc-nlp/frcnn-vg-finetuned", name) for name in ("pytorch_model.bin", "config.yaml")]
    with pytest.raises(WeightsError, match="there is no file or folder"):
        read_weights(folder / "missing")
    assert len(asked) == 2
