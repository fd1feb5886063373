"""Balance between tasks: values of one size (PopArt), and which task is practised next."""

from __future__ import annotations

import numpy as np
import torch

from agents.networks import MultiTaskPolicy, PerTaskHead


class PopArt:
    """Values normalised per task, outputs preserved (van Hasselt et al., 2016; per task: Hessel et al., 2019).

    The policy's critic gives normalised values; its last layer is corrected whenever the
    statistics move, so that what it says in rewards stays the same.

    Args:
        policy: with a critic that has a head per task.
        rate: share of a rollout in the running mean and mean square of returns.
    """

    def __init__(self, policy: MultiTaskPolicy, rate: float = 0.1):
        if not isinstance(policy.critic.head, PerTaskHead):
            raise ValueError("PopArt needs a critic with a head per task")
        self.policy, self.rate = policy, rate

    def update(self, task: int, returns: np.ndarray) -> None:
        """Move the task's statistics towards those of returns (k,), unnormalised."""
        mean, std = self.policy.value_mean[task].item(), self.policy.value_std[task].item()
        square = (1 - self.rate) * (std**2 + mean**2) + self.rate * float((returns**2).mean())
        new_mean = (1 - self.rate) * mean + self.rate * float(returns.mean())
        new_std = max(square - new_mean**2, 1e-4) ** 0.5
        head = self.policy.critic.head
        with torch.no_grad():
            head.weight[task] *= std / new_std
            head.bias[task] = (std * head.bias[task] + mean - new_mean) / new_std
            self.policy.value_mean[task], self.policy.value_std[task] = new_mean, new_std


def uniform(success: np.ndarray) -> np.ndarray:
    """Every task as often."""
    return np.full(len(success), 1 / len(success))


def by_failure(success: np.ndarray) -> np.ndarray:
    """More of what is not yet solved: in proportion to the failure rate, and a tenth of the episodes to all alike."""
    failure = 1.0 - np.nan_to_num(success) + 1e-6
    return 0.9 * failure / failure.sum() + 0.1 / len(failure)


def zipf(success: np.ndarray) -> np.ndarray:
    """A long tail: the k-th task of the set is practised 1/k as often as the first."""
    share = 1.0 / np.arange(1, len(success) + 1)
    return share / share.sum()
