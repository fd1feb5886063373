"""Reward terms and success: pure functions of measurements, every term in [0, 1].

reward = 0.1 x potential + 0.9 x success, per control step, where the potential is
the weighted mean of the other terms. A new term is one function and one row of TERMS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from uncap.envs.checks import brief
from uncap.envs.panda import FINGER_OPEN
from uncap.envs.structure import check_name

Measured = dict[str, np.ndarray]

SEPARATED = 0.05  # m between a free lid and its seat
HOLD_STEPS = 5  # control steps for which success must last
HELD_SHARE = 0.8  # share of the opening that must happen under the hand's contact
LEVEL = 0.008  # m off the grip's height within which fingers are around a lid
CENTRED = 0.012  # m off the grip's axis within which fingers are around a lid
# rad off a bar's direction within which fingers are around it: closed askew, they clamp its ends
ALIGNED = 0.15
# rad off a bar's direction from which on fingers clamp its ends, and do not hold it; the experts
# stay below
CLAMPED = 0.5
_ALONG = np.cos(ALIGNED) ** 2
_HELD_ALONG = np.cos(CLAMPED) ** 2
# Share of what opening pays without a hold, until the lid comes off: turned by one finger, it is
# then lost
UNHELD = 0.5
SQUEEZE = 0.004  # m that pads give way around a lid
WIDE_OPEN = 0.004  # m between finger and lid from which on fingers are wide enough
# Of the pay for a grasp before it holds: 0.2 for fingers wide enough above the lid or around it,
# and up to 0.5 for closing
SHAPED = 0.2
CLOSED = 0.5
SUCCESS_WEIGHT = 0.9
VERSION = 17  # of this file's formulas; stored with every run


class Situation(NamedTuple):
    """What reward terms are computed from.

    Attributes:
        measured: see `ClosureBatch.measure`.
        held_progress: (n,) progress made under the hand's contact.
        distance: (n,) from the hand to where it holds the lid (m).
        far: (n,) in [0, 1): 0 there, near 1 from 20 cm on.
        along: (n,) in [0, 1]: how well the fingers lie along a bar; 1 where there is none.
    """

    measured: Measured
    held_progress: np.ndarray
    distance: np.ndarray
    far: np.ndarray
    along: np.ndarray

    @classmethod
    def of(cls, measured: Measured, held_progress: np.ndarray) -> Situation:
        """What follows from the measurements, computed once for all terms."""
        to_grip = measured["grip_offset"]  # (n, 3) m
        distance = np.sqrt(np.einsum("ij,ij->i", to_grip, to_grip))
        along = np.where(measured["bar"], np.cos(measured["bar_yaw_offset"]) ** 2, 1.0)
        return cls(measured, held_progress, distance, np.tanh(10 * distance), along)


class Term(NamedTuple):
    """One reward term: a row of TERMS.

    Attributes:
        function: of a Situation; (n,) in [0, 1].
        weight: in the potential, relative to the sum of all weights.
        words: what it pays, in one line.
    """

    function: Callable[[Situation], np.ndarray]
    weight: float
    words: str


def is_open(measured: Measured, held_progress: np.ndarray) -> np.ndarray:
    """Whether each closure is open now.

    Opened under the contact that its mechanism asks for; a lid that separates is in
    the fingers, 5 cm from its seat; a lid that stays has gone all its way.

    Args:
        measured: see `ClosureBatch.measure`.
        held_progress: (n,) progress made under the hand's contact.

    Returns:
        bool (n,).
    """
    apart = measured["released"] & (measured["separation"] >= SEPARATED) & measured["holds"]
    by_hand = held_progress >= HELD_SHARE
    return (measured["progress"] >= 1.0) & by_hand & (apart | ~measured["separates"])


def reward_terms(
    measured: Measured,
    held_progress: np.ndarray,
    success: np.ndarray,
) -> dict[str, np.ndarray]:
    """Named terms, those of TERMS and `success`; a term that a mechanism does not pay is 0.

    Args:
        measured: see `ClosureBatch.measure`; its `pays` says who pays which term.
        held_progress: (n,) progress made under the hand's contact.
        success: bool (n,), success is held now.

    Returns:
        (n,) each in [0, 1].
    """
    situation = Situation.of(measured, held_progress)
    pays = measured["pays"]  # (n,), a bool for each term
    terms = {
        name: np.where(pays[name], term.function(situation), 0.0) for name, term in TERMS.items()
    }
    return {**terms, "success": success.astype(float)}


def total(terms: dict[str, np.ndarray]) -> np.ndarray:
    """The reward of a control step.

    Args:
        terms: (n,) each in [0, 1], see `reward_terms`.

    Returns:
        (n,) in [0, 1].
    """
    weights = sum(term.weight for term in TERMS.values())
    potential = sum(term.weight / weights * terms[name] for name, term in TERMS.items())
    return (1 - SUCCESS_WEIGHT) * potential + SUCCESS_WEIGHT * terms["success"]


def sparse(terms: dict[str, np.ndarray]) -> np.ndarray:
    """1 in control steps of success, else 0.

    Args:
        terms: (n,) each, see `reward_terms`.
    """
    return terms["success"]


class Reward(NamedTuple):
    """What a control step is paid: a function of the info, and one line on it.

    Attributes:
        of: (info) -> (n,). Info holds arrays (n,) by name, see `ClosureVectorEnv`.
        words: one line.
    """

    of: Callable[[dict[str, np.ndarray]], np.ndarray]
    words: str


REWARDS = {
    "dense": Reward(total, "a tenth of the terms' weighted mean, the rest for success"),
    "sparse": Reward(sparse, "success alone"),
}


def register_reward(
    name: str, of: Callable[[dict[str, np.ndarray]], np.ndarray], words: str = "of one's own"
) -> None:
    """Add a reward of one's own; the same one may be added again.

    Args:
        name: for `reward=` of environments, and `--reward`.
        of: (info) -> (n,), see `Reward`.
        words: one line for the help.

    Raises:
        ValueError: a name that cannot be one, or is another reward's; no function.
    """
    check_name("reward", name)
    if not callable(of):
        raise ValueError(f"reward {name}: a function of the info is needed, not {brief(of)}")
    known = REWARDS.get(name)
    if known is not None and known.of is not of and not _is_again(known.of, of):
        raise ValueError(f"{name!r} is already registered, as another reward")
    REWARDS[name] = Reward(of, words)


def _is_again(known: Any, new: Any) -> bool:
    """Whether a function is another one made by the same code, as in a cell of a notebook."""
    codes = [getattr(function, "__code__", None) for function in (known, new)]
    return codes[0] is not None and codes[0] == codes[1]


def paid(reward: Reward, info: dict[str, np.ndarray], num_envs: int) -> np.ndarray:
    """The reward (n,) of a control step.

    Raises:
        ValueError: a function of a user gave another shape, or what is no finite number.
    """
    try:
        values = np.asarray(reward.of(info), float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the reward gave no numbers: {brief(error)}") from None
    if values.shape != (num_envs,) or not np.isfinite(values).all():
        raise ValueError(
            f"the reward must be finite and of shape ({num_envs},), not {brief(values)}"
        )
    return values


def reach(s: Situation) -> np.ndarray:
    """How near the hand is: half of the pay from afar, half for the last centimetre."""
    return 1 - 0.5 * (s.far + np.tanh(60 * s.distance))


def grasp(s: Situation) -> np.ndarray:
    """The contact that the mechanism asks for, or how far a grasp has come."""
    measured = s.measured
    firmly_held = measured["holds"] & (s.along > _HELD_ALONG)
    held = np.where(measured["hold_rule"], firmly_held, measured["contact"])
    return np.where(held, 1.0, _preshape(s) * measured["hold_rule"])


def _preshape(s: Situation) -> np.ndarray:
    """How far fingers that must hold a lid have come: wide above it, around it, closing.

    Closing pays over all of its way, however narrow the lid: where the first of it pays
    nothing, it is not learned. Around a bar, fingers also lie along it.

    Returns:
        (n,) in [0, 0.7].
    """
    measured = s.measured
    to_grip = measured["grip_offset"]  # (n, 3) m
    spare = measured["opening"] - measured["grip_radius"]  # (n,) m, on either side of the lid
    widest = FINGER_OPEN - measured["grip_radius"]  # (n,) m
    centred = np.hypot(to_grip[:, 0], to_grip[:, 1]) < CENTRED
    level = np.abs(to_grip[:, 2]) < LEVEL
    around = centred & level & (spare > -SQUEEZE) & (s.along > _ALONG)
    closed = np.minimum(np.maximum(1 - spare / widest, 0.0), 1.0)
    wide = np.minimum(measured["opening"] / (measured["grip_radius"] + WIDE_OPEN), 1.0)
    wide_and_near = wide * (1 - s.far)
    return s.along * np.where(around, SHAPED + CLOSED * closed, SHAPED * wide_and_near)


def opening(s: Situation) -> np.ndarray:
    """Progress that the hand made; less without a hold on a lid that comes off."""
    measured = s.measured
    in_contact = measured["contact"] & ~measured["released"]
    unheld = UNHELD * s.along * in_contact
    by_hand = np.minimum(measured["progress"], s.held_progress)
    return by_hand * np.where(measured["holds"] | ~measured["separates"], 1.0, unheld)


def separate(s: Situation) -> np.ndarray:
    """How far a free lid in the fingers is from its seat; whether a lid that stays is open."""
    measured = s.measured
    in_hand = measured["released"] & measured["holds"]
    away = np.minimum(measured["separation"] / SEPARATED, 1) * in_hand
    opened = is_open(measured, s.held_progress)
    return np.where(measured["separates"], away * s.held_progress, opened)


TERMS = {
    "reach": Term(reach, 0.2, "the hand is where it holds the lid"),
    "grasp": Term(grasp, 0.2, "the hand has the contact that the mechanism asks for"),
    "open": Term(opening, 0.4, "the lid is open, and the hand opened it"),
    "separate": Term(separate, 0.2, "the lid is away from its seat, or open if it stays"),
}
