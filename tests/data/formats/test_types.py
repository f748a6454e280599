from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.formats.objects import OBJECTS, objects_of
from diptych.data.formats.types import MAX_COLUMNS, ColumnTypes

PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=5,
)


def types_of(*rows: dict[str, object]) -> dict[str, pa.DataType]:
    found = ColumnTypes()
    for row in rows:
        found.see(row)
    return found.types()


def test_types_widen_until_every_value_fits() -> None:
    found = types_of({"a": 1, "b": None, "c": []}, {"a": 2.5, "b": "x", "c": [1]}, {"c": [0.5], "d": {"e": 1}})
    assert found == {
        "a": pa.float64(),
        "b": pa.string(),
        "c": pa.list_(pa.float64()),
        "d": pa.struct([("e", pa.int64())]),
    }


def test_a_column_of_mixed_kinds_becomes_text_and_none_of_it_is_lost() -> None:
    found = ColumnTypes()
    for value in (1, "one", [1, 2]):
        found.see({"a": value})
    assert found.types() == {"a": pa.string()}
    assert [found.value("a", value) for value in (1, "one", [1, 2], None)] == ["1", "one", "[1, 2]", None]


def test_a_column_without_values_is_none() -> None:
    assert types_of({"a": None}) == {}


def test_columns_are_limited() -> None:
    """A file of lines with a name each, such as {"17": ...}, would make as many columns as rows."""
    found = ColumnTypes()
    found.see({f"column {number}": number for number in range(MAX_COLUMNS + 3)})
    assert len(found.types()) == MAX_COLUMNS
    assert len(found.left_out) == 3


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, max_size=6))
def test_whatever_was_seen_is_found_a_type_it_fits(values: list[object]) -> None:
    found = ColumnTypes()
    for value in values:
        found.see({"a": value})
    for type_ in found.types().values():
        assert "null" not in str(type_)
        pa.array([found.value("a", value) for value in values], type=type_)


def test_boxes_of_the_hub_become_corners() -> None:
    found = objects_of({"bbox": [[1, 2, 3.5, 4]], "category": [7], "category_name": ["cup"]})
    assert found == [{"name": "cup", "label": 7, "x0": 1.0, "y0": 2.0, "x1": 4.5, "y1": 6.0, "crowd": False}]
    assert objects_of({"bbox": [], "categories": []}) == []
    many = objects_of({"bbox": [[1, 2, 3, 4]] * 2, "category": ["cup", "cup"], "iscrowd": [0, 1]})
    assert many is not None and [one["crowd"] for one in many] == [False, True]
    assert objects_of({"bbox": [[1, 2, 3]]}) is None
    assert objects_of([{"bbox": [1, 2, 3, 4]}]) is None
    assert types_of({"objects": found}, {"objects": []}) == {"objects": OBJECTS}
