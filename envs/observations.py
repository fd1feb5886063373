"""The state observation: named parts in a fixed order, scaled to about [-1, 1].

A new part is one row of PARTS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
        compute: gives the (n, size) numbers before scaling, from the measurements and the
            progress (n,) made under the hand's contact.
        meaning: one line, with the unit before scaling.
    """

    name: str
    size: int
    factor: float
    compute: Compute
    meaning: str


def _value(key: str) -> Compute:
    """Take what is measured under a key."""
    return partial(_take_value, key)


def _take_value(key: str, measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    values = measured[key]  # (n, size) or (n,)
    return values if values.ndim == 2 else values[:, None]


def _joints(key: str, first: int, size: int) -> Compute:
    """Take joints first, first + 1, ... of what is measured of the lid's six."""
    return partial(_take_columns, key, slice(first, first + size))


def _take_columns(
    key: str, columns: slice, measured: Measured, held_progress: np.ndarray
) -> np.ndarray:
    return measured[key][:, columns]


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
    Part("grip_offset", 3, 10, _value("grip_offset"), "fingertips to held point, world frame (m)"),
    Part("bar_yaw", 2, 1, _bar_yaw, "cos and sin of twice the angle from hand to bar"),
    Part("wrist", 1, 1 / 2.9, _value("wrist"), "joint 7 (rad)"),
    Part("opening", 1, 1 / FINGER_OPEN, _value("opening"), "of each finger (m)"),
    Part("touch", 2, 1, _touch, "tanh of each finger's force on the lid (20 N)"),
    Part("height", 1, 5, _value("height"), "of the fingertips above the lid's seat (m)"),
    Part("progress", 1, 1, _value("progress"), "fraction of the way to open"),
    Part("beyond", 1, 10, _value("beyond"), "how far a lid that stays has turned past open (rad)"),
    Part("held", 1, 1, _held, "progress gained under the hand's contact: success asks for it"),
    Part("twist", 1, 1 / 3, _joints("lid", TWIST, 1), "of the lid (rad)"),
    Part("twist_velocity", 1, 1 / 4, _joints("lid_velocity", TWIST, 1), "of the lid (rad/s)"),
    Part("lift", 1, 10, _joints("lid", LIFT, 1), "of the lid (m)"),
    Part("drift", 2, 20, _joints("lid", X, 2), "of a free lid across its axis (m)"),
    Part("tilt", 2, 1, _joints("lid", TILT_X, 2), "of a free or hinged lid (rad)"),
    Part("released", 1, 1, _value("released"), "whether the lid is free"),
    Part("axis", 2, 1, _value("axis"), "x axis of the container, world frame"),
    Part("way", 2, 10, _value("way"), "left for a lid that moves sideways, world frame (m)"),
    Part("dimensions", 3, 25, _value("dimensions"), "grip radius, grip height, disc radius (m)"),
    Part("bar", 1, 1, _value("bar"), "whether the grip is a bar"),
)
SIZE = sum(part.size for part in PARTS)
_FACTORS = np.repeat([part.factor for part in PARTS], [part.size for part in PARTS])  # (SIZE,)


def observe(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """The state observation.

    Args:
        measured: measurements, see `ClosureBatch.measure`.
        held_progress: (n,) progress made under the hand's contact.

    Returns:
        (n, SIZE) float32.
    """
    state = np.concatenate([part.compute(measured, held_progress) for part in PARTS], 1)
    state *= _FACTORS
    np.maximum(state, -LIMIT, out=state)
    np.minimum(state, LIMIT, out=state)
    return state.astype(np.float32)
