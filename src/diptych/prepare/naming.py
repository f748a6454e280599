"""Open tags: a CLIP names regions from a word list of one's own, zero-shot."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from diptych.data.regions import RegionDetector, Regions, RegionSpec
from diptych.errors import UsageError


class NamedRegions:
    """Meets `RegionDetector`: the regions of another, whose classes are the words of a list.

    Each region is cut out and goes through the whole image tower, as zero-shot classification of pictures does (CLIP,
    arXiv:2103.00020, section 3.1). CLIP aligned whole pictures with texts; the cells of its map, and so features pooled
    from it, were never compared with a text. It costs a forward pass a region.
    """

    def __init__(
        self,
        detector: RegionDetector,
        encode: Callable[[Sequence[Image.Image]], Tensor],
        words: Sequence[str],
        vectors: Tensor,
        *,
        scale: float,
        hash: str,  # noqa: A002 - as `RegionSpec` calls it
        top: int = 5,
    ) -> None:
        """Names the regions of `detector`.

        Args:
            detector: whose regions they are.
            encode: crops to (R, E) normalised.
            words: C of them, each once.
            vectors: (C, E) normalised, of the words in their prompts.
            scale: what cosines are multiplied by before the softmax over the words.
            hash: of the CLIP.
            top: words kept for a region, the likeliest first.
        Raises:
            UsageError: as `check_words`.
        """
        check_words(words)
        self._detector, self._encode = detector, encode
        self._vectors, self._scale, self._top = vectors, scale, min(top, len(words))
        made_of = hashlib.sha256(f"{detector.spec.detector_hash} {hash}".encode())
        made_of.update(vectors.numpy().tobytes())
        self._spec = replace(
            detector.spec,
            detector=f"{detector.spec.detector}; named by a CLIP",
            detector_hash=made_of.hexdigest(),
            classes=tuple(words),
            attributes=(),
        )

    @property
    def spec(self) -> RegionSpec:
        """That of the other, with the words as classes."""
        return self._spec

    def detect(self, pictures: Sequence[Image.Image], given: Sequence[np.ndarray] | None = None) -> list[Regions]:
        """As `RegionDetector` has it. Probabilities are of the softmax over the words; there is no background."""
        found = self._detector.detect(pictures, given)
        return [self._named(picture, regions) for picture, regions in zip(pictures, found, strict=True)]

    def _named(self, picture: Image.Image, regions: Regions) -> Regions:
        crops = [picture.crop(whole_pixels(box, *picture.size)) for box in regions.boxes]
        probs, ids = (self._scale * self._encode(crops) @ self._vectors.mT).softmax(dim=1).topk(self._top)
        return replace(
            regions,
            class_ids=ids.to(torch.int32).numpy(),
            class_probs=probs.numpy(),
            soft_labels=None,
            attribute_ids=None,
            attribute_probs=None,
        )


def check_words(words: Sequence[str]) -> None:
    """Refuses words that regions cannot be told apart by.

    Raises:
        UsageError: a word comes twice, or there are fewer than two.
    """
    twice = sorted(word for word, times in Counter(words).items() if times > 1)
    if twice or len(words) < 2:
        found = f"{twice[0]!r} stands in it twice" if twice else f"it has {len(words)}"
        raise UsageError(f"the word list needs two or more different words; {found}")


def whole_pixels(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    """The box grown to whole pixels inside the picture, at least one each way."""
    x0, y0 = min(max(math.floor(box[0]), 0), width - 1), min(max(math.floor(box[1]), 0), height - 1)
    return x0, y0, min(max(math.ceil(box[2]), x0 + 1), width), min(max(math.ceil(box[3]), y0 + 1), height)
