"""Tables of named rows: looked up with close matches, and loaded when they are asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
_MANY = 20  # names in a table, which are not listed where a close match is found


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
        raise UnknownName(f"{kind} must be a name, not {brief(name)}: allowed: {_allowed(table)}")
    if name in table:
        return table[name]
    if isinstance(table, GrowingTable) and (reason := table.why_not(name)):
        raise UnknownName(f"unknown {kind} {name!r}: {reason}")
    if isinstance(table, GrowingTable) and (made := table.made_like(name)):
        raise UnknownName(f"unknown {kind} {name!r}: allowed: {made}")
    close = difflib.get_close_matches(name, table, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}?" if close else ""
    allowed = "" if close and len(table) > _MANY else f"allowed: {_allowed(table)}"
    raise UnknownName(f"unknown {kind} {name!r}: {' '.join(filter(None, (hint, allowed)))}")


def _allowed(table: Mapping[str, Any]) -> str:
    """The names in a table, and what further ones it makes."""
    further = getattr(table, "further", "")
    return ", ".join(table) + (f"; {further}" if further else "")


def brief(value: Any) -> str:
    """A value for a message: its repr in one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


class Maker(NamedTuple):
    """What makes the rows of a growing table that are asked for by name.

    Attributes:
        make: `package.module:function` that gives the row of a name, None where it has none; it
            is imported when such a name is asked for.
        names: `package.module:name` of a few words on the names that it makes.
        prefixes: what these names begin with; by default anything.
        why_not: `package.module:function` that says why it makes no row of a name; None where it
            has nothing to say.
    """

    make: str
    names: str
    prefixes: tuple[str, ...] = ("",)
    why_not: str = ""


class GrowingTable(dict[str, T]):
    """Rows by name, and further ones that are made when they are asked for by name.

    Only the rows that are in it are listed and counted.

    Args:
        makers: of the further rows; the first whose prefix fits is asked.
    """

    def __init__(self, *makers: Maker):
        super().__init__()
        self._makers = makers

    def __missing__(self, name: str) -> T:
        row = self._made(name)
        if row is None:
            raise KeyError(name)
        return row

    def _made(self, name: object) -> T | None:
        if isinstance(name, str):
            for maker in self._makers:
                if name.startswith(maker.prefixes):
                    return _object(maker.make)(name)
        return None

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or self._made(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """The row of a name, or the default."""
        try:
            return self[name]
        except KeyError:
            return default

    def why_not(self, name: str) -> str | None:
        """Why there is no row of a name, if its maker knows."""
        for maker in self._makers:
            if maker.why_not and name.startswith(maker.prefixes):
                return _object(maker.why_not)(name)
        return None

    def made_like(self, name: str) -> str:
        """A few words on the rows whose names begin as this one does; empty if none are made."""
        fitting = [m for m in self._makers if all(m.prefixes) and name.startswith(m.prefixes)]
        return "; ".join(_object(maker.names) for maker in fitting)

    @property
    def further(self) -> str:
        """A few words on the names of the rows that are made."""
        return "; ".join(_object(maker.names) for maker in self._makers)


def _object(entry_point: str, package: str | None = None) -> Any:
    """The object at `package.module:name`, or at `.module:name` of a package."""
    module, _, attribute = entry_point.partition(":")
    return getattr(importlib.import_module(module, package), attribute)


class Row(NamedTuple):
    """Where a row's object is, as `package.module:name` or `.module:name`, and one line on it."""

    entry_point: str
    words: str


class Table(Mapping[str, Any]):
    """Rows by name; an object is imported when it is asked for, so that a list of names is quick.

    Args:
        kind: what the rows are, for messages.
        rows: by name.
        package: in which rows are that begin with a dot.
    """

    def __init__(self, kind: str, rows: Mapping[str, Row], package: str | None = None):
        self.kind = kind
        self.package = package
        self.rows = dict(rows)
        self._objects: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._objects:
            self._objects[name] = _object(self.rows[name].entry_point, self.package)
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
