"""How the program speaks: what it is called in messages, as it was started, and how it warns."""

from __future__ import annotations

import pathlib
import shlex
import sys
import warnings
from typing import Any

_STARTED = pathlib.Path(sys.argv[0])
_IS_MODULE = _STARTED.parent.name == "uncap" and _STARTED.stem == "__main__"  # `python -m uncap`
PROGRAM = "uncap" if _STARTED.stem == "uncap" or _IS_MODULE else "python train.py"


def command(*words: object) -> str:
    """A command of the program as a shell takes it: its name and these words."""
    return f"{PROGRAM} {shlex.join(map(str, words))}"


def warn_in_lines() -> None:
    """Have warnings for users be one line each; others stay as Python prints them.

    For programs: where they were raised says nothing to who typed a command.
    """
    usual = warnings.formatwarning

    def line(
        message: Warning | str, category: type[Warning], *place: Any, **source: str | None
    ) -> str:
        if category is not UserWarning:
            return usual(message, category, *place, **source)
        return f"warning: {' '.join(str(message).split())}\n"

    warnings.formatwarning = line
