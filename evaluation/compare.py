"""Comparisons: every cell of a grid is a training in a process of its own.

They can be stopped and go on, and a training that fails does not stop the others.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console

from uncap.agents.files import Busy, is_alive, is_owned, owned, owner, write_json
from uncap.envs.rewards import VERSION
from uncap.evaluation import kept, places, program, runs
from uncap.evaluation.compare_report import compare_runs, write_comparison
from uncap.evaluation.config import CompareConfig
from uncap.evaluation.grid import Axes, Cell, Configuration, Grid, read_grid, shard_of
from uncap.evaluation.interrupt import INTERRUPTED
from uncap.evaluation.places import Command, Place, Training, log_of, train_command
from uncap.evaluation.progress import Bars
from uncap.evaluation.shapes import anything, count, fields, mapped

POLL = 0.2  # s between two looks at the processes
EVALUATION_SHARE = 0.05  # of a training's time, after its budget is used
SHARDS = "shards"  # folder beside that of the cells: who trains which part of a grid
STOP_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
RECORD = fields(
    {"flags": mapped(anything), "seed": count}, {"jobs": count, "pid": count}
)  # of a cell, beside its run folder
Report = Callable[[str, float, int, str], None]  # (phase, done, total, text)
Check = Callable[[Cell], None]  # raises ValueError where a cell cannot be


class Orphan:
    """A training that a comparison which was killed had started.

    Args:
        run: its folder.
    """

    returncode: int | None = None

    def __init__(self, run: pathlib.Path):
        self.run = run

    def poll(self) -> int | None:
        """None while it runs, then 0: how it ended is seen in its folder."""
        return None if is_training(self.run) else 0

    def wait(self) -> int:
        """Wait for its end."""
        while self.poll() is None:
            time.sleep(POLL)
        return 0

    def send_signal(self, sig: int) -> None:
        """Send it a signal, if it is known which process it is."""
        pid = process_of(self.run)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)


class Cells:
    """The trainings of a grid, some at once.

    Ctrl-C (or SIGTERM, SIGHUP) is passed on once to each training, which saves and ends; a second
    one is passed on, too; the third kills. Trainings that an earlier comparison left behind when
    it was killed are waited for, as if they were our own; what they leave undone is gone on with.

    Args:
        cells: all of them; those that are finished are left as they are.
        folder: of their run folders.
        place: where they are trained.

    Attributes:
        failed: name of a failed cell -> why.
        stopped: whether a signal asked to stop.
    """

    def __init__(self, cells: Sequence[Cell], folder: pathlib.Path, place: Place) -> None:
        self.folder = folder
        self.place = place
        self.waiting = [cell for cell in cells if not is_finished(folder / cell.name)]
        self.total = len(self.waiting)
        self.running: dict[Cell, Training] = {}
        self.done = 0
        self.failed: dict[str, str] = {}
        self._asked = 0  # how often a signal asked to stop
        self._passed_on = 0  # how many of these the trainings got

    @property
    def stopped(self) -> bool:
        """Whether a signal asked to stop."""
        return self._asked > 0

    def run(self, report: Report) -> None:
        """Train what is not finished.

        Args:
            report: called with (phase, cells done, all of them, text) all along.
        """
        before = {number: signal.signal(number, self._ask) for number in STOP_SIGNALS}
        self.waiting.sort(key=lambda cell: not is_training(self.folder / cell.name))
        try:
            while self.running or (self.waiting and not self.stopped):
                self._start_waiting()
                self._pass_on_signals()
                time.sleep(POLL)
                self._collect_ended()
                report("cells", self._progress(), self.total, self._text())
        finally:
            for process in self.running.values():
                process.send_signal(signal.SIGINT)
            for process in self.running.values():
                process.wait()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, *_: Any) -> None:
        self._asked += 1

    def _start_waiting(self) -> None:
        while self.waiting and len(self.running) < self.place.jobs and not self.stopped:
            cell = self.waiting.pop(0)
            run = self.folder / cell.name
            self.running[cell] = Orphan(run) if is_training(run) else self._start(cell)

    def _start(self, cell: Cell) -> Training:
        run = self.folder / cell.name
        flags = dict(cell.configuration.flags)
        at_once = max(self.place.jobs, record_of(run).get("jobs", 1))  # for who reads its seconds
        record = {"flags": flags, "seed": cell.seed, "jobs": at_once}
        write_json(_record_file(run), record)
        training = self.place.start(cell, self._words(cell, run), run)
        pid = getattr(training, "pid", None)  # of a process on this machine
        if pid is not None:
            write_json(_record_file(run), {**record, "pid": pid})
        return training

    def _words(self, cell: Cell, run: pathlib.Path) -> list[str]:
        """Arguments of its training, without its run folder."""
        if not (run / "config.json").exists():
            return [*cell.arguments, "--out"]
        films = [word for word in cell.arguments if word in ("--videos", "--no-videos")]
        return [*films, "--resume"]

    def _pass_on_signals(self) -> None:
        if self._asked > self._passed_on:
            self._passed_on = self._asked
            number = signal.SIGINT if self._passed_on < 3 else signal.SIGKILL
            for process in self.running.values():
                process.send_signal(number)

    def _collect_ended(self) -> None:
        ended = [cell for cell, process in self.running.items() if process.poll() is not None]
        for cell in ended:
            process = self.running.pop(cell)
            code = process.returncode
            finished = is_finished(self.folder / cell.name)
            if code is None and not finished and not self.stopped:
                self.waiting.insert(0, cell)  # nobody knows how it ended: it is gone on with
                continue
            self.done += finished or not self.stopped
            if not self.stopped and (code or not finished):
                why = last_line(log_of(self.folder / cell.name))
                self.failed[cell.name] = f"exit {code}: {why}"

    def _progress(self) -> float:
        """Cells done, parts of those that run included."""
        return self.done + sum(budget_used(self.folder / cell.name) for cell in self.running)

    def _text(self) -> str:
        if self.stopped:
            return "stopping; the trainings save ..."
        return ", ".join(cell.name for cell in self.running)


def is_finished(run: pathlib.Path) -> bool:
    """Whether all of a training's job is done: its evaluation, transfers, films and report."""
    return "mean_success" in runs.read_results(run) and not (run / kept.FILE).exists()


def _record_file(run: pathlib.Path) -> pathlib.Path:
    return run.with_name(f"{run.name}.json")


def record_of(run: pathlib.Path) -> dict:
    """What was noted when a cell was started: flags, seed, trainings at once; empty before.

    Flags are as a grid gives them: tuples, where JSON has lists.

    Raises:
        RunError: it is damaged.
    """
    path = _record_file(run)
    found = runs.read_shaped(path, RECORD, f"delete it, and {run}, to train the cell again")
    if "flags" in found:
        found["flags"] = {key: _as_tuples(value) for key, value in found["flags"].items()}
    return found


def _as_tuples(value: Any) -> Any:
    """A value of JSON whose lists, nested ones, too, are tuples."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def is_training(run: pathlib.Path) -> bool:
    """Whether a process trains a cell, also one that has not made its folder yet."""
    return is_owned(run) or process_of(run) is not None


def process_of(run: pathlib.Path) -> int | None:
    """The process that trains a cell; None if there is none, or it cannot be told."""
    record = record_of(run)
    known = (record.get("pid"), owner(run).get("pid"))
    begun = bool(record) and "pid" not in record  # the kill came before its number was noted
    for pid in (*known, *(_processes() if begun else ())):
        if type(pid) is int and is_alive(pid) and _may_train(pid, run):
            return pid
    return None


def _processes() -> list[int]:
    """All processes of a Linux machine."""
    return [int(path.name) for path in pathlib.Path("/proc").glob("[0-9]*")]


def _may_train(pid: int, run: pathlib.Path) -> bool:
    """Whether a process is a training of this folder; numbers of processes are used again."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:  # no Linux: only the lock tells
        return False
    return any(os.fsencode(end) in words for end in (run, run.resolve()))


def last_line(log: pathlib.Path) -> str:
    """The last line of a training's output that is not empty."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "it printed nothing")


def budget_used(run: pathlib.Path) -> float:
    """Share of its time that a training has used; 0 while it cannot be told."""
    try:
        size = (run / "metrics.csv").stat().st_size
    except OSError:
        return 0.0
    return _budget_used(run, size)


@functools.lru_cache(maxsize=64)
def _budget_used(run: pathlib.Path, size: int) -> float:  # noqa: ARG001 a file of another size is read
    try:
        config = runs.open_run(run)
        text = (run / "metrics.csv").read_text(encoding="utf-8")
        header, *_, last = text.splitlines()
        row = dict(zip(header.split(","), last.split(","), strict=True))
        job = config["job"]
        steps = job["env_steps"]
        if job["warm_start"] == "dagger":
            dagger = job["dagger"]
            steps += dagger.get("steps") or len(config["train"]) * dagger["steps_per_task"]
        used = int(row["env_steps"]) / steps
        if job.get("minutes"):
            used = max(used, float(row["seconds"]) / 60 / job["minutes"])
        return (1 - EVALUATION_SHARE) * min(1.0, used)
    except (OSError, ArithmeticError, LookupError, TypeError, ValueError):
        return 0.0


def compare(
    config: CompareConfig,
    axes: Axes,
    console: Console,
    command: Command = train_command,
    check: Check | None = None,
) -> dict:
    """Train what a grid describes and is not trained yet, and set the results side by side.

    Args:
        config: the grid, and where it is trained; the same folder goes on.
        axes: the flags that a grid may set.
        console: for the bar and the table.
        command: makes a training's process from its arguments.
        check: refuses a cell that is to be trained, before any is; None: none is refused.

    Returns:
        What compare.json holds; nothing of a shard, which makes no table.

    Raises:
        ValueError: a mistake in the grid, or a folder of other runs; nothing was started.
        RunError: cells failed; the table of the others is written and printed.
        SystemExit: a shard was stopped.
    """
    grid = read_grid(config.grid, axes).on(config.engine)
    out = config.out or pathlib.Path("runs") / Configuration(grid.name, ()).folder
    folder = out / "cells"
    _check_folder(out, folder, grid, config.grid)
    _check_rewards(folder, grid, config.mixed_rewards)
    mine = shard_of(grid.cells, config.shard)
    if check:
        check_cells([cell for cell in mine if not is_finished(folder / cell.name)], check)
    flags = [dict(cell.configuration.flags) for cell in mine]
    bars = Bars(console)
    found = {}
    with places.opened(config.ray, config.jobs, command, flags) as place:
        folder.mkdir(parents=True, exist_ok=True)
        with _owned(out, config.shard):
            with bars.progress:
                cells = Cells(mine, folder, place)
                cells.run(bars)
            if not config.shard:
                found = _write(grid, out, folder, cells.failed, config.seed, console)
    engine = ("--engine", config.engine) if config.engine else ()
    words = program.command("compare", config.grid, "--out", out, *engine)
    if cells.stopped:
        where = places.words_of(config.ray, config.jobs, config.shard)
        again = " ".join([words, *where])
        console.print(f"stopped; go on with: {again}", markup=False)
        if config.shard:
            raise SystemExit(INTERRUPTED)  # what waits for its end, such as Slurm, waits on
    elif cells.failed:
        raise runs.RunError(
            f"{len(cells.failed)} of {len(mine)} cells failed: {', '.join(cells.failed)} "
            f"(logs: {folder}/*.log)"
        )
    elif config.shard:
        done = f"shard {config.shard}: {len(mine)} of {len(grid.cells)} cells are trained"
        console.print(f"{done}; the table, once all shards are: {words}", markup=False)
    return found


def check_cells(cells: Iterable[Cell], check: Check) -> None:
    """Refuse cells before any is trained.

    Args:
        cells: those that are to be trained.
        check: refuses one.

    Raises:
        ValueError: the first cell that is refused, and why.
    """
    for cell in cells:
        try:
            check(cell)
        except ValueError as error:
            raise ValueError(f"the cell {cell.configuration.label!r}: {error}") from None


@contextlib.contextmanager
def _owned(out: pathlib.Path, shard: str | None) -> Iterator[None]:
    """Be the one process that trains a grid in a folder, or a shard of it beside other shards.

    Raises:
        Busy: another process is, or the shards are not done.
    """
    own = out / SHARDS / shard.replace("/", "-of-") if shard else out
    own.mkdir(parents=True, exist_ok=True)
    others = [out] if shard else sorted((out / SHARDS).glob("*/"))
    if other := next((folder for folder in others if is_owned(folder)), None):
        raise Busy(f"{other} is being written by another comparison: wait until it ends, or end it")
    with owned(own):
        yield


def _check_folder(out: pathlib.Path, folder: pathlib.Path, grid: Grid, path: pathlib.Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not folder.is_dir())):
        raise runs.RunError(f"{out} exists and is no comparison: choose another --out")
    for cell in grid.cells:
        run = folder / cell.name
        flags = dict(cell.configuration.flags)
        if (run / "config.json").exists() and record_of(run).get("flags", flags) != flags:
            raise runs.RunError(
                f"{run} was trained with other flags than {path} gives it now: choose another "
                "--out or label"
            )


def _check_rewards(folder: pathlib.Path, grid: Grid, mixed: bool) -> None:
    """Refuse to set runs of different versions of the rewards side by side, unless told to."""
    runs_of_grid = [folder / cell.name for cell in grid.cells]
    trained = {run: runs.open_run(run) for run in runs_of_grid if (run / "config.json").exists()}
    versions = {run: config.get("reward_version", VERSION) for run, config in trained.items()}
    found = set(versions.values())
    if any("mean_success" not in runs.read_results(run) for run in runs_of_grid):
        found.add(VERSION)  # of what is still to be trained
    if len(found) > 1 and not mixed:
        other = next(run for run, version in versions.items() if version != VERSION)
        raise runs.RunError(
            f"{other} was trained with rewards of version {versions[other]}, others with "
            f"{VERSION}: choose another --out to train all anew, or compare them all the same "
            "with --mixed-rewards"
        )


def _notes(grid: Grid, folder: pathlib.Path) -> list[str]:
    """What a reader of the comparison should know of its runs, in lines."""
    found = []
    for cell in grid.cells:
        run = folder / cell.name
        if (run / "config.json").exists():
            if not record_of(run):
                found.append(f"{_record_file(run)} is missing: with what flags it ran is not known")
            version = runs.open_run(run).get("reward_version", VERSION)
            if version != VERSION:
                found.append(
                    f"{cell.name} was trained with rewards of version {version}; now it is "
                    f"{VERSION}"
                )
        if problem := runs.read_run_metrics(run).problem:
            found.append(problem)
    return found


def _write(
    grid: Grid,
    out: pathlib.Path,
    folder: pathlib.Path,
    failed: dict[str, str],
    seed: int,
    console: Console,
) -> dict:
    """Write the comparison's files from the run folders, and print its table."""
    table = {
        configuration.label: {
            number: folder / Cell(configuration, number).name for number in grid.seeds
        }
        for configuration in grid.configurations
    }
    found, curves = compare_runs(table, seed)
    records = [record_of(run) for by_seed in table.values() for run in by_seed.values()]
    found = {
        "name": grid.name,
        "jobs": max(record.get("jobs", 1) for record in records),
        **found,
        "failed": failed,
        "notes": _notes(grid, folder),
        "machine": runs.machine(),
        "flags": {c.label: dict(c.flags) for c in grid.configurations},
    }
    console.print(write_comparison(out, found, curves), markup=False)
    return found
