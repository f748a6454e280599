"""UNITER's runs: tiny ones, the paper's pre-training of base and large, and what they are fine-tuned for."""

from __future__ import annotations

from dataclasses import replace

from diptych.errors import UsageError, unknown
from diptych.objectives.answering import Questions, Statements
from diptych.objectives.masked_regions import MaskedRegionClasses
from diptych.objectives.matching import Matching
from diptych.objectives.pretraining import Pretraining, Shares
from diptych.train.run import InputSettings, OptimSettings, Run, TrainingSettings
from diptych.uniter.model import UniterConfig

NAMES = ("tiny", "base_indomain", "base", "large", "tiny_vqa", "tiny_ve", "vqa", "vqa_large", "ve", "ve_large")


def named(name: str) -> Run:
    """The recipe of that name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match name:
        case "tiny":
            return tiny()
        case "base_indomain":
            return base_indomain()
        case "base":
            return base()
        case "large":
            return large()
        case "tiny_vqa":
            return tiny_vqa()
        case "tiny_ve":
            return tiny_ve()
        case "vqa":
            return vqa()
        case "vqa_large":
            return vqa_large()
        case "ve":
            return ve()
        case "ve_large":
            return ve_large()
        case _:
            raise UsageError(unknown("recipe", name, NAMES))


def tiny() -> Run:
    """A UNITER of 25,000 parameters beside its words, for a few dozen steps: tests and first tries. Not of the paper.

    A second or two on one core, with regions of the scenes' detector and their soft labels.
    """
    return Run(
        system="uniter",
        recipe="tiny",
        model=UniterConfig(
            width=32,
            depth=2,
            heads=2,
            mlp_width=64,
            dropout=0.0,
            attention_dropout=0.0,
            context=32,
            positions=64,
            max_regions=12,
        ),
        objective=Pretraining(),
        inputs=InputSettings(tokenizer="train:wordpiece", vocab_size=1024),
        optim=OptimSettings(lr=2e-3, weight_decay=0.01, warmup_steps=5, schedule="linear", clip_norm=5.0),
        training=TrainingSettings(
            steps=40, batch=16, precision="float32", log_every=1, eval_every=20, eval_rows=64, eval_metric="loss"
        ),
    )


def tiny_vqa() -> Run:
    """Questions about the scenes, for a pre-trained network of any size: 600 steps of 64. Not of the paper."""
    run = tiny()
    return replace(
        run,
        recipe="tiny_vqa",
        objective=Questions(),
        optim=replace(run.optim, lr=1e-3, warmup_steps=60, clip_norm=2.0),
        training=replace(run.training, steps=600, batch=64, log_every=10, eval_every=200, eval_rows=500),
    )


def tiny_ve() -> Run:
    """`tiny_vqa`, of statements about the scenes that are true or false. Not of the paper."""
    return replace(tiny_vqa(), recipe="tiny_ve", objective=Statements())


def base_indomain() -> Run:
    """UNITER-base on COCO and Visual Genome. UNITER, arXiv:1909.11740, section 4 and appendix; released config.

    Begin from BERT-base by `--init`, a folder of bert-base-cased. 8 V100 in the paper; a step is 10,240 words and
    regions on each, twice. Differs: COCO and Visual Genome are one table, and no step is of one of them alone. Not run
    here: hardware.
    """
    return Run(
        system="uniter",
        recipe="base_indomain",
        model=UniterConfig(),
        objective=_released(Shares(mlm=2, mrfr=1, mrc=1, itm=2)),
        inputs=InputSettings(tokenizer="bert-base-cased"),
        optim=OptimSettings(
            lr=5e-5,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=0.01,
            warmup_steps=10_000,
            schedule="linear",
            clip_norm=5.0,
            arithmetic="released",
        ),
        training=TrainingSettings(
            steps=200_000,
            batch_tokens=10_240 * 2 * 8,
            seed=42,
            log_every=100,
            eval_every=5_000,
            eval_rows=5_000,
            eval_metric="loss",
        ),
    )


def base() -> Run:
    """`base_indomain` on all four data sets, Conceptual Captions and SBU Captions besides. Not run here: hardware.

    Three times as much a step, and more steps that predict words. 882 GPU hours in the paper (a number from memory).
    """
    run = base_indomain()
    return replace(
        run,
        recipe="base",
        objective=_released(Shares(mlm=4, mrfr=2, mrc=2, itm=3)),
        training=replace(run.training, batch_tokens=10_240 * 6 * 8),
    )


def large() -> Run:
    """UNITER-large on all four data sets, from BERT-large. Not run here: hardware.

    16 V100 in the paper, 3,645 GPU hours (a number from memory).
    """
    run = base()
    return replace(
        run,
        recipe="large",
        model=UniterConfig(width=1024, depth=24, heads=16, mlp_width=4096),
        training=replace(run.training, steps=500_000, batch_tokens=6_144 * 4 * 16),
    )


def vqa() -> Run:
    """Questions of VQA v2, with UNITER-base. UNITER, arXiv:1909.11740, appendix; released config. Not run: hardware.

    Four GPUs in the release, 5,120 words and regions on each, five times a step; the head learns ten times as fast.
    """
    return _fine_tuned("vqa", lr=8e-5, steps=6_000, warmup=600, tokens=5_120 * 5 * 4, head_lr=10.0)


def vqa_large() -> Run:
    """`vqa` with UNITER-large, on eight GPUs of 3,072 words and regions, four times a step. Not run: hardware."""
    run = _fine_tuned("vqa_large", lr=5e-5, steps=5_000, warmup=500, tokens=3_072 * 4 * 8, head_lr=10.0)
    return replace(run, model=large().model)


def ve() -> Run:
    """Statements of SNLI-VE, with UNITER-base. UNITER, arXiv:1909.11740, appendix; released config. Not run: hardware.

    Two GPUs in the release, 4,096 words and regions on each, four times a step.
    """
    run = _fine_tuned("ve", lr=8e-5, steps=4_000, warmup=400, tokens=4_096 * 4 * 2)
    return replace(run, objective=Statements())


def ve_large() -> Run:
    """`ve` with UNITER-large, on four GPUs, twice a step. Not run: hardware."""
    run = _fine_tuned("ve_large", lr=3e-5, steps=4_000, warmup=400, tokens=4_096 * 2 * 4)
    return replace(run, model=large().model, objective=Statements())


def _fine_tuned(recipe: str, *, lr: float, steps: int, warmup: int, tokens: int, head_lr: float = 1.0) -> Run:
    """What the release's fine-tunings have in common."""
    run = base_indomain()
    return replace(
        run,
        recipe=recipe,
        objective=Questions(),
        optim=replace(run.optim, lr=lr, head_lr=head_lr, warmup_steps=warmup, clip_norm=2.0),
        training=replace(run.training, steps=steps, batch_tokens=tokens, eval_every=500),
    )


def _released(share: Shares) -> Pretraining:
    """The tasks averaged as the learning rates were tuned with: see `docs/papers/uniter.md`."""
    return Pretraining(
        share=share,
        mrc=MaskedRegionClasses(mean_over_classes=True),
        itm=Matching(alignment=0.1, push_apart=True),
    )
