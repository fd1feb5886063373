"""Ctrl-C: the first one asks for a stop after the present update, the second one ends at once."""

from __future__ import annotations

import signal
from collections.abc import Callable


class Interrupt:
    """Whether Ctrl-C asked for a stop; called, it says so.

    Args:
        say: prints a line.
    """

    def __init__(self, say: Callable[[str], object]):
        self.say = say
        self.asked = False
        signal.signal(signal.SIGINT, self._on_signal)

    def __call__(self) -> bool:
        """Whether a stop was asked for."""
        return self.asked

    def _on_signal(self, *_: object) -> None:
        if self.asked:
            raise SystemExit("error: interrupted twice: ended without saving the last update")
        self.asked = True
        self.say("stopping after this update; the state will be saved ...")
