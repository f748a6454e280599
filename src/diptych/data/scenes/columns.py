"""The columns that a table of scenes has beyond the standard ones; apart, so that who only paints needs no Arrow."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

_BOX = [(name, pa.int32()) for name in ("x0", "y0", "x1", "y1")]
_LOOK = [("name", pa.string()), ("label", pa.int32()), *((name, pa.string()) for name in ("colour", "texture", "size"))]
_RELATION = [("subject", pa.int32()), ("name", pa.string()), ("object", pa.int32())]
_QUESTION = [(name, pa.string()) for name in ("question", "answer", "kind")]
_CHOICE = [("kind", pa.string()), ("texts", pa.list_(pa.string())), ("answer", pa.int32())]

COLUMNS: Mapping[str, pa.DataType] = {
    "text_kinds": pa.list_(pa.string()),
    "objects": pa.list_(pa.struct([*_LOOK, *_BOX])),
    "relations": pa.list_(pa.struct(_RELATION)),
    "background": pa.string(),
    "word": pa.list_(pa.struct([("text", pa.string()), *_BOX])),
    "statements": pa.list_(pa.struct([("text", pa.string()), ("truth", pa.bool_())])),
    "questions": pa.list_(pa.struct(_QUESTION)),
    "referring": pa.list_(pa.struct([("text", pa.string()), *_BOX])),
    "choices": pa.list_(pa.struct(_CHOICE)),
}
"""docs/scenes.md says what they hold."""
