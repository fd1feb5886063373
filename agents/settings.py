"""Settings: fields of dataclasses that say what they mean and what they may be.

A setting is the one place of a flag: its type and default are the field's, its help and its
limits stand beside them. The command line, the grids of `compare` and the checks are made from
it. This module, and those that declare settings, import neither torch nor the environments:
tables of choices are named, and loaded when a choice is listed or checked.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import pathlib
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a field may be, and what it means.

    Attributes:
        help: one line.
        least: smallest value.
        above: values are larger than this.
        below: values are smaller than this.
        most: largest value.
        choices: the values it may have, or `module:TABLE`, whose names they are.
        accepts: `module:function` that returns for further values and raises for all others.
        check: returns what is wrong with a value, or None.
        flag: its name on the command line and in grids, where that is not its path.
        positional: typed without a name.
        repeated: it can be typed several times, and holds the words of all.
        path: what is at the path that it names: "read" (it is there), "folder" or "file" (it is
            written); None: it is no path. The command line makes paths absolute.
        no_paths: values of a path that are none, as regular expressions.
    """

    help: str
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None
    choices: str | tuple[str, ...] | None = None
    accepts: str | None = None
    check: Callable[[Any], str | None] | None = None
    flag: str | None = None
    positional: bool = False
    repeated: bool = False
    path: typing.Literal["read", "folder", "file"] | None = None
    no_paths: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """The choices; empty where any value of the type is one."""
        if isinstance(self.choices, str):
            return tuple(load(self.choices))
        return self.choices or ()

    def words(self) -> dict[str, str]:
        """A few words on every choice, where its table has them."""
        if not isinstance(self.choices, str):
            return {}
        table = load(self.choices)
        rows = getattr(table, "rows", table)  # of a table whose objects are imported when used
        return {name: row.words for name, row in rows.items() if hasattr(row, "words")}

    def problem(self, value: Any, name: str) -> str | None:
        """What is wrong with a value, in one line that begins with its name; None if nothing is."""
        if value is None:
            return None
        if self.choices is not None:
            values = value if isinstance(value, tuple) else (value,)
            wrong = [self._unknown(each, name) for each in values]
            wrong += [f"{name} names {each} twice" for each in values if values.count(each) > 1]
            return next((text for text in wrong if text), None)
        if any(not math.isfinite(number) for number in numbers(value)):
            return f"{name} must be finite, not {value}"
        if limit := self._limit_broken(value):
            return f"{name} must be {limit}, not {value}"
        if self.path and not str(value).strip():
            return f"{name} must name a folder or a file, not {value!r}"
        if self.path in ("folder", "file"):
            wrong = _unwritable(pathlib.Path(value), self.path)
            return wrong and f"{name} {wrong}"
        wrong = self.check(value) if self.check else None
        return wrong and f"{name} {wrong}, not {value}"

    def _limit_broken(self, value: Any) -> str | None:
        if self.least is not None and value < self.least:
            return f"at least {self.least}"
        if self.above is not None and not value > self.above:
            return f"above {self.above}"
        if self.below is not None and not value < self.below:
            return f"below {self.below}"
        if self.most is not None and value > self.most:
            return f"at most {self.most}"
        return None

    def _unknown(self, value: Any, name: str) -> str | None:
        from uncap.envs.tables import lookup

        try:
            if self.accepts:
                load(self.accepts)(value)
            else:
                kind = name.lstrip("-").replace("-", " ").replace("_", " ")
                lookup(dict.fromkeys(self.names()), value, kind)
        except ValueError as error:
            return str(error)
        return None


def _unwritable(path: pathlib.Path, kind: str) -> str | None:
    """Why a folder or file cannot be written there; None if it can, as far as can be told."""
    if kind == "file" and path.is_dir():
        return f"must name a file: {path} is a folder"
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() and (there != path or kind == "folder"):
        return f"cannot be {path}: {there} is no folder"
    effective = os.access in os.supports_effective_ids
    if not os.access(there, os.W_OK, effective_ids=effective):
        return f"cannot be {path}: {there} cannot be written"
    return None


REQUIRED: Any = dataclasses.MISSING  # default of a setting that must be given


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A field of a dataclass with its default, help and limits, see `Setting`."""
    return dataclasses.field(default=default, metadata={"setting": Setting(help, **limits)})


def nested(default: Any) -> Any:
    """A field that holds further settings, whose flags get no prefix from it."""
    return dataclasses.field(default=default, metadata={"prefix": ""})


def load(entry_point: str) -> Any:
    """The object at `package.module:name`."""
    module, _, name = entry_point.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclasses.dataclass(frozen=True)
class Flag:
    """A setting with its place in a tree of dataclasses.

    Attributes:
        key: its name in grids, such as `body` or `ppo.learning_rate`.
        path: names of the fields that lead to it.
        type: of its values, without None.
        default: value.
        setting: what it may be.
    """

    key: str
    path: tuple[str, ...]
    type: Any
    default: Any
    setting: Setting

    @property
    def name(self) -> str:
        """As it is typed, `--ppo.learning-rate`."""
        return "--" + self.key.replace("_", "-")

    def get(self, config: Any) -> Any:
        """Its value in a configuration."""
        for part in self.path:
            config = getattr(config, part)
        return config


def flags(config: Any, path: tuple[str, ...] = (), prefix: str = "") -> Iterator[Flag]:
    """The settings of a configuration and of those nested in it, in their order.

    Args:
        config: an instance, whose values are the defaults; or a class.
        path: where it is nested.
        prefix: of the keys.
    """
    hints = typing.get_type_hints(config if isinstance(config, type) else type(config))
    for field in dataclasses.fields(config):
        value = field.default if isinstance(config, type) else getattr(config, field.name)
        here = (*path, field.name)
        if dataclasses.is_dataclass(value):
            inner = field.metadata.get("prefix", f"{field.name}.")
            yield from flags(value, here, prefix + inner)
        elif found := field.metadata.get("setting"):
            key = found.flag or prefix + field.name
            yield Flag(key, here, without_none(hints[field.name]), value, found)


def as_words(key: str, value: Any) -> list[str]:
    """A flag with a value, as words of the command line.

    Args:
        key: of the flag.
        value: a switch that is off gets `no-` before its name.
    """
    group, dot, name = key.replace("_", "-").rpartition(".")
    if isinstance(value, bool):
        name = name if value else f"no-{name}"
        return [f"--{group}{dot}{name}"]
    return [f"--{group}{dot}{name}", *_words(value)]


def _words(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [word for part in value for word in _words(part)]
    return [str(value)]


def numbers(value: Any) -> Iterator[float]:
    """The floating-point numbers of a value, of nested tuples, too."""
    if isinstance(value, float):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from numbers(part)


def without_none(hint: Any) -> Any:
    """The type `int` of a hint `int | None`; other hints as they are."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        return parts[0] if len(parts) == 1 else hint
    return hint


def check(config: Any) -> None:
    """Check every setting of a configuration.

    Raises:
        ValueError: the first that is out of its limits, with what is allowed.
    """
    for flag in flags(config):
        if problem := flag.setting.problem(flag.get(config), flag.name):
            raise ValueError(problem)


def replaced(config: Any, values: dict[tuple[str, ...], Any]) -> Any:
    """A copy of a configuration with values at paths of fields."""
    changes: dict[str, Any] = {}
    nested: dict[str, dict[tuple[str, ...], Any]] = {}
    for (first, *rest), value in values.items():
        if rest:
            nested.setdefault(first, {})[tuple(rest)] = value
        else:
            changes[first] = value
    for name, inner in nested.items():
        changes[name] = replaced(getattr(config, name), inner)
    return dataclasses.replace(config, **changes)


def from_dict(make: Any, values: dict) -> Any:
    """A configuration from what `dataclasses.asdict` gave, through JSON.

    Raises:
        TypeError: a name that it does not have, or a value that is no dictionary where one nests.
    """
    hints = typing.get_type_hints(make)
    if not isinstance(values, dict):
        raise TypeError(f"{make.__name__} must be a table, not {values!r}")
    made = {}
    for name, value in values.items():
        hint = hints.get(name)
        if dataclasses.is_dataclass(hint):
            made[name] = from_dict(hint, value)
        else:
            made[name] = _tuples(value) if typing.get_origin(hint) is tuple else value
    return make(**made)


def _tuples(value: Any) -> Any:
    """Lists as tuples, those in lists, too: JSON has no tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
