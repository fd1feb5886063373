"""The state observation: named parts in a fixed order, scaled to about [-1, 1].

A new part is one row of PARTS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from envs.mechanisms import LIFT, TILT_X, TWIST, X
from envs.robot import FINGER_OPEN

Measured = dict[str, np.ndarray]  # see `ClosureBatch.measure`
Compute = Callable[[Measured, np.ndarray], np.ndarray]
LIMIT = 5.0  # observations are clipped to +-LIMIT
_TOUCH_SCALE = 20  # N


class Part(NamedTuple):
    """One part of the state observation.

    Attributes:
        name: of the part.
        size: numbers in it.
        factor: that scales them to about [-1, 1].
        source: key of what is measured; or a function that gives the (n, size) numbers before
            scaling, from the measurements and the progress (n,) made under the hand's contact.
        index: takes the (n, size) numbers from what is measured.
        words: one line, with the unit before scaling.
    """

    name: str
    size: int
    factor: float
    source: str | Compute
    index: Any
    words: str


_ALL = slice(None)
_COLUMN = (slice(None), None)  # of an array (n,)


def _joints(first: int, size: int) -> tuple[slice, slice]:
    """Index of joints first, first + 1, ... in an array (n, 6) of the lid's joints."""
    return (slice(None), slice(first, first + size))


def _bar_yaw(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Cosine and sine of twice the angle: a bar looks the same after half a turn."""
    twice = 2 * measured["bar_yaw_offset"][:, None]  # (n, 1) rad
    return np.concatenate((np.cos(twice), np.sin(twice)), 1)


def _touch(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Saturating, since a squeeze is many times the force of a touch."""
    return np.tanh(measured["touch"] / _TOUCH_SCALE)


def _held(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Progress under contact, as a column."""
    return held_progress[:, None]


PARTS = (
    Part("grip_offset", 3, 10, "grip_offset", _ALL, "fingertips to held point, world frame (m)"),
    Part("bar_yaw", 2, 1, _bar_yaw, _ALL, "cos and sin of twice the angle from hand to bar"),
    Part("wrist", 1, 1 / 2.9, "wrist", _COLUMN, "joint 7 (rad)"),
    Part("opening", 1, 1 / FINGER_OPEN, "opening", _COLUMN, "of each finger (m)"),
    Part("touch", 2, 1, _touch, _ALL, "tanh of each finger's force on the lid (20 N)"),
    Part("height", 1, 5, "height", _COLUMN, "of the fingertips above the lid's seat (m)"),
    Part("progress", 1, 1, "progress", _COLUMN, "fraction of the way to open"),
    Part("beyond", 1, 10, "beyond", _COLUMN, "of a lid that stays, turned past open (rad)"),
    Part("held", 1, 1, _held, _ALL, "progress gained under contact: success asks for it"),
    Part("twist", 1, 1 / 3, "lid", _joints(TWIST, 1), "of the lid (rad)"),
    Part("twist_velocity", 1, 1 / 4, "lid_velocity", _joints(TWIST, 1), "of the lid (rad/s)"),
    Part("lift", 1, 10, "lid", _joints(LIFT, 1), "of the lid (m)"),
    Part("drift", 2, 20, "lid", _joints(X, 2), "of a free lid across its axis (m)"),
    Part("tilt", 2, 1, "lid", _joints(TILT_X, 2), "of a free or hinged lid (rad)"),
    Part("released", 1, 1, "released", _COLUMN, "whether the lid is free"),
    Part("axis", 2, 1, "axis", _ALL, "x axis of the container, world frame"),
    Part("way", 2, 10, "way", _ALL, "left for a lid that moves sideways, world frame (m)"),
    Part("dimensions", 3, 25, "dimensions", _ALL, "grip radius, grip height, disc radius (m)"),
    Part("bar", 1, 1, "bar", _COLUMN, "whether the grip is a bar"),
)
_SOURCES = [(part.source, part.index) for part in PARTS]
SIZE = sum(part.size for part in PARTS)
_FACTORS = np.repeat([part.factor for part in PARTS], [part.size for part in PARTS])  # (SIZE,)


def observe(
    measured: Measured, held_progress: np.ndarray, noise: np.ndarray | None = None
) -> np.ndarray:
    """The state observation.

    Args:
        measured: measurements, see `ClosureBatch.measure`.
        held_progress: (n,) progress made under the hand's contact.
        noise: (n, SIZE) that is added to the scaled numbers, before they are clipped.

    Returns:
        (n, SIZE) float32 in [-LIMIT, LIMIT].
    """
    columns = [
        measured[source][index] if isinstance(source, str) else source(measured, held_progress)
        for source, index in _SOURCES
    ]
    state = np.concatenate(columns, 1)  # (n, SIZE)
    state *= _FACTORS
    state = state.astype(np.float32)
    if noise is not None:
        state = (state + noise).astype(np.float32)
    np.maximum(state, -LIMIT, out=state)
    np.minimum(state, LIMIT, out=state)
    return state
