"""Statistics of evaluations and learning curves: pure functions; those that draw get a Generator.

References:
    Wilson (1927), Probable inference, the law of succession, and statistical inference.
    McNemar (1947), Note on the sampling error of the difference between correlated proportions.
    Newcombe (1998), Improved confidence intervals for the difference between binomial proportions
        based on paired data.
    Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice.
    Kaplan and Meier (1958), Nonparametric estimation from incomplete observations.
    Taylor & Stone (2009), Transfer learning for reinforcement learning domains: a survey.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import CensoredData, binomtest, ecdf

Z_95 = 1.959964  # 0.975 quantile of the standard normal distribution
PERCENTILES_95 = (2.5, 97.5)
Interval = tuple[float, float, float]  # a value, and the ends of its interval


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


def pooled(rates: Iterable[tuple[float, int]]) -> Interval:
    """Success over the episodes of some rows together, with its 95 % Wilson interval.

    Args:
        rates: success and number of episodes of each row.

    Raises:
        ValueError: no episodes.
    """
    rows = list(rates)
    episodes = sum(of_row for _, of_row in rows)
    successes = sum(round(success * of_row) for success, of_row in rows)
    low, high = wilson(successes, episodes)
    return successes / episodes, low, high


def mcnemar(lost: int, gained: int) -> float:
    """McNemar's exact test (McNemar, 1947): whether one of two paired conditions succeeds more.

    Args:
        lost: pairs that succeed under the first condition only.
        gained: pairs that succeed under the second only.

    Returns:
        The two-sided p-value; 1 without any such pair.

    Raises:
        ValueError: a negative number.
    """
    if min(lost, gained) < 0:
        raise ValueError(f"numbers of pairs must be at least 0, not {lost} and {gained}")
    if lost + gained == 0:
        return 1.0
    return float(binomtest(lost, lost + gained, 0.5).pvalue)


def paired_difference(
    both: int, lost: int, gained: int, neither: int
) -> tuple[float, float, float]:
    """Difference of two paired success rates with its 95 % interval (Newcombe, 1998, method 10).

    It combines the two Wilson intervals, with the correlation of the pairs.

    Args:
        both: pairs that succeed under both conditions.
        lost: pairs that succeed under the first only.
        gained: pairs that succeed under the second only.
        neither: pairs that succeed under none.

    Returns:
        Success under the second condition less that under the first, and the interval's ends.

    Raises:
        ValueError: no pairs, or a negative number of them.
    """
    counts = (both, lost, gained, neither)
    pairs = sum(counts)
    if min(counts) < 0 or pairs < 1:
        raise ValueError(f"need numbers of pairs, and at least one pair, not {counts}")
    first, second = (both + lost) / pairs, (both + gained) / pairs
    first_low, first_high = wilson(both + lost, pairs)
    second_low, second_high = wilson(both + gained, pairs)
    correlation = _correlation(both, lost, gained, neither)
    below = _combined(second - second_low, first_high - first, correlation)
    above = _combined(second_high - second, first - first_low, correlation)
    difference = (gained - lost) / pairs
    return difference, max(-1.0, difference - below), min(1.0, difference + above)


def _correlation(both: int, lost: int, gained: int, neither: int) -> float:
    """Of paired outcomes (phi); a positive one is corrected for continuity (Newcombe, 1998)."""
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if margins == 0:
        return 0.0
    product = both * neither - lost * gained
    if product > 0:
        product = max(product - (both + lost + gained + neither) / 2, 0.0)
    return product / math.sqrt(margins)


def _combined(a: float, b: float, correlation: float) -> float:
    """Half width of a difference, of the half widths of its terms."""
    return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))


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
    steps: Sequence[float], success: Sequence[float], threshold: float = 0.8
) -> float | None:
    """Time to threshold of a learning curve (Taylor & Stone, 2009), once it stays there.

    Args:
        steps: (points,) environment steps, or seconds.
        success: (points,) success at each.
        threshold: success that has to be reached.

    Returns:
        The first point from which on all have at least that success; None if the last has not
        (censored).
    """
    found = None
    for count, value in zip(steps, success, strict=True):
        if value < threshold:
            found = None
        elif found is None:
            found = count
    return found


def median_time(times: Sequence[float | None], limits: Sequence[float]) -> float | None:
    """Median of times of which some are censored (Kaplan and Meier, 1958), by scipy.

    Args:
        times: of each run; None: not within its limit.
        limits: of each run: when it was given up.

    Returns:
        The first time by which half of the runs are there; None if that is not within the limits.

    Raises:
        ValueError: no times.
    """
    if not times:
        raise ValueError("need at least one time")
    there = [time for time in times if time is not None]
    if not there:
        return None
    censored = [limit for time, limit in zip(times, limits, strict=True) if time is None]
    survival = ecdf(CensoredData(uncensored=there, right=censored)).sf
    reached = survival.quantiles[survival.probabilities <= 0.5 + 1e-9]
    return float(reached[0]) if len(reached) else None


def mean_interval(outcomes: ArrayLike, rng: np.random.Generator, draws: int = 2000) -> Interval:
    """Mean of outcomes with its 95 % bootstrap interval over seeds and starts.

    Args:
        outcomes: (seeds, starts).
        rng: of the resampling.
        draws: how many resamples.
    """
    scores = np.atleast_2d(np.asarray(outcomes, float))
    values = _resampled_means(scores, rng, draws, None)
    return float(scores.mean()), *_percentile_interval(values)


def difference_interval(
    first: ArrayLike, second: ArrayLike, rng: np.random.Generator, draws: int = 2000
) -> Interval:
    """Second mean less the first, paired by starts, with its 95 % bootstrap interval.

    Starts are resampled for both together, seeds for each on its own.

    Args:
        first: (seeds, starts) outcomes.
        second: (other seeds, the same starts).
        rng: of the resampling.
        draws: how many resamples.

    Raises:
        ValueError: not the same number of starts.
    """
    a, b = (np.atleast_2d(np.asarray(outcomes, float)) for outcomes in (first, second))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"need the same starts, not {a.shape[1]} and {b.shape[1]}")
    starts = rng.integers(a.shape[1], size=(draws, a.shape[1]))
    values = _resampled_means(b, rng, draws, starts) - _resampled_means(a, rng, draws, starts)
    return float(b.mean() - a.mean()), *_percentile_interval(values)


def _resampled_means(
    scores: np.ndarray, rng: np.random.Generator, draws: int, starts: np.ndarray | None
) -> np.ndarray:
    """Means (draws,) of scores (seeds, starts), both drawn with replacement."""
    seeds, count = scores.shape
    if starts is None:
        starts = rng.integers(count, size=(draws, count))
    picked = rng.integers(seeds, size=(draws, seeds))
    of_seeds = scores[picked].mean(1)  # (draws, starts)
    return np.take_along_axis(of_seeds, starts, axis=1).mean(1)


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
