"""A rollout in tensors, and its advantages."""

from __future__ import annotations

import torch
from torch import Tensor

from uncap.agents.device.sums import TaskSums
from uncap.agents.device.worlds import Tensors
from uncap.agents.ppo import ADVANTAGE_FLOOR


class Rollout:
    """What happened in the last control steps, in memory that is made once.

    Args:
        steps: control steps of a rollout.

    Attributes:
        columns: (steps, n, ...) by name.
    """

    def __init__(self, steps: int):
        self.steps = steps
        self.columns: Tensors = {}

    def write(self, step: int, values: Tensors) -> None:
        """Copy values (n, ...) by name of a step."""
        for name, value in values.items():
            if name not in self.columns:
                self.columns[name] = value.new_empty(self.steps, *value.shape)
            self.columns[name][step] = value


def advantages(
    reward: Tensor, value: Tensor, last_value: Tensor, ended: Tensor, gamma: float, decay: float
) -> Tensor:
    """Generalised advantages (Schulman et al., 2016).

    Episodes end by time only. What would have followed is worth the value of the state in which
    one was cut off; that state is observed in the step after, in which its world restarts.

    Args:
        reward: (steps, n).
        value: (steps, n), of the states before each step.
        last_value: (n,), of the states after the last.
        ended: bool (steps, n), whether a step was the last of an episode.
        gamma: discount per control step.
        decay: lambda.

    Returns:
        (steps, n). Those of steps in which a world restarts mean nothing.
    """
    following = torch.cat([value[1:], last_value[None]])  # (steps, n)
    error = reward + gamma * following - value  # (steps, n)
    found = torch.empty_like(error)
    later = torch.zeros_like(last_value)
    for step in reversed(range(len(error))):
        later = error[step] + gamma * decay * torch.where(ended[step], 0.0, later)
        found[step] = later
    return found


def normalised(advantage: Tensor, running: Tensor, sums: TaskSums) -> Tensor:
    """Advantages with mean 0 and deviation 1 within each task, see `ppo.TaskRolloutBuffer`.

    Args:
        advantage: (steps, n).
        running: bool (steps, n), whether a step belonged to an episode; others do not count.
        sums: over the worlds of each task.
    """
    task = sums.task
    count = sums(running).clamp(min=1)  # (tasks,)
    mean = sums(advantage * running) / count
    centred = advantage - mean[task]  # (steps, n)
    spread = (sums(centred**2 * running) / count).sqrt().clamp(min=ADVANTAGE_FLOOR)
    return (centred / spread[task]).to(advantage.dtype)
