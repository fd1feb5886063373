"""How far evaluations are, seen by counting what their policies do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uncap.envs import ClosureVectorEnv
from uncap.evaluation.protocol import Act, Policy


class Watch:
    """Shows how far evaluations are, by counting the control steps of their policies.

    Args:
        episodes: of all evaluations together.
        report: called with (phase, done, total, text).
        phase: what they are called.
    """

    def __init__(
        self,
        episodes: int,
        report: Callable[[str, float, float, str], None],
        phase: str = "evaluation",
    ):
        self.episodes = episodes
        self.report = report
        self.phase = phase
        self.done = 0.0  # episodes, parts of those that run included
        report(phase, 0, episodes, "")

    def over(self, policy: Policy) -> Policy:
        """The policy, watched."""

        def watched(env: ClosureVectorEnv) -> Act:
            act = policy(env)
            longest = int(env.max_steps.max())  # control steps: all wait for it

            def act_and_count(observation: dict[str, np.ndarray], task: np.ndarray) -> np.ndarray:
                self.done = min(self.episodes, self.done + env.num_envs / longest)
                self.report(self.phase, self.done, self.episodes, "")
                return act(observation, task)

            return act_and_count

        return watched

    def end(self) -> None:
        """Show that all is done: short episodes wait for none."""
        self.report(self.phase, self.episodes, self.episodes, "")
