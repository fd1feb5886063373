"""How a composed closure opens, drawn on its container: a sign for each stage, in their order.

A sign is a row of dots. Its places are in units of half a sign's size: to the right, and up, as
they are seen from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uncap.envs.mechanisms import LIFT, MECHANISMS, TILT_Y, TWIST, Stage, X

if TYPE_CHECKING:
    from uncap.envs.drawing import Pen
    from uncap.envs.structure import Closure

_HALF = 0.006  # m, half a sign's size
_DOT = 0.0009  # m, radius of a dot
_PITCH = 0.017  # m from one sign to the next
_LABEL_GAP = 0.0010  # m that the label stands off the wall
_LABEL_HALF = 0.010  # m, half the label's height
# Where the signs are (rad), the first seen by the camera of films; and whether `right` there is to
# the right (1), or, on the far side, to the left (-1)
_FACING = ((-0.6, 1), (2.54, -1))

_LINE = [(t, 0.0) for t in np.linspace(-1, 1, 9)]
_HEAD = [(0.72, 0.28), (0.72, -0.28), (0.45, 0.55), (0.45, -0.55)]
_ARROW = np.array(_LINE + _HEAD)  # (dots, 2), to the right
_ARC = np.array([(np.sin(a), np.cos(a)) for a in np.linspace(-0.6, 4.2, 16)]) * 0.8
# where the arc begins, seen from above; a head against the clock
_ARC_HEAD = np.array([(-0.25, 0.95), (-0.05, 1.15), (-0.20, 0.40), (0.05, 0.25)])
_TURN = np.concatenate([_ARC, _ARC_HEAD])  # anticlockwise
_STEM = np.array([(0.0, v) for v in np.linspace(-0.35, 0.35, 4)])  # of a thread
_SEAT = np.array([(u, -1.0) for u in np.linspace(-1, 1, 7)])
_LID = np.array([(u, -0.9 + 0.9 * (1 + u)) for u in np.linspace(-0.9, 0.5, 7)])


def draw_signs(pen: Pen, closure: Closure) -> None:
    """Draw a label round the container, with a sign for each stage, if it is composed."""
    mechanism = MECHANISMS[closure.mechanism]
    if not mechanism.latches:
        return
    radius, height = closure.body
    middle = 0.55 * height  # m
    label = radius + _LABEL_GAP
    pen.cylinder(label, middle - _LABEL_HALF, middle + _LABEL_HALF, "label")
    n = len(mechanism.stages)
    for facing, side in _FACING:
        for k, stage in enumerate(mechanism.stages):
            along = _PITCH * (k - (n - 1) / 2)  # m
            for right, up in _sign(stage, side) * _HALF:
                angle = facing + (along + right) / label
                place = (label * np.cos(angle), label * np.sin(angle), middle + up)
                pen.shape("sphere", place, (_DOT, 0, 0), "ink")


def _sign(stage: Stage, side: int) -> np.ndarray:
    """The dots (n, 2) of a stage's sign, on a side of `_FACING`."""
    sign = _plain_sign(stage, side)
    if not stage.pressed:
        return sign
    press = 0.5 * _ARROW[:, ::-1] * (1, -1) + (0, 0.9)  # downwards, above the rest
    return np.concatenate([0.75 * sign - (0, 0.45), press])


def _plain_sign(stage: Stage, side: int) -> np.ndarray:
    if stage.joint == X:
        return _ARROW * (stage.sign * side, 1)
    if stage.joint == LIFT:
        return _ARROW[:, ::-1] * (1, stage.sign)
    if stage.joint == TILT_Y:
        return np.concatenate([_SEAT, _LID])
    assert stage.joint == TWIST
    turn = _TURN * (stage.sign, 1)
    return np.concatenate([turn, _STEM]) if stage.threaded else turn
