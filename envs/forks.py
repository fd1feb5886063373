"""Forks: threads do not survive them, and MuJoCo's batches would wait for theirs for ever."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Protocol


class Threaded(Protocol):
    """Something that steps by threads of its own, those of MuJoCo's `batch`."""

    batch: Any

    def lose_threads(self) -> None:
        """Note that the threads are gone: what is needed again is made anew."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def watch(engine: Threaded) -> None:
    """Tell it in a child process that its threads are gone, for as long as it lives."""
    _watched.add(engine)


def _in_child() -> None:
    """MuJoCo's batches wait also when they are freed: each gets a reference that stays."""
    for engine in _watched:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine.batch._b))
        engine.lose_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
