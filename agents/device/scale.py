"""Rewards scaled by the deviation of each task's return, on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from uncap.agents.device.sums import TaskSums
from uncap.agents.vec_env import VARIANCE_FLOOR


class DeviceReturnScale:
    """The counterpart of `vec_env.ReturnScale`, where a world may pause between two episodes.

    Args:
        sums: over the worlds of each task.
        gamma: discount per control step.

    Attributes:
        returns: (n,) discounted return of each present episode.
        count: (tasks,) returns seen.
        mean: (tasks,) of the returns.
        m2: (tasks,) sum of their squared deviations from the mean.
    """

    def __init__(self, sums: TaskSums, gamma: float):
        device = sums.task.device
        self._sums = sums
        self.gamma = gamma
        self.returns = torch.zeros(len(sums.task), dtype=torch.float64, device=device)
        self.count = torch.full((len(sums),), 1e-4, dtype=torch.float64, device=device)
        self.mean = torch.zeros_like(self.count)
        self.m2 = torch.zeros_like(self.count)

    def memory(self) -> dict[str, Tensor]:
        """What is remembered, by name."""
        return {name: getattr(self, name) for name in ("returns", "count", "mean", "m2")}

    def __call__(self, reward: Tensor, ended: Tensor, running: Tensor) -> Tensor:
        """Scale rewards (n,), and learn from those of the steps that belong to an episode.

        Args:
            reward: (n,) of a step.
            ended: bool (n,), whether it was the last of an episode.
            running: bool (n,), whether it belonged to one.
        """
        task = self._sums.task
        self.returns = self.returns * self.gamma + reward
        count = self._sums(running)  # (tasks,), of this step
        mean = self._sums(self.returns * running) / count.clamp(min=1)
        m2 = self._sums((self.returns - mean[task]) ** 2 * running)
        delta = mean - self.mean
        total = self.count + count
        self.m2 += m2 + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count = total
        self.returns = torch.where(ended, 0.0, self.returns)
        deviation = (self.m2 / self.count + VARIANCE_FLOOR).sqrt()  # (tasks,)
        return (reward / deviation[task]).to(reward.dtype)
