"""Run folders: config.json before anything else, then metrics, checkpoint, episodes, results."""

from __future__ import annotations

import csv
import importlib.metadata
import itertools
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any, NamedTuple

from envs.batch import cores

FORMAT = 1  # of the run folder


class RunError(ValueError):
    """A run folder is not usable; the message says why, in one line."""


def create(path: pathlib.Path, config: dict) -> None:
    """Make a run folder and write its config.json.

    Raises:
        RunError: the folder exists and is not empty.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"{path} exists and is not empty: choose another --out, or go on with --resume {path}"
        )
    path.mkdir(parents=True, exist_ok=True)
    write_json(
        path / "config.json",
        {"format": FORMAT, **config, "machine": machine(), "versions": versions()},
    )


def open_run(path: pathlib.Path) -> dict:
    """The config of a run folder.

    Raises:
        RunError: missing, no run, damaged, or of another format.
    """
    if not path.is_dir():
        near = (
            sorted(p.name for p in path.parent.glob("*") if (p / "config.json").exists())
            if path.parent.is_dir()
            else []
        )
        raise RunError(
            f"there is no run folder {path}" + (f" (runs there: {', '.join(near)})" if near else "")
        )
    try:
        config = json.loads((path / "config.json").read_text())
    except FileNotFoundError:
        raise RunError(f"{path} is not a run folder: config.json is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise RunError(f"{path}/config.json is damaged: it is not JSON") from None
    if config.get("format") != FORMAT:
        raise RunError(
            f"{path} was written by another version: its format is {config.get('format')}, "
            f"this one reads {FORMAT}"
        )
    return config


def write_json(path: pathlib.Path, value: dict) -> None:
    """Write JSON, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1))
    os.replace(temporary, path)


def read_results(run: pathlib.Path) -> dict:
    """A run's results.json; empty when there is none.

    Raises:
        RunError: it is damaged.
    """
    path = run / "results.json"
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise RunError(
            f"{path} is damaged: it is not JSON; delete {run} to train it again"
        ) from None


def update_results(run: pathlib.Path, **entries: Any) -> dict:
    """Merge entries into results.json and return it.

    An entry replaces the one before; of `transfer`, a target's entry does.
    """
    results = read_results(run) or {"machine": machine()}
    for key, value in entries.items():
        if key == "transfer" and key in results:
            value = {**results[key], **value}
        results[key] = value
    write_json(run / "results.json", results)
    return results


class Logged(NamedTuple):
    """What was logged so far."""

    rows: int = 0
    steps: int = -1  # most environment steps of a row


class Metrics:
    """metrics.csv: a row per update; goes on where the file is there.

    Args:
        path: of the file.
        columns: of a row.
        logged: rows to keep; those behind them came after what is resumed, and are dropped.
        loggers: that get every number, too, see `loggers.LOGGERS`; they are closed with the file.
    """

    def __init__(
        self,
        path: pathlib.Path,
        columns: list[str],
        logged: Logged = Logged(),  # noqa: B008 - cannot be changed
        loggers: Sequence[Any] = (),
    ):
        self._loggers = loggers
        self.logged = logged
        kept = _first_rows(path, logged.rows)
        temporary = path.with_suffix(".tmp")
        with open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(kept)
        os.replace(temporary, path)
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 - see close()
        self._writer = csv.DictWriter(self._file, columns)

    def row(self, **values: Any) -> None:
        """Append a row; missing columns stay empty."""
        self._writer.writerow(values)
        self._file.flush()
        steps = max(self.logged.steps, values["env_steps"])
        self.logged = Logged(self.logged.rows + 1, steps)
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float) and name != "env_steps"
        }
        for logger in self._loggers:
            logger.log(numbers, values["env_steps"])

    def sync(self) -> Logged:
        """What was logged so far, once it is on the disk."""
        os.fsync(self._file.fileno())
        return self.logged

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        for logger in self._loggers:
            logger.close()


def _first_rows(path: pathlib.Path, count: int) -> list[dict[str, str]]:
    """The first rows of metrics.csv, as many as there were when the state was saved."""
    if not count or not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(itertools.islice(csv.DictReader(file), count))


def machine() -> dict[str, Any]:
    """Processor, cores and operating system, for the reader of a number."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def versions() -> dict:
    """Versions of what the numbers depend on."""
    names = ("uncap", "mujoco", "gymnasium", "stable-baselines3", "torch", "numpy")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
