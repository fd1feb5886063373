"""Compare configurations: a grid of trainings in one TOML file, each a process of its own; stops, goes on, survives failures."""

from __future__ import annotations

import dataclasses
import fcntl
import itertools
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.console import Console

from evaluation import runs
from evaluation.compare_report import compare_runs, read_results, write_comparison
from evaluation.progress import Bars

Flag = str | int | float | bool
Kinds = Mapping[str, type | tuple]  # flag of `train` -> its type, or the values it may have
_GRID = {"name": str, "seeds": (int, list), "common": dict, "vary": dict, "cells": list}
_OWN = ("seed", "out", "resume")  # flags that a comparison sets itself
_POLL = 0.2  # s between two looks at the processes


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One row of the comparison: flags of `train`, in the order of the file."""

    label: str
    flags: tuple[tuple[str, Flag], ...]

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
    def arguments(self) -> list[str]:
        """Its flags as the command line takes them."""
        return [*_arguments(self.configuration.flags), "--seed", str(self.seed)]


@dataclasses.dataclass(frozen=True)
class Grid:
    """What is compared: every configuration with every seed."""

    name: str
    configurations: tuple[Configuration, ...]
    seeds: tuple[int, ...]

    @property
    def cells(self) -> list[Cell]:
        """Seed by seed, so that a comparison that was stopped early has all configurations."""
        return [Cell(c, s) for s in self.seeds for c in self.configurations]


def flag_kinds(
    *sources: Callable, choices: Mapping[str, Iterable[str]] | None = None
) -> dict[str, type | tuple]:
    """The flags a grid may set: those of functions and dataclasses that are one string, number or switch.

    Args:
        sources: where the command line has its flags from.
        choices: flag -> the values it may have, where a type says too little.
    """
    kinds: dict[str, type | tuple] = {}
    for name, hint in (
        (n, h) for source in sources for n, h in typing.get_type_hints(source).items()
    ):
        if typing.get_origin(hint) in (typing.Union, types.UnionType):  # `int | None` is an int
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        if name not in (*_OWN, "return") and hint in (str, int, float, bool):
            kinds[name] = hint
    return kinds | {name: tuple(values) for name, values in (choices or {}).items()}


def read_grid(path: pathlib.Path, kinds: Kinds) -> Grid:
    """The grid of a TOML file; keys: name, seeds, [common], [vary], [[cells]].

    Args:
        path: the file.
        kinds: the flags it may set, see `flag_kinds`.

    Raises:
        ValueError: in one line, what is wrong in it and what is allowed.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    try:
        return _grid(raw, path.stem, kinds)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _grid(raw: dict, name: str, kinds: Kinds) -> Grid:
    for key, value in raw.items():
        if key not in _GRID:
            raise ValueError(f"unknown key {key!r}; allowed: {', '.join(_GRID)}")
        if not isinstance(value, _GRID[key]) or isinstance(value, bool):
            names = {
                str: "a string",
                (int, list): "a whole number or a list of them",
                dict: "a table",
                list: "tables, as [[cells]]",
            }
            raise ValueError(f"{key} must be {names[_GRID[key]]}, not {value!r}")
    common = {k: _flag(k, v, kinds, "[common]") for k, v in raw.get("common", {}).items()}
    configurations = _product(raw.get("vary", {}), common, kinds)
    for k, entry in enumerate(raw.get("cells", [])):
        where = f"[[cells]] {k + 1}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where} must be a table, not {entry!r}")
        own = {
            key: _flag(key, v, kinds, where, "label") for key, v in entry.items() if key != "label"
        }
        label = entry.get("label", _label(own))
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"{where}: label must be a string that is not empty, not {label!r}")
        configurations.append(
            Configuration(" ".join(label.split()), tuple({**common, **own}.items()))
        )
    if not configurations:
        raise ValueError("nothing to compare: give [vary] with lists of values, or [[cells]]")
    _unique(configurations)
    return Grid(raw.get("name", name), tuple(configurations), _seeds(raw.get("seeds", 1)))


def _product(vary: dict, common: dict, kinds: Kinds) -> list[Configuration]:
    for key, values in vary.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"[vary] {key} must be a list of one value or more, not {values!r}")
        if key in common:
            raise ValueError(f"{key} is in [common] and in [vary]; allowed in one of them")
    axes = [[(key, _flag(key, v, kinds, "[vary]")) for v in values] for key, values in vary.items()]
    picks = [dict(pick) for pick in itertools.product(*axes)] if axes else []
    return [Configuration(_label(pick), tuple({**common, **pick}.items())) for pick in picks]


def _label(flags: Mapping[str, Flag]) -> str:
    return ", ".join(
        v if isinstance(v, str) else f"{k.replace('_', ' ')} {str(v).lower()}"
        for k, v in flags.items()
    )


def _flag(key: str, value: object, kinds: Kinds, where: str, *more: str) -> Flag:
    if key in _OWN:
        raise ValueError(
            f"{where} sets {key}, which a comparison sets itself (seeds stand at the top)"
        )
    if key not in kinds:
        raise ValueError(f"unknown flag {key!r} in {where}; allowed: {', '.join((*more, *kinds))}")
    kind = kinds[key]
    if isinstance(kind, tuple):
        if value not in kind:
            raise ValueError(
                f"{where} {key} must be one of {', '.join(map(str, kind))}, not {value!r}"
            )
        return value
    if type(value) is not kind and not (kind is float and type(value) is int):
        names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
        raise ValueError(f"{where} {key} must be {names[kind]}, not {value!r}")
    return kind(value)


def _seeds(seeds: int | list) -> tuple[int, ...]:
    listed = list(range(seeds)) if isinstance(seeds, int) else seeds
    if (
        not listed
        or any(type(s) is not int or s < 0 for s in listed)
        or len(set(listed)) < len(listed)
    ):
        raise ValueError(
            f"seeds must be how many (1 or more) or a list of different whole numbers from 0, not {seeds!r}"
        )
    return tuple(listed)


def _unique(configurations: Sequence[Configuration]) -> None:
    for a, b in itertools.combinations(configurations, 2):
        if dict(a.flags) == dict(b.flags):
            raise ValueError(
                f"{a.label!r} and {b.label!r} are the same configuration; each is allowed once"
            )
        if a.folder.lower() == b.folder.lower():
            raise ValueError(
                f"{a.label!r} and {b.label!r} would share a folder; labels must differ in letters or digits"
            )
    if empty := [c.label for c in configurations if not c.folder]:
        raise ValueError(
            f"the label {empty[0]!r} names no folder; it needs a letter or a digit (A to Z, 0 to 9)"
        )


def _arguments(flags: Sequence[tuple[str, Flag]]) -> list[str]:
    words = []
    for key, value in flags:
        name = key.replace("_", "-")
        words += (
            [f"--{name}" if value else f"--no-{name}"]
            if isinstance(value, bool)
            else [f"--{name}", str(value)]
        )
    return words


def train_command(arguments: Sequence[str]) -> list[str]:
    """The process that trains one cell."""
    return [
        sys.executable,
        str(pathlib.Path(__file__).parents[1] / "train.py"),
        "train",
        *arguments,
    ]


def run_cells(
    cells: Sequence[Cell],
    folder: pathlib.Path,
    jobs: int,
    report: Callable[[str, float, int, str], None],
    command: Callable[[Sequence[str]], list[str]] = train_command,
) -> tuple[dict[str, str], bool]:
    """Run what is not finished, `jobs` at once; a failure does not stop the others.

    Ctrl-C (or SIGTERM, SIGHUP) is passed on once to each training, which saves and ends; a second one is passed on, too; the third kills.

    Returns:
        {name of a failed cell: why}, and whether it was stopped.
    """
    waiting = [c for c in cells if "mean_success" not in read_results(folder / c.name)]
    total, done, failed, asked, sent = len(waiting), 0, {}, [], 0
    running: dict[Cell, subprocess.Popen] = {}
    before = {
        s: signal.signal(s, lambda *_: asked.append(1))
        for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        while running or (waiting and not asked):
            while waiting and len(running) < jobs and not asked:
                cell = waiting.pop(0)
                try:
                    running[cell] = _start(cell, folder, jobs, command)
                except BlockingIOError:
                    failed[cell.name], done = "another process is training it", done + 1
            if len(asked) > sent:
                sent = len(asked)
                for process in running.values():
                    process.send_signal(signal.SIGINT if sent < 3 else signal.SIGKILL)
            time.sleep(_POLL)
            for cell in [c for c, process in running.items() if process.poll() is not None]:
                code = running.pop(cell).returncode
                finished = "mean_success" in read_results(folder / cell.name)
                done += finished or not asked
                if not asked and (code or not finished):
                    failed[cell.name] = f"exit {code}: {_last_line(folder / f'{cell.name}.log')}"
            text = (
                "stopping; the trainings save ..." if asked else ", ".join(c.name for c in running)
            )
            report("cells", done + sum(_share(folder / c.name) for c in running), total, text)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGINT)
        for process in running.values():
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    return failed, bool(asked)


def _start(
    cell: Cell, folder: pathlib.Path, jobs: int, command: Callable[[Sequence[str]], list[str]]
) -> subprocess.Popen:
    run, flags = folder / cell.name, cell.configuration.flags
    most = max(
        jobs, _record(run).get("jobs", 1)
    )  # trainings at once, for the reader of its seconds
    with open(folder / f"{cell.name}.log", "a") as log:
        fcntl.flock(
            log, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # the training inherits it: a folder has one writer
        runs.write_json(
            folder / f"{cell.name}.json", {"flags": dict(flags), "seed": cell.seed, "jobs": most}
        )
        words = [*cell.arguments, "--out", str(run)]
        if (run / "config.json").exists():
            words = [*_arguments([f for f in flags if f[0] == "videos"]), "--resume", str(run)]
        return subprocess.Popen(
            command(words),
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def _record(run: pathlib.Path) -> dict:
    path = run.with_name(f"{run.name}.json")
    return json.loads(path.read_text()) if path.exists() else {}


def _last_line(log: pathlib.Path) -> str:
    return next(
        (
            line.strip()
            for line in reversed(log.read_text(errors="replace").splitlines())
            if line.strip()
        ),
        "it printed nothing",
    )


def _share(run: pathlib.Path) -> float:
    """How much of its budget a training has used, for the time left; 0 while it cannot be told."""
    try:
        config = json.loads((run / "config.json").read_text())
        job = config["job"]
        header, *_, last = (run / "metrics.csv").read_text().splitlines()
        row = dict(zip(header.split(","), last.split(","), strict=True))
        steps = job["env_steps"] + (
            len(config["train"]) * job["dagger"]["steps_per_task"]
            if job["warm_start"] == "dagger"
            else 0
        )
        minutes = float(row["seconds"]) / 60 / job["minutes"] if job.get("minutes") else 0.0
        return 0.95 * min(
            1.0, max(int(row["env_steps"]) / steps, minutes)
        )  # the rest is its evaluation
    except (OSError, ValueError, KeyError):
        return 0.0


def compare_job(
    path: pathlib.Path,
    out: pathlib.Path | None,
    jobs: int,
    seed: int,
    kinds: Kinds,
    console: Console,
    command: Callable[[Sequence[str]], list[str]] = train_command,
) -> dict:
    """`compare`: train what a grid describes and is not trained yet, and set the results side by side.

    Args:
        path: the grid, a TOML file.
        out: folder (default: runs/<name of the grid>); the same folder goes on.
        jobs: trainings at once.
        seed: of the bootstrap.
        kinds: the flags a grid may set, see `flag_kinds`.
        console: for the bar and the table.
        command: makes a training's process from its arguments.

    Returns:
        What compare.json holds.

    Raises:
        ValueError: a mistake in the grid, or a folder of other runs; nothing was started.
        RunError: cells failed; the table of the others is written and printed.
    """
    for name, value, least in (("jobs", jobs, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"--{name} must be at least {least}, not {value}")
    grid = read_grid(path, kinds)
    out = out or pathlib.Path("runs") / Configuration(grid.name, ()).folder
    cells, bars = out / "cells", Bars(console)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not cells.is_dir())):
        raise runs.RunError(f"{out} exists and is no comparison: choose another --out")
    for cell in grid.cells:
        run, flags = cells / cell.name, dict(cell.configuration.flags)
        if (run / "config.json").exists() and _record(run).get("flags", flags) != flags:
            raise runs.RunError(
                f"{run} was trained with other flags than {path} gives it now: choose another --out or label"
            )
    cells.mkdir(parents=True, exist_ok=True)
    with bars.progress:
        failed, stopped = run_cells(grid.cells, cells, jobs, bars, command)
    table = {c.label: {s: cells / Cell(c, s).name for s in grid.seeds} for c in grid.configurations}
    found, drawn = compare_runs(table, seed)
    most = max(_record(run).get("jobs", 1) for of in table.values() for run in of.values())
    found = {
        "name": grid.name,
        "jobs": most,
        **found,
        "failed": failed,
        "machine": runs.machine(),
        "flags": {c.label: dict(c.flags) for c in grid.configurations},
    }
    console.print(write_comparison(out, found, drawn), markup=False)
    if stopped:
        again = shlex.join(
            ["python", "train.py", "compare", str(path), "--out", str(out), "--jobs", str(jobs)]
        )
        console.print(f"stopped; go on with: {again}", markup=False)
    elif failed:
        raise runs.RunError(
            f"{len(failed)} of {len(grid.cells)} cells failed: {', '.join(failed)} (logs: {cells}/*.log)"
        )
    return found
