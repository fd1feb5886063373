"""metrics.csv: a row per update, each with a check of itself, so that damage is noticed."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from uncap.agents.files import replacing

CHECK = "check"  # the last column: digits that fit the heading, the row before, and the row itself
_NEEDED = ("phase", "env_steps")  # columns without which a row says nothing
_DIGITS = 15  # of the most environment steps


class Rows(NamedTuple):
    """What could be read of a metrics.csv.

    Attributes:
        rows: by column; an empty text where a row has no number.
        problem: what is wrong with the file, in one line; empty where nothing is.
        numbers: of the rows in the file, from 1.
        last: the check of the last row; empty where it has none.
    """

    rows: list[dict[str, str]]
    problem: str
    numbers: list[int]
    last: str


class Logged(NamedTuple):
    """What was logged so far."""

    rows: int = 0
    steps: int = -1  # most environment steps of a row


class Metrics:
    """Writes metrics.csv; goes on where the file is there.

    Args:
        path: of the file.
        columns: of a row; the check is added.
        logged: rows to keep; those behind them came after what is resumed, and are dropped.
        loggers: that get every number, too, see `loggers.LOGGERS`; they are closed with the file.
    """

    def __init__(
        self,
        path: pathlib.Path,
        columns: list[str],
        logged: Logged = Logged(),  # noqa: B008 - cannot be changed
        loggers: Sequence[Any] = (),
    ):
        self._loggers = loggers
        kept = _first_rows(path, logged.rows)
        self.logged = Logged(len(kept), logged.steps)
        self._columns = [*columns, CHECK]
        self._last = ""  # the check of the row before
        with replacing(path) as temporary:
            lines = [self._heading(), *(self._line(row) for row in kept)]
            temporary.write_text("".join(lines), encoding="utf-8", newline="")
        self._file = open(path, "a", encoding="utf-8", newline="")  # noqa: SIM115 - by close()

    def row(self, **values: Any) -> None:
        """Append a row; missing columns stay empty."""
        self._file.write(self._line(values))
        self._file.flush()
        steps = max(self.logged.steps, values["env_steps"])
        self.logged = Logged(self.logged.rows + 1, steps)
        numbers = {
            name: value
            for name, value in values.items()
            if isinstance(value, int | float) and name != "env_steps"
        }
        self.tell(numbers, values["env_steps"])

    def tell(self, numbers: Mapping[str, float], env_steps: int) -> None:
        """Give numbers to the loggers alone, at a number of environment steps."""
        for logger in self._loggers:
            logger.log(numbers, env_steps)

    def sync(self) -> Logged:
        """What was logged so far, once it is on the disk."""
        os.fsync(self._file.fileno())
        return self.logged

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        for logger in self._loggers:
            logger.close()

    def _heading(self) -> str:
        return _csv_line(self._columns)

    def _line(self, values: dict[str, Any]) -> str:
        unknown = set(values) - set(self._columns)
        assert not unknown, f"no such columns: {unknown}"
        cells = ["" if values.get(name) is None else values[name] for name in self._columns[:-1]]
        own = _csv_line(cells)
        self._last = check_of(self._heading(), self._last, own)
        return _csv_line([*cells, self._last])


def check_of(heading: str, before: str, line: str) -> str:
    """The check of a row: eight hex digits.

    Args:
        heading: the file's first line.
        before: the check of the row before; empty for the first.
        line: the row, without its check.
    """
    text = "\n".join((heading.strip(), before, line.strip()))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]


def read_metrics(path: pathlib.Path) -> Rows:
    """The rows of a metrics.csv that are whole and unchanged; none if there is no file.

    A file of an older version has no checks; its rows have to be complete and of numbers.
    """
    if not path.exists():
        return Rows([], "", [], "")
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        heading, *lines = file.read().splitlines(keepends=True) or [""]
    columns = _cells(heading)
    if any(name not in columns for name in _NEEDED):
        problem = f"{path} is damaged: its first line names no columns; nothing of it is used"
        return Rows([], problem, [], "")
    kept, numbers, before = [], [], ""
    for number, line in enumerate(lines, start=1):
        cells = _cells(line)
        row = dict(zip(columns, cells, strict=False))
        if len(cells) == len(columns) and _is_intact(row, heading, before, line):
            kept.append({name: value for name, value in row.items() if name != CHECK})
            numbers.append(number)
        before = row.get(CHECK, "")
    return Rows(kept, _problem(path, numbers, len(lines)), numbers, before)


def _problem(path: pathlib.Path, numbers: Sequence[int], total: int) -> str:
    """What is wrong with a file of so many rows, of which those of some numbers are intact."""
    bad = sorted(set(range(1, total + 1)) - set(numbers))
    if not bad:
        return ""
    listed = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
    return f"{path} is damaged: {len(bad)} of its {total} rows are left out ({listed})"


def _is_intact(row: dict[str, str], heading: str, before: str, line: str) -> bool:
    """Whether a row is complete and unchanged; without a check, whether it is made of numbers."""
    if not line.endswith("\n"):  # cut while it was written
        return False
    steps = row["env_steps"]
    if not (steps.isascii() and steps.isdigit() and len(steps) <= _DIGITS):
        return False
    if CHECK in row:
        own = _csv_line(list(row.values())[:-1])
        return row[CHECK] == check_of(heading, before, own)
    return all(_is_number(value) for name, value in row.items() if value and name != "phase")


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _cells(line: str) -> list[str]:
    """The cells of one line; none where it is no CSV."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _csv_line(cells: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()


def _first_rows(path: pathlib.Path, count: int) -> list[dict[str, str]]:
    """Of the first rows of metrics.csv, those that are intact."""
    found = read_metrics(path)
    numbered = zip(found.numbers, found.rows, strict=True)
    return [row for number, row in numbered if number <= count]
