"""What a closure is, as numbers: rows, variants, and the structural distance of two rows."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from uncap.envs.axes import AXES
from uncap.envs.checks import MOST_STEPS, integer
from uncap.envs.looks import GRIPS, LOOKS
from uncap.envs.mechanisms import MECHANISMS, TILT_Y, TWIST, Mechanism, X
from uncap.envs.tables import brief, lookup
from uncap.envs.telling import vector

Range = tuple[float, float]  # low, high
Color = tuple[float, float, float]  # red, green, blue in [0, 1]


def _plain(value: Any) -> Any:
    """Tuples for lists, Python's numbers for NumPy's: rows are keys, and are written as JSON."""
    if isinstance(value, tuple | list):
        return tuple(_plain(part) for part in value)
    return value.item() if isinstance(value, np.generic) else value


@dataclasses.dataclass(frozen=True)
class Variant:
    """One draw from a row's ranges, in SI units.

    Attributes:
        closure: the row it was drawn from.
        grip_radius: half the width between the fingers when they hold it (m).
        grip_height: height of the part that is held (m).
        angle: rotation from closed to open (rad, >= 0; 0 where nothing rotates).
        depth: travel from closed to open of a lid that moves straight (m).
        torque: breakaway torque (N m).
        force: breakaway force, or that of the spring at full depth (N).
        mass: mass of the lid (kg).
        lead: axial travel of a thread per turn (m), where the row has `ways`.
        ways: of the stages (m, rad), where the row has them.
    """

    closure: Closure
    grip_radius: float
    grip_height: float
    angle: float
    depth: float
    torque: float
    force: float
    mass: float
    lead: float = 0.0
    ways: tuple[float, ...] = ()

    @property
    def stage_ways(self) -> list[float]:
        """How far each stage goes (m, rad, above 0)."""
        if self.ways:
            return list(self.ways)
        stages = MECHANISMS[self.closure.mechanism].stages
        return [self.angle if stage.joint >= TWIST else self.depth for stage in stages]


@dataclasses.dataclass(frozen=True)
class Closure:
    """One container with its lid: a row of the table.

    Ranges are (low, high); variants are drawn uniformly from them. `Variant` says what
    they measure.

    Attributes:
        name: of the row; `pill-box` becomes `Uncap/PillBox-v0` in Gymnasium.
        description: one line, in plain language.
        source: what the numbers rest on.
        mechanism: a row of `mechanisms.MECHANISMS`.
        grip: a row of `looks.GRIPS`: a `cap` is round, a `bar` has two flat sides that
            the fingers must face.
        look: a row of `looks.LOOKS`.
        body: (radius, height) of the container (m).
        neck: (radius, height) of its neck, between body and lid (m).
        grip_radius: half the width between the fingers when they hold the lid (m).
        grip_height: height of the part that is held (m).
        angle: rotation from closed to open (rad).
        lead: signed axial travel per turn of a thread (m). A negative lead is a
            left-handed thread, which opens clockwise from above.
        depth: travel from closed to open of a lid that moves straight (m); of a lid that must
            be kept down, how far down it can be pressed.
        torque: breakaway torque (N m).
        force: breakaway force, or that of the spring at full depth (N).
        mass: of the lid (kg).
        cap_radius: of the disc under a knob or bar (m); 0: the cap itself is held.
        bar_half: half the length of a bar (m).
        offset: of the held part from the lid's axis, along x (m).
        clockwise: whether a lid without thread opens clockwise from above.
        steps: control steps of an episode.
        control: whether the row is a control: no closure, it shares only the robot and
            the scene with the others.
        color: of the container.
        accent: color of the lid.
        group: name of the row that it cannot be told from until it is touched, see LOOK_ALIKE.
        ways: how far each stage of the mechanism goes (m, rad); by default `angle` or `depth`.
    """

    name: str
    description: str
    source: str
    mechanism: str
    grip: str
    look: str
    body: tuple[float, float]
    neck: tuple[float, float]
    grip_radius: Range
    grip_height: Range
    angle: Range = (0.0, 0.0)
    lead: Range = (0.0, 0.0)
    depth: Range = (0.0, 0.0)
    torque: Range = (0.0, 0.0)
    force: Range = (0.0, 0.0)
    mass: Range = (0.01, 0.02)
    cap_radius: float = 0.0
    bar_half: float = 0.030
    offset: float = 0.0
    clockwise: bool = False
    steps: int = 80
    control: bool = False
    color: Color = (0.7, 0.7, 0.7)
    accent: Color = (0.2, 0.4, 0.8)
    group: str = ""
    ways: tuple[Range, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a row that cannot be built or held, see RULES.

        Raises:
            ValueError: what is wrong and what is allowed.
        """
        for rule in RULES:
            rule(self)
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))

    @property
    def separates(self) -> bool:
        """Whether the lid comes off."""
        return MECHANISMS[self.mechanism].separates

    @property
    def direction(self) -> float:
        """Sense of the rotation that opens, seen from above: +1, -1, or 0 where none does."""
        if not MECHANISMS[self.mechanism].turns:
            return 0.0
        clockwise = self.clockwise or self.lead[1] < 0
        return -1.0 if clockwise else 1.0

    @property
    def group_name(self) -> str:
        """Name of the group of rows that look alike; a row without one is its own."""
        return self.group or self.name

    @property
    def seat_height(self) -> float:
        """Height of the lid's seat above the container's foot (m)."""
        return self.body[1] + self.neck[1]

    @property
    def gym_id(self) -> str:
        """Gymnasium id: `pill-box` becomes `Uncap/PillBox-v0`."""
        words = self.name.split("-")
        return f"Uncap/{''.join(word.capitalize() for word in words)}-v0"

    @property
    def stage_ways(self) -> tuple[Range, ...]:
        """How far each stage goes (m, rad)."""
        if self.ways:
            return self.ways
        stages = MECHANISMS[self.mechanism].stages
        return tuple(self.angle if stage.joint >= TWIST else self.depth for stage in stages)

    @property
    def vector(self) -> np.ndarray:
        """What `parameters` tells of the row, float32, see `telling.vector`."""
        return vector(self)

    def middle(self, field: str) -> float:
        """Middle of the range of that name."""
        return sum(getattr(self, field)) / 2

    def draw(self, rng: np.random.Generator) -> Variant:
        """Draw one variant uniformly from the row's ranges."""
        numbers: dict[str, Any] = {
            field: float(rng.uniform(*getattr(self, field))) for field in RANGES
        }
        if self.ways:
            ways = tuple(float(rng.uniform(*way)) for way in self.ways)
            return Variant(self, **numbers, ways=ways)
        lead = numbers.pop("lead")
        if MECHANISMS[self.mechanism].threaded:  # a thread ties the travel to the angle
            numbers["depth"] = abs(lead) * numbers["angle"] / (2 * math.pi)
        return Variant(self, **numbers)


def digest(variants: Sequence[Variant]) -> str:
    """Twelve hex digits that change when the numbers of a variant do."""
    fields = [field.name for field in dataclasses.fields(Variant) if field.name != "closure"]
    numbers = [
        (v.closure.name, v.closure.mechanism, v.closure.grip, *(getattr(v, f) for f in fields))
        for v in variants
    ]
    return hashlib.sha256(repr(numbers).encode()).hexdigest()[:12]


RANGES = ("grip_radius", "grip_height", "angle", "lead", "depth", "torque", "force", "mass")
# What the hand can hold, reach and overcome, in SI units. Each finger opens by 40 mm, and
# the fingertips, 11 mm below the grip's centre, must clear the disc under a knob or bar.
# Leads have two signs: right-handed and left-handed threads.
BOUNDS: dict[str, Range] = {
    "grip_radius": (0.006, 0.0355),
    "grip_height": (0.016, 0.05),
    "angle": (0.0, 8.0),
    "lead": (-0.015, 0.015),
    "depth": (0.0, 0.15),
    "torque": (0.0, 0.9),
    "force": (0.0, 35.0),
    "mass": (0.001, 0.2),
}
# Numbers in each field that is no single one
_LENGTHS = {"body": 2, "neck": 2, "color": 3, "accent": 3, **dict.fromkeys(RANGES, 2)}
_WIDEST = 0.5  # m, of any size: beyond the hand's reach
_LEAST = 0.001  # m, of body, neck and bar: what is thinner is nothing to simulate
_HIGHEST_SEAT = 0.27  # m: raised by 10 cm, the hand's starts above it are within its walls
HINGE_ANGLE = 1.1  # rad, at most: the hand opens a hinged lid without tilting itself
HINGE_TORQUE = 0.05  # N m, at least: the friction that holds a hinged lid where it was left


# What rows of one group share: all but how they open, and what they are called
LOOK_ALIKE = (
    *("grip", "look", "body", "neck", "grip_radius", "grip_height", "mass", "cap_radius"),
    *("bar_half", "offset", "steps", "control", "color", "accent"),
)


def refuse_unlike(row: Closure, twin: Closure) -> None:
    """Refuse a row that can be told from another one of its group before it is touched.

    Raises:
        ValueError: what differs.
    """
    for field in LOOK_ALIKE:
        if getattr(row, field) != getattr(twin, field):
            raise ValueError(
                f"{row.name}: {field} must be that of {twin.name}, of its group "
                f"{row.group_name!r}, {brief(getattr(twin, field))}"
            )
    mechanism, twins = MECHANISMS[row.mechanism], MECHANISMS[twin.mechanism]
    if mechanism.hand_at != twins.hand_at or _shows_a_way(mechanism) != _shows_a_way(twins):
        raise ValueError(
            f"{row.name}: a {row.mechanism} is observed in another way than a {twin.mechanism}, "
            f"and cannot be in one group with {twin.name}"
        )


def _shows_a_way(mechanism: Mechanism) -> bool:
    """Whether a lid's way to the side is observed before it is touched."""
    return X in mechanism.free


_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def check_name(kind: str, name: Any) -> None:
    """Refuse a name that is no folder's, no Gymnasium id's, or no word of a command line's.

    Raises:
        ValueError: what is allowed.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"the name of a {kind} must be of small letters and digits, joined by hyphens, as "
            f"'pill-box', not {brief(name)}"
        )


def _name_is_a_word(closure: Closure) -> None:
    """The name can be that of a folder, and a Gymnasium id can be made of it."""
    check_name("closure", closure.name)


def _texts_are_texts(closure: Closure) -> None:
    """Description and source are texts."""
    for field in ("description", "source", "group"):
        if not isinstance(getattr(closure, field), str):
            raise ValueError(f"{closure.name}: {field} must be a text")


def _numbers_are_numbers(closure: Closure) -> None:
    """Every pair has two finite numbers, every colour three; sizes are not negative."""
    for field, length in _LENGTHS.items():
        value = getattr(closure, field)
        if not isinstance(value, tuple | list) or not _are_finite(value, length):
            raise ValueError(
                f"{closure.name}: {field} must be {length} numbers, not {brief(value)}"
            )
    for field in ("cap_radius", "bar_half", "offset"):
        value = getattr(closure, field)
        if not _are_finite((value,), 1):
            raise ValueError(f"{closure.name}: {field} must be a number, not {brief(value)}")
    _sizes_fit(closure)
    integer(f"{closure.name}: steps", closure.steps, 1, MOST_STEPS)


def _sizes_fit(closure: Closure) -> None:
    """There is a body and a neck, no higher than the hand can reach in every level."""
    built = (*closure.body, *closure.neck)
    sizes = (*built, closure.cap_radius, closure.bar_half, abs(closure.offset))
    if min(sizes) < 0 or max(sizes) > _WIDEST or min(built) < _LEAST:
        raise ValueError(
            f"{closure.name}: sizes must lie in [0, {_WIDEST}] m, those of body and neck at least "
            f"{_LEAST}"
        )
    if closure.grip == "bar" and closure.bar_half < _LEAST:
        raise ValueError(f"{closure.name}: bar_half of a bar must be at least {_LEAST} m")
    if closure.seat_height > _HIGHEST_SEAT:
        raise ValueError(
            f"{closure.name}: body and neck together must be at most {_HIGHEST_SEAT} m high, not "
            f"{closure.seat_height:g}: the hand reaches no higher where the container is raised"
        )


def _are_finite(values: Any, length: int) -> bool:
    """Whether they are so many finite numbers."""
    numbers = [v for v in values if isinstance(v, int | float | np.number)]
    return len(values) == len(numbers) == length and all(math.isfinite(v) for v in numbers)


def _names_are_known(closure: Closure) -> None:
    """Mechanism, grip and look are rows of their tables."""
    lookup(MECHANISMS, closure.mechanism, f"mechanism of {closure.name}")
    lookup(GRIPS, closure.grip, f"grip of {closure.name}")
    lookup(LOOKS, closure.look, f"look of {closure.name}")


def _ranges_ascend(closure: Closure) -> None:
    """Every range is (low, high)."""
    for field in RANGES:
        low, high = getattr(closure, field)
        if low > high:
            raise ValueError(f"{closure.name}: {field} must be (low, high), not ({low}, {high})")


def _ranges_lie_within_bounds(closure: Closure) -> None:
    """The hand can hold, reach and overcome every variant."""
    for field, (lowest, highest) in BOUNDS.items():
        low, high = getattr(closure, field)
        if low < lowest or high > highest:
            raise ValueError(
                f"{closure.name}: {field} must lie in [{lowest}, {highest}], not ({low}, {high})"
            )


def _stages_have_ways(closure: Closure) -> None:
    """Every stage has a way, of its own or in `angle` or `depth`; a mark lies at a depth."""
    mechanism = MECHANISMS[closure.mechanism]
    if mechanism.marked and closure.depth[0] <= 0:
        raise ValueError(f"{closure.name}: a {closure.mechanism} needs a depth above 0")
    if not isinstance(closure.ways, tuple | list):
        raise ValueError(f"{closure.name}: ways must be pairs, not {brief(closure.ways)}")
    if closure.ways:
        _ways_fit(closure, mechanism)
        return
    for field, rotates in (("angle", True), ("depth", False)):
        of_it = [stage for stage in mechanism.stages if (stage.joint >= TWIST) == rotates]
        if len(of_it) > 1:
            raise ValueError(
                f"{closure.name}: a {closure.mechanism} needs ways, a (low, high) for each of its "
                f"{len(mechanism.stages)} stages: {len(of_it)} of them go by {field}"
            )
        if of_it and getattr(closure, field)[0] <= 0:
            article = "an" if rotates else "a"
            raise ValueError(
                f"{closure.name}: a {closure.mechanism} needs {article} {field} above 0"
            )


def _ways_fit(closure: Closure, mechanism: Mechanism) -> None:
    """There is a way for each stage, which the hand can go."""
    if len(closure.ways) != len(mechanism.stages):
        raise ValueError(
            f"{closure.name}: a {closure.mechanism} has {len(mechanism.stages)} stages, and "
            f"needs as many ways, not {len(closure.ways)}"
        )
    for stage, way in zip(mechanism.stages, closure.ways, strict=True):
        lowest, highest = BOUNDS["angle" if stage.joint >= TWIST else "depth"]
        is_pair = isinstance(way, tuple | list) and _are_finite(way, 2)
        if not is_pair or not lowest < way[0] <= way[1] <= highest:
            raise ValueError(
                f"{closure.name}: ways must be (low, high) above {lowest} and at most {highest}, "
                f"not {brief(way)}"
            )


def _pressed_lid_has_a_depth(closure: Closure) -> None:
    """A lid that is pressed against a spring has a depth."""
    if MECHANISMS[closure.mechanism].sprung and closure.depth[0] <= 0:
        raise ValueError(f"{closure.name}: a {closure.mechanism} needs a depth above 0")


def _hinged_lid_stays_in_reach(closure: Closure) -> None:
    """A hinged lid opens no further than an upright hand can, and stays where it was left."""
    stages = MECHANISMS[closure.mechanism].stages
    for stage, (_, most) in zip(stages, closure.stage_ways, strict=True):
        if stage.joint == TILT_Y and (most > HINGE_ANGLE or closure.torque[0] < HINGE_TORQUE):
            raise ValueError(
                f"{closure.name}: a {closure.mechanism} needs an angle of at most {HINGE_ANGLE} "
                f"and a torque of at least {HINGE_TORQUE}"
            )


def _thread_has_a_lead(closure: Closure) -> None:
    """A thread has a lead, and its range has one sign."""
    threaded = MECHANISMS[closure.mechanism].threaded
    if threaded and closure.lead[0] * closure.lead[1] <= 0:
        raise ValueError(f"{closure.name}: a {closure.mechanism} needs a lead, of one sign")
    if threaded and closure.clockwise:
        raise ValueError(
            f"{closure.name}: a {closure.mechanism} opens by its thread: one that opens clockwise "
            "has a negative lead, not clockwise"
        )


RULES: tuple[Callable[[Closure], None], ...] = (
    _name_is_a_word,
    _texts_are_texts,
    _numbers_are_numbers,
    _names_are_known,
    _ranges_ascend,
    _ranges_lie_within_bounds,
    _stages_have_ways,
    _pressed_lid_has_a_depth,
    _hinged_lid_stays_in_reach,
    _thread_has_a_lead,
)


def distance(a: Closure, b: Closure, axis: str | None = None) -> float:
    """Structural distance of two rows: Euclidean over their numbers, a metric on them.

    Each number is in units of a difference that asks for another strategy, so that
    the four axes can be added:

    - mechanism: 1 per joint that is free in one and locked in the other, per thread, spring,
      gate or release that only one has, and between a control and a closure; 0.5 between a
      touch and a hold, or no contact;
    - motion: 1 per half turn, 20 mm of pressing or lifting, 100 mm of sliding,
      10 mm of lead; opening the other way round is twice the amount;
    - geometry: 1 for the widest grip against none, for a bar against a cap, per 40 mm of the
      held part's height, or of its way from the lid's axis;
    - dynamics: 1 per 1 N m, 20 N, 100 g, about the range of the table.

    Args:
        a: a row.
        b: a row.
        axis: one of AXES; by default all.

    Returns:
        The distance, without unit.
    """
    groups = AXES.values() if axis is None else (lookup(AXES, axis, "axis"),)
    squares = sum(((numbers_of(a) - numbers_of(b)) ** 2).sum() for numbers_of in groups)
    return float(np.sqrt(squares))
