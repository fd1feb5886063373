"""Scripted openers: proof that a task can be solved, and labels for any state.

An expert is a function of the measured state alone, with hysteresis in space
instead of phases: align above before descending, close only when centred, turn
only while holding, lift only what is free.
"""

from __future__ import annotations

import numpy as np

from envs.batch import STEP_POSITION, STEP_YAW
from envs.robot import FINGER_OPEN

_CLEARANCE = 0.035  # m above the grip at which the hand aligns
_CENTRED = 0.006  # m off the axis at which the hand may descend or close
_LIFT_TO = 0.09  # m from the seat at which a free lid is held still
_OVERTURN = 0.06  # rad past the angle of a lid that stays: the fingers spring back when they stop
_SPARE = 0.012  # m between finger and lid on the way down


def expert_action(m: dict[str, np.ndarray]) -> np.ndarray:
    """Action (n, 5) in [-1, 1] that opens the closure from the measured state.

    Args:
        m: measurements, see `ClosureBatch.measure`.
    """
    to_grip = m["grip_offset"]  # (n, 3)
    across = np.linalg.norm(to_grip[:, :2], axis=1)
    above = -to_grip[:, 2]  # hand above the grip (m)
    free, holding = m["released"], m["holds"]
    yaw = _yaw_error(m)

    # inside the cone over the lid the hand may be low; outside it must be above
    low = above < _CLEARANCE * 0.6
    room = np.clip(FINGER_OPEN - m["grip_radius"], 0.0, _CENTRED) * 0.6  # a wide lid leaves little play
    astray = np.where(m["bar"], np.abs(m["bar_yaw_offset"]), 0.0)
    aligned = np.where(low, (across < 1.5 * room) & (astray < 0.5), (across < room) & (np.abs(yaw) < 0.12))
    goal_z = np.where(aligned, 0.0, _CLEARANCE) - above
    at_grip = aligned & (np.abs(above) < 0.006) & (across < 2 * _CENTRED)
    close = at_grip | (holding & (np.abs(above) < 0.010) & (across < 0.012))

    move = np.concatenate([to_grip[:, :2], goal_z[:, None]], 1)
    stay_out = low & ~aligned & ~close  # rise before moving sideways
    move[stay_out, :2] *= 0.2
    grip = np.where(close, -1.0, np.clip((m["grip_radius"] + _SPARE) / 0.02 - 1.0, -1, 1))
    twist = yaw

    gripped = close & holding
    move[gripped] = np.concatenate([to_grip[gripped, :2], to_grip[gripped, 2:]], 1)
    twist = np.where(close, 0.0, np.where(low & aligned & ~m["bar"], 0.0, twist))
    turned = m["direction"] * m["lid"][:, 3] >= m["angle"] + _OVERTURN
    done = np.where(m["separates"], m["progress"] >= 1.0, turned)
    turning = gripped & (m["direction"] != 0) & ~done
    twist = np.where(turning, m["direction"] * STEP_YAW, twist)
    pulling = gripped & ((m["direction"] == 0) | free) & m["separates"]
    rise = np.where(free, np.clip(_LIFT_TO - m["separation"], -0.02, 0.02), 0.03)
    move[pulling] = 0.0
    move[pulling, 2] = (rise + np.where(free, -m["target_offset"][:, 2] * 0.2, 0.0))[pulling]
    action = np.concatenate([move / STEP_POSITION, twist[:, None] / STEP_YAW, grip[:, None]], 1)
    # the target already leads the hand by target_offset: ask for what is missing
    action[:, :3] -= np.where(pulling[:, None], 0.0, m["target_offset"] / STEP_POSITION)
    action[:, 3] -= np.where(turning, 0.0, m["target_yaw_offset"] / STEP_YAW)
    return np.clip(action, -1.0, 1.0)


def _yaw_error(m: dict[str, np.ndarray]) -> np.ndarray:
    """Yaw (n,) still to turn before gripping (rad), so that the wrist has room for the rest of the turn.

    The wrist's angle falls as the yaw rises. Half the remaining angle either side
    of the middle is the most room; a bar leaves the choice between two half turns.
    """
    remaining = m["angle"] * (1 - m["progress"]) * m["direction"]
    ideal = m["wrist"] - np.clip(remaining / 2, -1.4, 1.4)
    bar = m["bar_yaw_offset"]
    nearest = bar + np.pi * np.round((ideal - bar) / np.pi)
    return np.where(m["bar"], nearest, ideal)
