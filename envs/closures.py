"""The table of closures: every task of Uncap is one row of it.

A row holds ranges; a `Variant` is one draw from them and becomes one compiled
model. Everything else (Gymnasium id, conditioning vector, tests, the README's
table, the distance to other rows) is computed from the row.

Numbers are those of a closure that was opened before and put back by hand, which a
gripper with 70 N can open: a factory-sealed 65 mm jar takes 4 N m and more
(doi:10.1016/j.apergo.2021.103421). Screw caps take a third to a half of the lower
removal torque of their diameter in a packaging supplier's chart
(visionpackaging.com.au/pages/closure-torque-chart; 1 in lb = 0.113 N m). Each row's
`source` says what its numbers rest on; "estimate" means that no published figure
was found, and the number is the authors' own.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math

import numpy as np

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One draw from a row's ranges, in SI units.

    Attributes:
        closure: the row it was drawn from.
        grip_radius: half the width between the fingers when they hold it (m).
        grip_height: height of the part that is held (m).
        angle: rotation from closed to open (rad, >= 0; 0 for a pull).
        depth: axial engagement (m): lift at which the lid is free; 0 for `turn`.
        torque: breakaway torque of the thread or valve (N m).
        force: axial holding force of a pull lid (N).
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

    Ranges are (low, high) and uniform. `lead` is the signed axial travel per
    turn (m): negative is a left-handed thread, which opens clockwise from above.
    `body` is (radius, height) and `neck` (radius, height) of the container (m),
    `cap_radius` the radius of the disc under a knob or bar (0: the cap itself is
    held), `look` the name of the drawing in `scene.py`.
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
    color: tuple[float, float, float] = (0.7, 0.7, 0.7)
    accent: tuple[float, float, float] = (0.2, 0.4, 0.8)

    @property
    def separates(self) -> bool:
        """Whether the lid comes off; a `turn` lid stays on its axis."""
        return self.mechanism != "turn"

    @property
    def direction(self) -> float:
        """Sense of rotation that opens, seen from above: +1, -1, or 0 (none)."""
        return 0.0 if self.mechanism == "pull" else (-1.0 if self.lead[1] < 0 else 1.0)

    @property
    def gym_id(self) -> str:
        """Gymnasium id: `pill-box` becomes `Uncap/PillBox-v0`."""
        return f"Uncap/{''.join(part.capitalize() for part in self.name.split('-'))}-v0"

    @property
    def vector(self) -> np.ndarray:
        """The row's physical numbers at mid-range, each scaled to about [-1, 1], float32 (9,)."""
        mid = {f: sum(getattr(self, f)) / 2 for f in _RANGES}
        values = (
            self.direction * mid["angle"] / math.pi,
            mid["lead"] / 0.01,
            float(self.mechanism == "pull"),
            float(self.separates),
            mid["torque"] / 1.0,
            mid["force"] / 20.0,
            mid["grip_radius"] / 0.036,
            mid["grip_height"] / 0.04,
            float(self.grip == "bar"),
        )
        return np.asarray(values, np.float32)

    def draw(self, rng: np.random.Generator) -> Variant:
        """Draw one variant uniformly from the row's ranges."""
        v = {f: float(rng.uniform(*getattr(self, f))) for f in _RANGES}
        lead = v.pop("lead")
        if self.mechanism == "screw":
            v["depth"] = abs(lead) * v["angle"] / (2 * math.pi)
        return Variant(self, **v)


_RANGES = ("grip_radius", "grip_height", "angle", "lead", "depth", "torque", "force", "mass")
VECTOR_NAMES = ("signed_angle", "lead", "pulls", "separates", "torque", "force", "grip_radius", "grip_height", "bar")

_ROWS = (
    Closure(
        "bottle", "unscrew the cap of a water bottle", "28 mm in the chart: 0.54 N m; three starts (estimate)",
        "screw", "cap", "bottle", (0.032, 0.145), (0.0125, 0.020), (0.0130, 0.0165), (0.018, 0.022),
        angle=(1.9, 2.4), lead=(0.008, 0.010), torque=(0.20, 0.40), mass=(0.002, 0.004),
        color=(0.55, 0.78, 0.92), accent=(0.10, 0.35, 0.80),
    ),
    Closure(
        "jar", "twist the lid off a jam jar", "63 mm in the chart: 1.13 N m; quarter-turn lugs",
        "screw", "cap", "jar", (0.036, 0.090), (0.030, 0.008), (0.0305, 0.0330), (0.018, 0.022),
        angle=(1.4, 1.8), lead=(0.011, 0.013), torque=(0.50, 0.80), mass=(0.008, 0.012),
        color=(0.70, 0.16, 0.20), accent=(0.85, 0.72, 0.35),
    ),
    Closure(
        "tumbler", "unscrew the lid of a travel tumbler", "70 mm in the chart: 1.27 N m; two starts (estimate)",
        "screw", "cap", "tumbler", (0.038, 0.150), (0.033, 0.006), (0.0335, 0.0350), (0.024, 0.030),
        angle=(2.5, 2.9), lead=(0.006, 0.008), torque=(0.30, 0.50), mass=(0.03, 0.05),
        color=(0.20, 0.45, 0.42), accent=(0.12, 0.12, 0.13),
    ),
    Closure(
        "gas-cap", "turn a left-handed fuel cap by its bar, clockwise", "estimate: a quick-turn fuel cap, here left-handed on purpose",
        "screw", "bar", "gas-cap", (0.045, 0.075), (0.030, 0.025), (0.0070, 0.0090), (0.020, 0.024),
        angle=(1.5, 1.9), lead=(-0.014, -0.012), torque=(0.40, 0.70), mass=(0.04, 0.06), cap_radius=0.036,
        color=(0.55, 0.57, 0.60), accent=(0.08, 0.08, 0.09),
    ),
    Closure(
        "mug", "pull the push-in lid off a mug by its knob", "estimate: a silicone lip seal",
        "pull", "cap", "mug", (0.044, 0.095), (0.040, 0.004), (0.0120, 0.0150), (0.022, 0.026),
        depth=(0.008, 0.012), force=(4.0, 8.0), mass=(0.02, 0.04), cap_radius=0.042,
        color=(0.90, 0.87, 0.80), accent=(0.82, 0.45, 0.25),
    ),
    Closure(
        "cork", "pull the stopper cork out of a bottle", "estimate: a bar-top cork put back by hand",
        "pull", "cap", "wine", (0.037, 0.170), (0.0145, 0.060), (0.0150, 0.0170), (0.018, 0.022),
        depth=(0.018, 0.022), force=(15.0, 25.0), mass=(0.006, 0.010),
        color=(0.16, 0.30, 0.16), accent=(0.78, 0.60, 0.40),
    ),
    Closure(
        "valve", "turn the lever of a ball valve a quarter turn", "estimate for a DN 15 quarter-turn ball valve (EN 13828 covers the kind)",
        "turn", "bar", "valve", (0.030, 0.080), (0.014, 0.020), (0.0065, 0.0085), (0.022, 0.026),
        angle=(1.45, 1.57), torque=(0.50, 0.80), mass=(0.05, 0.08), cap_radius=0.016,
        color=(0.75, 0.66, 0.38), accent=(0.80, 0.12, 0.12),
    ),
    Closure(
        "grinder", "turn the head of a pepper grinder", "estimate: a ceramic burr grinder with peppercorns",
        "turn", "cap", "grinder", (0.027, 0.140), (0.024, 0.004), (0.0250, 0.0290), (0.036, 0.044),
        angle=(2.5, 2.9), torque=(0.20, 0.40), mass=(0.04, 0.06),
        color=(0.45, 0.27, 0.14), accent=(0.30, 0.17, 0.09),
    ),
    Closure(
        "thermos", "unscrew the cup of a vacuum flask", "48 mm in the chart: 0.86 N m; two starts (estimate)",
        "screw", "cap", "thermos", (0.035, 0.160), (0.021, 0.010), (0.0215, 0.0245), (0.028, 0.034),
        angle=(2.4, 2.7), lead=(0.0065, 0.0080), torque=(0.30, 0.45), mass=(0.02, 0.04),
        color=(0.62, 0.65, 0.68), accent=(0.55, 0.10, 0.12),
    ),
    Closure(
        "decanter", "pull the stopper out of a decanter", "estimate: a ground glass stopper, dry",
        "pull", "cap", "decanter", (0.048, 0.110), (0.016, 0.050), (0.0180, 0.0205), (0.026, 0.032),
        depth=(0.014, 0.017), force=(9.0, 13.0), mass=(0.05, 0.07),
        color=(0.75, 0.82, 0.88), accent=(0.80, 0.88, 0.95),
    ),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """Named train and held-out rows, with one line on what the split probes."""

    name: str
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    probes: str

    def __post_init__(self) -> None:
        """Refuse a split whose sides share a row."""
        if shared := set(self.train) & set(self.held_out):
            raise ValueError(f"task set {self.name!r}: {sorted(shared)} is both trained and held out")

    @property
    def hash(self) -> str:
        """Twelve hex digits that change when any row or the split changes."""
        rows = [repr(CLOSURES[n]) for n in self.train] + ["|"] + [repr(CLOSURES[n]) for n in self.held_out]
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:12]


CLOSURES: dict[str, Closure] = {}
TASK_SETS: dict[str, TaskSet] = {}


def register(row: Closure | TaskSet) -> None:
    """Add a closure or a task set to its table.

    Raises:
        ValueError: the name is taken.
    """
    table = CLOSURES if isinstance(row, Closure) else TASK_SETS
    if row.name in table:
        raise ValueError(f"{row.name!r} is already registered")
    table[row.name] = row


def lookup(table: dict, name: str, kind: str):
    """Return table[name], or raise a one-line error with close matches.

    Raises:
        KeyError: no such name; the message lists what is allowed.
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise KeyError(f"unknown {kind} {name!r}: {hint}allowed: {', '.join(table)}")


def distance(a: str | Closure, b: str | Closure) -> float:
    """Structural distance of two rows: Euclidean over their `vector`s, a metric.

    The axes are the row's numbers in units of a typical value (see
    `Closure.vector`), so one unit means "differs by all of it": a pull from a
    screw, or no torque from 1 N m.
    """
    rows = [lookup(CLOSURES, c, "closure") if isinstance(c, str) else c for c in (a, b)]
    return float(np.linalg.norm(rows[0].vector.astype(float) - rows[1].vector))


for _row in _ROWS:
    register(_row)
register(
    TaskSet(
        "first",
        ("bottle", "jar", "tumbler", "gas-cap", "mug", "cork", "valve", "grinder"),
        ("thermos", "decanter"),
        "interpolation: a screw between bottle and tumbler, a pull between mug and cork",
    )
)
