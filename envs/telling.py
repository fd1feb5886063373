"""What a policy can be told of a closure by numbers: its stages, and what else it is.

Three forms, which differ in what they say of the stages:

- all of them in their order: nothing of it changes in an episode (`vector`);
- those still to do, the present one first;
- the present one alone.

The last two are one vector for each stage that may be the present one, and one for when all are
done. All say how far the lid is still twisted either way, which decides how the hand takes it.
This module needs NumPy only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from uncap.envs.axes import CONTACTS, dynamics, geometry, signed_way
from uncap.envs.mechanisms import LIFT, MECHANISMS, MOST_STAGES, TILT_Y, TWIST, X

if TYPE_CHECKING:
    from uncap.envs.structure import Closure

# Units of ways: about the largest of the table
_UNITS = {X: 0.04, LIFT: 0.015, TWIST: 2.0, TILT_Y: 1.0}  # m, m, rad, rad
_PRESS_UNIT = 0.004  # m
_LEAD_UNIT = 0.01  # m
_MARK_UNIT = 0.1  # m
JOINTS = len(_UNITS)  # that a stage may move
TWISTS = list(_UNITS).index(TWIST)  # number among them of the twist
STAGE_SIZE = JOINTS + 3  # of what is told of a stage: joints, signed way, pressed, threaded
STAGES_SIZE = MOST_STAGES * STAGE_SIZE  # of `vector`: what it tells of the stages
OF_ORDER = STAGES_SIZE + 2  # the same, with the twists to come
OF_MECHANISM = OF_ORDER + 6  # the same, with the rest but for sizes and masses
SIZE = OF_ORDER + 13  # of `vector`


def vector(closure: Closure) -> np.ndarray:
    """All stages of a row in their order, and what else it is, float32 (36,)."""
    return to_do(closure)[0]


def to_do(closure: Closure) -> np.ndarray:
    """The stages still to do, (MOST_STAGES + 1, 36) float32: row k while stage k is present."""
    stages = _stages(closure)
    rows = []
    for k in range(MOST_STAGES + 1):
        left = np.zeros_like(stages)
        left[: MOST_STAGES - k] = stages[k:]
        rows.append(np.concatenate([left.ravel(), _twists_to_come(closure, k), _rest(closure)]))
    return np.array(rows, np.float32)


def present(closure: Closure) -> np.ndarray:
    """The present stage alone, (MOST_STAGES + 1, 22) float32: row k while stage k is present."""
    stages = np.concatenate([_stages(closure), np.zeros((1, STAGE_SIZE))])
    rows = [
        np.concatenate([stages[k], _twists_to_come(closure, k), _rest(closure)])
        for k in range(MOST_STAGES + 1)
    ]
    return np.array(rows, np.float32)


def _stages(closure: Closure) -> np.ndarray:
    """(MOST_STAGES, 7): which joint moves; its signed way; whether it is pressed, threaded."""
    found = np.zeros((MOST_STAGES, STAGE_SIZE))
    for k, stage in enumerate(MECHANISMS[closure.mechanism].stages):
        found[k] = [
            *(float(stage.joint == joint) for joint in _UNITS),
            signed_way(closure, k) / _UNITS[stage.joint],
            stage.pressed,
            stage.threaded,
        ]
    return found


def _twists_to_come(closure: Closure, k: int) -> list[float]:
    """The lowest and the highest twist from stage k on, from where that begins, in 2 rad."""
    low = high = at = 0.0
    stages = MECHANISMS[closure.mechanism].stages
    for j in range(k, len(stages)):
        if stages[j].joint == TWIST:
            at += signed_way(closure, j) / _UNITS[TWIST]
            low, high = min(low, at), max(high, at)
    return [low, high]


def _rest(closure: Closure) -> np.ndarray:
    """(13,): release, contact, mark, pressed depth, lead, way to the mark; geometry, dynamics."""
    mechanism = MECHANISMS[closure.mechanism]
    depth = closure.middle("depth")
    own = [
        mechanism.separates,
        CONTACTS[mechanism.contact],
        mechanism.marked,
        depth / _PRESS_UNIT * any(stage.pressed for stage in mechanism.stages),
        abs(closure.middle("lead")) / _LEAD_UNIT,
        depth / _MARK_UNIT * mechanism.marked,
    ]
    return np.concatenate([own, geometry(closure), dynamics(closure)])
