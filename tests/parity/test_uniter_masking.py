"""Masks of words and regions against the released ones, from the draws that were made there."""

from __future__ import annotations

import pytest

from diptych.objectives.masking import mask_regions, mask_words


class Script:
    """An Rng that says what was drawn elsewhere."""

    def __init__(self, uniform: list[float], whole: list[int]) -> None:
        self.uniform, self.whole = list(uniform), list(whole)

    def random(self) -> float:
        return self.uniform.pop(0)

    def integers(self, low: int, high: int | None = None) -> int:
        return self.whole.pop(0)

    def is_over(self) -> bool:
        return not self.uniform and not self.whole


@pytest.fixture(scope="module")
def facts(golden):
    return golden("uniter").facts


def test_words(facts):
    settings = facts["mlm_masking"]
    assert settings["cases"]
    for case in settings["cases"]:
        rng = Script(case["u"], case["choices"])
        masked, chosen = mask_words(
            case["tokens"], rng, mask_id=settings["mask_id"], replacements=tuple(settings["v_range"])
        )
        assert masked == case["output"]
        assert chosen == [position for position, label in enumerate(case["labels"]) if label != -1]
        assert rng.is_over()


def test_regions(facts):
    settings = facts["region_masking"]
    assert settings["cases"]
    for case in settings["cases"]:
        rng = Script(case["u"], case["pick"])
        chosen = mask_regions(case["num_regions"], rng, probability=settings["prob"])
        assert chosen == [position for position, masked in enumerate(case["mask"]) if masked]
        assert rng.is_over()
