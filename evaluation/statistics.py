"""Statistics: pure functions, with an explicit Generator where they draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np


def wilson(successes: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a rate (Wilson, 1927); 95 % by default.

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            f"need 0 <= successes <= trials and trials >= 1, not {successes} of {trials}"
        )
    p, n = successes / trials, trials
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    scores: np.ndarray, rng: np.random.Generator, draws: int = 2000
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of scores (runs x tasks), resampling runs."""
    scores = np.atleast_2d(scores)
    picks = rng.integers(len(scores), size=(draws, len(scores)))
    low, high = np.percentile(scores[picks].mean(axis=(1, 2)), [2.5, 97.5])
    return float(low), float(high)


def steps_to_threshold(
    steps: Sequence[int], success: Sequence[float], threshold: float = 0.8
) -> int | None:
    """First env step at which a learning curve reaches the threshold; None when it never does (censored)."""
    return next((int(s) for s, y in zip(steps, success, strict=True) if y >= threshold), None)


def area(steps: Sequence[int], success: Sequence[float]) -> float:
    """Mean height of a learning curve: its area over its range of steps."""
    if len(steps) < 2:
        return float(success[0])
    return float(np.trapezoid(success, steps) / (steps[-1] - steps[0]))


def iqm(scores: np.ndarray) -> float:
    """Interquartile mean of all entries of scores (runs x tasks): a quarter is cut at each end (Agarwal et al., 2021).

    Raises:
        ValueError: no scores.
    """
    ordered = np.sort(np.asarray(scores, float), axis=None)
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
    """95 % percentile bootstrap interval of a statistic of scores (runs x tasks), resampling runs for each task by itself."""
    scores = np.atleast_2d(scores)
    picks = rng.integers(len(scores), size=(draws, *scores.shape))
    low, high = np.percentile(
        [statistic(np.take_along_axis(scores, pick, 0)) for pick in picks], [2.5, 97.5]
    )
    return float(low), float(high)
