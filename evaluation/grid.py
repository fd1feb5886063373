"""Grids of trainings: a TOML file says which flags of `train` vary, and over which values."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from uncap.agents.settings import Flag, as_words, flags
from uncap.evaluation.config import LARGEST_SEED, JobConfig, TrainConfig, resolved
from uncap.evaluation.effects import config_of, unused_in_cell
from uncap.evaluation.shapes import typed

Axes = Mapping[str, Flag]  # flags of `train` that a grid may set, by their keys
KEYS = {
    "name": (str, "a string"),
    "seeds": ((int, list), "a whole number or a list of them"),
    "common": (dict, "a table"),
    "vary": (dict, "a table"),
    "cells": (list, "tables, as [[cells]]"),
}
MOST_CELLS = 1_000
NOT_AXES = ("seed", "out", "resume", "tasks", "held_out")  # set by itself, or `task_set` says it


def axes() -> dict[str, Flag]:
    """The flags of `train` that a grid may set."""
    return {flag.key: flag for flag in flags(TrainConfig()) if flag.key not in NOT_AXES}


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One row of a comparison: flags of `train`, in the order of the file."""

    label: str
    flags: tuple[tuple[str, Any], ...]

    @property
    def folder(self) -> str:
        """The label as a part of a folder's name."""
        return re.sub(r"[^A-Za-z0-9._=+]+", "-", self.label).strip("-.")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training: a configuration and a seed."""

    configuration: Configuration
    seed: int

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.configuration.folder}-seed{self.seed}"

    @property
    def flags(self) -> list[tuple[str, Any]]:
        """Keys and values, without those of no effect in this cell."""
        unused = unused_in_cell(dict(self.configuration.flags))
        return [pair for pair in self.configuration.flags if pair[0] not in unused]

    @property
    def arguments(self) -> list[str]:
        """Its flags as the command line takes them."""
        given = [as_words(key, value) for key, value in self.flags]
        return [*itertools.chain.from_iterable(given), "--seed", str(self.seed)]

    @property
    def job(self) -> JobConfig:
        """What is trained."""
        config = config_of(dict(self.flags))
        return resolved(config.job, config.quick)


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is compared: every configuration with every seed."""

    name: str
    configurations: tuple[Configuration, ...]
    seeds: tuple[int, ...]

    @property
    def cells(self) -> list[Cell]:
        """Seed by seed, so that a comparison that was stopped early has all configurations."""
        return [Cell(c, seed) for seed in self.seeds for c in self.configurations]

    def on(self, engine: str | None) -> Grid:
        """The same on an engine, where a cell says none; None: as it is.

        Raises:
            ValueError: two cells would be the same.
        """
        if engine is None:
            return self
        own = ("engine", engine)
        configurations = [
            c if "engine" in dict(c.flags) else Configuration(c.label, (own, *c.flags))
            for c in self.configurations
        ]
        _check_different(configurations)
        return dataclasses.replace(self, configurations=tuple(configurations))


def shard_of(cells: Sequence[Cell], shard: str | None) -> list[Cell]:
    """The cells of one shard of a grid.

    Args:
        cells: all of them.
        shard: `K/N`, see `config.shard_problem`: every Nth cell, beginning with the Kth; None: all.
    """
    if shard is None:
        return list(cells)
    number, shards = map(int, shard.split("/"))
    return list(cells[number - 1 :: shards])


def read_grid(path: pathlib.Path, axes: Axes) -> Grid:
    """The grid of a TOML file; keys: name, seeds, [common], [vary], [[cells]].

    Args:
        path: the file.
        axes: the flags it may set.

    Raises:
        ValueError: in one line, what is wrong in it and what is allowed.
    """
    raw = read_toml(path, KEYS)
    try:
        return _grid(raw, path.stem, axes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_toml(path: pathlib.Path, keys: Mapping[str, tuple[Any, str]]) -> dict[str, Any]:
    """What a TOML file holds.

    Args:
        path: the file.
        keys: that it may have: types, and how they are said.

    Raises:
        ValueError: in one line, what is wrong in it and what is allowed.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    for key, value in raw.items():
        if key not in keys:
            raise ValueError(f"{path}: unknown key {key!r}; allowed: {', '.join(keys)}")
        kind, words = keys[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{path}: {key} must be {words}, not {value!r}")
    return raw


def _grid(raw: dict[str, Any], name: str, axes: Axes) -> Grid:
    given = flattened(raw.get("common", {}), axes)
    common = {key: flag_value(key, value, axes, "[common]") for key, value in given}
    configurations = _combinations(raw.get("vary", {}), common, axes)
    for number, entry in enumerate(raw.get("cells", []), start=1):
        configurations.append(_further_cell(entry, f"[[cells]] {number}", common, axes))
    if not configurations:
        raise ValueError("nothing to compare: give [vary] with lists of values, or [[cells]]")
    seeds = seeds_of(raw.get("seeds", 1))
    _check_number(len(configurations) * len(seeds))
    _check_different(configurations)
    _check_effects(configurations)
    grid = Grid(raw.get("name", name), tuple(configurations), seeds)
    if not Configuration(grid.name, ()).folder:
        raise ValueError(f"the name {grid.name!r} names no folder; it needs a letter or a digit")
    return grid


def _check_number(cells: int) -> None:
    if cells > MOST_CELLS:
        raise ValueError(f"it has {cells:,} cells; at most {MOST_CELLS:,} are allowed")


def flattened(table: dict[str, Any], axes: Axes, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values; `ppo.clip = 1`, which TOML reads as a table, has the key `ppo.clip`."""
    for key, value in table.items():
        whole = prefix + key
        if isinstance(value, dict) and any(name.startswith(f"{whole}.") for name in axes):
            yield from flattened(value, axes, f"{whole}.")
        else:
            yield whole, value


def _combinations(vary: dict, common: dict[str, Any], axes: Axes) -> list[Configuration]:
    """Every combination of the values in [vary]."""
    columns = []
    for key, values in flattened(vary, axes):
        if not isinstance(values, list) or not values:
            raise ValueError(f"[vary] {key} must be a list of one value or more, not {values!r}")
        if key in common:
            raise ValueError(f"{key} is in [common] and in [vary]; allowed in one of them")
        columns.append([(key, flag_value(key, value, axes, "[vary]")) for value in values])
    if not columns:
        return []
    _check_number(math.prod(len(column) for column in columns))
    picks = [dict(pick) for pick in itertools.product(*columns)]
    return [Configuration(label(pick), tuple({**common, **pick}.items())) for pick in picks]


def _further_cell(entry: Any, where: str, common: dict[str, Any], axes: Axes) -> Configuration:
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be a table, not {entry!r}")
    given = [(key, value) for key, value in flattened(entry, axes) if key != "label"]
    own = {key: flag_value(key, value, axes, where, "label") for key, value in given}
    given_label = entry.get("label", label(own))
    if not isinstance(given_label, str) or not given_label.strip():
        raise ValueError(f"{where}: label must be a string that is not empty, not {given_label!r}")
    return Configuration(" ".join(given_label.split()), tuple({**common, **own}.items()))


def label(given: Mapping[str, Any]) -> str:
    """A configuration's label: names of choices as they are, other values behind their flag."""
    parts = []
    for key, value in given.items():
        flag = f"{key.replace('_', ' ')} {str(value).lower()}"
        parts.append(value if isinstance(value, str) else flag)
    return ", ".join(parts)


def flag_value(key: str, value: Any, axes: Axes, where: str, *more: str) -> Any:
    """A flag's value, checked.

    Args:
        key: of the flag.
        value: as TOML gives it.
        axes: the flags that a grid may set.
        where: part of the file, for messages.
        *more: keys that are allowed there, too.

    Raises:
        ValueError: there is no such flag, or it takes no such value.
    """
    if key in NOT_AXES:
        raise ValueError(
            f"{where} sets {key}, which a comparison sets itself (seeds stand at the top)"
        )
    if key not in axes:
        allowed = ", ".join((*more, *axes))
        raise ValueError(f"unknown flag {key!r} in {where}; allowed: {allowed}")
    flag = axes[key]
    value = typed(value, flag.type, f"{where} {key}")
    if problem := flag.setting.problem(value, key):
        raise ValueError(f"{where}: {problem}")
    return value


def seeds_of(seeds: int | list) -> tuple[int, ...]:
    """The seeds of a number, from 0 on, or of a list of them.

    Raises:
        ValueError: they are not different whole numbers.
    """
    _check_number(seeds if isinstance(seeds, int) else len(seeds))
    listed = list(range(seeds)) if isinstance(seeds, int) else seeds
    whole = all(type(seed) is int and 0 <= seed <= LARGEST_SEED for seed in listed)
    if not listed or not whole or len(set(listed)) < len(listed):
        raise ValueError(
            "seeds must be how many (1 or more) or a list of different whole numbers from 0 to "
            f"{LARGEST_SEED}, "
            f"not {seeds!r}"
        )
    return tuple(listed)


def _check_effects(configurations: Sequence[Configuration]) -> None:
    used: set[str] = set()
    unused: dict[str, str] = {}
    for configuration in configurations:
        why = unused_in_cell(dict(configuration.flags))
        used |= {key for key, _ in configuration.flags if key not in why}
        unused |= why
    for key in unused:
        if key not in used:
            raise ValueError(f"in no cell has {key} an effect: {unused[key]}")


def _check_different(configurations: Sequence[Configuration]) -> None:
    for a, b in itertools.combinations(configurations, 2):
        if dict(a.flags) == dict(b.flags):
            raise ValueError(
                f"{a.label!r} and {b.label!r} are the same configuration; each is allowed once"
            )
        if a.folder.lower() == b.folder.lower():
            raise ValueError(
                f"{a.label!r} and {b.label!r} would share a folder; labels must differ in "
                "letters or digits"
            )
    if empty := [c.label for c in configurations if not c.folder]:
        raise ValueError(
            f"the label {empty[0]!r} names no folder; it needs a letter or a digit (A to Z, 0 to 9)"
        )
