"""Names to objects: recipes, run.json there and back, building, outside recipes, and loading what was trained."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

import diptych
from diptych import systems
from diptych.clip.model import CLIP, ClipConfig
from diptych.clip.weights import write_weights
from diptych.data.table import Table, open_table
from diptych.data.table_writer import TableWriter
from diptych.data.tokenizers import Tokenizer, clip_tokenizer, train_tokenizer
from diptych.errors import CheckpointError, DiptychError, UsageError, WeightsError
from diptych.objectives.contrastive import Contrastive
from diptych.overrides import apply_overrides
from diptych.systems.building import new_model
from diptych.train.loop import fit
from diptych.train.run import FORMAT, Run, plain_run

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (240, 240, 240)}
TEXTS = [f"a {colour} square on a {ground} ground" for colour in COLOURS for ground in ("dark", "light")]
MINE = '''
from dataclasses import dataclass, replace
from torch import nn
from diptych import systems
from diptych.objectives.contrastive import Contrastive
from diptych.objectives.objective import Loss, Term

open({mark!r}, "a").write("imported ")

@dataclass(frozen=True, kw_only=True)
class Halved(Contrastive):
    """The contrastive loss at another weight, with a head that nobody reads."""

    share: float = 0.5

    @property
    def name(self):
        return {name!r}

    def heads(self, config):
        return {{self.name: nn.Linear(config.embed_dim, 2)}}

    def counts(self, batch, targets):
        return {{self.name: len(batch)}}

    def loss(self, encode, batch, targets):
        (term,) = super().loss(encode, batch, targets).terms.values()
        unread = 0.0 * sum(one.sum() for one in encode.heads[self.name].parameters())
        return Loss({{self.name: Term(total=term.total + unread, count=term.count, weight=self.share)}})

def run():
    return replace(systems.recipe("clip", "tiny"), objective=Halved())

def number():
    return 3

def broken():
    raise RuntimeError("no such luck")
'''


def tiny(*settings: str) -> Run:
    few = ("inputs.vocab_size=540", "training.steps=2", "training.batch=4", "training.eval_rows=4", "inputs.workers=0")
    return apply_overrides(systems.recipe("clip", "tiny"), [*few, *settings])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("systems") / "table"
    with TableWriter(folder) as writer:
        for split in ("train", "validation"):
            for number, text in enumerate(TEXTS):
                file = io.BytesIO()
                Image.new("RGB", (40, 36), COLOURS[text.split()[1]]).save(file, "PNG")
                writer.add(split, key=f"{split}-{number}", image=file.getvalue(), texts=[text])
    return open_table(folder)


@pytest.fixture(scope="module")
def trained(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("systems") / "run"
    fit(systems.build(tiny(), texts=table.split("train").texts()), table, out, device="cpu")
    return out


@pytest.fixture
def pictures() -> list[Image.Image]:
    return [Image.new("RGB", (50, 40 + place), colour) for place, colour in enumerate(COLOURS.values())]


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return clip_tokenizer()


def small_vit() -> ClipConfig:
    """As open_clip and transformers can hold it, with CLIP's vocabulary."""
    return ClipConfig(
        embed_dim=24,
        image_size=32,
        image_width=64,
        image_layers=(1,),
        image_heads=1,
        patch_size=16,
        text_width=64,
        text_layers=1,
        text_heads=1,
        context=77,
    )


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
    tmp_path: Path, change: dict[str, object], error: type[DiptychError], message: str
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


def test_equal_runs_make_equal_weights_and_touch_no_generator() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second = (systems.build(tiny(), texts=TEXTS).model.state_dict() for _ in range(2))
    other = systems.build(tiny("training.seed=1"), texts=TEXTS).model.state_dict()
    assert_close(torch.rand(3), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["text.token_embedding.weight"], other["text.token_embedding.weight"])


def test_the_model_has_the_size_of_its_vocabulary() -> None:
    job = systems.build(tiny(), texts=TEXTS)
    tokenizer = job.inputs.tokenizer  # type: ignore[attr-defined]
    assert job.run.model.vocab_size == tokenizer.vocab_size <= 540
    assert job.run.model.end_id == tokenizer.end_id
    assert len(job.model.text.token_embedding.weight) == tokenizer.vocab_size  # type: ignore[union-attr, arg-type]


def test_every_way_to_a_tokenizer(tmp_path: Path) -> None:
    wordpiece = train_tokenizer(TEXTS, "wordpiece", 150)
    wordpiece.save(tmp_path / "words")
    sizes = {
        "clip": 49408,
        "train:wordpiece": train_tokenizer(TEXTS, "wordpiece", 540).vocab_size,
        str(tmp_path / "words"): wordpiece.vocab_size,
        str(tmp_path / "words" / "vocab.txt"): wordpiece.vocab_size,
    }
    for name, size in sizes.items():
        assert systems.build(tiny(f"inputs.tokenizer={name}"), texts=TEXTS).run.model.vocab_size == size
    saved = systems.build(tiny(), tokenizer_folder=tmp_path / "words")
    assert saved.run.model.vocab_size == wordpiece.vocab_size
    with pytest.raises(UsageError, match=r"did you mean 'train:wordpiece'.*or the path of a vocabulary"):
        systems.build(tiny("inputs.tokenizer=train:wordpieces"), texts=TEXTS)
    with pytest.raises(UsageError, match="no texts to train it on"):
        systems.build(tiny())


def test_a_trained_run_is_loaded(trained: Path, table: Table, pictures: list[Image.Image]) -> None:
    model = diptych.load(trained, device="cpu")
    images, texts = model.encode_image(pictures), model.encode_text(["a red square", "two words"])
    assert (images.shape, texts.shape) == ((4, 32), (2, 32))
    sample = table.split("train").sample(0)
    item = model.inputs.item(sample, None)  # type: ignore[attr-defined]
    by_hand = model.model.encode_image(item.pixels[None])  # type: ignore[index]
    assert_close(model.encode_image([sample], normalize=False), by_hand.detach())
    run = systems.read_run(trained)
    assert run.model.vocab_size == model.inputs.tokenizer.vocab_size  # type: ignore[attr-defined]


def test_rank_over_a_folder(trained: Path, pictures: list[Image.Image], tmp_path: Path) -> None:
    for place, picture in enumerate(pictures):
        picture.save(tmp_path / f"{place}.png")
    hits = diptych.load(str(trained), device="cpu").rank("a red square", str(tmp_path), top=3)
    assert len(hits) == 3
    assert {hit.path.parent for hit in hits} == {tmp_path}


def test_averaged_weights_are_what_is_loaded(table: Table, tmp_path: Path) -> None:
    job = systems.build(tiny("optim.ema=0.99", "optim.lr=0.1", "optim.warmup_steps=0"), texts=TEXTS)
    fit(job, table, tmp_path / "run", device="cpu")
    loaded = systems.load(tmp_path / "run", "cpu").model.state_dict()  # type: ignore[attr-defined]
    assert not torch.equal(loaded["logit_scale"], job.model.state_dict()["logit_scale"])


def test_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(plain_run(tiny())))
    with pytest.raises(CheckpointError, match="holds no checkpoint yet"):
        systems.load(tmp_path, "cpu")


def test_a_repeated_run_is_the_same(trained: Path) -> None:
    run = systems.read_run(trained)
    assert systems.build(run, texts=TEXTS).run == run


@pytest.mark.parametrize("layout", ["open_clip", "huggingface"])
def test_published_folders_are_loaded(
    tmp_path: Path, clip: Tokenizer, layout: str, pictures: list[Image.Image]
) -> None:
    config = small_vit()
    model = new_model("clip", config, seed=3)
    write_weights(tmp_path, config, model.state_dict(), layout)  # type: ignore[arg-type]
    loaded = diptych.load(tmp_path, device="cpu")
    texts = ["a red square", "<|endoftext|> is a word"]
    assert_close(loaded.encode_image(pictures), systems_encoder(model, config, clip).encode_image(pictures))
    assert_close(loaded.encode_text(texts), systems_encoder(model, config, clip).encode_text(texts))


def test_an_own_vocabulary_beside_published_weights(tmp_path: Path) -> None:
    words = train_tokenizer(TEXTS, "bpe", 540)
    config = replace(small_vit(), vocab_size=words.vocab_size, end_id=words.end_id)
    write_weights(tmp_path, config, new_model("clip", config).state_dict(), "huggingface")
    with pytest.raises(WeightsError, match=rf"has {words.vocab_size} words and the tokenizer found for it 49408"):
        systems.load(tmp_path, "cpu")
    words.save(tmp_path / "tokenizer")
    assert systems.load(tmp_path, "cpu").encode_text(["a red square"]).shape == (1, 24)


def systems_encoder(model: torch.nn.Module, config: ClipConfig, tokenizer: Tokenizer):
    from diptych.clip.inputs import ClipInputs
    from diptych.tasks.encoder import DualEncoder
    from diptych.train.run import InputSettings

    return DualEncoder(model, ClipInputs(config, InputSettings(), tokenizer), torch.device("cpu"), "by hand")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.pt", "there is no file or folder nowhere.pt. Expected a run folder"),
        ("runs", "there is no file or folder runs"),
        ("nobody/nothing", r"neither from the hub's cache nor from the hub .*pass its folder"),
        ("hf-hub:nobody/nothing", "nobody/nothing is no file or folder here"),
    ],
)
def test_what_cannot_be_loaded_is_said(
    source: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=message):
        diptych.load(source, device="cpu")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(WeightsError, match="holds no weights that are known here; expected OpenAI's"):
        diptych.load(tmp_path, device="cpu")


def test_an_unknown_device(trained: Path) -> None:
    with pytest.raises(UsageError, match="there is no device 'gpu'"):
        diptych.load(trained, device="gpu")


def test_training_begins_with_given_weights(trained: Path) -> None:
    theirs = systems.read_trained(trained)
    job = systems.build(tiny("training.seed=7"), init=trained)
    assert_close(dict(job.model.state_dict()), dict(theirs.state))
    assert job.run.model.vocab_size == theirs.config.vocab_size
    with pytest.raises(WeightsError, match=r"model\.embed_dim: 32 there, 40 here"):
        systems.build(tiny("model.embed_dim=40"), init=trained)
    for other in ("detector", "uniter"):
        with pytest.raises(WeightsError, match=f"is a clip, and the model to be trained is a {other}; begin from"):
            systems.build(systems.recipe(other, "tiny"), init=trained)


def test_positions_are_resized_for_larger_pictures(tmp_path: Path) -> None:
    config = small_vit()
    write_weights(tmp_path, config, new_model("clip", config, seed=3).state_dict(), "open_clip")
    run = replace(systems.recipe("clip", "vit_b_32"), model=replace(config, image_size=48))
    model = systems.build(run, init=tmp_path).model
    assert isinstance(model, CLIP)
    assert model.visual.positional_embedding.shape == (1 + 9, 64)


# -- recipes from outside


@pytest.fixture
def mine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A recipe file of a name of its own, so that no test sees another's module."""
    file = tmp_path / f"mine_{request.node.name.replace('[', '_').replace(']', '')}.py"
    file.write_text(MINE.format(mark=str(tmp_path / "mark"), name="halved"))
    path = list(sys.path)
    yield file
    sys.path[:] = path
    sys.modules.pop(file.stem, None)


def test_an_outside_recipe_trains_loads_and_is_never_run_by_its_json(mine: Path, table: Table, tmp_path: Path) -> None:
    run = systems.outside_recipe(f"{mine}:run")
    assert run.recipe == f"{mine.name}:run"
    small = [
        "inputs.vocab_size=540",
        "training.steps=2",
        "training.batch=4",
        "inputs.workers=0",
        "training.eval_rows=4",
    ]
    job = systems.build(apply_overrides(run, [*small, "objective.share=0.25"]), texts=TEXTS)
    assert "heads.halved.weight" in job.model.state_dict()
    fit(job, table, tmp_path / "run", device="cpu")
    mark = (tmp_path / "mark").read_text()

    read = systems.read_run(tmp_path / "run")
    assert read.objective == systems.OutsideObjective(name="halved", settings={"known_pairs": False, "share": 0.25})
    assert systems.load(tmp_path / "run", "cpu").encode_text(["a red square"]).shape == (1, 32)
    with pytest.raises(UsageError, match=rf"'halved' of this run is not part of diptych.*PATH/{mine.name}:run"):
        systems.build(read, texts=TEXTS)
    assert (tmp_path / "mark").read_text() == mark == "imported "


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("rum", "has no function 'rum'; did you mean 'run'"),
        ("number", "returned int; expected a diptych.train.run.Run"),
        ("broken", "failed: RuntimeError: no such luck"),
    ],
)
def test_what_is_wrong_with_a_function(mine: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        systems.outside_recipe(f"{mine}:{function}")


def test_what_is_wrong_with_a_file(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*missing\.py"):
        systems.outside_recipe(f"{tmp_path}/missing.py:run")
    with pytest.raises(UsageError, match=rf"write {mine}:run"):
        systems.outside_recipe(str(mine))
    (tmp_path / "unfinished_recipe.py").write_text("def run(:\n")
    with pytest.raises(UsageError, match="failed when it was imported: SyntaxError"):
        systems.outside_recipe(f"{tmp_path}/unfinished_recipe.py:run")
    (tmp_path / "json.py").write_text("def run(): ...\n")
    with pytest.raises(UsageError, match="has the name of another module"):
        systems.outside_recipe(f"{tmp_path}/json.py:run")
    (tmp_path / "a-b.py").write_text("")
    with pytest.raises(UsageError, match="letters, digits and underscores"):
        systems.outside_recipe(f"{tmp_path}/a-b.py:run")


def test_an_objective_must_not_take_a_name_of_ours(mine: Path, tmp_path: Path) -> None:
    mine.write_text(MINE.format(mark=str(tmp_path / "mark"), name="contrastive"))
    with pytest.raises(UsageError, match="named 'contrastive', as one of diptych's"):
        systems.outside_recipe(f"{mine}:run")


def test_an_objective_must_meet_the_contract(mine: Path) -> None:
    body = "from dataclasses import replace\nfrom diptych import systems\n"
    mine.write_text(body + "def run(): return replace(systems.recipe('clip', 'tiny'), objective=3)\n")
    with pytest.raises(UsageError, match="int, lacks name, couples_rows, chance_loss, columns, head"):
        systems.outside_recipe(f"{mine}:run")


def test_contrastive_is_what_its_name_says() -> None:
    run = systems.run_from_plain(plain_run(replace(tiny(), objective=Contrastive(known_pairs=True))))
    assert run.objective == Contrastive(known_pairs=True)
