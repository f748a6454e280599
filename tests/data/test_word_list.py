"""Names of classes as people write them down."""

from __future__ import annotations

import json

import pytest

from diptych.data.word_list import read_vocabulary, read_word_list
from diptych.errors import DataError


def test_class_names_come_from_lines_or_json(tmp_path):
    lines, listed = tmp_path / "names.txt", tmp_path / "names.json"
    lines.write_text("cat\nhot dog\n")
    assert read_word_list(lines) == (("cat",), ("hot dog",))
    listed.write_text(json.dumps(["angry", ["happy", "smiling"]]))
    assert read_word_list(listed) == (("angry",), ("happy", "smiling"))


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '["a", []]', "[", '{"a": 1}'])
def test_json_of_another_form_is_told(tmp_path, content):
    file = tmp_path / "names.json"
    file.write_text(content)
    with pytest.raises(DataError, match=r"names\.json is not"):
        read_word_list(file)


def test_a_missing_file_of_class_names_is_told(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_word_list(tmp_path / "none.txt")


def test_an_empty_line_is_told_where_labels_would_slip(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("yolk\ncat\n\n\n")
    assert read_word_list(file) == (("yolk",), ("cat",))
    file.write_text("yolk\n\ncat\n")
    with pytest.raises(DataError, match="line 2 has no name"):
        read_word_list(file)


def test_a_vocabulary_has_the_first_name_of_each_class(tmp_path):
    file = tmp_path / "objects.txt"
    file.write_text("yolk\nStop Sign,stopsign\n cat")  # no newline at the end
    assert read_vocabulary(file) == ("yolk", "stop sign", "cat")
    file.write_text("yolk\n,stopsign\n")
    with pytest.raises(DataError, match="class 1 has no name before its comma"):
        read_vocabulary(file)
