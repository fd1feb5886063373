"""The control: stable-baselines3's PPO as it comes, on our environment as it is."""

from __future__ import annotations

import torch
from stable_baselines3.common.policies import MultiInputActorCriticPolicy

from agents.config import NetworkConfig
from agents.ppo import TimedPPO
from agents.vec_env import TaskVecEnv


class PlainPolicy(MultiInputActorCriticPolicy):
    """stable-baselines3's policy for Dict observations: all parts side by side, two hidden layers of 64 tanh units."""

    num_tasks, network, popart = 1, NetworkConfig(), False  # as a checkpoint tells them

    def act(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean actions (n, a)."""
        return self._predict(
            {name: obs[name] for name in self.observation_space.spaces}, deterministic=True
        )


def make_plain_ppo(env: TaskVecEnv, seed: int) -> TimedPPO:
    """PPO with stable-baselines3's settings but for `n_steps`: rollouts as long as ours, for batches of 64 environments."""
    return TimedPPO(PlainPolicy, env, n_steps=80, seed=seed, device="cpu")
