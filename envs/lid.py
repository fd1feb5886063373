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

from uncap.envs.mechanisms import LID_JOINTS, LIFT, TILT_X, Mechanism, jam
from uncap.envs.stages import HARD_SOLIMP, HELD_ARMATURE, StageNumbers
from uncap.envs.structure import Variant

_AXES = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1), (1, 0, 0), (0, 1, 0))  # of LID_JOINTS
HARD_SOLREF = (0.004, 1.0)
FRICTION_SOLREF = (-1.0, -1000.0)  # damping form: less creep than a time constant of two steps
# keeps a light lid from spinning up in the fingers
FREE_ARMATURE = (0.0, 0.0, 0.0, 2e-5, 2e-5, 2e-5)  # kg, kg m^2
SPRING_DAMPING = 20.0  # N s/m of a sprung lid: a spring in plastic does not ring
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
    first: StageNumbers,
    free: bool,
    hinge: float,
) -> None:
    """Add the six joints of the chain to the lid body.

    Args:
        body: the lid.
        mechanism: how it is held.
        variant: its numbers.
        first: what holds it in the first stage.
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
        _add_friction(joints, first)
        _add_limits(joints, first)
        _add_spring(joints[LIFT], mechanism, variant, first)


def _add_friction(joints: list[mujoco.MjsJoint], first: StageNumbers) -> None:
    """Breakaway friction of a closed lid; a gate jams its joint."""
    friction = first.friction.copy()  # (6,) N, N m
    if first.gate is not None:
        friction[first.gate.jammed] = jam(first.gate.jammed)
    for joint, value in zip(joints, friction, strict=True):
        joint.frictionloss = value


def _add_limits(joints: list[mujoco.MjsJoint], first: StageNumbers) -> None:
    """Stops of the joints that have some."""
    for joint, limits in zip(joints, first.limits, strict=True):
        if not np.isnan(limits[0]):
            joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
            joint.range = limits


def _add_spring(
    lift: mujoco.MjsJoint, mechanism: Mechanism, variant: Variant, first: StageNumbers
) -> None:
    """The spring of a sprung lid, which acts from the first stage on, or later."""
    if mechanism.sprung:
        lift.stiffness[0] = first.stiffness  # N/m
        lift.springref = variant.depth
        lift.damping[0] = SPRING_DAMPING


def add_constraints(spec: mujoco.MjSpec, mechanism: Mechanism, ratio: float) -> None:
    """Add the locks of all joints and the thread; those that the mechanism has are active.

    Args:
        spec: the scene, with the lid's joints.
        mechanism: how the lid is held.
        ratio: lift per twist of the thread (m/rad, signed).
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
        data=[0, ratio] + [0] * 10,  # coefficients of a polynomial in the twist
        **_HARD_JOINT,
    )
