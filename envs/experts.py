"""Scripted openers: proof that a task can be solved, and labels for any state.

An expert is a function of the measured state alone, with hysteresis in space
instead of phases: align above before descending, close only when centred, turn
only while holding, let go only where the wrist ends, lift only what is free.
"""

from __future__ import annotations

import numpy as np

from envs.batch import STEP_POSITION, STEP_YAW
from envs.mechanisms import LIFT, MECHANISMS, TILT_Y, TWIST
from envs.robot import FINGER_OPEN, WRIST_LIMIT

_CLEARANCE = 0.035  # m above the grip at which the hand aligns
_CENTRED = 0.006  # m off the axis at which the hand may descend or close
_LIFT_TO = 0.09  # m from the seat at which a free lid is held still
_OVERTURN = 0.06  # rad past the angle of a lid that stays: the fingers spring back when they stop
_SPARE = 0.012  # m between finger and lid on the way down
_WIDE = 0.005  # m between finger and lid at which they have let go
_STRETCH = 0.15  # rad before the wrist's limit at which the hand grips anew
_PRESS = 0.004  # m that the target leads downwards: about 50 N through the arm's servos
_GENTLE = 0.012  # m that a tab is squeezed by, so that it can pivot in the fingers
_CODE = {name: k for k, name in enumerate(MECHANISMS)}


def expert_action(m: dict[str, np.ndarray]) -> np.ndarray:
    """Action (n, 5) in [-1, 1] that opens the closure from the measured state.

    Args:
        m: measurements, see `ClosureBatch.measure`.
    """
    move, turn, opening, gripped = _approach(m)
    for act in (_twist, _pull, _flip, _drag):
        act(m, gripped, move, turn)
    for act in (_press, _reach):
        act(m, move, turn, opening)
    action = np.empty((len(move), 5))
    action[:, :3] = move / STEP_POSITION
    action[:, 3] = turn / STEP_YAW
    action[:, 4] = opening / (FINGER_OPEN / 2) - 1
    return np.clip(action, -1.0, 1.0)


def _is(m: dict[str, np.ndarray], *mechanisms: str) -> np.ndarray:
    return np.isin(m["mechanism"], [_CODE[name] for name in mechanisms])


def _approach(m: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Go above the lid, down to it, and close the fingers; grip anew where the wrist ends.

    Returns:
        Where the hand should go (n, 3) (m) and turn (n,) (rad), the fingers' opening
        (n,) (m), and whether they hold the lid (n,).
    """
    to_grip = m["grip_offset"]  # (n, 3)
    across = np.linalg.norm(to_grip[:, :2], axis=1)
    above = -to_grip[:, 2]  # hand above the grip (m)
    yaw = _yaw_error(m)

    # inside the cone over the lid the hand may be low; outside it must be above
    low = above < _CLEARANCE * 0.6
    room = (
        np.clip(FINGER_OPEN - m["grip_radius"], 0.0, _CENTRED) * 0.6
    )  # a wide lid leaves little play
    astray = np.where(m["bar"], np.abs(m["bar_yaw_offset"]), 0.0)
    aligned = np.where(
        low, (across < 1.5 * room) & (astray < 0.5), (across < room) & (np.abs(yaw) < 0.12)
    )
    goal_z = np.where(aligned, 0.0, _CLEARANCE) - above
    at_grip = aligned & (np.abs(above) < 0.006) & (across < 2 * _CENTRED)

    left = WRIST_LIMIT + m["direction"] * m["wrist"]  # rad that the wrist can still turn the lid
    spent = (
        (m["direction"] != 0) & ~m["bar"] & (m["progress"] < 1) & (left < _STRETCH) & ~m["released"]
    )
    let_go = m["opening"] > m["grip_radius"] + _WIDE
    unwind = low & aligned & ~m["bar"] & (m["direction"] != 0) & let_go & (np.abs(yaw) > 0.3)
    close = (at_grip | (m["holds"] & (np.abs(above) < 0.010) & (across < 0.012))) & ~spent & ~unwind

    move = np.concatenate([to_grip[:, :2], goal_z[:, None]], 1)
    stay_out = low & ~aligned & ~close  # rise before moving sideways
    move[stay_out, :2] *= 0.2
    turn = np.where(close | (low & aligned & ~m["bar"] & ~unwind), 0.0, yaw)
    grip = np.where(_is(m, "flip"), m["grip_radius"] - _GENTLE, 0.0)
    opening = np.where(close, grip, np.minimum(m["grip_radius"] + _SPARE, FINGER_OPEN))
    gripped = close & m["holds"]
    move[gripped] = to_grip[gripped]
    return move, turn, opening, gripped


def _twist(m, gripped, move, turn) -> None:
    """Turn while holding; press first what must be pressed."""
    turned = m["direction"] * m["lid"][:, TWIST] >= m["angle"] + _OVERTURN
    done = np.where(_is(m, "turn", "bayonet"), turned, m["progress"] >= 1.0)
    pressing = gripped & _is(m, "push_twist") & ~done
    move[pressing, 2] = (
        -0.5 * _PRESS
    )  # not back to the grip's middle: that would lift; at 0.75 fingers slip when the cap is down
    shut = pressing & (m["lid"][:, LIFT] > 0.6 * m["full"][:, LIFT])
    turning = gripped & (m["direction"] != 0) & ~done & ~shut
    turn[turning] = m["direction"][turning] * np.where(pressing, 0.6, 1.0)[turning] * STEP_YAW


def _pull(m, gripped, move, turn) -> None:
    """Lift what is free, and what a pull frees; hold it still above its seat."""
    twisted = m["direction"] * m["lid"][:, TWIST] >= m["angle"] + 0.5 * _OVERTURN
    loose = _is(m, "pull") | (_is(m, "bayonet") & twisted)
    pulling = gripped & m["separates"] & (m["released"] | loose)
    rise = np.where(m["released"], np.clip(_LIFT_TO - m["separation"], -0.02, 0.02), STEP_POSITION)
    move[pulling] = 0.0
    move[pulling, 2] = rise[pulling]


def _flip(m, gripped, move, turn) -> None:
    """Lead the tab along its arc."""
    ids = np.flatnonzero(gripped & _is(m, "flip"))
    angle = -m["lid"][ids, TILT_Y]
    out, up = m["lever"][ids].T
    forward = -out * np.sin(angle) - up * np.cos(angle)
    rise = out * np.cos(angle) - up * np.sin(angle)
    tangent = (
        np.column_stack([forward[:, None] * m["axis"][ids], rise]) / np.hypot(out, up)[:, None]
    )
    lead = np.where(angle < m["angle"][ids] + 0.5 * _OVERTURN, 0.015, 0.0)
    along = (move[ids] * tangent).sum(1)  # that the hand ran ahead: going back would shut the lid
    move[ids] += (lead - along)[:, None] * tangent


def _drag(m, gripped, move, turn) -> None:
    """Lead the lid along the way it still has to go, and a little further along a rail."""
    ids = np.flatnonzero(gripped & _is(m, "slide", "push"))
    way = m["way"][ids] + np.where(_is(m, "slide")[ids], 0.0015, 0.0)[:, None] * m["axis"][ids]
    length = np.linalg.norm(way, axis=1, keepdims=True)
    move[ids, :2] = way / np.maximum(length, 1e-9) * np.minimum(length * 2, 0.025)


def _press(m, move, turn, opening) -> None:
    """Press with the closed fingers, and stay."""
    ids = np.flatnonzero(_is(m, "press"))
    to_grip = m["grip_offset"][ids]
    over = (np.linalg.norm(to_grip[:, :2], axis=1) < 0.008) & (m["opening"][ids] < 0.003)
    move[ids] = to_grip
    move[ids, 2] += np.where(over, -1.5 * _PRESS, _CLEARANCE)
    turn[ids] = 0.0
    opening[ids] = 0.0


def _reach(m, move, turn, opening) -> None:
    """Go to the mark."""
    ids = np.flatnonzero(_is(m, "reach"))
    move[ids], turn[ids], opening[ids] = m["grip_offset"][ids], 0.0, FINGER_OPEN


def _yaw_error(m: dict[str, np.ndarray]) -> np.ndarray:
    """Yaw (n,) still to turn before gripping (rad), so that the wrist has room for the rest of the turn.

    The wrist's angle falls as the yaw rises. Half the remaining angle either side
    of the middle is the most room; a bar leaves the choice between two half turns.
    """
    remaining = m["angle"] * (1 - m["progress"]) * m["direction"]
    limit = WRIST_LIMIT - _STRETCH
    ideal = m["wrist"] - np.clip(remaining / 2, -limit, limit)
    bar = m["bar_yaw_offset"]
    nearest = bar + np.pi * np.round((ideal - bar) / np.pi)
    return np.where(m["bar"], nearest, ideal)
