"""Statistics of evaluations and learning curves: pure functions; those that draw get a Generator.

References:
    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.
    Taylor & Stone (2009), Transfer learning for reinforcement learning domains: a survey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

Z_95 = 1.959964  # 0.975 quantile of the standard normal distribution
PERCENTILES_95 = (2.5, 97.5)


def wilson(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a success rate (Wilson, 1927).

    Args:
        successes: how many of the trials succeeded.
        trials: at least one.
        z: quantile of the standard normal distribution; by default that of 95 %.

    Returns:
        The interval's ends, in [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"need 0 <= successes <= trials and trials >= 1, not {successes} of {trials}"
        )
    rate = successes / trials
    shrinkage = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / shrinkage
    spread = math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    half_width = z / shrinkage * spread
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: a quarter of all scores is cut at each end (Agarwal et al., 2021).

    Args:
        scores: of any shape, for example (runs, tasks).

    Raises:
        ValueError: no scores.
    """
    ordered = np.sort(np.asarray(scores, float), axis=None)  # (scores,)
    if not len(ordered):
        raise ValueError("need at least one score")
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def stratified_bootstrap(
    scores: np.ndarray,
    rng: np.random.Generator,
    statistic: Callable[[np.ndarray], float] = iqm,
    draws: int = 2000,
) -> tuple[float, float]:
    """95 % percentile bootstrap interval with tasks as strata (Agarwal et al., 2021).

    Runs are resampled for each task independently of the other tasks.

    Args:
        scores: (runs, tasks).
        rng: of the resampling.
        statistic: of scores of that shape.
        draws: how many resamples.
    """
    scores = np.atleast_2d(scores)
    picks = rng.integers(len(scores), size=(draws, *scores.shape))  # (draws, runs, tasks)
    values = [statistic(np.take_along_axis(scores, pick, axis=0)) for pick in picks]
    return _percentile_interval(values)


def _percentile_interval(values: np.ndarray | Sequence[float]) -> tuple[float, float]:
    low, high = np.percentile(values, PERCENTILES_95)
    return float(low), float(high)


def steps_to_threshold(
    steps: Sequence[int], success: Sequence[float], threshold: float = 0.8
) -> int | None:
    """Time to threshold of a learning curve (Taylor & Stone, 2009).

    Args:
        steps: (points,) environment steps.
        success: (points,) success at each.
        threshold: success that has to be reached.

    Returns:
        The first point's steps with at least that success; None if there is none (censored).
    """
    for count, value in zip(steps, success, strict=True):
        if value >= threshold:
            return int(count)
    return None


def area(steps: Sequence[int], success: Sequence[float]) -> float:
    """Area under a learning curve (Taylor & Stone, 2009), divided by its range of steps.

    Args:
        steps: (points,) environment steps, ascending.
        success: (points,) success at each.

    Returns:
        The curve's mean height by the trapezoidal rule; the height of a single point.
    """
    if len(steps) < 2:
        return float(success[0])
    return float(np.trapezoid(success, steps) / (steps[-1] - steps[0]))
