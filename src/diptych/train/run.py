"""Run: one training run as pure data, to JSON and back. A recipe is a function that returns one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from diptych.overrides import to_plain
from diptych.train import ranges
from diptych.train.ranges import check_ranges

FORMAT = 1
"""The number in run.json."""


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """How rows become batches."""

    tokenizer: str = "train:bpe"
    """"train:bpe" or "train:wordpiece" (on the texts of the training split), "clip", or a vocabulary file or folder."""
    vocab_size: int = 8192
    """At most so many entries, for a tokenizer that is trained."""
    transform: Literal["square_crop", "random_resized_crop", "resize_and_flip", "none"] = "square_crop"
    """Training pictures: the paper's random square crop of the resized picture, open_clip's, a detector's whole picture
    resized and mirrored, or as in evaluation."""
    crop_margin: float = 1.125
    """square_crop: the shorter side is resized to this times the picture size before the crop."""
    crop_scale: tuple[float, float] = (0.9, 1.0)
    """random_resized_crop: share of the picture's area that is kept."""
    side_scale: tuple[float, float] = (0.6, 1.0)
    """resize_and_flip: the shorter side is drawn from these shares of the model's."""
    text_kinds: tuple[str, ...] = ()
    """Training texts, by the table's column text_kinds, e.g. full; a row that has none of these gives any. (): all."""
    split: str = "train"
    workers: int | None = None
    """Processes that decode; None: half the cores, 1 to 8. 0: none, and a picture that never finishes is waited for."""
    decode_timeout_s: float = 120.0
    """A row that takes longer is left out as bad; needs at least one process that decodes."""

    def __post_init__(self) -> None:
        check_ranges(
            "inputs",
            self,
            vocab_size=ranges.COUNT,
            crop_margin=ranges.ENLARGEMENT,
            crop_scale=ranges.SHARES,
            side_scale=ranges.SHARES,
            workers=ranges.NOT_NEGATIVE,
            decode_timeout_s=ranges.POSITIVE,
        )


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """AdamW, warm-up, then down."""

    lr: float = 5e-4
    head_lr: float = 1.0
    """Times `lr`, for what objectives own of a model."""
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.2
    """Not for gains, biases and the temperature: parameters of fewer than two dimensions."""
    warmup_steps: int = 2000
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip_norm: float | None = None
    """Largest norm of the whole gradient."""
    ema: float | None = None
    """Decay of an averaged copy of the weights, which then is what is evaluated and exported."""
    arithmetic: Literal["corrected", "released"] = "corrected"
    """"released": the AdamW of the first ports of BERT, and the gains that a paper's released code decayed by an
    accident of naming; for recipes whose learning rate was tuned with both."""

    def __post_init__(self) -> None:
        check_ranges(
            "optim",
            self,
            lr=ranges.POSITIVE,
            head_lr=ranges.POSITIVE,
            betas=ranges.DECAYS,
            eps=ranges.POSITIVE,
            weight_decay=ranges.NOT_NEGATIVE,
            warmup_steps=ranges.NOT_NEGATIVE,
            clip_norm=ranges.POSITIVE,
            ema=ranges.DECAY,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How long, how large, and what is kept."""

    steps: int | None = None
    """Optimizer steps; this or `epochs`."""
    epochs: float | None = None
    """Times that every row is seen, of several tables on average; turned into `steps` when the run begins."""
    batch: int = 256
    """Rows of one optimizer step, over all ranks."""
    batch_tokens: int | None = None
    """Words and regions of one optimizer step, over all ranks and padding among them, in place of `batch`: rows of like
    length then stand together."""
    shares: tuple[int, ...] | None = None
    """Several tables: steps of each, in proportion and in their order; every step is of one of them. None: as many as
    each has, so that all rows are seen equally often."""
    micro_batch: int | Literal["auto"] | None = "auto"
    """Rows that go through the model at once, of each process; changes no gradient. "auto": as many as fit, measured
    when the run begins and then fixed in run.json; None: the whole batch."""
    seed: int = 0
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """"auto" measures whether bf16 is faster on the device and says so in the log."""
    compile: bool = False
    activation_checkpointing: bool = False
    """Recomputes each block in the backward pass: less memory for about a third more time."""
    parallel: Literal["ddp", "fsdp2"] = "ddp"
    """Several processes (`torchrun`): whole weights on each, or shares of them."""
    rank_timeout_s: float = 600.0
    """Several processes: how long one waits for the others before it takes one of them for dead."""
    log_every: int = 10
    eval_every: int | None = None
    """Steps between evaluations; None: only at the end."""
    eval_split: str = "validation"
    eval_rows: int = 1000
    """At most so many rows, the same every time."""
    eval_metric: Literal["recall", "map", "loss"] = "recall"
    """What the best checkpoint is chosen by: mean R@1 of both directions, a detector's average precision (mean over
    IoU of 0.50 to 0.95), or validation loss."""
    checkpoint_every: int | None = None
    """Steps between checkpoints, besides those by time and the last."""
    checkpoint_minutes: float = 10.0
    keep: int = 2
    """Newest checkpoints that are kept; the best is kept besides."""
    skip_limit: int = 10
    """Steps that `--on-nan skip` may leave out in a row."""
    max_bad_rows: float = 0.1
    """Share of the rows that may turn out bad before the run stops."""

    def __post_init__(self) -> None:
        check_ranges(
            "training",
            self,
            steps=ranges.COUNT,
            epochs=ranges.POSITIVE,
            batch=ranges.COUNT,
            batch_tokens=ranges.COUNT,
            shares=ranges.COUNTS,
            micro_batch=ranges.COUNT_OR_AUTO,
            seed=ranges.SEED,
            log_every=ranges.COUNT,
            eval_every=ranges.COUNT,
            eval_rows=ranges.COUNT,
            checkpoint_every=ranges.COUNT,
            checkpoint_minutes=ranges.NOT_NEGATIVE,
            keep=ranges.COUNT,
            skip_limit=ranges.NOT_NEGATIVE,
            max_bad_rows=ranges.SHARE,
            rank_timeout_s=ranges.POSITIVE,
        )

    @property
    def rows_at_once(self) -> int | None:
        """`micro_batch` as it is trained with; None: the whole batch, also where nothing was measured."""
        return None if self.micro_batch == "auto" else self.micro_batch


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run, resolved: what `run.json` holds."""

    system: str
    """The room, e.g. "clip"."""
    recipe: str
    """What returned it, for people: "demo", or "mine.py:run"."""
    model: Any
    """The room's frozen config."""
    objective: Any
    """A frozen dataclass that meets `objectives.objective.Objective`."""
    inputs: InputSettings = field(default_factory=InputSettings)
    optim: OptimSettings = field(default_factory=OptimSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)


def plain_run(run: Run) -> dict[str, Any]:
    """The run as `run.json` holds it; the objective's name stands beside its settings.

    Reading it back is the work of `systems`, which knows the rooms and objectives by name.
    """
    objective = {"name": run.objective.name, **to_plain(run.objective)}
    return {"format": FORMAT, **to_plain(run), "objective": objective}
