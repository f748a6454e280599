"""Frozen dataclasses as settings: to JSON and back, and `--set a.b=c` checked against the field."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from diptych.errors import UsageError, unknown

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """A settings dataclass (or a tuple, number, string in one) as what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(part) for part in value]
    return value


def flat(plain: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values on one level, their names joined by dots.

    >>> flat({"steps": 9, "optim": {"lr": 0.1}})
    {'steps': 9, 'optim.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for name, value in plain.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found


def from_plain(cls: type[T], plain: Mapping[str, Any], where: str = "") -> T:
    """The dataclass `cls` from what `to_plain` made of it; fields left out take their defaults.

    Raises:
        UsageError: a field is unknown, missing or of another type; the nearest name is suggested.
    """
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for name in plain:
        if name not in names:
            raise UsageError(unknown("setting", where + name, [where + known for known in names]))
    values = {name: _checked(hints[name], value, where + name) for name, value in plain.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise UsageError(f"settings {where.rstrip('.') or cls.__name__}: {error}") from error


def apply_overrides(settings: T, overrides: Sequence[str]) -> T:
    """`settings` with each `a.b=value` of `overrides` put in place.

    Raises:
        UsageError: no `=`, no such field (the nearest is named), or a value of another type.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override!r} has no '='; write --set FIELD=VALUE, e.g. --set optim.lr=3e-4")
        settings = _replaced(settings, path.strip().split("."), text.strip(), path.strip())
    return settings


def _replaced(settings: Any, path: Sequence[str], text: str, whole: str) -> Any:
    names = [field.name for field in dataclasses.fields(settings)]
    head, rest = path[0], path[1:]
    prefix = whole[: len(whole) - len(".".join(path))]
    if head not in names:
        raise UsageError(unknown("setting", prefix + head, [prefix + name for name in names]))
    current = getattr(settings, head)
    if rest:
        if not dataclasses.is_dataclass(current):
            raise UsageError(f"the setting {prefix + head!r} has no parts; set it itself: --set {prefix + head}=VALUE")
        return dataclasses.replace(settings, **{head: _replaced(current, rest, text, whole)})
    if dataclasses.is_dataclass(current):
        inner = ", ".join(f"{whole}.{field.name}" for field in dataclasses.fields(current))
        raise UsageError(f"{whole!r} is a group of settings; set one of them: {inner}")
    hint = typing.get_type_hints(type(settings))[head]
    return dataclasses.replace(settings, **{head: _checked(hint, _parsed(text), whole)})


def _parsed(text: str) -> Any:
    """A value as typed on the command line: JSON where it reads as JSON, else the words themselves."""
    if text.lower() in ("none", "null"):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "," in text and not text.startswith("["):
        return [_parsed(part) for part in text.split(",") if part]
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _checked(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, converting only where nothing is lost (1 to 1.0, a list to a tuple)."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _checked_union(hint, value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise UsageError(f"{where} is {value!r}; expected one of: {', '.join(map(str, get_args(hint)))}")
        return value
    if origin is tuple:
        return _checked_tuple(hint, value, where)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if isinstance(value, Mapping):
            return from_plain(hint, value, where + ".")  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise UsageError(f"{where} is {value!r}; expected {_name(hint)}")


def _checked_union(hint: Any, value: Any, where: str) -> Any:
    if value is None and type(None) in get_args(hint):
        return None
    for part in get_args(hint):
        try:
            return _checked(part, value, where)
        except UsageError:
            continue
    raise UsageError(f"{where} is {value!r}; expected {_name(hint)}")


def _checked_tuple(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    parts = get_args(hint)
    values = list(value) if isinstance(value, list | tuple) else [value]
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_checked(parts[0], one, where) for one in values)
    if len(values) != len(parts):
        raise UsageError(f"{where} is {value!r}; expected {len(parts)} values separated by commas")
    return tuple(_checked(part, one, where) for part, one in zip(parts, values, strict=True))


def _name(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_name(part) for part in get_args(hint))
    if hint is type(None):
        return "none"
    if get_origin(hint) is tuple:
        return f"{_name(get_args(hint)[0])}, or several separated by commas"
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))
