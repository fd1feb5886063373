"""What varies from episode to episode beside pose and variant: one table of levels.

A level is a table of ranges. Values are uniform in them and drawn anew for every episode.
Nothing varies at level `default`, which evaluations use. `disturbances.py` disturbs one thing at a
time beside that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import numpy as np

Range = tuple[float, float]


class Quantity(NamedTuple):
    """Something that may vary.

    Attributes:
        neutral: its value where a level does not vary it.
        words: what it is, with its unit.
        scales: model fields that it is a factor on; of fields by body or joint, only the
            entries that are the lid's.
        pictured: whether it acts on pictures only.
    """

    neutral: float
    words: str
    scales: tuple[str, ...] = ()
    pictured: bool = False


QUANTITIES = {
    "friction": Quantity(1.0, "factor on every contact's friction", ("geom_friction",)),
    "breakaway": Quantity(1.0, "factor on the lid's own friction", ("dof_frictionloss",)),
    "mass": Quantity(1.0, "factor on the lid's mass and inertia", ("body_mass", "body_inertia")),
    "gains": Quantity(
        1.0, "factor on the servos' stiffness", ("actuator_gainprm", "actuator_biasprm")
    ),
    "noise": Quantity(0.0, "standard deviation of the scaled state observation's noise"),
    "delay": Quantity(0.0, "control steps by which actions arrive late, rounded"),
    "push": Quantity(0.0, "N, sideways on the hand, in one control step of twenty"),
    "tilt": Quantity(0.0, "rad between the lid's axis and the vertical"),
    "raise": Quantity(0.0, "m of the container above the table"),
    "tilt_way": Quantity(0.0, "rad, which way the container leans, in its own frame"),
    "spread": Quantity(
        1.0, "factor on every distance and angle of a start from its range's middle"
    ),
    "camera_azimuth": Quantity(
        0.0, "degrees by which the cameras are turned about the lid", pictured=True
    ),
    "camera_elevation": Quantity(0.0, "degrees by which the cameras are raised", pictured=True),
    "camera_fov": Quantity(1.0, "factor on the cameras' field of view", pictured=True),
    "light": Quantity(1.0, "factor on the brightness of every light", pictured=True),
    "red": Quantity(1.0, "factor on the red of every colour but the robot's", pictured=True),
    "green": Quantity(1.0, "factor on the green of every colour but the robot's", pictured=True),
    "blue": Quantity(1.0, "factor on the blue of every colour but the robot's", pictured=True),
}
PICTURED = tuple(name for name, row in QUANTITIES.items() if row.pictured)
_TILT_WAY_RANGE = (-np.pi, np.pi)  # at every level that varies anything
_SCALED_BY = {field: name for name, row in QUANTITIES.items() for field in row.scales}


class Level(dict[str, Range]):
    """Ranges by quantity, and one line on them."""

    def __init__(self, words: str, ranges: dict[str, Range]):
        super().__init__(ranges)
        self.words = words


LEVELS = {
    "default": Level("nothing beside pose and variant", {}),
    "randomised": Level(
        "dynamics, noise, delay and pushes",
        {
            "friction": (0.7, 1.3),
            "breakaway": (0.8, 1.25),
            "mass": (0.7, 1.4),
            "gains": (0.9, 1.1),
            "noise": (0.0, 0.01),
            "delay": (0.0, 1.0),
            "push": (0.0, 8.0),
        },
    ),
    "tilted": Level("the container leans", {"tilt": (0.0, 0.35)}),
    "shelf": Level("the container stands higher", {"raise": (0.04, 0.10)}),
}
_PUSH_PROBABILITY = 0.05  # of each control step
_DISTURBED = 0xD157  # separates the disturbances' randomness from the episodes'
WORDS = 5  # of a generator's state, see `generator_words`
_WORD = 2**64 - 1  # the lower half of a PCG64 generator's 128-bit numbers
_HALF = 2**32 - 1  # the lower half of a draw


class Variation:
    """The values of one level, and of disturbances beside it, for n simulations.

    Args:
        level: ranges by quantity.
        n: number of simulations.
        disturbed: ranges by quantity, by factor, see `disturbances.ranges`. They take the place
            of the level's.

    Attributes:
        values: (n,) by quantity, neutral where nothing varies it.
        varied: names of those that vary.
        fields: model fields that are scaled.
    """

    def __init__(
        self,
        level: dict[str, Range],
        n: int,
        disturbed: Mapping[str, Mapping[str, Range]] | None = None,
    ):
        self.level = level
        self.n = n
        self.disturbed = disturbed or {}
        present = (level, *self.disturbed.values())
        # in a fixed order: snapshots hold them
        self.varied = [name for name in QUANTITIES if any(name in ranges for ranges in present)]
        if level and "tilt_way" not in self.varied:
            self.varied.append("tilt_way")
        self.values = {name: np.full(n, row.neutral) for name, row in QUANTITIES.items()}
        self.fields = [field for field, name in _SCALED_BY.items() if name in self.varied]
        longest = max(ranges.get("delay", (0.0, 0.0))[1] for ranges in present)
        # the last actions (n, 1 or more, 5), newest first, as many as any delay may go back
        self._sent = np.zeros((n, max(1, round(longest)), 5))
        # one for each simulation, once that has been reset; none where nothing varies
        self._rngs: list[np.random.Generator | None] = [None] * n

    def draw(self, ids: np.ndarray, rngs: list[np.random.Generator]) -> None:
        """Draw new values; nothing is drawn at level `default`.

        Disturbances draw from generators of their own, one per factor, which follow from the
        given ones and leave them as they are: the episode is otherwise the undisturbed one.

        Args:
            ids: (k,) simulations.
            rngs: k generators, one per simulation.
        """
        for i, rng in zip(ids, rngs, strict=True):
            entropy = [_DISTURBED, *generator_words(rng)] if self.disturbed else []
            for name, (low, high) in self.level.items():
                self.values[name][i] = rng.uniform(low, high)
            if self.level:
                self.values["tilt_way"][i] = rng.uniform(*_TILT_WAY_RANGE)
                self._rngs[i] = np.random.default_rng(rng.integers(2**63))
            if self.disturbed:
                self._disturb(i, entropy)
        self.forget(ids)

    def forget(self, ids: np.ndarray) -> None:
        """Forget the actions that were sent to simulations ids (k,): their fingers are open."""
        self._sent[ids] = (0.0, 0.0, 0.0, 0.0, 1.0)

    def _disturb(self, i: int, entropy: list[int]) -> None:
        """Draw a simulation's disturbed values; those of a factor do not depend on the others."""
        for factor, ranges in self.disturbed.items():
            rng = np.random.default_rng([*entropy, *factor.encode()])
            for name, (low, high) in ranges.items():
                self.values[name][i] = rng.uniform(low, high)
        if not self.level:
            self._rngs[i] = np.random.default_rng(entropy)

    def scale(
        self,
        field: str,
        ids: np.ndarray | slice,
        values: np.ndarray,
        lid_entries: dict[str, slice],
    ) -> np.ndarray:
        """Scale a model field.

        Args:
            field: its name.
            ids: (k,) simulations.
            values: (k, ...) of the field in their models.
            lid_entries: which entries of a field by body or joint are the lid's, by field.

        Returns:
            (k, ...) scaled values; `values` itself if the level does not scale the field.
        """
        if field not in self.fields:
            return values
        factor = self.values[_SCALED_BY[field]][ids]  # (k,)
        factor = factor.reshape(-1, *[1] * (values.ndim - 1))  # (k, 1, ...)
        entries = lid_entries.get(field, slice(None))
        scaled = values.copy()
        scaled[:, entries] *= factor
        return scaled

    def delayed(self, action: np.ndarray) -> np.ndarray:
        """The actions (n, 5) that arrive now, when `action` (n, 5) is sent."""
        if "delay" not in self.varied:
            return action
        known = np.concatenate((action[:, None], self._sent), 1)  # (n, 1 + late, 5)
        late = np.floor(self.values["delay"] + 0.5).astype(int)  # (n,) control steps
        self._sent[:] = known[:, :-1]
        return np.take_along_axis(known, late[:, None, None], 1)[:, 0]

    def pushes(self) -> np.ndarray | None:
        """Forces on the hands in this control step, (n, 3) N, world frame; None without any."""
        if "push" not in self.varied:
            return None
        chance = np.zeros(self.n)
        way = np.zeros(self.n)  # rad
        for i, rng in enumerate(self._generators()):
            chance[i] = rng.random()
            if chance[i] < _PUSH_PROBABILITY:
                way[i] = rng.uniform(-np.pi, np.pi)
        return self.push_of(chance, way)

    def push_of(self, chance: np.ndarray, way: np.ndarray) -> np.ndarray:
        """Forces on the hands, (n, 3) N, world frame.

        Args:
            chance: (n,) drawn from [0, 1).
            way: (n,) rad, drawn where that is below the probability of a push.
        """
        strength = self.values["push"] * (chance < _PUSH_PROBABILITY)  # (n,) N
        return np.stack((strength * np.cos(way), strength * np.sin(way), 0.0 * strength), 1)

    def noise(self, ids: np.ndarray, size: int) -> np.ndarray | None:
        """Noise of the scaled state observation; None without any.

        Args:
            ids: (k,) simulations that are observed: the others draw nothing.
            size: numbers of an observation.

        Returns:
            (n, size), 0 where nothing is observed.
        """
        if "noise" not in self.varied:
            return None
        noise = np.zeros((self.n, size))
        rngs = self._generators()
        for i in ids:
            noise[i] = rngs[i].normal(size=size)
        return self.noise_of(noise)

    def noise_of(self, normal: np.ndarray) -> np.ndarray:
        """Noise (n, size) of the scaled states, of draws (n, size) with deviation 1."""
        return self.values["noise"][:, None] * normal

    def pictured(self) -> dict[str, np.ndarray] | None:
        """The values (n,) of the quantities that act on pictures; None where none varies."""
        if not any(name in PICTURED for name in self.varied):
            return None
        return {name: self.values[name] for name in PICTURED}

    def _generators(self) -> list[np.random.Generator]:
        """One generator for each simulation that has been reset: by now all that are used."""
        return cast(list[np.random.Generator], self._rngs)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Every number, as arrays that `restore` takes; checkpoints hold them by these names."""
        draws = self.level or self.disturbed
        words = np.zeros((self.n if draws else 0, WORDS), np.uint64)
        for i, rng in enumerate(self._rngs):
            if rng is not None:
                words[i] = generator_words(rng)
        snapshot: dict[str, np.ndarray] = {}
        snapshot |= {name: self.values[name].copy() for name in self.varied}
        snapshot["late"] = self._sent[:, 0].copy()
        if self._sent.shape[1] > 1:
            snapshot["later"] = self._sent[:, 1:].copy()
        snapshot["rngs"] = words  # zeros of a simulation that has not been reset
        return snapshot

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Return to a snapshot."""
        for name in self.varied:
            self.values[name][:] = snapshot[name]
        self._sent[:, 0] = snapshot["late"]
        if "later" in snapshot:
            self._sent[:, 1:] = snapshot["later"]
        for i, words in enumerate(snapshot["rngs"].tolist()):
            self._rngs[i] = generator_of(words) if any(words) else None


def generator_words(rng: np.random.Generator) -> list[int]:
    """The state of a PCG64 generator in WORDS numbers of 64 bits, for `generator_of`.

    Its two numbers of 128 bits, upper halves first, and then the half of a draw that `integers`,
    `choice`, `shuffle` and others keep for the next call, with a bit above it that says whether
    there is one.
    """
    found = rng.bit_generator.state
    state, increment = found["state"]["state"], found["state"]["inc"]
    half = found["has_uint32"] << 32 | found["uinteger"]
    return [state >> 64, state & _WORD, increment >> 64, increment & _WORD, half]


def generator_of(words: list[int]) -> np.random.Generator:
    """The generator with the numbers of `generator_words`."""
    state_upper, state_lower, increment_upper, increment_lower, half = words
    rng = np.random.default_rng()
    rng.bit_generator.state = {
        **rng.bit_generator.state,
        "state": {
            "state": state_upper << 64 | state_lower,
            "inc": increment_upper << 64 | increment_lower,
        },
        "has_uint32": half >> 32 & 1,
        "uinteger": half & _HALF,
    }
    return rng


def with_halves(snapshot: Any) -> Any:
    """A snapshot of `Variation` where it is of an older version, whose generators had no halves."""
    words = snapshot.get("rngs") if isinstance(snapshot, Mapping) else None
    if not isinstance(words, np.ndarray) or words.shape[1:] != (WORDS - 1,):
        return snapshot
    return {**snapshot, "rngs": np.insert(words, WORDS - 1, 0, axis=1)}
