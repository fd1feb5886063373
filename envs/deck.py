"""Which task is practised next, so that every task gets the same number of control steps."""

from __future__ import annotations

import numpy as np

from uncap.envs.variation import generator_of, generator_words


class Deck:
    """A shuffled deck of tasks: of those with the fewest control steps so far, any one is next.

    With episodes of one length, every task is dealt once before any is dealt again. Where
    lengths differ, a task with short episodes is dealt more often.

    Args:
        steps: (tasks,) control steps of an episode of each task.
        rng: shuffles.

    Attributes:
        dealt: (tasks,) control steps of the episodes that were dealt.
    """

    def __init__(self, steps: np.ndarray, rng: np.random.Generator):
        self._steps = np.asarray(steps)
        self._rng = rng
        self.dealt = np.zeros(len(self._steps), np.int64)

    def deal(self, count: int) -> np.ndarray:
        """The tasks (count,) of the next episodes."""
        return np.array([self._next() for _ in range(count)], np.int64)

    def _next(self) -> int:
        fewest = np.flatnonzero(self.dealt == self.dealt.min())
        task = int(fewest[int(self._rng.random() * len(fewest))])
        self.dealt[task] += self._steps[task]
        return task

    def snapshot(self) -> dict[str, np.ndarray]:
        """Every number, as arrays that `restore` takes; checkpoints hold them by these names."""
        return {
            "dealt": self.dealt.copy(),
            "rng": np.array(generator_words(self._rng), np.uint64),
        }

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Return to a snapshot."""
        self.dealt[:] = snapshot["dealt"]
        self._rng = generator_of(snapshot["rng"].tolist())
