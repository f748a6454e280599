"""Strict renaming of state dicts between published names and ours, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

import torch
from torch import Tensor

from diptych.errors import WeightsError

Config = TypeVar("Config")
SHOWN = 6
"""So many keys of a list are named in a message."""


@dataclass(frozen=True)
class PublishedWeights(Generic[Config]):
    """A model that others trained, as a room reads it."""

    layout: str
    config: Config
    """The room's."""
    state: Mapping[str, Tensor]
    """Under the names of the room's model of this config, with such heads as it has, in float32; of a backbone alone (a
    BERT, a ResNet) what the room's `fitted` gives a place."""
    ignored: Mapping[str, str]
    """Keys of the source that were left out, with the reason of each."""


@dataclass(frozen=True)
class Rule:
    """One of our names, and what it is called there; each `{}` stands for the same text on both sides.

    >>> Rule("text.blocks.{}.norm.{}", "layers.{}.ln.{}").theirs_of("text.blocks.3.norm.bias")
    ('layers.3.ln.bias',)
    """

    ours: str
    theirs: str | tuple[str, ...]
    """Several names: ours holds their tensors one after the other along the first dimension."""
    transposed: bool = False

    def theirs_of(self, ours: str) -> tuple[str, ...] | None:
        """Their names of our `ours`, or None where this rule is not about it."""
        found = re.fullmatch(re.escape(self.ours).replace(r"\{\}", "(.+)"), ours)
        if found is None:
            return None
        names = (self.theirs,) if isinstance(self.theirs, str) else self.theirs
        return tuple(name.format(*found.groups()) for name in names)

    def import_tensor(self, parts: Sequence[Tensor]) -> Tensor:
        """Our tensor of theirs."""
        whole = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        return whole.mT.contiguous() if self.transposed else whole

    def export_tensor(self, ours: Tensor) -> list[Tensor]:
        """Their tensors of ours, each with memory of its own."""
        whole = ours.detach().mT if self.transposed else ours.detach()
        parts = [whole] if isinstance(self.theirs, str) else whole.chunk(len(self.theirs))
        return [part.clone(memory_format=torch.contiguous_format) for part in parts]


@dataclass(frozen=True)
class KeyMap:
    """Rules, of which the first that fits a name is taken, and their keys that are left out, each with its reason."""

    rules: tuple[Rule, ...]
    ignore: tuple[tuple[str, str], ...] = ()
    """(pattern of theirs with * and ?, reason)."""

    def to_ours(self, theirs: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], source: str) -> dict[str, Tensor]:
        """Their state dict under our names; a single number may be of any shape.

        Args:
            theirs: the published tensors.
            shapes: every name of ours with its shape.
            source: the file, for messages.
        Raises:
            WeightsError: a key of ours has no tensor, one of theirs has no place, or a shape differs.
        """
        used: set[str] = set()
        missing: list[str] = []
        misshapen: list[str] = []
        state: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            rule, keys = self._rule_of(name)
            used.update(keys)
            absent = [key for key in keys if key not in theirs]
            missing += absent
            if absent:
                continue
            tensor = rule.import_tensor([theirs[key] for key in keys])
            if tensor.numel() == shape.numel() == 1:
                tensor = tensor.reshape(shape)  # the temperature is () in most files and (1,) in some
            if tensor.shape != shape:
                misshapen.append(f"{keys[0]} is {tuple(tensor.shape)}, expected {tuple(shape)}")
            state[name] = tensor
        unexpected = [key for key in theirs if key not in used and self.reason(key) is None]
        if missing or unexpected or misshapen:
            raise WeightsError(_complaint(source, missing, unexpected, misshapen))
        return state

    def to_theirs(self, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our state dict under their names.

        Raises:
            WeightsError: a key of ours has no name there.
        """
        state: dict[str, Tensor] = {}
        for name, tensor in ours.items():
            rule, keys = self._rule_of(name)
            state.update(zip(keys, rule.export_tensor(tensor), strict=True))
        return state

    def ignored(self, theirs: Mapping[str, Tensor]) -> dict[str, str]:
        """The keys of theirs that are left out, with the reason of each."""
        reasons = {key: self.reason(key) for key in theirs}
        return {key: reason for key, reason in reasons.items() if reason is not None}

    def reason(self, key: str) -> str | None:
        """Why `key` of theirs is left out, or None where it may not be."""
        return next((reason for pattern, reason in self.ignore if fnmatchcase(key, pattern)), None)

    def _rule_of(self, ours: str) -> tuple[Rule, tuple[str, ...]]:
        for rule in self.rules:
            theirs = rule.theirs_of(ours)
            if theirs is not None:
                return rule, theirs
        raise WeightsError(f"{ours} has no name in this layout: it cannot hold such a model")


def without_prefixes(state: Mapping[str, Tensor], prefixes: Sequence[str]) -> dict[str, Tensor]:
    """`state` with each of `prefixes` taken off, as often as all keys begin with it."""
    state = dict(state)
    while prefix := next((prefix for prefix in prefixes if state and all(key.startswith(prefix) for key in state)), ""):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _complaint(source: str, missing: list[str], unexpected: list[str], misshapen: list[str]) -> str:
    parts = [
        f"{len(keys)} {what}: {_listed(keys)}"
        for what, keys in (
            ("keys that the model needs are missing", missing),
            ("keys have no place in the model", unexpected),
            ("tensors have another shape", misshapen),
        )
        if keys
    ]
    return f"{source} does not fit: {'; '.join(parts)}. Check that the config is the one of these weights"


def _listed(keys: list[str]) -> str:
    rest = len(keys) - SHOWN
    return ", ".join(keys[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
