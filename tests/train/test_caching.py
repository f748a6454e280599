"""Micro-batches change no gradient, whether the rows see each other or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from diptych.data.batch import Batch, ImagePart, Targets, TextPart
from diptych.objectives.contrastive import Contrastive, contrastive_loss
from diptych.objectives.objective import Encode, Loss
from diptych.objectives.sigmoid import Sigmoid
from diptych.train.caching import accumulate_gradients, joined, same_buffers
from diptych.train.parallel import Parallel
from diptych.train.step import Step, reseed

B, T = 7, 5
ROUNDING = {"rtol": 1e-5, "atol": 5e-6}
"""Sums of float32 in another order: of gradients up to 2, by rows whose own may be ten times as large."""


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([2, 5, 3, 1, 4, 2, 5])
    return Batch(
        keys=tuple("abcdefg"),
        group=torch.tensor([0, 1, 2, 0, 4, 5, 6]),
        text=TextPart(ids=torch.randint(97, 122, (B, T), generator=generator), mask=torch.arange(T) < lengths[:, None]),
        image=ImagePart(pixels=torch.randint(0, 256, (B, 3, 4, 4), generator=generator, dtype=torch.uint8)),
    )


@pytest.fixture
def batch() -> Batch:
    return a_batch()


def seeds(number: int) -> None:
    reseed(0, 4, 0, number)


def gradients(
    small_room: ModuleType, objective: Any, batch: Batch, targets: Targets, micro_batch: int | None, **config: Any
) -> tuple[Loss, dict[str, Tensor], nn.Module]:
    model = small_room.SmallRoom(small_room.SmallConfig(**config))
    if isinstance(objective, Sigmoid):
        model.heads.update(objective.heads(None))
    parallel = Parallel(Step(model, objective).train())
    loss = accumulate_gradients(parallel, batch, targets, micro_batch=micro_batch, reseed=seeds)
    return loss, {name: one.grad for name, one in model.named_parameters()}, model


COUPLED = (Contrastive(), Contrastive(known_pairs=True), Sigmoid(bias=-2.0), Sigmoid(bias=-2.0, known_pairs=True))


@pytest.mark.parametrize("objective", COUPLED, ids=str)
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 6, 7, 9])
def test_contrast_in_parts_equals_the_whole(
    small_room: ModuleType, batch: Batch, micro_batch: int, objective: Any
) -> None:
    loss, grads, _ = gradients(small_room, objective, batch, {}, micro_batch, dropout=0.0)
    whole_loss, whole_grads, _ = gradients(small_room, objective, batch, {}, None, dropout=0.0)
    assert_close(loss.total(), whole_loss.total(), rtol=0, atol=1e-5)
    assert all(grads[name] is not None for name in grads if name in ("logit_scale", "heads.sigmoid.bias"))
    assert_close(grads, whole_grads, **ROUNDING)


def test_with_dropout_it_equals_the_same_parts_with_their_graphs_kept(small_room: ModuleType, batch: Batch) -> None:
    _, grads, _ = gradients(small_room, Contrastive(), batch, {}, 3, dropout=0.4)
    model = small_room.SmallRoom(small_room.SmallConfig(dropout=0.4)).train()
    duals = []
    for number, (start, stop) in enumerate(((0, 2), (2, 4), (4, 7))):  # 7 rows in parts of at most 3
        seeds(number)
        duals.append(model(batch.rows(start, stop)))
    dual = joined(duals)
    loss = contrastive_loss(F.normalize(dual.image, dim=-1), F.normalize(dual.text, dim=-1), dual.scale)
    loss.divided({"contrastive": B}).backward()
    assert_close(grads, {name: one.grad for name, one in model.named_parameters()}, **ROUNDING)


def test_two_passes_count_once_in_batch_norm(small_room: ModuleType, batch: Batch) -> None:
    _, _, model = gradients(small_room, Contrastive(), batch, {}, 4, dropout=0.0, batch_norm=True)
    once = small_room.SmallRoom(small_room.SmallConfig(dropout=0.0, batch_norm=True)).train()
    for start, stop in ((0, 3), (3, 7)):
        once(batch.rows(start, stop))
    assert_close(dict(model.named_buffers()), dict(once.named_buffers()))


def test_buffers_are_put_back_after_an_error_too() -> None:
    norm = nn.BatchNorm1d(3)
    with pytest.raises(MemoryError), same_buffers(norm):
        norm(torch.arange(6.0).reshape(2, 3))
        raise MemoryError
    assert norm.running_mean.tolist() == [0, 0, 0] and norm.num_batches_tracked == 0


@dataclass(frozen=True, kw_only=True)
class WordsSeen:
    """Rows do not see each other, and each has its own count, as masked words have."""

    name: str = "words"
    couples_rows: bool = False

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        return {"words": int(targets["num"].sum())}

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        dual = encode(batch)
        return Loss.term(
            "words", total=(dual.text.square().sum(1) * targets["num"]).sum(), count=int(targets["num"].sum())
        )


@pytest.mark.parametrize("micro_batch", [1, 2, 5])
def test_parts_of_unequal_counts_are_weighted_by_them(small_room: ModuleType, batch: Batch, micro_batch: int) -> None:
    targets = {"num": torch.tensor([0, 3, 1, 0, 0, 7, 2])}
    loss, grads, _ = gradients(small_room, WordsSeen(), batch, targets, micro_batch, dropout=0.0)
    whole_loss, whole_grads, _ = gradients(small_room, WordsSeen(), batch, targets, None, dropout=0.0)
    assert loss.terms["words"].count == whole_loss.terms["words"].count == 13
    assert_close(loss.means(), whole_loss.means())
    assert_close(grads, whole_grads, **ROUNDING)


@dataclass(frozen=True, kw_only=True)
class Mirrored(Contrastive):
    """Asks for two encodings of a batch, the second with its pictures mirrored."""

    def loss(self, encode: Encode, batch: Batch, targets: Targets) -> Loss:
        assert batch.image is not None
        mirrored = Batch(
            keys=batch.keys, group=batch.group, text=batch.text, image=ImagePart(pixels=batch.image.pixels.flip(-1))
        )
        first, second = super().loss(encode, batch, targets), super().loss(encode, mirrored, targets)
        return first + Loss({"mirrored": second.terms["contrastive"]})

    def counts(self, batch: Batch, targets: Targets) -> dict[str, int]:
        return {"contrastive": len(batch), "mirrored": len(batch)}


def test_an_objective_may_encode_more_than_once(small_room: ModuleType, batch: Batch) -> None:
    _, grads, _ = gradients(small_room, Mirrored(), batch, {}, 3, dropout=0.0)
    _, whole_grads, _ = gradients(small_room, Mirrored(), batch, {}, None, dropout=0.0)
    assert_close(grads, whole_grads, **ROUNDING)


def test_a_frozen_tower_gets_no_gradient_and_stops_nothing(small_room: ModuleType, batch: Batch) -> None:
    model = small_room.SmallRoom(small_room.SmallConfig(dropout=0.0))
    for frozen in (model.image.weight, model.image.bias, model.logit_scale):
        frozen.requires_grad_(False)
    accumulate_gradients(Parallel(Step(model, Contrastive())), batch, {}, micro_batch=3, reseed=seeds)
    assert model.image.weight.grad is None and model.logit_scale.grad is None
    assert float(model.word.weight.grad.abs().sum()) > 0


def test_a_scaled_loss_scales_the_gradient_once(small_room: ModuleType, batch: Batch) -> None:
    def grad(scaled: Callable[[Tensor], Tensor]) -> Tensor:
        model = small_room.SmallRoom(small_room.SmallConfig(dropout=0.0))
        parallel = Parallel(Step(model, Contrastive()))
        accumulate_gradients(parallel, batch, {}, micro_batch=3, reseed=seeds, scaled=scaled)
        return torch.cat([one.grad.flatten() for one in model.parameters()])

    assert_close(grad(lambda loss: 8 * loss), 8 * grad(lambda loss: loss))


class RecordingEncode:
    """The step's `encode`, which writes down what dropout drew and on how many rows."""

    def __init__(self, encode: Encode, log: list[tuple[int, Tensor]]) -> None:
        self._encode, self._log = encode, log

    @property
    def heads(self) -> nn.ModuleDict:
        return self._encode.heads

    def __call__(self, batch: Batch) -> Any:
        state = torch.get_rng_state()
        self._log.append((len(batch), torch.rand(3)))
        torch.set_rng_state(state)
        return self._encode(batch)


@pytest.mark.parametrize("micro_batch", [2, 3, 4])
def test_the_second_pass_draws_what_the_first_drew(
    small_room: ModuleType, batch: Batch, micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over two calls of an objective, and with parts of unequal sizes."""
    step = Step(small_room.SmallRoom(small_room.SmallConfig(dropout=0.4)), Mirrored()).train()
    log: list[tuple[int, Tensor]] = []
    monkeypatch.setattr(step, "encode", RecordingEncode(step.encode, log))
    accumulate_gradients(Parallel(step), batch, {}, micro_batch=micro_batch, reseed=seeds)
    first, second = log[: len(log) // 2], log[len(log) // 2 :]
    sizes = {2: [1, 2, 2, 2], 3: [2, 2, 3], 4: [3, 4]}[micro_batch] * 2
    assert [rows for rows, _ in first] == [rows for rows, _ in second] == sizes
    assert_close([drawn for _, drawn in second], [drawn for _, drawn in first], rtol=0, atol=0)
    assert len({tuple(drawn.tolist()) for _, drawn in first}) == len(first)  # and no two parts draw the same


@pytest.mark.parametrize("micro_batch", [1, 3, 7])
def test_the_temperature_gets_its_gradient_once(small_room: ModuleType, batch: Batch, micro_batch: int) -> None:
    """By hand: d loss / d log scale = scale · d loss / d scale, from the vectors alone."""
    _, grads, model = gradients(small_room, Contrastive(), batch, {}, micro_batch, dropout=0.0)
    with torch.no_grad():
        dual = model(batch)
    scale = dual.scale.clone().requires_grad_()
    loss = contrastive_loss(F.normalize(dual.image, dim=-1), F.normalize(dual.text, dim=-1), scale)
    loss.divided({"contrastive": B}).backward()
    assert scale.grad is not None
    assert_close(grads["logit_scale"], scale.detach() * scale.grad, rtol=1e-5, atol=0)


@settings(max_examples=25)
@given(micro_batch=st.integers(1, 9), rows=st.integers(2, B), calls=st.sampled_from([Contrastive(), Mirrored()]))
def test_any_split_of_any_batch_has_the_gradient_of_the_whole(
    small_room: ModuleType, micro_batch: int, rows: int, calls: Any
) -> None:
    part = a_batch().rows(0, rows)
    _, grads, _ = gradients(small_room, calls, part, {}, micro_batch, dropout=0.0)
    _, whole_grads, _ = gradients(small_room, calls, part, {}, None, dropout=0.0)
    assert_close(grads, whole_grads, **ROUNDING)
