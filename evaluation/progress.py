"""Progress with the time left: bars on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY = 10.0  # s between two lines


def make_console() -> Console:
    """A console that prints names as they are: brackets and colons are no markup."""
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


class Bars:
    """One bar per phase: share done, time taken, time left, and a text.

    Where the output is no terminal, a line on the present phase every ten seconds.

    Attributes:
        progress: a context manager that shows them.
    """

    def __init__(self, console: Console):
        shown = _Bars(console) if console.is_terminal else Lines(console.print)
        self.progress: Any = shown
        self._update = shown.show

    def __call__(self, phase: str, done: float, total: float, text: str) -> None:
        """Show how far a phase is; an empty text keeps the last one."""
        self._update(phase, done, total, text)


class _Bars(Progress):
    """Rich's bars, one per phase."""

    def __init__(self, console: Console):
        columns = (
            TextColumn("{task.description:20}", markup=False),
            BarColumn(20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}", markup=False),
        )
        super().__init__(*columns, console=console)
        self._ids: dict[str, TaskID] = {}  # by phase

    def show(self, phase: str, done: float, total: float, text: str) -> None:
        """Show how far a phase is."""
        if phase not in self._ids:
            self._ids[phase] = self.add_task(phase, total=total, text="")
        fields: dict[str, Any] = {"text": text} if text else {}
        self.update(self._ids[phase], completed=done, total=total, **fields)


class Lines:
    """A line every ten seconds while it is entered, whether or not anything was reported since.

    Args:
        say: prints a line.
        every: seconds between two lines.
        clock: of the time, in seconds.
    """

    def __init__(
        self,
        say: Callable[[str], object],
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.say = say
        self.every = every
        self.clock = clock
        self._phase = ""
        self._share = 0.0
        self._text = ""
        self._began = clock()  # of the phase
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Lines:
        """Begin to print."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Print no more."""
        self._ended.set()
        self._thread.join()

    def show(self, phase: str, done: float, total: float, text: str) -> None:
        """Note how far a phase is."""
        if phase != self._phase:
            self._phase, self._text, self._began = phase, "", self.clock()
        self._share = min(1.0, done / total) if total else 0.0
        self._text = text or self._text

    def line(self) -> str:
        """The present phase: share done, time taken, time left, text."""
        taken = self.clock() - self._began
        left = _time(taken * (1 - self._share) / self._share) if self._share else "?"
        start = f"{self._phase}: {100 * self._share:.0f} %, {_time(taken)} taken, {left} left"
        return f"{start}  {self._text}".rstrip()

    def _tell(self) -> None:
        while not self._ended.wait(self.every):
            if self._phase:
                with contextlib.suppress(OSError, ValueError):  # nobody may be listening any more
                    self.say(self.line())


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
