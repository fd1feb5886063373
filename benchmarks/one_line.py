"""How the scripts for a GPU refuse and warn: mistakes, and what a machine lacks, in one line."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Callable, Iterator

from uncap.envs.engines import EngineUnavailable, within_memory
from uncap.evaluation.interrupt import INTERRUPTED
from uncap.evaluation.program import warn_in_lines

warn_in_lines()


@contextlib.contextmanager
def in_one_line(*mistakes: type[Exception], smaller: str) -> Iterator[None]:
    """End the script with one line, and a status that is not 0.

    Args:
        *mistakes: what else than `EngineUnavailable` a user can do something about.
        smaller: flags of which smaller values need less memory.
    """
    try:
        with within_memory(f"there is too little memory: smaller {smaller} need less"):
            yield
    except (EngineUnavailable, *mistakes) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def above_zero(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A type of argparse's: numbers of a kind above 0."""

    def number(text: str) -> float:
        what = "a whole number" if kind is int else "a number"
        refusal = argparse.ArgumentTypeError(f"must be {what} above 0, not {text!r}")
        try:
            value = kind(text)
        except ValueError:
            raise refusal from None
        if not (value > 0 and math.isfinite(value)):
            raise refusal
        return value

    return number
