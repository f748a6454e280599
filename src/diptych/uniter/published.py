"""UNITER's published results, from zero-shot retrieval to phrases: numbers, files and the commands that make them.

arXiv:1909.11740v3. The numbers are from memory where nothing else is said; sizes of splits are those of the data sets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from diptych.tasks.published import Expected, Need, Published

SOURCE = "arXiv:1909.11740v3, the results of UNITER-base and UNITER-large"
SAME_WEIGHTS, TRAINED = 0.002, 0.01
ROUNDING = "the same weights read the same regions, in the source in half precision"
SEEDS = "another training from another seed; the source tells no spread"
RECALL = (1, 5, 10)
FLICKR_TEXTS, COCO_TEXTS = 5_000, 25_000
"""Of the test pictures, COCO's about. The release's image retrieval counts at most k of them too many at k."""
METRIC = "the release counts row numbers below k as found too, which its image retrieval gains from; here not"
FLICKR = "img_db/flickr30k/feat_th0.2_max100_min10"
COCO = tuple(f"img_db/coco_{split}2014/feat_th0.2_max100_min10" for split in ("train", "val"))
BOXES = {
    "": ("coco_gt", "img_db/re_coco_gt/feat_numbb100"),
    "-detected": ("det_coco", "img_db/re_coco_det/feat_numbb100"),
}
"""Of RefCOCO: what stands in a row's name -> what stands in those of pictures, and their regions."""
SET_OUT = "a UNITER-{size} that was fine-tuned from the release's {begun}.pt"
SIZES = {"": "base", "-large": "large"}
"""What stands in a row's name -> the network."""


def rows() -> tuple[Published, ...]:
    """All of them, by task."""
    return (
        *_retrieval(),
        *_coco_retrieval(),
        *_questions(),
        *_statements(),
        *_two_pictures(),
        *_reasons(),
        *_phrases(),
    )


def _retrieval() -> Iterator[Published]:
    zero_shot = {
        "base": ((66.16, 88.40, 92.94), (80.70, 95.70, 98.00)),
        "large": ((68.74, 89.20, 93.86), (83.60, 95.70, 97.70)),
    }
    trained = {
        "base": ((72.52, 92.36, 96.08), (85.90, 97.10, 98.80)),
        "large": ((75.56, 94.08, 96.76), (87.30, 98.00, 99.20)),
    }
    recipes = {"base": "hard_ranking", "large": "flickr_hard_ranking_large"}
    for suffix, size in SIZES.items():
        shared = {
            "source": SOURCE,
            "task": "retrieval",
            "split": "test",
            "rows": 1_000,
            "data": Need(
                what="Flickr30K's 1,000 test pictures with five texts each",
                commands=("diptych data import txt_db/itm_flickr30k_test.db flickr30k-test",),
            ),
            "regions": Need(what=f"UNITER's regions of Flickr30K, in place: {FLICKR}"),
        }
        yield Published(
            name=f"uniter/flickr-zero-shot{suffix}",
            what=f"Flickr30K, pre-trained {size}, all texts with all pictures",
            numbers=_recalls(*zero_shot[size], FLICKR_TEXTS),
            weights=_pretrained(size),
            tolerance=SAME_WEIGHTS,
            because=ROUNDING,
            remark=f"pairs are scored by the logit of a match alone, as the release does; {METRIC}",
            ranks=True,
            **shared,  # type: ignore[arg-type]
        )
        yield Published(
            name=f"uniter/flickr{suffix}",
            what=f"Flickr30K, {size} after hard negatives, all texts with all pictures",
            numbers=_recalls(*trained[size], FLICKR_TEXTS),
            weights=_ranking(size, "Flickr30K", "flickr30k", recipes[size], FLICKR, f"runs/flickr{suffix}"),
            tolerance=TRAINED,
            because=SEEDS,
            remark=METRIC,
            **shared,  # type: ignore[arg-type]
        )


def _coco_retrieval() -> Iterator[Published]:
    numbers = {
        "base": ((50.33, 78.52, 87.16), (64.40, 87.40, 93.08)),
        "large": ((52.93, 79.93, 87.95), (65.68, 88.56, 93.76)),
    }
    recipes = {"base": "hard_ranking", "large": "coco_hard_ranking_large"}
    for suffix, size in SIZES.items():
        yield Published(
            name=f"uniter/coco{suffix}",
            what=f"COCO, {size} after hard negatives, about 25,000 texts with all 5,000 pictures",
            numbers=_recalls(*numbers[size], COCO_TEXTS),
            source=SOURCE,
            task="retrieval",
            split="test",
            rows=5_000,
            weights=_ranking(size, "COCO", "coco", recipes[size], COCO[0], f"runs/coco{suffix}"),
            data=Need(
                what="Karpathy's 5,000 test pictures of COCO with about five texts each; 125 million pairs are scored",
                commands=("diptych data import txt_db/itm_coco_test.db coco-test",),
            ),
            regions=Need(what=f"UNITER's regions of COCO's validation pictures, in place: {COCO[1]}"),
            tolerance=TRAINED,
            because=SEEDS,
            remark="the release trains on restval, the rest of COCO's validation pictures, too, so that less is to be "
            f"expected; {METRIC}",
        )


def _ranking(size: str, of: str, database: str, recipe: str, regions: str, out: str) -> Need:
    """A network that learned ranking on the training split of a data set."""
    return Need(
        what=f"a UNITER-{size} that learned ranking on {of}'s training split",
        commands=(
            f"diptych data import txt_db/itm_{database}_train.db {database}-train",
            f"diptych finetune uniter-{size}.pt {recipe} --data {database}-train --regions {regions} "
            f"--set training.eval_split=train --out {out}",
        ),
    )


def _recalls(pictures: tuple[float, ...], texts: tuple[float, ...], num_texts: int) -> tuple[Expected, ...]:
    ways = (("text_to_image", "IR", pictures, 1 / num_texts), ("image_to_text", "TR", texts, 0.0))
    return tuple(
        Expected(score=f"{way}_r{k}", label=f"{word} R@{k}", value=value / 100, surplus=k * extra)
        for way, word, values, extra in ways
        for k, value in zip(RECALL, values, strict=True)
    )


def _questions() -> Iterator[Published]:
    numbers: Mapping[str, tuple[float, float]] = {"base": (72.70, 72.91), "large": (73.82, 74.02)}
    examples = ('diptych data examples vqa questions --task vqa --picture-key "coco_{subtype}_{id:012d}.npz"',)
    for suffix, size in SIZES.items():
        dev, std = numbers[size]
        yield Published(
            name=f"uniter/vqa{suffix}",
            what=f"VQA v2, {size}, test-dev and test-std",
            numbers=(
                Expected(score="accuracy", label="test-dev", value=dev / 100, confirmed=True),
                Expected(score="accuracy", label="test-std", value=std / 100),
            ),
            source=SOURCE,
            task="answers",
            split="test",
            rows=447_793,
            weights=_finetuned(
                size, f"vqa{suffix.replace('-', '_')}", "questions", " --regions ".join(COCO), f"runs/vqa{suffix}"
            ),
            data=Need(
                what="questions and annotations of VQA v2 in a folder vqa, among them test2015", commands=examples
            ),
            regions=Need(what="UNITER's regions of COCO's test pictures: below img_db/coco_test2015"),
            tolerance=TRAINED,
            because=SEEDS,
            server="VQA's server",
            remark=(
                "the release learns from the validation split and from Visual Genome's questions too, and here from "
                "the training split alone, so that less is to be expected"
            ),
        )


def _statements() -> Iterator[Published]:
    numbers = {"base": ((78.59, True), (78.28, False)), "large": ((79.39, False), (79.38, False))}
    examples = ('diptych data examples snli_ve statements --task ve --picture-key "flickr30k_{id:0>12}.npz"',)
    for suffix, size in SIZES.items():
        for (short, split, num), (value, confirmed) in zip(
            (("val", "validation", 17_858), ("test", "test", 17_901)), numbers[size], strict=True
        ):
            yield Published(
                name=f"uniter/ve{suffix}-{short}",
                what=f"SNLI-VE, {size}, {short}",
                numbers=(Expected(score="accuracy", label="", value=value / 100, confirmed=confirmed),),
                source=SOURCE,
                task="answers",
                split=split,
                rows=num,
                weights=_finetuned(size, f"ve{suffix.replace('-', '_')}", "statements", FLICKR, f"runs/ve{suffix}"),
                data=Need(what="snli_ve_train.jsonl, _dev and _test in a folder snli_ve", commands=examples),
                regions=Need(what=f"UNITER's regions of Flickr30K, in place: {FLICKR}"),
                tolerance=TRAINED,
                because=SEEDS,
                remark="that the release's pictures are named with twelve digits was not checked",
            )


def _two_pictures() -> Iterator[Published]:
    numbers = {"base": ((77.18, True), (77.85, False)), "large": ((79.12, False), (79.98, False))}
    examples = ('diptych data examples nlvr2/data pairs --task nlvr2 --picture-key "nlvr2_{id}-img{side}.npz"',)
    folders = "img_db/nlvr2_{}/feat_th0.2_max100_min10"
    for suffix, size in SIZES.items():
        for (short, split, num, folder), (value, confirmed) in zip(
            (("dev", "validation", 6_982, "dev"), ("test", "test", 6_967, "test")), numbers[size], strict=True
        ):
            made = _finetuned(
                size,
                f"nlvr2{suffix.replace('-', '_')}",
                "pairs",
                f"{folders.format('train')} --regions {folders.format('dev')}",
                f"runs/nlvr2{suffix}",
            )
            weights = Need(what=f"{made.what}; or the release's own, nlvr-base", commands=made.commands)
            yield Published(
                name=f"uniter/nlvr2{suffix}-{short}",
                what=f"NLVR2, {size}, {'test-P' if short == 'test' else short}",
                numbers=(Expected(score="accuracy", label="", value=value / 100, confirmed=confirmed),),
                source=SOURCE,
                task="answers",
                split=split,
                rows=num,
                weights=weights if size == "base" else made,
                data=Need(
                    what="train.json, dev.json and test1.json of NLVR2 in a folder nlvr2/data", commands=examples
                ),
                regions=Need(what=f"UNITER's regions, in place: {folders.format(folder)}"),
                tolerance=TRAINED,
                because=SEEDS,
            )


def _reasons() -> Iterator[Published]:
    numbers = {"base": (74.56, 77.03, 57.76), "large": (77.22, 80.49, 62.59)}
    scores = ("Q_to_A_accuracy", "QA_to_R_accuracy", "Q_to_AR_accuracy")
    keys = '--picture-key "vcr_gt_{split}_{stem}.npz" --picture-key "vcr_{split}_{stem}.npz"'
    folders = "img_db/vcr_gt_{0}/all --regions img_db/vcr_{0}/feat_th0.2_max100_min10"
    for suffix, size in SIZES.items():
        begun = f"uniter-{size}-vcr_2nd_stage"
        regions = " --regions ".join(folders.format(split) for split in ("train", "val"))
        yield Published(
            name=f"uniter/vcr{suffix}-val",
            what=f"VCR, {size}, validation",
            numbers=tuple(
                Expected(score=score, label=label, value=value / 100)
                for score, label, value in zip(scores, ("Q->A", "QA->R", "Q->AR"), numbers[size], strict=True)
            ),
            source=SOURCE,
            task="answers",
            split="validation",
            rows=2 * 26_534,
            weights=_finetuned(size, f"vcr{suffix.replace('-', '_')}", "reasons", regions, f"runs/vcr{suffix}", begun),
            data=Need(
                what="train.jsonl and val.jsonl of VCR in a folder vcr",
                commands=(f"diptych data examples vcr reasons --task vcr {keys}",),
            ),
            regions=Need(
                what="UNITER's regions of given and of detected boxes: below img_db/vcr_gt_val and img_db/vcr_val"
            ),
            tolerance=TRAINED,
            because=SEEDS,
            remark=(
                "the release writes objects as 81 words of its own, whose list is not published; here they are written "
                'as "person1", so that less is to be expected'
            ),
        )


def _phrases() -> Iterator[Published]:
    """RefCOCO and its sisters, each on true boxes and on those of a detector."""
    true, found = BOXES
    three = (("val", "validation"), ("testA", "testA"), ("testB", "testB"))
    two = (("val", "validation"), ("test", "test"))
    sets = {
        "refcoco": ("refcoco", "refs(unc).p", three, (10_834, 5_657, 5_095)),
        "refcoco+": ("refcoco_plus", "refs(unc).p", three, (10_758, 5_726, 4_889)),
        "refcocog": ("refcoco", "refs(umd).p", two, (4_896, 9_602)),
    }
    numbers: Mapping[tuple[str, str, str], tuple[float, ...]] = {
        ("refcoco", "base", true): (91.64, 92.26, 90.46),
        ("refcoco", "base", found): (81.24, 86.48, 73.94),
        ("refcoco", "large", true): (91.84, 92.65, 91.19),
        ("refcoco", "large", found): (81.41, 87.04, 74.17),
        ("refcoco+", "base", true): (83.66, 86.19, 78.89),
        ("refcoco+", "base", found): (75.31, 81.30, 65.58),
        ("refcoco+", "large", true): (84.25, 86.34, 79.75),
        ("refcoco+", "large", found): (75.90, 81.45, 66.70),
        ("refcocog", "base", true): (86.52, 86.52),
        ("refcocog", "base", found): (74.31, 74.51),
        ("refcocog", "large", true): (87.85, 87.73),
        ("refcocog", "large", found): (74.86, 75.77),
    }
    for (data, size, boxes), values in numbers.items():
        recipe, file, splits, sizes = sets[data]
        suffix = "-large" if size == "large" else ""
        for (short, split), value, num in zip(splits, values, sizes, strict=True):
            yield Published(
                name=f"uniter/{data}{suffix}-{short}{boxes}",
                what=f"{data.replace('refcoco', 'RefCOCO')}, {size}, {short}, {'detected' if boxes else 'true'} boxes",
                numbers=(Expected(score="accuracy", label="", value=value / 100),),
                source=SOURCE,
                task="referring",
                split=split,
                rows=num,
                weights=Need(
                    what=f"{SET_OUT.format(size=size, begun=f'uniter-{size}')}, on true boxes",
                    commands=(
                        _phrases_of(f"{data}/{file}", true),
                        _finetune(f"uniter-{size}", recipe, "phrases", BOXES[true][1], f"runs/{data}{suffix}"),
                    ),
                ),
                data=Need(
                    what=f"{file} and instances.json in a folder {data}",
                    commands=(_phrases_of(f"{data}/{file}", boxes),),
                ),
                regions=Need(
                    what=f"UNITER's regions of {'detected' if boxes else 'true'} boxes, in place: {BOXES[boxes][1]}"
                ),
                tolerance=TRAINED,
                because=SEEDS,
                remark="the release tells no settings for large; those of base are taken" if suffix else "",
            )


def _phrases_of(file: str, boxes: str) -> str:
    """The command that makes RefCOCO's table, whose pictures are known by other names where boxes are others."""
    key = f"visual_grounding_{BOXES[boxes][0]}_{{id:012d}}.npz"
    return f'diptych data examples "{file}" phrases{boxes} --task re --picture-key "{key}"'


def _pretrained(size: str) -> Need:
    return Need(
        what=f"uniter-{size}.pt, the release's pre-trained weights (its scripts/download_pretrained.sh)",
        commands=(f"diptych weights identify uniter-{size}.pt",),
    )


def _finetuned(size: str, recipe: str, data: str, regions: str, out: str, begun: str = "") -> Need:
    begun = begun or f"uniter-{size}"
    return Need(what=SET_OUT.format(size=size, begun=begun), commands=(_finetune(begun, recipe, data, regions, out),))


def _finetune(begun: str, recipe: str, data: str, regions: str, out: str) -> str:
    return f"diptych finetune {begun}.pt {recipe} --data {data} --regions {regions} --out {out}"
