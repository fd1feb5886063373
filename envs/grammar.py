"""The grammar of mechanisms: kinds of stages, and which sequences of them make sense.

A composed mechanism is named by its kinds, such as `right-ccw-up`: slide the lid to the right,
turn it anticlockwise, lift it off. RULES say what is a valid sequence, and why.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from uncap.envs.mechanisms import (
    LIFT,
    MECHANISMS,
    MOST_STAGES,
    TILT_Y,
    TWIST,
    Mechanism,
    Stage,
    X,
)

if TYPE_CHECKING:
    from uncap.envs.structure import Closure


class Kind(NamedTuple):
    """A kind of stage, and how it is said: in wordings that are trained, and others for tests."""

    stage: Stage
    wordings: tuple[str, ...]
    tested: tuple[str, ...]


KINDS = {
    "right": Kind(
        Stage(X, 1),
        ("slide it to the right", "push it to the right", "move it rightwards"),
        ("shove it across to the right-hand side",),
    ),
    "left": Kind(
        Stage(X, -1),
        ("slide it to the left", "push it to the left", "move it leftwards"),
        ("shove it across to the left-hand side",),
    ),
    "up": Kind(
        Stage(LIFT, 1),
        ("lift it", "pull it up", "raise it"),
        ("draw it straight upwards",),
    ),
    "down": Kind(
        Stage(LIFT, -1),
        ("press it down until it latches", "push it down until it clicks", "lower it"),
        ("force it downwards until it snaps in",),
    ),
    "ccw": Kind(
        Stage(TWIST, 1),
        ("turn it anticlockwise", "rotate it to the left", "twist it against the clock"),
        ("spin it counter-clockwise",),
    ),
    "cw": Kind(
        Stage(TWIST, -1),
        ("turn it clockwise", "rotate it to the right", "twist it with the clock"),
        ("spin it the way a clock's hands go",),
    ),
    "swing": Kind(
        Stage(TILT_Y, -1),
        ("swing it up about its hinge", "flip it open", "tilt it up on its hinge"),
        ("fold it back around the hinge",),
    ),
    "screwccw": Kind(
        Stage(TWIST, 1, threaded=True),
        ("screw it up anticlockwise", "unscrew it to the left", "unscrew it against the clock"),
        ("wind it up its thread counter-clockwise",),
    ),
    "screwcw": Kind(
        Stage(TWIST, -1, threaded=True),
        ("screw it up clockwise", "unscrew it to the right", "unscrew it with the clock"),
        ("wind it up its thread the way a clock's hands go",),
    ),
    "pressccw": Kind(
        Stage(TWIST, 1, keeps=LIFT),
        (
            "press it down and turn it anticlockwise",
            "push it down and rotate it to the left",
            "hold it down and twist it against the clock",
        ),
        ("squeeze it downwards while spinning it counter-clockwise",),
    ),
    "presscw": Kind(
        Stage(TWIST, -1, keeps=LIFT),
        (
            "press it down and turn it clockwise",
            "push it down and rotate it to the right",
            "hold it down and twist it with the clock",
        ),
        ("squeeze it downwards while spinning it the way a clock's hands go",),
    ),
    "pressright": Kind(
        Stage(X, 1, keeps=LIFT),
        (
            "press it down and slide it to the right",
            "push it down and move it to the right",
            "hold it down and push it rightwards",
        ),
        ("squeeze it downwards while shoving it to the right-hand side",),
    ),
    "pressleft": Kind(
        Stage(X, -1, keeps=LIFT),
        (
            "press it down and slide it to the left",
            "push it down and move it to the left",
            "hold it down and push it leftwards",
        ),
        ("squeeze it downwards while shoving it to the left-hand side",),
    ),
}
WORDINGS = 3  # that are trained, of each kind

Sequence = tuple[str, ...]  # names of kinds


class Rule(NamedTuple):
    """What a sequence must not do, and whether it does."""

    words: str
    broken: Callable[[list[Stage]], bool]


def _pairs(stages: list[Stage]) -> list[tuple[Stage, Stage]]:
    return list(itertools.pairwise(stages))


def _before(
    stages: list[Stage], of: Callable[[Stage], bool], later: Callable[[Stage], bool]
) -> bool:
    """Whether a stage of one sort stands somewhere before one of another sort."""
    return any(of(a) and later(b) for a, b in itertools.combinations(stages, 2))


RULES = (
    Rule(
        "the same way twice is one stage",
        lambda stages: any((a.joint, a.sign) == (b.joint, b.sign) for a, b in _pairs(stages)),
    ),
    Rule(
        "a thread or a spring is not followed, and not led, by another way of the same joint",
        lambda stages: any(
            a.joint == b.joint and (a.threaded or b.threaded or a.pressed or b.pressed)
            for a, b in _pairs(stages)
        ),
    ),
    Rule(
        "nothing is lowered once it was raised: it would fall back into its seat",
        lambda stages: _before(stages, lambda s: s.raises, lambda s: s.lowers),
    ),
    Rule(
        "a lid is pressed down once: there is one spring, or one latch",
        lambda stages: sum(stage.lowers for stage in stages) > 1,
    ),
    Rule(
        "there is one thread",
        lambda stages: sum(stage.threaded for stage in stages) > 1,
    ),
    Rule(
        "a lid is lifted once",
        lambda stages: sum(s.joint == LIFT and s.sign > 0 for s in stages) > 1,
    ),
    Rule(
        "a hinge comes last: an open lid has no other way",
        lambda stages: any(stage.joint == TILT_Y for stage in stages[:-1]),
    ),
    Rule(
        "a hinge does not swing a lid that was raised out of it",
        lambda stages: _before(stages, lambda s: s.raises, lambda s: s.joint == TILT_Y),
    ),
)


def refuse_invalid(sequence: Sequence) -> None:
    """Refuse what is no sequence of the grammar.

    Raises:
        ValueError: a stage that does not exist, or the rule that the sequence breaks.
    """
    name = "-".join(sequence)
    for kind in sequence:
        if kind not in KINDS:
            raise ValueError(f"{name!r}: no stage {kind!r}: allowed: {', '.join(KINDS)}")
    if not 1 <= len(sequence) <= MOST_STAGES:
        raise ValueError(f"{name!r}: a mechanism has 1 to {MOST_STAGES} stages")
    stages = [KINDS[kind].stage for kind in sequence]
    for rule in RULES:
        if rule.broken(stages):
            raise ValueError(f"{name!r} is not valid: {rule.words}")


@functools.cache
def sequences(length: int) -> tuple[Sequence, ...]:
    """All valid sequences of so many stages, in a fixed order."""
    return tuple(s for s in itertools.product(KINDS, repeat=length) if is_valid(s))


def is_valid(sequence: Sequence) -> bool:
    """Whether it is a sequence of the grammar."""
    try:
        refuse_invalid(sequence)
    except ValueError:
        return False
    return True


def compose(sequence: Sequence) -> Mechanism:
    """The mechanism of a sequence.

    Raises:
        ValueError: see `refuse_invalid`.
    """
    refuse_invalid(sequence)
    stages = tuple(KINDS[kind].stage for kind in sequence)
    last = stages[-1]
    return Mechanism(
        name="-".join(sequence),
        words=in_words(sequence),
        stages=stages,
        separates=last.raises or (last.pressed and last.joint == TWIST),
        contact="touch" if last.joint == TILT_Y else "hold",
        latches=True,
    )


def in_words(sequence: Sequence, wording: int = 0, tested: bool = False) -> str:
    """The stages as one plain line.

    Args:
        sequence: kinds of stages.
        wording: which one; of more than there are, they are counted through again.
        tested: one that is kept for tests, instead of one that is trained.
    """
    return ", then ".join(clause(kind, wording, tested) for kind in sequence)


def clause(kind: str, wording: int = 0, tested: bool = False) -> str:
    """One stage in words, see `in_words`."""
    wordings = KINDS[kind].tested if tested else KINDS[kind].wordings
    return wordings[wording % len(wordings)]


@functools.lru_cache(maxsize=2048)
def mechanism(name: str) -> Mechanism | None:
    """The composed mechanism of a name; None if there is none of that name."""
    sequence = tuple(name.split("-"))
    return compose(sequence) if is_valid(sequence) else None


def why_not(name: str) -> str | None:
    """Which rule a name of kinds breaks; None of a name that none of them is in."""
    sequence = tuple(name.split("-"))
    if not set(sequence) & set(KINDS):
        return None
    try:
        refuse_invalid(sequence)
    except ValueError as error:
        return str(error)
    return None


def sequence_of(mechanism: Mechanism, direction: float = 1.0) -> Sequence | None:
    """The kinds of a mechanism's stages; None where the grammar has no such stage.

    Those of a named mechanism are the ones that ask the same of the hand: of a bayonet, `ccw`
    and `up`; of `press`, which has to be kept down, `down`, which latches.

    Args:
        mechanism: a row of MECHANISMS.
        direction: of the closure; -1 turns its twists round.
    """
    by_stage = {kind.stage: name for name, kind in KINDS.items()}
    found = []
    for stage in mechanism.stages:
        sign = -stage.sign if stage.joint == TWIST and direction < 0 else stage.sign
        own = Stage(stage.joint, sign, LIFT if stage.pressed else None, stage.threaded)
        if own not in by_stage:
            return None
        found.append(by_stage[own])
    return tuple(found) or None


def sequence_of_row(row: Closure) -> Sequence | None:
    """The same of a closure."""
    return sequence_of(MECHANISMS[row.mechanism], row.direction)


MECHANISM_NAMES = f"1 to {MOST_STAGES} of {', '.join(KINDS)}, joined by hyphens, as right-ccw-up"
