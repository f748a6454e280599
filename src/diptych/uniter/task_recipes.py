"""What UNITER is fine-tuned for: the released hyper-parameters of each task, and a tiny run of each for the scenes.

`diptych finetune` takes sizes and vocabulary from the weights that it begins with. The networks here are UNITER-base or
large. None of the released ones was run here: hardware. UNITER, arXiv:1909.11740, appendix; released configs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from diptych.data.examples import TRUTHS
from diptych.errors import UsageError, unknown
from diptych.objectives.answering import Questions, Statements
from diptych.objectives.choosing import Choosing
from diptych.objectives.objective import Objective
from diptych.objectives.pretraining import Shares
from diptych.objectives.ranking import HardRanking, Ranking
from diptych.objectives.referring import Referring
from diptych.objectives.two_pictures import TwoPictures
from diptych.train.run import Run
from diptych.uniter import recipes as pretraining
from diptych.uniter.model import UniterConfig

VCR_CONTEXT = 222
"""Tokens of question, answer and reason together: 220 in the release, without start and end."""
UNLIKE = ("full", "relation", "colour_thing", "attribute")
"""Kinds of a scene's texts that are true of few others."""


def named(name: str) -> Run:
    """The recipe of that name, be it of pre-training or for a task.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    if name in pretraining.NAMES:
        return pretraining.named(name)
    if name not in (*_TINY, *_RELEASED):
        raise UsageError(unknown("recipe", name, NAMES))
    made = _TINY[name]() if name in _TINY else _RELEASED[name]()
    return replace(made, recipe=name)


def _tiny(objective: Objective, **model: object) -> Run:
    """For a pre-trained network of any size: 600 steps of 64. Not of the paper."""
    run = pretraining.tiny()
    return replace(
        run,
        model=replace(run.model, **model),
        objective=objective,
        optim=replace(run.optim, lr=1e-3, warmup_steps=60, clip_norm=2.0),
        training=replace(run.training, steps=600, batch=64, log_every=10, eval_every=200, eval_rows=500),
    )


def _tiny_ranking(objective: Objective) -> Run:
    """Fewer rows a step, since each is many pairs."""
    run = _tiny(objective)
    return replace(run, training=replace(run.training, batch=16, eval_rows=64))


def _two_pictures() -> Run:
    """About two pictures at once. At twice the rate one of two seeds stays at guessing."""
    run = _tiny(TwoPictures(), types=3, answers=TRUTHS)
    return replace(run, optim=replace(run.optim, lr=5e-4))


def _swapped() -> Run:
    """Against swapped words, which say what belongs to which and stands where: `diptych data examples --task swapped`.

    Mixed with other texts, a step has too few of them to learn a relation from. 6.5 minutes on one core; what stands
    left of what is then told in 99 %.
    """
    run = _tiny(Ranking(negatives=1, swapped=1))
    return replace(
        run,
        optim=replace(run.optim, lr=5e-4, warmup_steps=90),
        training=replace(run.training, steps=900, eval_rows=200),
    )


def _alike() -> Run:
    """Against what a CLIP takes for each other, by `--partners` of `diptych data partners`; without them by chance.

    4.5 minutes on one core; after `tiny_swapped` textures are told in 98 %, which things have which colour in 97.
    """
    run = _tiny_ranking(Ranking(negatives=3))
    return replace(
        run,
        inputs=replace(run.inputs, text_kinds=UNLIKE),
        optim=replace(run.optim, lr=5e-4, warmup_steps=90),
        training=replace(run.training, steps=900),
    )


def _released(
    objective: Objective,
    *,
    lr: float,
    steps: int,
    warmup: int,
    tokens: int | None = None,
    rows: int = 1,
    head_lr: float = 1.0,
    large: bool = False,
    **model: object,
) -> Run:
    """What the release's fine-tunings have in common; a step is of so many tokens, or of so many rows."""
    run = pretraining.base_indomain()
    network = pretraining.large().model if large else UniterConfig()
    return replace(
        run,
        model=replace(network, **model),
        objective=objective,
        optim=replace(run.optim, lr=lr, head_lr=head_lr, warmup_steps=warmup, clip_norm=2.0),
        training=replace(run.training, steps=steps, batch_tokens=tokens, batch=rows, eval_every=500),
    )


def _vqa() -> Run:
    """Four GPUs, 5,120 words and regions on each, five times a step; the head learns ten times as fast."""
    return _released(Questions(), lr=8e-5, steps=6_000, warmup=600, tokens=5_120 * 5 * 4, head_lr=10.0)


def _vqa_large() -> Run:
    """Eight GPUs of 3,072 words and regions, four times a step."""
    return _released(Questions(), lr=5e-5, steps=5_000, warmup=500, tokens=3_072 * 4 * 8, head_lr=10.0, large=True)


def _ve() -> Run:
    """Two GPUs, 4,096 words and regions on each, four times a step."""
    return _released(Statements(), lr=8e-5, steps=4_000, warmup=400, tokens=4_096 * 4 * 2)


def _ve_large() -> Run:
    """Four GPUs, twice a step."""
    return _released(Statements(), lr=3e-5, steps=4_000, warmup=400, tokens=4_096 * 2 * 4, large=True)


def _vcr(*, large: bool = False) -> Run:
    """Four GPUs, 4,000 words and regions on each, five times a step; answers and reasons are rows of one table."""
    return _released(
        Choosing(),
        lr=6e-5,
        steps=8_000,
        warmup=800,
        tokens=4_000 * 5 * 4,
        large=large,
        types=4,
        context=VCR_CONTEXT,
    )


def _vcr_pretraining(share: Shares, *, large: bool = False) -> Run:
    """VCR's second stage of pre-training: four GPUs, 6,144 words and regions on each, four times a step; no clipping.

    Begin from a UNITER by `--init`. A row is measured with its four options, of which one is read.
    """
    objective = replace(pretraining.base().objective, share=share, right_options=True)
    tokens, model = 4 * 6_144 * 4 * 4, {"types": 4, "context": VCR_CONTEXT}
    run = _released(objective, lr=3e-5, steps=45_000, warmup=4_500, tokens=tokens, large=large, **model)
    return replace(run, optim=replace(run.optim, clip_norm=None))


def _nlvr2() -> Run:
    """One GPU, 10,240 words and regions a step; the form that attends between the pictures."""
    tokens = 10_240
    return _released(TwoPictures(), lr=3e-5, steps=8_000, warmup=800, tokens=tokens, types=3, answers=TRUTHS)


def _nlvr2_large() -> Run:
    """Two GPUs of 5,120 words and regions, twice a step."""
    tokens = 5_120 * 2 * 2
    return _released(
        TwoPictures(), lr=2e-5, steps=5_000, warmup=500, tokens=tokens, large=True, types=3, answers=TRUTHS
    )


def _refcoco() -> Run:
    """RefCOCO and RefCOCOg: 128 phrases a step, whose losses are added up."""
    return _released(Referring(weight=128), lr=1e-4, steps=24_000, warmup=1_500, rows=128)


def _refcoco_plus() -> Run:
    """RefCOCO+: a head of two layers."""
    return _released(Referring(weight=128, layers=2), lr=6e-5, steps=10_000, warmup=1_000, rows=128)


def _flickr_ranking() -> Run:
    """Retrieval on Flickr30K, against chance: eight GPUs, 40 rows of three pairs on each, four times a step."""
    return _released(Ranking(), lr=5e-5, steps=20_000, warmup=2_000, rows=40 * 4 * 8)


def _hard_ranking(lr: float = 5e-5, *, large: bool = False) -> Run:
    """Retrieval on Flickr30K or COCO, against the hardest of 399: sixteen GPUs, eight rows on each a step."""
    run = _released(HardRanking(), lr=lr, steps=5_000, warmup=500, rows=8 * 16, large=large)
    return replace(run, training=replace(run.training, micro_batch=1))


_TINY: Mapping[str, Callable[[], Run]] = {
    "tiny_vqa": lambda: _tiny(Questions()),
    "tiny_ve": lambda: _tiny(Statements()),
    "tiny_vcr": lambda: _tiny(Choosing(), types=4, context=64),
    "tiny_nlvr2": _two_pictures,
    "tiny_re": lambda: _tiny(Referring()),
    "tiny_ranking": lambda: _tiny_ranking(Ranking(negatives=3)),
    "tiny_hard_ranking": lambda: _tiny_ranking(HardRanking(candidates=31, kept=3)),
    "tiny_swapped": _swapped,
    "tiny_alike": _alike,
}
_RELEASED: Mapping[str, Callable[[], Run]] = {
    "vqa": _vqa,
    "vqa_large": _vqa_large,
    "ve": _ve,
    "ve_large": _ve_large,
    "vcr": _vcr,
    "vcr_large": lambda: _vcr(large=True),
    "vcr_pretraining": lambda: _vcr_pretraining(Shares(mlm=2, mrfr=1, mrc=1, itm=0)),
    "vcr_pretraining_large": lambda: _vcr_pretraining(Shares(mlm=10, mrfr=1, mrc=1, itm=0), large=True),
    "nlvr2": _nlvr2,
    "nlvr2_large": _nlvr2_large,
    "refcoco": _refcoco,
    "refcoco_plus": _refcoco_plus,
    "flickr_ranking": _flickr_ranking,
    "hard_ranking": _hard_ranking,
    "flickr_hard_ranking_large": lambda: _hard_ranking(large=True),
    "coco_hard_ranking_large": lambda: _hard_ranking(3e-5, large=True),
}
NAMES = (*pretraining.NAMES, *_TINY, *_RELEASED)
