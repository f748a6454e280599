"""A text and the regions of a picture, as UNITER reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diptych.data.batch import Batch, RegionPart, TextPart, join_regions, pad
from diptych.data.examples import ANSWERS, BOX, OPTIONS, RIGHT, answer_names, answer_scores
from diptych.data.region_checks import COMMAND
from diptych.data.region_join import num_classes_of, spec_of
from diptych.data.regions import Regions
from diptych.data.sample import Item, ItemRegions, Rng, Sample, hash64
from diptych.data.swapped import swapped_of
from diptych.data.table import Rows
from diptych.data.text_kinds import chosen_place, columns_of
from diptych.data.tokenizers import Tokenizer
from diptych.errors import DataError
from diptych.train.run import InputSettings
from diptych.uniter.model import REGION_TYPE, UniterConfig

COLUMN = "regions"


@dataclass(frozen=True)
class UniterInputs:
    """Sample to Item to Batch."""

    config: UniterConfig
    settings: InputSettings
    tokenizer: Tokenizer

    @property
    def columns(self) -> tuple[str, ...]:
        """Regions, and what texts are, where that is asked; what else an item is made of, the objective says."""
        return (COLUMN, *columns_of(self.settings.text_kinds))

    def item(self, sample: Sample, rng: Rng | None) -> Item:
        """One text of the sample tokenized, and its picture's regions; see `Inputs`.

        Of options (VCR) a sequence each, and of several pictures (NLVR2) one for each picture.
        """
        if not sample.texts:
            raise DataError(f"{sample.key} has no text; UNITER reads pairs")
        longest = self.config.positions if rng is None else self.config.context
        found, box = sample.fields.get(COLUMN), sample.fields.get(BOX)
        pictures = [self.regions(sample.key, one) for one in (found if isinstance(found, tuple) else (found,))]
        item = Item(
            key=sample.key,
            group=hash64(sample.group),
            word_ids=self.tokenizer.word_ids,
            answers=self._answers(sample),
            right=sample.fields.get(RIGHT),
            box=None if box is None else torch.tensor(box),
        )
        if OPTIONS in sample.fields:
            num = len(sample.fields[OPTIONS])
            if item.right is not None and not 0 <= item.right < num:
                raise DataError(f"{item.key}: the right option is {item.right}; expected 0 to {num - 1}, or null")
            item = replace(item, regions=join_regions(pictures))
            return replace(item, sequences=self._options(item, sample, longest), regions=None)
        place = chosen_place(sample, rng, self.settings.text_kinds)
        item = replace(
            item,
            text_ids=self._whole_text(sample.key, sample.texts[place], longest),
            wrong_texts=tuple(self._whole_text(sample.key, text, longest) for text in swapped_of(sample, place)),
        )
        if len(pictures) == 1:
            return replace(item, regions=pictures[0])
        several = (replace(item, regions=self._of_place(place, one)) for place, one in enumerate(pictures))
        return replace(item, sequences=tuple(several), text_ids=None)

    def _options(self, item: Item, sample: Sample, longest: int) -> tuple[Item, ...]:
        """The item with each option behind what stands before them all."""
        sequences = []
        for option in sample.fields[OPTIONS]:
            parts = [self._whole_text(item.key, part, longest) for part in (*sample.texts, option)]
            ids, types = one_text(parts)
            if len(ids) > longest:
                raise DataError(f"{item.key}: question and option have {len(ids)} tokens; at most {longest} are read")
            sequences.append(replace(item, text_ids=ids, text_types=types))
        return tuple(sequences)

    def _of_place(self, place: int, regions: ItemRegions) -> ItemRegions:
        """Regions of one of several pictures, of a type of their own where the model tells them apart."""
        if REGION_TYPE + place >= self.config.types:
            return regions
        return replace(regions, types=torch.full((len(regions),), REGION_TYPE + place))

    def _answers(self, sample: Sample) -> Tensor | None:
        """(A,) what each answer is worth."""
        worth = answer_scores(sample.fields.get(ANSWERS), self.config.answers)
        return None if worth is None else torch.tensor(worth)

    def _whole_text(self, key: str, text: str, longest: int) -> Tensor:
        """(T,) with start and end. In training, longer texts than the context are left out, as in the release.

        Raises:
            DataError: it is longer.
        """
        ids = self.text_ids(text, longest + 1)
        if len(ids) > longest:
            raise DataError(f"{key}: a text of more than {longest} tokens, the most that are read; shorten it")
        return ids

    def text_ids(self, text: str, most: int | None = None) -> Tensor:
        """(T,) int64 with start and end, cut to `most` tokens, by default to the context."""
        return torch.tensor(self.tokenizer.encode(text, self.config.context if most is None else most))

    def regions(self, key: str, found: Regions | None) -> ItemRegions:
        """A picture's regions, the likeliest first, as the network reads them.

        Raises:
            DataError: there are none, or they are of another detector.
        """
        if found is None or len(found) == 0:
            raise DataError(f"{key} has no regions; make them with {COMMAND}, and join the store to the table")
        if found.features.shape[1] != self.config.feature_width:
            raise DataError(
                f"{key} has region features of {found.features.shape[1]} numbers; this model reads "
                f"{self.config.feature_width}: use regions of the detector that it was trained with"
            )
        num_labels = None if found.soft_labels is None else found.soft_labels.shape[1]
        if num_labels not in (None, 1 + self.config.num_classes):
            raise DataError(
                f"{key} has soft labels of {num_labels} classes, background among them; this model knows "
                f"{1 + self.config.num_classes}: use regions of the detector that it was trained with"
            )
        most = self.config.max_regions
        boxes, soft = _tensor(found.boxes[:most]).float(), found.soft_labels
        return ItemRegions(
            features=_tensor(found.features[:most]),
            boxes=boxes,
            box_features=box_features(boxes),
            soft_labels=None if soft is None else _tensor(soft[:most]),
        )

    def check_rows(self, rows: Rows, tell: Callable[[str], None]) -> None:
        """Sees that rows come with regions of the detector that the model was trained with; tells what is not known.

        Raises:
            DataError: they come without regions, or with those of another.
        """
        found = _as_trained_with(self.config, rows)
        if found.feature_width != self.config.feature_width:
            raise DataError(
                f"the regions are of {found.detector}, {found.feature_width} numbers each, and the model reads "
                f"{self.config.feature_width}; use regions of the detector that it was trained with"
            )
        self.config.check_regions(found)
        if doubts := self.config.doubts(found):
            tell(doubts)

    def num_tokens(self, sample: Sample) -> int:
        """Of the longest text that is read, with start and end, and of the regions; of sequences as when padded."""
        if OPTIONS in sample.fields or isinstance(sample.fields.get(COLUMN), tuple):
            sequences = self.item(sample, None).sequences
            return len(sequences) * max(_num_tokens(one) for one in sequences)
        context = self.config.context
        lengths = [len(self.text_ids(text, context + 1)) for text in sample.texts]
        regions = len(self.regions(sample.key, sample.fields.get(COLUMN)).features)
        return max((length for length in lengths if length <= context), default=0) + regions

    def collate(self, items: Sequence[Item]) -> Batch:
        """Pads texts and regions to the longest of the batch; texts alone or regions alone make a batch of one part.

        Raises:
            DataError: rows have more or fewer options than others.
        """
        counts = {len(item.sequences) or 1 for item in items}
        if len(counts) > 1:
            first, num = items[0].key, len(items[0].sequences)
            other = next(item for item in items if len(item.sequences) != num)
            raise DataError(
                f"{first} has {num} options and {other.key} {len(other.sequences)}; expected as many in every row"
            )
        read = [one for item in items for one in (item.sequences or (item,))]
        texts = [item.text_ids for item in read if item.text_ids is not None]
        regions = [item.regions for item in read if item.regions is not None]
        assert len(texts) in (0, len(read)) and len(regions) in (0, len(read)), "items of one batch have equal parts"
        return Batch(
            keys=tuple(item.key for item in items),
            group=torch.tensor([item.group for item in items]),
            sequences=counts.pop(),
            text=_text_part(read, self.tokenizer.pad_id) if texts else None,
            regions=_region_part(regions) if regions else None,
        )

    def save(self, folder: Path) -> None:
        """Writes the tokenizer to `folder`/tokenizer."""
        self.tokenizer.save(folder / "tokenizer")


def box_features(boxes: Tensor) -> Tensor:
    """(R, 4) corners as shares of the picture to the seven numbers of each: corners, width, height, area.

    UNITER, arXiv:1909.11740, section 3.1. Differs: width and height are those of the corners; the released files hold
    them rounded on their own, within 0.001.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    return torch.cat([boxes, sides, sides.prod(dim=1, keepdim=True)], dim=1)


def one_text(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Parts of a text, each with start and end, as one text; the type of each token.

    As UNITER's release reads VCR: the first part is of type 0 without its end, and each other, with the end before it,
    of one of its own, from 2.

    Args:
        parts: (T_i,) ids.
    Returns:
        (T,) and (T,), T the sum of the parts without the starts of all but the first.
    """
    first, end = parts[0][:-1], parts[0][-1:]
    blocks = [first, *(torch.cat([end, part[1:-1]]) for part in parts[1:]), end]
    kinds = [0, *range(2, len(parts) + 1), len(parts)]
    types = [torch.full_like(block, kind) for block, kind in zip(blocks, kinds, strict=True)]
    return torch.cat(blocks), torch.cat(types)


def _num_tokens(item: Item) -> int:
    assert item.text_ids is not None and item.regions is not None
    return len(item.text_ids) + len(item.regions)


def _tensor(array: np.ndarray) -> Tensor:
    """With memory of its own: arrays of a store are views of a file, which torch may not write to."""
    return torch.from_numpy(np.array(array))


def _text_part(items: Sequence[Item], pad_id: int) -> TextPart:
    ids, mask = pad([item.text_ids for item in items if item.text_ids is not None], value=pad_id)
    types = [item.text_types for item in items if item.text_types is not None]
    return TextPart(ids=ids, mask=mask, types=pad(types, value=0)[0] if types else None)


def _region_part(regions: Sequence[ItemRegions]) -> RegionPart:
    features, mask = pad([one.features for one in regions], value=0)
    types = [one.types for one in regions if one.types is not None]
    hidden = [one.hidden for one in regions if one.hidden is not None]
    return RegionPart(
        features=features,
        boxes=pad([one.boxes for one in regions], value=0)[0],
        box_features=pad([one.box_features for one in regions], value=0)[0],
        mask=mask,
        types=pad(types, value=0)[0] if types else None,
        hidden=pad(hidden, value=False)[0] if hidden else None,
    )


def with_regions(config: UniterConfig, rows: Rows, tell: Callable[[str], None]) -> UniterConfig:
    """The config with the width, classes and detector of the regions joined to a table, and its answers if any.

    Raises:
        DataError: no regions are joined, or they are not of the detector that the config names.
    """
    found = _as_trained_with(config, rows)
    tell(f"Regions of {found.detector}, {found.feature_width} numbers each.")
    config.check_regions(found)
    if not found.detector_hash:
        tell("Note: which weights made these regions is not known; nothing will tell them from another detector's.")
    return replace(
        found,
        answers=config.answers or answer_names(rows),
        detector_hash=found.detector_hash or config.detector_hash,
    )


def _as_trained_with(config: UniterConfig, rows: Rows) -> UniterConfig:
    """The config of a model that was trained with the regions of these rows.

    Raises:
        DataError: there are none.
    """
    spec = spec_of(rows)
    if spec is None:
        raise DataError(
            f"{rows.path} has no regions beside it; make them of the table of its pictures with {COMMAND}, and name "
            "the store with --regions"
        )
    return replace(
        config,
        feature_width=spec.feature_width,
        num_classes=num_classes_of(rows) or config.num_classes,
        detector=spec.detector,
        detector_hash=spec.detector_hash,
        feature_kind=spec.feature_kind,
        box_kind=spec.box_kind,
    )
