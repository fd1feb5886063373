"""Tables of named rows: looked up with close matches, and loaded when they are asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class UnknownName(KeyError, ValueError):
    """A name that is in no table: a user's mistake, unlike other KeyErrors."""

    __str__ = Exception.__str__  # a KeyError's would quote the message


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return table[name], or raise a one-line error with close matches.

    Args:
        table: rows by name.
        name: what a user asked for.
        kind: what the rows are, for the message.

    Raises:
        UnknownName: no such name; the message lists what is allowed.
    """
    if not isinstance(name, str):
        raise UnknownName(f"{kind} must be a name, not {brief(name)}: allowed: {', '.join(table)}")
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise UnknownName(f"unknown {kind} {name!r}: {hint}allowed: {', '.join(table)}")


def brief(value: Any) -> str:
    """A value for a message: its repr in one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


class Row(NamedTuple):
    """Where a row's object is, as `package.module:name`, and one line on it."""

    entry_point: str
    words: str


class Table(Mapping[str, Any]):
    """Rows by name; an object is imported when it is asked for, so that a list of names is quick.

    Args:
        kind: what the rows are, for messages.
        rows: by name.
    """

    def __init__(self, kind: str, rows: Mapping[str, Row]):
        self.kind = kind
        self.rows = dict(rows)
        self._objects: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._objects:
            module, _, attribute = self.rows[name].entry_point.partition(":")
            self._objects[name] = getattr(importlib.import_module(module), attribute)
        return self._objects[name]

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def register(self, name: str, row: Row) -> None:
        """Add a row at run time.

        Raises:
            ValueError: the name is taken.
        """
        if name in self.rows:
            raise ValueError(f"{name!r} is already a {self.kind}")
        self.rows[name] = row
