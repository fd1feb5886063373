"""The table of closures: every task of Uncap is one row of it. Add a task here.

Everything else (Gymnasium id, variants, conditioning vector, expert, tests, the
gallery, the distance to other rows) is computed from the row; `structure.Closure`
says what its fields mean.

Numbers are those of a closure that was opened before and put back by hand, which a
gripper with 70 N can open: a factory-sealed 65 mm jar takes 4 N m and more
(doi:10.1016/j.apergo.2021.103421). Screw caps take a third to a half of the lower
removal torque of their diameter in a packaging supplier's chart
(visionpackaging.com.au/pages/closure-torque-chart; 1 in lb = 0.113 N m).

Each row's `source` says what its numbers rest on. "Estimate" means that no published
figure of such a closure was found: the number is the authors' own, and a published figure
beside it only bounds it. What the sources abbreviate:

- "Giunchi 2008": Giunchi et al. (J. Food Eng. 88:576, 2008).
- "Villar-Garcia 2020": Villar-Garcia et al. (doi:10.31545/intagr/112270).
- "Mark-10": mark-10.com/case_studies/hand-sanitizer-packaging.
- "Operable parts": the ADA Standards, 309.4: a public tap or knob asks for no more than
  22 N of the hand.

A ball valve in service takes far more than the hand can give: 10 N m for 1/2 inch (Apollo,
torque constants of top entry valves); guides for low-torque ones name 1.7 to 4 N m for
1 inch (yanyehydraulic.com, low-torque ball valve designs).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym

from uncap.envs import checks, structure
from uncap.envs.checks import MOST_STEPS, integer
from uncap.envs.structure import Closure
from uncap.envs.tables import GrowingTable, Maker, brief, lookup

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
        "gas-cap", "turn a left-handed fuel cap by its bar, clockwise", "70 mm in the chart: 1.27 N m; quick-turn, left-handed on purpose",
        "screw", "bar", "gas-cap", (0.045, 0.075), (0.030, 0.025), (0.0070, 0.0090), (0.020, 0.024),
        angle=(1.5, 1.9), lead=(-0.014, -0.012), torque=(0.40, 0.70), mass=(0.04, 0.06), cap_radius=0.036,
        color=(0.55, 0.57, 0.60), accent=(0.08, 0.08, 0.09),
    ),
    Closure(
        "mug", "pull the push-in lid off a mug by its knob", "estimate: a silicone lip seal; a finger pulls at most 18 N (MIL-STD-1472E)",
        "pull", "cap", "mug", (0.044, 0.095), (0.040, 0.004), (0.0120, 0.0150), (0.022, 0.026),
        depth=(0.008, 0.012), force=(4.0, 8.0), mass=(0.02, 0.04), cap_radius=0.042,
        color=(0.90, 0.87, 0.80), accent=(0.82, 0.45, 0.25),
    ),
    Closure(
        "cork", "pull the stopper cork out of a bottle", "a T-cork put back by hand (estimate); straight corks 176 to 421 N (Giunchi 2008)",
        "pull", "cap", "wine", (0.037, 0.170), (0.0145, 0.060), (0.0150, 0.0170), (0.018, 0.022),
        depth=(0.018, 0.022), force=(15.0, 25.0), mass=(0.006, 0.010),
        color=(0.16, 0.30, 0.16), accent=(0.78, 0.60, 0.40),
    ),
    Closure(
        "valve", "turn the lever of a ball valve a quarter turn", "1 inch: 1.7 to 4 N m; a small, worn one (estimate)",
        "turn", "bar", "valve", (0.030, 0.080), (0.014, 0.020), (0.0065, 0.0085), (0.022, 0.026),
        angle=(1.45, 1.57), torque=(0.50, 0.80), mass=(0.05, 0.08), cap_radius=0.016,
        color=(0.75, 0.66, 0.38), accent=(0.80, 0.12, 0.12),
    ),
    Closure(
        "grinder", "turn the head of a pepper grinder", "estimate: peppercorns; rotary selectors 0.115 to 0.68 N m (MIL-STD-1472E)",
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
        "decanter", "pull the stopper out of a decanter", "estimate: glass in a 1:10 taper, mu 0.9, pushed in with 10 to 17 N",
        "pull", "cap", "decanter", (0.048, 0.110), (0.016, 0.050), (0.0180, 0.0205), (0.026, 0.032),
        depth=(0.014, 0.017), force=(9.0, 13.0), mass=(0.05, 0.07),
        color=(0.75, 0.82, 0.88), accent=(0.80, 0.88, 0.95),
    ),
    Closure(
        "spice-jar", "twist the lid off a spice jar", "38 mm in the chart: 0.77 N m; quarter-turn lugs",
        "screw", "cap", "jar", (0.024, 0.085), (0.0175, 0.006), (0.0185, 0.0205), (0.016, 0.020),
        angle=(0.9, 1.2), lead=(0.012, 0.014), torque=(0.30, 0.45), mass=(0.004, 0.008),
        color=(0.75, 0.36, 0.12), accent=(0.15, 0.32, 0.20),
    ),
    Closure(
        "canteen", "unscrew the cap of a canteen, gripping anew half way", "33 mm in the chart: 0.68 N m; one start (estimate)",
        "screw", "cap", "bottle", (0.040, 0.130), (0.0140, 0.016), (0.0150, 0.0180), (0.022, 0.026),
        angle=(6.4, 7.2), lead=(0.003, 0.004), torque=(0.22, 0.35), mass=(0.006, 0.010), steps=160,
        color=(0.36, 0.45, 0.28), accent=(0.13, 0.13, 0.12),
    ),
    Closure(
        "gas-bottle", "unscrew the left-handed cap of a gas bottle, gripping anew", "38 mm in the chart: 0.77 N m; so is fuel gas",
        "screw", "cap", "bottle", (0.046, 0.120), (0.0165, 0.014), (0.0175, 0.0205), (0.022, 0.026),
        angle=(5.8, 6.6), lead=(-0.004, -0.003), torque=(0.30, 0.50), mass=(0.03, 0.05), steps=160,
        color=(0.78, 0.22, 0.16), accent=(0.70, 0.58, 0.28),
    ),
    Closure(
        "teapot", "lift the loose lid off a teapot by its knob", "estimate: a loose lid of 150 to 250 g",
        "pull", "cap", "mug", (0.048, 0.085), (0.036, 0.004), (0.0090, 0.0110), (0.020, 0.024),
        depth=(0.006, 0.008), force=(1.5, 2.5), mass=(0.06, 0.09), cap_radius=0.036,
        color=(0.30, 0.45, 0.62), accent=(0.92, 0.90, 0.84),
    ),
    Closure(
        "stove-knob", "turn a stove's knob clockwise by its bar", "operable parts: at most 22 N, 0.48 N m at this bar; two thirds of it",
        "turn", "bar", "box", (0.048, 0.070), (0.024, 0.006), (0.0060, 0.0075), (0.020, 0.024),
        angle=(1.3, 1.5), torque=(0.15, 0.30), mass=(0.02, 0.03), cap_radius=0.026, bar_half=0.022, clockwise=True,
        color=(0.88, 0.88, 0.87), accent=(0.12, 0.12, 0.13),
    ),
    Closure(
        "tap", "turn a garden tap by a full turn, gripping anew half way", "operable parts: 22 N, 0.55 N m at this radius",
        "turn", "cap", "valve", (0.030, 0.085), (0.012, 0.030), (0.0230, 0.0270), (0.018, 0.022),
        angle=(6.3, 7.0), torque=(0.20, 0.40), mass=(0.03, 0.05), steps=160,
        color=(0.75, 0.66, 0.38), accent=(0.10, 0.42, 0.22),
    ),
    Closure(
        "pill-box", "press down and turn the cap of a child-proof pill box",
        "push and turn is type IA of ASTM D3475, tested as in ASTM D3472; 38 mm in the chart: 0.77 N m",
        "push_twist", "cap", "vial", (0.021, 0.075), (0.0165, 0.012), (0.0175, 0.0205), (0.020, 0.024),
        angle=(1.2, 1.5), depth=(0.003, 0.004), torque=(0.25, 0.40), force=(12.0, 20.0), mass=(0.006, 0.010),
        color=(0.85, 0.45, 0.10), accent=(0.95, 0.95, 0.94),
    ),
    Closure(
        "solvent-can", "press down and turn the cap of a solvent can", "type IA of ASTM D3475; 48 mm in the chart: 0.86 N m",
        "push_twist", "cap", "box", (0.046, 0.130), (0.0210, 0.012), (0.0220, 0.0250), (0.024, 0.028),
        angle=(1.6, 1.9), depth=(0.004, 0.005), torque=(0.35, 0.55), force=(18.0, 28.0), mass=(0.010, 0.016),
        color=(0.20, 0.35, 0.62), accent=(0.80, 0.14, 0.12),
    ),
    Closure(
        "canister", "turn and lift the bayonet lid of a canister", "63 mm in the chart: 1.13 N m; felt seal, lift (estimate)",
        "bayonet", "cap", "tumbler", (0.038, 0.110), (0.0290, 0.006), (0.0300, 0.0330), (0.022, 0.026),
        angle=(0.7, 0.9), depth=(0.006, 0.008), torque=(0.30, 0.50), force=(3.0, 6.0), mass=(0.02, 0.04),
        color=(0.62, 0.64, 0.66), accent=(0.42, 0.26, 0.15),
    ),
    Closure(
        "radiator-cap", "turn and lift the cap of a radiator by its bar", "estimate: a cold one; put on with 5 N m (GM manual, surge tank)",
        "bayonet", "bar", "gas-cap", (0.044, 0.080), (0.026, 0.020), (0.0070, 0.0085), (0.020, 0.024),
        angle=(1.1, 1.4), depth=(0.008, 0.010), torque=(0.45, 0.70), force=(5.0, 9.0), mass=(0.04, 0.06), cap_radius=0.032,
        color=(0.40, 0.42, 0.45), accent=(0.66, 0.68, 0.70),
    ),
    Closure(
        "flip-mug", "flip up the hinged lid of a travel mug by its tab",
        "estimate: a friction hinge; a small flip cap shall open at 2.2 N at its lip (Mark-10)",
        "flip", "bar", "mug", (0.040, 0.130), (0.034, 0.004), (0.0070, 0.0085), (0.024, 0.028),
        angle=(0.8, 1.0), torque=(0.08, 0.16), mass=(0.015, 0.025), cap_radius=0.034, bar_half=0.007, offset=0.026,
        color=(0.18, 0.28, 0.42), accent=(0.90, 0.55, 0.18), steps=100,
    ),
    Closure(
        "soap-box", "flip up the hinged lid of a soap tin by its tab",
        "estimate: a friction hinge; a small flip cap shall open at 2.2 N at its lip (Mark-10)",
        "flip", "bar", "gas-cap", (0.048, 0.065), (0.044, 0.006), (0.0085, 0.0100), (0.026, 0.030),
        angle=(0.7, 0.9), torque=(0.12, 0.22), mass=(0.025, 0.040), cap_radius=0.044, bar_half=0.008, offset=0.034,
        color=(0.72, 0.80, 0.76), accent=(0.36, 0.56, 0.52), steps=100,
    ),
    Closure(
        "slide-mug", "slide open the shutter of a tumbler's lid",
        "estimate: a moulded shutter; toggle switches 3.3 to 13.3 N (MIL-DTL-13735G)",
        "slide", "bar", "tumbler", (0.042, 0.140), (0.038, 0.006), (0.0065, 0.0080), (0.022, 0.026),
        depth=(0.022, 0.028), force=(4.0, 8.0), mass=(0.006, 0.010), cap_radius=0.016, bar_half=0.010,
        color=(0.55, 0.20, 0.34), accent=(0.14, 0.14, 0.15),
    ),
    Closure(
        "pencil-box", "slide open the lid of a pencil box",
        "a tight wooden lid: chestnut on itself, mu 0.28 to 0.39 (Villar-Garcia 2020), 5 to 18 N on the groove",
        "slide", "bar", "box", (0.060, 0.050), (0.050, 0.006), (0.0080, 0.0095), (0.022, 0.026),
        depth=(0.040, 0.050), force=(2.0, 5.0), mass=(0.02, 0.04), cap_radius=0.028, bar_half=0.014,
        color=(0.76, 0.58, 0.36), accent=(0.55, 0.36, 0.18),
    ),
    Closure(
        "pump", "press down the head of a soap pump", "estimate: the force; a pump tested by Mark-10 has 15 mm of stroke",
        "press", "cap", "bottle", (0.034, 0.120), (0.0120, 0.026), (0.0150, 0.0180), (0.018, 0.022),
        depth=(0.010, 0.014), force=(10.0, 18.0), mass=(0.008, 0.012),
        color=(0.86, 0.80, 0.72), accent=(0.95, 0.95, 0.94),
    ),
    Closure(
        "button", "press a button (control: no closure)", "APEM FP series: 8 N (+-2), 2.5 mm; twice the travel, so that it can be seen",
        "press", "cap", "box", (0.050, 0.060), (0.030, 0.012), (0.0200, 0.0240), (0.016, 0.018),
        depth=(0.004, 0.006), force=(5.0, 10.0), mass=(0.01, 0.02), control=True,
        color=(0.88, 0.76, 0.16), accent=(0.82, 0.10, 0.10),
    ),
    Closure(
        "puck", "push a puck to a mark (control: no closure)", "estimate: a puck on a rubber mat, mu about 1",
        "push", "cap", "plate", (0.120, 0.050), (0.118, 0.002), (0.0240, 0.0280), (0.020, 0.024),
        depth=(0.060, 0.080), force=(1.0, 2.0), torque=(0.01, 0.02), mass=(0.05, 0.08), control=True,
        color=(0.80, 0.82, 0.84), accent=(0.16, 0.44, 0.36),
    ),
    Closure(
        "block", "slide a block along a rail (control: no closure)", "estimate: as the pencil box",
        "slide", "bar", "plate", (0.120, 0.050), (0.118, 0.002), (0.0180, 0.0220), (0.028, 0.034),
        depth=(0.070, 0.090), force=(2.0, 5.0), mass=(0.10, 0.15), bar_half=0.026, control=True,
        color=(0.80, 0.82, 0.84), accent=(0.48, 0.30, 0.56),
    ),
    Closure(
        "reach", "reach a mark in the air and stay there (control: no closure)", "no force",
        "reach", "cap", "post", (0.040, 0.060), (0.008, 0.010), (0.0080, 0.0100), (0.016, 0.018),
        depth=(0.08, 0.12), mass=(0.01, 0.02), control=True,
        color=(0.45, 0.47, 0.50), accent=(0.15, 0.60, 0.35),
    ),
)  # fmt: skip

# What cannot be told from a row above until it is touched: row, name, and what differs
_TWINS = (
    ("bottle", "bottle-left", {
        "description": "unscrew the left-handed cap of a water bottle, clockwise",
        "lead": (-0.010, -0.008),
    }),
    ("grinder", "grinder-clockwise", {
        "description": "turn the head of a pepper grinder clockwise",
        "clockwise": True,
    }),
    ("gas-cap", "gas-cap-right", {
        "description": "turn a right-handed fuel cap by its bar, counterclockwise",
        "lead": (0.012, 0.014),
    }),
    ("jar", "jar-left", {
        "description": "twist the left-handed lid off a jam jar, clockwise",
        "lead": (-0.013, -0.011),
    }),
    ("jar", "jar-pushed", {
        "description": "pull the push-on lid off a jam jar",
        "mechanism": "pull", "angle": (0.0, 0.0), "lead": (0.0, 0.0), "torque": (0.0, 0.0),
        "depth": (0.006, 0.008), "force": (8.0, 14.0),
    }),
    ("pill-box", "pill-box-left", {
        "description": "press down and turn clockwise the cap of a child-proof pill box",
        "clockwise": True,
    }),
    ("pill-box", "pill-box-plain", {
        "description": "unscrew the plain cap of a pill box",
        "mechanism": "screw", "lead": (0.010, 0.012), "depth": (0.0, 0.0), "force": (0.0, 0.0),
    }),
    ("canister", "canister-left", {
        "description": "turn clockwise and lift the bayonet lid of a canister",
        "clockwise": True,
    }),
    ("canister", "canister-pushed", {
        "description": "pull the push-in lid off a canister",
        "mechanism": "pull", "angle": (0.0, 0.0), "torque": (0.0, 0.0),
    }),
    ("thermos", "thermos-left", {
        "description": "unscrew the left-handed cup of a vacuum flask, clockwise",
        "lead": (-0.0080, -0.0065),
    }),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """Named train and held-out rows.

    Attributes:
        name: of the set; its Gymnasium id is `Uncap/<Name>-v0`.
        train: rows that are trained.
        held_out: rows that are never touched in training.
        probes: one line on what the split asks.
        reserved: held-out row -> the range that no trained row of its mechanism overlaps.
        transfers: held-out rows that a training goes on to learn; by default all.
        left_out: the mechanism of which no row is trained, or next to none.
        episode_steps: control steps of every episode; by default what each row says.
        attempt_steps: the same of trials with several attempts; by default `episode_steps`.
        held_out_kinds: held-out rows by kind, whose success is shown apart.
    """

    name: str
    train: tuple[str, ...]
    held_out: tuple[str, ...]
    probes: str
    reserved: dict[str, str] = dataclasses.field(default_factory=dict, hash=False)
    transfers: tuple[str, ...] | None = None
    left_out: str = ""
    episode_steps: int | None = None
    attempt_steps: int | None = None
    held_out_kinds: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse a split whose sides share a row or a reserved range.

        Raises:
            KeyError: a row, or the range that is reserved for it, is unknown.
            ValueError: what is shared, or is there twice.
        """
        for side in (self.train, self.held_out):
            self._check_rows(side)
        if not self.train:
            raise ValueError(f"task set {brief(self.name)}: no row is trained")
        shared = set(self.train) & set(self.held_out)
        if shared:
            raise ValueError(
                f"task set {brief(self.name)}: {sorted(shared)} is both trained and held out"
            )
        for field in ("episode_steps", "attempt_steps"):
            steps = getattr(self, field)
            if steps is not None:
                integer(f"task set {brief(self.name)}: {field}", steps, 1, MOST_STEPS)
        for held_out, field in self.reserved.items():
            of_set = f"row held out of {brief(self.name)}"
            lookup(dict.fromkeys(self.held_out), held_out, of_set)
            lookup(dict.fromkeys(structure.RANGES), field, f"range of {held_out}")
            self._refuse_overlap(CLOSURES[held_out], field)
        if self.transfers is None:
            object.__setattr__(self, "transfers", self.held_out)
        if further := set(self.transfers or ()) - set(self.held_out):
            raise ValueError(f"task set {brief(self.name)}: {sorted(further)} is not held out")

    def _check_rows(self, side: Any) -> None:
        """Refuse what is no sequence of different rows."""
        whose = f"task set {brief(self.name)}: rows"
        if isinstance(side, str) or not isinstance(side, Sequence):
            raise ValueError(f"{whose} must be names, not {brief(side)}")
        listed = checks.names(whose, side) if side else ()
        if len(set(listed)) < len(listed):
            raise ValueError(f"{whose} must be different ones: a row is named twice")
        for name in listed:
            lookup(CLOSURES, name, "closure")

    def _refuse_overlap(self, held_out: Closure, field: str) -> None:
        """Refuse a trained row of the same mechanism whose range overlaps the reserved one."""
        low, high = getattr(held_out, field)
        for name in self.train:
            trained = CLOSURES[name]
            trained_low, trained_high = getattr(trained, field)
            overlaps = trained_low < high and trained_high > low
            if trained.mechanism == held_out.mechanism and overlaps:
                raise ValueError(
                    f"task set {brief(self.name)}: {trained.name} overlaps the {field} "
                    f"reserved for {held_out.name}"
                )

    def examples(self, most: int) -> tuple[str, ...]:
        """The trained rows; where they are more than `most`, the first of each mechanism."""
        if len(self.train) <= most:
            return self.train
        firsts: dict[str, str] = {}
        for name in self.train:
            firsts.setdefault(CLOSURES[name].mechanism, name)
        return tuple(firsts.values())

    def is_of_new_mechanism(self, name: str) -> bool:
        """Whether no row of a row's mechanism is trained, or next to none: see `left_out`."""
        mechanism = CLOSURES[name].mechanism
        trained = {CLOSURES[row].mechanism for row in self.train}
        return mechanism == self.left_out or mechanism not in trained

    def steps(self, attempts: int) -> int | None:
        """Control steps of every episode of trials with so many attempts; None: the rows'."""
        return (self.attempt_steps if attempts > 1 else None) or self.episode_steps

    @property
    def words(self) -> str:
        """One line, for the help of the command line."""
        return self.probes

    @property
    def gym_id(self) -> str:
        """Gymnasium id."""
        return f"Uncap/{self.name.capitalize()}-v0"

    @property
    def hash(self) -> str:
        """Twelve hex digits that change when any row or the split changes."""
        trained = [_numbers(name) for name in self.train]
        held_out = [_numbers(name) for name in self.held_out]
        length = [f"steps {self.episode_steps}"] if self.episode_steps else []
        text = "\n".join([*trained, "|", *held_out, *length])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def guess_ceiling(self) -> float:
        """Success on the training rows of a policy that has to guess, see `guess_ceiling`."""
        return guess_ceiling(self.train)


def groups(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Rows by the name of their group: those that cannot be told apart until they are touched.

    Args:
        names: rows of the table of closures.

    Raises:
        KeyError: unknown closure.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        group = lookup(CLOSURES, name, "closure").group_name
        found[group] = (*found.get(group, ()), name)
    return found


def guess_ceiling(names: Sequence[str]) -> float:
    """Mean success of a policy that opens one row of each group, and no other one.

    It is what a perfect policy reaches that is told nothing, and does not learn which row it has
    from what it feels: the mean over the rows of one over the size of their group.
    """
    return len(groups(names)) / len(names)


def _numbers(name: str) -> str:
    """A row's numbers as text; without fields that it leaves empty, as it had before them."""
    return repr(CLOSURES[name]).replace(", group=''", "").replace(", ways=()", "")


CLOSURES: GrowingTable[Closure] = GrowingTable(
    Maker(
        "uncap.envs.drawn:row",
        "uncap.envs.drawn:ROW_NAMES",
        ("drawn-", "unseen-"),
        why_not="uncap.envs.drawn:why_not",
    ),
    Maker(
        "uncap.envs.composed:row",
        "uncap.envs.composed:ROW_NAMES",
        ("composed-",),
        why_not="uncap.envs.composed:why_not",
    ),
)
TASK_SETS: GrowingTable[TaskSet] = GrowingTable(
    Maker("uncap.envs.drawn:task_set", "uncap.envs.drawn:SET_NAMES", ("drawn-",)),
    Maker("uncap.envs.composed:task_set", "uncap.envs.composed:SET_NAMES", ("composed-",)),
)


def register(row: Closure | TaskSet) -> None:
    """Add a closure or a task set to its table, and its id to Gymnasium's registry.

    The same row again changes nothing.

    Args:
        row: what is added.

    Raises:
        TypeError: it is neither.
        ValueError: another row has the name, or the id; a name that cannot be one; a closure that
            can be told from one of its group. Nothing is changed.
    """
    if not isinstance(row, Closure | TaskSet):
        raise TypeError(f"what is registered must be a Closure or a TaskSet, not {brief(row)}")
    table: Any = CLOSURES if isinstance(row, Closure) else TASK_SETS
    if _is_registered(row, table):
        return
    if isinstance(row, Closure):
        for twin in _of_group(row.group_name):
            structure.refuse_unlike(row, twin)
    if row.name not in table:  # a drawn one is there as soon as it is asked for
        table[row.name] = row
    if isinstance(row, Closure):
        gym.register(
            row.gym_id,
            entry_point="uncap.envs.env:without_limit",
            vector_entry_point="uncap.envs.vector_env:of_one_row",
            max_episode_steps=row.steps,
            kwargs={"task": row.name},
        )
    else:
        gym.register(
            row.gym_id,
            entry_point="uncap.envs.env:of_set",
            vector_entry_point="uncap.envs.vector_env:of_set",
            kwargs={"tasks": row.train, "lengths": (row.steps(1), row.steps(2))},
        )


def _of_group(name: str) -> list[Closure]:
    """The rows of a group; the one that it is named after may be drawn."""
    listed = [row for row in CLOSURES.values() if row.group_name == name]
    drawn = [CLOSURES[name]] if name in CLOSURES else []
    return [*listed, *drawn]


def _is_registered(row: Closure | TaskSet, table: Mapping[str, Any]) -> bool:
    """Whether the very same row is in its table, and its id in Gymnasium's.

    Raises:
        ValueError: another row has the name, or the id; a name that cannot be one.
    """
    kind = "closure" if isinstance(row, Closure) else "task set"
    structure.check_name(kind, row.name)
    if row.name in table:
        if table[row.name] == row:
            return row.gym_id in gym.registry
        raise ValueError(f"{row.name!r} is already registered, as another {kind}")
    if row.gym_id in gym.registry:
        raise ValueError(
            f"the {kind} {row.name!r} would have the id {row.gym_id}, which is registered: "
            "another name is needed"
        )
    return False


def named_set(name: str) -> TaskSet:
    """The task set of a name; `mt16/jar` is the row jar of mt16, alone.

    Args:
        name: of a set, or `set/row`; or the rows themselves, see `spot_name`.

    Returns:
        The set; of `set/row` a new one that trains the row and holds out what the set does.

    Raises:
        KeyError: no such task set, or no such row in it.
        ValueError: rows that make no set.
    """
    if not isinstance(name, str):
        return lookup(TASK_SETS, name, "task set")
    whole, _, row = name.partition("/")
    found = _on_the_spot(whole) if ":" in whole else lookup(TASK_SETS, whole, "task set")
    if not row:
        return found
    lookup(dict.fromkeys(found.train), row, f"row of {whole}")
    return TaskSet(
        name,
        (row,),
        found.held_out,
        f"{row} of {whole}, alone",
        transfers=found.transfers,
        episode_steps=found.episode_steps,
        attempt_steps=found.attempt_steps,
    )


def spot_name(train: Sequence[str], held_out: Sequence[str] = ()) -> str:
    """The name of a task set of some rows, such as `jar,mug:thermos`.

    Args:
        train: names of rows.
        held_out: the same.
    """
    return f"{','.join(train)}:{','.join(held_out)}"


def _on_the_spot(name: str) -> TaskSet:
    """The task set of a `spot_name`.

    Raises:
        KeyError: no such row.
        ValueError: rows that make no set.
    """
    sides = [tuple(filter(None, side.split(","))) for side in name.split(":")]
    if len(sides) != 2:
        raise ValueError(f"task set {brief(name)}: needed is one colon, as in jar,mug:thermos")
    train, held_out = sides
    return TaskSet(name, train, held_out, "rows named on the spot")


def named_row(name: str) -> Closure:
    """The row of a name, also a drawn one.

    Raises:
        KeyError: no such row.
    """
    return lookup(CLOSURES, name, "closure")


def distance(a: str | Closure, b: str | Closure, axis: str | None = None) -> float:
    """Structural distance of two rows or names of rows, see `structure.distance`."""
    return structure.distance(_row(a), _row(b), axis)


def _row(closure: str | Closure) -> Closure:
    if isinstance(closure, Closure):
        return closure
    return lookup(CLOSURES, closure, "closure")


for _closure in _ROWS:
    register(_closure)
for _group, _name, _differing in _TWINS:
    _source = f"estimate: {_group}, and what cannot be told from it by its look"
    _row_values = {"name": _name, "group": _group, "source": _source, **_differing}
    register(dataclasses.replace(CLOSURES[_group], **_row_values))

_FIRST = ("bottle", "jar", "tumbler", "gas-cap", "mug", "cork", "valve", "grinder")
_MT8 = ("bottle", "cork", "valve", "pill-box", "canister", "flip-mug", "slide-mug", "pump")
_MT16 = (
    *_FIRST,
    "pill-box",
    "canister",
    "radiator-cap",
    "flip-mug",
    "slide-mug",
    "pencil-box",
    "pump",
    "stove-knob",
)
_MT24 = (*_MT16, "canteen", "gas-bottle", "tap", "teapot", "button", "puck", "block", "reach")
_WIDTHS = {"thermos": "grip_radius", "decanter": "grip_radius"}
_BANDS = {**_WIDTHS, "solvent-can": "grip_radius"}

_TASK_SETS = (
    TaskSet(
        "first",
        train=_FIRST,
        held_out=("thermos", "canister", "reach"),
        probes="distance: a screw between trained ones, a bayonet lid (turn, then lift), a control",
        reserved={"thermos": "grip_radius"},
    ),
    TaskSet(
        "mt8",
        train=_MT8,
        held_out=("thermos", "decanter"),
        probes="breadth: one row of each mechanism that opens something",
        reserved=_WIDTHS,
    ),
    TaskSet(
        "mt16",
        train=_MT16,
        held_out=("thermos", "decanter", "solvent-can"),
        probes="breadth: two rows of most mechanisms",
        reserved=_BANDS,
    ),
    TaskSet(
        "mt24",
        train=_MT24,
        held_out=("thermos", "decanter", "solvent-can", "soap-box", "spice-jar"),
        probes="breadth: every mechanism, re-grasping and the controls",
        reserved={**_BANDS, "soap-box": "grip_radius", "spice-jar": "angle"},
    ),
    TaskSet(
        "extrapolation",
        train=("bottle", "spice-jar", "thermos", "mug", "cork", "valve"),
        held_out=("jar", "tumbler"),
        probes="extrapolation: screws wider than every trained one",
        reserved={"jar": "grip_radius", "tumbler": "grip_radius"},
    ),
    TaskSet(
        "recombination",
        train=("bottle", "jar", "tumbler", "thermos", "pump", "button", "cork", "mug"),
        held_out=("pill-box", "solvent-can"),
        probes="recombination: pressing and twisting are trained apart, push_twist is held out",
    ),
    TaskSet(
        "alike",
        train=(
            *("bottle", "bottle-left", "grinder", "grinder-clockwise"),
            *("gas-cap", "gas-cap-right", "jar", "jar-left", "jar-pushed"),
            *("pill-box", "pill-box-left", "pill-box-plain"),
            *("canister", "canister-left", "canister-pushed"),
        ),
        held_out=("thermos", "thermos-left"),
        probes="conditioning: groups of rows that cannot be told apart until they are touched",
        reserved={"thermos": "grip_radius", "thermos-left": "grip_radius"},
        episode_steps=50,  # who is told opens every row in 42; there is no time to try both ways
        attempt_steps=40,  # in a second attempt one may try the other
    ),
    TaskSet(
        "unrelated",
        train=("puck", "button", "block", "reach"),
        held_out=("bottle", "mug"),
        probes="no shared structure: what the robot alone transfers",
    ),
)
for _task_set in _TASK_SETS:
    register(_task_set)
