"""The numbers of compiled variants, held and free, kept for the process.

A variant compiles to two models: its lid held, and its lid free. Hundreds of rows have thousands
of models, which differ in a few numbers, and validations need the same ones again. So a variant is
compiled once, what its models do not share with the others is kept, and the models themselves are
dropped.
"""

# mujoco's extension modules come without stubs: pyright knows none of their names
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import mujoco
import mujoco.batch
import numpy as np

from uncap.envs.scene import build, mechanism_of
from uncap.envs.structure import Variant

Numbers = dict[str, np.ndarray]  # fields of a model, by name
_Key = tuple[Variant, str]

# Fields of a lid that has come off, the same whatever it was; `mj_setConst` makes what follows of
# them (inertia matrix, inverse weights) as MuJoCo's compiler does
FREED = (
    "dof_armature",
    "dof_damping",
    "dof_frictionloss",
    "jnt_limited",
    "jnt_range",
    "jnt_stiffness",
    "qpos_spring",
)
MOST_KEPT = 8192  # variants, about 15 kB each: the oldest ones that are not used go
_NOT_PHYSICS = ("eq_active0", "names_map", "geom_rgba")  # states or labels, not read while stepping


class Models:
    """Compiles variants and keeps what differs of them.

    Args:
        most: variants that are kept.

    Attributes:
        compiled: variants so far that were compiled, again where they had gone.
    """

    def __init__(self, most: int = MOST_KEPT):
        self.most = most
        self.compiled = 0
        self._common: Numbers = {}  # of the first model of all: others keep what differs from it
        self._freed: Numbers = {}  # `FREED` of a free lid
        self._kept: OrderedDict[_Key, tuple[Numbers, Numbers]] = OrderedDict()  # held, free

    def fields(self, pool: Sequence[Variant], always: Iterable[str] = ()) -> Numbers:
        """The fields in which the models of a pool differ.

        Args:
            pool: variants.
            always: further fields, whether they differ or not.

        Returns:
            (2 x variants, ...) by name: those with the lids held, then those with the lids free.
        """
        held, free = zip(*self._models(pool), strict=True)
        models = [*held, *free]
        found = {}
        for name in dict.fromkeys((*self._differing(models), *always)):
            common = self._common[name]
            values = np.empty((len(models), *common.shape), common.dtype)
            for value, model in zip(values, models, strict=True):
                value[...] = model.get(name, common)
            found[name] = values
        return found

    def _differing(self, models: Sequence[Numbers]) -> list[str]:
        """Names of the fields in which models differ, in their order."""
        names = set().union(*models)
        found = []
        for name in sorted(names):
            first, *others = [model.get(name, self._common[name]) for model in models]
            if any(other is not first and not np.array_equal(first, other) for other in others):
                found.append(name)
        return found

    def _models(self, pool: Sequence[Variant]) -> list[tuple[Numbers, Numbers]]:
        """What the variants' models have of their own, held and free."""
        found = []
        for variant in pool:
            key = (variant, repr(mechanism_of(variant)))
            if key not in self._kept:
                self._kept[key] = self._compile(variant)
            self._kept.move_to_end(key)
            found.append(self._kept[key])
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
        return found

    def _compile(self, variant: Variant) -> tuple[Numbers, Numbers]:
        self.compiled += 1
        model = build(variant).compile()
        if not self._common:
            self._begin(variant, model)
        held = self._own(model, {})
        self._set_free(model)
        return held, self._own(model, held)

    def _begin(self, variant: Variant, model: mujoco.MjModel) -> None:
        """Note what models have in common, and what free lids have."""
        named = {name: getattr(model, name, None) for name in sorted(mujoco.batch.MODEL_FIELDS)}
        self._common = {
            name: value.copy()
            for name, value in named.items()
            if isinstance(value, np.ndarray) and value.size and name not in _NOT_PHYSICS
        }
        free = build(variant, free=True).compile()
        self._freed = {name: getattr(free, name).copy() for name in FREED}

    def _set_free(self, model: mujoco.MjModel) -> None:
        """Make a model with the lid held one with the lid free."""
        for name, value in self._freed.items():
            getattr(model, name)[:] = value
        mujoco.mj_setConst(model, mujoco.MjData(model))

    def _own(self, model: mujoco.MjModel, like: Numbers) -> Numbers:
        """What a model has of its own; arrays of `like` where they are the same."""
        own = {}
        for name, common in self._common.items():
            value = getattr(model, name)
            if value.tobytes() != common.tobytes():
                same = name in like and like[name].tobytes() == value.tobytes()
                own[name] = like[name] if same else value.copy()
        return own


MODELS = Models()
