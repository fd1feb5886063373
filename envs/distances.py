"""How far a row is from a set of rows: the nearest of them, and what none of them asks for.

`edits` compares the orders of stages alone.

`nearest` looks both ways: a row that asks for less than what was trained is as far as one that
asks for more. `unseen` looks one way: it names what a row asks for that no source does.
All functions are pure, and need NumPy only.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from uncap.envs import grammar
from uncap.envs.axes import AXES
from uncap.envs.mechanisms import LIFT, MECHANISMS, TILT_Y, TWIST, X, Y
from uncap.envs.structure import Closure, distance

SAME = 0.1  # structural distance: a tenth of a difference that asks for another strategy
WRIST_RANGE = 5.6  # rad, from stop to stop: what turns further has to be gripped anew


@dataclasses.dataclass(frozen=True)
class Demand:
    """One thing that a row may ask of the hand: a row of DEMANDS.

    Attributes:
        name: of the row.
        words: what is said where no source asks for it; it follows "no source".
        asked: whether a closure asks for it.
    """

    name: str
    words: str
    asked: Callable[[Closure], bool]


def _moves(row: Closure, joint: int) -> bool:
    """Whether a joint of the lid moves on its way to open."""
    mechanism = MECHANISMS[row.mechanism]
    climbs = joint == LIFT and mechanism.threaded
    drifts = mechanism.marked and joint in mechanism.free
    return joint in mechanism.travels or climbs or drifts


def _lifts(row: Closure) -> bool:
    mechanism = MECHANISMS[row.mechanism]
    return mechanism.moves(LIFT, 1) or mechanism.threaded


def _is_pressed(row: Closure) -> bool:
    return MECHANISMS[row.mechanism].sprung


def _is_lowered(row: Closure) -> bool:
    mechanism = MECHANISMS[row.mechanism]
    return any(s.lowers and not s.springs for s in mechanism.stages)


def _turns(row: Closure) -> bool:
    return MECHANISMS[row.mechanism].turns


def _twists(row: Closure, sense: int) -> bool:
    """Whether a stage is twisted one way, seen from above: +1 anticlockwise."""
    stages = MECHANISMS[row.mechanism].stages
    return any(s.joint == TWIST and s.sign * row.direction == sense for s in stages)


def _most_twisted(row: Closure) -> float:
    """The longest way of a stage that twists (rad)."""
    stages = MECHANISMS[row.mechanism].stages
    pairs = zip(stages, row.stage_ways, strict=True)
    return max((way[1] for stage, way in pairs if stage.joint == TWIST), default=0.0)


def _keeps(row: Closure, kept: int, joint: int) -> bool:
    """Whether a joint is moved while another one is kept in its place."""
    stages = MECHANISMS[row.mechanism].stages
    return any((s.keeps, s.joint) == (kept, joint) for s in stages)


def _follows(row: Closure, before: int, joint: int) -> bool:
    """Whether a joint is moved in the stage after another one's."""
    stages = MECHANISMS[row.mechanism].stages
    pairs = zip(stages, stages[1:], strict=False)
    return any((a.joint, b.joint) == (before, joint) and b.sign > 0 for a, b in pairs)


_ROWS = (
    Demand("slide", "slides along a rail", lambda row: _moves(row, X)),
    Demand("roam", "is moved in two directions over a plane", lambda row: _moves(row, Y)),
    Demand("lift", "is lifted", _lifts),
    Demand("press", "is pressed down against a spring", _is_pressed),
    Demand("lower", "is pressed down until it latches", _is_lowered),
    Demand("turn", "is turned", _turns),
    Demand("swing", "swings about a hinge at its rim", lambda row: _moves(row, TILT_Y)),
    Demand("anticlockwise", "opens anticlockwise", lambda row: _twists(row, 1)),
    Demand("clockwise", "opens clockwise", lambda row: _twists(row, -1)),
    Demand(
        "grip_anew",
        "is turned further than the wrist goes",
        lambda row: _most_twisted(row) > WRIST_RANGE,
    ),
    Demand("thread", "climbs a thread", lambda row: MECHANISMS[row.mechanism].threaded),
    Demand(
        "press_and_turn",
        "is kept down while it turns",
        lambda row: _keeps(row, LIFT, TWIST),
    ),
    Demand("press_and_slide", "is kept down while it slides", lambda row: _keeps(row, LIFT, X)),
    Demand(
        "turn_then_lift",
        "is lifted only after it was turned",
        lambda row: _follows(row, TWIST, LIFT),
    ),
    Demand("remove", "comes off", lambda row: row.separates),
    Demand("mark", "has a mark to go to", lambda row: MECHANISMS[row.mechanism].marked),
    Demand("round", "is held by a round part", lambda row: _is_held(row) and row.grip == "cap"),
    Demand("bar", "is held by a bar", lambda row: _is_held(row) and row.grip == "bar"),
    Demand("off_axis", "is held beside its axis", lambda row: row.offset != 0),
)
DEMANDS = {row.name: row for row in _ROWS}


def _is_held(row: Closure) -> bool:
    """Whether the fingers go to both sides of the part."""
    return MECHANISMS[row.mechanism].hand_at == "beside"


def demands(row: Closure) -> frozenset[str]:
    """What a row asks for, names of rows of DEMANDS."""
    return frozenset(name for name, demand in DEMANDS.items() if demand.asked(row))


def unseen(row: Closure, sources: Sequence[Closure]) -> tuple[str, ...]:
    """What a row asks for that no source does: a directed distance is how many these are.

    Args:
        row: the target.
        sources: rows that were trained.

    Returns:
        Names of rows of DEMANDS, in the order of the table; of a composed row, then, neighbouring
        pairs of kinds of stages that no source has, as `cw-right`.
    """
    seen = frozenset[str]().union(*map(demands, sources))
    asked = demands(row)
    found = tuple(name for name in DEMANDS if name in asked and name not in seen)
    return found + (_new_pairs(row, sources) if MECHANISMS[row.mechanism].latches else ())


def _new_pairs(row: Closure, sources: Sequence[Closure]) -> tuple[str, ...]:
    """Neighbouring pairs of a row's stages that no source has."""
    seen = {pair for source in sources for pair in _pairs(source)}
    return tuple(pair for pair in _pairs(row) if pair not in seen)


def _pairs(row: Closure) -> list[str]:
    """Neighbouring pairs of a row's kinds of stages."""
    sequence = grammar.sequence_of_row(row) or ()
    return ["-".join(pair) for pair in itertools.pairwise(sequence)]


def edits(a: Closure, b: Closure) -> int | None:
    """How many stages must be added, dropped or replaced to get from one row's to the other's.

    That is the edit distance of their sequences of kinds (Levenshtein, 1966).

    Returns:
        The number; None if the grammar does not have the stages of one of them.
    """
    one, other = grammar.sequence_of_row(a), grammar.sequence_of_row(b)
    if one is None or other is None:
        return None
    before = list(range(len(other) + 1))
    for i, kind in enumerate(one):
        now = [i + 1]
        for j, its in enumerate(other):
            now.append(min(before[j + 1] + 1, now[j] + 1, before[j] + (kind != its)))
        before = now
    return before[-1]


def fewest_edits(row: Closure, sources: Sequence[Closure]) -> int | None:
    """The least of `edits` to a set of rows; None if there is none."""
    by_mechanism = {(source.mechanism, source.direction): source for source in sources}
    found = [edits(row, source) for source in by_mechanism.values()]
    return min((number for number in found if number is not None), default=None)


def in_words(names: Sequence[str]) -> str:
    """Demands that no source has, in one line; empty for none.

    Names of other versions stand for themselves.
    """
    return "; ".join(map(_in_words, names))


def _in_words(name: str) -> str:
    if name in DEMANDS:
        return f"no source {DEMANDS[name].words}"
    kinds = name.split("-")
    if len(kinds) > 1 and all(kind in grammar.KINDS for kind in kinds):
        return f"no source goes {', then '.join(kinds)}"
    return name


def nearest(row: Closure, sources: Sequence[Closure]) -> tuple[Closure, float]:
    """The source that is structurally nearest to a row, and its distance; the first of equals.

    Args:
        row: the target.
        sources: at least one row.

    Raises:
        ValueError: no sources.
    """
    if not sources:
        raise ValueError("the distance to a set needs at least one row in it")
    distances = [distance(row, source) for source in sources]
    least = min(distances)
    return sources[distances.index(least)], least


def others(row: Closure, sources: Sequence[Closure]) -> list[Closure]:
    """The sources that open otherwise than a row: those of other mechanisms.

    Where there are none, those that are structurally the farthest from it.

    Args:
        row: the target.
        sources: at least one row.
    """
    if found := [source for source in sources if source.mechanism != row.mechanism]:
        return found
    distances = [distance(row, source) for source in sources]
    pairs = zip(sources, distances, strict=True)
    return [source for source, far in pairs if far == max(distances)]


def is_same(a: Closure, b: Closure) -> bool:
    """Whether two rows are one and the same to a learner that chooses how it learns.

    They look alike until they are touched, or are nearer than SAME, or would be if one of them
    were seen in a mirror: that changes signs alone.
    """
    squares = sum(
        ((np.abs(numbers_of(a)) - np.abs(numbers_of(b))) ** 2).sum() for numbers_of in AXES.values()
    )
    return a.group_name == b.group_name or float(np.sqrt(squares)) < SAME
