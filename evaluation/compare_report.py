"""A comparison's table and page: finished runs side by side, also at equal seconds and steps."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from uncap.agents.files import write_json, write_text
from uncap.evaluation import attempts
from uncap.evaluation.metrics import read_metrics
from uncap.evaluation.pages import GREY, curve_look, page, picture, table
from uncap.evaluation.protocol import in_words
from uncap.evaluation.runs import RunError, read_results
from uncap.evaluation.statistics import iqm, stratified_bootstrap

Effort = Literal["seconds", "env_steps"]  # what trainings are compared at equal amounts of
Runs = Mapping[int, pathlib.Path]  # seed -> run folder

_CURVE_COLUMNS = ("seconds", "env_steps", "validation")  # of metrics.csv
_SCORE_KEYS = ("iqm", "low", "high", "mean", "worst", "worst_task")
# of results.json's `held_out`
_HELD_OUT_KEYS = ("seen_mechanisms", "worst_seen_mechanism", "new_mechanisms")
_EFFORT_KEYS = ("train_seconds", "env_steps", "at_equal_seconds", "at_equal_steps")
_NOT_AVAILABLE = "n/a"


@dataclasses.dataclass(frozen=True)
class Curve:
    """Validation along one training; index 0 of a column is its first update."""

    seconds: np.ndarray  # (updates,)
    env_steps: np.ndarray  # (updates,)
    validation: np.ndarray  # (updates,) success; nan where no validation was made

    def spent(self, effort: Effort) -> np.ndarray:
        """Seconds or environment steps at each update, (updates,)."""
        return self.seconds if effort == "seconds" else self.env_steps

    def last_validation(self, effort: Effort, limit: float | None) -> float | None:
        """The last validation at or before so many seconds or steps; None if there is none."""
        if limit is None:
            return None
        within = self.spent(effort) <= limit
        seen = self.validation[within & ~np.isnan(self.validation)]
        return float(seen[-1]) if len(seen) else None


@dataclasses.dataclass(frozen=True)
class Band:
    """Validation of several seeds; arrays are (points,)."""

    spent: np.ndarray  # seconds or environment steps
    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray


def read_curve(run: pathlib.Path) -> Curve:
    """The columns of a run's metrics.csv that a comparison needs; empty when it has none."""
    found = read_metrics(run / "metrics.csv").rows
    rows = [[float(row.get(name) or "nan") for name in _CURVE_COLUMNS] for row in found]
    columns = np.array(rows).reshape(-1, len(_CURVE_COLUMNS)).T
    return Curve(*columns)


def compare_runs(folders: Mapping[str, Runs], seed: int) -> tuple[dict, dict[str, list[Curve]]]:
    """The numbers of a comparison, from run folders alone.

    Args:
        folders: {configuration: {seed: run folder}}; a run without a folder or without a
            result counts as missing.
        seed: of the bootstrap, the same for every configuration.

    Returns:
        What compare.json holds, and the curves of each configuration's finished runs.

    Raises:
        RunError: a result is damaged, or a configuration's runs have different tasks.
    """
    results = {label: _finished(of_label) for label, of_label in folders.items()}
    curves = {
        label: [read_curve(folders[label][run_seed]) for run_seed in of_label]
        for label, of_label in results.items()
    }
    equal_seconds = _most_reached_by_all(curves, "seconds")
    equal_steps = _most_reached_by_all(curves, "env_steps")
    rows = []
    for label, of_label in folders.items():
        finished = results[label]
        rows.append(
            {
                "configuration": label,
                "n": len(finished),
                "seeds": len(of_label),
                "missing": [run_seed for run_seed in of_label if run_seed not in finished],
                **_scores(label, list(finished.values()), seed),
                "guess_ceiling": _mean([row.get("guess_ceiling") for row in finished.values()])
                if finished
                else None,
                **_zero_shot(list(finished.values())),
                "per_kind": _per_kind(list(finished.values())),
                "attempts": _attempts(list(finished.values())),
                "attempt_steps": _attempt_steps(list(finished.values())),
                "transfers": _transfers(list(finished.values())),
                **_effort(list(finished.values()), curves[label], equal_seconds, equal_steps),
            }
        )
    found = {
        "equal_seconds": equal_seconds,
        "equal_steps": equal_steps,
        "configurations": rows,
    }
    return found, curves


def _finished(folders: Runs) -> dict[int, dict]:
    """The results of the runs that have ended, by seed."""
    results = {seed: read_results(folder) for seed, folder in folders.items()}
    return {seed: result for seed, result in results.items() if "mean_success" in result}


def _most_reached_by_all(curves: Mapping[str, Sequence[Curve]], effort: Effort) -> float | None:
    """The most seconds or steps that every training reached; None without trainings."""
    spent = [curve.spent(effort) for of_label in curves.values() for curve in of_label]
    most = [np.nanmax(of_run) for of_run in spent if len(of_run)]
    return float(min(most)) if most else None


def _scores(label: str, results: Sequence[Mapping], seed: int) -> dict:
    """Final success of one configuration over runs and tasks: the columns `_SCORE_KEYS`."""
    if not results:
        return dict.fromkeys(_SCORE_KEYS)
    tasks = list(results[0]["per_task"])
    if any(set(result["per_task"]) != set(tasks) for result in results):
        raise RunError(
            f"the runs of {label!r} were evaluated on different rows: "
            "they cannot be set side by side"
        )
    scores = np.array(
        [[result["per_task"][task]["success"] for task in tasks] for result in results]
    )  # (runs, tasks)
    low = high = None
    if len(scores) > 1:
        low, high = stratified_bootstrap(scores, np.random.default_rng(seed), iqm)
    per_task = scores.mean(0)  # (tasks,)
    values = (
        iqm(scores),
        low,
        high,
        scores.mean().item(),
        per_task.min().item(),
        tasks[int(per_task.argmin())],
    )
    return dict(zip(_SCORE_KEYS, values, strict=True))


def _zero_shot(results: Sequence[Mapping]) -> dict:
    """Zero-shot success on held-out rows, means over seeds: `_HELD_OUT_KEYS`."""
    entries = [result.get("held_out") or {} for result in results]
    return {
        key: _mean([entry.get(key) for entry in entries]) if entries else None
        for key in _HELD_OUT_KEYS
    }


def _per_kind(results: Sequence[Mapping]) -> dict[str, float | None]:
    """Zero-shot success on each kind of held-out rows, means over seeds."""
    entries = [(result.get("held_out") or {}).get("per_kind", {}) for result in results]
    return {
        kind: _mean([entry.get(kind, {}).get("success") for entry in entries])
        for kind in (entries[0] if entries else {})
    }


def _attempts(results: Sequence[Mapping]) -> dict[str, list[float]]:
    """Success in the first, second, ... attempt, means over seeds, by whose it is, in words."""
    by_words = [attempts.by_words(result) for result in results]
    found = {}
    for words in by_words[0] if by_words else ():
        columns = [[row["success"] for row in own.get(words) or ()] for own in by_words]
        if columns[0] and all(len(column) == len(columns[0]) for column in columns):
            found[words] = np.mean(columns, 0).tolist()
    return found


def _attempt_steps(results: Sequence[Mapping]) -> int | None:
    """Control steps of an attempt, which are those of all seeds; None: there were no trials."""
    return next((steps for result in results if (steps := result.get("attempt_steps"))), None)


def _transfers(results: Sequence[Mapping]) -> dict[str, dict[str, list[float]]]:
    """Success at the end of transfers, by target and arm: of each run, where all have it."""
    entries = [result.get("transfer", {}) for result in results]
    found: dict[str, dict[str, list[float]]] = {}
    for target, first in entries[0].items() if entries else ():
        finals = [entry.get(target, {}).get("final", {}) for entry in entries]
        arms = [arm for arm in first["final"] if all(arm in final for final in finals)]
        if arms:
            found[target] = {arm: [final[arm] for final in finals] for arm in arms}
    return found


def _effort(
    results: Sequence[Mapping],
    curves: Sequence[Curve],
    equal_seconds: float | None,
    equal_steps: float | None,
) -> dict:
    """What one configuration's trainings cost: the columns `_EFFORT_KEYS`, means over seeds."""
    if not results:
        return dict.fromkeys(_EFFORT_KEYS)
    train = [result.get("train", {}) for result in results]
    values = (
        _mean([entry.get("wall_seconds") for entry in train]),
        _mean([entry.get("env_steps") for entry in train]),
        _mean([curve.last_validation("seconds", equal_seconds) for curve in curves]),
        _mean([curve.last_validation("env_steps", equal_steps) for curve in curves]),
    )
    return dict(zip(_EFFORT_KEYS, values, strict=True))


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a seed's value is missing, as the mean of the others would be biased."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def write_comparison(out: pathlib.Path, found: dict, curves: Mapping[str, Sequence[Curve]]) -> str:
    """Write compare.json, .csv, .txt and .html.

    Args:
        out: folder.
        found: what compare.json holds: `compare_runs`'s numbers, name, jobs and failed cells.
        curves: of each configuration's finished runs.

    Returns:
        The table as text.
    """
    configurations = found["configurations"]
    heading = _heading(found["equal_seconds"], found["equal_steps"])
    rows = [_cells(configuration) for configuration in configurations]
    notes = _notes(found)
    title = f"Uncap: {html.escape(found['name'])}"
    figure = _figure(configurations, curves, found["equal_seconds"], found["equal_steps"])
    text = "\n".join([*aligned([heading, *rows]), "", *notes]) + "\n"
    body = (
        f"<h1>{title}</h1>"
        + picture(figure)
        + table([_escaped(cells) for cells in rows], _escaped(heading))
        + "".join(f"<p class=note>{html.escape(note)}</p>" for note in notes)
    )
    write_json(out / "compare.json", found)
    write_text(out / "compare.csv", _csv(configurations))
    write_text(out / "compare.txt", text)
    write_text(out / "compare.html", page(title, body))
    return text.rstrip("\n")


def _heading(equal_seconds: float | None, equal_steps: float | None) -> list[str]:
    return [
        "configuration",
        "n",
        "IQM",
        "95 % interval",
        "mean",
        "worst task",
        "unseen rows",
        "worst mechanism",
        "new mechanisms",
        "seconds",
        "env steps",
        f"at {_whole(equal_seconds)} s",
        f"at {_whole(equal_steps)} steps",
    ]


def _cells(row: Mapping) -> list[str]:
    """A configuration's cells, as text."""
    interval = worst = _NOT_AVAILABLE
    if row["low"] is not None:
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
    if row["worst"] is not None:
        worst = f"{row['worst']:.2f} {row['worst_task']}"
    return [
        row["configuration"],
        _count(row),
        _decimal(row["iqm"]),
        interval,
        _decimal(row["mean"]),
        worst,
        _decimal(row["seen_mechanisms"]),
        _decimal(row["worst_seen_mechanism"]),
        _decimal(row["new_mechanisms"]),
        _whole(row["train_seconds"]),
        _whole(row["env_steps"]),
        _decimal(row["at_equal_seconds"]),
        _decimal(row["at_equal_steps"]),
    ]


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _decimal(value: float | None) -> str:
    return _NOT_AVAILABLE if value is None else f"{value:.3f}"


def _mean_and_range(values: Sequence[float]) -> str:
    """The mean over runs and, of several, the least and the most."""
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return _decimal(_mean(values)) + spread


def _whole(value: float | None) -> str:
    return _NOT_AVAILABLE if value is None else f"{value:,.0f}"


def _count(row: Mapping) -> str:
    """How many runs of a configuration are finished; marked when some are missing."""
    return f"{row['n']} of {row['seeds']} !" if row["missing"] else str(row["n"])


def _escaped(cells: Sequence[str]) -> list[str]:
    return [html.escape(cell) for cell in cells]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a text table: the first column to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _csv(configurations: Sequence[Mapping]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(configurations[0]), lineterminator="\n")
    writer.writeheader()
    for row in configurations:
        missing = " ".join(str(seed) for seed in row["missing"])
        kinds = " ".join(f"{kind}={_decimal(value)}" for kind, value in row["per_kind"].items())
        by_attempt = " ".join(
            f"{words.replace(' ', '_')}={';'.join(map(_decimal, values))}"
            for words, values in row["attempts"].items()
        )
        transfers = " ".join(
            f"{target}:{arm}={_decimal(_mean(values))}"
            for target, by_arm in row["transfers"].items()
            for arm, values in by_arm.items()
        )
        columns = {
            "missing": missing,
            "per_kind": kinds,
            "attempts": by_attempt,
            "transfers": transfers,
        }
        writer.writerow({**row, **columns})
    return buffer.getvalue()


def _notes(found: Mapping) -> list[str]:
    """What the table's reader has to know."""
    notes = [
        "IQM: interquartile mean of final success over seeds x tasks, with its 95 % stratified "
        "bootstrap interval (n/a for one seed).",
        "Unseen rows: zero-shot success on held-out rows (of trials, the last attempt's), of "
        "mechanisms that were trained; worst mechanism: of the one that opens least; new "
        "mechanisms: of those that were left out. n/a: there are none.",
        "The last two columns: the last validation (on starts of its own) at the most seconds, "
        "and the most environment steps, that every finished run reached, mean over seeds; "
        "n/a: some seed had no validation by then.",
    ]
    ceilings = {row["configuration"]: row["guess_ceiling"] for row in found["configurations"]}
    notes += [
        f"{label}: rows that look alike; a policy that guesses, and learns nothing by touch, has "
        f"{ceiling:.3f}."
        for label, ceiling in ceilings.items()
        if ceiling is not None and ceiling < 1
    ]
    notes += [
        f"{row['configuration']}, held-out rows by kind: "
        + ", ".join(f"{_spaced(kind)} {_decimal(value)}" for kind, value in row["per_kind"].items())
        for row in found["configurations"]
        if row["per_kind"]
    ]
    notes += [
        f"{row['configuration']}, success by attempt{_length(row)}, {words}: "
        + ", ".join(map(_decimal, values))
        for row in found["configurations"]
        for words, values in row["attempts"].items()
    ]
    notes += [
        f"{row['configuration']}, transferred to {target}, success at the end: "
        + ", ".join(f"{arm} {_mean_and_range(values)}" for arm, values in by_arm.items())
        for row in found["configurations"]
        for target, by_arm in row["transfers"].items()
    ]
    if found["jobs"] > 1:
        notes.append(f"Seconds were measured with up to {found['jobs']} trainings at once.")
    if any(row["missing"] for row in found["configurations"]):
        notes.append("!: seeds are missing; the row is computed from the n that exist.")
    notes += found.get("notes", [])
    return notes + [f"failed: {name}: {reason}" for name, reason in found["failed"].items()]


def _length(row: Mapping) -> str:
    """How long the attempts of a configuration are, where that is known."""
    steps = row["attempt_steps"]
    return f" of {in_words(steps)}" if steps else ""


def _figure(
    configurations: Sequence[Mapping],
    curves: Mapping[str, Sequence[Curve]],
    equal_seconds: float | None,
    equal_steps: float | None,
) -> Figure:
    """Intervals of all configurations above; their validations over seconds and steps below."""
    intervals_height = 0.3 * len(configurations) + 0.9  # inches
    curves_height = 3.4
    figure = Figure(figsize=(10, intervals_height + curves_height))
    grid = figure.add_gridspec(2, 2, height_ratios=(intervals_height, curves_height))
    top = figure.add_subplot(grid[0, :])
    left = figure.add_subplot(grid[1, 0])
    right = figure.add_subplot(grid[1, 1])
    ordered = [curves[row["configuration"]] for row in configurations]
    _draw_intervals(top, configurations)
    _draw_bands(left, ordered, "seconds", equal_seconds)
    _draw_bands(right, ordered, "env_steps", equal_steps, unit=1000)
    left.set(xlabel="seconds", ylabel="validation: mean and range over seeds")
    right.set(xlabel="environment steps (thousands)")
    return figure


def _draw_intervals(axes: Axes, configurations: Sequence[Mapping]) -> None:
    """A point and its interval per configuration, the first on top."""
    labels = []
    for k, row in enumerate(configurations):
        color, style = curve_look(k)
        if row["low"] is not None:
            axes.plot([row["low"], row["high"]], [k, k], style, color=color, lw=3)
        if row["iqm"] is not None:
            axes.plot([row["iqm"]], [k], "o", color=color, ms=8)
        missing = f" ({_count(row)})" if row["missing"] else ""
        labels.append(row["configuration"] + missing)
    axes.set_yticks(range(len(labels)), labels)
    for k, label in enumerate(axes.get_yticklabels()):
        color, _ = curve_look(k)
        label.set_color(color)
    axes.set(
        xlim=(-0.02, 1.02),
        ylim=(len(labels) - 0.5, -0.5),
        xlabel="final success: IQM over seeds x tasks, 95 % interval",
    )


def _draw_bands(
    axes: Axes,
    curves: Sequence[Sequence[Curve]],
    effort: Effort,
    equal: float | None,
    unit: int = 1,
) -> None:
    """Validation of every configuration, over seconds or environment steps.

    Args:
        axes: to draw on.
        curves: of each configuration's finished runs.
        effort: what the horizontal axis is.
        equal: where the configurations are compared.
        unit: of the horizontal axis.
    """
    for k, of_configuration in enumerate(curves):
        color, style = curve_look(k)
        band = _band(of_configuration, effort)
        x = band.spent / unit
        axes.plot(x, band.mean, style, color=color, drawstyle="steps-post", lw=1.6)
        axes.fill_between(x, band.low, band.high, step="post", color=color, alpha=0.15, lw=0)
    if equal is not None:
        axes.axvline(equal / unit, color=GREY, ls=":", lw=1)
    axes.set(ylim=(-0.02, 1.05))


def _band(curves: Sequence[Curve], effort: Effort) -> Band:
    """Range and mean over seeds of the last validation.

    It begins where every seed has a validation and ends where the first training ends; it is
    empty if a seed has no validation at all.
    """
    checks = [curve.spent(effort)[~np.isnan(curve.validation)] for curve in curves]
    if not checks or any(not len(of_seed) for of_seed in checks):
        empty = np.empty(0)
        return Band(empty, empty, empty, empty)
    begin = max(of_seed[0] for of_seed in checks)
    end = min(np.nanmax(curve.spent(effort)) for curve in curves)
    points = np.unique(np.concatenate([*checks, [end]]))
    points = points[(points >= begin) & (points <= end)]
    validations = [[curve.last_validation(effort, point) for point in points] for curve in curves]
    by_seed = np.array(validations).reshape(len(curves), -1)  # (seeds, points)
    return Band(points, by_seed.min(0), by_seed.mean(0), by_seed.max(0))
