"""Sums over the worlds of each task."""

from __future__ import annotations

import torch
from torch import Tensor


class TaskSums:
    """Adds up numbers of the worlds, task by task, in 64 bits and always in the same order.

    Args:
        task: (n,) index of each world's task.
        num_tasks: tasks.

    Attributes:
        task: as given.
    """

    def __init__(self, task: Tensor, num_tasks: int):
        self.task = task
        # a product of matrices: adding at indices has no fixed order on a GPU
        numbers = torch.arange(num_tasks, device=task.device)
        self._belongs = (numbers[:, None] == task).double()  # (tasks, n)

    def __len__(self) -> int:
        return len(self._belongs)

    def __call__(self, values: Tensor) -> Tensor:
        """Sums (tasks,) of values (n,), or of (steps, n) over the steps, too."""
        values = values.double()
        return self._belongs @ (values if values.ndim == 1 else values.sum(0))
