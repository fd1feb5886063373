"""Run folders: config.json before anything else, then metrics, checkpoint, episodes, results."""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import pathlib
import platform
import shutil
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from uncap.agents.files import LOCK, OWNER, FileError, is_owned, owned, read_json, write_json
from uncap.envs.cores import cores
from uncap.evaluation.metrics import Rows, read_metrics
from uncap.evaluation.program import command
from uncap.evaluation.run_shapes import BELIEFS, CONFIG, COSINES, RESULTS
from uncap.evaluation.shapes import Shape

FORMAT = 1  # of the run folder
RunError = FileError  # a run folder is not usable; the message says why, in one line

PARTS = "alone"  # folder of a single-task control's parts, in the run
TRANSFERS = "transfer"  # folder of the transfers that are not finished, one for each target
SETTINGS = "arm_settings"  # folder of a search for the settings of arms
SIGNS = (LOCK, OWNER)  # files that say who writes into a folder
_UNUSED = (*SIGNS, "config.json", "metrics.csv")  # all that a run has that never began


def create(path: pathlib.Path, config: dict) -> None:
    """Make a run folder and write its config.json; of several processes, one succeeds.

    Raises:
        RunError: the folder exists and is not empty.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = RunError(
        f"{path} exists and is not empty: choose another --out, or go on with "
        f"{command('--resume', path)}"
    )
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir() or not _is_empty(path):
            raise taken from None
    with owned(path):
        if not _is_empty(path):
            raise taken
        about = {"format": FORMAT, **config, "machine": machine(), "versions": versions()}
        try:
            write_json(path / "config.json", about)
        except OSError:  # such as a full disk
            shutil.rmtree(path, ignore_errors=True)
            raise


def create_next(path: pathlib.Path, config: dict) -> pathlib.Path:
    """Make a run folder of this name, or, where it is taken, of the next: `<name>-2`, ...

    Returns:
        The folder that was made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for n in itertools.count(1):
        free = path if n == 1 else path.with_name(f"{path.name}-{n}")
        with contextlib.suppress(FileExistsError):
            free.mkdir()
            create(free, config)
            return free
    raise AssertionError("numbers do not end")


def _is_empty(path: pathlib.Path) -> bool:
    return all(part.name in SIGNS for part in path.iterdir())


@contextlib.contextmanager
def writing(run: pathlib.Path, new: bool) -> Iterator[None]:
    """Be the one process that writes into a run folder; a new one that never began is removed.

    A part of a single-task control is owned together with the whole.

    Args:
        run: the folder.
        new: it was made for this job: removed if the job fails before it has learned anything.

    Raises:
        Busy: another process writes there.
    """
    try:
        with owned(_whole(run)):
            yield
    except Exception:
        if new and _is_unused(run):
            shutil.rmtree(run, ignore_errors=True)
        raise


@contextlib.contextmanager
def filling(folder: pathlib.Path) -> Iterator[None]:
    """Be the one process that fills a folder, made if it is missing; without files it is removed.

    Raises:
        Busy: another process writes there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with owned(folder, deep=False):
            yield
    finally:
        if folder.is_dir() and _is_empty(folder) and not is_owned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _whole(run: pathlib.Path) -> pathlib.Path:
    """The run that a run is a part of; itself where it is none."""
    parts = run.resolve().parent
    is_part = parts.name == PARTS and (parts.parent / "config.json").exists()
    return parts.parent if is_part else run


def _is_unused(run: pathlib.Path) -> bool:
    """Whether nothing was learned in a folder, or in those of a single-task control."""
    events = run / "tensorboard"  # made when metrics.csv is opened
    files = [path for path in run.rglob("*") if path.is_file() and path.parent != events]
    rows = [read_metrics(path).rows for path in files if path.name == "metrics.csv"]
    return all(path.name in _UNUSED for path in files) and not any(rows)


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
    file = path / "config.json"
    remedy = "without it the run cannot be used: put a copy back, or train anew"
    try:
        config = read_json(file, remedy)
    except FileNotFoundError:
        raise RunError(f"{path} is not a run folder: config.json is missing") from None
    if config.get("format") != FORMAT:
        raise RunError(
            f"{path} was written by another version: its format is {config.get('format')!r}, "
            f"this one reads {FORMAT}"
        )
    if problem := CONFIG(config, ""):
        raise RunError(f"{file} is damaged: {problem}; {remedy}")
    return config


def check_unseen(what: str, seen: Collection[str], targets: Sequence[str]) -> None:
    """Refuse targets that are not unseen.

    Args:
        what: was done, up to the names of rows: `RUN was trained on`.
        seen: rows of which that is so.
        targets: rows.

    Raises:
        RunError: some are among them.
    """
    if known := [name for name in targets if name in seen]:
        raise RunError(f"{what} {', '.join(known)}: a target must be unseen")


def read_shaped(path: pathlib.Path, shape: Shape, remedy: str) -> dict:
    """A JSON file of a shape; empty when there is none.

    Args:
        path: the file.
        shape: what it may hold.
        remedy: what a user can do if it is damaged.

    Raises:
        RunError: it is damaged.
    """
    try:
        found = read_json(path, remedy)
    except FileNotFoundError:
        return {}
    if problem := shape(found, ""):
        raise RunError(f"{path} is damaged: {problem}; {remedy}")
    return found


def read_results(run: pathlib.Path) -> dict:
    """A run's results.json; empty when there is none.

    Raises:
        RunError: it is damaged.
    """
    remedy = f"delete it, and {command('--resume', run)} makes it again"
    found = read_shaped(run / "results.json", RESULTS, remedy)
    if "mean_success" in found and not (found.get("per_task") and "worst_success" in found):
        raise RunError(
            f"{run / 'results.json'} is damaged: it lacks per_task or worst_success; {remedy}"
        )
    if "transfer" in found:
        targets = found["transfer"].items()
        found["transfer"] = {target: _with_arms(entry) for target, entry in targets}
    return found


def _with_arms(entry: dict) -> dict:
    """A transfer's results; in older ones, learners had other names than the arms of today."""
    if "pretrained" not in entry["curves"]:
        return entry
    from uncap.evaluation import gains  # it is slow to import

    names = {"pretrained": "fine_tune", "few_shot": f"demos_then_rl-{entry.get('few_shot', 0)}"}
    curves = {names.get(name, name): of_arm for name, of_arm in entry["curves"].items()}
    zero_shot = [
        {**curve, "steps": curve["steps"][:1], "success": curve["success"][:1]}
        for curve in entry["curves"]["pretrained"]
    ]
    curves = {"zero_shot": zero_shot, **curves}
    return {**entry, "curves": curves, **gains.measured(curves)}


def read_run_metrics(run: pathlib.Path) -> Rows:
    """A run's metrics, see `metrics.read_metrics`; of a finished run, lost rows are noticed.

    Raises:
        RunError: results.json is damaged.
    """
    path = run / "metrics.csv"
    found = read_metrics(path)
    last = read_results(run).get("metrics", {}).get("check", found.last)
    if found.problem or last == found.last:
        return found
    problem = f"{path} is damaged: rows at its end are missing"
    return found._replace(problem=problem if path.exists() else f"{path} is missing")


def problems(run: pathlib.Path) -> list[str]:
    """What is missing or damaged in a run folder and can be left out of a report, in lines.

    Raises:
        RunError: what cannot be left out is damaged.
    """
    found = [read_run_metrics(run).problem]
    results = read_results(run)
    if "mean_success" not in results:
        found.append(
            f"{run} has no results yet: it is not finished, or its results.json is missing"
        )
    asked = open_run(run).get("job", {}).get("cosines") is True
    if asked and "train" in results and not (run / "cosines.json").exists():
        found.append(f"{run / 'cosines.json'} is missing")
    if results.get("beliefs") and not (run / "beliefs.json").exists():
        found.append(f"{run / 'beliefs.json'} is missing")
    return [line for line in found if line]


def read_cosines(run: pathlib.Path) -> dict:
    """A run's cosines.json; empty when there is none.

    Raises:
        RunError: it is damaged.
    """
    path = run / "cosines.json"
    remedy = "delete it, and the report leaves it out"
    found = read_shaped(path, COSINES, remedy)
    size = len(found.get("tasks", ()))
    if any(len(line) != size for line in found.get("cosines", ())) or (
        found and len(found["cosines"]) != size
    ):
        raise RunError(f"{path} is damaged: it is no square of its {size} tasks; {remedy}")
    return found


def read_beliefs(run: pathlib.Path) -> dict:
    """A run's beliefs.json; empty when there is none.

    Raises:
        RunError: it is damaged.
    """
    path = run / "beliefs.json"
    remedy = "delete it, and the report leaves it out"
    found = read_shaped(path, BELIEFS, remedy)
    size = len(found.get("rows", ()))
    square = all(
        len(matrix) == size and all(len(line) == size for line in matrix)
        for matrix in found.get("after", ())
    )
    if found and not (
        size and found["own"] and len(found["own"]) == len(found["after"]) and square
    ):
        raise RunError(
            f"{path} is damaged: it has no square of its {size} rows for each attempt; {remedy}"
        )
    return found


def update_results(run: pathlib.Path, **entries: Any) -> dict:
    """Merge entries into results.json and return it.

    An entry replaces the one before; of `transfer`, a target's entry does.
    """
    results = read_results(run) or {"machine": machine()}
    for key, value in entries.items():
        if key == "transfer" and key in results:
            value = {**results[key], **value}
        results[key] = value
    if "train" in entries:  # metrics.csv is complete
        results["metrics"] = {"check": read_metrics(run / "metrics.csv").last}
    write_json(run / "results.json", results)
    return results


def forget_target(run: pathlib.Path, target: str) -> None:
    """Remove a target of transfers from results.json, if it is there."""
    results = read_results(run)
    if results.get("transfer", {}).pop(target, None):
        write_json(run / "results.json", results)


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
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
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
