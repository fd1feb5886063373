"""The numbers of a row that the structural distance compares: four named groups, AXES.

They say what a closure asks for, whatever the order; `distances.py` compares the orders of
stages. This module needs NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from uncap.envs.mechanisms import LIFT, MECHANISMS, TILT_Y, TWIST, X

if TYPE_CHECKING:
    from uncap.envs.structure import Closure

# Units: a difference that asks for another strategy, see `structure.distance`
_HALF_TURN = math.pi  # rad, of a twist or a hinge
_LIFT_UNIT = 0.02  # m, of pressing or lifting
_SLIDE_UNIT = 0.1  # m
_LEAD_UNIT = 0.01  # m
_RADIUS_UNIT = 0.036  # m: the widest grip
_HEIGHT_UNIT = 0.04  # m
_OFFSET_UNIT = 0.04  # m
_TORQUE_UNIT = 1.0  # N m
_FORCE_UNIT = 20.0  # N
_MASS_UNIT = 0.1  # kg
CONTACTS = {"hold": 1.0, "touch": 0.5, "none": 0.0}


def _mechanism(closure: Closure) -> np.ndarray:
    """(10,): free x, lift, twist, tilt_y; thread, spring, gate, release, contact, control."""
    mechanism = MECHANISMS[closure.mechanism]
    free = [float(joint in mechanism.free) for joint in (X, LIFT, TWIST, TILT_Y)]
    gated = any(stage.keeps is not None for stage in mechanism.stages)
    return np.array(
        [
            *free,
            mechanism.threaded,
            mechanism.sprung,
            gated,
            mechanism.separates,
            CONTACTS[mechanism.contact],
            closure.control,
        ],
        float,
    )


def _motion(closure: Closure) -> np.ndarray:
    """(6,): how far the lid is pressed, twisted (signed), lifted, tilted, slid; its signed lead."""
    mechanism = MECHANISMS[closure.mechanism]
    pressed = closure.middle("depth") * mechanism.sprung
    lowered = max(pressed, -way_of(closure, LIFT, -1))
    slid = way_of(closure, X) + closure.middle("depth") * mechanism.marked
    return np.array(
        [
            lowered / _LIFT_UNIT,
            way_of(closure, TWIST) / _HALF_TURN,
            way_of(closure, LIFT, 1) / _LIFT_UNIT,
            -way_of(closure, TILT_Y) / _HALF_TURN,
            slid / _SLIDE_UNIT,
            closure.middle("lead") / _LEAD_UNIT,
        ]
    )


def way_of(closure: Closure, joint: int, sign: int = 0) -> float:
    """Signed ways of the stages of a joint together (m, rad), of one sign or of both."""
    mechanism = MECHANISMS[closure.mechanism]
    return sum(
        signed_way(closure, k)
        for k, stage in enumerate(mechanism.stages)
        if stage.joint == joint and sign in (0, stage.sign)
    )


def signed_way(closure: Closure, k: int) -> float:
    """The signed way of stage k (m, rad), in the middle of its range."""
    stage = MECHANISMS[closure.mechanism].stages[k]
    sense = closure.direction if stage.joint == TWIST else 1.0
    return stage.sign * sense * (sum(closure.stage_ways[k]) / 2)


def geometry(closure: Closure) -> np.ndarray:
    """(4,): grip radius, grip height, whether it is a bar, offset."""
    return np.array(
        [
            closure.middle("grip_radius") / _RADIUS_UNIT,
            closure.middle("grip_height") / _HEIGHT_UNIT,
            closure.grip == "bar",
            closure.offset / _OFFSET_UNIT,
        ]
    )


def dynamics(closure: Closure) -> np.ndarray:
    """(3,): torque, force, mass."""
    return np.array(
        [
            closure.middle("torque") / _TORQUE_UNIT,
            closure.middle("force") / _FORCE_UNIT,
            closure.middle("mass") / _MASS_UNIT,
        ]
    )


AXES: dict[str, Callable[[Closure], np.ndarray]] = {
    "mechanism": _mechanism,
    "motion": _motion,
    "geometry": geometry,
    "dynamics": dynamics,
}
