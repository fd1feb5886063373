"""What a transfer is worth: measures of its curves, as pure functions of what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uncap.evaluation.arms import CONTROLS, parted
from uncap.evaluation.statistics import (
    area,
    difference_interval,
    mean_interval,
    median_time,
    steps_to_threshold,
    wilson,
)

THRESHOLDS = (0.5, 0.8)  # of success, at which a target counts as half learned, and as learned
Curves = Mapping[str, Sequence[Mapping[str, Any]]]  # of each arm, one for each seed


def measured(curves: Curves) -> dict[str, Any]:
    """What is read off the curves of a target's arms.

    Args:
        curves: for each arm a curve for each seed: `steps` and `success` at each point, `seconds`
            until each, and `last`, the outcomes of the last point's episodes, 0 or 1, of the same
            starts in all arms. Older ones have neither seconds nor outcomes.

    Returns:
        zero_shot with Wilson's interval; by arm `final` success with its interval over seeds and
        starts where outcomes are known, `area` under the mean curve, `reached`: steps and seconds
        to each of THRESHOLDS (a number per seed, None where it is not reached, and the median);
        jumpstart; `specialists`: which was picked, the zero-shot success of each, and
        the regret of the choice; by arm `sources`: success on the source's rows at the end, where
        that was measured; and by arm `gain`: the final success less that of the best control,
        paired by starts, with its interval.
    """
    success = curves["zero_shot"][0]["success"][0]
    outcomes = curves["zero_shot"][0].get("last", ())
    rising = {arm: found for arm, found in curves.items() if len(found[0]["steps"]) > 1}
    best = _best_control(curves)
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {
        "zero_shot": success,
        "final": {arm: _final(of_arm) for arm, of_arm in curves.items()},
        "interval": {
            arm: list(mean_interval(_outcomes(of_arm), rng)[1:])
            for arm, of_arm in curves.items()
            if _is_known(of_arm)
        },
        "area": {arm: area(of_arm[0]["steps"], _mean(of_arm)) for arm, of_arm in rising.items()},
        "reached": {arm: _reached(of_arm) for arm, of_arm in rising.items()},
        "sources": _on_sources(curves),
        "best_control": best,
        "gain": _gains(curves, best, rng),
    }
    if outcomes:
        low, high = wilson(sum(outcomes), len(outcomes))
        found |= {"zero_shot_low": low, "zero_shot_high": high}
        found["zero_shot_episodes"] = len(outcomes)
    if "scratch" in curves:
        begins = np.mean([curve["success"][0] for curve in curves["scratch"]])
        found["jumpstart"] = float(success - begins)
    if specialists := _specialists(curves):
        found["specialists"] = specialists
    return found


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


def _mean(curves: Sequence[Mapping]) -> list[float]:
    """The mean curve over seeds."""
    return np.mean([curve["success"] for curve in curves], axis=0).tolist()


def _is_known(curves: Sequence[Mapping]) -> bool:
    """Whether all seeds have outcomes, of equally many starts."""
    counts = {len(curve.get("last", ())) for curve in curves}
    return len(counts) == 1 and counts != {0}


def _outcomes(curves: Sequence[Mapping]) -> np.ndarray:
    """(seeds, starts) of the last points."""
    return np.array([curve["last"] for curve in curves], float)


def _best_control(curves: Curves) -> str | None:
    """The control that ends best; None without one. What an expert taught is no control here.

    It is the upper bound: no method has to be better.
    """
    rows = {arm: parted(arm)[0] for arm in curves}
    controls = [arm for arm, row in rows.items() if row in CONTROLS and not CONTROLS[row].taught]
    return max(controls, key=lambda arm: _final(curves[arm]), default=None)


def _gains(curves: Curves, best: str | None, rng: np.random.Generator) -> dict[str, list[float]]:
    """Final success of each method less that of the best control, with its interval."""
    if best is None or not _is_known(curves[best]):
        return {}
    against = _outcomes(curves[best])
    return {
        arm: list(difference_interval(against, _outcomes(of_arm), rng))
        for arm, of_arm in curves.items()
        if parted(arm)[0] not in CONTROLS
        and _is_known(of_arm)
        and _outcomes(of_arm).shape[1] == against.shape[1]
    }


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


def _reached(curves: Sequence[Mapping]) -> dict[str, dict[str, Any]]:
    """Steps, and seconds where they are known, to each of THRESHOLDS, by `steps` and `seconds`."""
    found: dict[str, dict[str, Any]] = {}
    for unit in ("steps", "seconds"):
        if any(unit not in curve for curve in curves):
            continue
        limits = [curve[unit][-1] for curve in curves]
        for threshold in THRESHOLDS:
            times = [steps_to_threshold(c[unit], c["success"], threshold) for c in curves]
            key = str(threshold)
            found.setdefault(key, {})[unit] = times
            found[key][f"median_{unit}"] = median_time(times, limits)
    return found


def arm_numbers(entry: Mapping[str, Any], arm: str) -> str:
    """An arm's numbers in a few words.

    Args:
        entry: of a target in results.json.
        arm: its name.
    """
    parts = [f"{entry['final'][arm]:.2f}" + _ends(entry.get("interval", {}).get(arm))]
    for threshold, times in entry.get("reached", {}).get(arm, {}).items():
        parts.append(f"{threshold} {_when(times['steps'])}")
    if gain := entry.get("gain", {}).get(arm):
        parts.append(f"{gain[0]:+.2f}{_ends(gain[1:])} on {entry['best_control']}")
    if (sources := entry.get("sources", {}).get(arm)) is not None:
        parts.append(f"{sources:.2f} on the source's rows")
    return ", ".join(parts)


def _when(steps: Sequence[float | None]) -> str:
    """When a threshold was reached, a number per seed."""
    if all(each is None for each in steps):
        return "never"
    words = ["never" if each is None else f"{each:,.0f}" for each in steps]
    return f"for good after {', '.join(words)} steps"


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


def _ends(ends: Sequence[float] | None) -> str:
    return f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else ""
