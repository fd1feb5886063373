"""Builds a mechanism into a MuJoCo model: the six joints of a lid, their locks and the thread.

Constraints are hard: with MuJoCo's defaults a thread slips under load, and a soft
friction lets a finger drag the lid round without gripping it. While it is held, a lid
also needs armature: its own inertia is too small to carry the load through a soft
constraint (measured: 30 N lift a closed screw by 0.25 mm at 1e-3 kg m^2 and by 0.08 mm
at 3e-3; a 25 N cork creeps 1 mm/s without 0.1 kg and 0.08 mm/s with it). A free lid has
next to none.
"""

# mujoco's extension modules come without stubs: pyright knows none of their names
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from uncap.envs.mechanisms import (
    LID_JOINTS,
    LIFT,
    TILT_X,
    TWIST,
    Mechanism,
    frictions,
    full_travel,
    jam,
)
from uncap.envs.structure import Variant

_AXES = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1), (1, 0, 0), (0, 1, 0))  # of LID_JOINTS
HARD_SOLREF = (0.004, 1.0)
HARD_SOLIMP = (0.9999, 0.9999, 0.001, 0.5, 2.0)
FRICTION_SOLREF = (-1.0, -1000.0)  # damping form: less creep than a time constant of two steps
HELD_ARMATURE = (0.1, 0.1, 0.1, 3e-3, 3e-3, 3e-3)  # kg (slides), kg m^2 (hinges)
# keeps a light lid from spinning up in the fingers
FREE_ARMATURE = (0.0, 0.0, 0.0, 2e-5, 2e-5, 2e-5)  # kg, kg m^2
SPRING_DAMPING = 20.0  # N s/m of a sprung lid: a spring in plastic does not ring
# From fully open to the stop of a lid that stays
OVERTRAVEL_SLIDE = 0.002  # m
OVERTRAVEL_HINGE = 0.1  # rad
# m/N that a held lid presses into the stop of its lift: MuJoCo's (1 - d) / d, over its stiffness
# of a stop with a time constant of 0.02 s, over the armature
_STOP_COMPLIANCE = (1 - HARD_SOLIMP[0]) * 0.02**2 / HELD_ARMATURE[LIFT]
_SHUT_PLAY = 0.2  # of the overtravel that a closed lid can be turned further shut
# What the locks and the thread have in common
_HARD_JOINT: dict[str, Any] = {
    "type": mujoco.mjtEq.mjEQ_JOINT,
    "objtype": mujoco.mjtObj.mjOBJ_JOINT,
    "solref": HARD_SOLREF,
    "solimp": HARD_SOLIMP,
}


def add_lid_joints(
    body: mujoco.MjsBody,
    mechanism: Mechanism,
    variant: Variant,
    free: bool,
    hinge: float,
) -> None:
    """Add the six joints of the chain to the lid body.

    Args:
        body: the lid.
        mechanism: how it is held.
        variant: its numbers.
        free: leave out everything of the mechanism: the lid has come off.
        hinge: x of the tilting axes in the lid's frame (m).
    """
    armature = FREE_ARMATURE if free else HELD_ARMATURE
    joints = []
    for i, name in enumerate(LID_JOINTS):
        joint = body.add_joint(
            name=f"lid_{name}",
            axis=_AXES[i],
            type=mujoco.mjtJoint.mjJNT_SLIDE if i <= LIFT else mujoco.mjtJoint.mjJNT_HINGE,
            armature=armature[i],
            solref_friction=FRICTION_SOLREF,
            solimp_friction=HARD_SOLIMP,
            solimp_limit=HARD_SOLIMP,
        )
        if i >= TILT_X:
            joint.pos = (hinge, 0, 0)
        joints.append(joint)
    if not free:
        _add_friction(joints, mechanism, variant)
        _add_limits(joints, mechanism, variant)
        _add_spring(joints[LIFT], mechanism, variant)


def _add_friction(
    joints: list[mujoco.MjsJoint],
    mechanism: Mechanism,
    variant: Variant,
) -> None:
    """Breakaway friction of a closed lid; a gate jams its joint."""
    friction = frictions(mechanism, variant.force, variant.torque)  # (6,) N, N m
    if mechanism.gate:
        friction[mechanism.gate.jammed] = jam(mechanism.gate.jammed)
    for joint, value in zip(joints, friction, strict=True):
        joint.frictionloss = value


def _add_limits(
    joints: list[mujoco.MjsJoint],
    mechanism: Mechanism,
    variant: Variant,
) -> None:
    """Stops of the joints that open: when shut; and when open, unless the lid comes off there."""
    full = full_travel(mechanism, variant.closure.direction, variant.angle, variant.depth)
    key = mechanism.gate.key if mechanism.gate else None
    for i, joint in enumerate(joints):
        if full[i] == 0.0:
            continue
        slack = np.sign(full[i]) * (OVERTRAVEL_HINGE if i >= TWIST else OVERTRAVEL_SLIDE)
        shut = -_SHUT_PLAY * slack if i >= TWIST else 0.0
        if mechanism.sprung and i == LIFT:
            shut -= _STOP_COMPLIANCE * variant.force / 2  # at 0, the spring's load and the stop's
        comes_off = mechanism.separates and i != key
        opened = 2 * full[i] if comes_off else full[i] + slack
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.range = sorted((shut, opened))


def _add_spring(lift: mujoco.MjsJoint, mechanism: Mechanism, variant: Variant) -> None:
    """The spring of a sprung lid: half its force at rest, all of it at the depth."""
    if mechanism.sprung:
        lift.stiffness[0] = variant.force / (2 * variant.depth)  # N/m
        lift.springref = variant.depth
        lift.damping[0] = SPRING_DAMPING


def add_constraints(spec: mujoco.MjSpec, mechanism: Mechanism, lead: float) -> None:
    """Add the locks of all joints and the thread; those that the mechanism has are active.

    Args:
        spec: the scene, with the lid's joints.
        mechanism: how the lid is held.
        lead: of the thread (m per turn, signed): lift = lead x twist / 2 pi.
    """
    *locked, threaded = mechanism.engaged()
    for name, active in zip(LID_JOINTS, locked, strict=True):
        spec.add_equality(
            name=f"lock_{name}",
            name1=f"lid_{name}",
            active=bool(active),
            data=[0.0] * 12,
            **_HARD_JOINT,
        )
    spec.add_equality(
        name="thread",
        name1="lid_lift",
        name2="lid_twist",
        active=bool(threaded),
        data=[0, lead / (2 * np.pi)] + [0] * 10,  # coefficients of a polynomial in the twist
        **_HARD_JOINT,
    )
