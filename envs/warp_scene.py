"""A scene for MuJoCo Warp, which has shapes' types and whether joints are limited once for all.

Where variants differ in them, a shape of another type is a further one, and those that a
simulation does not have are tiny, inside the one that it has; and a joint that is limited in some
variants is limited in all, with limits that it never reaches in the others.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's compiled names have no stubs)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np

from uncap.envs.engines import Scene

TINY = 1e-3  # m, half a side of a shape that a simulation does not have
FAR = 1e3  # m or rad: a limit that no joint reaches
_LIKE_ITS_TWIN = (  # attributes of a further shape, beside its place
    "contype",
    "conaffinity",
    "condim",
    "priority",
    "friction",
    "solmix",
    "solref",
    "solimp",
    "margin",
    "gap",
    "group",
)


class WarpScene:
    """The models of a scene as Warp can have them.

    Args:
        scene: what the models are of.

    Attributes:
        model: an MjModel with all shapes, and all joints limited that are limited in any variant.
    """

    def __init__(self, scene: Scene):
        self._types = _types_of(scene)  # of each shape, those that variants have
        self._limited = scene.model.jnt_limited.copy()  # (joints,) where no variant differs
        self.model = self._compile(scene)
        further = [self.model.geom(name).id for name in self._names]
        number = self.model.ngeom
        # (shapes,) which of the scene's shapes each stands for
        self._stands_for = np.empty(number, np.int64)
        own = np.setdiff1d(np.arange(number), further)
        self._stands_for[own] = np.arange(len(own))
        self._stands_for[further] = self._twins
        if "jnt_limited" in scene.fields:
            self.model.jnt_limited[:] = scene.fields["jnt_limited"].any(0)

    def _compile(self, scene: Scene) -> Any:
        """The scene's model, with the further shapes."""
        spec = scene.spec()
        self._names: list[str] = []  # of the further shapes
        self._twins: list[int] = []  # ids of the shapes that they stand for
        for shape, types in self._types.items():
            for number in types:
                name = f"shape_{shape}_{number}"
                _add_further(spec, scene.model.geom(shape).name, name, number)
                self._names.append(name)
                self._twins.append(shape)
        return spec.compile()

    def converted(self, name: str, values: np.ndarray, fields: Mapping[str, np.ndarray]) -> Any:
        """Values of a model field as this model has them.

        Args:
            name: the field.
            values: (n, ...) as the scene's models have them.
            fields: the other fields (n, ...) that simulations have of their own, by name.

        Returns:
            (n, ...).
        """
        if name == "jnt_range":
            limited = fields.get("jnt_limited", self._limited).astype(bool)  # (joints,) or (n, ..)
            return np.where(limited[..., None], values, (-FAR, FAR))
        if not name.startswith("geom_") or "geom_type" not in fields:
            return values
        spread = values[:, self._stands_for]  # (n, shapes, ...)
        missing = fields["geom_type"][:, self._stands_for] != self.model.geom_type
        if name == "geom_size":
            spread[missing] = TINY
        elif name == "geom_rbound":
            spread[missing] = np.sqrt(3) * TINY
        elif name == "geom_aabb":  # centre and half sizes
            spread[missing] = (0.0, 0.0, 0.0, TINY, TINY, TINY)
        return spread


def _types_of(scene: Scene) -> dict[int, list[int]]:
    """By shape, the types of it that the first variant does not have."""
    if "geom_type" not in scene.fields:
        return {}
    found = {}
    for shape, first in enumerate(scene.model.geom_type):
        further = sorted(set(scene.fields["geom_type"][:, shape].tolist()) - {int(first)})
        if further:
            found[shape] = further
    return found


def _add_further(spec: Any, name: str, further: str, number: int) -> None:
    """Add a tiny shape of another type to the body of the one with a name."""
    twin = spec.geom(name)
    added = twin.parent.add_geom(
        name=further,
        type=mujoco.mjtGeom(number),
        pos=twin.pos,
        size=(TINY, TINY, TINY),
        mass=0,
    )
    for attribute in _LIKE_ITS_TWIN:
        setattr(added, attribute, getattr(twin, attribute))
