from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.data.formats.gather import Gatherer
from diptych.data.formats.record import Record
from diptych.data.formats.survey import survey
from diptych.data.rejects import Reject


def gathered(records: Iterable[Record]) -> list[Record | Reject]:
    records = list(records)
    with survey(records, []) as found, Gatherer(found.keys) as gatherer:
        return [whole for record in records for whole in gatherer.add(record)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.text(st.characters(exclude_categories=["Cs"])))))
def test_texts_of_a_key_come_together_in_their_order(pairs: list[tuple[str, str]]) -> None:
    found = gathered(Record(key=key, source="", image=key.encode(), texts=(text,)) for key, text in pairs)
    expected = {key: tuple(text for other, text in pairs if other == key) for key, _ in pairs}
    assert {row.key: row.texts for row in found if isinstance(row, Record)} == expected
    assert len(found) == len(expected)


def test_the_same_path_is_the_same_sample_whatever_its_keys() -> None:
    rows = [Record(key=key, source="", image=Path("1.png"), texts=(key,)) for key in ("7", "8", "9")]
    (record,) = gathered(rows)
    assert isinstance(record, Record)
    assert (record.key, record.texts) == ("7", ("7", "8", "9"))


def test_another_picture_under_the_same_key_is_refused() -> None:
    rows = [
        Record(key="1", source=f"row {n}", image=image, texts=(f"text {n}",))
        for n, image in enumerate([b"a", b"b", b"a"])
    ]
    reject, record = gathered(rows)
    assert reject == Reject("1", "row 1", "the key is that of row 0, but the picture is another one")
    assert isinstance(record, Record)
    assert record.texts == ("text 0", "text 2")


def test_another_picture_of_the_same_name_keeps_its_own_key() -> None:
    """Names without folders, as the hub's files carry them, are no keys of the source."""
    rows = [Record(key="1.png", source="", image=image, spare_key=f"row {n}") for n, image in enumerate([b"a", b"b"])]
    assert sorted(row.key for row in gathered(rows)) == ["1.png", "row 1"]
