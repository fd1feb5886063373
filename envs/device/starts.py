"""Starts of episodes, made by the CPU's batch from its streams of numbers, and kept on a device.

A start asks for kinematics, for the hand to be placed above a lid; and every world of an engine
would have to wait for those that start. So starts are made beforehand, and a world takes one.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from uncap.envs.batch import ClosureBatch
from uncap.envs.device.arrays import Array, tensor_of, wrapped
from uncap.envs.device.tables import Gathered
from uncap.envs.variation import Variation

# MuJoCo's arrays that an episode starts with: the state, and what follows of it
STATE = ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat", "qacc_warmstart")
DERIVED = ("site_xpos", "site_xmat", "sensordata", "xanchor", "xaxis")


class Starts:
    """Starts of episodes on a device.

    Args:
        batch: its simulations as they are, just reset, are the starts.
        arrays: the engine's, (n, ...) by name; those among them that a start has are written.

    Attributes:
        variant: (starts,) int64, index in the batch's pool.
    """

    def __init__(self, batch: ClosureBatch, arrays: dict[str, Tensor]):
        qpos = arrays["qpos"]
        tables = {
            name: batch.sim.bind(name).astype(float)
            for name in (*STATE, *DERIVED)
            if name in arrays
        }
        self.variant = torch.as_tensor(batch.variant.copy(), device=qpos.device)
        self._state = Gathered(tables, arrays, qpos.dtype)
        self._values = {
            name: torch.as_tensor(batch.variation.values[name], dtype=qpos.dtype).to(qpos.device)
            for name in batch.variation.varied
        }

    def write(self, chosen: Array, which: Tensor, variation: Variation) -> None:
        """Put the chosen worlds, bool (n,), where their starts which (n,) are."""
        for name, values in self._state.of(which).items():
            target = self._state.targets[name]
            mask = tensor_of(chosen).reshape(-1, *[1] * (target.ndim - 1))
            target.copy_(torch.where(mask, values, target))
        for name, values in self._values.items():
            np.copyto(variation.values[name], wrapped(values[which], values.dtype), where=chosen)
        variation.forget(chosen)
