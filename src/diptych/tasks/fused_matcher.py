"""A trained model of one stream for people: whether a text and regions belong together, and what they answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from diptych.data.batch import Batch
from diptych.data.region_checks import COMMAND
from diptych.data.sample import Item, ItemRegions, Sample
from diptych.data.table import Rows
from diptych.errors import DataError, UsageError
from diptych.nn.rest import at_rest
from diptych.objectives.answering import HEADS, answer_logits
from diptych.objectives.choosing import option_logits
from diptych.objectives.objective import single
from diptych.objectives.ranking import HEAD as RANK
from diptych.objectives.referring import region_scores
from diptych.objectives.transport import cosine_cost, transport_plan
from diptych.objectives.two_pictures import FORMS, Form, formed, head_of, truth_logits
from diptych.progress import SILENT, Bar, Progress
from diptych.tasks.matcher import HEAD, REGIONS, Alignment, FusedInputs, FusedModel
from diptych.tasks.pairing import Block, blocks, fused_pairs


class FusedMatcher:
    """A model that knows its tokenizer, and reads the regions that are joined to a table.

    The model is moved to `device` once, and left in the mode it was found in after every call.
    """

    def __init__(self, model: FusedModel, inputs: FusedInputs, device: torch.device, name: str) -> None:
        self.model = model
        self.inputs = inputs
        self.device = device
        self.name = name
        model.to(device)

    def check_rows(self, rows: Rows, tell: Callable[[str], None]) -> None:
        """Sees that rows come with regions that the model can read, before any of them is read.

        Args:
            rows: to be asked about.
            tell: hears what is not known of their regions.
        Raises:
            DataError: they come without regions, or with those of another detector.
        """
        self.inputs.check_rows(rows, tell)

    def fingerprint(self) -> str:
        """SHA-256 of weights, settings and vocabulary."""
        tokenizer = self.inputs.tokenizer
        digest = hashlib.sha256(f"{self.inputs.config} {tokenizer} {tokenizer.rust.to_str()}".encode())
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode() + tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def match(
        self,
        samples: Sequence[Sample],
        texts: Sequence[str],
        pairs: Sequence[tuple[int, int]],
        progress: Progress = SILENT,
        *,
        batch: int = 64,
    ) -> Tensor:
        """How much each pair belongs together: the log-odds of a match, as the head for it says.

        Texts and pictures are embedded once for all pairs that stand near each other; memory does not grow with them.

        Args:
            samples: of a table that regions are joined to, asked for with the column "regions".
            texts: too long ones are cut to the context.
            pairs: places of a sample and a text.
            progress: where it is drawn.
            batch: pairs that go through the model at once.
        Returns:
            (P,) float32 on the CPU.
        Raises:
            UsageError: the model was never trained to tell matches.
            DataError: a sample has no regions, or they are of another detector.
        """
        self._check_head()
        ids = {text: self.inputs.text_ids(text) for text in dict.fromkeys(texts)}  # questions repeat theirs
        named = ((sample, texts[text]) for sample, text in pairs)
        odds = [torch.empty(0)]
        with progress.bar("matching", total=len(pairs), unit="pairs") as bar, at_rest(self.model):
            for block in blocks(named, lambda sample: self._regions(samples[sample]), ids.__getitem__):
                odds.append(self._odds_of(block, bar, batch))
        return torch.cat(odds)

    def _odds_of(self, block: Block, bar: Bar, batch: int) -> Tensor:
        """(P,) of a block's pairs, on the CPU."""
        odds = torch.empty(len(block.pairs), device=self.device)
        for places, pooled in fused_pairs(self.model, self.inputs, block, self.device, batch):
            odds[places] = self._odds(pooled)
            bar.advance(len(places))
        return odds.cpu()

    @property
    def answers(self) -> tuple[str, ...]:
        """That the model chooses among; () where it has no head for them, or knows none by name."""
        return self.inputs.config.answers if self._answer_head() not in (None, "vcr") else ()

    @property
    def reads_options(self) -> bool:
        """Whether it chooses among the options of each row."""
        return self._answer_head() == "vcr"

    def answer(self, samples: Sequence[Sample], *, batch: int = 64) -> Tensor:
        """How much each answer, or each of a row's options, is right: the log-odds that the head for it gives.

        Args:
            samples: of a table of examples, asked for with the column "regions", and "options" where it has such.
            batch: rows that go through the model at once.
        Returns:
            (N, A) float32 on the CPU.
        Raises:
            UsageError: the model was never trained to answer, or nobody named its answers.
            DataError: a sample has no regions, or they are of another detector; or it is longer than the model reads.
        """
        head = self._answer_head()
        if head is None:
            raise self._untrained("answers")
        if head != "vcr" and not self.answers:
            raise UsageError(f"nobody named the answers of {self.name}; convert it with a config that has `answers`")
        rows = [_asked_by(head, self.inputs.item(sample, None)) for sample in samples]
        if head == "vcr" and len(numbers := {len(row.sequences) for row in rows}) > 1:
            raise DataError(f"rows have {min(numbers)} and {max(numbers)} options; expected as many in every row")
        return torch.stack(self._asked(rows, lambda batch: list(self._logits(head, batch).cpu()), batch))

    def point(self, samples: Sequence[Sample], *, batch: int = 64) -> list[Tensor]:
        """How much each region of a picture is what the first text of each sample means.

        Args:
            samples: asked for with the column "regions".
            batch: as in `answer`.
        Returns:
            N times (R,) float32 on the CPU.
        Raises:
            UsageError: the model was never trained to.
            DataError: as in `answer`.
        """
        if "re" not in self.model.heads:
            raise self._untrained("referring expressions")

        def scores(batch: Batch) -> list[Tensor]:
            assert batch.regions is not None
            found = region_scores(self.model, batch).cpu()
            return [one[mask] for one, mask in zip(found, batch.regions.mask.cpu(), strict=True)]

        return self._asked([single(self.inputs.item(sample, None)) for sample in samples], scores, batch)

    def _logits(self, head: str, batch: Batch) -> Tensor:
        match head:
            case "vcr":
                return option_logits(self.model, batch)[..., 1]
            case "vqa" | "ve":
                return answer_logits(self.model, batch, head)
            case _:
                return truth_logits(self.model, batch, _form_of(head))

    def _asked(self, rows: Sequence[Item], told: Callable[[Batch], list[Tensor]], batch: int) -> list[Tensor]:
        """What is told of each row, on the CPU."""
        order = sorted(range(len(rows)), key=lambda place: _length(rows[place]))  # of like length together: no padding
        found: dict[int, Tensor] = {}
        with at_rest(self.model):
            for start in range(0, len(order), batch):
                places = order[start : start + batch]
                read = self.inputs.collate([rows[place] for place in places]).to(self.device)
                found |= zip(places, told(read), strict=True)
        return [found[place] for place in range(len(rows))]

    def align(self, sample: Sample, text: str) -> Alignment:
        """The transport plan between the words of a text and a picture's regions, and how they attend to each other.

        UNITER, arXiv:1909.11740, section 3.2: word-region alignment; start and end take part in the plan, and are left
        out here. Of a model that was not trained to align the plan says little.

        Raises:
            UsageError: the model was never trained to tell matches.
            DataError: as in `match`.
        """
        self._check_head()
        ids = self.inputs.text_ids(text)
        pair = Item(key="", group=0, text_ids=ids, regions=self._regions(sample))
        batch = self.inputs.collate([pair]).to(self.device)
        with at_rest(self.model):
            parts = self.model.embed(batch)
            fused = self.model.fuse(parts)
            cost = cosine_cost(fused.text, fused.regions, fused.text_mask, fused.region_mask)
            plan = transport_plan(cost, fused.text_mask, fused.region_mask)[0].cpu()  # (T, R)
            odds = self._odds(fused.pooled)
            attention = self.model.attention(parts)[:, 0].mean(dim=1).cpu()  # (layers, L, L)
        words, shares = self.inputs.tokenizer.pieces(ids.tolist()), plan / plan.sum(dim=1, keepdim=True)
        end = len(ids)  # where regions begin
        return Alignment(
            words=tuple(words[1:-1]),
            shares=shares[1:-1].clone(),
            odds=float(odds),
            attention=attention[:, 1 : end - 1, end:],
            attention_back=attention[:, end:, 1 : end - 1].mT,
        )

    def _check_head(self) -> None:
        if not {HEAD, RANK} & set(self.model.heads):
            raise UsageError(
                f"{self.name} has no head for image-text matching, only {', '.join(self.model.heads) or 'none at all'}"
                "; train it with a share of that task (objective.share.itm)"
            )

    def _answer_head(self) -> str | None:
        names = (*HEADS, "vcr", *map(head_of, FORMS))
        return next((name for name in names if name in self.model.heads), None)

    def _untrained(self, task: str) -> UsageError:
        return UsageError(
            f"{self.name} has no head for {task}, only {', '.join(self.model.heads) or 'none at all'}; train it: "
            f"diptych finetune {self.name} RECIPE --data EXAMPLES --regions REGIONS --out RUN"
        )

    def _odds(self, pooled: Tensor) -> Tensor:
        """(B,) of a match: by the head that was trained to rank, where there is one."""
        if RANK in self.model.heads:
            scores: Tensor = self.model.heads[RANK](pooled)
            return scores.float()[:, 0]
        logits = self.model.heads[HEAD](pooled).float()  # (B, 2), the second for a match
        return logits[:, 1] - logits[:, 0]

    def _regions(self, sample: Sample) -> ItemRegions:
        if REGIONS not in sample.fields:
            raise DataError(
                f"{sample.key} comes without regions; make them with {COMMAND}, and join the store to the table"
            )
        return self.inputs.regions(sample.key, sample.fields[REGIONS])


def _length(row: Item) -> int:
    """Tokens of a row's longest sequence."""
    return max(
        len(one.text_ids) + len(one.regions)
        for one in (row.sequences or (row,))
        if one.text_ids is not None and one.regions is not None
    )


def _asked_by(head: str, row: Item) -> Item:
    """The row as a head for answers reads it.

    Raises:
        DataError: it is a row of another task.
    """
    match head:
        case "vqa" | "ve":
            return single(row)
        case "vcr":
            return row
        case _:
            return formed(row, _form_of(head))


def _form_of(head: str) -> Form:
    return next(form for form in FORMS if head_of(form) == head)
