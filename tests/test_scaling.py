"""docs/scaling.md says what the code computes: its tables are made anew and compared."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
import torch

from diptych import systems
from diptych.nn.unfilled import Unfilled
from diptych.systems.cards import CARDS
from diptych.systems.models import new_model

PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    """docs/scaling.py."""
    spec = importlib.util.spec_from_file_location("scaling", PAGE.with_suffix(".py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_follow_from_the_costs_on_the_page(scaling: ModuleType) -> None:
    page = PAGE.read_text(encoding="utf-8")
    costs = scaling.costs_on(page)
    assert len(costs) == 2 * len(scaling.MODELS)
    assert scaling.rewritten(page, costs) == page, "run: python docs/scaling.py"


def test_the_sizes_on_the_page_are_those_of_the_models(scaling: ModuleType) -> None:
    costs = scaling.costs_on(PAGE.read_text(encoding="utf-8"))
    for name in scaling.MODELS:
        run = systems.recipe("clip", name)
        with torch.device("meta"), Unfilled():
            model = new_model(run.system, run.model, run.objective)
        sizes = sum(parameter.numel() for parameter in model.parameters())
        assert {costs[name, again].parameters for again in (False, True)} == {sizes}


def test_the_peaks_in_float32_on_the_page_are_those_of_the_cards() -> None:
    first, second, third = (f"{card.float32_peak / 1e12:g}" for card in CARDS)
    said = f"with `training.precision=float32` those are {first}, {second} and {third} TFLOP/s"
    assert said in PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_32", "vit_l_14"])
def test_the_costs_on_the_page_are_what_is_counted(scaling: ModuleType, name: str) -> None:
    """Memory within 2 %: other versions of torch may keep other tensors for the backward pass."""
    said = asdict(scaling.costs_on(PAGE.read_text(encoding="utf-8"))[name, True])
    counted = asdict(systems.cost_of(scaling.recipe(name, True)))
    near = ("activation_bytes", "constant_bytes")
    assert {part: said[part] for part in near} == pytest.approx({part: counted[part] for part in near}, rel=0.02)
    assert {**said, **dict.fromkeys(near)} == {**counted, **dict.fromkeys(near)}
