"""Which row each world opens, and which start it takes next: in turn, trial by trial."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def check_worlds(n: int, rows: int) -> None:
    """Refuse fewer worlds than rows: some rows would never be opened.

    Raises:
        ValueError: they are.
    """
    if n < rows:
        raise ValueError(f"{rows} rows need at least {rows} worlds, one each, not {n}")


class Turns:
    """World i opens row i modulo the number of rows, in every episode.

    The worlds of a row take its trials in turn: of one closure, with a start for each attempt.

    Args:
        n: number of worlds.
        rows: number of rows.
        trials: of each row, after which the first comes again.
        attempts: starts of a trial.
        device: where they are.

    Attributes:
        task: (n,) int64, index of the worlds' rows.
        attempt: (n,) int64, which of its trial each present episode is, from 0.

    Raises:
        ValueError: fewer worlds than rows.
    """

    def __init__(self, n: int, rows: int, trials: int, attempts: int, device: torch.device):
        check_worlds(n, rows)
        world = np.arange(n)
        self._trials = trials
        self._attempts = attempts
        self.task = torch.as_tensor(world % rows, device=device)
        self.attempt = torch.zeros_like(self.task)
        self._present = torch.zeros_like(self.task)
        # of the trials of its row, which a world takes next: it shares them with others
        self._first = torch.as_tensor(world // rows, device=device)
        self._next = self._first.clone()
        self._sharing = torch.as_tensor((n - world % rows + rows - 1) // rows, device=device)

    def memory(self) -> dict[str, Tensor]:
        """What is remembered, live, by name."""
        return {"attempt": self.attempt, "present": self._present, "next": self._next}

    def rewind(self) -> None:
        """Begin with the first trials again."""
        self._next.copy_(self._first)

    def take(self, chosen: Tensor, going_on: Tensor) -> Tensor:
        """Give the chosen worlds their next starts.

        Args:
            chosen: bool (n,), the worlds that begin an episode.
            going_on: bool (n,), those that go on with their trial, unless it has ended.

        Returns:
            (n,) int64, index of each world's start; of others, the one that they have.
        """
        goes_on = going_on & (self.attempt + 1 < self._attempts)
        begins = chosen & ~goes_on
        attempt = torch.where(goes_on, self.attempt + 1, 0)
        self.attempt.copy_(torch.where(chosen, attempt, self.attempt))
        self._present.copy_(torch.where(begins, self._next, self._present))
        self._next += self._sharing * begins
        trial = self.task * self._trials + self._present % self._trials
        return trial * self._attempts + self.attempt
