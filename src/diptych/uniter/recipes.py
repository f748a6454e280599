"""UNITER's pre-training: small ones that run here, and the paper's of base and large."""

from __future__ import annotations

from dataclasses import replace

from diptych.errors import UsageError, unknown
from diptych.objectives.masked_regions import MaskedRegionClasses
from diptych.objectives.masked_words import MaskedWords
from diptych.objectives.matching import Matching
from diptych.objectives.pretraining import Pretraining, Shares
from diptych.train.run import InputSettings, OptimSettings, Run, TrainingSettings
from diptych.uniter.model import UniterConfig

NAMES = ("tiny", "scenes", "flickr8k", "flickr8k_matching", "base_indomain", "base", "large")


def named(name: str) -> Run:
    """The recipe of that name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match name:
        case "tiny":
            return tiny()
        case "scenes":
            return scenes()
        case "flickr8k":
            return flickr8k()
        case "flickr8k_matching":
            return flickr8k_matching()
        case "base_indomain":
            return base_indomain()
        case "base":
            return base()
        case "large":
            return large()
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


def scenes() -> Run:
    """Pre-training on the built-in scenes with regions of their detector: 128 wide, four layers. Not of the paper.

    Texts are of a few words, and what they tell apart are colours, textures and places. So more of the words are
    hidden, since a colour that is seldom asked for is seldom learned, and words come first: matching by chance pairs is
    learned of the things' names alone, and a network that begins with both keeps little else of the regions. Weights
    are drawn wider than BERT's: so narrow a network learns to match a thousand steps sooner. 12 minutes on two cores;
    what it is worth says `docs/benchmarks.md`.
    """
    run = tiny()
    return replace(
        run,
        recipe="scenes",
        model=replace(run.model, width=128, depth=4, heads=4, mlp_width=512, init_std=0.05),
        objective=Pretraining(
            share=Shares(mlm=4, mrfr=0.25, mrc=0.25, itm=3),
            mlm=MaskedWords(probability=0.4),
            itm=Matching(alignment=0.1, push_apart=True),
            words_first=1000,
        ),
        optim=replace(run.optim, lr=1e-3, warmup_steps=200),
        training=replace(run.training, steps=3000, batch=64, log_every=10, eval_every=500, eval_rows=300),
    )


def flickr8k() -> Run:
    """Pre-training on some thousand photographs, regions being windows of a CLIP: six layers of 384. Not of the paper.

    Begin from a small BERT by `--init` (MiniLM has these sizes); without it words are learned from nothing. Windows
    are of no class, so MRC has no part in it. Some 17 minutes on two cores with ten windows a picture.
    """
    run = tiny()
    return replace(
        run,
        recipe="flickr8k",
        model=UniterConfig(width=384, depth=6, heads=12, mlp_width=1536, context=48, max_regions=36),
        objective=Pretraining(
            share=Shares(mlm=2, mrfr=0.5, mrc=0, itm=3),
            itm=Matching(alignment=0.1, push_apart=True),
            words_first=200,
        ),
        optim=replace(run.optim, lr=2e-4, warmup_steps=100),
        training=replace(run.training, steps=1200, batch=64, log_every=10, eval_every=400, eval_rows=500),
    )


def flickr8k_matching() -> Run:
    """After `flickr8k`, by `--init`: matching above all, for retrieval. Not of the paper.

    9 minutes on two cores; `docs/benchmarks.md` has what re-ranking by it comes to, which is little.
    """
    run = flickr8k()
    share = Shares(mlm=1, mrfr=0, mrc=0, itm=4)
    return replace(
        run,
        recipe="flickr8k_matching",
        objective=replace(run.objective, share=share, words_first=0),
        training=replace(run.training, steps=700),
    )


def base_indomain() -> Run:
    """UNITER-base on COCO and Visual Genome. UNITER, arXiv:1909.11740, section 4 and appendix; released config.

    Begin from BERT-base by `--init`, a folder of bert-base-cased. 8 V100 in the paper; a step is 10,240 words and
    regions on each, twice. The tables are given by `--data COCO --data VG --share 1 --share 1`. Not run here: hardware.
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

    Three times as much a step, and more steps that predict words; of COCO, Visual Genome, Conceptual and SBU Captions
    `--share 2 --share 3 --share 3 --share 2`. 882 GPU hours in the paper (a number from memory).
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


def _released(share: Shares) -> Pretraining:
    """The tasks averaged as the learning rates were tuned with: see `docs/papers/uniter.md`."""
    return Pretraining(
        share=share,
        mrc=MaskedRegionClasses(mean_over_classes=True),
        itm=Matching(alignment=0.1, push_apart=True),
    )
