"""The adversary: a search for progress that no hand made, and films of its nearest misses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from gymnasium.vector import AutoresetMode

from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.measures import HOLD_FORCE
from uncap.envs.mechanisms import MECHANISMS
from uncap.envs.rewards import HELD_SHARE
from uncap.evaluation.protocol import Act, Policy

KNOTS = 8  # actions of a plan, each held for an eighth of it
STEPS = 32  # control steps of a plan
_ACTIONS = 5  # numbers of an action
_FIRST_SPREAD = 0.8  # of the actions of the first round, in [-1, 1]
_LEAST_SPREAD = 0.05  # added in later rounds, so that the search does not end early
_ELITE = 10  # the best tenth shapes the next round
_STILL = np.array([0, 0, 0, 0, 1.0])  # the arm stays where it is, the fingers open
_SLACK = 0.05  # of the way: contact is seen once per control step


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the search found on one row.

    Attributes:
        candidates: plans that were tried.
        cheats: successes for which more than 1 - HELD_SHARE of the way was made without a
            finger on the lid, by the search's own account; must be 0.
        honest: successes under contact: the closure was really opened.
        untouched: most progress that any plan made without the fingers, in [0, 1]. The
            palm can turn a cap or lift a lid; that is no success.
        plan: (KNOTS, 5) the actions that made it.
    """

    candidates: int
    cheats: int
    honest: int
    untouched: float
    plan: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What each plan of a round came to, (population,) each."""

    score: np.ndarray  # progress made without a finger on the lid
    cheated: np.ndarray  # bool: success while the score was above what is allowed
    honest: np.ndarray  # bool: success otherwise


def search(
    name: str,
    seed: int,
    population: int = 200,
    rounds: int = 10,
    engine: str = "cpu",
    on_round: Callable[[int, int], object] = lambda done, total: None,
) -> Finding:
    """Cross-entropy method for progress without contact, from one start.

    Each round draws plans from a normal distribution, and fits it to the best tenth of them
    (Rubinstein, "The Cross-Entropy Method for Combinatorial and Continuous Optimization", 1999).

    Args:
        name: a row.
        seed: of the start and of the search.
        population: plans per round.
        rounds: of the search.
        engine: what runs the simulations, a row of `uncap.envs.engines.ENGINES`.
        on_round: called with (rounds done, all of them) after each.

    Returns:
        What was found.
    """
    rng = np.random.default_rng(seed)
    env = ClosureVectorEnv(name, population, autoreset_mode=AutoresetMode.DISABLED, engine=engine)
    mean = np.zeros((KNOTS, _ACTIONS))
    spread = np.full((KNOTS, _ACTIONS), _FIRST_SPREAD)
    cheats = 0
    honest = 0
    best_score = -np.inf
    best_plan = mean
    for done in range(1, rounds + 1):
        noise = rng.normal(size=(population, KNOTS, _ACTIONS))
        plans = np.clip(mean + spread * noise, -1, 1)  # (population, KNOTS, 5)
        trial = _try(env, plans, seed)
        cheats += int(trial.cheated.sum())
        honest += int(trial.honest.sum())
        if trial.score.max() > best_score:
            best_score = float(trial.score.max())
            best_plan = plans[trial.score.argmax()]
        elite = plans[np.argsort(trial.score)[-population // _ELITE :]]
        mean = elite.mean(0)
        spread = elite.std(0) + _LEAST_SPREAD
        on_round(done, rounds)
    env.close()
    return Finding(population * rounds, cheats, honest, max(best_score, 0.0), best_plan)


def _try(env: ClosureVectorEnv, plans: np.ndarray, seed: int) -> _Trial:
    """Follow plans (n, KNOTS, 5), one per sub-environment, all from the same start."""
    n = len(plans)
    _, info = env.reset(seed=[seed] * n)
    score = np.zeros(n)
    cheated = np.zeros(n, bool)
    touched_after = touching(env)
    for step in range(STEPS):
        progress = info["progress"]
        touched_before = touched_after
        _, _, _, _, info = env.step(plans[:, step * KNOTS // STEPS])
        touched_after = touching(env)
        gain = info["progress"] - progress
        # a step with a finger on the lid earns nothing, but what it loses counts
        score += np.where(touched_before | touched_after, np.minimum(gain, 0), gain)
        cheated |= info["success"] & (score > 1 - HELD_SHARE + _SLACK)
    return _Trial(score, cheated, info["success_any"] & ~cheated)


def touching(env: ClosureVectorEnv) -> np.ndarray:
    """Whether a finger is on the lid, bool (n,)."""
    forces = env.batch.measure()["touch"]  # (n, 2) N
    return np.any(forces > HOLD_FORCE, axis=1)


class _Replay:
    """Acts a plan out, then stays still."""

    def __init__(self, plan: np.ndarray):
        self.plan = plan
        self.step = 0

    def __call__(self, observation: dict[str, np.ndarray], task: np.ndarray) -> np.ndarray:
        action = self.plan[self.step * KNOTS // STEPS] if self.step < STEPS else _STILL
        self.step += 1
        return np.tile(action, (len(task), 1))


def replay(plan: np.ndarray) -> Policy:
    """A plan (KNOTS, 5) as a policy of `protocol.evaluate` and `video.record`."""

    def policy(env: ClosureVectorEnv) -> Act:
        return _Replay(plan)

    return policy


def rows() -> list[str]:
    """Rows that need contact at all."""
    return [name for name, row in CLOSURES.items() if MECHANISMS[row.mechanism].contact != "none"]
