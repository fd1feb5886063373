"""A training on a node of a Ray cluster, and what comes back of it.

A node shares no file system with the machine that asks for the training: its run folder is sent
there, and comes back file by file as it changes. What has come back is what a kill at that moment
would have left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

import uncap
from uncap.agents.files import TEMPORARY, is_owned, owned
from uncap.evaluation import runs
from uncap.evaluation.places import environment

NOTE = 10.0  # s after which a log and metrics.csv come back, if nothing else has changed
READS, PAUSE = 20, 0.05  # looks for a moment at which no file is replaced, and s between them
STALE = 3_600.0  # s after which the folder of a process that was killed is removed
PREFIX = "uncap-cell-"  # of temporary folders on a node
METRICS = "metrics.csv"

# A process that ends with its parent, where the system can: Linux; Ray's own let no Ctrl-C through
_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if hasattr(signal, "pthread_sigmask"):
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.execv(sys.argv[1], sys.argv[1:])
"""

Files = dict[str, bytes]  # by their place beside the run folder: NAME/config.json, NAME.log
Signature = tuple[int, int, int]  # inode, time of the last change in ns, bytes


def versions() -> dict[str, str]:
    """What results depend on: versions, the kind of machine, and a digest of Uncap's own source."""
    source = hashlib.sha256()
    place = pathlib.Path(uncap.__file__).parent
    for part in ("envs", "agents", "evaluation"):
        for path in sorted((place / part).glob("*.py")):
            source.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    kind = f"{platform.system()} {platform.machine()}"
    return {**runs.versions(), "system": kind, "uncap's source": source.hexdigest()[:12]}


def other_version(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """In what a node differs from the machine that asks; empty if in nothing."""
    for name, version in ours.items():
        if theirs.get(name) != version:
            return (
                f"has {name} {theirs.get(name)}, here it is {version}: results would differ; "
                "install the same there"
            )
    return ""


@dataclasses.dataclass(frozen=True)
class News:
    """What has happened to a training since the last news.

    Attributes:
        returncode: its exit status; None while it runs.
        files: that have changed.
        removed: names of those that are gone.
    """

    returncode: int | None
    files: Files
    removed: tuple[str, ...]


class Trainer:
    """A training on a node: an actor.

    Args:
        name: of its run folder.
        words: of its process; the first one is this node's Python.
        files: what an earlier one has left.
        modules: sources of a user's modules, by their place in the working directory.
        ours: versions of the machine that asks.

    Raises:
        RunError: the node has other versions; it may have joined the cluster just now.
    """

    def __init__(
        self,
        name: str,
        words: Sequence[str],
        files: Files,
        modules: Files,
        ours: Mapping[str, str],
    ):
        if unlike := other_version(versions(), ours):
            raise runs.RunError(f"node {platform.node()} {unlike}")
        _remove_stale()
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
        self._owned = contextlib.ExitStack()
        self._owned.enter_context(owned(self._folder, deep=False))
        self._name = name
        for place, content in {**files, **modules}.items():
            path = self._folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._sent = self._signatures()
        self._noted = time.monotonic()
        with open(self._folder / f"{name}.log", "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-ISc", _WITH_PARENT, sys.executable, *words[1:]],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=environment(),
            )

    def send_signal(self, number: int) -> None:
        """Send the training a signal."""
        self._process.send_signal(number)

    def news(self) -> News:
        """What has happened since the last call; of a training that ended, nothing is left here."""
        code = self._process.poll()
        now = self._signatures()
        due = code is not None or time.monotonic() - self._noted >= NOTE
        if not due and all(grows(name) for name in now.keys() | self._sent if self._new(name, now)):
            return News(code, {}, ())
        for _ in range(READS):
            files = self._changed(now)
            if files is not None:
                break
            time.sleep(PAUSE)
            now = self._signatures()
        else:  # it is writing all the time
            return News(None, {}, ())
        removed = tuple(self._sent.keys() - now.keys())
        self._sent, self._noted = now, time.monotonic()
        if code is not None:
            self._owned.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        return News(code, files, removed)

    def _new(self, name: str, now: Mapping[str, Signature]) -> bool:
        return now.get(name) != self._sent.get(name)

    def _changed(self, now: Mapping[str, Signature]) -> Files | None:
        """Files that have changed, all as they were at one moment; None if one changed meanwhile.

        What only grows may have grown: a run that goes on cuts it at what belongs to its state.
        """
        names = sorted(filter(lambda name: self._new(name, now), now), key=grows)
        try:
            files = {name: (self._folder / name).read_bytes() for name in names}
        except FileNotFoundError:
            return None
        return files if _whole(now) == _whole(self._signatures()) else None

    def _signatures(self) -> dict[str, Signature]:
        """Of every file of the training, by its name."""
        return {
            str(path.relative_to(self._folder)): (about.st_ino, about.st_mtime_ns, about.st_size)
            for path, about in files_of(self._folder, self._name)
        }


def files_of(folder: pathlib.Path, name: str) -> Iterator[tuple[pathlib.Path, os.stat_result]]:
    """A training's run folder and log, without what only its process needs."""
    for path in (folder / f"{name}.log", *(folder / name).rglob("*")):
        if path.name not in runs.SIGNS and TEMPORARY not in path.name:
            with contextlib.suppress(FileNotFoundError):  # it was replaced or removed just now
                about = path.stat()
                if path.is_file():
                    yield path, about


def grows(name: str) -> bool:
    """Whether a file is added to all the time."""
    return name.endswith((f"/{METRICS}", ".log"))


def _whole(now: Mapping[str, Signature]) -> dict[str, Signature]:
    """The files that are replaced whole."""
    return {name: signature for name, signature in now.items() if not grows(name)}


def _remove_stale() -> None:
    """Remove folders that processes which were killed have left on this node."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            old = time.time() - folder.stat().st_mtime > STALE
            if old and not is_owned(folder):
                shutil.rmtree(folder, ignore_errors=True)
