"""Run folders: config.json before anything else, then metrics, checkpoint, episodes, results."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from typing import Any

from agents.tables import WARM_STARTS
from envs.cores import cores

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


class Metrics:
    """metrics.csv: a row per update; goes on where the file is there.

    Args:
        path: of the file.
        columns: of a row.
        keep_steps: rows of more environment steps are dropped: they came after what is resumed;
            None: all are.
        loggers: that get every number, too, see `loggers.LOGGERS`; they are closed with the file.
    """

    def __init__(
        self,
        path: pathlib.Path,
        columns: list[str],
        keep_steps: int | None = None,
        loggers: Sequence[Any] = (),
    ):
        self._loggers = loggers
        kept = _rows_before(path, keep_steps) if path.exists() else []
        self._file = open(path, "w", newline="")  # noqa: SIM115 - closed by close()
        self._writer = csv.DictWriter(self._file, columns)
        self._writer.writeheader()
        self._writer.writerows(kept)

    def row(self, **values: Any) -> None:
        """Append a row; missing columns stay empty."""
        self._writer.writerow(values)
        self._file.flush()
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float) and name != "env_steps"
        }
        for logger in self._loggers:
            logger.log(numbers, values["env_steps"])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        for logger in self._loggers:
            logger.close()


def _rows_before(path: pathlib.Path, steps: int | None) -> list[dict[str, str]]:
    """Rows of metrics.csv up to a number of environment steps; those of a warm start all stay."""
    whole = WARM_STARTS if steps else ()
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["phase"] in whole or int(row["env_steps"]) <= (steps or 0)]


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
