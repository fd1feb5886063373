"""The rows that a run was trained on, as numbers in its config.json.

A run can thus be evaluated, filmed and resumed where its rows are not registered: someone's own,
in a program that did not run. They are registered from these numbers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from uncap.agents.files import FileError
from uncap.envs import CLOSURES, TASK_SETS, Closure, TaskSet, register, rewards
from uncap.evaluation.shapes import typed

_LARGEST = 1e4  # of a row's numbers; its control steps are the largest


def any_name(name: str) -> str:
    """A row's name as it is: a run may bring rows that are not registered yet."""
    return name


def stored_rows(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The numbers of rows, by name, as JSON keeps them."""
    return {name: _numbers(CLOSURES[name]) for name in names}


def restore(run: pathlib.Path, config: Mapping[str, Any]) -> list[str]:
    """Register the rows and the task set of a run, where they are not.

    Args:
        run: its folder, for messages.
        config: its config.json.

    Returns:
        What a user should know, in lines: rows of the same name and other numbers, and another
        version of the rewards.

    Raises:
        FileError: a row cannot be made of what is stored.
    """
    notes = []
    for name, stored in config.get("rows", {}).items():
        if name not in CLOSURES:
            _register(run, name, stored)
        elif changed := _changed(stored, _numbers(CLOSURES[name])):
            notes.append(
                f"{run}: the row {name} was trained with another {', '.join(changed)} than it has "
                "now; what it has now is used"
            )
    _restore_set(run, config)
    trained = config.get("reward_version")
    if trained not in (None, rewards.VERSION):
        notes.append(
            f"{run} was trained with rewards of version {trained}; this version has "
            f"{rewards.VERSION}, and uses it"
        )
    return notes


def _numbers(row: Closure) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(row)))


def _changed(stored: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the numbers that differ; what tells about a row and how it looks does not count."""
    words = ("description", "source", "color", "accent")
    stored = {"group": "", **stored}  # of a run that is older than groups
    return [name for name, value in now.items() if name not in words and stored.get(name) != value]


def _register(run: pathlib.Path, name: str, stored: Mapping[str, Any]) -> None:
    try:
        row = _row(stored)
        if row.name != name:
            raise ValueError(f"it is called {row.name!r} inside")
        register(row)
    except FileError:
        raise
    except Exception as error:  # whatever a stranger's numbers lead to
        problem = " ".join(str(error).split())
        raise FileError(
            f"{run} was trained on a row {name!r}, which is not registered and cannot be made of "
            f"config.json: {problem}"
        ) from None


def _row(stored: Mapping[str, Any]) -> Closure:
    hints = typing.get_type_hints(Closure)
    known = {field.name: hints[field.name] for field in dataclasses.fields(Closure)}
    if unknown := sorted(set(stored) - set(known)):
        raise ValueError(f"this version does not know {', '.join(unknown)}")
    values: dict[str, Any] = {}
    for name, value in stored.items():
        checked = typed(value, known[name], name)
        values[name] = tuple(value) if isinstance(value, list) else value  # 5 stays 5, not 5.0
        parts = checked if isinstance(checked, tuple) else (checked,)
        if any(not _is_plausible(part) for part in parts):
            raise ValueError(f"{name} must be at most {_LARGEST:g}, not {value}")
    if values.get("steps", 1) < 1:
        raise ValueError(f"steps must be at least 1, not {values['steps']}")
    return Closure(**values)


def _is_plausible(value: Any) -> bool:
    if isinstance(value, str):
        return value.isprintable()
    return math.isfinite(value) and abs(value) <= _LARGEST


def _restore_set(run: pathlib.Path, config: Mapping[str, Any]) -> None:
    """Register the task set of a run, so that it can go on."""
    name = config.get("job", {}).get("task_set", "")
    rows = [*config.get("train", []), *config.get("held_out", [])]
    made_of_others = isinstance(name, str) and ("/" in name or ":" in name)  # see `named_set`
    if not isinstance(name, str) or not name or made_of_others or name in TASK_SETS:
        return
    if not all(row in CLOSURES for row in rows) or "rows" not in config:
        return
    try:
        train, held_out = tuple(config["train"]), tuple(config["held_out"])
        probes, steps = "of a run that was made elsewhere", config.get("episode_steps")
        register(TaskSet(name, train, held_out, probes, episode_steps=steps))
    except Exception as error:  # whatever a stranger's names lead to
        problem = " ".join(str(error).split())
        raise FileError(f"{run}: its task set {name!r} cannot be made: {problem}") from None
