"""Everything said of a scene, judged again from its row alone: objects with boxes, background and word."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import pytest

from diptych.data.scenes import easy, hard
from diptych.data.scenes.grammar import NUMBERS, a, listed, tallied
from diptych.data.scenes.scene import Scene, make_scene

WORLDS = {"easy": easy(num=160, size_px=64), "hard": hard(num=160, size_px=64)}
Row = dict[str, Any]


@lru_cache
def scenes(world: str) -> list[Scene]:
    return [make_scene(WORLDS[world], split, index) for split in ("train", "unseen_pairs") for index in range(10)]


def stands(one: Row, way: str, other: Row) -> bool:
    """Whether a relation holds of two objects' boxes in pixels."""
    match way:
        case "left of" | "to the left of":
            return one["x1"] <= other["x0"]
        case "right of" | "to the right of":
            return one["x0"] >= other["x1"]
        case "above" | "over":
            return one["y1"] <= other["y0"]
        case "below" | "under":
            return one["y0"] >= other["y1"]
        case "inside" | "in":
            across = other["x0"] <= one["x0"] and one["x1"] <= other["x1"]
            return across and other["y0"] <= one["y0"] and one["y1"] <= other["y1"] and one is not other
    raise AssertionError(way)


WAY = r"(to the left of|to the right of|left of|right of|above|below|over|under|inside|in)"


def named(objects: Iterable[Row], phrase: str) -> list[Row]:
    """The objects of which every word of "small red star" or "red thing" is true."""
    *qualities, thing = phrase.split(" ")
    looks = ("colour", "texture", "size")
    return [
        one
        for one in objects
        if thing in (one["name"], "thing") and all(word in [one[look] for look in looks] for word in qualities)
    ]


def only(objects: list[Row], phrase: str) -> Row:
    found = named(objects, phrase)
    assert len(found) == 1, f"'the {phrase}' names {len(found)} objects"
    return found[0]


def true_of(scene: Scene, text: str) -> bool:
    """Whether a statement holds."""
    objects, fields = scene.fields["objects"], scene.fields
    if match := re.fullmatch(rf"the (\w+) is {WAY} the (\w+)", text):
        return stands(only(objects, match[1]), match[2], only(objects, match[3]))
    if match := re.fullmatch(r"the background is (\w+)", text):
        return fields["background"] == match[1]
    if match := re.fullmatch(r"there (?:is|are) (\w+) things?", text):
        return len(objects) == NUMBERS.index(match[1])
    if match := re.fullmatch(r"there is an? (\w+ \w+)", text):
        return bool(named(objects, match[1]))
    match = re.fullmatch(r"the (\w+) is (\w+)", text)
    assert match, text
    one = only(objects, match[1])
    return match[2] in (one["colour"], one["texture"], one["size"])


def answer_to(scene: Scene, question: str) -> str:
    """The answer to a question."""
    objects, fields = scene.fields["objects"], scene.fields
    if question == "how many things are there?":
        return NUMBERS[len(objects)]
    if question == "what colour is the background?":
        return fields["background"]
    if question == "what word is written?":
        return fields["word"][0]["text"]
    if match := re.fullmatch(r"is there an? (\w+)\?", question):
        return "yes" if named(objects, match[1]) else "no"
    if match := re.fullmatch(rf"is the (\w+) {WAY} the (\w+)\?", question):
        return "yes" if stands(only(objects, match[1]), match[2], only(objects, match[3])) else "no"
    if match := re.fullmatch(rf"what is {WAY} the (\w+)\?", question):
        other = only(objects, match[2])
        found = [one["name"] for one in objects if one is not other and stands(one, match[1], other)]
        assert len(found) == 1, f"{question} has {len(found)} answers"
        return found[0]
    for form, look in (
        (r"what colour is the (\w+)\?", "colour"),
        (r"what is the texture of the (\w+)\?", "texture"),
        (r"how large is the (\w+)\?", "size"),
    ):
        if match := re.fullmatch(form, question):
            return only(objects, match[1])[look]
    raise AssertionError(question)


@pytest.mark.parametrize("world", WORLDS)
def test_statements_are_true_where_they_say_so(world: str) -> None:
    truths = []
    for scene in scenes(world):
        for statement in scene.fields["statements"]:
            assert true_of(scene, statement["text"]) == statement["truth"], statement
            truths.append(statement["truth"])
    assert sum(truths) * 2 == len(truths), "half of the statements are true"


@pytest.mark.parametrize("world", WORLDS)
def test_answers_are_right(world: str) -> None:
    kinds = set()
    for scene in scenes(world):
        for asked in scene.fields["questions"]:
            assert answer_to(scene, asked["question"]) == asked["answer"], asked
            kinds.add(asked["kind"])
    assert kinds >= {"count", "background", "existence", "colour", "texture", "size", "relation"}


@pytest.mark.parametrize("world", WORLDS)
def test_referring_phrases_point_at_one_object(world: str) -> None:
    num = 0
    for scene in scenes(world):
        objects = scene.fields["objects"]
        for phrase in scene.fields["referring"]:
            text = phrase["text"].removeprefix("the ")
            if match := re.fullmatch(rf"(\w+) {WAY} the (\w+)", text):
                one, other = only(objects, match[1]), only(objects, match[3])
                assert stands(one, match[2], other)
            else:
                one = only(objects, text)
            assert {side: one[side] for side in ("x0", "y0", "x1", "y1")} == {
                side: phrase[side] for side in ("x0", "y0", "x1", "y1")
            }
            num += 1
    assert num >= 20


@pytest.mark.parametrize("world", WORLDS)
def test_full_texts_say_everything(world: str) -> None:
    for scene in scenes(world):
        full, fields = scene.texts[0], scene.fields
        for one in fields["objects"]:
            assert f"{one['size']} {one['texture']} {one['colour']} {one['name']}" in full
        assert full.endswith(f"{a(fields['background'])} background")
        if len(fields["objects"]) > 1:
            assert f" {fields['relations'][0]['name']} " in full
        assert all(f"the word {word['text']}" in full for word in fields["word"])


@pytest.mark.parametrize("world", WORLDS)
def test_short_texts_are_true(world: str) -> None:
    for scene in scenes(world):
        objects, ground = scene.fields["objects"], scene.fields["background"]
        for text, kind in zip(scene.texts, scene.fields["text_kinds"], strict=True):
            if kind == "things":
                assert all(re.search(rf"\b{one['name']}\b|\btwo|three|leaves", text) for one in objects)
            if kind == "relation" and (
                match := re.fullmatch(rf"(?:an?|the) ([\w ]+?)(?: is)? {WAY} (?:an?|the) ([\w ]+)", text)
            ):
                assert any(
                    stands(one, match[2], other)
                    for one in named(objects, match[1])
                    for other in named(objects, match[3])
                ), text
            if " background" in text:
                assert f"{ground} background" in text
            if kind == "attribute" and (match := re.search(r"\ban? (\w+ \w+)$", text)):
                assert named(objects, match[1]), text


def test_grammar_by_hand() -> None:
    assert tallied(["star", "leaf", "star", "leaf", "leaf", "apple"]) == ["two stars", "three leaves", "an apple"]
    assert tallied(["red fish", "red fish"]) == ["two red fish"]
    assert listed(["a", "b", "c"]) == "a, b and c"
