from __future__ import annotations

from diptych.data.formats.columns import find_roles, record_of


def test_roles_of_common_layouts() -> None:
    flickr = find_roles(("image", "caption"))
    assert (flickr.picture, flickr.texts, flickr.key) == ("image", ("caption",), None)
    pipes = find_roles(("image_name", " comment_number", " comment"))
    assert (pipes.picture, pipes.texts, pipes.own) == ("image_name", (" comment",), (" comment_number",))
    open_clip = find_roles(("filepath", "title"))
    assert (open_clip.picture, open_clip.texts) == ("filepath", ("title",))
    numbered = find_roles(("image", "caption_0", "caption_1"), embedded=True)
    assert numbered.texts == ("caption_0", "caption_1")


def test_texts_come_from_captions_and_the_rest_is_kept() -> None:
    roles = find_roles(("image", "image_id", "captions", "title", "split"), embedded=True)
    assert roles.texts == ("captions",)
    assert roles.key == "image_id"
    assert roles.own == ("title",)


def test_an_id_is_the_key_only_where_pictures_are_embedded() -> None:
    """In a list with a row a text the id is the text's."""
    assert find_roles(("id", "image", "caption")).key is None
    assert find_roles(("id", "image", "caption"), embedded=True).key == "id"


def test_no_own_column_is_called_as_a_standard_one() -> None:
    roles = find_roles(("file_name", "image_path", "caption", "texts", "width"))
    assert roles.picture == "file_name"
    assert roles.own == ("caption", "width")


def test_a_row_without_key_takes_its_path_then_its_number() -> None:
    row = {"image": "a/1.png", "caption": "one", "split": "dev"}
    roles = find_roles(tuple(row))
    by_path = record_of(row, roles, image=b"", path="a/1.png", number="7", source="", split=None)
    by_number = record_of(row, roles, image=b"", path=None, number="7", source="", split=None)
    assert (by_path.key, by_number.key, by_path.split) == ("a/1.png", "7", "validation")
