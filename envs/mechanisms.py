"""How lids are held and let go: joints that are coupled, locked or free.

A lid is a chain of six joints on its container: x, y, lift (slides), twist, and two
tilts (hinges). A mechanism names the joints that are locked while the lid is held,
whether lift and twist are coupled as a thread, and on which joint the breakaway
friction acts. A lid that comes free loses locks, thread and friction together.
All functions are batched and pure.
"""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np

LID_JOINTS = ("x", "y", "lift", "twist", "tilt_x", "tilt_y")
LIFT, TWIST = 2, 3  # positions in LID_JOINTS
_SLIDE, _HINGE = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
CONSTRAINTS = (*(f"lock_{j}" for j in LID_JOINTS), "thread")  # equality names, in order


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """One way to hold a lid: `locked` joints, `threaded` or not, joint of the friction, joint of the progress."""

    name: str
    locked: tuple[str, ...]
    threaded: bool
    friction_joint: int
    progress_joint: int

    def engaged(self) -> np.ndarray:
        """Constraints that are active while the lid is held, bool (7,) in the order of CONSTRAINTS."""
        return np.array([*(j in self.locked for j in LID_JOINTS), self.threaded])


MECHANISMS = {
    m.name: m
    for m in (
        Mechanism("screw", ("x", "y", "tilt_x", "tilt_y"), True, TWIST, TWIST),
        Mechanism("pull", ("x", "y", "tilt_x", "tilt_y"), False, LIFT, LIFT),
        Mechanism("turn", ("x", "y", "lift", "tilt_x", "tilt_y"), False, TWIST, TWIST),
    )
}

# Hard constraints: with MuJoCo's defaults a thread slips under load and a soft
# friction lets a finger drag the lid round without gripping it. While it is held, a
# lid also needs armature: its own inertia is too small to carry the load through a
# soft constraint (measured: 30 N lift a closed screw by 0.25 mm at 1e-3 kg m^2 and by
# 0.08 mm at 3e-3; a 25 N cork creeps 1 mm/s without 0.1 kg and 0.08 mm/s with it).
# A free lid has next to none.
HARD_SOLREF = (0.004, 1.0)
HARD_SOLIMP = (0.9999, 0.9999, 0.001, 0.5, 2.0)
FRICTION_SOLREF = (-1.0, -1000.0)  # damping form: less creep than a time constant of two steps
HELD_ARMATURE = (0.1, 0.1, 0.1, 3e-3, 1e-4, 1e-4)  # kg (slides), kg m^2 (hinges)
FREE_ARMATURE = (0.0, 0.0, 0.0, 2e-5, 2e-5, 2e-5)  # keeps a light lid from spinning up in the fingers


def add_lid_joints(body, mechanism: Mechanism, friction: float, turn_limit: float | None, free: bool) -> None:
    """Add the six joints of the chain to the lid body.

    Args:
        body: the lid's MjsBody.
        mechanism: how it is held.
        friction: breakaway force (N) or torque (N m) on the mechanism's friction joint.
        turn_limit: stop of the twist (rad) for a lid that stays on; None for no stop.
        free: leave out everything of the mechanism: the lid has come off.
    """
    axes = {"x": (1, 0, 0), "y": (0, 1, 0), "lift": (0, 0, 1), "twist": (0, 0, 1), "tilt_x": (1, 0, 0), "tilt_y": (0, 1, 0)}
    for i, name in enumerate(LID_JOINTS):
        joint = body.add_joint(
            name=f"lid_{name}", axis=axes[name], type=_SLIDE if i <= LIFT else _HINGE,
            armature=(FREE_ARMATURE if free else HELD_ARMATURE)[i],
            solref_friction=FRICTION_SOLREF, solimp_friction=HARD_SOLIMP,
        )  # fmt: skip
        if i == mechanism.friction_joint and not free:
            joint.frictionloss = friction
        if i == TWIST and turn_limit is not None:
            joint.limited, joint.range = mujoco.mjtLimited.mjLIMITED_TRUE, (-0.02, turn_limit)


def add_constraints(spec: mujoco.MjSpec, mechanism: Mechanism, lead: float) -> None:
    """Add the locks and the thread (lift = lead x twist / 2 pi; lead in m per turn, signed)."""
    active = mechanism.engaged()
    joint = {"type": mujoco.mjtEq.mjEQ_JOINT, "objtype": mujoco.mjtObj.mjOBJ_JOINT}
    hard = {"solref": HARD_SOLREF, "solimp": HARD_SOLIMP}
    for i, name in enumerate(LID_JOINTS):
        spec.add_equality(name=f"lock_{name}", name1=f"lid_{name}", active=bool(active[i]), data=[0.0] * 12, **joint, **hard)
    ratio = [0, lead / (2 * np.pi)] + [0] * 10
    spec.add_equality(name="thread", name1="lid_lift", name2="lid_twist", active=bool(active[-1]), data=ratio, **joint, **hard)


def progress(lid_qpos: np.ndarray, joint: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Fraction of the way to open, in [0, 1].

    Args:
        lid_qpos: (n, 6) lid joints (m, rad).
        joint: (n,) index of the joint that opens (LIFT or TWIST).
        full: (n,) its value when open (m or rad, signed).

    Returns:
        (n,) progress.
    """
    return np.clip(lid_qpos[np.arange(len(joint)), joint] / full, 0.0, 1.0)


def released(progress_now: np.ndarray, separates: np.ndarray, was_released: np.ndarray) -> np.ndarray:
    """Whether each lid is free, bool (n,): open once, free for good, if it separates at all."""
    return was_released | (separates & (progress_now >= 1.0))
