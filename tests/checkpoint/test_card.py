"""The card names the data, the figures and the settings, in Markdown that renders."""

from __future__ import annotations

import json
from pathlib import Path

from diptych.checkpoint.card import write_card


def test_a_card_says_what_data_recipe_and_figures(tmp_path: Path) -> None:
    run = {"system": "clip", "recipe": "tiny", "optim": {"lr": 0.5}}
    path = write_card(
        tmp_path, run=run, data={"table": "shop | winter"}, metrics={"text_to_image_r1": 0.51234}, facts={"steps": 12}
    )
    text = path.read_text()
    assert text.startswith("# clip, recipe tiny\n")
    assert "| table | shop / winter |" in text  # a bar would end the cell
    assert "| text to image r1 | 0.5123 |" in text
    settings = text.split("```json\n")[1].split("```")[0]
    assert json.loads(settings) == run


def test_a_run_without_figures_has_no_empty_table(tmp_path: Path) -> None:
    text = write_card(tmp_path, run={"system": "clip", "recipe": "r"}, data={}, metrics={}, facts={}).read_text()
    assert "|" not in text
