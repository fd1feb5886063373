"""Checks of what users pass in: each refuses with one line, what is wrong and what is allowed."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from uncap.envs.tables import brief

# Far beyond what a machine holds: a number above is a mistake, which would end in a crash
MOST_ENVS = 100_000
MOST_THREADS = 1024
MOST_STEPS = 100_000  # control steps of an episode
MOST_STATES = 1000  # of a history
MOST_ATTEMPTS = 1_000  # episodes of a trial


def integer(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """A whole number in a range; NumPy's are taken, bools and floats are not.

    Raises:
        ValueError: another type, or out of the range.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        message = f"{name} must be a whole number, at least {least}, not {brief(value)}"
        raise ValueError(message) from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, not {number}")
    return number


def one_length(what: str, steps: Iterable[int]) -> int:
    """The length of episodes that must have the same.

    Args:
        what: needs that.
        steps: control steps of an episode of each row.

    Raises:
        ValueError: they differ.
    """
    lengths = sorted({int(length) for length in steps})
    if len(lengths) > 1:
        raise ValueError(
            f"{what} needs episodes of one length, and these rows have "
            f"{', '.join(map(str, lengths))} control steps: give --episode-steps"
        )
    return lengths[0]


def flag(name: str, value: Any) -> bool:
    """True or False; no number stands for them.

    Raises:
        ValueError: neither; the message says what is needed.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, not {brief(value)}")
    return bool(value)


def seed(value: Any) -> int | None:
    """One seed: a whole number from 0 on, or None for another one every time.

    Raises:
        ValueError: anything else.
    """
    return None if value is None else integer("seed", value)


def seeds(value: Any, n: int) -> int | None | list[int | None]:
    """One seed for all, or a list of n: of a sequence or an array with a seed (or None) for each.

    Raises:
        ValueError: another length, or an entry that is no seed.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return seed(value)
    if len(value) != n:
        raise ValueError(f"seed must be one, or a list of {n}, one for each, not {len(value)}")
    return [seed(one) for one in value]


def names(kind: str, value: Any) -> tuple[str, ...]:
    """Names, at least one: of a single name, or of anything ordered that holds names.

    Raises:
        ValueError: none, or something else than names.
    """
    if isinstance(value, str):
        return (value,)
    ordered = isinstance(value, Iterable) and not isinstance(value, bytes | set | frozenset)
    try:
        listed = tuple(value) if ordered else ()
    except TypeError:  # of an array without dimensions
        listed = ()
    if not listed:
        raise ValueError(
            f"{kind} must be a name, or a sequence of at least one, not {brief(value)}"
        )
    for name in listed:
        if not isinstance(name, str):
            raise ValueError(f"{kind} must be names, not {brief(name)}")
    return tuple(str(name) for name in listed)


def options(value: Any, allowed: Sequence[str]) -> dict[str, Any]:
    """The options of a reset: a dictionary with allowed names only.

    Raises:
        ValueError: anything else.
    """
    if value is None:
        return {}
    listed = ", ".join(allowed) or "none"
    if not isinstance(value, Mapping):
        raise ValueError(f"options must be a dictionary, not {brief(value)} (allowed: {listed})")
    for name in value:
        if name not in allowed:
            raise ValueError(f"unknown option {name!r} of reset: allowed: {listed}")
    return dict(value)


def mask(name: str, value: Any, n: int) -> np.ndarray:
    """A bool (n,).

    Raises:
        ValueError: another shape or type.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # of lists that are no array
        array = np.empty(0)
    if array.shape != (n,) or array.dtype != bool:
        found = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name} must be bool, of shape ({n},), not {found}")
    return array


def numbers(name: str, value: Any) -> np.ndarray:
    """Real numbers as an array, float64.

    Raises:
        ValueError: anything else.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # of lists that are no array
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numbers, not {brief(value)}")
    return array.astype(np.float64, copy=False)
