"""Reward terms and success: pure functions of measurements, every term in [0, 1].

reward = 0.1 x potential + 0.9 x success, per control step, where the potential is
the weighted sum of the other terms.
"""

from __future__ import annotations

import numpy as np

from envs.robot import FINGER_OPEN

SEPARATED = 0.05  # m between a free lid and its seat
HOLD_STEPS = 5  # control steps for which success must last
HELD_SHARE = 0.8  # share of the opening that must happen under the hand's contact
LEVEL, CENTRED = (
    0.008,
    0.012,
)  # m off the grip's height and axis within which fingers are around a lid
ALIGNED = 0.15  # rad off a bar's direction within which fingers are around it: closed askew, they clamp its ends
CLAMPED = 0.5  # rad off a bar's direction from which on fingers clamp its ends, and do not hold it; the experts stay below
_ALONG, _HELD_ALONG = np.cos(ALIGNED) ** 2, np.cos(CLAMPED) ** 2
UNHELD = 0.5  # of what opening pays is paid without a hold, until the lid comes off: turned by one finger, it is then lost
SQUEEZE = 0.004  # m that pads give way around a lid
WEIGHTS = {"reach": 0.2, "grasp": 0.2, "open": 0.4, "separate": 0.2}  # of the potential
SUCCESS_WEIGHT = 0.9
VERSION = 17  # of this file's formulas; stored with every run


def is_open(m: dict[str, np.ndarray], held_progress: np.ndarray) -> np.ndarray:
    """Whether each closure is open now, bool (n,).

    Opened under the contact that its mechanism asks for; a lid that separates is in
    the fingers, 5 cm from its seat; a lid that stays has gone all its way.

    Args:
        m: measurements, see `ClosureBatch.measure`.
        held_progress: (n,) progress made under the hand's contact.
    """
    apart = m["released"] & (m["separation"] >= SEPARATED) & m["holds"]
    return (m["progress"] >= 1.0) & (held_progress >= HELD_SHARE) & (apart | ~m["separates"])


def reward_terms(
    m: dict[str, np.ndarray], held_progress: np.ndarray, success: np.ndarray
) -> dict[str, np.ndarray]:
    """Named terms, (n,) each in [0, 1].

    Args:
        m: measurements.
        held_progress: (n,) progress made under the hand's contact.
        success: (n,) whether success is held now.
    """
    distance = np.sqrt(np.einsum("ij,ij->i", m["grip_offset"], m["grip_offset"]))
    far = np.tanh(10 * distance)
    along = np.where(m["bar"], np.cos(m["bar_yaw_offset"]) ** 2, 1.0)
    held = np.where(m["hold_rule"], m["holds"] & (along > _HELD_ALONG), m["contact"])
    unheld = UNHELD * along * (m["contact"] & ~m["released"])
    away = np.minimum(m["separation"] / SEPARATED, 1) * (m["released"] & m["holds"])
    return {
        "reach": 1 - 0.5 * (far + np.tanh(60 * distance)),  # from afar, and the last centimetre
        "grasp": np.where(held, 1.0, _preshape(m, far, along) * m["hold_rule"]),
        "open": np.minimum(m["progress"], held_progress)
        * np.where(m["holds"] | ~m["separates"], 1.0, unheld),
        "separate": np.where(m["separates"], away * held_progress, is_open(m, held_progress)),
        "success": success.astype(float),
    }


def _preshape(m: dict[str, np.ndarray], far: np.ndarray, along: np.ndarray) -> np.ndarray:
    """How far fingers that must hold a lid have come, (n,) in [0, 0.7]: wide enough above it, then around it and closing.

    Closing pays over all of its way, however narrow the lid: where the first of it pays nothing, it is not learned.
    Around a bar, fingers also lie along it.
    """
    spare, widest = (
        m["opening"] - m["grip_radius"],
        FINGER_OPEN - m["grip_radius"],
    )  # m on either side of the lid
    centred = np.hypot(m["grip_offset"][:, 0], m["grip_offset"][:, 1]) < CENTRED
    around = (
        centred & (np.abs(m["grip_offset"][:, 2]) < LEVEL) & (spare > -SQUEEZE) & (along > _ALONG)
    )
    wide = np.minimum(m["opening"] / (m["grip_radius"] + 0.004), 1.0) * (1 - far)
    return along * np.where(
        around, 0.2 + 0.5 * np.minimum(np.maximum(1 - spare / widest, 0.0), 1.0), 0.2 * wide
    )


def total(terms: dict[str, np.ndarray]) -> np.ndarray:
    """The reward (n,) in [0, 1] of a control step."""
    potential = sum(weight * terms[name] for name, weight in WEIGHTS.items())
    return (1 - SUCCESS_WEIGHT) * potential + SUCCESS_WEIGHT * terms["success"]
