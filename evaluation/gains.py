"""What a transfer is worth: measures of its curves, as pure functions of what was recorded.

Intervals are those of one bootstrap (`statistics.resample`): all curves are drawn again from their
seeds and their starts, and a measure's interval is that of its values on the curves drawn. The
starts of a draw are the same for all points of a curve and for all arms, so that differences
between arms are paired by them. Where all draws are the same, see `statistics.interval_of_starts`.

Seeds of an arm in which nothing is drawn repeat the same episodes: they count as one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from uncap.evaluation.arms import CONTROLS, arm_of, parted
from uncap.evaluation.statistics import (
    Resampled,
    area_weights,
    censored_interval,
    draw_starts,
    interval_of_starts,
    median_time,
    median_times,
    padded,
    resample,
    steps_to_threshold,
    times_to_threshold,
    wilson,
)

THRESHOLDS = (0.5, 0.8)  # of success, at which a target counts as half learned, and as learned
Curves = Mapping[str, Sequence[Mapping[str, Any]]]  # of each arm, one for each seed
Measure = Callable[[np.ndarray], np.ndarray]
"""success of curves (..., seeds, points) -> a number for each, (..., seeds)"""


def measured(curves: Curves) -> dict[str, Any]:
    """What is read off the curves of a target's arms.

    Args:
        curves: for each arm a curve for each seed: `steps` and `success` at each point, `seconds`
            until each, and `outcomes`: those of each point's episodes, 0 or 1, of start 0, 1 and
            so on, which are the same in all arms; `sources`, success on the source's rows at the
            end, and `source_outcomes`, of the same episodes in all arms. Older ones have outcomes
            of the last point only (`last`), or none, and no seconds.

    Returns:
        zero_shot with Wilson's interval; by arm `final` success and its `interval`; `area` under
        the mean curve, over the curve's own steps, and `area_interval`; `reached`: steps and
        seconds to each of THRESHOLDS (a number per seed, None where it is not reached; the median,
        and its interval, of which an end is None that is never reached); `n`: how many seeds,
        starts of the last point and of the earlier ones, and episodes on the source's rows;
        `sources`: success on the source's rows, and `lost`: how much less that is than before;
        by method, against the best control: `gain` in final success, and `gap`: how much higher
        the curve lies in the mean over the budget; `same_demos`: the same two of each method that
        uses expert episodes, against the best `control` from nothing that uses the same episodes,
        which is named; against the control from nothing without any: `jumpstarts`,
        and `jumpstart` of zero-shot alone; `specialists`: which was picked, the zero-shot success
        of each, and the regret of the choice. Differences are a value and the ends of its
        interval, all of 95 %; what lacks outcomes has none.
    """
    rng = np.random.default_rng(0)
    curves = _without_repeats(curves)
    arms = _arms(curves, rng)
    rising = {arm: one for arm, one in arms.items() if one.success.shape[1] > 1}
    best = _best_control(curves)
    zero_shot = curves["zero_shot"][0]
    found: dict[str, Any] = {
        "zero_shot": zero_shot["success"][0],
        "final": {arm: one.mean(_last) for arm, one in arms.items()},
        "interval": _intervals(arms, _final_measure),
        "area": {arm: one.mean(one.height) for arm, one in rising.items()},
        "area_interval": _intervals(rising, _area),
        "reached": {arm: _reached(curves[arm], one.drawn) for arm, one in rising.items()},
        "n": {arm: _counts(of_arm) for arm, of_arm in curves.items()},
        "sources": _on_sources(curves),
        "lost": _lost(curves, rng),
        "best_control": best,
        **_against(arms, best, _budget(curves)),
        "same_demos": _against_same_demos(arms, curves),
    }
    if outcomes := outcomes_of(zero_shot)[0]:
        low, high = wilson(sum(outcomes), len(outcomes))
        found |= {"zero_shot_low": low, "zero_shot_high": high}
        found["zero_shot_episodes"] = len(outcomes)
    if "scratch" in arms:
        found["jumpstart"] = float(found["zero_shot"] - arms["scratch"].mean(_first))
        found["jumpstarts"] = _differences(arms, arms["scratch"], _jump)
    if specialists := _specialists(curves):
        found["specialists"] = specialists
    return found


def outcomes_of(curve: Mapping[str, Any]) -> list[list[int]]:
    """Outcomes of each point's episodes; none of points of which they are not known.

    Args:
        curve: as in `measured`; older ones know those of their last point at most.
    """
    if "outcomes" in curve:
        return curve["outcomes"]
    found: list[list[int]] = [[] for _ in curve["success"]]
    if found:
        found[-1] = curve.get("last", [])
    return found


class _Arm(NamedTuple):
    """The curves of an arm.

    Attributes:
        steps: (seeds, points).
        success: (seeds, points).
        starts: number of starts of the last point; 0 if no outcomes are known.
        fewest: of the point with the fewest.
        own_starts: whether they are others than those of other arms.
        drawn: the curves, resampled; None if no outcomes are known.
    """

    steps: np.ndarray
    success: np.ndarray
    starts: int
    fewest: int
    own_starts: bool
    drawn: Resampled | None

    def height(self, success: np.ndarray, until: float | None = None) -> np.ndarray:
        """Mean height of curves (..., seeds, points), (..., seeds).

        Args:
            success: of the curves.
            until: of which steps on it does not count; None: from the last point on.
        """
        ends = [max(steps[-1], 1) if until is None else until for steps in self.steps]
        weights = [area_weights(s, end) for s, end in zip(self.steps, ends, strict=True)]
        return (success * np.array(weights)).sum(-1)

    def mean(self, measure: Measure) -> float:
        """A measure's mean over seeds."""
        return float(measure(self.success).mean())

    def means(self, measure: Measure) -> np.ndarray | None:
        """The same of each draw, (draws,); None if it needs outcomes that are not known."""
        if self.drawn is None:
            return None
        values = self.drawn.means(measure(self.drawn.success))
        return None if np.isnan(values).any() else values


class _Of(NamedTuple):
    """A measure of an arm.

    Attributes:
        measure: of its curves.
        starts: how many it is known from.
    """

    measure: Measure
    starts: int


def _final_measure(arm: _Arm) -> _Of:
    """Success at the end."""
    return _Of(_last, arm.starts)


def _area(arm: _Arm, until: float | None = None) -> _Of:
    """Mean height of the curve, see `_Arm.height`."""
    return _Of(functools.partial(arm.height, until=until), arm.fewest)


def _jump(arm: _Arm) -> _Of:
    """Success at the first point."""
    return _Of(_first, arm.fewest)


def _first(success: np.ndarray) -> np.ndarray:
    return success[..., 0]


def _last(success: np.ndarray) -> np.ndarray:
    return success[..., -1]


def _arms(curves: Curves, rng: np.random.Generator) -> dict[str, _Arm]:
    """The arms with their curves resampled, from the same starts but for those with their own."""
    counts = {arm: _counts(of_arm).get("starts", 0) for arm, of_arm in curves.items()}
    outcomes = {
        arm: padded([outcomes_of(curve) for curve in of_arm])
        for arm, of_arm in curves.items()
        if counts[arm]
    }
    own = {arm for arm in curves if _has_own_starts(arm)}
    shared = _starts([found for arm, found in outcomes.items() if arm not in own], rng)
    drawn = {
        arm: resample(found, _starts([found], rng) if arm in own else shared, rng)
        for arm, found in outcomes.items()
    }
    return {
        arm: _Arm(
            _column(of_arm, "steps"),
            _column(of_arm, "success"),
            counts[arm],
            _fewest(of_arm),
            arm in own,
            drawn.get(arm),
        )
        for arm, of_arm in curves.items()
    }


def _without_repeats(curves: Curves) -> Curves:
    """Curves without those of further seeds that repeat the same episodes."""
    return {arm: of_arm[: None if arm_of(arm).draws else 1] for arm, of_arm in curves.items()}


def _fewest(curves: Sequence[Mapping]) -> int:
    """Starts of the point of an arm's curves that has the fewest; 0 if they are not known."""
    return min(len(point) for curve in curves for point in outcomes_of(curve))


def _counts(curves: Sequence[Mapping]) -> dict[str, int]:
    """How much an arm was measured: what is not known, or not there, is left out.

    Returns:
        `seeds`, `starts` of the last point, and of the `earlier` ones, and `sources`, the number
        of episodes on the source's rows.
    """
    outcomes = [outcomes_of(curve) for curve in curves]
    earlier = [len(point) for curve in outcomes for point in curve[:-1]]
    numbers = {
        "seeds": len(curves),
        "starts": min(len(curve[-1]) for curve in outcomes),
        "earlier": min(earlier, default=0),
        "sources": min(len(curve.get("source_outcomes", ())) for curve in curves),
    }
    return {name: number for name, number in numbers.items() if number}


def _column(curves: Sequence[Mapping], key: str) -> np.ndarray:
    """(seeds, points)."""
    return np.array([curve[key] for curve in curves], float)


def _starts(outcomes: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Starts drawn, see `draw_starts`, for curves (seeds, points, starts) of some arms."""
    counts = [(~np.isnan(found)).sum(-1).ravel() for found in outcomes]
    return draw_starts(np.concatenate([[0], *counts]).tolist(), rng)


def _has_own_starts(arm: str) -> bool:
    """Whether an arm's starts are others than those of other arms.

    The attempts of a trial after the first begin where only a trial does.
    """
    return arm_of(arm).counts == "attempts" and parted(arm)[1] > 1


def _intervals(arms: Mapping[str, _Arm], measure: Callable[[_Arm], _Of]) -> dict[str, list[float]]:
    """Interval of a measure between 0 and 1 by arm, where it is known."""
    found = {}
    for arm, curves in arms.items():
        of_arm = measure(curves)
        values = curves.means(of_arm.measure)
        if values is not None:
            value = curves.mean(of_arm.measure)
            found[arm] = list(interval_of_starts(value, values, of_arm.starts, least=0.0))
    return found


def _differences(
    arms: Mapping[str, _Arm], against: _Arm, measure: Callable[[_Arm], _Of]
) -> dict[str, list[float]]:
    """What the methods have more than a control: value, and ends of the interval, where known.

    Args:
        arms: all of them.
        against: the control.
        measure: which measure it is, of an arm.
    """
    control = measure(against)
    theirs = against.means(control.measure)
    found = {}
    for arm, curves in arms.items():
        method = measure(curves)
        ours = None if parted(arm)[0] in CONTROLS else curves.means(method.measure)
        paired = not (curves.own_starts or against.own_starts)
        if ours is None or theirs is None or (paired and curves.starts != against.starts):
            continue
        value = curves.mean(method.measure) - against.mean(control.measure)
        starts = min(method.starts, control.starts)
        found[arm] = [value, *interval_of_starts(value, ours - theirs, starts)]
    return found


def _against(arms: Mapping[str, _Arm], best: str | None, budget: float) -> dict[str, Any]:
    """What the methods have more than the best control: at the end, and over the budget."""
    if best is None:
        return {"gain": {}, "gap": {}}
    control, over_budget = arms[best], functools.partial(_area, until=budget)
    return {
        "gain": _differences(arms, control, _final_measure),
        "gap": _differences(arms, control, over_budget) if budget else {},
    }


def _against_same_demos(arms: Mapping[str, _Arm], curves: Curves) -> dict[str, dict[str, Any]]:
    """What methods have more than the best control from nothing that uses the same episodes.

    Returns:
        By method: the `control`, and `gain` and `gap` where they are known, see `_against`.
    """
    numbers = sorted({parted(arm)[1] for arm in curves if arm_of(arm).demos})
    found = {}
    for number in numbers:
        using = [arm for arm in curves if arm_of(arm).demos and parted(arm)[1] == number]
        controls = [arm for arm in using if _is_from_nothing(arm)]
        if not controls:
            continue
        best = max(controls, key=lambda arm: _final(curves[arm]))
        more = _against({arm: arms[arm] for arm in using}, best, _budget(curves))
        for arm in more["gain"]:
            of_arm = {name: values[arm] for name, values in more.items() if arm in values}
            found[arm] = {"control": best, **of_arm}
    return found


def _is_from_nothing(arm: str) -> bool:
    """Whether an arm is a control that begins without the weights of any source."""
    return parted(arm)[0] in CONTROLS and arm_of(arm).begins == "nothing"


def _budget(curves: Curves) -> float:
    """Environment steps that all arms have that learn by reinforcement; 0 without such arms.

    An arm that takes no steps is compared by its one success; one that has the source's steps as
    well, by as many of its steps as the others have.
    """
    ends = [found[0]["steps"][-1] for arm, found in curves.items() if arm_of(arm).reinforces]
    return min(ends, default=0)


def _specialists(curves: Curves) -> dict[str, Any]:
    """How good the choice of a policy among those of single rows was; empty where none was made.

    Regret is what the best of them has more than the one that was picked: zero-shot, and
    at the end of the curves of those that were learned with.
    """
    if not curves.get("specialist-1") or "specialists" not in curves["specialist-1"][0]:
        return {}
    measured = [curve["specialists"] for curve in curves["specialist-1"]]
    rows = list(measured[0])
    zero_shot = {row: float(np.mean([each[row] for each in measured])) for row in rows}
    picked = rows[0]
    found = {
        "picked": picked,
        "zero_shot": zero_shot,
        "regret": max(zero_shot.values()) - zero_shot[picked],
    }
    finals = [_final(of_arm) for arm, of_arm in curves.items() if arm.startswith("specialist-")]
    if len(finals) > 1:
        found["final_regret"] = max(finals) - _final(curves["specialist-1"])
    return found


def _final(curves: Sequence[Mapping]) -> float:
    """Mean success at the end, over seeds."""
    return float(np.mean([curve["success"][-1] for curve in curves]))


def _best_control(curves: Curves) -> str | None:
    """The control that ends best; None without one. What an expert taught is no control here.

    It is the upper bound: no method has to be better.
    """
    rows = {arm: parted(arm)[0] for arm in curves}
    controls = [arm for arm, row in rows.items() if row in CONTROLS and not CONTROLS[row].taught]
    return max(controls, key=lambda arm: _final(curves[arm]), default=None)


def _on_sources(curves: Curves) -> dict[str, float]:
    """Mean success of each arm on the source's rows at the end, where it was measured."""
    measured = {
        arm: [curve["sources"] for curve in found if curve.get("sources") is not None]
        for arm, found in curves.items()
    }
    return {
        arm: float(np.mean(values))
        for arm, values in measured.items()
        if len(values) == len(curves[arm])
    }


def _lost(curves: Curves, rng: np.random.Generator) -> dict[str, list[float]]:
    """What the source's rows have lost by arm: success before less that at the end, paired.

    Before is what zero_shot, which learns nothing, has on them. Value, and ends of the interval.
    """
    counts = {arm: _counts(of_arm).get("sources", 0) for arm, of_arm in curves.items()}
    number = counts["zero_shot"]
    if not number:
        return {}
    starts = draw_starts([number], rng)

    def resampled(of_arm: Sequence[Mapping]) -> tuple[float, np.ndarray]:
        outcomes = padded([[curve["source_outcomes"]] for curve in of_arm])
        drawn = resample(outcomes, starts, rng)
        return float(outcomes.mean()), drawn.means(_last(drawn.success))

    before, before_drawn = resampled(curves["zero_shot"])
    found = {}
    for arm, of_arm in curves.items():
        if arm != "zero_shot" and counts[arm] == number:
            after, after_drawn = resampled(of_arm)
            value, values = before - after, before_drawn - after_drawn
            found[arm] = [value, *interval_of_starts(value, values, number)]
    return found


def _reached(curves: Sequence[Mapping], drawn: Resampled | None) -> dict[str, dict[str, Any]]:
    """Steps, and seconds where they are known, to each of THRESHOLDS, by `steps` and `seconds`.

    Args:
        curves: of an arm.
        drawn: the same, resampled; None if no outcomes are known.
    """
    found: dict[str, dict[str, Any]] = {str(threshold): {} for threshold in THRESHOLDS}
    if drawn is not None and np.isnan(drawn.success).any():
        drawn = None  # outcomes of some points are not known
    for unit in ("steps", "seconds"):
        if any(unit not in curve for curve in curves):
            continue
        limits = [curve[unit][-1] for curve in curves]
        for threshold in THRESHOLDS:
            times = [steps_to_threshold(c[unit], c["success"], threshold) for c in curves]
            of_threshold = found[str(threshold)]
            of_threshold[unit] = times
            of_threshold[f"median_{unit}"] = median_time(times, limits)
            if drawn is not None:
                ends = _median_interval(drawn, _column(curves, unit), threshold)
                of_threshold[f"interval_{unit}"] = list(ends)
    return found


def _median_interval(
    drawn: Resampled, times: np.ndarray, threshold: float
) -> tuple[float | None, float | None]:
    """Interval of the median time to a threshold.

    Args:
        drawn: the curves.
        times: (seeds, points) of them.
        threshold: of success.
    """
    reached = times_to_threshold(times, drawn.success, threshold)  # (draws, seeds)
    limits = times[:, -1]
    return censored_interval(median_times(drawn.drawn(reached), drawn.drawn(limits)))


def arm_cells(entry: Mapping[str, Any], arm: str) -> dict[str, str]:
    """An arm's numbers in words, by what they are; what was not measured is not there.

    Args:
        entry: of a target in results.json.
        arm: its name.

    Returns:
        `success` at the end, the time to each of THRESHOLDS by its number, `area`, `gain`, `gap`,
        `same_demos`, `sources`, `lost` and `n`, see `measured`.
    """
    found = {"success": _share(entry["final"][arm], entry.get("interval", {}).get(arm))}
    for threshold, times in entry.get("reached", {}).get(arm, {}).items():
        found[threshold] = _when(times)
    if (area := entry.get("area", {}).get(arm)) is not None:
        found["area"] = _share(area, entry.get("area_interval", {}).get(arm))
    for name, sign in (("gain", "+"), ("gap", "+"), ("lost", "")):
        if difference := entry.get(name, {}).get(arm):
            found[name] = _share(difference[0], difference[1:], sign)
    if same := entry.get("same_demos", {}).get(arm):
        found["same_demos"] = f"on {same['control']} {_more(same)}"
    n = entry.get("n", {}).get(arm, {})
    if (sources := entry.get("sources", {}).get(arm)) is not None:
        of = f" of {n['sources']} episodes" if "sources" in n else ""
        found["sources"] = f"{sources:.2f}{of}"
    if "starts" in n:
        before = f" ({n['earlier']} before the end)" if "earlier" in n else ""
        found["n"] = f"{n['seeds']} x {n['starts']}{before}"
    return found


def arm_numbers(entry: Mapping[str, Any], arm: str) -> str:
    """An arm's numbers in a line, see `arm_cells`."""
    cells = arm_cells(entry, arm)
    parts = [cells["success"]]
    parts += [
        f"{threshold} {cells[threshold]}" for threshold in entry.get("reached", {}).get(arm, {})
    ]
    if "gain" in cells:
        over = f", {cells['gap']} over the curve" if "gap" in cells else ""
        parts.append(f"on {entry['best_control']} {cells['gain']} at the end{over}")
    if "same_demos" in cells:
        parts.append(f"with the same episodes {cells['same_demos']}")
    if "sources" in cells:
        lost = f", lost {cells['lost']}" if "lost" in cells else ""
        parts.append(f"{cells['sources']} on the source's rows{lost}")
    if "n" in cells:
        parts.append(f"n {cells['n']}")
    return "; ".join(parts)


def _more(found: Mapping[str, Any]) -> str:
    """Differences from a control at the end, and over the curve where that is known."""
    value, *ends = found["gain"]
    text = f"{_share(value, ends, '+')} at the end"
    if "gap" in found:
        value, *ends = found["gap"]
        text += f", {_share(value, ends, '+')} over the curve"
    return text


def _share(value: float, ends: Sequence[float] | None = None, sign: str = "") -> str:
    """A success rate or a difference of them, with the ends of its interval."""
    return f"{value:{sign}.2f}" + (f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else "")


def _when(times: Mapping[str, Any]) -> str:
    """When a threshold was reached: medians over seeds with their intervals."""
    units = [unit for unit in ("steps", "seconds") if f"median_{unit}" in times]
    known = [
        time
        for unit in units
        for time in (times[f"median_{unit}"], *times.get(f"interval_{unit}", ()))
    ]
    if all(time is None for time in known):
        return "never"
    medians = [
        f"{_time(times[f'median_{unit}'])}{_time_ends(times.get(f'interval_{unit}'))} {short}"
        for unit, short in zip(units, ("steps", "s"), strict=False)
    ]
    return ("" if times["median_steps"] is None else "for good after ") + ", ".join(medians)


def _time_ends(ends: Sequence[float | None] | None) -> str:
    return f" [{_time(ends[0])}, {_time(ends[1])}]" if ends else ""


def _time(time: float | None) -> str:
    """Steps or seconds."""
    if time is None:
        return "never"
    return f"{time:,.0f}" if time >= 10 or time == int(time) else f"{time:.1f}"


def choice_in_words(found: Mapping[str, Any]) -> str:
    """How good the choice of a specialist was, see `measured`.

    Args:
        found: its entry `specialists`.
    """
    zero_shot = found["zero_shot"]
    best = max(zero_shot, key=lambda row: zero_shot[row])
    text = (
        f"{found['picked']} was picked: {zero_shot[found['picked']]:.2f} zero-shot; the "
        f"best, {best}, {zero_shot[best]:.2f}"
    )
    if "final_regret" in found:
        text += f"; regret at the end {found['final_regret']:.2f}"
    return text
