"""A scripted opener: proof that a task can be solved, and labels for any state.

The expert is a function of the measured state alone, with hysteresis in space
instead of phases: align above before descending, close only when centred, turn
only while holding, let go only where the wrist ends, lift only what is free.

It reads the present stage of the lid's mechanism: which joint moves, which way, how far, and
whether the lid must be kept down meanwhile. Each kind of stage has a move: a row of MOVES, which
says who makes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from uncap.envs.mechanisms import LIFT, TILT_Y, TWIST, X
from uncap.envs.panda import FINGER_OPEN, STEP_POSITION, STEP_YAW, WRIST_LIMIT

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
_ONE_SIDED = 60.0  # N of one finger alone, with which a lid is not held, and the hand cannot centre
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
_LATCH_LEAD = 0.004  # m, likewise, where it latches: less fades, and is hard to copy; more slips
_DRAG_STEP = 0.025  # m at most that the target leads sideways
_DRAG_PRESSING = 0.012  # m, likewise, of a lid that is kept down
_DRAG_BAR = 0.006  # m, likewise, of a bar: it slips out of fingers that press and go fast
_LIFT_OFF = 0.015  # m that the target leads up: with more, lids are lost as they come off
_LIFT_STEP = 0.010  # m, likewise, of a lid that does not come off yet, or that a spring throws up
_BELOW = 0.001  # m under its seat from which on a lid was pressed down
_PRESS_DOWN = 0.9  # of _PRESS on a lid that is held and is not down yet
_LOWER = 1.3  # of _PRESS on a lid that latches below: with less, friction holds some


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
        turn = self.turn / STEP_YAW
        opening = self.opening / (FINGER_OPEN / 2) - 1
        parts = (self.move / STEP_POSITION, turn[:, None], opening[:, None])
        return np.clip(np.concatenate(parts, 1), -1.0, 1.0)


def expert_action(measured: Measured) -> np.ndarray:
    """Actions that open the closures from the measured state.

    Args:
        measured: see `ClosureBatch.measure`.

    Returns:
        (n, 5) in [-1, 1].
    """
    plan = Plan.stay(len(measured["joint"]))
    for move in MOVES.values():
        mine = move.made_by(measured)  # bool (n,)
        if mine.any():
            move.change(measured, mine, plan)
    return plan.action()


def grasp(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Go above the lid, down to it, and close the fingers; grip anew where the wrist ends."""
    to_grip = measured["grip_offset"]  # (n, 3) m
    across = np.linalg.norm(to_grip[:, :2], axis=1)  # (n,) m, hand off the lid's axis
    above = -to_grip[:, 2]  # (n,) m, hand above the grip
    yaw = _yaw_error(measured)  # (n,) rad
    round_lid = ~measured["bar"]
    turns = measured["will_twist"]

    low = above < _LOW
    aligned = _aligned(measured, across, yaw, low)
    at_grip = aligned & (np.abs(above) < _AT_GRIP) & (across < 2 * _CENTRED)
    near = (np.abs(above) < _KEPT_HEIGHT) & (across < _KEPT_CENTRED)
    still_held = measured["holds"] & near
    # at the wrist's end: let go, turn back while the fingers are open, and close again
    spent = round_lid & _wrist_spent(measured)
    let_go = measured["opening"] > measured["grip_radius"] + _WIDE
    unwind = low & aligned & round_lid & turns & let_go & (np.abs(yaw) > _UNWOUND)
    closing = (at_grip | still_held) & ~spent & ~unwind & ~_clamped(measured)
    gripped = closing & measured["holds"]

    down = np.where(aligned, 0.0, _CLEARANCE) - above  # (n,) m
    move = np.concatenate([to_grip[:, :2], down[:, None]], 1)  # (n, 3) m
    stay_out = low & ~aligned & ~closing  # rise before moving sideways
    np.copyto(move[:, :2], 0.2 * to_grip[:, :2], where=stay_out[:, None])
    np.copyto(move, to_grip, where=gripped[:, None])
    keep_yaw = closing | (low & aligned & round_lid & ~unwind)
    wide = np.minimum(measured["grip_radius"] + _SPARE, FINGER_OPEN)  # (n,) m

    np.copyto(plan.move, move, where=mine[:, None])
    np.copyto(plan.turn, np.where(keep_yaw, 0.0, yaw), where=mine)
    np.copyto(plan.opening, np.where(closing, 0.0, wide), where=mine)
    np.copyto(plan.closing, closing, where=mine)
    np.copyto(plan.gripped, gripped, where=mine)


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


def _clamped(measured: Measured) -> np.ndarray:
    """Whether closed fingers press on one side of the lid only, and hard, bool (n,)."""
    most = measured["touch"].max(1)  # (n,) N
    least = measured["touch"].min(1)
    return (most > _ONE_SIDED) & (least == 0.0) & ~measured["released"]


def _wrist_spent(measured: Measured) -> np.ndarray:
    """Whether the wrist ends before the lid is turned as far as the stage asks, bool (n,)."""
    twisting = (measured["joint"] == TWIST) & (measured["progress"] < 1) & ~measured["released"]
    # rad that the wrist can still turn the lid
    left = WRIST_LIMIT + measured["sense"] * measured["wrist"]
    return twisting & (left < _STRETCH)


def _yaw_error(measured: Measured) -> np.ndarray:
    """Yaw still to turn before gripping, so that the wrist has room for the twists to come.

    The wrist's angle falls as the yaw rises. Half the remaining range either side
    of the middle is the most room; a bar leaves the choice between two half turns.

    Returns:
        (n,) rad.
    """
    twist = measured["lid"][:, TWIST]
    to_come = measured["will_twist"] & ~measured["released"] & (measured["progress"] < 1)
    lowest = np.minimum(measured["lowest_twist"] - twist, 0.0) * to_come  # (n,) rad
    highest = np.maximum(measured["highest_twist"] - twist, 0.0) * to_come  # (n,) rad
    limit = WRIST_LIMIT - _STRETCH
    ideal = measured["wrist"] - np.clip((lowest + highest) / 2, -limit, limit)
    bar = measured["bar_yaw_offset"]
    nearest = bar + np.pi * np.round((ideal - bar) / np.pi)
    return np.where(measured["bar"], nearest, ideal)


def keep_down(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Press down a lid that is held, as long as the stage asks for it."""
    pressing = mine & plan.gripped & (measured["progress"] < 1.0)
    force = np.where(_may_go(measured), _PRESS_TURNING, _PRESS_DOWN)
    # not back to the grip's middle: that would lift the lid
    np.copyto(plan.move[:, 2], -(force * _PRESS), where=pressing)


def _may_go(measured: Measured) -> np.ndarray:
    """Whether a lid may be moved: one that must be kept down is down, bool (n,)."""
    height = measured["lid"][:, LIFT]  # (n,) m, negative while pressed
    return ~measured["pressed"] | (height <= _PRESSED * measured["pressed_to"])


def twist(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Turn a lid that is held until the stage is done; a little further where it stays so."""
    past = measured["sense"] * (measured["lid"][:, TWIST] - measured["end"])  # (n,) rad
    turning = ~measured["overdone"] & (measured["progress"] < 1.0) | (past < _OVERTURN)
    turning &= mine & plan.gripped & _may_go(measured)
    speed = np.where(measured["pressed"], _TURN_PRESSING, 1.0)
    np.copyto(plan.turn, measured["sense"] * speed * STEP_YAW, where=turning)


def keep_turned(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Turn on a little, where the next stage asks that the lid stays turned."""
    missing = measured["twist_end"] - measured["lid"][:, TWIST]  # (n,) rad
    sense = np.sign(measured["twist_end"])
    turning = mine & plan.gripped & (sense * missing > -_OVERTURN)
    np.copyto(plan.turn, sense * STEP_YAW, where=turning)


def lift(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Lift what is held and free to go up; slower where it stays on, and under its seat."""
    ready = ~measured["keeps_twist"] | _is_turned(measured)
    lifting = mine & plan.gripped & ready
    fast = measured["comes_off"] & (measured["lid"][:, LIFT] > -_BELOW)
    rise = np.where(fast, _LIFT_OFF, _LIFT_STEP)  # (n,) m
    np.copyto(plan.move[:, :2], 0.0, where=lifting[:, None])
    np.copyto(plan.move[:, 2], rise, where=lifting)


def _is_turned(measured: Measured) -> np.ndarray:
    """Whether a lid is turned past the end of the stage before, bool (n,)."""
    sense = np.sign(measured["twist_end"])
    return sense * (measured["lid"][:, TWIST] - measured["twist_end"]) >= 0.5 * _OVERTURN


def hold_up(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Lift a lid that is off, and hold it still above its seat."""
    held = mine & plan.gripped
    rise = np.clip(_LIFT_TO - measured["separation"], -_HOLD_STEP, _HOLD_STEP)  # (n,) m
    np.copyto(plan.move[:, :2], 0.0, where=held[:, None])
    np.copyto(plan.move[:, 2], rise, where=held)


def lower(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Press down a lid that is held."""
    np.copyto(plan.move[:, 2], -_LOWER * _PRESS, where=mine & plan.gripped)


def swing(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Squeeze a tab gently and lead it along its arc."""
    gentle = measured["grip_radius"] - _GENTLE  # (n,) m
    np.copyto(plan.opening, gentle, where=mine & plan.closing)
    angle = -measured["lid"][:, TILT_Y]  # (n,) rad, from closed
    out = measured["lever"][:, 0]  # (n,) m, from the hinge to the tab of a closed lid
    up = measured["lever"][:, 1]
    forward = -out * np.sin(angle) - up * np.cos(angle)  # (n,) m
    rise = out * np.cos(angle) - up * np.sin(angle)  # (n,) m
    sideways = forward[:, None] * measured["lid_axis"]  # (n, 2) m
    arm = np.hypot(out, up)[:, None]  # (n, 1) m
    tangent = np.concatenate([sideways, rise[:, None]], 1) / arm  # (n, 3)
    swinging = angle < -measured["end"] + 0.5 * _OVERTURN
    lead = np.where(swinging, _ARC_LEAD, 0.0)  # (n,) m
    # that the hand ran ahead of the tab: going back would shut the lid
    along = (plan.move * tangent).sum(1)  # (n,) m
    led = plan.move + (lead - along)[:, None] * tangent  # (n, 3) m
    np.copyto(plan.move, led, where=(mine & plan.gripped)[:, None])


def slide(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Lead a lid along its rail, a little past the end of its way; slower while it is kept down."""
    ready = mine & plan.gripped & _may_go(measured)
    pressing = np.where(measured["bar"], _DRAG_BAR, _DRAG_PRESSING)  # (n,) m
    fastest = np.where(measured["pressed"], pressing, _DRAG_STEP)
    beyond = np.where(measured["latches"], _LATCH_LEAD, _RAIL_LEAD) * measured["sense"]
    _lead_sideways(measured, ready, plan, beyond, fastest)


def drag(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Lead a lid along the way that it still has to its mark."""
    _lead_sideways(measured, mine & plan.gripped, plan, np.zeros_like(plan.turn), _DRAG_STEP)


def _lead_sideways(
    measured: Measured,
    leading: np.ndarray,
    plan: Plan,
    beyond: np.ndarray,
    fastest: np.ndarray | float,
) -> None:
    """Lead lids along their ways.

    Args:
        measured: see `ClosureBatch.measure`.
        leading: bool (n,), who is led.
        plan: is changed.
        beyond: (n,) m along the container's x axis past the end of the way.
        fastest: m at most in a step, (n,) or the same for all.
    """
    way = measured["way"] + beyond[:, None] * measured["axis"]  # (n, 2) m
    length = np.linalg.norm(way, axis=1)  # (n,) m
    step = np.minimum(length * 2, fastest)  # (n,) m
    led = way / np.maximum(length, 1e-9)[:, None] * step[:, None]  # (n, 2) m
    np.copyto(plan.move[:, :2], led, where=leading[:, None])


def press(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Press the head with the closed fingers, and stay."""
    to_grip = measured["grip_offset"]  # (n, 3) m
    centred = np.linalg.norm(to_grip[:, :2], axis=1) < _OVER_HEAD
    closed = measured["opening"] < _FIST
    lead = np.where(centred & closed, -_PRESS_HEAD * _PRESS, _CLEARANCE)  # (n,) m
    np.copyto(plan.move[:, :2], to_grip[:, :2], where=mine[:, None])
    np.copyto(plan.move[:, 2], to_grip[:, 2] + lead, where=mine)
    np.copyto(plan.turn, 0.0, where=mine)
    np.copyto(plan.opening, 0.0, where=mine)


def reach(measured: Measured, mine: np.ndarray, plan: Plan) -> None:
    """Go to the mark with open fingers."""
    np.copyto(plan.move, measured["grip_offset"], where=mine[:, None])
    np.copyto(plan.turn, 0.0, where=mine)
    np.copyto(plan.opening, FINGER_OPEN, where=mine)


class Move(NamedTuple):
    """A row of MOVES.

    Attributes:
        change: changes the plan of those that make the move, bool (n,).
        made_by: says who they are, from what is measured.
    """

    change: Callable[[Measured, np.ndarray, Plan], None]
    made_by: Callable[[Measured], np.ndarray]


def _in_stage(joint: int, sense: int = 0) -> Callable[[Measured], np.ndarray]:
    """Who has a joint to move in the present stage, beside the lid; either way, or one."""

    def made_by(measured: Measured) -> np.ndarray:
        way = (measured["sense"] == sense) if sense else True
        return measured["beside"] & (measured["joint"] == joint) & way & ~measured["released"]

    return made_by


# Moves are made in this order: a later one changes what an earlier one planned. All but the first
# and the last two wait until the lid is held.
MOVES = {
    "grasp": Move(grasp, lambda m: m["beside"]),
    "keep_down": Move(keep_down, lambda m: m["beside"] & m["pressed"] & ~m["released"]),
    "twist": Move(twist, _in_stage(TWIST)),
    "keep_turned": Move(keep_turned, lambda m: m["keeps_twist"] & ~m["released"]),
    "lift": Move(lift, _in_stage(LIFT, 1)),
    "lower": Move(lower, _in_stage(LIFT, -1)),
    "hold_up": Move(hold_up, lambda m: m["beside"] & m["released"]),
    "swing": Move(swing, _in_stage(TILT_Y)),
    "slide": Move(slide, _in_stage(X)),
    "drag": Move(drag, lambda m: m["beside"] & m["marked"]),
    "press": Move(press, lambda m: m["on_top"]),
    "reach": Move(reach, lambda m: m["at_mark"]),
}
