"""A finished scene: its picture and everything that is true of it, as a row of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diptych.data.scenes.asking import questions_about, refer_to, statements_about
from diptych.data.scenes.choices import choices_about
from diptych.data.scenes.paint import PixelBox, paint, to_png
from diptych.data.scenes.plan import PlannedObject
from diptych.data.scenes.settings import SceneSettings
from diptych.data.scenes.splits import plan_scene
from diptych.data.scenes.texts import texts_of


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One row of a table of scenes."""

    split: str
    key: str
    image: bytes
    """A PNG file."""
    texts: list[str]
    label: int | None
    """What the scene shows, where that is one thing; several have no one label."""
    fields: dict[str, Any]
    """A value for each of `columns.COLUMNS`."""


def make_scene(settings: SceneSettings, split: str, index: int) -> Scene:
    """Scene `index` of a split: a pure function of the three."""
    plan, rng = plan_scene(settings, split, index)
    painting = paint(settings, plan)
    texts, kinds = texts_of(settings, plan, rng)
    fields = {
        "text_kinds": kinds,
        "objects": [_object(*pair) for pair in zip(plan.objects, painting.boxes, strict=True)],
        "relations": [{"subject": one.subject, "name": one.name, "object": one.object} for one in plan.relations],
        "background": plan.background,
        "word": [] if painting.word_box is None else [{"text": plan.word, **_box(painting.word_box)}],
        "statements": statements_about(settings, plan, rng),
        "questions": questions_about(settings, plan, rng),
        "referring": [
            {"text": text, **_box(box)} for text, box in zip(refer_to(plan, rng), painting.boxes, strict=True) if text
        ],
        "choices": [] if split == "train" else choices_about(settings, plan, rng),
    }
    label = plan.objects[0].label if len(plan.objects) == 1 else None
    return Scene(
        split=split, key=key_of(split, index), image=to_png(painting.image), texts=texts, label=label, fields=fields
    )


def key_of(split: str, index: int) -> str:
    """The key of a scene in its table."""
    return f"{split}-{index:06d}"


def _object(planned: PlannedObject, box: PixelBox) -> dict[str, Any]:
    look = {"name": planned.thing, "label": planned.label, "colour": planned.colour}
    return {**look, "texture": planned.texture, "size": planned.size, **_box(box)}


def _box(box: PixelBox) -> dict[str, int]:
    return dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))
