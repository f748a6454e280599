"""Names to objects: recipes, run.json there and back, and building."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from diptych import systems
from diptych.data.tokenizers import train_tokenizer
from diptych.errors import CheckpointError, DiptychError, UsageError
from diptych.objectives.contrastive import Contrastive
from diptych.train.run import FORMAT, Run, plain_run


@pytest.mark.parametrize(
    ("system", "name", "message"),
    [
        ("clap", "tiny", "there is no system 'clap'; did you mean 'clip'"),
        ("clip", "vit_b32", "there is no recipe 'vit_b32'; did you mean 'vit_b_32'"),
        ("xyzzy", "tiny", "there is no system 'xyzzy'. There are: clip"),
    ],
)
def test_names_are_suggested(system: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        systems.recipe(system, name)


def test_an_unknown_objective_names_the_nearest() -> None:
    from diptych.systems.rooms import objective_class

    with pytest.raises(UsageError, match=r"did you mean 'contrastive'"):
        objective_class("contrast")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format": FORMAT + 1}, CheckpointError, rf"format {FORMAT + 1}; this diptych reads up to {FORMAT}"),
        ({"format": "one"}, CheckpointError, "format one"),
        ({"inputs": {"vocab_sizes": 3}}, UsageError, r"'inputs\.vocab_sizes'; did you mean 'inputs\.vocab_size'"),
        ({"model": {"embed_dim": "wide"}}, UsageError, r"model\.embed_dim is 'wide'; expected a whole number"),
        ({"objective": {"name": "contrastive", "known_pear": 1}}, UsageError, r"did you mean 'objective\.known_pairs'"),
        ({"extra": 1}, UsageError, "unknown settings: extra"),
        ({"system": "clap"}, UsageError, "did you mean 'clip'"),
    ],
)
def test_a_run_that_cannot_be_read_says_why(
    tiny: Callable[..., Run], tmp_path: Path, change: dict[str, object], error: type[DiptychError], message: str
) -> None:
    (tmp_path / "run.json").write_text(json.dumps(plain_run(tiny()) | change))
    with pytest.raises(error, match=message) as raised:
        systems.read_run(tmp_path)
    assert str(tmp_path / "run.json") in str(raised.value)


def test_a_run_that_is_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*run\.json"):
        systems.read_run(tmp_path)
    for content, message in (("{", "cannot be read as JSON"), ("[]", "no run of diptych"), ('{"a": 1}', "no run")):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(DiptychError, match=message):
            systems.read_run(tmp_path / "run.json")


def test_equal_runs_make_equal_weights_and_touch_no_generator(tiny: Callable[..., Run], texts: list[str]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (systems.build(tiny(), texts=texts).model.state_dict() for _ in range(2))
    other = systems.build(tiny("training.seed=1"), texts=texts).model.state_dict()
    assert_close(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["text.token_embedding.weight"], other["text.token_embedding.weight"])


def test_the_model_has_the_size_of_its_vocabulary(tiny: Callable[..., Run], texts: list[str]) -> None:
    job = systems.build(tiny(), texts=texts)
    tokenizer = job.inputs.tokenizer  # type: ignore[attr-defined]
    assert job.run.model.vocab_size == tokenizer.vocab_size <= 540
    assert job.run.model.end_id == tokenizer.end_id
    assert len(job.model.text.token_embedding.weight) == tokenizer.vocab_size  # type: ignore[union-attr, arg-type]


def test_every_way_to_a_tokenizer(tiny: Callable[..., Run], texts: list[str], tmp_path: Path) -> None:
    wordpiece = train_tokenizer(texts, "wordpiece", 150)
    wordpiece.save(tmp_path / "words")
    sizes = {
        "clip": 49408,
        "train:wordpiece": train_tokenizer(texts, "wordpiece", 540).vocab_size,
        str(tmp_path / "words"): wordpiece.vocab_size,
        str(tmp_path / "words" / "vocab.txt"): wordpiece.vocab_size,
    }
    for name, size in sizes.items():
        assert systems.build(tiny(f"inputs.tokenizer={name}"), texts=texts).run.model.vocab_size == size
    saved = systems.build(tiny(), tokenizer_folder=tmp_path / "words")
    assert saved.run.model.vocab_size == wordpiece.vocab_size
    with pytest.raises(UsageError, match=r"did you mean 'train:wordpiece'.*or the path of a vocabulary"):
        systems.build(tiny("inputs.tokenizer=train:wordpieces"), texts=texts)
    with pytest.raises(UsageError, match="no texts to train it on"):
        systems.build(tiny())


def test_contrastive_is_what_its_name_says(tiny: Callable[..., Run]) -> None:
    run = systems.run_from_plain(plain_run(replace(tiny(), objective=Contrastive(known_pairs=True))))
    assert run.objective == Contrastive(known_pairs=True)
