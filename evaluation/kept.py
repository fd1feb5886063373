"""What is done after a training, kept until the whole job is: a kill loses one part of it."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import typing
from collections.abc import Callable

from uncap.agents import checkpoints
from uncap.evaluation import runs
from uncap.evaluation.protocol import Episode
from uncap.evaluation.shapes import anything, fields, listed, mapped, text, typed

FILE = "kept.json"  # in a run folder
_SHAPE = fields(
    {"checkpoint": text, "episodes": mapped(listed(mapped(anything))), "films": listed(text)}
)


class Kept:
    """Parts of evaluations, and films, of one checkpoint; a file that is damaged holds none.

    Args:
        run: folder of the run.
    """

    def __init__(self, run: pathlib.Path):
        self.path = run / FILE
        content = (run / "checkpoint" / checkpoints.FILE).read_bytes()
        self._checkpoint = hashlib.sha256(content).hexdigest()
        self._episodes: dict[str, list[Episode]] = {}  # by the part of an evaluation
        self._films: list[str] = []
        self._read()

    def _read(self) -> None:
        try:
            found = runs.read_shaped(self.path, _SHAPE, "")
            if found.get("checkpoint") == self._checkpoint:
                parts = found["episodes"].items()
                self._episodes = {name: [_episode(row) for row in rows] for name, rows in parts}
                self._films = found["films"]
        except (ValueError, KeyError, TypeError):  # damaged, or of another version
            self._episodes, self._films = {}, []

    def _write(self) -> None:
        parts = self._episodes.items()
        episodes = {name: [dataclasses.asdict(row) for row in rows] for name, rows in parts}
        found = {"checkpoint": self._checkpoint, "episodes": episodes, "films": self._films}
        runs.write_json(self.path, found)

    @property
    def episodes(self) -> int:
        """Number of episodes that are kept."""
        return sum(len(rows) for rows in self._episodes.values())

    def part(self, name: str, run: Callable[[], list[Episode]]) -> list[Episode]:
        """A part of an evaluation: as it was kept, or run now.

        Args:
            name: of the part; says which rows and starts it has.
            run: runs its episodes.
        """
        if name not in self._episodes:
            self._episodes[name] = run()
            self._write()
        return self._episodes[name]

    def has_film(self, name: str) -> bool:
        """Whether a film was made."""
        return name in self._films

    def note_film(self, name: str) -> None:
        """Note that a film was made."""
        self._films.append(name)
        self._write()


def forget(run: pathlib.Path) -> None:
    """Remove what was kept: the job of a run is done."""
    (run / FILE).unlink(missing_ok=True)


_KINDS = typing.get_type_hints(Episode)


def _episode(row: dict) -> Episode:
    """An episode of a JSON table.

    Raises:
        ValueError: a value is of another type.
        KeyError: one is missing.
    """
    return Episode(**{name: typed(row[name], kind, name) for name, kind in _KINDS.items()})
