"""Fields of the worlds' models: those of their variants, with the lids held or free."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from uncap.envs.batch import MECHANISM_FIELDS, STAGE_FIELDS
from uncap.envs.device.arrays import Array, tensor_of, wrapped
from uncap.envs.device.tables import Gathered
from uncap.envs.variation import Variation


class Fields:
    """Writes what differs between variants into the engine's fields, world by world.

    A field that the engine does not have for every world, `geom_type` of MuJoCo Warp say, is not
    among its arrays.

    Args:
        tables: (2 x variants, ...) by name, as the engine has them: with the lids held, then with
            the lids free, see `models.Models.fields`.
        arrays: the engine's, (n, ...) by name.
        variation: whose factors the fields are scaled by; its values are Arrays.
        lid_entries: which entries of a field by body or joint are the lid's, by field.
        floats: type of the tables on the device.
    """

    def __init__(
        self,
        tables: Mapping[str, np.ndarray],
        arrays: Mapping[str, Tensor],
        variation: Variation,
        lid_entries: Mapping[str, slice],
        floats: torch.dtype,
    ):
        self._variants = len(next(iter(tables.values()))) // 2
        self._variation = variation
        self._floats = floats
        self._lid_entries = dict(lid_entries)
        groups: dict[str, dict[str, np.ndarray]] = {"variant": {}, "lid": {}, "mechanism": {}}
        for name, table in tables.items():
            if name in arrays:
                groups[self._kind(name, table)][name] = table.astype(float)
        self._groups = {
            name: Gathered(group, arrays, floats) for name, group in groups.items() if group
        }

    def _kind(self, name: str, table: np.ndarray) -> str:
        """What the field depends on: the variant; whether the lid is free; or also its touch."""
        if name in MECHANISM_FIELDS:
            return "mechanism"
        held, free = np.split(table, 2)
        depends = name in STAGE_FIELDS or not np.array_equal(held, free)
        return "lid" if depends else "variant"

    def write(self, variant: Array, touched: Array, released: Array, *, all_: bool) -> None:
        """Write the fields.

        Args:
            variant: (n,) index of each world's variant.
            touched: bool (n,), whether the robot has touched the closure.
            released: bool (n,), whether the lid is free.
            all_: those, too, that stay until an episode ends.
        """
        free = {
            "variant": variant,
            "lid": variant + self._variants * released,
            "mechanism": variant + self._variants * (released | ~touched),
        }
        for kind, group in self._groups.items():
            if kind != "variant" or all_:
                for name, value in group.of(tensor_of(free[kind])).items():
                    group.targets[name].copy_(self._scaled(name, value))

    def _scaled(self, name: str, values: Tensor) -> Tensor:
        """Values (n, ...) of a field, with the worlds' factors."""
        array = wrapped(values, self._floats)
        return tensor_of(self._variation.scale(name, slice(None), array, self._lid_entries))
