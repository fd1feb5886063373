"""Transfer: what a trained policy is worth on a closure it never saw, against learning from scratch.

The target is learned by reinforcement alone; its expert is used by the third learner
only, `few_shot`, which clones a few of its episodes first. All learners get the same
environment, budget and evaluation starts, and the same PPO but for what their
beginnings ask for: a pretrained policy is tuned gently (`warm_*` and `critic_warmup`
in `PPOConfig`), the one from scratch explores with the full rate. What the source
cost, its own steps and its own tasks' experts, is not part of the budget.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from agents.config import DaggerConfig, PPOConfig
from agents.learner import Learner, acting
from agents.networks import MultiTaskPolicy
from envs import CLOSURES
from evaluation.protocol import EVALUATION_SEED, evaluate, summary
from evaluation.statistics import area, steps_to_threshold, wilson

THRESHOLD = 0.8  # success at which a target counts as learned


@dataclasses.dataclass(frozen=True)
class TransferConfig:
    """Budget and resolution of a transfer; the same for the pretrained policy and for scratch."""

    env_steps: int = 400_000  # per learner, rounded up to whole rollouts
    points: int = 8  # evaluations along each curve, after the one at 0 steps
    episodes: int = 50  # per evaluation
    num_envs: int = 64
    seeds: int = 1
    few_shot: int = 0  # expert episodes on the target for a third learner; 0: no such learner


def transfer(
    source: MultiTaskPolicy,
    conditioning: str,
    target: str,
    config: TransferConfig,
    ppo: PPOConfig,
    seed: int,
    on_point: Callable[[str, int, float], None],
    stop: Callable[[], bool] = lambda: False,
) -> dict | None:
    """Fine-tune on the target and learn it from scratch, with the same budget.

    Args:
        source: the trained policy.
        conditioning: what it was told; must be able to describe an unseen closure.
        target: a held-out row.
        config: budget.
        ppo: settings of every learner.
        seed: of the first learner; each further one adds 1.
        on_point: called with (learner, env steps, success) after each evaluation.
        stop: asked after each update whether to end early.

    Returns:
        The target's entry of results.json: zero-shot success with its interval,
        curves, steps to 80 % (None: not reached within the budget), jumpstart, areas.
        None when `stop` ended it.
    """
    began = time.perf_counter()
    curves: dict[str, list] = {
        "pretrained": [],
        "scratch": [],
        **({"few_shot": []} if config.few_shot else {}),
    }
    for k in range(config.seeds):
        for name, curve in curves.items():
            curve.append(
                _curve(
                    source,
                    name,
                    conditioning,
                    target,
                    config,
                    ppo,
                    seed + k,
                    lambda steps, y, name=name: on_point(name, steps, y),
                    stop,
                )
            )
            if stop():
                return None
    first = curves["pretrained"][0]
    wins = round(first["success"][0] * config.episodes)
    low, high = wilson(wins, config.episodes)
    mean = {name: np.mean([c["success"] for c in curve], axis=0) for name, curve in curves.items()}
    return {
        "zero_shot": first["success"][0],
        "zero_shot_low": low,
        "zero_shot_high": high,
        "episodes": config.episodes,
        "budget": config.env_steps,
        "seeds": config.seeds,
        "few_shot": config.few_shot,
        "threshold": THRESHOLD,
        "curves": curves,
        "steps_to_threshold": {
            n: [steps_to_threshold(c["steps"], c["success"], THRESHOLD) for c in cs]
            for n, cs in curves.items()
        },
        "final": {name: float(y[-1]) for name, y in mean.items()},
        "jumpstart": float(mean["pretrained"][0] - mean["scratch"][0]),
        "area": {name: area(curves[name][0]["steps"], y) for name, y in mean.items()},
        "wall_seconds": time.perf_counter() - began,
    }


def _curve(
    source,
    name: str,
    conditioning: str,
    target: str,
    config: TransferConfig,
    ppo: PPOConfig,
    seed: int,
    on_point,
    stop,
) -> dict:
    warm = name != "scratch"
    learner = Learner(
        (target,),
        conditioning=conditioning,
        ppo=ppo,
        network=source.network,
        num_envs=config.num_envs,
        seed=seed,
        warm=warm,
    )
    if warm:
        learner.policy.adopt(source)
        learner.ppo.policy.log_std.data.fill_(float(np.log(ppo.warm_deviation)))
    if name == "few_shot":
        _imitate(learner, conditioning, target, config.few_shot, ppo, seed)
    steps, success = [], []

    def point() -> None:
        table = evaluate(
            acting(learner.policy, (target,)),
            (target,),
            config.episodes,
            conditioning=conditioning,
            seed=EVALUATION_SEED,
        )
        steps.append(learner.env_steps)
        success.append(summary(table)["mean_success"])
        on_point(steps[-1], success[-1])

    point()
    for k in range(1, config.points + 1):
        learner.learn(config.env_steps * k // config.points, lambda: not stop())
        if stop():
            break
        point()
    return {"seed": seed, "steps": steps, "success": success}


def _imitate(
    learner: Learner, conditioning: str, target: str, episodes: int, ppo: PPOConfig, seed: int
) -> None:
    """Clone `episodes` episodes of the target's expert into the learner's policy."""
    steps = CLOSURES[target].steps
    teacher = Learner(
        (target,),
        conditioning=conditioning,
        ppo=ppo,
        network=learner.policy.network,
        num_envs=episodes,
        seed=seed + 10_000,
        warm=True,
    )
    teacher.policy.adopt(learner.policy)
    teacher.warm_start(
        DaggerConfig(
            steps_per_task=episodes * steps, rollout=steps, updates=300, learning_rate=3e-4
        ),
        lambda *_: True,
    )
    learner.policy.adopt(teacher.policy)
