"""What varies from episode to episode beside pose and variant: one table of levels.

A level is a table of ranges, uniform, drawn anew for every episode. `default` is
empty: evaluation varies nothing that is not in the rows and the starts.
"""

from __future__ import annotations

import numpy as np

Range = tuple[float, float]

# name -> range and unit
RANDOMISED = {
    "friction": (0.7, 1.3),  # factor on every contact's friction
    "breakaway": (0.8, 1.25),  # factor on the lid's own friction
    "mass": (0.7, 1.4),  # factor on the lid's mass and inertia
    "gains": (0.9, 1.1),  # factor on the servos' stiffness
    "noise": (0.0, 0.01),  # deviation of the scaled state observation
    "delay": (0.0, 1.0),  # control steps by which actions arrive late, rounded
    "push": (0.0, 8.0),  # N, sideways on the hand, in one control step of twenty
}
LEVELS: dict[str, dict[str, Range]] = {
    "default": {},
    "randomised": RANDOMISED,
    "tilted": {"tilt": (0.0, 0.35)},  # rad between the lid's axis and the vertical
    "shelf": {"raise": (0.04, 0.10)},  # m of the container above the table
}
_PUSH_SHARE = 0.05  # of the control steps
_NEUTRAL = {"friction": 1.0, "breakaway": 1.0, "mass": 1.0, "gains": 1.0}
# model field -> what scales it; body and joint fields only where they are the lid's
_SCALED = {
    "geom_friction": "friction",
    "dof_frictionloss": "breakaway",
    "body_mass": "mass",
    "body_inertia": "mass",
    "actuator_gainprm": "gains",
    "actuator_biasprm": "gains",
}


class Variation:
    """The numbers of one level, for n simulations.

    Attributes:
        values: name -> (n,), neutral where the level does not vary it.
        fields: model fields that the level scales.
    """

    def __init__(self, level: dict[str, Range], n: int):
        self.level, self.n = level, n
        names = (*RANDOMISED, "tilt", "raise", "tilt_way")
        self.values = {name: np.full(n, _NEUTRAL.get(name, 0.0)) for name in names}
        self.fields = [f for f, name in _SCALED.items() if name in level]
        self._late = np.zeros((n, 5))
        self._rngs: list[np.random.Generator | None] = [None] * n

    def draw(self, ids: np.ndarray, rngs: list[np.random.Generator]) -> None:
        """New values for the simulations ids, from their generators; nothing is drawn at level `default`."""
        for i, rng in zip(ids, rngs, strict=True):
            for name, (low, high) in self.level.items():
                self.values[name][i] = rng.uniform(low, high)
            if self.level:
                self.values["tilt_way"][i] = rng.uniform(-np.pi, np.pi)
                self._rngs[i] = np.random.default_rng(rng.integers(2**63))
        self._late[ids] = 0.0
        self._late[ids, 4] = 1.0  # fingers open

    def scale(
        self, field: str, ids: np.ndarray, values: np.ndarray, lid: dict[str, slice]
    ) -> np.ndarray:
        """A model field (k, ...) of simulations ids, scaled; `lid` says which entries are the lid's."""
        if field not in self.fields:
            return values
        factor = self.values[_SCALED[field]][ids].reshape(-1, *[1] * (values.ndim - 1))
        part = lid.get(field, slice(None))
        values = values.copy()
        values[:, part] *= factor
        return values

    def delayed(self, action: np.ndarray) -> np.ndarray:
        """The actions (n, 5) that arrive now."""
        if "delay" not in self.level:
            return action
        now = np.where((self.values["delay"] >= 0.5)[:, None], self._late, action)
        self._late[:] = action
        return now

    def pushes(self) -> np.ndarray | None:
        """Force (n, 3) on the hands in this control step (N), or None."""
        if "push" not in self.level:
            return None
        force = np.zeros((self.n, 3))
        for i, rng in enumerate(self._rngs):
            if rng.random() < _PUSH_SHARE:
                way = rng.uniform(-np.pi, np.pi)
                force[i, :2] = self.values["push"][i] * np.array([np.cos(way), np.sin(way)])
        return force

    def noisy(self, state: np.ndarray) -> np.ndarray:
        """The state observation (n, size) with its noise."""
        if "noise" not in self.level:
            return state
        noise = np.stack([rng.normal(size=state.shape[1]) for rng in self._rngs])
        return (state + self.values["noise"][:, None] * noise).astype(np.float32)

    def snapshot(self) -> dict[str, np.ndarray]:
        """Every number, as arrays that `restore` takes."""
        rngs = [r.bit_generator.state["state"] for r in self._rngs if r is not None]
        words = [
            [x >> 64, x & (2**64 - 1), y >> 64, y & (2**64 - 1)]
            for x, y in ((r["state"], r["inc"]) for r in rngs)
        ]
        return {
            **{k: v.copy() for k, v in self.values.items()},
            "late": self._late.copy(),
            "rngs": np.array(words, np.uint64).reshape(-1, 4),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Return to a snapshot."""
        for k, column in self.values.items():
            column[:] = snapshot[k]
        self._late[:] = snapshot["late"]
        for i, (a, b, c, d) in enumerate(snapshot["rngs"].tolist()):
            self._rngs[i] = np.random.default_rng()
            state = self._rngs[i].bit_generator.state
            state["state"] = {"state": a << 64 | b, "inc": c << 64 | d}
            self._rngs[i].bit_generator.state = state
