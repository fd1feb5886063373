"""Files that are whole or not there, that tell damage, and folders with one writer at a time.

Everything that the program writes and reads back goes through here. A JSON file carries a digest
of what it holds under the key `sha256`; files without one, of older versions or changed by hand
on purpose, are read as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import platform
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import filelock

DIGEST = "sha256"  # key of a JSON file's digest of everything else in it
LOCK = ".lock"  # in a folder; held while a process writes there
OWNER = ".owner"  # beside it: which process that is, in JSON
PATIENCE = 0.5  # s that a writer waits for the lock: `is_owned` holds it for a moment
TEMPORARY = ".tmp"  # in the names of files that are not yet whole
Json = Mapping[str, Any]


class FileError(ValueError):
    """A file or folder is not usable; the message says which and why, in one line."""


class Busy(FileError):
    """Another process writes into a folder."""


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file to write in place of `path`, which it replaces when it is whole and on the disk.

    If the block fails, `path` stays as it was.

    Args:
        path: to write; the file that is given has its folder and its suffix.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{TEMPORARY}{path.suffix}")
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # what a user knows
        raise
    flush(path.parent)


@contextlib.contextmanager
def making(folder: pathlib.Path, place: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty folder to fill, which becomes `folder` when it is whole and on the disk.

    If the block fails, nothing stays. What a process that was killed left in `place` is removed.

    Args:
        folder: to make.
        place: a folder of the same file system where it is made, by one process at a time.

    Raises:
        Busy: another process makes something there.
        ValueError: the folder exists, or was made meanwhile.
    """
    place.mkdir(parents=True, exist_ok=True)
    with owned(place):
        try:
            check_free(folder)
            made = place / "made"
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            yield made
            for path in (*made.rglob("*"), made):
                flush(path)
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.rename(made, folder)
            flush(folder.parent)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def check_free(folder: pathlib.Path) -> None:
    """Refuse a folder that exists.

    Raises:
        ValueError: it does.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists: choose another --out, or remove it first")


def flush(path: pathlib.Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: power may fail."""
    if path.is_dir():
        if os.name != "posix":
            return  # no other system opens folders
        descriptor = os.open(path, os.O_RDONLY)
        with contextlib.suppress(OSError):  # some file systems cannot
            os.fsync(descriptor)
    else:
        descriptor = os.open(path, os.O_RDWR)
        os.fsync(descriptor)
    os.close(descriptor)


def write_text(path: pathlib.Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all; half a surrogate pair becomes a reference."""
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "xmlcharrefreplace"))


def write_json(path: pathlib.Path, value: Json) -> None:
    """Write JSON with its digest, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(sealed(value), indent=1), encoding="utf-8")


def sealed(value: Json) -> dict[str, Any]:
    """What a JSON file holds, with its digest."""
    rest = {key: part for key, part in value.items() if key != DIGEST}
    return {**rest, DIGEST: digest(rest)}


def digest(value: Json) -> str:
    """SHA-256 of what JSON keeps of a value; layout and order of keys do not count."""
    plain = json.loads(json.dumps(value))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path: pathlib.Path, remedy: str) -> dict[str, Any]:
    """Read a JSON file, without its digest.

    Args:
        path: the file.
        remedy: what a user can do if it is damaged.

    Raises:
        FileNotFoundError: there is none.
        FileError: it is damaged, or was changed by hand.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        intact = isinstance(value, dict) and value.pop(DIGEST, None) in (None, digest(value))
    except (ValueError, RecursionError):
        raise FileError(f"{path} is damaged: it is not JSON; {remedy}") from None
    if not isinstance(value, dict):
        raise FileError(f"{path} is damaged: it is no table of JSON; {remedy}")
    if not intact:
        raise FileError(
            f"{path} is damaged, or was changed by hand: its content does not fit its {DIGEST}; "
            f"{remedy}, or, if the change is yours, remove the key {DIGEST!r} from it"
        )
    return value


@contextlib.contextmanager
def owned(folder: pathlib.Path, *, deep: bool = True) -> Iterator[None]:
    """Be the one process that writes into a folder, for as long as the block lasts.

    The system ends the ownership of a process that is killed. What such a process left half
    written is removed.

    Args:
        folder: that is there.
        deep: what is in it is ours, folders included; False where it may hold anything.

    Raises:
        Busy: another process is.
    """
    lock = filelock.FileLock(str(folder / LOCK))
    try:
        lock.acquire(timeout=PATIENCE, poll_interval=PATIENCE / 20)
    except filelock.Timeout:
        raise Busy(
            f"{folder} is being written by {_words(owner(folder))}: wait until it ends, or end it"
        ) from None
    try:
        _remove_leftovers(folder, deep)
        _sign(folder)
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone
            (folder / OWNER).unlink()
        lock.release()


def is_owned(folder: pathlib.Path) -> bool:
    """Whether a process writes into a folder."""
    if not (folder / LOCK).exists():
        return False
    lock = filelock.FileLock(str(folder / LOCK))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False


def owner(folder: pathlib.Path) -> dict[str, Any]:
    """The process that wrote into a folder last, if it has not said that it is done: pid, ..."""
    try:
        return read_json(folder / OWNER, "")
    except (OSError, FileError):
        return {}


def _sign(folder: pathlib.Path) -> None:
    """Note who owns a folder."""
    about = {"pid": os.getpid(), "host": platform.node(), "command": shlex.join(sys.argv)}
    (folder / OWNER).write_text(json.dumps(sealed(about)), encoding="utf-8")


def _words(about: Json) -> str:
    if not about:
        return "another process"
    return f"process {about.get('pid')} on {about.get('host')} ({about.get('command')})"


def _remove_leftovers(folder: pathlib.Path, deep: bool) -> None:
    """Remove what processes that were killed left half written, see `replacing`."""
    pattern = f".*.*{TEMPORARY}*"
    for path in folder.rglob(pattern) if deep else folder.glob(pattern):
        *_, pid = path.name.partition(TEMPORARY)[0].split(".")
        if path.is_file() and pid.isdigit() and not is_alive(int(pid)):
            path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether there is a process of a number; False where the system cannot tell."""
    if os.name != "posix" or pid <= 0:
        return False
    try:
        os.kill(pid, 0)  # on POSIX, 0 sends nothing
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
