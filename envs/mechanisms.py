"""How lids are held and let go: sequences of stages.

A lid is a chain of six joints on its container: x, y, lift (slides), twist, and two
tilts (hinges). A mechanism is a sequence of one to three stages. Each is a way along
one joint; the other joints jam meanwhile. A stage that is done stays done: the lid
latches. What else resists:

- friction, in every stage;
- a thread: the lift follows the twist;
- a spring: it pushes up a lid that is pressed down;
- a live gate: a stage that `keeps` a joint jams again when that joint leaves its place.

A lid that comes free loses locks, thread, spring, gate and friction together.

A named mechanism is one row of MECHANISMS; `grammar.py` composes further ones of the kinds of
stages, such as MECHANISMS["right-ccw-up"]. `stages.py` says what follows for the joints of one
variant, `lid.py` builds them into a MuJoCo model, `scene.py` says where the hand goes to,
`experts.py` reads the stages and `rewards.py` pays. All functions are pure.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from uncap.envs.tables import GrowingTable, Maker

LID_JOINTS = ("x", "y", "lift", "twist", "tilt_x", "tilt_y")
X, Y, LIFT, TWIST, TILT_X, TILT_Y = range(len(LID_JOINTS))
CONSTRAINTS = (*(f"lock_{name}" for name in LID_JOINTS), "thread")  # equality names, in order
MOST_STAGES = 3
PRESSED = 0.5  # share of its depth to which a lid must be kept down, where a stage keeps it down

# Friction of a jammed joint, beyond what the hand can apply
JAM_TORQUE = 6.0  # N m
JAM_FORCE = 120.0  # N

Contact = Literal["hold", "touch", "none"]
HandAt = Literal["beside", "on_top", "mark"]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One way along a joint, which is done when the joint has gone it.

    Attributes:
        joint: that moves.
        sign: which way: +1, or -1. A twist's is seen from above, +1 anticlockwise; of a closure
            that opens clockwise it is turned round.
        keeps: a joint that must be kept in its place while the stage is done, or this one jams:
            LIFT, pressed down against a spring; or the joint of the stage before, at its end.
            None: the stages before are latched.
        threaded: the lift follows the twist.
        sprung: a spring pushes back, with `force` at the full way.
    """

    joint: int
    sign: int = 1
    keeps: int | None = None
    threaded: bool = False
    sprung: bool = False

    @property
    def pressed(self) -> bool:
        """Whether the lid must be kept down against its spring."""
        return self.keeps == LIFT and self.joint != LIFT

    @property
    def springs(self) -> bool:
        """Whether a spring pushes the lid up."""
        return self.pressed or self.sprung

    @property
    def lowers(self) -> bool:
        """Whether the lid goes down, against a spring or not."""
        return self.pressed or (self.joint == LIFT and self.sign < 0)

    @property
    def raises(self) -> bool:
        """Whether the lid goes up."""
        return self.threaded or (self.joint == LIFT and self.sign > 0)


@dataclasses.dataclass(frozen=True)
class Mechanism:
    """One way to hold a lid: a row of MECHANISMS.

    Attributes:
        name: of the row.
        words: one plain line: how such a lid opens.
        stages: in their order, 1 to MOST_STAGES; none: `marked`.
        loose: further joints that are free while the lid is held.
        pays: reward terms that the row pays, names of rows of `rewards.TERMS`; None: all.
        separates: whether the lid comes off when the progress is 1.
        contact: what counts as the hand's work: `hold` (the inner side of a finger presses on
            the lid), `touch` (any side of either finger), `none` (no contact needed).
        hand_at: where the hand goes: `beside` the held part, `on_top` of it, or to a `mark`
            in the air above it, by the row's depth.
        marked: progress is the way of the held point to a mark, not of a joint.
        latches: a lid that stays is held where the last stage ends, too; else it can be closed
            again, and the hand must leave it open.
    """

    name: str
    words: str
    stages: tuple[Stage, ...]
    loose: tuple[int, ...] = ()
    pays: tuple[str, ...] | None = None
    separates: bool = False
    contact: Contact = "hold"
    hand_at: HandAt = "beside"
    marked: bool = False
    latches: bool = False

    @property
    def travels(self) -> frozenset[int]:
        """Joints with a part in opening: those of the stages, and those that they keep."""
        kept = {stage.keeps for stage in self.stages if stage.keeps is not None}
        return frozenset({*(stage.joint for stage in self.stages), *kept})

    @property
    def free(self) -> frozenset[int]:
        """Joints that are not locked while the lid is held."""
        climbs = {LIFT} if self.threaded else set()
        return self.travels | climbs | set(self.loose)

    @property
    def threaded(self) -> bool:
        """Whether the lift follows the twist in some stage."""
        return any(stage.threaded for stage in self.stages)

    @property
    def sprung(self) -> bool:
        """Whether a spring pushes the lid up in some stage."""
        return any(stage.springs for stage in self.stages)

    @property
    def lowered(self) -> bool:
        """Whether the lid goes down on its way, against a spring or not."""
        return any(stage.lowers for stage in self.stages)

    @property
    def turns(self) -> bool:
        """Whether the lid is twisted on its way."""
        return TWIST in self.travels

    def moves(self, joint: int, sign: int) -> bool:
        """Whether a stage moves a joint one way; the closure's direction is not looked at."""
        return any((stage.joint, stage.sign) == (joint, sign) for stage in self.stages)

    def chains(self) -> list[list[int]]:
        """Stages that are latched together: one, or more where each keeps the one before."""
        found: list[list[int]] = []
        for k, stage in enumerate(self.stages):
            if k and stage.keeps == self.stages[k - 1].joint:
                found[-1].append(k)
            else:
                found.append([k])
        return found

    def engaged(self) -> np.ndarray:
        """Constraints that act at the first stage, bool (7,) in the order of CONSTRAINTS."""
        locked = [joint not in self.free for joint in range(len(LID_JOINTS))]
        return np.array([*locked, bool(self.stages) and self.stages[0].threaded])


_ROWS = (
    Mechanism(
        name="screw",
        words="turn; the lid climbs its thread and comes off",
        stages=(Stage(TWIST, threaded=True),),
        separates=True,
    ),
    Mechanism(
        name="pull",
        words="pull straight up; the lid comes off",
        stages=(Stage(LIFT),),
        loose=(TWIST,),
        separates=True,
    ),
    Mechanism(
        name="turn",
        words="turn in place; nothing comes off",
        stages=(Stage(TWIST),),
    ),
    Mechanism(
        name="push_twist",
        words="press down against a spring and turn while it is down; the lid comes off",
        stages=(Stage(TWIST, keeps=LIFT),),
        separates=True,
    ),
    Mechanism(
        name="bayonet",
        words="turn to the end of the track, then pull straight up; the lid comes off",
        stages=(Stage(TWIST), Stage(LIFT, keeps=TWIST)),
        separates=True,
    ),
    Mechanism(
        name="flip",
        words="swing the lid up about the hinge at its rim; it stays on",
        stages=(Stage(TILT_Y, -1),),
        contact="touch",
    ),
    Mechanism(
        name="slide",
        words="slide the lid along its rail; it stays on",
        stages=(Stage(X),),
    ),
    Mechanism(
        name="press",
        words="press the head down against its spring and keep it down",
        stages=(Stage(LIFT, -1, sprung=True),),
        contact="touch",
        hand_at="on_top",
    ),
    Mechanism(
        name="push",
        words="move the object over the plate to a mark",
        stages=(),
        loose=(X, Y, TWIST),
        contact="touch",
        marked=True,
    ),
    Mechanism(
        name="reach",
        words="move the hand to a mark in the air; nothing is touched",
        stages=(),
        contact="none",
        hand_at="mark",
        marked=True,
    ),
)
MECHANISMS: GrowingTable[Mechanism] = GrowingTable(
    Maker(
        "uncap.envs.grammar:mechanism",
        "uncap.envs.grammar:MECHANISM_NAMES",
        why_not="uncap.envs.grammar:why_not",
    )
)
MECHANISMS.update({row.name: row for row in _ROWS})


def jam(joint: int) -> float:
    """Friction of a jammed joint (N or N m)."""
    return JAM_TORQUE if joint >= TWIST else JAM_FORCE


def progress(
    lid_qpos: np.ndarray,
    start: np.ndarray,
    inverse_full: np.ndarray,
    shares: np.ndarray,
    done_before: np.ndarray,
) -> np.ndarray:
    """Fraction of the way to open, in [0, 1].

    Args:
        lid_qpos: (n, 6) lid joints (m, rad).
        start: (n, 6) where the present stages begin.
        inverse_full: (n, 6) one over their ways, signed; 0 for joints without a part in them.
        shares: (n, 6) of each joint in the progress.
        done_before: (n,) share of the stages that are latched.

    Returns:
        (n,) progress.
    """
    travelled = np.minimum(np.maximum((lid_qpos - start) * inverse_full, 0.0), 1.0)  # (n, 6)
    return np.minimum(done_before + np.einsum("ij,ij->i", travelled, shares), 1.0)


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
