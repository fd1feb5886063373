"""What a closure is, as numbers: rows, variants, the vector of a row and the distance of two.

The vector has four named groups of numbers (AXES). It is what `parameters`
conditioning tells a policy, and its Euclidean distance is the dial of structure.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from envs.mechanisms import LIFT, MECHANISMS, TILT_Y, TWIST, X

Range = tuple[float, float]


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
    """

    closure: Closure
    grip_radius: float
    grip_height: float
    angle: float
    depth: float
    torque: float
    force: float
    mass: float


@dataclasses.dataclass(frozen=True)
class Closure:
    """One container with its lid: a row of the table.

    Ranges are (low, high) and uniform; their meaning is `Variant`'s.

    Attributes:
        name: of the row; hyphens become capitals in the Gymnasium id.
        description: one line, in plain language.
        source: what the numbers rest on.
        mechanism: a row of `mechanisms.MECHANISMS`.
        grip: `cap` is round, `bar` has two flat sides that the hand must face.
        look: the drawing in `looks.py`.
        body, neck: (radius, height) of the container's parts (m).
        lead: signed axial travel per turn (m): negative is a left-handed thread,
            which opens clockwise from above.
        cap_radius: of the disc under a knob or bar (m); 0: the cap itself is held.
        bar_half: half the length of a bar (m).
        offset: of the held part from the axis, along x (m).
        clockwise: whether a lid without thread opens clockwise from above.
        steps: control steps of an episode.
        control: not a closure at all: shares the robot and the scene only.
        color, accent: of container and lid, RGB.
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
    color: tuple[float, float, float] = (0.7, 0.7, 0.7)
    accent: tuple[float, float, float] = (0.2, 0.4, 0.8)

    def __post_init__(self) -> None:
        """Refuse a row that cannot be built or held.

        Raises:
            ValueError: what is wrong and what is allowed.
        """
        if self.mechanism not in MECHANISMS:
            raise ValueError(
                f"{self.name}: unknown mechanism {self.mechanism!r} (allowed: {', '.join(MECHANISMS)})"
            )
        if self.grip not in ("cap", "bar"):
            raise ValueError(f"{self.name}: grip must be cap or bar, not {self.grip!r}")
        for field in RANGES:
            low, high = getattr(self, field)
            if low > high:
                raise ValueError(f"{self.name}: {field} must be (low, high), not ({low}, {high})")
        for field, (low, high) in BOUNDS.items():
            least, most = getattr(self, field)
            if least < low or most > high:
                raise ValueError(
                    f"{self.name}: {field} must lie in [{low}, {high}], not ({least}, {most})"
                )
        opens = MECHANISMS[self.mechanism].opens
        if (TWIST in opens or TILT_Y in opens) and self.angle[0] <= 0:
            raise ValueError(f"{self.name}: a {self.mechanism} needs an angle above 0")
        if (LIFT in opens or X in opens or MECHANISMS[self.mechanism].marked) and self.depth[
            0
        ] <= 0:
            raise ValueError(f"{self.name}: a {self.mechanism} needs a depth above 0")
        if self.mechanism == "flip" and (
            self.angle[1] > FLIP_ANGLE or self.torque[0] < FLIP_TORQUE
        ):
            raise ValueError(
                f"{self.name}: a flip needs an angle of at most {FLIP_ANGLE} and a torque of at least {FLIP_TORQUE}"
            )
        if self.mechanism == "screw" and self.lead[0] * self.lead[1] <= 0:
            raise ValueError(f"{self.name}: a screw needs a lead, of one sign")

    @property
    def separates(self) -> bool:
        """Whether the lid comes off."""
        return MECHANISMS[self.mechanism].separates

    @property
    def direction(self) -> float:
        """Sense of rotation that opens, seen from above: +1, -1, or 0 (none)."""
        if TWIST not in MECHANISMS[self.mechanism].opens:
            return 0.0
        return -1.0 if self.clockwise or self.lead[1] < 0 else 1.0

    @property
    def gym_id(self) -> str:
        """Gymnasium id: `pill-box` becomes `Uncap/PillBox-v0`."""
        return f"Uncap/{''.join(part.capitalize() for part in self.name.split('-'))}-v0"

    @property
    def vector(self) -> np.ndarray:
        """The row's numbers at mid-range, float32 (23,): AXES, one group after the other."""
        return np.concatenate([numbers(self) for numbers in AXES.values()]).astype(np.float32)

    def middle(self, field: str) -> float:
        """Middle of a range."""
        return sum(getattr(self, field)) / 2

    def draw(self, rng: np.random.Generator) -> Variant:
        """Draw one variant uniformly from the row's ranges."""
        v = {f: float(rng.uniform(*getattr(self, f))) for f in RANGES}
        lead = v.pop("lead")
        if self.mechanism == "screw":
            v["depth"] = abs(lead) * v["angle"] / (2 * math.pi)
        return Variant(self, **v)


RANGES = ("grip_radius", "grip_height", "angle", "lead", "depth", "torque", "force", "mass")
# What the hand can hold, reach and overcome: fingers open 40 mm each and clear the
# disc by 11 mm; the lead covers both hands
BOUNDS = {
    "grip_radius": (0.006, 0.0355),
    "grip_height": (0.016, 0.05),
    "angle": (0.0, 8.0),
    "lead": (-0.015, 0.015),
    "depth": (0.0, 0.15),
    "torque": (0.0, 0.9),
    "force": (0.0, 35.0),
    "mass": (0.001, 0.2),
}

FLIP_ANGLE, FLIP_TORQUE = (
    1.1,
    0.05,
)  # rad: the hand stays upright; N m: the hinge holds its lid where it was left


def _mechanism(c: Closure) -> np.ndarray:
    """Which joints are free (x, lift, twist, tilt), thread, spring, gate, separates, contact, control."""
    m = MECHANISMS[c.mechanism]
    free = [float(j in m.free) for j in (X, LIFT, TWIST, TILT_Y)]
    contact = {"hold": 1.0, "touch": 0.5, "none": 0.0}[m.contact]
    return np.array(
        [*free, m.threaded, m.sprung, m.gate is not None, m.separates, contact, c.control], float
    )


def _motion(c: Closure) -> np.ndarray:
    """Signed amounts in order: press, twist, lift, hinge, slide, and the lead that ties twist to lift."""
    m, angle, depth = MECHANISMS[c.mechanism], c.middle("angle"), c.middle("depth")
    press = depth / 0.02 * m.sprung
    lift = depth / 0.02 * (LIFT in m.opens and not m.sprung)
    hinge = angle / math.pi * (TILT_Y in m.opens)
    slide = depth / 0.1 * (X in m.opens or m.marked)
    return np.array(
        [press, c.direction * angle / math.pi, lift, hinge, slide, c.middle("lead") / 0.01]
    )


def _geometry(c: Closure) -> np.ndarray:
    """Grip radius, grip height, bar, offset."""
    return np.array(
        [
            c.middle("grip_radius") / 0.036,
            c.middle("grip_height") / 0.04,
            c.grip == "bar",
            c.offset / 0.04,
        ]
    )


def _dynamics(c: Closure) -> np.ndarray:
    """Torque, force, mass."""
    return np.array([c.middle("torque") / 1.0, c.middle("force") / 20.0, c.middle("mass") / 0.1])


AXES = {"mechanism": _mechanism, "motion": _motion, "geometry": _geometry, "dynamics": _dynamics}


def distance(a: Closure, b: Closure, axis: str | None = None) -> float:
    """Structural distance of two rows: Euclidean over their numbers, a metric on them.

    Each number is in units of a difference that asks for another strategy, so that
    the four axes can be added:

    - mechanism: 1 per joint that is free in one and locked in the other, and per
      thread, spring, gate or release that only one has;
    - motion: 1 per half turn, 20 mm of pressing or lifting, 100 mm of sliding,
      10 mm of lead; opening the other way round is twice the amount;
    - geometry: 1 for the widest grip against none, for a bar against a cap;
    - dynamics: 1 per 1 N m, 20 N, 100 g, about the range of the table.

    Args:
        a: a row.
        b: a row.
        axis: one of AXES; by default all.
    """
    groups = AXES.values() if axis is None else (AXES[axis],)
    return float(np.sqrt(sum(((numbers(a) - numbers(b)) ** 2).sum() for numbers in groups)))
