"""A scripted opener that is not told which closure it has: it tries, notices and remembers.

It takes the closure for one of the rows that look like it and does what their expert would do.
Where it holds the lid and works, and the lid does not go that way, the hypothesis is dropped, for
the rest of the trial. It is the baseline of every policy that finds out by trying.
"""

from __future__ import annotations

import numpy as np

from uncap.envs.closures import CLOSURES, groups
from uncap.envs.experts import expert_action
from uncap.envs.mechanisms import MECHANISMS
from uncap.envs.vector_env import ClosureVectorEnv

PATIENCE = 12  # control steps without progress, of a lid that is held, until a guess is dropped
PROGRESS = 0.02  # that counts as some


class Searcher:
    """Opens closures of an environment by trying what they could be.

    Args:
        env: rows that look alike are each other's hypotheses; a row without twins is known.

    Attributes:
        alive: bool (n, hypotheses), what each closure may still be.
        guess: (n,) index among the hypotheses, of what it is taken for now.
    """

    def __init__(self, env: ClosureVectorEnv):
        self.env = env
        self.hypotheses = _hypotheses(env.tasks)  # (tasks, h) indices of tasks; -1: no more
        n, most = env.num_envs, self.hypotheses.shape[1]
        self.alive = np.zeros((n, most), bool)
        self.guess = np.zeros(n, np.int64)
        self._stuck = np.zeros(n, np.int64)  # control steps without progress
        self._reached = np.zeros(n)  # progress, of the present guess
        self._trial = np.full((n, 3), -1)  # task, variant, attempt

    def act(self) -> np.ndarray:
        """Actions (n, 5) for the environment's present states."""
        self._notice_new_episodes()
        rows = np.arange(self.env.num_envs)
        taken_for = self.hypotheses[self.env.task, self.guess]  # (n,)
        measured = self.env.batch.measure_as(taken_for)
        self._judge(measured)
        changed = self.hypotheses[self.env.task, self.guess] != taken_for
        if changed.any():
            taken_for = self.hypotheses[self.env.task, self.guess]
            measured = self.env.batch.measure_as(taken_for)
            self._reached[changed] = measured["progress"][rows[changed]]
        return expert_action(measured)

    def _notice_new_episodes(self) -> None:
        """Forget everything where a trial begins, and how far the lid was where an attempt does."""
        env = self.env
        now = np.column_stack([env.task, env.batch.variant, env.attempt])
        begins = env.steps == 0  # (n,) an episode
        new_trial = begins & ((now[:, 2] == 0) | (now[:, :2] != self._trial[:, :2]).any(1))
        self.alive[new_trial] = self.hypotheses[env.task[new_trial]] >= 0
        self.guess[new_trial] = 0
        self._stuck[begins] = 0
        self._reached[begins] = 0.0
        self._trial = now

    def _judge(self, measured: dict[str, np.ndarray]) -> None:
        """Drop the guesses that were tried for long enough, without progress."""
        progress = measured["progress"]
        moves = progress > self._reached + PROGRESS
        self._reached = np.where(moves, progress, self._reached)
        trying = measured["holds"] & (progress < 1.0)
        self._stuck = np.where(moves, 0, self._stuck + trying)
        wrong = np.flatnonzero((self._stuck >= PATIENCE) & (self.alive.sum(1) > 1))
        self.alive[wrong, self.guess[wrong]] = False
        self.guess[wrong] = self.alive[wrong].argmax(1)
        self._stuck[wrong] = 0


def _hypotheses(tasks: tuple[str, ...]) -> np.ndarray:
    """What each task may be, (tasks, most): indices of tasks in the order of trying; -1 behind.

    What must be pressed is tried first: pressing a lid that need not be pressed does no harm.
    """
    index = {name: k for k, name in enumerate(tasks)}
    found = {}
    for group in groups(tasks).values():
        order = sorted(group, key=lambda name: not _is_pressed(name))
        for name in group:
            found[name] = [index[other] for other in order]
    most = max(map(len, found.values()))
    return np.array([found[name] + [-1] * (most - len(found[name])) for name in tasks])


def _is_pressed(name: str) -> bool:
    """Whether a row's lid is kept down while it opens."""
    return any(stage.pressed for stage in MECHANISMS[CLOSURES[name].mechanism].stages)
