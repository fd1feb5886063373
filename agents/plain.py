"""The control: stable-baselines3's PPO as it comes, on the environment as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3.common.policies import MultiInputActorCriticPolicy

from uncap.agents.algorithm import Algorithm
from uncap.agents.config import LearnerConfig, NetworkConfig
from uncap.agents.ppo import TimedPPO
from uncap.agents.vec_env import TaskVecEnv

ROLLOUT = 80  # control steps per environment and update, as in `PPOConfig`: for 64 environments


class PlainPolicy(MultiInputActorCriticPolicy):
    """stable-baselines3's policy for Dict observations: two hidden layers of 64 tanh units."""

    num_tasks = 1  # what a checkpoint says of the other algorithms' policies
    network = NetworkConfig()
    popart = False

    def act(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean actions (n, a)."""
        parts = {name: obs[name] for name in self.observation_space.spaces}  # pyright: ignore[reportAttributeAccessIssue] - a Dict
        return self._predict(parts, deterministic=True)


class PlainPPO(Algorithm):
    """stable-baselines3's PPO with its own settings, but for the length of a rollout."""

    policy_class = PlainPolicy
    plain = True
    takes_memory = False
    groups = ()
    fixed = {
        "warm_start": "none",
        "transfer_steps": 0,
        "rule": "sum",
        "popart": False,
        "cosines": False,
    }

    @classmethod
    def build(cls, env: TaskVecEnv, config: LearnerConfig, seed: int) -> TimedPPO:
        """Make the model."""
        return TimedPPO(PlainPolicy, env, n_steps=ROLLOUT, seed=seed, device="cpu")

    @classmethod
    def build_policy(cls, observation_space: Any, action_space, meta) -> PlainPolicy:
        """Make an untrained policy."""
        return PlainPolicy(observation_space, action_space, lambda _: 0.0)

    def warm_start(self, teach: Callable[[Any], None]) -> None:
        """Refuse: it learns from scratch.

        Raises:
            ValueError: always.
        """
        raise ValueError("plain_ppo learns from scratch: --warm-start none")
