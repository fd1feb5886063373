"""Closures of composed mechanisms, and task sets of them, made when asked for.

A row is named by its mechanism and a number: `composed-right-ccw-up-0`, `-1`, ... are trained,
`composed-unseen-right-ccw-up-0`, ... are held out. A row depends on its name only. Trained rows are
described in other words than those that are held out, see `grammar.KINDS`.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

import numpy as np

from uncap.envs import closures, grammar, splits
from uncap.envs.mechanisms import LIFT, TILT_Y, TWIST, Stage, X
from uncap.envs.structure import Closure, Range

MOST = 1000  # rows of a mechanism
_ENTROPY = {"": 0xC03, "unseen-": 0xC04}  # of the two sequences of rows
_ROW = re.compile(r"composed-(unseen-)?([a-z]+(?:-[a-z]+){0,2})-(0|[1-9]\d{0,2})")

# Ways that are drawn (m, rad)
_WAYS: dict[int, Range] = {
    X: (0.018, 0.040),
    LIFT: (0.006, 0.018),
    TWIST: (0.6, 1.2),
    TILT_Y: (0.6, 0.9),
}
_THREADED_WAY: Range = (0.9, 1.6)  # rad
_PRESSED_WAY: Range = (0.003, 0.005)  # m
_LEAD: Range = (0.006, 0.013)  # m per turn
_WIDEST_TURNED_BAR = 2.0  # rad between the ends of its twists: a bar leaves two half turns to hold
# control steps of an episode: approach, and each stage
_STEPS_TO_GRASP = 55
_STEPS_OF_A_STAGE = 25
_TALLER = 0.014  # m, of a cap that slides while it is down
_COLORS = (
    (0.75, 0.42, 0.30), (0.30, 0.52, 0.62), (0.55, 0.62, 0.35), (0.62, 0.55, 0.72),
    (0.82, 0.70, 0.42), (0.45, 0.45, 0.50), (0.70, 0.72, 0.75), (0.40, 0.60, 0.52),
)  # fmt: skip

ROW_NAMES = (
    f"composed-MECHANISM-K and composed-unseen-MECHANISM-K, K from 0 to {MOST - 1}, MECHANISM "
    f"{grammar.MECHANISM_NAMES}"
)


def row_name(sequence: grammar.Sequence, number: int, unseen: bool = False) -> str:
    """The name of a row."""
    return f"composed-{'unseen-' * unseen}{'-'.join(sequence)}-{number}"


def why_not(name: str) -> str | None:
    """Which rule the mechanism in a row's name breaks; None where that is not what is wrong."""
    words = name.removeprefix("composed-").removeprefix("unseen-")
    mechanism, _, number = words.rpartition("-")
    return grammar.why_not(mechanism if number.isdigit() else words)


@functools.lru_cache(maxsize=4096)
def row(name: str) -> Closure | None:
    """The composed row of a name; None if there is none of that name."""
    match = _ROW.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    unseen, words, number = match.groups()
    sequence = tuple(words.split("-"))
    if not grammar.is_valid(sequence):
        return None
    entropy = [_ENTROPY[unseen or ""], int(number), *words.encode()]
    said = grammar.in_words(sequence, int(number), tested=bool(unseen))
    return draw_closure(np.random.default_rng(entropy), sequence, name, said)


def draw_closure(
    rng: np.random.Generator, sequence: grammar.Sequence, name: str, said: str = ""
) -> Closure:
    """A closure of a composed mechanism: geometry, ways, forces and colours.

    Args:
        rng: source of randomness.
        sequence: a valid one, see `grammar`.
        name: of the row.
        said: how it opens, in one line; by default the first wording.

    Raises:
        ValueError: the sequence is not valid.
    """
    mechanism = grammar.compose(sequence)
    stages = mechanism.stages
    pressed_way = rng.uniform(*_PRESSED_WAY)
    ways = tuple(_around(_way(rng, stage, pressed_way), 0.06) for stage in stages)
    shape = _Shape.draw(rng, stages, ways)
    hinged = stages[-1].joint == TILT_Y
    torque = rng.uniform(0.20, 0.35) if hinged else rng.uniform(0.2, 0.5)  # N m
    force = rng.uniform(10, 16) if mechanism.sprung else rng.uniform(3, 9)  # N
    mass = rng.uniform(0.01, 0.05)  # kg
    lead = rng.uniform(*_LEAD)
    body_color = _COLORS[rng.integers(len(_COLORS))]
    return Closure(
        name=name,
        description=said or mechanism.words,
        source="drawn: composed of stages",
        mechanism=mechanism.name,
        grip="bar" if shape.bar else "cap",
        look="jar" if shape.cap_radius else "tumbler",
        body=shape.body,
        neck=shape.neck,
        grip_radius=_around(shape.grip_radius, 0.04),
        grip_height=_around(shape.grip_height, 0.04),
        lead=_around(lead, 0.06) if mechanism.threaded else (0.0, 0.0),
        depth=_around(pressed_way, 0.06) if mechanism.sprung else (0.0, 0.0),
        torque=_around(torque, 0.15),
        force=_around(force, 0.15),
        mass=_around(mass, 0.15),
        cap_radius=shape.cap_radius,
        bar_half=shape.bar_half,
        steps=_STEPS_TO_GRASP + _STEPS_OF_A_STAGE * len(stages),
        color=body_color,
        accent=_COLORS[rng.integers(len(_COLORS))],
        ways=ways,
    )


class _Shape(NamedTuple):
    """The shape of a closure, in m: a bar or a knob on a disc, or a cap on a neck."""

    bar: bool
    grip_radius: float
    grip_height: float
    cap_radius: float
    bar_half: float
    body: tuple[float, float]
    neck: tuple[float, float]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, stages: tuple[Stage, ...], ways: tuple[Range, ...]
    ) -> _Shape:
        """Draw what the hand can hold through all stages.

        A hinge needs a bar. Another lid has one, too, where the wrist has room for its twists. A
        cap that slides while it is down is tall, so that the fingertips pass above the neck.
        """
        hinged = stages[-1].joint == TILT_Y
        bar = hinged or (_twisted_between(stages, ways) < _WIDEST_TURNED_BAR and rng.random() < 0.5)
        on_a_disc = bar or rng.random() < 0.4
        if bar:  # a bar of less slips out of fingers that press and slide
            radius = rng.uniform(0.010, 0.014)
            height = rng.uniform(0.022, 0.028) + 0.004 * hinged
        elif on_a_disc:
            radius, height = rng.uniform(0.0125, 0.018), rng.uniform(0.021, 0.028)
        else:
            radius, height = rng.uniform(0.0135, 0.032), rng.uniform(0.018, 0.030)
            slides_low = any(s.lowers for s in stages) and any(s.joint == X for s in stages)
            height += _TALLER * slides_low
        disc = rng.uniform(0.026, 0.042) if on_a_disc else 0.0
        widest = max(disc, radius)
        return cls(
            bar=bar,
            grip_radius=radius,
            grip_height=height,
            cap_radius=disc,
            bar_half=rng.uniform(0.018, 0.026),
            body=(widest + rng.uniform(0.004, 0.014), rng.uniform(0.06, 0.14)),
            neck=(widest - 0.001, rng.uniform(0.010, 0.018)),
        )


def _twisted_between(stages: tuple[Stage, ...], ways: tuple[Range, ...]) -> float:
    """From the lowest to the highest twist on the way (rad)."""
    at, seen = 0.0, [0.0]
    for stage, way in zip(stages, ways, strict=True):
        if stage.joint == TWIST:
            at += stage.sign * way[1]
            seen.append(at)
    return max(seen) - min(seen)


def _way(rng: np.random.Generator, stage: Stage, pressed_way: float) -> float:
    """How far a stage goes (m, rad)."""
    if stage.joint == LIFT and stage.sign < 0:
        return pressed_way
    return rng.uniform(*(_THREADED_WAY if stage.threaded else _WAYS[stage.joint]))


def _around(middle: float, share: float) -> Range:
    """A range about a middle."""
    return (middle * (1 - share), middle * (1 + share))


CLOSURES_TRAINED = 256  # of a set, whatever the number of mechanisms
LEAST, MOST_MECHANISMS = 8, splits.MOST_TRAINED  # mechanisms of a set
_TESTED_SEEN = 32  # unseen closures of mechanisms that were trained
_TESTED_NEW = 2  # closures of each mechanism that was held out
_SET = re.compile(r"composed-([1-9]\d{0,2})(-b)?(-final)?")

SET_NAMES = (
    f"composed-K, composed-K-b, composed-K-final and composed-K-b-final, K mechanisms from {LEAST} "
    f"to {MOST_MECHANISMS}"
)


@functools.lru_cache(maxsize=64)
def task_set(name: str) -> closures.TaskSet | None:
    """The composed task set of a name; None if there is none of that name.

    `-b` is another split of the mechanisms; `-final` is tested on the held-out mechanisms that
    are not looked at until the end. See `splits`.
    """
    match = _SET.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    number, other, final = match.groups()
    k = int(number)
    if not LEAST <= k <= MOST_MECHANISMS:
        return None
    split = splits.split("b" if other else "a")
    seen = split.trained[:k]
    tested = {
        "seen": tuple(
            row_name(seen[i % k], i // k, unseen=True) for i in range(min(_TESTED_SEEN, 4 * k))
        )
    }
    for novelty, sequences in split.held_out["final" if final else "dev"].items():
        tested[novelty] = tuple(
            row_name(s, i, unseen=True) for s in sequences for i in range(_TESTED_NEW)
        )
    return closures.TaskSet(
        name,
        train=tuple(row_name(seen[i % k], i // k) for i in range(CLOSURES_TRAINED)),
        held_out=tuple(row for rows in tested.values() for row in rows),
        probes=f"mechanisms never seen: {k} composed mechanisms trained, 24 held out",
        transfers=(),
        held_out_kinds=tested,
    )
