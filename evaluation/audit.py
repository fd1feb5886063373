"""The adversary: a search for progress that no hand made, and films of its nearest misses."""

from __future__ import annotations

import dataclasses

import numpy as np
from gymnasium.vector import AutoresetMode

from envs import CLOSURES, ClosureVectorEnv
from envs.batch import HOLD_FORCE
from envs.rewards import HELD_SHARE
from evaluation.protocol import Act

KNOTS = 8  # actions of a plan, each held for an eighth of it
STEPS = 32  # control steps of a plan
_SLACK = 0.05  # of the way: contact is seen once per control step


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the search found on one row.

    Attributes:
        candidates: plans that were tried.
        cheats: successes while more than 1 - HELD_SHARE of the way had been made with no
            finger on the lid, by the search's own account; must be 0.
        honest: successes under contact: the closure was really opened.
        untouched: most progress that any plan made without the fingers, in [0, 1]: the
            palm can turn a cap or lift a lid, which is no success.
        plan: (KNOTS, 5) the actions that made it.
    """

    candidates: int
    cheats: int
    honest: int
    untouched: float
    plan: np.ndarray


def search(name: str, seed: int, population: int = 200, rounds: int = 10) -> Finding:
    """Cross-entropy method for progress without contact, from one start.

    Args:
        name: a row.
        seed: of the start and of the search.
        population: plans per round; the best tenth shapes the next round's.
        rounds: of the search.
    """
    rng = np.random.default_rng(seed)
    env = ClosureVectorEnv(name, population, autoreset_mode=AutoresetMode.DISABLED)
    mean, spread = np.zeros((KNOTS, 5)), np.full((KNOTS, 5), 0.8)
    cheats = honest = 0
    best, best_plan = -np.inf, mean
    for _ in range(rounds):
        plans = np.clip(mean + spread * rng.normal(size=(population, KNOTS, 5)), -1, 1)
        _, info = env.reset(seed=[seed] * population)
        score, cheated, touches = np.zeros(population), np.zeros(population, bool), touching(env)
        for step in range(STEPS):
            before, touched = info["progress"], touches
            _, _, _, _, info = env.step(plans[:, step * KNOTS // STEPS])
            gain, touches = info["progress"] - before, touching(env)
            score += np.where(touched | touches, np.minimum(gain, 0), gain)
            cheated |= info["success"] & (score > 1 - HELD_SHARE + _SLACK)
        cheats += int(cheated.sum())
        honest += int((info["success_any"] & ~cheated).sum())
        if score.max() > best:
            best, best_plan = float(score.max()), plans[score.argmax()]
        elite = plans[np.argsort(score)[-population // 10 :]]
        mean, spread = elite.mean(0), elite.std(0) + 0.05
    env.close()
    return Finding(population * rounds, cheats, honest, max(best, 0.0), best_plan)


def touching(env: ClosureVectorEnv) -> np.ndarray:
    """Whether a finger is on the lid, bool (n,)."""
    return (env.batch.measure()["touch"] > HOLD_FORCE).any(1)


def replay(plan: np.ndarray):
    """A plan as a policy of `protocol.evaluate` and `video.record`; it stays still afterwards."""

    def make(env: ClosureVectorEnv) -> Act:
        step = -1

        def act(observation, task) -> np.ndarray:
            nonlocal step
            step += 1
            return np.tile(
                plan[step * KNOTS // STEPS] if step < STEPS else [0, 0, 0, 0, 1.0], (len(task), 1)
            )

        return act

    return make


def rows() -> list[str]:
    """Rows that need contact at all."""
    return [name for name, c in CLOSURES.items() if c.mechanism != "reach"]
