"""Progress bars with the time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bars:
    """One bar per phase: share done, time taken, time left, and a phrase."""

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
        self._ids: dict[str, int] = {}

    def __call__(self, phase: str, done: int, total: int, text: str) -> None:
        """Show how far a phase is; an empty text keeps the last one."""
        if phase not in self._ids:
            self._ids[phase] = self.progress.add_task(phase, total=total, text="")
        self.progress.update(
            self._ids[phase], completed=done, total=total, **({"text": text} if text else {})
        )
