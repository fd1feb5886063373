"""What tests have other processes do; it imports little, so that they start soon."""

import signal
import typing

from uncap.evaluation import runs


def create(arguments):
    """Make a run folder, of a default name or not; the folder, or None where another did."""
    path, number, default = arguments
    try:
        made = runs.create_next(path, {"seed": number}) if default else path
        if not default:
            runs.create(path, {"seed": number})
        return made
    except runs.RunError:
        return None


class Thing(typing.NamedTuple):
    """What a work is about."""

    words: str


def work(thing: Thing, session) -> bool:
    """A work that is done at once."""
    return True


def blocked_signals() -> list[int]:
    """Numbers of the signals that do not come to this process."""
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
