"""How lids are held and let go: joints that are locked, coupled, sprung, gated or free.

A lid is a chain of six joints on its container: x, y, lift (slides), twist, and two
tilts (hinges). A mechanism says which of them are free while the lid is held, which
of them open it and by what share, and what holds it back:

- a thread couples lift to twist;
- a spring pushes the lift back up;
- a gate jams one joint until another has reached its threshold.

A lid that comes free loses locks, thread, spring, gate and friction together.

What a row can say has limits: a spring acts on the lift only, there is one gate, and each of
`angle` and `depth` of a closure is the way of one joint, or of both that it moves by the same.

A new mechanism is one row of MECHANISMS. `lid.py` builds a row's joints into a MuJoCo
model, `scene.py` says where the hand goes to, `experts.py` makes the row's moves and
`rewards.py` pays its terms. This module needs NumPy only. All functions are pure.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

LID_JOINTS = ("x", "y", "lift", "twist", "tilt_x", "tilt_y")
X, Y, LIFT, TWIST, TILT_X, TILT_Y = range(len(LID_JOINTS))
CONSTRAINTS = (*(f"lock_{name}" for name in LID_JOINTS), "thread")  # equality names, in order

# Friction of a jammed joint, beyond what the hand can apply
JAM_TORQUE = 6.0  # N m
JAM_FORCE = 120.0  # N
# Friction of a twist that is free without a torque of its own, as a pulled lid's in its seat:
# about the least breakaway force of such a lid at the radius of its seat
SEAT_TORQUE = 0.05  # N m

Contact = Literal["hold", "touch", "none"]
HandAt = Literal["beside", "on_top", "mark"]


@dataclasses.dataclass(frozen=True)
class Gate:
    """`jammed` does not move until `key` has gone `threshold` of its full way.

    Attributes:
        key: the joint that must move first.
        jammed: the joint that it releases.
        threshold: share of the key's full way, in (0, 1].
    """

    key: int
    jammed: int
    threshold: float


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """One way to hold a lid: a row of MECHANISMS.

    Attributes:
        name: of the row.
        words: one plain line: how such a lid opens.
        free: joints that are not locked while the lid is held.
        opens: joint -> share of the progress (the shares add to 1; empty: `marked`).
        moves: what the expert does, names of rows of `experts.MOVES` in the order of that table.
        pays: reward terms that the row pays, names of rows of `rewards.TERMS`; None: all.
        separates: whether the lid comes off when the progress is 1.
        contact: what counts as the hand's work: `hold` (the inner side of a finger presses on
            the lid), `touch` (any side of either finger), `none` (no contact needed).
        hand_at: where the hand goes: `beside` the held part, `on_top` of it, or to a `mark`
            in the air above it, by the row's depth.
        threaded: lift follows twist.
        sprung: a spring lifts the lid, with `force` at the depth.
        gate: what must come first.
        marked: progress is the way of the held point to a mark, not of a joint.
    """

    name: str
    words: str
    free: tuple[int, ...]
    opens: dict[int, float]
    moves: tuple[str, ...]
    pays: tuple[str, ...] | None = None
    separates: bool = False
    contact: Contact = "hold"
    hand_at: HandAt = "beside"
    threaded: bool = False
    sprung: bool = False
    gate: Gate | None = None
    marked: bool = False

    @property
    def travels(self) -> frozenset[int]:
        """Joints with a part in opening: those that open the lid, and the key of the gate."""
        key = {self.gate.key} if self.gate else set()
        return frozenset({*self.opens, *key})

    def engaged(self) -> np.ndarray:
        """Constraints that act while the lid is held, bool (7,) in the order of CONSTRAINTS."""
        locked = [joint not in self.free for joint in range(len(LID_JOINTS))]
        return np.array([*locked, self.threaded])


_ROWS = (
    Mechanism(
        name="screw",
        words="turn; the lid climbs its thread and comes off",
        free=(LIFT, TWIST),
        opens={TWIST: 1.0},
        moves=("grasp", "unscrew", "lift"),
        separates=True,
        threaded=True,
    ),
    Mechanism(
        name="pull",
        words="pull straight up; the lid comes off",
        free=(LIFT, TWIST),
        opens={LIFT: 1.0},
        moves=("grasp", "lift"),
        separates=True,
    ),
    Mechanism(
        name="turn",
        words="turn in place; nothing comes off",
        free=(TWIST,),
        opens={TWIST: 1.0},
        moves=("grasp", "turn"),
    ),
    Mechanism(
        name="push_twist",
        words="press down against a spring and turn while it is down; the lid comes off",
        free=(LIFT, TWIST),
        opens={TWIST: 1.0},
        moves=("grasp", "unscrew_pressed", "lift"),
        separates=True,
        sprung=True,
        gate=Gate(key=LIFT, jammed=TWIST, threshold=0.5),
    ),
    Mechanism(
        name="bayonet",
        words="turn to the end of the track, then pull straight up; the lid comes off",
        free=(LIFT, TWIST),
        opens={TWIST: 0.5, LIFT: 0.5},
        moves=("grasp", "turn", "lift"),
        separates=True,
        gate=Gate(key=TWIST, jammed=LIFT, threshold=1.0),
    ),
    Mechanism(
        name="flip",
        words="swing the lid up about the hinge at its rim; it stays on",
        free=(TILT_Y,),
        opens={TILT_Y: 1.0},
        moves=("grasp", "swing"),
        contact="touch",
    ),
    Mechanism(
        name="slide",
        words="slide the lid along its rail; it stays on",
        free=(X,),
        opens={X: 1.0},
        moves=("grasp", "slide"),
    ),
    Mechanism(
        name="press",
        words="press the head down against its spring and keep it down",
        free=(LIFT,),
        opens={LIFT: 1.0},
        moves=("press",),
        contact="touch",
        hand_at="on_top",
        sprung=True,
    ),
    Mechanism(
        name="push",
        words="move the object over the plate to a mark",
        free=(X, Y, TWIST),
        opens={},
        moves=("grasp", "drag"),
        contact="touch",
        marked=True,
    ),
    Mechanism(
        name="reach",
        words="move the hand to a mark in the air; nothing is touched",
        free=(),
        opens={},
        moves=("reach",),
        contact="none",
        hand_at="mark",
        marked=True,
    ),
)
MECHANISMS = {row.name: row for row in _ROWS}


def full_travel(mechanism: Mechanism, direction: float, angle: float, depth: float) -> np.ndarray:
    """Value of each joint when it has done its part of opening.

    Args:
        mechanism: how the lid is held.
        direction: sense of rotation that opens, seen from above: +1, -1 or 0.
        angle: rotation from closed to open (rad).
        depth: travel from closed to open (m).

    Returns:
        (6,) signed values (m, rad); 0 where a joint has no part in it.
    """
    down = -1.0 if mechanism.sprung else 1.0
    values = np.array([depth, 0.0, down * depth, direction * angle, 0.0, -angle])  # (6,) m, rad
    return values * [joint in mechanism.travels for joint in range(len(LID_JOINTS))]


def frictions(mechanism: Mechanism, force: float, torque: float) -> np.ndarray:
    """Breakaway friction of each joint when nothing jams it.

    Args:
        mechanism: how the lid is held.
        force: breakaway force of the slides (N).
        torque: breakaway torque of the hinges (N m); without one, a twist has SEAT_TORQUE.

    Returns:
        (6,) N, N m; 0 where a joint is locked.
    """
    lift = 0.0 if mechanism.sprung or mechanism.threaded else force
    twist = torque or SEAT_TORQUE
    values = np.array([force, force, lift, twist, torque, torque])  # (6,) N, N m
    return values * [joint in mechanism.free for joint in range(len(LID_JOINTS))]


def jam(joint: int) -> float:
    """Friction of a jammed joint (N or N m)."""
    return JAM_TORQUE if joint >= TWIST else JAM_FORCE


def progress(lid_qpos: np.ndarray, inverse_full: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Fraction of the way to open, in [0, 1].

    Args:
        lid_qpos: (n, 6) lid joints (m, rad).
        inverse_full: (n, 6) one over their values when open, see `full_travel`; 0 where they
            do not count.
        shares: (n, 6) of each joint in the progress.

    Returns:
        (n,) progress.
    """
    travelled = np.minimum(np.maximum(lid_qpos * inverse_full, 0.0), 1.0)  # (n, 6) in [0, 1]
    return np.minimum(np.einsum("ij,ij->i", travelled, shares), 1.0)


def released(
    progress_now: np.ndarray,
    separates: np.ndarray,
    was_released: np.ndarray,
) -> np.ndarray:
    """Whether each lid is free: one that separates is, from the step on in which it is open.

    Args:
        progress_now: (n,) fraction of the way to open.
        separates: bool (n,), whether the lid comes off at all.
        was_released: bool (n,), the same one step before.

    Returns:
        bool (n,).
    """
    return was_released | (separates & (progress_now >= 1.0))
