"""Run folders: config.json before anything else, then metrics, checkpoint, episodes, results."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import pathlib
import platform
from collections.abc import Sequence

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
            f"{path} was written by another version: its format is {config.get('format')}, this one reads {FORMAT}"
        )
    return config


def write_json(path: pathlib.Path, value: dict) -> None:
    """Write JSON, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1))
    os.replace(temporary, path)


def update_results(run: pathlib.Path, **entries) -> dict:
    """Merge entries into results.json (dictionaries one level deep) and return it."""
    path = run / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {"machine": machine()}
    for key, value in entries.items():
        results[key] = {**results[key], **value} if key == "transfer" and key in results else value
    write_json(path, results)
    return results


class Metrics:
    """metrics.csv: one row per update, the header from the first row; appends when the file is there.

    Args:
        path: of the file.
        columns: of a row.
        keep_steps: rows of more environment steps are dropped: they came after what is resumed.
        loggers: that get every number, too, see `loggers.LOGGERS`; they are closed with the file.
    """

    def __init__(
        self,
        path: pathlib.Path,
        columns: list[str],
        keep_steps: int | None = None,
        loggers: Sequence = (),
    ):
        self.columns, rows, self._loggers = columns, [], loggers
        if path.exists():
            with open(path, newline="") as file:
                warm = ("dagger", "clone") if keep_steps else ()
                rows = [
                    r
                    for r in csv.DictReader(file)
                    if r["phase"] in warm or int(r["env_steps"]) <= (keep_steps or 0)
                ]
        self._file = open(path, "w", newline="")  # noqa: SIM115 - closed by close()
        self._writer = csv.DictWriter(self._file, columns)
        self._writer.writeheader()
        self._writer.writerows(rows)

    def row(self, **values) -> None:
        """Append a row; missing columns stay empty."""
        self._writer.writerow(values)
        self._file.flush()
        numbers = {
            k: v for k, v in values.items() if isinstance(v, int | float) and k != "env_steps"
        }
        for logger in self._loggers:
            logger.log(numbers, values["env_steps"])

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        for logger in self._loggers:
            logger.close()


def machine() -> dict:
    """Processor, cores and operating system, for the reader of a number."""
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (
                line.split(":", 1)[1].strip()
                for line in info.read_text().splitlines()
                if line.startswith("model name")
            ),
            model,
        )
    return {
        "processor": model,
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


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
