"""Which scenes go where: pairs that training never sees, and test scenes that it never reads about in full."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from diptych.data.sample import Rng, random_for
from diptych.data.scenes.plan import Cell, Pair, Plan, compose
from diptych.data.scenes.settings import SceneSettings
from diptych.data.scenes.texts import full_text

SPLITS = ("train", "validation", "test", "unseen_pairs")
PURPOSE = "scenes"
MOST_TEST, MOST_OTHER = 1000, 500


def split_sizes(settings: SceneSettings) -> dict[str, int]:
    """Scenes by split: an eighth for test and a sixteenth each for validation and unseen pairs, up to a limit."""
    cells = len(seen_pairs(settings)) * settings.num_backgrounds * settings.num_textures
    # 7 in 12 of the cells at most: training draws from what the evaluation splits leave. A quarter of the easy world's
    # cells gives validation its 500, as many as the report's gallery, so that step 0 and the end can be compared.
    test = min(settings.num // 8, MOST_TEST, cells // 3)
    validation = min(settings.num // 16, MOST_OTHER, cells // 4)
    unseen = min(settings.num // 16, MOST_OTHER)
    train = settings.num - test - validation - unseen
    return dict(zip(SPLITS, (train, validation, test, unseen), strict=True))


@lru_cache(maxsize=8)
def unseen_pairs(settings: SceneSettings) -> tuple[Pair, ...]:
    """One colour of every thing that it has only in the split of this name; every colour is kept from some thing."""
    order = random_for(settings.seed, 0, "unseen pairs", PURPOSE).permutation(settings.num_colours).tolist()
    return tuple((label, order[label % settings.num_colours]) for label in range(settings.num_things))


@lru_cache(maxsize=8)
def seen_pairs(settings: SceneSettings) -> tuple[Pair, ...]:
    """The pairs of every other split, and of every object but the first in the split of unseen ones."""
    unseen = set(unseen_pairs(settings))
    pairs = [(label, colour) for label in range(settings.num_things) for colour in range(settings.num_colours)]
    return tuple(pair for pair in pairs if pair not in unseen)


def evaluation_cell(settings: SceneSettings, split: str, index: int) -> Cell | None:
    """What the first object of an evaluation scene must be; None in training.

    Test and validation walk together through all (thing, colour, background) in an order by chance, then again with
    the next texture: no two of their scenes have the same cell, and as long as the first walk lasts not even these
    three in common.
    """
    if split == "train":
        return None
    pairs, position = seen_pairs(settings), index
    if split == "unseen_pairs":
        pairs = unseen_pairs(settings)
    elif split == "validation":
        position += split_sizes(settings)["test"]
    order, shift = _walk(settings, pairs)
    lap, step = divmod(position, len(order))
    pair, background = divmod(int(order[step]), settings.num_backgrounds)
    return Cell(pair=pairs[pair], background=background, texture=int(shift[step] + lap) % settings.num_textures)


@lru_cache(maxsize=16)
def _walk(settings: SceneSettings, pairs: tuple[Pair, ...]) -> tuple[np.ndarray, np.ndarray]:
    """An order of all (pair, background), and the texture that each begins with."""
    rng = random_for(settings.seed, 0, f"walk through {len(pairs)} pairs", PURPOSE)
    num = len(pairs) * settings.num_backgrounds
    return rng.permutation(num), rng.integers(settings.num_textures, size=num)


def plan_scene(settings: SceneSettings, split: str, index: int) -> tuple[Plan, Rng]:
    """Scene `index` of a split, from these three alone; and its generator, to draw on for its texts.

    A training scene that a full text of test or validation describes is invented anew.
    """
    rng = random_for(settings.seed, 0, f"{split}/{index}", PURPOSE)
    cell = evaluation_cell(settings, split, index)
    plan = compose(settings, rng, seen_pairs(settings), cell)
    while split == "train" and full_text(plan) in held_out(settings):
        plan = compose(settings, rng, seen_pairs(settings), None)
    return plan, rng


@lru_cache(maxsize=2)
def held_out(settings: SceneSettings) -> frozenset[str]:
    """The full texts of test and validation in their first frame, which the other frames only reword."""
    sizes = split_sizes(settings)
    places = [(split, index) for split in ("test", "validation") for index in range(sizes[split])]
    return frozenset(full_text(plan_scene(settings, split, index)[0]) for split, index in places)
