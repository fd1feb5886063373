"""Scripted openers: proof that a task can be solved, and labels for any state.

An expert is a function of the measured state alone, with hysteresis in space
instead of phases: align above before descending, close only when centred, turn
only while holding, let go only where the wrist ends, lift only what is free.

What an expert does is the list of moves in its mechanism's row. A new move is one
function and one row of MOVES.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from uncap.envs.mechanisms import LIFT, TILT_Y, TWIST
from uncap.envs.panda import FINGER_OPEN, STEP_POSITION, STEP_YAW, WRIST_LIMIT
from uncap.envs.tables import lookup

Measured = dict[str, np.ndarray]

# Above the lid and down to it
_CLEARANCE = 0.035  # m above the grip at which the hand aligns
_LOW = 0.6 * _CLEARANCE  # m above the grip, below which the hand must be inside the cone
_CENTRED = 0.006  # m off the axis at which the hand may descend or close
_PLAY = 0.6  # of the room between finger and lid that the hand may be off the axis
_STRAIGHT = 0.12  # rad off the yaw it should have, with which the hand may descend
_ASKEW = 0.5  # rad off a bar's direction with which a low hand must rise again
_SPARE = 0.012  # m between finger and lid on the way down
# The fingers close, and stay closed
_AT_GRIP = 0.006  # m off the grip's height at which fingers close
_KEPT_HEIGHT = 0.010  # m off the grip's height within which a lid that they hold is not let go
_KEPT_CENTRED = 0.012  # m off the axis, likewise
_GENTLE = 0.012  # m that a tab is squeezed by, so that it can pivot in the fingers
# They let go, and grip anew
_STRETCH = 0.15  # rad before the wrist's limit at which the hand grips anew
_WIDE = 0.005  # m between finger and lid at which they have let go
_UNWOUND = 0.3  # rad off the yaw it should have, to which an open hand turns back round the lid
# They open the lid
_OVERTURN = 0.06  # rad past the angle of a lid that stays: the fingers spring back when they stop
_LIFT_TO = 0.09  # m from the seat at which a free lid is held still
_HOLD_STEP = 0.02  # m at most that the target leads up or down to there
_PRESS = 0.004  # m that the target leads downwards: about 50 N through the arm's servos
_PRESS_TURNING = 0.5  # of that while turning: at 0.75 fingers slip when the cap is down
_TURN_PRESSING = 0.6  # of the full turn in a step while pressing
_PRESSED = 0.6  # share of the depth from which on a cap that is pressed may be turned
_PRESS_HEAD = 1.5  # of _PRESS on a head that is pressed with closed fingers
_OVER_HEAD = 0.008  # m off the axis within which the fist may press a head
_FIST = 0.003  # m of each finger's opening below which the hand is a fist
_ARC_LEAD = 0.015  # m that the target leads along a hinge's arc
_RAIL_LEAD = 0.0015  # m past the end of the way along a rail
_DRAG_STEP = 0.025  # m at most that the target leads sideways


@dataclasses.dataclass
class Plan:
    """Where the hands go in this control step; moves change it in place.

    Attributes:
        move: (n, 3) of the hand (m, world frame).
        turn: (n,) of the hand about world z (rad).
        opening: (n,) of each finger (m).
        closing: bool (n,), the fingers close on the lid, or are closed.
        gripped: bool (n,), they hold it.
    """

    move: np.ndarray
    turn: np.ndarray
    opening: np.ndarray
    closing: np.ndarray
    gripped: np.ndarray

    @classmethod
    def stay(cls, n: int) -> Plan:
        """Open hands that stay where they are."""
        return cls(
            move=np.zeros((n, 3)),
            turn=np.zeros(n),
            opening=np.full(n, FINGER_OPEN),
            closing=np.zeros(n, bool),
            gripped=np.zeros(n, bool),
        )

    def action(self) -> np.ndarray:
        """Actions (n, 5) in [-1, 1], see `ClosureBatch.step`."""
        action = np.empty((len(self.move), 5))
        action[:, :3] = self.move / STEP_POSITION
        action[:, 3] = self.turn / STEP_YAW
        action[:, 4] = self.opening / (FINGER_OPEN / 2) - 1
        return np.clip(action, -1.0, 1.0)


def expert_action(measured: Measured) -> np.ndarray:
    """Actions that open the closures from the measured state.

    Args:
        measured: see `ClosureBatch.measure`; its `moves` says who makes which.

    Returns:
        (n, 5) in [-1, 1].
    """
    who = measured["moves"]  # (n,), a bool for each move
    names = who.dtype.names or ()
    for name in names:
        lookup(MOVES, name, "move")
    plan = Plan.stay(len(who))
    for name, make in MOVES.items():
        if name in names and who[name].any():
            make(measured, who[name], plan)
    return plan.action()


def grasp(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Go above the lid, down to it, and close the fingers; grip anew where the wrist ends."""
    to_grip = measured["grip_offset"]  # (n, 3) m
    across = np.linalg.norm(to_grip[:, :2], axis=1)  # (n,) m, hand off the lid's axis
    above = -to_grip[:, 2]  # (n,) m, hand above the grip
    yaw = _yaw_error(measured)  # (n,) rad
    round_lid = ~measured["bar"]
    turns = measured["direction"] != 0

    low = above < _LOW
    aligned = _aligned(measured, across, yaw, low)
    at_grip = aligned & (np.abs(above) < _AT_GRIP) & (across < 2 * _CENTRED)
    near = (np.abs(above) < _KEPT_HEIGHT) & (across < _KEPT_CENTRED)
    still_held = measured["holds"] & near
    # at the wrist's end: let go, turn back while the fingers are open, and close again
    spent = turns & round_lid & _wrist_spent(measured)
    let_go = measured["opening"] > measured["grip_radius"] + _WIDE
    unwind = low & aligned & round_lid & turns & let_go & (np.abs(yaw) > _UNWOUND)
    closing = (at_grip | still_held) & ~spent & ~unwind
    gripped = closing & measured["holds"]

    down = np.where(aligned, 0.0, _CLEARANCE) - above  # (n,) m
    move = np.concatenate([to_grip[:, :2], down[:, None]], 1)  # (n, 3) m
    stay_out = low & ~aligned & ~closing  # rise before moving sideways
    move[stay_out, :2] *= 0.2
    move[gripped] = to_grip[gripped]
    keep_yaw = closing | (low & aligned & round_lid & ~unwind)
    wide = np.minimum(measured["grip_radius"] + _SPARE, FINGER_OPEN)  # (n,) m

    plan.move[mine] = move[mine]
    plan.turn[mine] = np.where(keep_yaw, 0.0, yaw)[mine]
    plan.opening[mine] = np.where(closing, 0.0, wide)[mine]
    plan.closing[mine] = closing[mine]
    plan.gripped[mine] = gripped[mine]


def _aligned(
    measured: Measured,
    across: np.ndarray,
    yaw: np.ndarray,
    low: np.ndarray,
) -> np.ndarray:
    """Whether the hand may go down, bool (n,).

    Inside a cone over the lid the hand may be low; outside it must be above.

    Args:
        measured: see `ClosureBatch.measure`.
        across: (n,) of the hand off the lid's axis (m).
        yaw: (n,) that it should still turn (rad).
        low: bool (n,), it is below the height at which it aligns.
    """
    # a wide lid leaves little play
    play = np.clip(FINGER_OPEN - measured["grip_radius"], 0.0, _CENTRED) * _PLAY  # (n,) m
    askew = np.where(measured["bar"], np.abs(measured["bar_yaw_offset"]), 0.0)  # (n,) rad
    # hysteresis: a hand that is low already may be further off
    may_stay_low = (across < 1.5 * play) & (askew < _ASKEW)
    may_descend = (across < play) & (np.abs(yaw) < _STRAIGHT)
    return np.where(low, may_stay_low, may_descend)


def _wrist_spent(measured: Measured) -> np.ndarray:
    """Whether the wrist ends before the lid is open, bool (n,)."""
    # rad that the wrist can still turn the lid
    left = WRIST_LIMIT + measured["direction"] * measured["wrist"]
    return (measured["progress"] < 1) & (left < _STRETCH) & ~measured["released"]


def _yaw_error(measured: Measured) -> np.ndarray:
    """Yaw still to turn before gripping, so that the wrist has room for the rest of the turn.

    The wrist's angle falls as the yaw rises. Half the remaining angle either side
    of the middle is the most room; a bar leaves the choice between two half turns.

    Returns:
        (n,) rad.
    """
    remaining = measured["angle"] * (1 - measured["progress"]) * measured["direction"]
    limit = WRIST_LIMIT - _STRETCH
    ideal = measured["wrist"] - np.clip(remaining / 2, -limit, limit)
    bar = measured["bar_yaw_offset"]
    nearest = bar + np.pi * np.round((ideal - bar) / np.pi)
    return np.where(measured["bar"], nearest, ideal)


def unscrew(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Turn until the lid is off."""
    turning = mine & plan.gripped & (measured["progress"] < 1.0)
    _turn_lid(measured, turning, plan)


def unscrew_pressed(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Press the lid down and turn it while it is down, until it is off."""
    pressing = mine & plan.gripped & (measured["progress"] < 1.0)
    # not back to the grip's middle: that would lift the lid
    plan.move[pressing, 2] = -_PRESS_TURNING * _PRESS
    height = measured["lid"][:, LIFT]  # (n,) m, negative while pressed
    down = height <= _PRESSED * measured["full"][:, LIFT]
    _turn_lid(measured, pressing & down, plan, speed=_TURN_PRESSING)


def turn(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Turn a lid a little past its angle; turning does not take it off."""
    turning = mine & plan.gripped & ~_turned(measured, _OVERTURN)
    _turn_lid(measured, turning, plan)


def _turn_lid(
    measured: Measured,
    turning: np.ndarray,
    plan: Plan,
    speed: float = 1.0,
) -> None:
    plan.turn[turning] = measured["direction"][turning] * speed * STEP_YAW


def _turned(measured: Measured, past: float) -> np.ndarray:
    """Whether a lid has been turned past its angle, by so much (rad), bool (n,)."""
    twist = measured["direction"] * measured["lid"][:, TWIST]  # (n,) rad, towards open
    return twist >= measured["angle"] + past


def lift(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Lift what is free, and what a pull frees; hold it still above its seat."""
    released = measured["released"]
    nothing_to_turn = (measured["direction"] == 0) | _turned(measured, 0.5 * _OVERTURN)
    pulling = mine & plan.gripped & (released | nothing_to_turn)
    to_hold = np.clip(_LIFT_TO - measured["separation"], -_HOLD_STEP, _HOLD_STEP)  # (n,) m
    rise = np.where(released, to_hold, STEP_POSITION)
    plan.move[pulling] = 0.0
    plan.move[pulling, 2] = rise[pulling]


def swing(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Squeeze a tab gently and lead it along its arc."""
    squeezed = mine & plan.closing
    plan.opening[squeezed] = measured["grip_radius"][squeezed] - _GENTLE
    ids = np.flatnonzero(mine & plan.gripped)  # (k,)
    angle = -measured["lid"][ids, TILT_Y]  # (k,) rad, from closed
    out, up = measured["lever"][ids].T  # (k,) m each, from the hinge to the tab of a closed lid
    forward = -out * np.sin(angle) - up * np.cos(angle)  # (k,) m
    rise = out * np.cos(angle) - up * np.sin(angle)  # (k,) m
    sideways = forward[:, None] * measured["axis"][ids]  # (k, 2) m
    tangent = np.column_stack([sideways, rise]) / np.hypot(out, up)[:, None]  # (k, 3)
    swinging = angle < measured["angle"][ids] + 0.5 * _OVERTURN
    lead = np.where(swinging, _ARC_LEAD, 0.0)  # (k,) m
    # that the hand ran ahead of the tab: going back would shut the lid
    along = (plan.move[ids] * tangent).sum(1)  # (k,) m
    plan.move[ids] += (lead - along)[:, None] * tangent


def slide(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Lead a lid along its rail, a little further than it has to go."""
    _lead_sideways(measured, mine & plan.gripped, plan, beyond=_RAIL_LEAD)


def drag(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Lead a lid along the way that it still has to its mark."""
    _lead_sideways(measured, mine & plan.gripped, plan, beyond=0.0)


def _lead_sideways(
    measured: Measured,
    leading: np.ndarray,
    plan: Plan,
    beyond: float,
) -> None:
    """Lead lids along their ways, and by `beyond` (m) along the container's x axis."""
    ids = np.flatnonzero(leading)  # (k,)
    way = measured["way"][ids] + beyond * measured["axis"][ids]  # (k, 2) m
    length = np.linalg.norm(way, axis=1, keepdims=True)  # (k, 1) m
    step = np.minimum(length * 2, _DRAG_STEP)  # (k, 1) m
    plan.move[ids, :2] = way / np.maximum(length, 1e-9) * step


def press(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Press the head with the closed fingers, and stay."""
    ids = np.flatnonzero(mine)  # (k,)
    to_grip = measured["grip_offset"][ids]  # (k, 3) m
    centred = np.linalg.norm(to_grip[:, :2], axis=1) < _OVER_HEAD
    closed = measured["opening"][ids] < _FIST
    plan.move[ids] = to_grip
    plan.move[ids, 2] += np.where(centred & closed, -_PRESS_HEAD * _PRESS, _CLEARANCE)
    plan.turn[ids] = 0.0
    plan.opening[ids] = 0.0


def reach(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Go to the mark with open fingers."""
    plan.move[mine] = measured["grip_offset"][mine]
    plan.turn[mine] = 0.0
    plan.opening[mine] = FINGER_OPEN


# Name -> function that changes the plan of those that make the move, bool (n,). Moves are
# made in this order: a later one changes what an earlier one planned. When each acts:
# - grasp: until the lid is held, and again where the wrist ends;
# - unscrew: once it is held, until the lid is off;
# - unscrew_pressed: the same, pressing first, turning while the lid is down;
# - turn: once it is held, until the lid is turned a little past its angle;
# - lift: once it is held, where nothing has to be turned, or it has been turned, or it is free;
# - swing, slide, drag: as soon as it is held; they wait for no gate;
# - press, reach: at once, without a grasp.
MOVES: dict[str, Callable[[Measured, np.ndarray, Plan], None]] = {
    "grasp": grasp,
    "unscrew": unscrew,
    "unscrew_pressed": unscrew_pressed,
    "turn": turn,
    "lift": lift,
    "swing": swing,
    "slide": slide,
    "drag": drag,
    "press": press,
    "reach": reach,
}
