from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import UsageError
from diptych.overrides import apply_overrides, from_plain, to_plain


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float | None = None
    kind: Literal["cosine", "constant"] = "cosine"


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "a"
    steps: int = 10
    layers: tuple[int, ...] = (3, 4)
    compile: bool = False
    optim: Inner = field(default_factory=Inner)


def test_overrides_replace_one_field_and_leave_the_original() -> None:
    before = Outer()
    after = apply_overrides(before, ["optim.lr=3e-4", "steps=20", "layers=1,2,3", "compile=true", "optim.clip=1"])
    assert after == Outer(steps=20, layers=(1, 2, 3), compile=True, optim=Inner(lr=3e-4, clip=1.0))
    assert before == Outer()


def test_none_and_one_number_for_a_tuple_are_understood() -> None:
    changed = apply_overrides(Outer(optim=Inner(clip=2.0)), ["optim.clip=none", "layers=7", "name=12"])
    assert changed == Outer(layers=(7,), name="12")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps", "has no '='"),
        ("step=3", "did you mean 'steps'"),
        ("optim.lrr=3", "did you mean 'optim.lr'"),
        ("optim=3", "group of settings"),
        ("steps.x=3", "has no parts"),
        ("steps=3.5", "expected a whole number"),
        ("steps=true", "expected a whole number"),
        ("compile=7", "expected true or false"),
        ("optim.lr=fast", "expected a number"),
        ("optim.kind=cosin", "expected one of: cosine, constant"),
        ("optim.betas=0.9", "expected 2 values"),
        ("optim.clip=much", "expected a number or none"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        apply_overrides(Outer(), [override])
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


@given(
    st.builds(
        Outer,
        name=st.text(),
        steps=st.integers(),
        layers=st.lists(st.integers(), max_size=4).map(tuple),
        compile=st.booleans(),
        optim=st.builds(
            Inner,
            lr=st.floats(allow_nan=False, allow_infinity=False),
            clip=st.none() | st.floats(0, 1),
            kind=st.sampled_from(["cosine", "constant"]),
        ),
    )
)
def test_settings_go_to_json_and_back(settings: Outer) -> None:
    assert from_plain(Outer, json.loads(json.dumps(to_plain(settings)))) == settings


def test_an_unknown_field_of_a_file_is_named_with_its_place() -> None:
    with pytest.raises(UsageError, match=r"'optim\.learning'"):
        from_plain(Outer, {"optim": {"learning": 1}})
