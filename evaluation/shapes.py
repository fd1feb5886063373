"""What files of JSON may hold: a shape says what is wrong with a value, and where."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping
from typing import Any

from uncap.agents.settings import Flag, check, flags, from_dict, replaced

Shape = Callable[[Any, str], str | None]  # (value, its place) -> what is wrong, or None

_LARGEST = 1e15  # numbers beyond are no measurements
_ROUNDING = 1e-9  # of means
_TYPES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def number(value: Any, place: str) -> str | None:
    """A finite number."""
    fits = type(value) in (int, float) and abs(value) < _LARGEST  # nan fits nothing
    return None if fits else f"{place} must be a number, not {shortened(value)}"


def count(value: Any, place: str) -> str | None:
    """A whole number from 0."""
    fits = type(value) is int and 0 <= value < _LARGEST
    return None if fits else f"{place} must be a whole number from 0, not {shortened(value)}"


def share(value: Any, place: str) -> str | None:
    """A number in [0, 1]."""
    fits = type(value) in (int, float) and 0 <= value <= 1 + _ROUNDING
    return None if fits else f"{place} must be a number in [0, 1], not {shortened(value)}"


def truth(value: Any, place: str) -> str | None:
    """Either true or false."""
    return None if isinstance(value, bool) else f"{place} must be true or false"


def text(value: Any, place: str) -> str | None:
    """A string."""
    return None if isinstance(value, str) else f"{place} must be a string, not {shortened(value)}"


def anything(value: Any, place: str) -> str | None:
    """No condition."""


def optional(shape: Shape) -> Shape:
    """A value of a shape, or null."""
    return lambda value, place: None if value is None else shape(value, place)


def listed(shape: Shape) -> Shape:
    """A list of values of a shape."""

    def check(value: Any, place: str) -> str | None:
        if not isinstance(value, list):
            return f"{place} must be a list, not {shortened(value)}"
        found = (shape(part, f"{place}[{index}]") for index, part in enumerate(value))
        return next(filter(None, found), None)

    return check


def mapped(shape: Shape) -> Shape:
    """A table with any names, of values of a shape."""

    def check(value: Any, place: str) -> str | None:
        if not isinstance(value, dict):
            return f"{place} must be a table, not {shortened(value)}"
        found = (shape(part, f"{place}.{name}") for name, part in value.items())
        return next(filter(None, found), None)

    return check


def fields(needed: Mapping[str, Shape], further: Mapping[str, Shape] | None = None) -> Shape:
    """A table with named entries: those needed, and those that may be absent; others may stand.

    Args:
        needed: shapes by name.
        further: shapes by name.
    """
    shapes = {**needed, **(further or {})}

    def check(value: Any, place: str) -> str | None:
        if not isinstance(value, dict):
            return f"{place or 'it'} must be a table, not {shortened(value)}"
        if missing := [name for name in needed if name not in value]:
            return f"{place or 'it'} lacks {', '.join(missing)}"
        prefix = f"{place}." if place else ""
        found = (
            shape(value[name], f"{prefix}{name}") for name, shape in shapes.items() if name in value
        )
        return next(filter(None, found), None)

    return check


def typed(value: Any, hint: Any, name: str) -> Any:
    """A value of JSON or TOML as the type that a field has; lists become tuples.

    Raises:
        ValueError: it is of another type.
    """
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list, not {shortened(value)}")
        inner = typing.get_args(hint)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        if len(kinds) != len(value):
            raise ValueError(
                f"{name} must be a list of {len(kinds)} values, not {shortened(value)}"
            )
        return tuple(typed(part, kind, name) for part, kind in zip(value, kinds, strict=True))
    whole_for_float = hint is float and type(value) is int and math.isfinite(_as_float(value))
    if type(value) is not hint and not whole_for_float:
        raise ValueError(f"{name} must be {_TYPES[hint]}, not {shortened(value)}")
    return hint(value)


def as_settings(make: Any, values: dict) -> Any:
    """A dataclass of settings from what JSON holds of it; its limits are checked.

    Args:
        make: the class; each of its fields has a default.
        values: by name of the field.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it holds something else.
    """
    made = from_dict(make, values)
    found = replaced(made, {flag.path: _typed(flag, made, make()) for flag in flags(made)})
    check(found)
    return found


def _typed(flag: Flag, made: Any, defaults: Any) -> Any:
    """A setting's value as its type; the checks of settings take that for granted."""
    value = flag.get(made)
    if value is None and flag.get(defaults) is None:
        return None
    return typed(value, flag.type, flag.name)


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def shortened(value: Any) -> str:
    """A value for a message of one line."""
    whole = repr(value) if not isinstance(value, int) or abs(value) < _LARGEST else "a huge number"
    return whole if len(whole) <= 60 else f"{whole[:57]}..."
