"""Disturbances of an episode, one factor at a time, at three strengths: one table of factors.

A level says what varies in a training, and bundles it. A disturbance asks what one factor alone
does to a policy. It is a row of FACTORS: the ranges of some quantities of `variation.QUANTITIES`
at each strength. Values are uniform in them and drawn anew for every episode, by a generator of
its own: starts and variants stay those of the undisturbed episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uncap.envs import checks
from uncap.envs.tables import brief, lookup
from uncap.envs.variation import PICTURED, QUANTITIES, Range

Ranges = Mapping[str, Range]  # by quantity
STRENGTHS = {
    1: "mild: the outer half of what the level in `basis` varies",
    2: "strong: beyond that level's border",
    3: "extreme: far beyond it",
}
EVERYTHING = "all"  # every factor at every strength
_ANY_WAY = (-np.pi, np.pi)  # rad


class Factor(NamedTuple):
    """Something that is disturbed.

    Attributes:
        words: one line: what is disturbed, in which direction, in which unit.
        basis: what the strengths rest on.
        strengths: ranges by quantity, at strengths 1, 2 and 3.
    """

    words: str
    basis: str
    strengths: tuple[Ranges, Ranges, Ranges]

    @property
    def pictured(self) -> bool:
        """Whether it acts on pictures only."""
        return all(name in PICTURED for name in self.strengths[0])

    def at(self, strength: int) -> Ranges:
        """Ranges at a strength; at 0, every quantity has its neutral value."""
        if strength:
            return self.strengths[strength - 1]
        neutral = {name: QUANTITIES[name].neutral for name in self.strengths[0]}
        return {name: (value, value) for name, value in neutral.items()}


def _one(quantity: str, *ranges: Range) -> tuple[Ranges, Ranges, Ranges]:
    """The strengths of a factor with one quantity."""
    first, second, third = ranges
    return {quantity: first}, {quantity: second}, {quantity: third}


def _views(turn: float, rise: float, zoom: float) -> Ranges:
    """Cameras that are turned and raised (degrees) by up to so much, and zoom out up to so far."""
    return {
        "camera_azimuth": (-turn, turn),
        "camera_elevation": (-rise, rise),
        "camera_fov": (1.0, zoom),
    }


def _colours(low: float) -> Ranges:
    """Colours and lights that keep at least a share `low` of their brightness."""
    return {name: (low, 1.0) for name in ("red", "green", "blue", "light")}


FACTORS = {
    "start": Factor(
        "hand and container start farther off: factor on every distance and angle of a start",
        "no level varies it: 1 up to a quarter farther than trained, 2 half, 3 twice as far",
        _one("spread", (1.1, 1.25), (1.25, 1.5), (1.5, 2.0)),
    ),
    "friction": Factor(
        "slippery: factor on every contact's friction, lower",
        "`randomised` goes down to 0.7",
        _one("friction", (0.7, 0.85), (0.4, 0.7), (0.15, 0.4)),
    ),
    "torque": Factor(
        "the lid is stiff: factor on its breakaway and thread friction, higher",
        "`randomised` goes up to 1.25",
        _one("breakaway", (1.12, 1.25), (1.25, 2.0), (2.0, 4.0)),
    ),
    "mass": Factor(
        "the lid is heavy: factor on its mass and inertia, higher",
        "`randomised` goes up to 1.4",
        _one("mass", (1.2, 1.4), (1.4, 2.5), (2.5, 6.0)),
    ),
    "noise": Factor(
        "sensor noise: standard deviation of the scaled state's numbers",
        "`randomised` goes up to 0.01",
        _one("noise", (0.005, 0.01), (0.01, 0.02), (0.02, 0.04)),
    ),
    "delay": Factor(
        "actions arrive late: 1, 2 or 3 control steps of 50 ms",
        "`randomised` delays by 0 or 1",
        _one("delay", (1.0, 1.0), (2.0, 2.0), (3.0, 3.0)),
    ),
    "push": Factor(
        "pushes: N, sideways on the hand, in one control step of twenty",
        "`randomised` goes up to 8, which moves the hand by 0.6 mm; 32 by 2.5 mm, 128 by 12 mm",
        _one("push", (4.0, 8.0), (16.0, 32.0), (64.0, 128.0)),
    ),
    "tilt": Factor(
        "the seat leans: rad between the lid's axis and the vertical, in any direction",
        "`tilted` goes up to 0.35",
        (
            {"tilt": (0.175, 0.35), "tilt_way": _ANY_WAY},
            {"tilt": (0.35, 0.5), "tilt_way": _ANY_WAY},
            {"tilt": (0.5, 0.7), "tilt_way": _ANY_WAY},
        ),
    ),
    "camera": Factor(
        "both cameras turn and rise (degrees, either way) and see a wider field",
        "no level varies it: 1 up to 4 degrees, 2 up to 10, 3 up to 20",
        (_views(4.0, 2.0, 1.05), _views(10.0, 5.0, 1.1), _views(20.0, 10.0, 1.2)),
    ),
    "colours": Factor(
        "light is dimmer, and the colours of all but the robot shift: factors on red, green, blue",
        "no level varies it: 1 down to 0.85, 2 down to 0.65, 3 down to 0.4",
        (_colours(0.85), _colours(0.65), _colours(0.4)),
    ),
}


def checked(disturb: Any) -> dict[str, int]:
    """Strengths by factor, in the order of FACTORS.

    Args:
        disturb: strengths 0 to 3 by factor; at 0, a factor has its neutral value. None: none.

    Raises:
        KeyError: unknown factor; close matches are named.
        ValueError: no mapping, or another strength.
    """
    if disturb is None:
        return {}
    if not isinstance(disturb, Mapping):
        raise ValueError(
            f"disturb must be strengths by factor, such as {{'friction': 2}}, not {brief(disturb)}"
        )
    for name, strength in disturb.items():
        lookup(FACTORS, name, "factor")
        checks.integer(f"the strength of {name}", strength, 0, len(STRENGTHS))
    return {name: int(disturb[name]) for name in FACTORS if name in disturb}


def refuse_unseen(disturb: Mapping[str, int], shown: str) -> None:
    """Refuse factors that act on pictures only, where none are shown.

    Args:
        disturb: strengths by factor.
        shown: what is shown instead, in words.

    Raises:
        ValueError: the first of them.
    """
    for name in disturb:
        if FACTORS[name].pictured:
            raise ValueError(f"{name} acts on pictures only, and {shown} has none")


def ranges(disturb: Mapping[str, int]) -> dict[str, Ranges]:
    """Ranges by quantity, by factor, of what `checked` gives."""
    return {name: FACTORS[name].at(strength) for name, strength in disturb.items()}


def labels(disturb: Mapping[str, int]) -> list[str]:
    """A disturbance in words, such as "friction=2", one per factor."""
    return [f"{name}={strength}" for name, strength in disturb.items()]


def conditions(word: str) -> list[tuple[str, int]]:
    """The (factor, strength) pairs that a word of the command line names.

    Args:
        word: `friction=2`; `friction` for its three strengths; or `all`.

    Raises:
        ValueError: unknown factor or strength.
    """
    if word == EVERYTHING:
        return [(name, strength) for name in FACTORS for strength in STRENGTHS]
    name, equals, strength = word.partition("=")
    if name not in FACTORS:
        lookup({**FACTORS, EVERYTHING: None}, name, "factor")
        raise ValueError(f"{EVERYTHING} takes no strength: it has every factor at every strength")
    if not equals:
        return [(name, each) for each in STRENGTHS]
    if strength not in map(str, STRENGTHS):
        allowed = ", ".join(map(str, STRENGTHS))
        raise ValueError(f"unknown strength {strength!r} of {name}: allowed: {allowed}")
    return [(name, int(strength))]


def chosen(words: Sequence[str]) -> list[tuple[str, int]]:
    """What `conditions` says of all words, each pair once, in their order."""
    return list(dict.fromkeys(pair for word in words for pair in conditions(word)))
