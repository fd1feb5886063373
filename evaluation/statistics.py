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
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import CensoredData, binomtest, ecdf

Z_95 = 1.959964  # 0.975 quantile of the standard normal distribution
PERCENTILES_95 = (2.5, 97.5)
DRAWS = 2000  # resamples of a bootstrap
_SAME = 1e-9  # values nearer than this differ by rounding only
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
    draws: int = DRAWS,
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
    return percentile_interval(values)


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
    first = int(_first_of_the_rest(success, threshold))
    return steps[first] if first < len(steps) else None


def _first_of_the_rest(success: ArrayLike, threshold: float) -> np.ndarray:
    """The first point from which on all have a success, the number of points if none.

    Args:
        success: (..., points).
        threshold: that success.

    Returns:
        (...), whole numbers.
    """
    reaches = np.asarray(success) >= threshold
    stays = np.logical_and.accumulate(reaches[..., ::-1], axis=-1)  # from the last point back
    return reaches.shape[-1] - stays.sum(-1)


def times_to_threshold(times: ArrayLike, success: np.ndarray, threshold: float) -> np.ndarray:
    """`steps_to_threshold` of many curves at once.

    Args:
        times: (seeds, points) environment steps, or seconds.
        success: (..., seeds, points) success at each.
        threshold: success that has to be reached.

    Returns:
        (..., seeds) times; infinity where it is not reached for good.
    """
    first = _first_of_the_rest(success, threshold)
    seeds = np.arange(first.shape[-1])
    never = np.full((len(seeds), 1), np.inf)
    return np.concatenate([np.asarray(times, float), never], axis=1)[seeds, first]


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


def median_times(times: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """`median_time` of many samples at once (scipy takes one at a time).

    Args:
        times: (samples, runs); infinity where a run was not there within its limit.
        limits: (samples, runs): when each run was given up.

    Returns:
        (samples,) medians; infinity where a median is not within the limits.
    """
    there = np.isfinite(times)
    ends = np.where(there, times, limits)
    # by time; of the same time, those that are there before those that were given up
    order = np.lexsort((~there, ends), axis=-1)
    there, ends = (np.take_along_axis(each, order, axis=-1) for each in (there, ends))
    at_risk = np.arange(ends.shape[-1], 0, -1)
    reached = np.cumprod(1 - there / at_risk, axis=-1) <= 0.5 + 1e-9
    first = reached.argmax(-1)
    medians = np.take_along_axis(ends, first[:, None], axis=-1)[:, 0]
    return np.where(reached.any(-1), medians, np.inf)


def percentile_interval(values: ArrayLike) -> tuple[float, float]:
    """The 95 % interval of resampled values, (draws,)."""
    low, high = np.percentile(np.asarray(values, float), PERCENTILES_95)
    return float(low), float(high)


def interval_of_starts(
    value: float, values: ArrayLike, starts: int, least: float = -1.0, most: float = 1.0
) -> tuple[float, float]:
    """The 95 % interval of a mean over starts, of its values on starts that were drawn again.

    Where all starts have the same value, so have all draws: that is no certainty. Then up to a
    share of other starts could have any other value, the upper end of Wilson's interval (1927) of
    a share of which none were seen. Of a success rate, that is Wilson's interval.

    Args:
        value: the mean.
        values: (draws,) of it.
        starts: how many, at least one.
        least: what the value of a start can be; by default, of a difference of successes.
        most: the same.
    """
    low, high = percentile_interval(values)
    if high - low > _SAME:
        return low, high
    _, others = wilson(0, starts)
    return value - others * (value - least), value + others * (most - value)


def censored_interval(times: np.ndarray) -> tuple[float | None, float | None]:
    """The 95 % interval of resampled times, (draws,), of which some are infinite.

    Its ends are times that occur, as nothing lies between a time and never; None: never.
    """
    low, high = PERCENTILES_95
    ends = np.percentile(times, low, method="lower"), np.percentile(times, high, method="higher")
    first, last = (float(end) if np.isfinite(end) else None for end in ends)
    return first, last


class Resampled(NamedTuple):
    """The learning curves of some seeds, resampled, see `resample`.

    Attributes:
        success: (draws, seeds, points): the curves of all seeds, over the starts that were drawn;
            nan at points without starts.
        seeds: (draws, seeds): numbers of the seeds that were drawn.
    """

    success: np.ndarray
    seeds: np.ndarray

    def drawn(self, values: np.ndarray) -> np.ndarray:
        """Of values of all seeds, (draws, seeds) or (seeds,), those of the seeds drawn."""
        return np.take_along_axis(np.broadcast_to(values, self.seeds.shape), self.seeds, axis=1)

    def means(self, values: np.ndarray) -> np.ndarray:
        """Means (draws,) over the seeds drawn of values of all seeds, (draws, seeds)."""
        return self.drawn(values).mean(1)


def padded(outcomes: Sequence[Sequence[Sequence[int]]]) -> np.ndarray:
    """Outcomes of seeds, points and starts as one array.

    Args:
        outcomes: by seed and point, of start 0, 1 and so on: as many as a point has.

    Returns:
        (seeds, points, starts); nan where a point has no such start.
    """
    most = max(len(point) for curve in outcomes for point in curve)
    found = np.full((len(outcomes), len(outcomes[0]), most), np.nan)
    for of_seed, curve in zip(found, outcomes, strict=True):
        for row, point in zip(of_seed, curve, strict=True):
            row[: len(point)] = point
    return found


def draw_starts(counts: Iterable[int], rng: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """Starts, drawn with replacement in strata: those that the same points were measured from.

    So a point with fewer starts than another has as many in each draw.

    Args:
        counts: of starts 0, 1 and so on of all points.
        rng: of the resampling.
        draws: how many resamples.

    Returns:
        (draws, starts): how often each start is drawn.
    """
    sizes = np.diff(sorted({0, *counts}))
    strata = [rng.multinomial(size, np.full(size, 1 / size), size=draws) for size in sizes]
    return np.concatenate([np.zeros((draws, 0), int), *strata], axis=1)


def resample(outcomes: np.ndarray, starts: np.ndarray, rng: np.random.Generator) -> Resampled:
    """Learning curves of which seeds and starts are drawn with replacement.

    All points and seeds have the same starts in a draw; what is resampled with the same `starts`
    is paired by them. Seeds are drawn for each call on their own.

    Args:
        outcomes: see `padded`.
        starts: (draws, at least as many starts): how often each is drawn, see `draw_starts`.
        rng: of the drawing of seeds.
    """
    seeds, _, count = outcomes.shape
    often = starts[:, :count].astype(float)
    known = (~np.isnan(outcomes)).astype(float)
    successes, episodes = (
        np.moveaxis(np.tensordot(each, often, axes=(2, 1)), 2, 0)  # (draws, seeds, points)
        for each in (np.nan_to_num(outcomes), known)
    )
    success = np.full_like(successes, np.nan)
    np.divide(successes, episodes, out=success, where=episodes > 0)
    return Resampled(success, rng.integers(seeds, size=(len(starts), seeds)))


def area_weights(steps: Sequence[float], until: float) -> np.ndarray:
    """What each point counts in a curve's mean height, by the trapezoidal rule.

    Weighted so, success adds up to the area under the curve (Taylor & Stone, 2009), divided by its
    steps. Before its first and after its last point a curve is as at that point.

    Args:
        steps: (points,) environment steps, ascending.
        until: steps at which the area ends, more than 0; it begins at 0.

    Returns:
        (points,) weights, which add up to 1.
    """
    points = np.asarray(steps, float)
    ends = np.minimum(points, until)
    widths = np.diff(ends)  # of the stretches between points, as far as they count
    middles = (ends[1:] + ends[:-1]) / 2
    lengths = np.maximum(np.diff(points), np.finfo(float).tiny)
    to_later = widths * (middles - points[:-1]) / lengths
    weights = np.zeros(len(points))
    weights[0] += ends[0]
    weights[:-1] += widths - to_later
    weights[1:] += to_later
    weights[-1] += max(0.0, until - points[-1])
    return weights / until
