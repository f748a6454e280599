"""The picture world: what a scene is made of, and which scenes go where."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from diptych.data.sample import random_for
from diptych.data.scenes import STYLES, SceneSettings, TextMix, easy, hard, style
from diptych.data.scenes.choices import choices_about
from diptych.data.scenes.columns import COLUMNS
from diptych.data.scenes.placing import MARGIN, relation_between
from diptych.data.scenes.plan import compose
from diptych.data.scenes.scene import Scene, make_scene
from diptych.data.scenes.settings import THINGS
from diptych.data.scenes.splits import (
    evaluation_cell,
    held_out,
    plan_scene,
    seen_pairs,
    split_sizes,
    unseen_pairs,
)
from diptych.data.scenes.texts import FULL_FRAMES, KINDS, full_text, texts_of
from diptych.errors import UsageError

# Few cells, so that train would run into the texts of test if nothing kept it from them.
NARROW = SceneSettings(num=160, num_things=4, num_colours=4, num_backgrounds=2, num_textures=2, size_px=32)


@pytest.fixture(scope="module")
def narrow() -> dict[str, list[Scene]]:
    sizes = split_sizes(NARROW)
    return {split: [make_scene(NARROW, split, index) for index in range(num)] for split, num in sizes.items()}


def pairs_in(scene: Scene) -> set[str]:
    return {f"{one['colour']} {one['name']}" for one in scene.fields["objects"]}


def test_splits_share_out_all_scenes() -> None:
    for num in (16, 100, 1_000, 4_000, 100_000):
        sizes = split_sizes(easy(num=num))
        assert sum(sizes.values()) == num
        assert min(sizes.values()) >= 1
        assert sizes["train"] >= num / 2
    assert split_sizes(easy(num=4_000))["test"] == 500


def test_no_full_text_of_test_stands_in_train(narrow: dict[str, list[Scene]]) -> None:
    trained = {text for scene in narrow["train"] for text in scene.texts}
    for split in ("test", "validation"):
        for scene in narrow[split]:
            full = [t for t, kind in zip(scene.texts, scene.fields["text_kinds"], strict=True) if kind == "full"]
            assert full[0] == scene.texts[0]
            assert not trained & set(full)


def test_no_frame_of_a_held_out_text_can_be_written_in_train() -> None:
    trained = {
        full_text(plan_scene(NARROW, "train", index)[0], frame)
        for index in range(split_sizes(NARROW)["train"])
        for frame in range(len(FULL_FRAMES))
    }
    assert not trained & held_out(NARROW)
    places = [(split, index) for split in ("test", "validation") for index in range(split_sizes(NARROW)[split])]
    for frame in range(len(FULL_FRAMES)):
        assert not trained & {full_text(plan_scene(NARROW, *place)[0], frame) for place in places}


def test_full_texts_of_test_and_validation_are_all_different() -> None:
    for settings in (NARROW, easy(num=100_000)):
        assert len(held_out(settings)) == split_sizes(settings)["test"] + split_sizes(settings)["validation"]


def test_the_gallery_of_500_differs_in_thing_colour_and_background() -> None:
    cells = [evaluation_cell(easy(), "test", index) for index in range(500)]
    assert len({(cell.pair, cell.background) for cell in cells if cell is not None}) == 500


def test_validation_holds_as_many_as_the_gallery_so_that_a_report_can_say_where_recall_began() -> None:
    sizes = split_sizes(easy(num=40_000))  # the demo's
    assert sizes["validation"] == 500 <= sizes["test"]
    assert sum(sizes.values()) == 40_000


def test_test_split_covers_things_and_colours_evenly() -> None:
    settings = easy()
    pairs = [cell.pair for index in range(756) if (cell := evaluation_cell(settings, "test", index)) is not None]
    assert np.bincount([label for label, _ in pairs]).tolist() == [9 * 6] * 14
    assert np.bincount([colour for _, colour in pairs]).min() >= 12 * 6


def test_every_thing_and_colour_is_seen_and_every_thing_has_an_unseen_pair() -> None:
    for settings in (easy(), hard(), NARROW):
        seen, unseen = set(seen_pairs(settings)), set(unseen_pairs(settings))
        assert not seen & unseen
        assert len(seen) + len(unseen) == settings.num_things * settings.num_colours
        assert {label for label, _ in unseen} == {label for label, _ in seen} == set(range(settings.num_things))
        assert {colour for _, colour in seen} == set(range(settings.num_colours))


def test_unseen_pairs_are_never_shown_or_named_outside_their_split(narrow: dict[str, list[Scene]]) -> None:
    unseen = {f"{NARROW.colours[colour]} {THINGS[label].name}" for label, colour in unseen_pairs(NARROW)}
    for split in ("train", "validation", "test"):
        for scene in narrow[split]:
            assert not pairs_in(scene) & unseen
            said = [*scene.texts, *(one["text"] for one in scene.fields["statements"] + scene.fields["referring"])]
            assert not [text for text in said for pair in unseen if pair in text]
            assert not [
                text for text in said for pair in unseen if text.startswith("the {1} is {0}".format(*pair.split()))
            ]
    for scene in narrow["unseen_pairs"]:
        first, *others = scene.fields["objects"]
        assert f"{first['colour']} {first['name']}" in unseen
        assert not {f"{one['colour']} {one['name']}" for one in others} & unseen


def test_a_scene_is_a_pure_function_of_its_place() -> None:
    settings = easy(num=64, size_px=48)
    before = make_scene(settings, "train", 5)
    held_out.cache_clear()
    make_scene(settings, "test", 3)
    assert make_scene(settings, "train", 5) == before
    assert make_scene(replace(settings, seed=1), "train", 5).image != before.image
    assert make_scene(settings, "train", 6).image != before.image


def test_every_row_has_every_column_and_known_kinds(narrow: dict[str, list[Scene]]) -> None:
    for split, scenes in narrow.items():
        for scene in scenes:
            assert set(scene.fields) == set(COLUMNS)
            assert set(scene.fields["text_kinds"]) <= set(KINDS)
            assert len(set(scene.texts)) == len(scene.texts) == len(scene.fields["text_kinds"])
            assert (split == "train") <= (scene.fields["choices"] == [])
            alone = len(scene.fields["objects"]) == 1
            assert scene.label == (scene.fields["objects"][0]["label"] if alone else None)


def test_the_easy_mix_of_texts_is_the_one_that_taught() -> None:
    kinds, settings = [], easy()
    for index in range(400):
        rng = random_for(1, 0, str(index))
        plan = compose(settings, rng, seen_pairs(settings), None)
        kinds += texts_of(settings, plan, rng)[1]
    share = {kind: kinds.count(kind) / len(kinds) for kind in KINDS}
    wanted = {"things": 0.35, "colour_thing": 0.12, "full": 0.20, "partial": 0.06, "attribute": 0.15, "relation": 0.10}
    assert share == pytest.approx(wanted | {"count": 0.02, "word": 0.01}, abs=0.025)
    assert share["things"] >= 0.25


def test_a_mix_without_a_kind_never_writes_it() -> None:
    settings = replace(easy(), mix=TextMix(relation=0, count=0, full=0))
    for index in range(30):
        rng = random_for(2, 0, str(index))
        texts, kinds = texts_of(settings, compose(settings, rng, seen_pairs(settings), None), rng)
        assert kinds.count("full") == 1
        assert kinds[0] == "full"
        assert not {"relation", "count"} & set(kinds)
        assert len(texts) == len(kinds)


@tried(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(STYLES))
def test_objects_stay_in_the_picture_and_apart(seed: int, name: str) -> None:
    settings = style(name)
    plan = compose(settings, random_for(seed, 0, "here"), seen_pairs(settings), None)
    nested = {(one.subject, one.object) for one in plan.relations if one.name == "inside"}
    boxes = [planned.place.box for planned in plan.objects]
    for number, (x0, y0, x1, y1) in enumerate(boxes):
        assert min(x0, y0) >= MARGIN - 1e-9
        assert max(x1, y1) <= 1 - MARGIN + 1e-9
        for other, (u0, v0, u1, v1) in enumerate(boxes[:number]):
            if (number, other) in nested:
                assert u0 < x0 < x1 < u1
                assert v0 < y0 < y1 < v1
            else:
                assert x1 < u0 or u1 < x0 or y1 < v0 or v1 < y0


@tried(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(STYLES))
def test_sizes_mean_what_the_settings_say(seed: int, name: str) -> None:
    settings = style(name)
    plan = compose(settings, random_for(seed, 0, "here"), seen_pairs(settings), None)
    for planned in plan.objects:
        low, high = settings.sides[("small", "medium", "large").index(planned.size)]
        assert low - 1e-9 <= planned.place.side <= high + 1e-9


@tried(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(STYLES))
def test_relations_hold_of_the_places(seed: int, name: str) -> None:
    settings = style(name)
    plan = compose(settings, random_for(seed, 0, "here"), seen_pairs(settings), None)
    assert bool(plan.relations) == (len(plan.objects) > 1)
    for relation in plan.relations:
        if relation.name != "inside":
            boxes = [plan.objects[number].place.box for number in (relation.subject, relation.object)]
            assert relation_between(*boxes) == relation.name


def test_relation_between_boxes_by_hand() -> None:
    middle = (4.0, 4.0, 6.0, 6.0)
    assert relation_between((0, 4, 2, 6), middle) == "left of"
    assert relation_between((8, 5, 9, 6), middle) == "right of"
    assert relation_between((4, 0, 6, 2), middle) == "above"
    assert relation_between((4, 8, 6, 9), middle) == "below"
    assert relation_between((0, 0, 2, 2), middle) is None, "as much above as left"
    assert relation_between((3, 4, 5, 6), middle) is None, "they overlap"


def test_choices_name_the_right_text_and_wrong_ones_are_wrong() -> None:
    for settings in (easy(), hard()):
        asked = set()
        for index in range(60):
            rng = random_for(3, 0, str(index))
            plan = compose(settings, rng, seen_pairs(settings), None)
            looks = {f"{p.colour} {p.thing}" for p in plan.objects}
            for choice in choices_about(settings, plan, rng):
                kind, texts, right = choice["kind"], choice["texts"], choice["texts"][choice["answer"]]
                asked.add(kind)
                assert len(set(texts)) == len(texts)
                first, words = plan.objects[0], right.split(" ")
                if kind == "binding":
                    true = [text for text in texts if {part.split(" ", 1)[1] for part in text.split(" and ")} <= looks]
                    assert true == [right]
                elif kind == "relations":
                    thing, way, other = words[1], " ".join(words[2:-2]), words[-1]
                    named = {p.thing: p.place.box for p in plan.objects}
                    assert relation_between(named[thing], named[other]) == way
                else:
                    said = {first.thing, first.colour, first.texture, first.size}
                    assert set(words[1:]) <= said
                    assert not [t for t in texts if t != right and set(t.split(" ")[1:]) <= said]
        assert asked == {"things", "colours", "sizes", "textures", "relations", "binding", "pairs"}


def test_right_answers_come_first_and_second_alike() -> None:
    settings, first = easy(), []
    for index in range(300):
        rng = random_for(4, 0, str(index))
        plan = compose(settings, rng, seen_pairs(settings), None)
        first += [c["answer"] == 0 for c in choices_about(settings, plan, rng) if c["kind"] in ("relations", "binding")]
    assert 0.38 < np.mean(first) < 0.62


def test_what_is_named_first_does_not_tell_what_is_larger() -> None:
    settings, larger_first = easy(), []
    for index in range(300):
        rng = random_for(5, 0, str(index))
        plan = compose(settings, rng, seen_pairs(settings), None)
        for choice in choices_about(settings, plan, rng):
            if choice["kind"] in ("relations", "binding"):
                right = choice["texts"][choice["answer"]]
                larger_first.append(right.index(plan.objects[0].thing) < right.index(plan.objects[1].thing))
    assert 0.38 < np.mean(larger_first) < 0.62


def test_unknown_style_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no style 'esay'; did you mean 'easy'\? There are: easy, hard"):
        style("esay")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_things": 40}, "num_things is 40; a picture world takes 4 to 28"),
        ({"num": 3}, "num is 3; a picture world takes 16"),
        ({"sides": ((0.1, 0.2),)}, "sides has 1 ranges"),
    ],
)
def test_settings_say_what_they_take(change: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        replace(easy(), **change)


@pytest.mark.parametrize(
    ("dials", "said"),
    [
        ({"objects": (0, 0, 0, 0, 1), "num_colours": 4}, "scenes of 5, each of a thing and a colour of its own"),
        ({"objects": (0.0, 0.0)}, "objects is 0 throughout"),
        ({"objects": (1.0, -1.0)}, "objects: the weight of 2 is -1.0; expected 0 or more"),
        ({"objects": (float("nan"),)}, "the weight of 1 is nan"),
        ({"words": 1.5}, "words is 1.5; expected a share between 0 and 1"),
        ({"clutter": -1}, "clutter is -1"),
        ({"sides": ((0.3, 0.2), (0.5, 0.6), (0.7, 0.8))}, "sides of small objects go from 0.3 to 0.2"),
        ({"main_side": -0.1}, "main_side is -0.1"),
    ],
)
def test_dials_are_checked_in_words(dials: dict, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        replace(easy(), **dials)


def test_a_mix_must_have_something_to_say_of_every_scene() -> None:
    nothing = dict.fromkeys((dial.name for dial in fields(TextMix)), 0.0)
    with pytest.raises(UsageError, match="leaves nothing to say"):
        TextMix(**nothing | {"relation": 1.0, "word": 1.0})
    with pytest.raises(UsageError, match="mix: the weight of count is -1"):
        TextMix(count=-1)
    world = replace(easy(num=16, size_px=32), mix=TextMix(**nothing | {"full": 1.0}))
    assert set(make_scene(world, "train", 0).fields["text_kinds"]) == {"full"}


@pytest.mark.parametrize("repeats", [False, True])
def test_the_smallest_world_full_of_things_is_drawn(repeats: bool) -> None:
    """At times no new pair remains, every thing is there, or one thing in all of its colours."""
    objects = (0, 0, 0, 0, 0, 1) if repeats else (0, 0, 0, 1)
    tiny = ((0.08, 0.09), (0.1, 0.11), (0.12, 0.13))
    world = replace(
        easy(num=200, size_px=32),
        num_things=4,
        num_colours=4,
        objects=objects,
        sides=tiny,
        main_side=0.0,
        other_side=1.0,
        repeats=repeats,
    )
    scenes = [make_scene(world, split, index) for split in ("train", "test") for index in range(16)]
    assert max(len(scene.fields["objects"]) for scene in scenes) == len(objects)
    assert all(scene.fields["statements"] for scene in scenes)
