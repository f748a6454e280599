"""What `diptych weights identify` says of weights: a table's rows for every system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diptych.systems.converting import Description


def rows_of(found: Description) -> list[tuple[str, str]]:
    """A line for each thing that is known, by system."""
    common = [
        ("layout", found.layout),
        ("system", found.system),
        ("parameters", f"{found.num_parameters:,} in {found.num_tensors} tensors"),
    ]
    match found.system:
        case "bottom-up attention":
            return common + _of_bottom_up(found.config)
        case "detector":
            return common + _of_detector(found.config)
        case "uniter":
            return common + _of_uniter(found)
        case _:
            return common + _of_towers(found.config)


def _of_uniter(found: Description) -> list[tuple[str, str]]:
    config = found.config
    size = {(12, 768): "base", (24, 1024): "large"}.get((config.depth, config.width), "neither base nor large")
    rows = [
        ("size", f"{size}: {config.depth} layers, {config.width} wide, {config.heads} attention heads"),
        ("texts", f"{config.vocab_size:,} words, at most {config.positions} tokens; {config.types} types of tokens"),
    ]
    if found.layout == "bert":
        return [*rows, ("regions", "none: the text side of a UNITER, to begin a training with")]
    made_by = config.detector or "a detector that the file does not name"
    rows.append(("regions", f"features of {config.feature_width:,} numbers, of {made_by}"))
    return [*rows, ("heads", f"{', '.join(found.heads) or 'none'} ({_release(found.heads)})")]


def _release(heads: tuple[str, ...]) -> str:
    """Which release of a UNITER has such heads."""
    if {"mlm", "itm"} <= set(heads):
        return "as pre-trained"
    tasks = {
        "vqa": "VQA",
        "ve": "visual entailment",
        "vcr": "VCR",
        "nlvr2": "NLVR2",
        "rank": "retrieval",
        "re": "referring expressions",
    }
    found = [name for key, name in tasks.items() if any(head.split("_")[0] == key for head in heads)]
    return f"as fine-tuned for {', '.join(found)}" if found else "as no release has them"


def _of_bottom_up(config: Any) -> list[tuple[str, str]]:
    model, pictures = config.model, config.preprocessing
    return [
        ("network", f"Faster R-CNN C4 over a ResNet-{3 * sum(model.stages) + 2}, blocks {_listed(model.stages)}"),
        ("anchors", f"{_listed(model.anchor_sizes)} pixels, {_listed(model.anchor_ratios)} times as high as wide"),
        (
            "proposals",
            f"{model.post_nms:,} of {model.pre_nms:,}, no two of which overlap by more than {model.rpn_nms:g}",
        ),
        ("rule of selection", config.rule),
        (
            "pictures",
            f"shorter side {pictures.shorter} pixels, longer side at most {pictures.longer}, {pictures.colour}",
        ),
        ("mean, std", f"{_listed(pictures.mean)}; {_listed(pictures.std)}"),
        ("classes", _number_and_names(model.num_classes, config.classes)),
        ("attributes", _number_and_names(model.num_attributes, config.attributes)),
        ("region features", f"{model.feature_width} wide"),
    ]


def _number_and_names(number: int, names: tuple[str, ...]) -> str:
    if number == 0:
        return "none"
    return f"{number:,}: {', '.join(names[:8])}{' ...' * (len(names) > 8)}" if names else f"{number:,}, without names"


def _of_detector(config: Any) -> list[tuple[str, str]]:
    return [
        ("form", f"Faster R-CNN, {config.backbone} {config.form}"),
        ("pictures", f"shorter side {config.shorter_side} pixels, longer side at most {config.longer_side}"),
        ("mean, std", f"{_listed(config.image_mean)}; {_listed(config.image_std)}"),
        ("classes", _number_and_names(len(config.classes), config.classes)),
        ("attributes", _number_and_names(len(config.attributes), config.attributes)),
        ("region features", f"{config.feature_width} wide"),
    ]


def _of_towers(config: Any) -> list[tuple[str, str]]:
    crop = {"shortest": "shorter side, then cropped", "longest": "longer side, then padded", "squash": "squashed"}
    return [
        ("shared space", f"{config.embed_dim} wide"),
        ("picture tower", _picture_tower(config)),
        ("pictures", f"{config.image_size} pixels, {crop[config.resize_mode]}, {config.interpolation}"),
        ("mean, std", f"{_listed(config.image_mean)}; {_listed(config.image_std)}"),
        ("text tower", _text_tower(config)),
        ("texts", f"{config.vocab_size} words, at most {config.context} tokens"),
        ("activation", config.activation),
    ]


def _picture_tower(config: Any) -> str:
    if config.image == "timm":
        return f"timm {config.timm_name}"
    patches = f", patches of {config.patch_size}" if config.image == "vit" else ""
    layers = "+".join(str(depth) for depth in config.image_layers)
    return f"{config.image}, {layers} layers, {config.image_width} wide{patches}"


def _text_tower(config: Any) -> str:
    if config.text == "cbow":
        return f"cbow, {config.text_width} wide"
    seen = "causal" if config.causal else "all tokens see each other"
    return f"{config.text}, {config.text_layers} layers, {config.text_width} wide, {seen}, read at: {config.text_pool}"


def _listed(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)
