"""What containers and lids look like: drawings only, without mass or contact.

A look is a function that draws the container, and a row of LOOKS. Its lids are drawn as
GRIPS says, unless the row has drawings of its own. Heights of a container are above its
foot, those of a lid above its seat, in metres. `drawing.Pen` does the drawing, so that
the names of the looks are known without mujoco.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from uncap.envs.mechanisms import MECHANISMS, TILT_Y, TWIST, X
from uncap.envs.pictograms import draw_signs

if TYPE_CHECKING:
    from uncap.envs.drawing import Pen
    from uncap.envs.structure import Closure, Variant

ContainerDrawing = Callable[["Pen", "Closure"], None]
LidDrawing = Callable[["Pen", "Variant", float], None]  # the float: height of the held part's foot

_Z_ALONG_X = (0.7071, 0.0, 0.7071, 0.0)  # quaternions that lay a capsule down
_Z_ALONG_Y = (0.7071, 0.7071, 0.0, 0.0)
_LABEL_GAP = 0.0006  # m that a label stands off the wall, so that it hides it
_BAND_GAP = 0.0009  # m, likewise of the band on a label


# Containers


def _mug(pen: Pen, closure: Closure) -> None:
    """A straight wall, and a handle of spheres."""
    radius = closure.body[0]
    pen.cylinder(radius, 0, closure.seat_height, "body")
    for angle in np.linspace(-1.2, 1.2, 13):
        out = -radius - 0.024 * np.cos(angle)
        up = 0.05 + 0.03 * np.sin(angle)
        pen.shape("sphere", (0, out, up), (0.006, 0, 0), "body")


def _valve(pen: Pen, closure: Closure) -> None:
    """A pipe with a ball in it, a stem and a foot."""
    pen.shape("capsule", (0, 0, 0.045), (0.022, 0.07, 0), "body", quat=_Z_ALONG_X)
    pen.shape("sphere", (0, 0, 0.045), (0.034, 0, 0), "body")
    pen.cylinder(0.012, 0.06, closure.seat_height, "steel")
    pen.cylinder(0.04, 0, 0.012, "steel")


def _grinder(pen: Pen, closure: Closure) -> None:
    """A turned body with a waist."""
    radius, height = closure.body
    waist = radius * 0.68
    pen.taper(radius, waist, 0, height * 0.45, "body")
    pen.taper(waist, closure.neck[0], height * 0.45, closure.seat_height, "body")


def _gas_cap(pen: Pen, closure: Closure) -> None:
    """A drum with a steel collar and neck."""
    radius, height = closure.body
    neck = closure.neck[0]
    pen.cylinder(radius, 0, height, "body")
    pen.cylinder(neck + 0.006, height, height + 0.008, "steel")
    pen.cylinder(neck, height, closure.seat_height, "steel")


def _box(pen: Pen, closure: Closure) -> None:
    """A box with a label on its front, and a steel neck."""
    radius, height = closure.body
    depth = radius * 0.72
    pen.shape("box", (0, 0, height / 2), (radius * 0.92, depth, height / 2), "body")
    label = (radius * 0.6, 0.0006, height * 0.28)
    pen.shape("box", (0, -depth, height * 0.5), label, "label")
    pen.cylinder(closure.neck[0], height, closure.seat_height, "steel")


def _plate(pen: Pen, closure: Closure) -> None:
    """A steel drum with a coloured top, on which something is moved."""
    radius, height = closure.body
    pen.cylinder(radius, 0, height - 0.004, "steel")
    pen.cylinder(radius, height - 0.004, closure.seat_height, "body")


def _post(pen: Pen, closure: Closure) -> None:
    """A thin post on a steel foot."""
    pen.cylinder(closure.body[0], 0, 0.008, "steel")
    pen.cylinder(closure.neck[0], 0.008, closure.seat_height, "body")


def _vial(pen: Pen, closure: Closure) -> None:
    """A straight glass with a large label."""
    radius, height = closure.body
    pen.cylinder(radius, 0, height, "body")
    pen.cylinder(radius + _LABEL_GAP, height * 0.18, height * 0.80, "label")
    pen.cylinder(closure.neck[0], height, closure.seat_height, "body")


def _tumbler(pen: Pen, closure: Closure) -> None:
    """A cup that widens upwards, with a steel rim."""
    radius, height = closure.body
    pen.taper(radius * 0.82, radius, 0, height, "body")
    pen.cylinder(closure.neck[0], height, closure.seat_height + 0.002, "steel")


def _bottle(pen: Pen, closure: Closure) -> None:
    """A bottle whose shoulder begins at 72 % of its height."""
    height = closure.body[1]
    _shouldered(pen, closure, height * 0.72, height, label=(0.15, 0.75))


def _jar(pen: Pen, closure: Closure) -> None:
    """A jar: a straight wall, and next to no shoulder."""
    height = closure.body[1]
    _shouldered(pen, closure, height, height + 0.002, label=(0.15, 0.75))


def _wine(pen: Pen, closure: Closure) -> None:
    """A wine bottle: a long shoulder."""
    height = closure.body[1]
    _shouldered(pen, closure, height * 0.60, height, label=(0.15, 0.75))


def _decanter(pen: Pen, closure: Closure) -> None:
    """A decanter: a long shoulder, and a narrow label at the foot."""
    height = closure.body[1]
    _shouldered(pen, closure, height * 0.60, height, label=(0.05, 0.12))


def _shouldered(
    pen: Pen, closure: Closure, shoulder: float, top: float, label: tuple[float, float]
) -> None:
    """Draw wall, shoulder, neck, and a label with a band of the lid's colour.

    Args:
        pen: draws the container.
        closure: the row.
        shoulder: height at which the wall ends (m).
        top: height at which the shoulder has narrowed to the neck (m).
        label: from where to where it goes, as shares of the wall's height.
    """
    radius, height = closure.body
    neck = closure.neck[0]
    low, high = label
    pen.cylinder(radius, 0, shoulder, "body")
    pen.taper(radius, neck, shoulder, top, "body")
    pen.cylinder(neck, height, closure.seat_height, "body")
    pen.cylinder(radius + _LABEL_GAP, shoulder * low, shoulder * high, "label")
    pen.cylinder(radius + _BAND_GAP, shoulder * (low + 0.05), shoulder * (low + 0.12), "accent")


# Lids


def _plain_cap(pen: Pen, variant: Variant, base: float) -> None:
    """A cap with a bevelled edge."""
    radius = variant.grip_radius
    top = base + variant.grip_height
    pen.cylinder(radius - 0.0006, base, top - 0.002, "accent")
    pen.cylinder(radius - 0.0016, top - 0.002, top, "accent")


def _knurled_cap(pen: Pen, variant: Variant, base: float) -> None:
    """A cap with upright ribs for the fingers."""
    _plain_cap(pen, variant, base)
    top = base + variant.grip_height
    pen.knurl(variant.grip_radius - 0.0008, base, top - 0.002, "dark")


def _cap_with_finial(pen: Pen, variant: Variant, base: float) -> None:
    """A grinder's head, with a steel ball on top."""
    _plain_cap(pen, variant, base)
    top = base + variant.grip_height
    pen.shape("sphere", (0, 0, top + 0.008), (0.010, 0, 0), "steel")


def _stopper(pen: Pen, variant: Variant, base: float) -> None:
    """A decanter's stopper, widest half way up."""
    radius = variant.grip_radius
    middle = base + variant.grip_height * 0.5
    top = base + variant.grip_height
    pen.taper(radius * 0.6, radius, base, middle, "accent")
    pen.taper(radius, radius * 0.55, middle, top, "accent")


def _plain_bar(pen: Pen, variant: Variant, base: float) -> None:
    """A box between the fingers, and the hinge of a lid that tilts."""
    closure = variant.closure
    center = (closure.offset, 0, base + variant.grip_height / 2)
    size = (closure.bar_half, variant.grip_radius, variant.grip_height / 2)
    pen.shape("box", center, size, "dark" if closure.cap_radius else "accent")
    if TILT_Y in MECHANISMS[closure.mechanism].travels:
        rim = closure.cap_radius
        pen.shape("capsule", (-rim, 0, 0.003), (0.004, 0.4 * rim, 0), "steel", quat=_Z_ALONG_Y)


def _lever(pen: Pen, variant: Variant, base: float) -> None:
    """A bar with the long arm of a valve's lever, above the fingers' reach."""
    _plain_bar(pen, variant, base)
    half = variant.closure.bar_half
    top = base + variant.grip_height
    size = (0.024, variant.grip_radius * 0.9, 0.003)
    pen.shape("box", (half + 0.022, 0, top - 0.004), size, "accent")
    pen.cylinder(0.006, top, top + 0.004, "steel")


# What is held, and how it is drawn unless its look has a drawing of its own. `scene` gives
# a grip its collision shape.
GRIPS: dict[str, LidDrawing] = {"cap": _plain_cap, "bar": _plain_bar}


@dataclasses.dataclass(frozen=True)
class Look:
    """How a container and its lid are drawn.

    Attributes:
        container: draws the container.
        lids: grip -> drawing of such a lid, where it is not that of GRIPS.
        glass: whether one can see through the container.
        finish: material of the thread under a lid.
        plugged: whether a plug under the lid goes down the neck.
    """

    container: ContainerDrawing
    lids: Mapping[str, LidDrawing] = dataclasses.field(default_factory=dict)
    glass: bool = False
    finish: str = "steel"
    plugged: bool = False


_KNURLED: dict[str, LidDrawing] = {"cap": _knurled_cap}

LOOKS: dict[str, Look] = {
    "bottle": Look(_bottle, _KNURLED, glass=True, finish="body"),
    "thermos": Look(_bottle, _KNURLED),
    "jar": Look(_jar, glass=True),
    "wine": Look(_wine, glass=True, plugged=True),
    "decanter": Look(_decanter, {"cap": _stopper}, glass=True, plugged=True),
    "vial": Look(_vial, _KNURLED, glass=True),
    "tumbler": Look(_tumbler, _KNURLED),
    "mug": Look(_mug),
    "box": Look(_box, _KNURLED),
    "gas-cap": Look(_gas_cap),
    "grinder": Look(_grinder, {"cap": _cap_with_finial}),
    "valve": Look(_valve, {"bar": _lever}),
    "plate": Look(_plate),
    "post": Look(_post),
}


def draw_container(pen: Pen, variant: Variant) -> None:
    """Draw the container with its thread, and the goal of a lid that stays.

    Args:
        pen: draws on the container's body.
        variant: what is drawn.
    """
    closure = variant.closure
    # a pedestal, which is inside the table unless the container is raised
    pen.cylinder(0.8 * closure.body[0], -0.15, -0.001, "steel")
    LOOKS[closure.look].container(pen, closure)
    mechanism = MECHANISMS[closure.mechanism]
    if mechanism.separates and any(stage.joint == TWIST for stage in mechanism.stages[-1:]):
        _thread(pen, closure)
    draw_signs(pen, closure)
    _goal(pen, variant)


def draw_lid(pen: Pen, variant: Variant, base: float) -> None:
    """Draw the lid, with a white stroke that makes its rotation visible.

    Args:
        pen: draws on the lid's body.
        variant: what is drawn.
        base: height of the held part's foot (m).
    """
    closure = variant.closure
    look = LOOKS[closure.look]
    if closure.cap_radius:
        pen.cylinder(closure.cap_radius, 0, base, "accent")
    draw_grip = look.lids.get(closure.grip, GRIPS[closure.grip])
    draw_grip(pen, variant, base)
    mechanism = MECHANISMS[closure.mechanism]
    if mechanism.hand_at == "on_top" and not closure.control:
        _spout(pen, variant, base)
    if look.plugged:  # hidden in the neck while the lid is closed
        pen.cylinder(closure.neck[0] * 0.75, -variant.depth, 0, "dark")
    _stroke(pen, variant, base)


def _thread(pen: Pen, closure: Closure) -> None:
    """The threaded finish of the neck, which shows once the lid is off."""
    seat = closure.seat_height
    neck = closure.neck[0]
    finish = LOOKS[closure.look].finish
    for turn in range(3):
        bottom = seat + 0.004 * turn
        pen.cylinder(neck * 0.9, bottom, bottom + 0.0015, finish)
    pen.cylinder(neck * 0.86, seat, seat + 0.0125, finish)


def _goal(pen: Pen, variant: Variant) -> None:
    """Where a lid that moves sideways should go, or the mark to reach."""
    mechanism = MECHANISMS[variant.closure.mechanism]
    if mechanism.marked and mechanism.free:
        _mark_on_container(pen, variant)
    elif mechanism.marked:
        _mark_in_air(pen, variant)
    elif X in mechanism.travels:
        _track(pen, variant)


def _mark_on_container(pen: Pen, variant: Variant) -> None:
    """A flat disc where the lid should be pushed to."""
    center = (variant.depth, 0, variant.closure.seat_height + 0.0004)
    pen.shape("cylinder", center, (variant.grip_radius, 0.0005, 0), "goal")


def _mark_in_air(pen: Pen, variant: Variant) -> None:
    """A ball where the hand should go."""
    height = variant.closure.seat_height + variant.grip_height + variant.depth
    pen.shape("sphere", (0, 0, height), (0.012, 0, 0), "goal")


def _track(pen: Pen, variant: Variant) -> None:
    """The track of a sliding lid, and lines across its ends."""
    closure = variant.closure
    stages = MECHANISMS[closure.mechanism].stages
    ways = [
        stage.sign * way
        for stage, way in zip(stages, variant.stage_ways, strict=True)
        if stage.joint == X
    ]
    reached = np.cumsum(ways)  # m, where each way ends
    low, high = min(0.0, *reached), max(0.0, *reached)
    seat = closure.seat_height
    half = closure.cap_radius or closure.bar_half
    track = ((high - low) / 2 + half, max(0.35 * half, 0.006), 0.0004)
    pen.shape("box", ((low + high) / 2, 0, seat + 0.0003), track, "dark")
    line = (0.0015, max(0.5 * half, 0.010), 0.0006)
    for x in reached:
        pen.shape("box", (x + half * np.sign(x), 0, seat + 0.0006), line, "goal")


def _spout(pen: Pen, variant: Variant, base: float) -> None:
    """The spout and the stem of a pump."""
    out = variant.grip_radius + 0.014
    up = base + 0.35 * variant.grip_height
    pen.shape("box", (out, 0, up), (0.018, 0.005, 0.004), "accent")
    pen.cylinder(0.006, -variant.depth - 0.004, 0, "steel")


def _stroke(pen: Pen, variant: Variant, base: float) -> None:
    """A white stroke from the centre towards the rim, on top of the lid."""
    radius = variant.grip_radius
    top = base + variant.grip_height
    center = (variant.closure.offset + 0.55 * radius, 0, top + 0.0003)
    pen.shape("box", center, (0.4 * radius, 0.0012, 0.0006), "mark")
