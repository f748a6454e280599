"""The built-in picture world: seeded scenes with everything that is true of them."""

from diptych.data.scenes.drawing import draw_scenes
from diptych.data.scenes.settings import STYLES, SceneSettings, TextMix, easy, hard, style

__all__ = ["STYLES", "SceneSettings", "TextMix", "draw_scenes", "easy", "hard", "style"]
