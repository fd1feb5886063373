"""The generator: closures drawn at a chosen structural distance."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from uncap.envs import composed, structure
from uncap.envs.checks import brief
from uncap.envs.closures import CLOSURES
from uncap.envs.mechanisms import MECHANISMS
from uncap.envs.structure import BOUNDS, Closure, Range
from uncap.envs.tables import lookup

# What the generator may change, and by how much per unit of a ray's length: about the spread
# of the table, in SI units
_STRIDES = {
    "grip_radius": 0.010,
    "grip_height": 0.010,
    "angle": 1.5,
    "lead": 0.006,
    "depth": 0.010,
    "torque": 0.30,
    "force": 10.0,
    "mass": 0.05,
}
_AXIS_NUMBERS = {  # fields that count in each axis of `structure.AXES`, and in no other
    "motion": ("angle", "lead", "depth"),
    "geometry": ("grip_radius", "grip_height"),
    "dynamics": ("torque", "force", "mass"),
}
_TOLERANCE = 0.01  # of the distance asked for
_ATTEMPTS = 400  # rays
_STEP = 0.1  # of a ray's length, in the search for two points between which the distance lies
_BISECTIONS = 40
_THINNEST_NECK = 0.004  # m
_WIDEST_BRIM = 0.02  # m that a neck may be wider than its body

_COMPOSED_SEEDS = 8  # rows of a composed mechanism at which rays begin

Ray = dict[str, float]  # field -> change per unit of length (SI units)


def sample_closure(
    rng: np.random.Generator,
    mechanism: str | None = None,
    near: str | Closure | None = None,
    distance: float | None = None,
    axis: str | None = None,
) -> Closure:
    """Draw a valid closure, anywhere or at a structural distance from a row.

    The draw starts at a row of the mechanism and follows a random ray through the
    numbers that the mechanism uses, until `structure.distance` to `near` is what was
    asked for, within 1 %. Each range keeps the starting row's relative width.

    Args:
        rng: source of randomness; the same state gives the same closure.
        mechanism: a row of MECHANISMS; by default that of `near`, or any.
        near: a row, or its name.
        distance: from `near`; by default wherever the ray's random length ends.
        axis: the one axis of `structure.AXES` in which it differs from where the ray begins; by
            default all that have numbers.

    Returns:
        A closure that is not registered; `register` it to make it a task.

    Raises:
        KeyError: unknown mechanism or row.
        ValueError: a distance without `near`, or one that this mechanism cannot have
            from `near`: the message says what was reached; an axis without numbers, or without
            any that the row uses, or beside another mechanism than that of `near`.
    """
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a generator, as np.random.default_rng(0), not {brief(rng)}")
    if near is not None and not isinstance(near, Closure):
        near = lookup(CLOSURES, near, "closure")
    if distance is not None and (near is None or not _is_distance(distance)):
        raise ValueError("a distance needs a row to be near, and must be a number, not negative")
    mechanism = mechanism or (near.mechanism if near else str(rng.choice(list(MECHANISMS))))
    lookup(MECHANISMS, mechanism, "mechanism")
    seeds = _rows_of(mechanism)
    if near is not None and near.mechanism == mechanism:
        seeds = [near]
    strides = _strides(axis)
    if axis is not None and near is not None and near.mechanism != mechanism:
        raise ValueError(
            f"a {mechanism} differs from {near.name}, a {near.mechanism}, in more than one axis"
        )
    if near is None or distance is None:
        return _sample_anywhere(rng, seeds, strides)
    return _sample_at_distance(rng, seeds, strides, near, distance)


def _rows_of(mechanism: str) -> list[Closure]:
    """Rows of a mechanism at which rays may begin; of a composed one, a few of those drawn."""
    listed = [row for row in CLOSURES.values() if row.mechanism == mechanism]
    if listed:
        return listed
    sequence = tuple(mechanism.split("-"))
    return [CLOSURES[composed.row_name(sequence, k)] for k in range(_COMPOSED_SEEDS)]


def sample_from(rng: np.random.Generator, seeds: list[Closure], name: str) -> Closure:
    """A closure anywhere on a ray from one of the seeds, which are of one mechanism.

    Args:
        rng: source of randomness.
        seeds: where the ray may begin.
        name: that the closure gets.
    """
    return dataclasses.replace(_sample_anywhere(rng, seeds, _STRIDES), name=name)


def _strides(axis: str | None) -> Ray:
    """The strides of the numbers of an axis, or of all."""
    if axis is None:
        return _STRIDES
    lookup(structure.AXES, axis, "axis")
    if axis not in _AXIS_NUMBERS:
        raise ValueError(
            f"{axis} has no numbers to draw: allowed: {', '.join(_AXIS_NUMBERS)} (another "
            "mechanism is drawn by its name)"
        )
    return {field: _STRIDES[field] for field in _AXIS_NUMBERS[axis]}


def _is_distance(value: Any) -> bool:
    """Whether it is a finite number, not negative."""
    return isinstance(value, int | float | np.number) and bool(0 <= value < np.inf)


def _sample_anywhere(rng: np.random.Generator, seeds: list[Closure], strides: Ray) -> Closure:
    """A closure on a ray of random length from one of the seeds."""
    for _ in range(_ATTEMPTS):
        seed = seeds[rng.integers(len(seeds))]
        ray = _random_ray(rng, seed, strides)
        found = _point_on_ray(seed, ray, rng.uniform(0, 1))
        if found is not None:
            return found
    raise ValueError(f"no valid {seeds[0].mechanism} was found")


def _sample_at_distance(
    rng: np.random.Generator, seeds: list[Closure], strides: Ray, near: Closure, distance: float
) -> Closure:
    """A closure on a ray from one of the seeds, at the distance from `near`."""
    reached: list[float] = []
    for _ in range(_ATTEMPTS):
        seed = seeds[rng.integers(len(seeds))]
        ray = _random_ray(rng, seed, strides)
        found = _search_ray(seed, ray, near, distance, reached)
        if found is not None:
            return found
    raise ValueError(
        f"no {seeds[0].mechanism} at distance {distance} from {near.name}: "
        f"reached {min(reached):.2f} to {max(reached):.2f}"
    )


def _random_ray(rng: np.random.Generator, seed: Closure, strides: Ray) -> Ray:
    """A random direction through those numbers with strides that the seed uses."""
    used = _used(seed, strides)
    if not used:
        axes = [axis for axis, fields in _AXIS_NUMBERS.items() if _used(seed, fields)]
        raise ValueError(
            f"a {seed.mechanism} uses none of {', '.join(strides)}, which this axis draws: "
            f"allowed: {', '.join(axes)}"
        )
    direction = rng.normal(size=len(used))
    direction /= np.linalg.norm(direction)
    return {
        field: float(share * strides[field]) for field, share in zip(used, direction, strict=True)
    }


def _used(seed: Closure, fields: Iterable[str]) -> list[str]:
    """Those of the fields that are not zero in a row."""
    return [field for field in fields if any(getattr(seed, field))]


def _point_on_ray(seed: Closure, ray: Ray, length: float) -> Closure | None:
    """The seed moved along the ray; None when that is no valid closure."""
    ranges: dict[str, Range] = {}
    for field, slope in ray.items():
        low, high = _moved(getattr(seed, field), slope * length)
        lowest, highest = BOUNDS[field]
        if low < lowest or high > highest:
            return None
        ranges[field] = (low, high)
    neck_radius, neck_height = seed.neck
    if not seed.cap_radius:  # the neck goes into the lid that is held: it grows with it
        neck_radius = neck_radius + ray.get("grip_radius", 0.0) * length
    if not _THINNEST_NECK < neck_radius < seed.body[0] + _WIDEST_BRIM:
        return None
    try:
        return dataclasses.replace(
            seed,
            name=_name(seed, ranges),
            description=f"a generated {seed.mechanism}, after the {seed.name}",
            source=f"generated from {seed.name}",
            group="",
            neck=(neck_radius, neck_height),
            **ranges,
        )
    except ValueError:
        return None


def _moved(old: Range, change: float) -> Range:
    """A range whose middle has changed, of the same width relative to its middle."""
    low, high = old
    middle = (low + high) / 2 + change
    half = 0.0
    if low + high:
        half = (high - low) / 2 * abs(2 * middle / (low + high))
    return (middle - half, middle + half)


def _name(seed: Closure, ranges: dict[str, Range]) -> str:
    """A name that tells generated closures apart: mechanism, and a hash of the numbers."""
    digest = hashlib.sha256(repr((seed.name, ranges)).encode()).hexdigest()
    return f"{seed.mechanism.replace('_', '-')}-{digest[:6]}"


def _search_ray(
    seed: Closure, ray: Ray, near: Closure, wanted: float, reached: list[float]
) -> Closure | None:
    """The point of a ray that is at a distance from a row.

    Args:
        seed: where the ray begins.
        ray: its direction.
        near: the row.
        wanted: the distance from it.
        reached: gains the distances seen on the way.

    Returns:
        The closure; None when the ray leaves the valid closures before.
    """
    start = structure.distance(seed, near)
    reached.append(start)
    # +1: the distance must fall along the ray; -1: it must grow
    sign = 1.0 if start > wanted * (1 + _TOLERANCE) else -1.0
    low = 0.0
    high = 0.0
    while True:
        high += _STEP
        point = _point_on_ray(seed, ray, high)
        if point is None:
            return None
        here = structure.distance(point, near)
        reached.append(here)
        if sign * (here - wanted) <= 0:
            return _bisect_ray(seed, ray, near, wanted, (low, high), sign)
        low = high


def _bisect_ray(
    seed: Closure,
    ray: Ray,
    near: Closure,
    wanted: float,
    lengths: Range,
    sign: float,
) -> Closure | None:
    """The point between two lengths of a ray that is at a distance from a row.

    Args:
        seed: where the ray begins.
        ray: its direction.
        near: the row.
        wanted: the distance from it.
        lengths: of two points, between which the distance lies.
        sign: +1 where the distance falls along the ray, -1 where it grows.

    Returns:
        The closure; None when it is not found in `_BISECTIONS` halvings.
    """
    low, high = lengths
    tolerance = _TOLERANCE * max(wanted, 1e-3)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        point = _point_on_ray(seed, ray, middle)
        if point is None:
            return None
        gap = structure.distance(point, near) - wanted
        if abs(gap) <= tolerance:
            return point
        if sign * gap > 0:
            low = middle
        else:
            high = middle
    return None
