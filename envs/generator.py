"""The generator: closures drawn at a chosen structural distance."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from envs.closures import CLOSURES
from envs.mechanisms import MECHANISMS
from envs.structure import BOUNDS, Closure, distance
from envs.tables import lookup

# What the generator may move, and by how much a ray moves it per unit (the table's spread, SI units)
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
_TOLERANCE = 0.01  # of the distance asked for
_ATTEMPTS = 400


def sample_closure(
    rng: np.random.Generator,
    mechanism: str | None = None,
    near: str | Closure | None = None,
    distance: float | None = None,
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

    Returns:
        A closure that is not registered; `register` it to make it a task.

    Raises:
        KeyError: unknown mechanism or row.
        ValueError: a distance without `near`, or one that this mechanism cannot have
            from `near`: the message says what was reached.
    """
    if near is not None and not isinstance(near, Closure):
        near = lookup(CLOSURES, near, "closure")
    if distance is not None and (near is None or distance < 0):
        raise ValueError("a distance needs a row to be near, and must not be negative")
    mechanism = mechanism or (near.mechanism if near else str(rng.choice(list(MECHANISMS))))
    lookup(MECHANISMS, mechanism, "mechanism")
    seeds = [c for c in CLOSURES.values() if c.mechanism == mechanism]
    if near is not None and near.mechanism == mechanism:
        seeds = [near]
    reached: list[float] = []
    for _ in range(_ATTEMPTS):
        seed = seeds[rng.integers(len(seeds))]
        ray = _ray(rng, seed)
        found = (
            _along(seed, ray, rng.uniform(0, 1))
            if distance is None
            else _search(seed, ray, near, distance, reached)
        )
        if found is not None:
            return found
    raise ValueError(
        f"no {mechanism} at distance {distance} from {near.name}: reached {min(reached):.2f} to {max(reached):.2f}"
    )


def _ray(rng: np.random.Generator, seed: Closure) -> dict[str, float]:
    """A random direction through the numbers that the seed uses (SI units per unit of length)."""
    used = [f for f in _STRIDES if any(getattr(seed, f))]
    ways = rng.normal(size=len(used))
    ways /= np.linalg.norm(ways)
    return {f: float(w * _STRIDES[f]) for f, w in zip(used, ways, strict=True)}


def _along(seed: Closure, ray: dict[str, float], length: float) -> Closure | None:
    """The seed moved along the ray; None when that is no valid closure."""
    ranges = {}
    for field, way in ray.items():
        low, high = getattr(seed, field)
        middle = (low + high) / 2 + way * length
        half = (high - low) / 2 * abs(2 * middle / (low + high)) if low + high else 0.0
        ranges[field] = (middle - half, middle + half)
        least, most = BOUNDS[field]
        if ranges[field][0] < least or ranges[field][1] > most:
            return None
    neck = (
        seed.neck
        if seed.cap_radius
        else (seed.neck[0] + ray.get("grip_radius", 0.0) * length, seed.neck[1])
    )
    if not 0.004 < neck[0] < seed.body[0] + 0.02:
        return None
    about = f"a generated {seed.mechanism}, after the {seed.name}"
    name = f"{seed.mechanism.replace('_', '-')}-{hashlib.sha256(repr((seed.name, ranges)).encode()).hexdigest()[:6]}"
    try:
        return dataclasses.replace(
            seed,
            name=name,
            description=about,
            source=f"generated from {seed.name}",
            neck=neck,
            **ranges,
        )
    except ValueError:
        return None


def _search(
    seed: Closure, ray, near: Closure, wanted: float, reached: list[float]
) -> Closure | None:
    """Bisect the ray for the distance wanted; None when the ray leaves the valid closures first."""
    low, high = 0.0, 0.0
    here = distance(seed, near)
    reached.append(here)
    sign = 1.0 if here > wanted * (1 + _TOLERANCE) else -1.0  # towards `near`, or away from it
    while True:
        high += 0.1
        point = _along(seed, ray, high)
        if point is None:
            return None
        now = distance(point, near)
        reached.append(now)
        if sign * (now - wanted) <= 0:
            break
        low = high
    for _ in range(40):
        middle = (low + high) / 2
        point = _along(seed, ray, middle)
        gap = distance(point, near) - wanted
        if abs(gap) <= _TOLERANCE * max(wanted, 1e-3):
            return point
        low, high = (middle, high) if sign * gap > 0 else (low, middle)
    return None
