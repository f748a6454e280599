"""How many regions each consumer reads, held against what its own code does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.data.regions import Regions, RegionSpec
from diptych.errors import UsageError
from diptych.prepare.presets import NAMES, best, preset

SPEC = RegionSpec(
    detector="windows", detector_hash="", rule="windows", feature_kind="roialign", feature_width=2, box_kind="window"
)


def regions(scores: list[float]) -> Regions:
    num = len(scores)
    return Regions(
        height_px=5,
        width_px=7,
        boxes=np.tile(np.array([0, 0, 1, 1], np.float32), (num, 1)),
        features=np.arange(2 * num, dtype=np.float32).reshape(num, 2),
        scores=np.array(scores, np.float32),
        class_ids=np.arange(num, dtype=np.int32)[:, None],
        class_probs=np.ones((num, 1), np.float32),
    )


@given(st.lists(st.floats(0, 1, width=32), max_size=100))
def test_uniter_keeps_what_its_reader_keeps(scores: list[float]) -> None:
    found = regions(sorted(scores, reverse=True))
    conf = found.scores.astype(np.float16)  # as in the file
    num = min(max(int((conf > np.float16(0.2)).sum()), 10), 100)
    assert len(preset("uniter").keep(found)) == min(num, len(scores))


def test_a_score_that_is_a_fifth_in_float16_is_not_above_it() -> None:
    fifth = float(np.float16(0.2))  # 0.19995
    assert fifth < 0.2
    assert len(preset("uniter").keep(regions([0.9] * 11 + [0.2] * 3))) == 11
    assert len(preset("uniter").keep(regions([0.9] * 11 + [0.2002] * 3))) == 14


def test_oscar_reads_fifty_and_the_fixed_ones_36() -> None:
    assert len(preset("oscar").keep(regions([0.5] * 70))) == 50
    assert len(preset("oscar").keep(regions([0.5] * 20))) == 20
    assert len(preset("fixed36").keep(regions([0.5] * 50))) == 36


def test_the_best_keep_all_their_parts() -> None:
    found = best(regions([0.9, 0.5, 0.1]), 2)
    assert found.scores.tolist() == pytest.approx([0.9, 0.5]) and found.features.tolist() == [[0, 1], [2, 3]]
    assert found.class_ids is not None and found.class_ids.tolist() == [[0], [1]]
    assert found.soft_labels is None and (found.height_px, found.width_px) == (5, 7)


@pytest.mark.parametrize("name", NAMES)
def test_the_store_says_whether_the_weights_match(name: str) -> None:
    chosen = preset(name)
    rule = f"{chosen.rule}(min={chosen.min_boxes}, max={chosen.max_boxes}, {chosen.thresholds}"
    fitting = replace(SPEC, feature_width=2048, rule=rule, box_kind=chosen.box_kind, colour="BGR")
    assert chosen.matched(fitting, "butd").consumer.startswith(chosen.consumer)
    assert chosen.warning(fitting, "butd") is None
    for other in (
        replace(fitting, feature_width=64),
        replace(fitting, rule=f"{chosen.rule}(min=1, max=7, ...)"),
        replace(fitting, rule="given boxes"),
        replace(fitting, rule=rule.replace(chosen.thresholds, "conf=0.9, nms=0.3)")),
        replace(fitting, box_kind="given"),
        replace(fitting, colour="RGB"),
        replace(fitting, classes=("dog", "cat")),
    ):
        assert chosen.warning(other, "butd") is not None
        assert chosen.matched(other, "butd").consumer.startswith("no released weights")
    assert chosen.matched(SPEC, "windows").consumer == f"no released weights: the rule of {name} on windows features"
    warned = chosen.warning(SPEC, "windows")
    assert warned is not None and "2 numbers of windows" in warned and chosen.consumer in warned


def test_an_unknown_preset_is_told() -> None:
    with pytest.raises(UsageError, match="did you mean 'uniter'"):
        preset("unitter")
