"""CLIP's runs: small ones that train here, among them figure 2, one for each model of the paper, LAION's largest."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from diptych.clip.model import ClipConfig
from diptych.errors import UsageError, unknown
from diptych.objectives.bag_of_words import BagOfWordsPrediction
from diptych.objectives.captioning import Captioning
from diptych.objectives.contrastive import Contrastive
from diptych.objectives.objective import Objective
from diptych.objectives.sigmoid import Sigmoid
from diptych.train.run import InputSettings, OptimSettings, Run, TrainingSettings

NAMES = (
    "tiny",
    "demo",
    "demo_sigmoid",
    "flickr8k",
    "figure2_captioning",
    "figure2_bag_of_words",
    "figure2_cbow",
    "figure2_transformer",
    "rn50",
    "rn101",
    "rn50x4",
    "rn50x16",
    "rn50x64",
    "vit_b_32",
    "vit_b_16",
    "vit_l_14",
    "vit_l_14_336",
    "vit_h_14",
    "vit_g_14",
    "vit_big_g_14",
)


def named(name: str) -> Run:
    """The recipe of that name.

    Raises:
        UsageError: there is none; the nearest is suggested.
    """
    match name:
        case "tiny":
            return tiny()
        case "demo":
            return demo()
        case "demo_sigmoid":
            return demo_sigmoid()
        case "flickr8k":
            return flickr8k()
        case "figure2_captioning":
            return figure2_captioning()
        case "figure2_bag_of_words":
            return figure2_bag_of_words()
        case "figure2_cbow":
            return figure2_cbow()
        case "figure2_transformer":
            return figure2_transformer()
        case "rn50":
            return rn50()
        case "rn101":
            return rn101()
        case "rn50x4":
            return rn50x4()
        case "rn50x16":
            return rn50x16()
        case "rn50x64":
            return rn50x64()
        case "vit_b_32":
            return vit_b_32()
        case "vit_b_16":
            return vit_b_16()
        case "vit_l_14":
            return vit_l_14()
        case "vit_l_14_336":
            return vit_l_14_336()
        case "vit_h_14":
            return vit_h_14()
        case "vit_g_14":
            return vit_g_14()
        case "vit_big_g_14":
            return vit_big_g_14()
        case _:
            raise UsageError(unknown("recipe", name, NAMES))


def demo() -> Run:
    """A CLIP of 0.45 M parameters on the built-in scenes; not of the paper.

    Two cores, float32, about two minutes. Should reach, zero-shot: things 95 %, colours 98 %, colour-thing
    pairs never seen together 85 %; and 85 % of 500 texts with their picture first.
    """
    model = ClipConfig(
        embed_dim=128,
        image="conv",
        image_size=48,
        image_width=16,
        image_layers=(1, 1, 1, 1),
        activation="gelu",
        context=32,
        vocab_size=1024,
        text_width=128,
        text_layers=1,
        text_heads=4,
        causal=False,
        text_pool="mean",
    )
    return Run(
        system="clip",
        recipe="demo",
        model=model,
        objective=Contrastive(),
        inputs=InputSettings(tokenizer="train:wordpiece", vocab_size=1024, transform="none"),
        optim=OptimSettings(lr=3e-3, warmup_steps=50),
        training=TrainingSettings(steps=450, batch=256, precision="float32", eval_every=90, eval_rows=500),
    )


def tiny() -> Run:
    """The demo's model, smaller, for a few dozen steps: tests and first tries. A few seconds on one core."""
    run = demo()
    return replace(
        run,
        recipe="tiny",
        model=replace(run.model, embed_dim=32, image_size=32, image_width=8, text_width=32, text_heads=2),
        optim=replace(run.optim, warmup_steps=5),
        training=TrainingSettings(steps=40, batch=32, precision="float32", log_every=1, eval_every=20, eval_rows=64),
    )


def demo_sigmoid() -> Run:
    """The demo under SigLIP's loss (arXiv:2303.15343): a scale that begins at 10, has no bound of note, and a bias."""
    run = demo()
    return replace(
        run,
        recipe="demo_sigmoid",
        model=replace(run.model, temperature=0.1, max_scale=1e4),
        objective=Sigmoid(),
    )


def flickr8k() -> Run:
    """A small CLIP from scratch on the 6,000 training photos of Flickr8k, five texts each; not of the paper.

    Two cores, about 20 minutes. `docs/benchmarks.md` has the recalls it reaches.
    """
    model = ClipConfig(
        embed_dim=256,
        image="resnet",
        image_size=64,
        image_width=16,
        image_layers=(1, 1, 1, 1),
        image_heads=8,
        activation="gelu",
        context=40,
        vocab_size=4096,
        text_width=192,
        text_layers=2,
        text_heads=3,
    )
    return Run(
        system="clip",
        recipe="flickr8k",
        model=model,
        objective=Contrastive(known_pairs=True),
        inputs=InputSettings(
            tokenizer="train:wordpiece", vocab_size=4096, transform="random_resized_crop", crop_scale=(0.5, 1.0)
        ),
        optim=OptimSettings(lr=1e-3, warmup_steps=100, weight_decay=0.5),
        training=TrainingSettings(epochs=40, batch=256, eval_every=250, eval_rows=1000),
    )


def figure2_captioning() -> Run:
    """Caption language modelling at the demo's size. CLIP, arXiv:2103.00020, section 2.3 and figure 2.

    The picture tower, data order and optimizer are the same in all four recipes of the figure, and the learning rate is
    constant after the warm-up, so that a run is a point of the curve wherever it ends.
    `benchmarks/efficiency.py` trains all and draws the figure; `docs/benchmarks.md` has what they reach. The text tower
    is not trained, so what a report asks both towers stays at chance.
    """
    return _figure2("figure2_captioning", Captioning(), text="cbow")


def figure2_bag_of_words() -> Run:
    """The words of the text from the picture, as `figure2_captioning`: the paper's learns 3 times as fast."""
    return _figure2("figure2_bag_of_words", BagOfWordsPrediction(), text="cbow")


def figure2_cbow() -> Run:
    """Contrast with a bag of words as the text tower, as `figure2_captioning`: 4 times as fast again in the paper."""
    return _figure2("figure2_cbow", Contrastive(), text="cbow")


def figure2_transformer() -> Run:
    """Contrast with the demo's text Transformer, as `figure2_captioning`; not in the figure."""
    return _figure2("figure2_transformer", Contrastive(), text="transformer")


def _figure2(name: str, objective: Objective, text: Literal["transformer", "cbow"]) -> Run:
    """Where an objective does not read the text tower, it is the cheapest there is."""
    run = demo()
    return replace(
        run,
        recipe=name,
        model=replace(run.model, text=text),
        objective=objective,
        optim=replace(run.optim, schedule="constant"),
        training=replace(run.training, steps=400, eval_every=None, eval_metric="loss"),
    )


def vit_b_32() -> Run:
    """ViT-B/32. CLIP, arXiv:2103.00020, section 2.5 and appendix F.

    400 M pairs of web pictures, 32 epochs of batches of 32,768 (390,625 steps); the paper gives no hardware for this
    one. Should reach 63.2 % zero-shot on ImageNet.
    """
    return _paper("vit_b_32", ClipConfig(), lr=5e-4)


def vit_b_16() -> Run:
    """ViT-B/16, as `vit_b_32`. Should reach 68.6 % zero-shot on ImageNet."""
    return _paper("vit_b_16", ClipConfig(patch_size=16), lr=5e-4)


def vit_l_14() -> Run:
    """ViT-L/14, as `vit_b_32`: 12 days on 256 V100. Should reach 75.3 % zero-shot on ImageNet."""
    model = ClipConfig(
        embed_dim=768,
        image_width=1024,
        image_layers=(24,),
        image_heads=16,
        patch_size=14,
        text_width=768,
        text_heads=12,
    )
    return _paper("vit_l_14", model, lr=4e-4)


def vit_l_14_336() -> Run:
    """ViT-L/14@336px: one more epoch at 336 pixels, from the weights of `vit_l_14` (FixRes). Section 2.5.

    Give them with `--init`; position embeddings are resized. Should reach 76.2 % zero-shot on ImageNet.
    """
    run = vit_l_14()
    return replace(
        run,
        recipe="vit_l_14_336",
        model=replace(run.model, image_size=336),
        optim=replace(run.optim, lr=2e-5),
        training=replace(run.training, epochs=1),
    )


def vit_h_14() -> Run:
    """ViT-H/14 of open_clip, trained on LAION-2B; not of the paper.

    Published with "Reproducible scaling laws", arXiv:2212.07143: batches of 79,104 pairs (96 on each of 824 A100),
    34.7 G samples seen, learning rate 5e-4 after 2,000 steps. Should reach 78.0 % zero-shot on ImageNet. Betas, eps,
    weight decay and crop are open_clip's defaults; time is not published there.
    """
    model = _laion(image_width=1280, image_layers=(32,))
    return _of_laion("vit_h_14", model, batch=79_104, samples=256 * 135_646_078)


def vit_g_14() -> Run:
    """ViT-g/14 of open_clip, as `vit_h_14`: 12.2 G samples, batches of 64,000 (80 on each of 800 A100).

    Should reach 76.6 % zero-shot on ImageNet. The file's name says batches of 42 k, the table published with the paper
    64,000. A second run, of 34 G samples in batches of 88 k, reached 78.5 %; its settings are not published.
    """
    model = _laion(image_width=1408, image_layers=(40,), image_mlp_ratio=4.3637)
    return _of_laion("vit_g_14", model, batch=64_000, samples=90 * 135_646_078)


def vit_big_g_14() -> Run:
    """ViT-bigG/14 of open_clip: LAION-2B, 39 G samples in batches of 160 k; on 512 A100 towards the end.

    Theirs reached 80.1 % zero-shot on ImageNet. Differs: theirs hid patches in most of the training and is the mean of
    three ends without, which nothing here does; the learning rate and all else are those of `vit_h_14`.
    """
    model = _laion(
        image_width=1664,
        image_layers=(48,),
        image_mlp_ratio=4.9231,
        embed_dim=1280,
        text_width=1280,
        text_layers=32,
        text_heads=20,
    )
    return _of_laion("vit_big_g_14", model, batch=160_000, samples=39_000_000_000)


def rn50() -> Run:
    """RN50. CLIP, arXiv:2103.00020, section 2.5 and appendix F.

    Data, length and hardware as in `vit_b_32`. Should reach 59.6 % zero-shot on ImageNet.
    """
    return _paper("rn50", _resnet(image_width=64, image_layers=(3, 4, 6, 3), embed_dim=1024, text_width=512), lr=5e-4)


def rn101() -> Run:
    """RN101, as `rn50`. Should reach 62.2 % zero-shot on ImageNet."""
    return _paper("rn101", _resnet(image_width=64, image_layers=(3, 4, 23, 3), embed_dim=512, text_width=512), lr=5e-4)


def rn50x4() -> Run:
    """RN50x4: four times the arithmetic of `rn50`. Should reach 65.8 % zero-shot on ImageNet."""
    model = _resnet(image_width=80, image_layers=(4, 6, 10, 6), embed_dim=640, text_width=640, image_size=288)
    return _paper("rn50x4", model, lr=5e-4)


def rn50x16() -> Run:
    """RN50x16: sixteen times the arithmetic of `rn50`. Should reach 70.5 % zero-shot on ImageNet."""
    model = _resnet(image_width=96, image_layers=(6, 8, 18, 8), embed_dim=768, text_width=768, image_size=384)
    return _paper("rn50x16", model, lr=4e-4)


def rn50x64() -> Run:
    """RN50x64: 18 days on 592 V100. Should reach 73.6 % zero-shot on ImageNet."""
    model = _resnet(image_width=128, image_layers=(3, 15, 36, 10), embed_dim=1024, text_width=1024, image_size=448)
    return _paper("rn50x64", model, lr=3.6e-4)


def _resnet(
    *, image_width: int, image_layers: tuple[int, ...], embed_dim: int, text_width: int, image_size: int = 224
) -> ClipConfig:
    """Heads are 64 wide in both towers, as in all of OpenAI's models."""
    return ClipConfig(
        embed_dim=embed_dim,
        image="resnet",
        image_size=image_size,
        image_width=image_width,
        image_layers=image_layers,
        image_heads=image_width * 32 // 64,
        text_width=text_width,
        text_heads=text_width // 64,
    )


def _paper(name: str, model: ClipConfig, lr: float) -> Run:
    """What all models of the paper share (table 18), and Adam's settings of its tower's kind (tables 19 and 20)."""
    vit = model.image == "vit"
    return Run(
        system="clip",
        recipe=name,
        model=model,
        objective=Contrastive(),
        inputs=InputSettings(tokenizer="clip", vocab_size=49408, transform="square_crop"),
        optim=OptimSettings(
            lr=lr,
            betas=(0.9, 0.98 if vit else 0.999),
            eps=1e-6 if vit else 1e-8,
            weight_decay=0.2,
            warmup_steps=2000,
        ),
        training=TrainingSettings(epochs=32, batch=32768, activation_checkpointing=True, eval_every=5000),
    )


def _laion(
    *,
    image_width: int,
    image_layers: tuple[int, ...],
    image_mlp_ratio: float = 4.0,
    embed_dim: int = 1024,
    text_width: int = 1024,
    text_layers: int = 24,
    text_heads: int = 16,
) -> ClipConfig:
    """Sixteen heads for pictures, wider than OpenAI's 64, and the exact GELU."""
    return ClipConfig(
        embed_dim=embed_dim,
        image_width=image_width,
        image_layers=image_layers,
        image_heads=16,
        image_mlp_ratio=image_mlp_ratio,
        patch_size=14,
        activation="gelu",
        text_width=text_width,
        text_layers=text_layers,
        text_heads=text_heads,
    )


def _of_laion(name: str, model: ClipConfig, *, batch: int, samples: int) -> Run:
    """Adam's settings are those of `_paper` too: open_clip's defaults for a vit."""
    run = _paper(name, model, lr=5e-4)
    return replace(
        run,
        inputs=replace(run.inputs, transform="random_resized_crop"),
        training=replace(run.training, epochs=None, steps=samples // batch, batch=batch),
    )
