"""Modules of users: `--import mymodule` runs one before anything else, on every command."""

from __future__ import annotations

import importlib
import os
import pathlib
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

FLAG = "--import"
HELP = f"{FLAG} MODULE (any number of times): a module to import first, such as one that registers "
HELP += "closures of your own; the working directory is looked in first."
_imported: list[str] = []  # names, in their order


def take(arguments: Sequence[str]) -> list[str]:
    """Import what `--import` names among arguments; returns the others.

    Raises:
        ValueError: a module that cannot be imported, or no name.
    """
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name != FLAG:
            kept.append(word)
            continue
        module = value if equals else next(words, "")
        if not module or module.startswith("-"):
            raise ValueError(f"{FLAG} needs the name of a module")
        load(module)
        _imported.append(module)
    return kept


def names() -> tuple[str, ...]:
    """What was imported, for another process."""
    return tuple(dict.fromkeys(_imported))


def words() -> list[str]:
    """The words that make another process import the same."""
    return [word for name in names() for word in (FLAG, name)]


def load(name: str) -> ModuleType:
    """A module of a user. The working directory is looked in first.

    Raises:
        ValueError: no such module, or it cannot be imported; in one line.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"there is no module {error.name} in {here}, nor is one installed"
            ) from None
        raise ValueError(f"{name} cannot be imported: {reason(error)}") from None
    except (Exception, SystemExit) as error:  # whatever someone's code raises
        raise ValueError(f"{name} cannot be imported: {reason(error)}") from None


def reason(error: BaseException) -> str:
    """An exception in one line, and where it was raised."""
    text = " ".join(str(error).split())[:200]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({pathlib.Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return f"{type(error).__name__}{': ' if text else ''}{text}{where}"
