"""How lids are held and let go: joints that are locked, coupled, sprung, gated or free.

A lid is a chain of six joints on its container: x, y, lift (slides), twist, and two
tilts (hinges). A mechanism says which of them are free while the lid is held, which
of them open it and by what share, and what holds it back:

- a thread couples lift to twist;
- a spring pushes the lift back up;
- a gate jams one joint until another has reached its threshold.

A lid that comes free loses locks, thread, spring, gate and friction together. A new
mechanism is one row of MECHANISMS. All functions are batched and pure.
"""

from __future__ import annotations

import dataclasses

import mujoco
import numpy as np

LID_JOINTS = ("x", "y", "lift", "twist", "tilt_x", "tilt_y")
X, Y, LIFT, TWIST, TILT_X, TILT_Y = range(6)
_SLIDE, _HINGE = mujoco.mjtJoint.mjJNT_SLIDE, mujoco.mjtJoint.mjJNT_HINGE
CONSTRAINTS = (*(f"lock_{j}" for j in LID_JOINTS), "thread")  # equality names, in order
CONTACT_RULES = ("hold", "touch", "none")  # a finger's inner side, either finger, no contact needed


@dataclasses.dataclass(frozen=True)
class Gate:
    """`jammed` does not move until `key` has gone `threshold` of its full way."""

    key: int
    jammed: int
    threshold: float


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """One way to hold a lid.

    Attributes:
        free: joints that are not locked while the lid is held.
        opens: joint -> share of the progress (the shares add to 1; empty: `marked`).
        separates: whether the lid comes off when the progress is 1.
        contact: what counts as the hand's work, see CONTACT_RULES.
        threaded: lift follows twist.
        sprung: a spring lifts the lid, with `force` at the depth.
        gate: what must come first.
        marked: progress is the way of the held point to a mark, not of a joint.
    """

    name: str
    free: tuple[int, ...]
    opens: dict[int, float]
    separates: bool = False
    contact: str = "hold"
    threaded: bool = False
    sprung: bool = False
    gate: Gate | None = None
    marked: bool = False

    def engaged(self) -> np.ndarray:
        """Constraints that are active while the lid is held, bool (7,) in the order of CONSTRAINTS."""
        return np.array([*(j not in self.free for j in range(6)), self.threaded])


MECHANISMS = {
    m.name: m
    for m in (
        Mechanism("screw", (LIFT, TWIST), {TWIST: 1.0}, separates=True, threaded=True),
        Mechanism("pull", (LIFT, TWIST), {LIFT: 1.0}, separates=True),
        Mechanism("turn", (TWIST,), {TWIST: 1.0}),
        Mechanism(
            "push_twist",
            (LIFT, TWIST),
            {TWIST: 1.0},
            separates=True,
            sprung=True,
            gate=Gate(LIFT, TWIST, 0.5),
        ),
        Mechanism(
            "bayonet",
            (LIFT, TWIST),
            {TWIST: 0.5, LIFT: 0.5},
            separates=True,
            gate=Gate(TWIST, LIFT, 1.0),
        ),
        Mechanism("flip", (TILT_Y,), {TILT_Y: 1.0}, contact="touch"),
        Mechanism("slide", (X,), {X: 1.0}),
        Mechanism("press", (LIFT,), {LIFT: 1.0}, contact="touch", sprung=True),
        Mechanism("push", (X, Y, TWIST), {}, contact="touch", marked=True),
        Mechanism("reach", (), {}, contact="none", marked=True),
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
HELD_ARMATURE = (0.1, 0.1, 0.1, 3e-3, 3e-3, 3e-3)  # kg (slides), kg m^2 (hinges)
FREE_ARMATURE = (
    0.0,
    0.0,
    0.0,
    2e-5,
    2e-5,
    2e-5,
)  # keeps a light lid from spinning up in the fingers
JAM_TORQUE, JAM_FORCE = (
    6.0,
    120.0,
)  # N m, N: friction of a jammed joint, beyond what the hand can apply
SPRING_DAMPING = 20.0  # N s/m of a sprung lid: a spring in plastic does not ring
OVERTRAVEL = (0.002, 0.1)  # m, rad: from fully open to the stop of a lid that stays


def full_travel(mechanism: Mechanism, direction: float, angle: float, depth: float) -> np.ndarray:
    """Value (6,) of each joint when it has done its part of opening (m, rad, signed); 0 where it has none."""
    down = -1.0 if mechanism.sprung else 1.0
    return np.array([depth, 0.0, down * depth, direction * angle, 0.0, -angle]) * [
        j in mechanism.opens or (mechanism.gate is not None and j == mechanism.gate.key)
        for j in range(6)
    ]


def frictions(mechanism: Mechanism, force: float, torque: float) -> np.ndarray:
    """Breakaway friction (6,) of each joint when nothing jams it (N, N m)."""
    sliding = 0.0 if mechanism.sprung or mechanism.threaded else force
    each = np.array([force, force, sliding, torque, torque, torque])
    return each * [j in mechanism.free for j in range(6)]


def jam(joint: int) -> float:
    """Friction of a jammed joint (N or N m)."""
    return JAM_TORQUE if joint >= TWIST else JAM_FORCE


def add_lid_joints(body, mechanism: Mechanism, variant, free: bool, hinge: float) -> None:
    """Add the six joints of the chain to the lid body.

    Args:
        body: the lid's MjsBody.
        mechanism: how it is held.
        variant: its numbers, see `closures.Variant`.
        free: leave out everything of the mechanism: the lid has come off.
        hinge: x of the tilting axes in the lid's frame (m).
    """
    axes = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1), (1, 0, 0), (0, 1, 0))
    full = full_travel(mechanism, variant.closure.direction, variant.angle, variant.depth)
    friction = frictions(mechanism, variant.force, variant.torque)
    if mechanism.gate:
        friction[mechanism.gate.jammed] = jam(mechanism.gate.jammed)
    for i, name in enumerate(LID_JOINTS):
        joint = body.add_joint(
            name=f"lid_{name}",
            axis=axes[i],
            type=_SLIDE if i <= LIFT else _HINGE,
            armature=(FREE_ARMATURE if free else HELD_ARMATURE)[i],
            solref_friction=FRICTION_SOLREF,
            solimp_friction=HARD_SOLIMP,
            solimp_limit=HARD_SOLIMP,
        )
        if i >= TILT_X:
            joint.pos = (hinge, 0, 0)
        if free:
            continue
        joint.frictionloss = friction[i]
        if full[i]:  # shut, it stops; open, it stops too, or the lid has come off
            slack = np.sign(full[i]) * OVERTRAVEL[i >= TWIST]
            off = mechanism.separates and not (mechanism.gate and i == mechanism.gate.key)
            joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
            joint.range = sorted(
                (-0.2 * slack if i >= TWIST else 0.0, 2 * full[i] if off else full[i] + slack)
            )
        if i == LIFT and mechanism.sprung:  # half its force at rest, all of it at the depth
            joint.stiffness[0], joint.springref = variant.force / (2 * variant.depth), variant.depth
            joint.damping[0] = SPRING_DAMPING


def add_constraints(spec: mujoco.MjSpec, mechanism: Mechanism, lead: float) -> None:
    """Add the locks and the thread (lift = lead x twist / 2 pi; lead in m per turn, signed)."""
    active = mechanism.engaged()
    joint = {"type": mujoco.mjtEq.mjEQ_JOINT, "objtype": mujoco.mjtObj.mjOBJ_JOINT}
    hard = {"solref": HARD_SOLREF, "solimp": HARD_SOLIMP}
    for i, name in enumerate(LID_JOINTS):
        spec.add_equality(
            name=f"lock_{name}",
            name1=f"lid_{name}",
            active=bool(active[i]),
            data=[0.0] * 12,
            **joint,
            **hard,
        )
    ratio = [0, lead / (2 * np.pi)] + [0] * 10
    spec.add_equality(
        name="thread",
        name1="lid_lift",
        name2="lid_twist",
        active=bool(active[-1]),
        data=ratio,
        **joint,
        **hard,
    )


def progress(lid_qpos: np.ndarray, inverse_full: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Fraction of the way to open, in [0, 1].

    Args:
        lid_qpos: (n, 6) lid joints (m, rad).
        inverse_full: (n, 6) one over their values when open, see `full_travel`; 0 where they do not count.
        shares: (n, 6) of each joint in the progress.

    Returns:
        (n,) progress.
    """
    way = np.minimum(np.maximum(lid_qpos * inverse_full, 0.0), 1.0)
    return np.minimum(np.einsum("ij,ij->i", way, shares), 1.0)


def released(
    progress_now: np.ndarray, separates: np.ndarray, was_released: np.ndarray
) -> np.ndarray:
    """Whether each lid is free, bool (n,): open once, free for good, if it separates at all."""
    return was_released | (separates & (progress_now >= 1.0))
