"""Multi-task PPO: stable-baselines3's, with advantages normalised per task."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer

from agents.networks import MultiTaskPolicy
from agents.vec_env import TaskVecEnv


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; the same for every task."""

    learning_rate: float = 3e-4
    warm_learning_rate: float = 5e-5  # of the actor after a warm start or at a transfer; the critic keeps learning_rate
    rollout: int = 80  # control steps per environment and update
    warm_rollout: int = 320  # after a warm start: near the top, gradients of few episodes are noise
    minibatches: int = 8  # per epoch
    epochs: int = 4
    gamma: float = 0.98
    gae_lambda: float = 0.95
    clip: float = 0.2
    target_kl: float = 0.02
    deviation: float = 0.5  # initial standard deviation of the actions, from scratch
    warm_deviation: float = 0.04  # after a warm start or at a transfer
    critic_warmup: int = 5  # updates that train the critic alone, after a warm start
    head: str = "shared"
    width: int = 256


# Smallest deviation that advantages are divided by, in deviations of the return: on a
# task that is solved, advantages are the critic's noise, and unit noise unlearns it.
ADVANTAGE_FLOOR = 0.3


class TaskRolloutBuffer(DictRolloutBuffer):
    """Rollout buffer whose advantages have mean 0 and deviation 1 within each task."""

    def compute_returns_and_advantage(self, last_values, dones) -> None:
        """Generalised advantages, then normalisation over each task's share of the rollout."""
        super().compute_returns_and_advantage(last_values, dones)
        task = self.observations["index"][..., 0]  # (steps, n)
        for t in np.unique(task):
            own = task == t
            spread = max(self.advantages[own].std(), ADVANTAGE_FLOOR)
            self.advantages[own] = (self.advantages[own] - self.advantages[own].mean()) / spread


class MultiTaskPPO(PPO):
    """PPO whose critic has a learning rate of its own, and can train alone for the first updates.

    A policy that was learned elsewhere is tuned gently; its critic starts from nothing
    and must be quick, or its errors unlearn the policy.
    """

    critic_warmup = 0
    critic_learning_rate = 3e-4

    def _update_learning_rate(self, optimizers) -> None:
        super()._update_learning_rate(optimizers)
        self.policy.optimizer.param_groups[1]["lr"] = self.critic_learning_rate

    def train(self) -> None:
        """One update; while the critic warms up the actor stands still."""
        warming = self.critic_warmup > 0
        frozen = [*self.policy.actor.parameters(), self.policy.log_std] if warming else []
        for p in frozen:
            p.requires_grad_(False)
        super().train()
        for p in frozen:
            p.requires_grad_(True)
        self.critic_warmup = max(0, self.critic_warmup - 1)
        with torch.no_grad():
            self.policy.log_std.clamp_(np.log(0.03), np.log(1.0))


def make_ppo(env: TaskVecEnv, config: PPOConfig, seed: int, warm: bool) -> MultiTaskPPO:
    """A learner for env; `warm` when its policy will not start from nothing."""
    rate = config.warm_learning_rate if warm else config.learning_rate
    rollout = config.warm_rollout if warm else config.rollout
    algorithm = MultiTaskPPO(
        MultiTaskPolicy, env, learning_rate=rate, n_steps=rollout, batch_size=rollout * env.num_envs // config.minibatches,
        n_epochs=config.epochs, gamma=config.gamma, gae_lambda=config.gae_lambda, clip_range=config.clip,
        target_kl=config.target_kl, normalize_advantage=False, rollout_buffer_class=TaskRolloutBuffer, seed=seed,
        device="cpu", policy_kwargs={"num_tasks": len(env.env.tasks), "head": config.head, "width": config.width,
                                     "deviation": config.warm_deviation if warm else config.deviation},
    )  # fmt: skip
    algorithm.critic_learning_rate = config.learning_rate
    algorithm.critic_warmup = config.critic_warmup if warm else 0
    return algorithm
