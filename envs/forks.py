"""Forks: threads do not survive them, and MuJoCo's batches would wait for theirs for ever."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Protocol


class Threaded(Protocol):
    """Something that steps by threads of its own, through MuJoCo's batch `sim`."""

    sim: Any

    def lose_threads(self) -> None:
        """Note that the threads are gone: what is needed again is made anew."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()


def watch(batch: Threaded) -> None:
    """Tell it in a child process that its threads are gone, for as long as it lives."""
    _watched.add(batch)


def _in_child() -> None:
    """MuJoCo's batches wait also when they are freed: each gets a reference that stays."""
    for batch in _watched:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(batch.sim._b))
        batch.lose_threads()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
