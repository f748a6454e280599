"""From names to objects: the rooms, their recipes, objectives by name, a run's objects, and models that are loaded.

The one place that knows all rooms. `run.json` goes through here too, and never makes code run: only a command line
that names `path/mine.py:run` does.
"""

from diptych.systems.building import build
from diptych.systems.converting import LAYOUTS, Description, convert, describe
from diptych.systems.costing import cost_of, refuse_unknown_cost
from diptych.systems.finetuning import finetuned
from diptych.systems.loading import load, load_any, load_detector, load_towers
from diptych.systems.outside import OutsideObjective, outside_recipe
from diptych.systems.reproducing import published, published_row, reproduce
from diptych.systems.rooms import NAMES, OBJECTIVES, import_config, recipe, recipes
from diptych.systems.runs import read_run, run_from_plain
from diptych.systems.trained import Trained, read_trained

__all__ = [
    "LAYOUTS",
    "NAMES",
    "OBJECTIVES",
    "Description",
    "OutsideObjective",
    "Trained",
    "build",
    "convert",
    "cost_of",
    "describe",
    "finetuned",
    "import_config",
    "load",
    "load_any",
    "load_detector",
    "load_towers",
    "outside_recipe",
    "published",
    "published_row",
    "read_run",
    "read_trained",
    "recipe",
    "recipes",
    "refuse_unknown_cost",
    "reproduce",
    "run_from_plain",
]
