"""A room small enough for a test: two linear towers over 4 x 4 pixels and words of a few letters.

Run as a program it trains into a folder, for tests that kill it: small_room.py TABLE OUT [--resume] [FIELD=VALUE ...]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from diptych.data.batch import Batch, ImagePart, Targets, TextPart, pad
from diptych.data.sample import Item, Rng, Sample, hash64
from diptych.data.table import open_table
from diptych.data.table_writer import TableWriter
from diptych.errors import DataError
from diptych.objectives.contrastive import Contrastive
from diptych.objectives.objective import Dual, Encode, Loss, OwnRow
from diptych.objectives.sigmoid import Sigmoid
from diptych.overrides import apply_overrides
from diptych.progress import Silent, SilentBar
from diptych.train.fit import fit
from diptych.train.job import Job
from diptych.train.run import InputSettings, OptimSettings, Run, TrainingSettings

SIDE = 4
WORDS = ("red", "green", "blue", "grey", "teal", "pink", "ochre")


@dataclass(frozen=True, kw_only=True)
class SmallConfig:
    embed_dim: int = 6
    dropout: float = 0.1
    batch_norm: bool = False
    depth: int = 0


class SmallRoom(nn.Module):
    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.image = nn.Linear(3 * SIDE * SIDE, config.embed_dim)
        self.norm = nn.BatchNorm1d(config.embed_dim) if config.batch_norm else nn.Identity()
        self.word = nn.Embedding(128, config.embed_dim)
        self.layers = nn.ModuleList(nn.Linear(config.embed_dim, config.embed_dim) for _ in range(config.depth))
        self.drop = nn.Dropout(config.dropout)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.heads = nn.ModuleDict()
        for parameter in (self.image.weight, self.image.bias, self.word.weight, *self.layers.parameters()):
            nn.init.normal_(parameter, std=0.2, generator=generator)

    def forward(self, batch: Batch) -> Dual:
        assert batch.image is not None and batch.text is not None
        pixels = batch.image.pixels.flatten(1).float() / 255 - 0.5
        words = self.drop(self.word(batch.text.ids))  # (B, T, E)
        for layer in self.layers:
            words = words + layer(words).tanh()
        words = words * batch.text.mask[..., None]
        return Dual(
            image=self.norm(self.image(self.drop(pixels))),
            text=words.sum(1) / batch.text.mask.sum(1, keepdim=True),
            scale=self.logit_scale.exp(),
            group=batch.group,
        )


@dataclass(frozen=True)
class SmallInputs:
    columns: ClassVar[tuple[str, ...]] = ()

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        if not isinstance(sample.image, bytes) or len(sample.image) != 3 * SIDE * SIDE:
            raise DataError(f"{sample.key}: the picture is not {SIDE} x {SIDE}")
        pixels = torch.frombuffer(bytearray(sample.image), dtype=torch.uint8).reshape(3, SIDE, SIDE)
        text = sample.texts[0]
        if rng is not None:
            pixels = pixels.flip(-1) if rng.random() < 0.5 else pixels
            text = sample.texts[int(rng.integers(len(sample.texts)))]
        ids = torch.tensor([ord(letter) for letter in text])
        return Item(key=sample.key, group=hash64(sample.group), pixels=pixels, text_ids=ids)

    def collate(self, items: Sequence[Item]) -> Batch:
        ids, mask = pad([_given(item.text_ids) for item in items], value=0)
        return Batch(
            keys=tuple(item.key for item in items),
            group=torch.tensor([item.group for item in items]),
            text=TextPart(ids=ids, mask=mask),
            image=ImagePart(pixels=torch.stack([_given(item.pixels) for item in items])),
        )

    def save(self, folder: Path) -> None:
        (folder / "letters.txt").write_text("ord")


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def write_table(out: Path, *, num: int = 23, num_bad: int = 0) -> Path:
    """Pictures of one colour with its name; the first `num_bad` of the training split are no pictures."""
    rng = np.random.default_rng(5)
    with TableWriter(out, source="small room") as writer:
        for split, rows in (("train", num), ("validation", 9)):
            for row in range(rows):
                word = WORDS[row % len(WORDS)]
                base = np.random.default_rng(row % len(WORDS)).integers(0, 200, size=(3, 1, 1))
                pixels = (base + rng.integers(0, 50, size=(3, SIDE, SIDE))).astype(np.uint8)
                bad = split == "train" and row < num_bad
                texts = [f"{word} {row}", f"a {word}"]
                writer.add(split, key=f"{split}{row}", image=b"no" if bad else pixels.tobytes(), texts=texts)
    return out


@dataclass(frozen=True, kw_only=True)
class InTurn(OwnRow):
    """Rows do not see each other, each has its own count, and of two heads every step asks one."""

    name: str = "in_turn"
    couples_rows: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "_calls", [])

    def chance_loss(self, num_rows: int) -> None:
        return None

    def heads(self, config: Any) -> dict[str, nn.Module]:
        return {}

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        return item, {"words": torch.tensor(hash64(item.key) % 4)}

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        self._calls.append(0)  # type: ignore[attr-defined]  # asked once a step, before the first part
        return {"in_turn": int(targets["words"].sum())}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        dual = encode(batch)
        head = list(encode.heads.values())[len(self._calls) % 2]  # type: ignore[attr-defined]
        total = (head(dual.text + dual.image).square().sum(1) * targets["words"]).sum()
        return Loss.term("in_turn", total=total, count=int(targets["words"].sum()))


def run_in_ranks(objective: str) -> Run:
    """Without chance that depends on the rank: one process and several are to end alike."""
    run = small_run()
    model = replace(run.model, dropout=0.0, depth=2)
    training = replace(run.training, micro_batch=run.training.batch)  # nothing to measure first
    objectives = {"contrast": run.objective, "heads": InTurn(), "sigmoid": Sigmoid(bias=-1.0)}
    return replace(run, model=model, training=training, objective=objectives[objective])


def small_run() -> Run:
    return Run(
        system="small",
        recipe="test",
        model=SmallConfig(),
        objective=Contrastive(),
        inputs=InputSettings(workers=0),
        optim=OptimSettings(lr=1e-2, warmup_steps=3),
        training=TrainingSettings(
            steps=12, batch=5, seed=7, precision="float32", log_every=1, eval_every=5, checkpoint_every=3
        ),
    )


def small_job(run: Run | None = None, settings: Sequence[str] = ()) -> Job:
    run = apply_overrides(small_run() if run is None else run, settings)
    model = SmallRoom(run.model)
    if isinstance(run.objective, InTurn):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model.heads.update({name: nn.Linear(run.model.embed_dim, 2) for name in ("a", "b")})
    else:
        model.heads.update(run.objective.heads(run.model))
    return Job(run=run, model=model, objective=run.objective, inputs=SmallInputs())


def events(out: Path, *names: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if not names or line["event"] in names]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


class KillAt(Silent):
    """Ends the program after so many steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        return _Bar(self) if name == "training" else SilentBar()


class _Bar(SilentBar):
    def __init__(self, told: KillAt) -> None:
        self.told = told

    def advance(self, num: float = 1, note: str = "") -> None:
        self.told.left -= 1
        if self.told.left == 0:
            raise Killed


class KillBeforeEvaluation(Silent):
    """Ends the program before its first evaluation has seen a row."""

    def bar(self, name: str, total: float | None, unit: str = "", done: float = 0) -> SilentBar:
        if name == "evaluating":
            raise Killed
        return SilentBar()


def main(arguments: Sequence[str]) -> None:
    torch.set_num_threads(2)
    table, out, *rest = arguments
    resume = "--resume" in rest
    settings = [one for one in rest if one != "--resume"]
    fit(small_job(settings=settings), open_table(Path(table)), Path(out), resume=resume, device="cpu")


if __name__ == "__main__":
    main(sys.argv[1:])
