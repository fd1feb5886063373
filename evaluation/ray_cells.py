"""Cells of a grid on a Ray cluster: a training is an actor on one of its nodes.

Its folder comes back as it changes, so that a cell whose node failed goes on from there on another
node, as a resumed run does.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from uncap.agents.files import replacing
from uncap.evaluation import imports
from uncap.evaluation.grid import Cell, axes
from uncap.evaluation.places import Command, log_of
from uncap.evaluation.ray_node import Files, News, Trainer, files_of, grows, versions

LOOK = 1.0  # s between two looks at a training's files
LOSSES = 3  # of a cell, one after the other and with nothing brought back, until it has failed
KILL = 9  # SIGKILL, for which not every system has a name


def keep(news: News, folder: pathlib.Path) -> None:
    """Write what has come back, in an order that leaves a run that can go on, wherever it ends.

    What results.json says is done need not be done again: it comes after all that it tells of, and
    what a finished part does not need any more goes last.
    """
    for name in sorted(news.files, key=_turn):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(news.files[name])
    for name in sorted(news.removed):
        path = folder / name
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are in it
            path.parent.rmdir()


def _turn(name: str) -> tuple[int, int, str]:
    """When a file is written: config.json, what belongs to states, states, results, outer ones."""
    path = pathlib.PurePosixPath(name)
    turns = {"config.json": 0, "results.json": 3, "curve.json": 3}
    turn = turns.get(path.name, 2 if path.parent.name == "latest" else 1)
    return turn, -len(path.parts), name


class RayTraining:
    """A training on the cluster, see `places.Training`.

    Args:
        place: the cluster.
        run: its folder on this machine.
        words: of its process.
        threads: processors that it takes.
    """

    returncode: int | None = None

    def __init__(self, place: RayPlace, run: pathlib.Path, words: Sequence[str], threads: int):
        self._place = place
        self._run = run
        given = {
            path.relative_to(run.parent).as_posix(): path.read_bytes()
            for path, _ in files_of(run.parent, run.name)
        }
        options = place.trainer.options(num_cpus=threads, max_restarts=0, max_task_retries=0)
        self._actor = options.remote(run.name, list(words), given, place.modules, place.versions)
        self._asked: Any = self._actor.news.remote()
        self._begun = False  # a node has taken it
        self._ended = False
        self._next = 0.0  # when it is asked for news again, s

    def poll(self) -> int | None:
        """None while it runs."""
        if not self._ended and self._asked is None and time.monotonic() >= self._next:
            self._asked = self._actor.news.remote()
        if not self._ended and self._asked is not None:
            self._listen()
        return (self.returncode or 0) if self._ended else None

    def _listen(self) -> None:
        import ray  # optional
        from ray.exceptions import RayError

        if not ray.wait([self._asked], timeout=0)[0]:
            return
        try:
            news: Any = ray.get(self._asked)
        except RayError as error:
            self._lose(error)
            return
        self._asked, self._begun = None, True
        self._next = time.monotonic() + LOOK
        keep(news, self._run.parent)
        if any(not grows(name) for name in news.files):
            self._place.losses.pop(self._run, None)
        if news.returncode is not None:
            self.returncode = news.returncode
            self._end()

    def _lose(self, error: Exception) -> None:
        """Its node or its actor failed: what came back stays, and another one goes on with it."""
        losses = self._place.losses[self._run] = self._place.losses.get(self._run, 0) + 1
        reason = [line.strip() for line in str(error).splitlines() if line.strip()]
        with open(log_of(self._run), "a", encoding="utf-8") as log:
            log.write(f"lost on the cluster: {reason[-1] if reason else type(error).__name__}\n")
        if losses >= LOSSES:
            self.returncode = 1
        self._end()

    def _end(self) -> None:
        import ray  # optional

        self._ended = True
        ray.kill(self._actor)

    def wait(self) -> int:
        """Wait for its end."""
        while (code := self.poll()) is None:
            time.sleep(LOOK / 5)
        return code

    def send_signal(self, sig: int) -> None:
        """Send it a signal; SIGKILL ends it without waiting for it, as does any before it began."""
        if self._ended:
            return
        if not self._begun or sig == KILL:
            self._end()
        else:
            self._actor.send_signal.remote(sig)


class RayPlace:
    """A Ray cluster, see `places.Place`.

    Args:
        jobs: trainings at once.
        command: makes a training's process from its arguments.

    Attributes:
        trainer: class of the actors.
        modules: sources of the modules of `--import`, for the nodes.
        versions: that the nodes must have.
        losses: how often in a row a run was lost before anything of it came back.
    """

    def __init__(self, jobs: int, command: Command):
        import ray  # optional

        self.jobs = jobs
        self.command = command
        self.trainer: Any = ray.remote(Trainer)
        self.modules = _own_modules(pathlib.Path.cwd())
        self.versions = versions()
        self.losses: dict[pathlib.Path, int] = {}

    def start(self, cell: Cell, words: Sequence[str], run: pathlib.Path) -> RayTraining:
        """Start a training, see `places.Place`."""
        threads = threads_of(dict(cell.configuration.flags))
        own = [] if "--threads" in words else ["--threads", str(threads)]
        command = self.command([*own, *_absolute(words), run.name])
        return RayTraining(self, run, command, threads)


def threads_of(flags: Mapping[str, Any]) -> int:
    """Processors that a cell takes: its --threads, or one. Its results do not depend on it."""
    return flags.get("threads") or 1


def paths_of(flags: Mapping[str, Any]) -> list[str]:
    """The folders of a cell's flags, which have to be on every node."""
    return [os.path.abspath(flags[key]) for key in _path_flags() if flags.get(key)]


def _path_flags() -> dict[str, str]:
    """The flags of `train` that name a folder, by their keys."""
    return {key: flag.name for key, flag in axes().items() if flag.setting.path}


def _absolute(words: Sequence[str]) -> list[str]:
    """Arguments with whole paths: a training has a working directory of its own."""
    flags = set(_path_flags().values())
    before = ("", *words)
    return [
        os.path.abspath(word) if flag in flags else word
        for flag, word in zip(before, words, strict=False)
    ]


def _own_modules(here: pathlib.Path) -> Files:
    """Sources of the modules of `--import` that lie in a folder, by their place in it."""
    tops = {name.partition(".")[0] for name in imports.names()}
    files = [path for top in tops for path in (here / f"{top}.py", *(here / top).rglob("*.py"))]
    return {str(path.relative_to(here)): path.read_bytes() for path in files if path.is_file()}
