"""What the program is called in messages: as it was started."""

from __future__ import annotations

import pathlib
import shlex
import sys

_STARTED = pathlib.Path(sys.argv[0])
_IS_MODULE = _STARTED.parent.name == "uncap" and _STARTED.stem == "__main__"  # `python -m uncap`
PROGRAM = "uncap" if _STARTED.stem == "uncap" or _IS_MODULE else "python train.py"


def command(*words: object) -> str:
    """A command of the program as a shell takes it: its name and these words."""
    return f"{PROGRAM} {shlex.join(map(str, words))}"
