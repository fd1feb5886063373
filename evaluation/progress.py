"""Progress bars with the time left."""

from __future__ import annotations

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


class Bars:
    """One bar per phase: share done, time taken, time left, and a text.

    Attributes:
        progress: rich's bars, a context manager that shows them.
    """

    def __init__(self, console: Console):
        columns = (
            TextColumn("{task.description:20}"),
            BarColumn(20),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self.progress = Progress(*columns, console=console)
        self._ids: dict[str, TaskID] = {}  # by phase

    def __call__(self, phase: str, done: float, total: float, text: str) -> None:
        """Show how far a phase is; an empty text keeps the last one."""
        if phase not in self._ids:
            self._ids[phase] = self.progress.add_task(phase, total=total, text="")
        fields: dict[str, Any] = {"text": text} if text else {}
        self.progress.update(self._ids[phase], completed=done, total=total, **fields)
