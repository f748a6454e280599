"""The figures of an evaluation, for models whose answers are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from diptych.data.batch import Batch, Targets
from diptych.data.loader import LoadedBatch, evaluation_batches
from diptych.data.sample import Item, Rng, hash64
from diptych.data.table import Table
from diptych.errors import DataError, UsageError
from diptych.objectives.contrastive import Contrastive
from diptych.objectives.objective import Dual, Encode, Loss, OwnRow
from diptych.train.evaluation import evaluate
from diptych.train.parallel import Parallel
from diptych.train.step import Step

CPU = torch.device("cpu")


class Oracle(nn.Module):
    """Gives row i of all rows the i-th unit vector, or everything the same one."""

    def __init__(self, num: int, *, collapsed: bool = False) -> None:
        super().__init__()
        self.heads = nn.ModuleDict()
        self.vectors = torch.ones(num, num) if collapsed else torch.eye(num)

    def forward(self, batch: Batch) -> Dual:
        rows = torch.tensor([int(key) for key in batch.keys])
        vectors = self.vectors[rows]
        return Dual(image=vectors, text=vectors, scale=torch.tensor(50.0), group=batch.group)


def batches(sizes: Sequence[int], group: Tensor | None = None) -> list[LoadedBatch]:
    made, start = [], 0
    groups = torch.arange(sum(sizes)) if group is None else group
    for step, size in enumerate(sizes):
        keys = tuple(str(row) for row in range(start, start + size))
        batch = Batch(keys=keys, group=groups[start : start + size])
        made.append(LoadedBatch(step=step, epoch=0, batch=batch, targets={}, rejects=()))
        start += size
    return made


def test_a_model_that_knows_all_finds_all() -> None:
    found = evaluate(Parallel(Step(Oracle(11), Contrastive())), batches([4, 4, 3]), device=CPU)
    assert found.rows == 11
    assert found.metrics["text_to_image_r1"] == found.metrics["image_to_text_r1"] == 1.0
    assert found.metrics["text_to_image_median_rank"] == 1
    assert found.loss == pytest.approx(0, abs=1e-6) and found.score("recall") == 1.0


def test_a_collapsed_model_finds_nothing_and_its_loss_is_chance() -> None:
    found = evaluate(Parallel(Step(Oracle(11, collapsed=True), Contrastive())), batches([4, 4, 3]), device=CPU)
    assert found.metrics["text_to_image_r1"] == 0.0  # a tie counts against the model
    assert found.loss == pytest.approx(math.log(4), abs=1e-5)  # the last three rows would have said log 3
    assert found.score("loss") == -found.loss


def test_evaluating_without_rows_says_so() -> None:
    with pytest.raises(DataError, match="no rows; expected at least one"):
        evaluate(Parallel(Step(Oracle(3), Contrastive())), [], device=CPU)


def test_rows_of_one_group_are_right_for_each_other() -> None:
    model = Oracle(4)
    model.vectors = model.vectors[[1, 0, 2, 3]]
    swapped = Parallel(Step(model, Contrastive()))
    texts_find_each_other = batches([4], group=torch.tensor([5, 5, 6, 7]))
    assert evaluate(swapped, texts_find_each_other, device=CPU).metrics["text_to_image_r1"] == 1.0


@pytest.mark.parametrize("micro_batch", [None, 1, 2, 9])
def test_the_micro_batch_changes_no_figure(small_room: ModuleType, small_table: Table, micro_batch: int | None) -> None:
    parallel = Parallel(Step(small_room.SmallRoom(small_room.SmallConfig()), Contrastive()))
    loaded = list(evaluation_batches(small_table.split("validation"), small_room.SmallInputs(), batch=4, workers=0))
    whole = evaluate(parallel, loaded, device=CPU)
    parts = evaluate(parallel, loaded, device=CPU, micro_batch=micro_batch)
    assert parts.metrics == whole.metrics and parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert parallel.step.training


def test_an_evaluation_moves_neither_weights_nor_statistics(small_room: ModuleType, small_table: Table) -> None:
    model = small_room.SmallRoom(small_room.SmallConfig(batch_norm=True))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loaded = evaluation_batches(small_table.split("validation"), small_room.SmallInputs(), batch=4, workers=0)
    evaluate(Parallel(Step(model, Contrastive())), loaded, device=CPU)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@dataclass(frozen=True)
class RowNumbers(OwnRow):
    """An objective without towers: its loss is the mean row number."""

    couples_rows: bool = False

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        numbers = torch.tensor([float(key) for key in batch.keys])
        return Loss.term("rows", total=numbers.sum(), count=len(batch))


def test_without_towers_there_is_a_loss_over_every_row_and_no_recall() -> None:
    found = evaluate(Parallel(Step(Oracle(7), RowNumbers())), batches([4, 3]), device=CPU)  # type: ignore[arg-type]
    assert found.loss == pytest.approx(3.0) and found.metrics == {}
    with pytest.raises(UsageError, match=r"training\.eval_metric"):
        found.score("recall")


@dataclass(frozen=True)
class Drawn(RowNumbers):
    """Its targets are the letters of the row and a chance draw; the partner is the row after."""

    name: str = "drawn"

    def partners(self, seed: int, epoch: int, row: int, num_others: int) -> tuple[int, ...]:
        return (0,)

    def draw(self, item: Item, partners: Sequence[Item], rng: Rng) -> tuple[Item, Targets]:
        assert item.text_ids is not None
        drawn = torch.tensor([hash64(partners[0].key) % 997, int(1e6 * rng.random())])
        return item, {"letters": item.text_ids, "drawn": drawn}


def test_targets_of_an_evaluation_are_drawn_and_the_same_every_time(small_room: ModuleType, small_table: Table) -> None:
    rows, inputs = small_table.split("validation"), small_room.SmallInputs()
    first, again = (list(evaluation_batches(rows, inputs, batch=4, draw=Drawn(), workers=0)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(one.targets[name], other.targets[name]) for name in ("letters", "drawn"))
    assert first[0].targets["letters"].shape[0] == 4 and first[2].targets["drawn"].shape == (1, 2)
    partners = torch.cat([one.targets["drawn"][:, 0] for one in first]).tolist()
    assert partners == [hash64(f"validation{(row + 1) % 9}") % 997 for row in range(9)]
