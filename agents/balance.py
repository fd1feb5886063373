"""Balance between tasks: value normalisation (PopArt), and which task is practised next.

A sampling is a function from the tasks' success rates (tasks,), nan where unknown, to
probabilities (tasks,); to add one, give it a row in `SAMPLINGS` of `agents/tables.py`.
"""

from __future__ import annotations

import numpy as np
import torch

from uncap.agents.networks import MultiTaskPolicy, PerTaskHead

_LEAST_VARIANCE = 1e-4  # rewards squared: of returns that hardly differ


class PopArt:
    """Values normalised per task, with outputs preserved.

    After van Hasselt et al. (2016); per task: Hessel et al. (2019). The policy's critic gives
    normalised values. Its last layer is corrected whenever the statistics move, so that the values
    in rewards stay the same.

    Args:
        policy: with a critic that has a head per task.
        rate: share of a rollout in the running mean and mean square of returns.

    Raises:
        ValueError: the critic's head is shared.
    """

    def __init__(self, policy: MultiTaskPolicy, rate: float = 0.1):
        if not isinstance(policy.critic.head, PerTaskHead):
            raise ValueError("PopArt needs a critic with a head per task")
        self.policy = policy
        self.rate = rate

    def update(self, task: int, returns: np.ndarray) -> None:
        """Move the task's statistics towards those of its returns (k,), in rewards."""
        mean = self.policy.value_mean[task].item()
        std = self.policy.value_std[task].item()
        square = std**2 + mean**2
        new_square = (1 - self.rate) * square + self.rate * float((returns**2).mean())
        new_mean = (1 - self.rate) * mean + self.rate * float(returns.mean())
        new_std = max(new_square - new_mean**2, _LEAST_VARIANCE) ** 0.5
        head = self.policy.critic.head
        with torch.no_grad():
            head.weight[task] *= std / new_std
            head.bias[task] = (std * head.bias[task] + mean - new_mean) / new_std
            self.policy.value_mean[task] = new_mean
            self.policy.value_std[task] = new_std


def uniform(success: np.ndarray) -> np.ndarray:
    """Every task as often."""
    return np.full(len(success), 1 / len(success))


def by_failure(success: np.ndarray) -> np.ndarray:
    """More of what is not yet solved.

    Nine tenths of the episodes are in proportion to the failure rate, where an unknown rate
    counts as failure; the rest is the same for all.
    """
    failure = 1.0 - np.nan_to_num(success) + 1e-6  # (tasks,); never all 0
    return 0.9 * failure / failure.sum() + 0.1 / len(failure)


def zipf(success: np.ndarray) -> np.ndarray:
    """A long tail: the k-th task of the set is practised 1/k as often as the first."""
    share = 1.0 / np.arange(1, len(success) + 1)  # (tasks,)
    return share / share.sum()
