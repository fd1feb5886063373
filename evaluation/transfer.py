"""Transfer: what a trained policy is worth on a closure it never saw, against scratch.

The target is learned by reinforcement alone; its expert is used by the third learner only,
`few_shot`, which clones a few of its episodes first. All learners get the same environment, budget
and evaluation starts, and the same PPO but for what their beginnings ask for: a pretrained policy
is tuned gently (`warm_*` and `critic_warmup` in `PPOConfig`), the one from scratch explores with
the full rate. What the source cost, its own steps and its own tasks' experts, is not part of the
budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from agents.config import DaggerConfig, LearnerConfig, PPOConfig
from agents.learner import Acting, Learner
from envs import CLOSURES
from evaluation.config import TransferConfig
from evaluation.protocol import EVALUATION_SEED, evaluate, summary
from evaluation.statistics import area, steps_to_threshold, wilson
from evaluation.training import Session

THRESHOLD = 0.8  # success at which a target counts as learned
TEACHER_SEED = 10_000  # added to the seed of a few-shot learner, for its teacher's starts
FEW_SHOT_UPDATES, FEW_SHOT_RATE = 300, 3e-4  # minibatches and learning rate of its cloning

OnPoint = Callable[[str, int, float], None]  # (kind of learner, env steps, success)


def learner_kinds(config: TransferConfig) -> tuple[str, ...]:
    """The learners of a transfer."""
    few_shot = ("few_shot",) if config.few_shot else ()
    return ("pretrained", "scratch", *few_shot)


def transfer(
    source: Any, conditioning: Any, target: str, session: Session, on_point: OnPoint
) -> dict | None:
    """Fine-tune on the target and learn it from scratch, with the same budget.

    Args:
        source: the trained policy.
        conditioning: what it was told; must be able to describe an unseen closure.
        target: a held-out row.
        session: the job; its seed is the first learner's, and each further one adds 1.
        on_point: called with (kind of learner, env steps, success) after each evaluation.

    Returns:
        The target's entry of results.json: zero-shot success with its interval, curves, steps to
        80 % (None: not reached within the budget), jumpstart, areas. None if stopped.
    """
    began = time.perf_counter()
    config = session.config.transfer
    kinds = learner_kinds(config)
    curves: dict[str, list[dict]] = {kind: [] for kind in kinds}
    for number in range(config.seeds):
        for kind in kinds:
            curve = Curve(source, conditioning, target, session, session.seed + number, kind)
            curves[kind].append(curve.measure(on_point))
            if session.stop():
                return None
    return {**_measures(curves, config), "wall_seconds": time.perf_counter() - began}


class Curve:
    """The learning curve of one learner on the target.

    Args:
        source: the trained policy.
        conditioning: what it was told.
        target: a row.
        session: the job.
        seed: of this learner.
        kind: pretrained, scratch or few_shot.
    """

    def __init__(
        self, source: Any, conditioning: Any, target: str, session: Session, seed: int, kind: str
    ):
        self.conditioning = conditioning
        self.target = target
        self.session = session
        self.config = session.config.transfer
        self.ppo: PPOConfig = session.config.ppo
        self.network = source.network
        self.seed = seed
        self.kind = kind
        warm = kind != "scratch"
        self.learner = self._make_learner(self.config.num_envs, seed, warm)
        if warm:
            self.learner.policy.adopt(source)
            deviation = float(np.log(self.ppo.warm_deviation))
            self.learner.policy.log_std.data.fill_(deviation)
        if kind == "few_shot":
            self._clone_expert(self.config.few_shot)

    def _make_learner(self, num_envs: int, seed: int, warm: bool) -> Learner:
        config = LearnerConfig(
            conditioning=self.conditioning,
            num_envs=num_envs,
            warm=warm,
            network=self.network,
            ppo=self.ppo,
        )
        return Learner((self.target,), config, seed)

    def _clone_expert(self, episodes: int) -> None:
        """Clone episodes of the target's expert into the learner's policy."""
        steps = CLOSURES[self.target].steps
        config = DaggerConfig(
            steps_per_task=episodes * steps,
            rollout=steps,
            updates=FEW_SHOT_UPDATES,
            learning_rate=FEW_SHOT_RATE,
        )
        teacher = self._make_learner(episodes, self.seed + TEACHER_SEED, warm=True)
        teacher.policy.adopt(self.learner.policy)
        teacher.imitate_experts(config, lambda *_: True)
        self.learner.policy.adopt(teacher.policy)

    def measure(self, on_point: OnPoint) -> dict:
        """Learn, and evaluate along the way."""
        points = [self._point(on_point)]
        for number in range(1, self.config.points + 1):
            steps = self.config.env_steps * number // self.config.points
            self.learner.learn(steps, lambda: not self.session.stop())
            if self.session.stop():
                break
            points.append(self._point(on_point))
        steps, success = zip(*points, strict=True)
        return {"seed": self.seed, "steps": list(steps), "success": list(success)}

    def _point(self, on_point: OnPoint) -> tuple[int, float]:
        """Environment steps so far, and success."""
        table = evaluate(
            Acting(self.learner.policy, (self.target,)),
            (self.target,),
            self.config.episodes,
            conditioning=self.conditioning,
            seed=EVALUATION_SEED,
        )
        point = self.learner.env_steps, summary(table)["mean_success"]
        on_point(self.kind, *point)
        return point


def _measures(curves: dict[str, list[dict]], config: TransferConfig) -> dict[str, Any]:
    """What is read off the curves."""
    zero_shot = curves["pretrained"][0]["success"][0]
    low, high = wilson(round(zero_shot * config.episodes), config.episodes)
    mean = {
        kind: np.mean([curve["success"] for curve in of_kind], axis=0)
        for kind, of_kind in curves.items()
    }
    reached = {
        kind: [steps_to_threshold(c["steps"], c["success"], THRESHOLD) for c in of_kind]
        for kind, of_kind in curves.items()
    }
    return {
        "zero_shot": zero_shot,
        "zero_shot_low": low,
        "zero_shot_high": high,
        "episodes": config.episodes,
        "budget": config.env_steps,
        "seeds": config.seeds,
        "few_shot": config.few_shot,
        "threshold": THRESHOLD,
        "curves": curves,
        "steps_to_threshold": reached,
        "final": {kind: float(success[-1]) for kind, success in mean.items()},
        "jumpstart": float(mean["pretrained"][0] - mean["scratch"][0]),
        "area": {kind: area(curves[kind][0]["steps"], success) for kind, success in mean.items()},
    }
