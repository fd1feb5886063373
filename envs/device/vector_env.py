"""`DeviceClosures` as a Gymnasium vector environment: NumPy in, NumPy out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from uncap.envs import checks, observations
from uncap.envs.batch import CONTROL_DT
from uncap.envs.device.closures import DeviceClosures, Tensors
from uncap.envs.sensors import PICTURE_SHAPE
from uncap.envs.vector_env import ACTION_SIZE, Info, Observation


class DeviceVectorEnv(gym.vector.VectorEnv):
    """Steps all worlds on their device, and gives copies of what they return.

    Spaces, rewards, info and ends of episodes are those of `ClosureVectorEnv` in its mode
    NEXT_STEP. An action that is not finite is taken for 0 and counted in `invalid_action`.

    Args:
        closures: the worlds. Policies that take tensors step them without this class, and without
            a copy.
    """

    metadata: dict[str, Any] = {
        "render_modes": [],
        "render_fps": round(1 / CONTROL_DT),
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(self, closures: DeviceClosures):
        limit = observations.LIMIT
        self.closures = closures
        self.num_envs = len(closures.task)
        spaces: dict[str, gym.Space] = {
            name: gym.spaces.Box(-limit, limit, (size,), np.float32)
            for name, size in closures.sizes.items()
        }
        if closures.is_pictured:
            spaces["rgb"] = gym.spaces.Box(0, 255, PICTURE_SHAPE, np.uint8)
        self.single_observation_space = gym.spaces.Dict(spaces)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._was_reset = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin an episode in every world.

        Args:
            seed: see `DeviceClosures.reset`.
            options: there are none.

        Raises:
            ValueError: another seed than a whole number, or an option.
        """
        checks.options(options, ())
        self._was_reset = True
        return _outside(*self.closures.reset(seed))

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Advance every world by one control step (50 ms), see `ClosureVectorEnv.step`.

        Args:
            actions: (n, 5) in [-1, 1].

        Raises:
            ResetNeeded: before the first reset.
            ValueError: actions of another shape or type.
        """
        if not self._was_reset:
            raise gym.error.ResetNeeded("call reset() before step()")
        actions = checks.numbers("actions", actions)
        if actions.shape != (self.num_envs, ACTION_SIZE):
            raise ValueError(
                f"actions must have shape ({self.num_envs}, {ACTION_SIZE}), not {actions.shape}"
            )
        sent = torch.as_tensor(actions, device=self.closures.task.device)
        observation, reward, terminated, truncated, info = self.closures.step(sent)
        seen, known = _outside(observation, info)
        ends = (_copied(terminated), _copied(truncated))
        return seen, _copied(reward).astype(np.float64), *ends, known


def _outside(observation: Tensors, info: Tensors) -> tuple[Observation, Info]:
    """Copies in the processor's memory, of the types that the spaces say."""
    seen = {
        name: _copied(value.float() if value.is_floating_point() else value)
        for name, value in observation.items()
    }
    return seen, {name: _copied(value) for name, value in info.items()}


def _copied(values: Tensor) -> np.ndarray:
    """A copy: the next step overwrites the tensor."""
    return values.detach().to("cpu", copy=True).numpy()
