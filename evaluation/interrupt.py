"""Signals that ask for a stop after the present update: Ctrl-C, SIGTERM, a closed terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

INTERRUPTED = 130  # exit status of a command that Ctrl-C ended, as a shell says it
_OTHERS = ("SIGTERM", "SIGHUP")  # where the system has them


class Interrupt:
    """Whether a signal asked for a stop; called, it says so.

    A second Ctrl-C ends at once. SIGTERM and SIGHUP may come together, and only ask. A SIGHUP
    that is ignored, as under `nohup`, stays so.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], object]):
        self.say = say
        self.asked = False
        self._interrupted = False
        others = [getattr(signal, name) for name in _OTHERS if hasattr(signal, name)]
        taken = [number for number in others if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, *taken)
        }

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.asked

    def release(self) -> None:
        """Leave signals to whom they were left before: nothing is there any more to stop."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on_signal(self, number: int, *_: object) -> None:
        if number == signal.SIGINT:
            if self._interrupted:
                raise SystemExit("error: interrupted twice: ended without saving the last update")
            self._interrupted = True
        if number == getattr(signal, "SIGHUP", None):
            _leave_terminal()
        if not self.asked:
            self.asked = True
            with contextlib.suppress(OSError):  # nobody may be listening any more
                self.say("stopping after this update; the state will be saved ...")


def _leave_terminal() -> None:
    """Print nowhere from now on, if it was to a terminal: it is closed, and printing fails."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            if stream.isatty():
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
