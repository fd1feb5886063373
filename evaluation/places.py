"""Where the cells of a grid are trained: in processes of this machine, or on a Ray cluster.

A place starts trainings; `compare.Cells` waits for them, stops them and goes on with them without
knowing where they are.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import uncap
from uncap.evaluation import imports

if TYPE_CHECKING:  # nodes of a cluster import this, and need no torch for it
    from uncap.evaluation.grid import Cell

Command = Callable[[Sequence[str]], list[str]]  # makes a training's process from its arguments


def train_command(arguments: Sequence[str]) -> list[str]:
    """The process that trains one cell."""
    return [sys.executable, "-P", "-m", "uncap", *imports.words(), "train", *arguments]


def environment() -> dict[str, str]:
    """Variables of a training's process: it finds this Uncap, wherever it is started."""
    paths = [str(pathlib.Path(uncap.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }


def log_of(run: pathlib.Path) -> pathlib.Path:
    """The file of what a training prints, beside its run folder."""
    return run.with_name(f"{run.name}.log")


class Training(Protocol):
    """A training that runs."""

    @property
    def returncode(self) -> int | None:
        """Its exit status; None while it runs, or if it ended and nobody knows how.

        The latter is gone on with: its node failed, or another comparison had started it.
        """
        ...

    def poll(self) -> int | None:
        """None while it runs."""
        ...

    def wait(self) -> int:
        """Wait for its end."""
        ...

    def send_signal(self, sig: int) -> None:
        """Send it a signal."""
        ...


class Place(Protocol):
    """Where cells are trained.

    Attributes:
        jobs: trainings at once.
    """

    jobs: int

    def start(self, cell: Cell, words: Sequence[str], run: pathlib.Path) -> Training:
        """Start a training, or go on with one.

        Args:
            cell: that is trained.
            words: arguments of `train`, without its run folder, which is the last one.
            run: that folder, on this machine: all that a training leaves is found there.
        """
        ...


class Here:
    """This machine: a process for each training.

    Args:
        jobs: trainings at once.
        command: makes a training's process from its arguments.
    """

    def __init__(self, jobs: int, command: Command = train_command):
        self.jobs = jobs
        self.command = command

    def start(self, cell: Cell, words: Sequence[str], run: pathlib.Path) -> subprocess.Popen:
        """Start a training, see `Place`."""
        with open(log_of(run), "a", encoding="utf-8") as log:
            return subprocess.Popen(
                self.command([*words, str(run)]),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment(),
            )


@contextlib.contextmanager
def opened(
    ray: str | None, jobs: int | None, command: Command, flags: Sequence[Mapping[str, Any]]
) -> Iterator[Place]:
    """The place that a command line asks for.

    Args:
        ray: address of a Ray cluster; None: this machine.
        jobs: trainings at once; None: one here, on a cluster as many as it has processors for.
        command: makes a training's process from its arguments.
        flags: of the cells that are trained there.

    Raises:
        ValueError, RuntimeError: the cluster cannot be used; in one line.
    """
    if ray is None:
        yield Here(jobs or 1, command)
        return
    from uncap.evaluation import ray_cluster  # Ray is optional

    with ray_cluster.connected(ray, jobs, command, flags) as place:
        yield place


def words_of(ray: str | None, jobs: int | None, shard: str | None = None) -> list[str]:
    """The arguments of a command line that train the same cells at the same place."""
    given = {"--jobs": jobs, "--ray": ray, "--shard": shard}
    return [str(word) for flag, value in given.items() if value for word in (flag, value)]
