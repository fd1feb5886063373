"""Starts of episodes, made by the CPU's batch from its streams of numbers, and kept on a device.

A start asks for kinematics, for the hand to be placed above a lid; and every world of an engine
would have to wait for those that start. So starts are made beforehand, and a world takes one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from uncap.envs.batch import ClosureBatch
from uncap.envs.device.arrays import Array, tensor_of, wrapped
from uncap.envs.device.tables import Gathered
from uncap.envs.variation import QUANTITIES, Variation

# MuJoCo's arrays that an episode starts with: the state, and what follows of it
STATE = ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat", "qacc_warmstart")
DERIVED = ("site_xpos", "site_xmat", "sensordata", "xanchor", "xaxis")


class Starts:
    """Starts of episodes on a device.

    Args:
        drawn: numbers of the starts, (starts, ...) by name: see `numbers_of`.
        arrays: the engine's, (n, ...) by name; those among them that a start has are written.

    Attributes:
        variant: (starts,) int64, index in the batch's pool.
    """

    def __init__(self, drawn: Mapping[str, np.ndarray], arrays: Mapping[str, Tensor]):
        qpos = arrays["qpos"]
        state = {name: drawn[name] for name in (*STATE, *DERIVED) if name in arrays}
        self.variant = torch.as_tensor(drawn["variant"], device=qpos.device)
        self._state = Gathered(state, arrays, qpos.dtype)
        self._values = {  # of what varies
            name: torch.as_tensor(drawn[name], dtype=qpos.dtype, device=qpos.device)
            for name in QUANTITIES
            if name in drawn
        }

    def replace(self, drawn: Mapping[str, np.ndarray]) -> None:
        """Have other starts, as many, in the same memory."""
        self.variant.copy_(torch.as_tensor(drawn["variant"]))
        self._state.replace(drawn)
        for name, values in self._values.items():
            values.copy_(torch.as_tensor(drawn[name]))

    def write(self, chosen: Array, which: Tensor, variation: Variation) -> None:
        """Put the chosen worlds, bool (n,), where their starts which (n,) are."""
        for name, values in self._state.of(which).items():
            target = self._state.targets[name]
            mask = tensor_of(chosen).reshape(-1, *[1] * (target.ndim - 1))
            target.copy_(torch.where(mask, values, target))
        for name, values in self._values.items():
            np.copyto(variation.values[name], wrapped(values[which], values.dtype), where=chosen)
        variation.forget(chosen)


def numbers_of(batch: ClosureBatch) -> dict[str, np.ndarray]:
    """Copies (n, ...) by name of what starts a batch's simulations as they are, just reset."""
    state = {name: batch.sim.bind(name).astype(float) for name in (*STATE, *DERIVED)}
    values = {name: batch.variation.values[name].copy() for name in batch.variation.varied}
    return {**state, **values, "variant": batch.variant.copy()}


def draw_starts(
    batch: ClosureBatch, each: int, seed: int, attempts: int = 1
) -> dict[str, np.ndarray]:
    """Numbers of trials of every row, `each` of the first, then of the second, and so on.

    Args:
        batch: draws them; its simulations are reset.
        each: how many of each row.
        seed: the same seed gives the same starts, for any number of simulations.
        attempts: starts of each trial, which have the same variant.

    Returns:
        (rows x each x attempts, ...) by name.
    """
    task = np.repeat(np.arange(len(batch.names)), each)
    sequences = np.random.SeedSequence(seed).spawn(len(task))
    rounds = []
    for first in range(0, len(task), batch.n):
        own = task[first : first + batch.n]
        rngs = [np.random.default_rng(child) for child in sequences[first : first + batch.n]]
        rounds.append(_draw_trials(batch, own, rngs, attempts))
    return {name: np.concatenate([found[name] for found in rounds]) for name in rounds[0]}


def _draw_trials(
    batch: ClosureBatch, task: np.ndarray, rngs: list[np.random.Generator], attempts: int
) -> dict[str, np.ndarray]:
    """Numbers (k x attempts, ...) by name of trials of tasks (k,), one after the other."""
    k = len(task)
    found = []
    for attempt in range(attempts):
        batch.reset(np.arange(k), task, rngs, np.full(k, attempt > 0))
        found.append({name: values[:k] for name, values in numbers_of(batch).items()})
    stacked = {name: np.stack([own[name] for own in found], 1) for name in found[0]}
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in stacked.items()}
