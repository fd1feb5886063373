"""A comparison's table and page: finished runs side by side, and at equal seconds and equal steps."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np

from evaluation.report import page, picture
from evaluation.runs import RunError, write_json
from evaluation.statistics import iqm, stratified_bootstrap

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

_COLORS = plt.get_cmap("tab10")
_STYLES = ("-", "--", ":")  # of curves, once the colours are used up


@dataclasses.dataclass(frozen=True)
class Curve:
    """Validation along one training; index 0 of a column is its first row."""

    seconds: np.ndarray  # (updates,)
    env_steps: np.ndarray  # (updates,)
    validation: np.ndarray  # (updates,), nan where none was made

    def at(self, axis: str, limit: float) -> float | None:
        """The last validation at or before a number of seconds or env_steps; None if there is none."""
        seen = self.validation[(getattr(self, axis) <= limit) & ~np.isnan(self.validation)]
        return float(seen[-1]) if len(seen) else None


def read_results(run: pathlib.Path) -> dict:
    """A run's results.json; empty when there is none.

    Raises:
        RunError: it is damaged.
    """
    path = run / "results.json"
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        raise RunError(
            f"{path} is damaged: it is not JSON; delete {run} to train it again"
        ) from None


def read_curve(run: pathlib.Path) -> Curve:
    """The columns of a run's metrics.csv that a comparison needs; empty when it has none."""
    path, rows = run / "metrics.csv", []
    if path.exists():
        with open(path, newline="") as file:
            rows = [
                [float(row[name] or "nan") for name in ("seconds", "env_steps", "validation")]
                for row in csv.DictReader(file)
            ]
    return Curve(*np.array(rows).reshape(-1, 3).T)


def compare_runs(
    folders: Mapping[str, Mapping[int, pathlib.Path]], seed: int
) -> tuple[dict, dict[str, list[Curve]]]:
    """The numbers of a comparison, from run folders alone.

    Args:
        folders: {configuration: {seed: run folder}}; runs that are not there or have no result are missing.
        seed: of the bootstrap, the same for every configuration.

    Returns:
        What compare.json holds, and the curves of each configuration's finished runs.
    """
    results = {
        label: {s: r for s, f in of.items() if "mean_success" in (r := read_results(f))}
        for label, of in folders.items()
    }
    curves = {label: [read_curve(folders[label][s]) for s in of] for label, of in results.items()}
    known = [c for of in curves.values() for c in of if len(c.seconds)]
    limits = {
        axis: float(min(np.nanmax(getattr(c, axis)) for c in known)) if known else None
        for axis in ("seconds", "env_steps")
    }
    rows = [
        _row(label, list(folders[label]), results[label], curves[label], limits, seed)
        for label in folders
    ]
    return {
        "equal_seconds": limits["seconds"],
        "equal_steps": limits["env_steps"],
        "configurations": rows,
    }, curves


def _row(
    label: str,
    seeds: Sequence[int],
    results: dict[int, dict],
    curves: list[Curve],
    limits: dict,
    seed: int,
) -> dict:
    row = {
        "configuration": label,
        "n": len(results),
        "seeds": len(seeds),
        "missing": [s for s in seeds if s not in results],
    }
    empty = (
        "iqm",
        "low",
        "high",
        "mean",
        "worst",
        "worst_task",
        "train_seconds",
        "env_steps",
        "at_equal_seconds",
        "at_equal_steps",
    )
    if not results:
        return row | dict.fromkeys(empty)
    tasks = list(next(iter(results.values()))["per_task"])
    if any(set(r["per_task"]) != set(tasks) for r in results.values()):
        raise RunError(
            f"the runs of {label!r} were evaluated on different rows: they cannot be set side by side"
        )
    scores = np.array(
        [[r["per_task"][t]["success"] for t in tasks] for r in results.values()]
    )  # (runs, tasks)
    low, high = (
        stratified_bootstrap(scores, np.random.default_rng(seed), iqm)
        if len(scores) > 1
        else (None, None)
    )
    per_task = scores.mean(0)
    values = (
        iqm(scores),
        low,
        high,
        scores.mean().item(),
        per_task.min().item(),
        tasks[int(per_task.argmin())],
        _mean([r.get("train", {}).get("wall_seconds") for r in results.values()]),
        _mean([r.get("train", {}).get("env_steps") for r in results.values()]),
        _mean([c.at("seconds", limits["seconds"]) if len(c.seconds) else None for c in curves]),
        _mean([c.at("env_steps", limits["env_steps"]) if len(c.seconds) else None for c in curves]),
    )
    return row | dict(zip(empty, values, strict=True))


def _mean(values: Sequence[float | None]) -> float | None:
    """Of all seeds, or of none: the mean of the quick ones only would flatter."""
    return None if any(v is None for v in values) else float(np.mean(values))


def write_comparison(out: pathlib.Path, found: dict, curves: Mapping[str, Sequence[Curve]]) -> str:
    """Write compare.json, .csv, .txt and .html; returns the table as text."""
    head, rows = _cells(found)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    notes = _notes(found)
    text = "\n".join([*lines, "", *notes]) + "\n"
    table = "".join(
        "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>"
        for tag, row in (("th", head), *(("td", row) for row in rows))
    )
    body = (
        f"<h1>Uncap: {html.escape(found['name'])}</h1>{picture(_figure(found, curves))}<table>{table}</table>"
        + "".join(f"<p class=note>{html.escape(note)}</p>" for note in notes)
    )
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(found["configurations"][0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        row | {"missing": " ".join(map(str, row["missing"]))} for row in found["configurations"]
    )
    write_json(out / "compare.json", found)
    for name, content in (
        ("csv", buffer.getvalue()),
        ("txt", text),
        ("html", page(f"Uncap: {html.escape(found['name'])}", body)),
    ):
        temporary = out / "compare.tmp"
        temporary.write_text(content)
        os.replace(temporary, out / f"compare.{name}")
    return text.rstrip("\n")


def _cells(found: dict) -> tuple[list[str], list[list[str]]]:
    seconds, steps = found["equal_seconds"], found["equal_steps"]
    head = [
        "configuration",
        "n",
        "IQM",
        "95 % interval",
        "mean",
        "worst task",
        "seconds",
        "env steps",
        f"at {_number(seconds, ',.0f')} s",
        f"at {_number(steps, ',.0f')} steps",
    ]
    rows = []
    for r in found["configurations"]:
        interval = "n/a" if r["low"] is None else f"{r['low']:.3f} to {r['high']:.3f}"
        worst = "n/a" if r["worst"] is None else f"{r['worst']:.2f} {r['worst_task']}"
        rows.append(
            [
                r["configuration"],
                _count(r),
                _number(r["iqm"]),
                interval,
                _number(r["mean"]),
                worst,
                _number(r["train_seconds"], ",.0f"),
                _number(r["env_steps"], ",.0f"),
                _number(r["at_equal_seconds"]),
                _number(r["at_equal_steps"]),
            ]
        )
    return head, rows


def _number(value: float | None, form: str = ".3f") -> str:
    return "n/a" if value is None else format(value, form)


def _count(row: dict) -> str:
    return f"{row['n']} of {row['seeds']} !" if row["missing"] else str(row["n"])


def _notes(found: dict) -> list[str]:
    notes = [
        "IQM: interquartile mean of final success over seeds x tasks, with its 95 % stratified bootstrap interval (n/a for one seed).",
        "The last two columns: the last validation (on starts of its own) at the most seconds, and the most environment steps, that "
        "every finished run reached, mean over seeds; n/a: some seed had no validation by then.",
    ]
    if found["jobs"] > 1:
        notes.append(
            f"Seconds were measured with up to {found['jobs']} trainings at once on this machine."
        )
    if any(r["missing"] for r in found["configurations"]):
        notes.append("!: seeds are missing; the row is computed from the n that exist.")
    return notes + [f"failed: {name}: {why}" for name, why in found["failed"].items()]


def _figure(found: dict, curves: Mapping[str, Sequence[Curve]]):
    rows = found["configurations"]
    height = 0.3 * len(rows) + 0.9
    figure = plt.figure(figsize=(10, height + 3.4))
    grid = figure.add_gridspec(2, 2, height_ratios=(height, 3.4))
    top, left, right = (
        figure.add_subplot(grid[0, :]),
        figure.add_subplot(grid[1, 0]),
        figure.add_subplot(grid[1, 1]),
    )
    for k, r in enumerate(rows):
        color, style = _COLORS(k % 10), _STYLES[k // 10 % 3]
        if r["iqm"] is not None:
            if r["low"] is not None:
                top.plot([r["low"], r["high"]], [k, k], style, color=color, lw=3)
            top.plot([r["iqm"]], [k], "o", color=color, ms=8)
        for axes, name, scale in ((left, "seconds", 1), (right, "env_steps", 1000)):
            x, low, mean, high = _band(curves[r["configuration"]], name)
            axes.plot(x / scale, mean, style, color=color, drawstyle="steps-post", lw=1.6)
            axes.fill_between(x / scale, low, high, step="post", color=color, alpha=0.15, lw=0)
    top.set_yticks(
        range(len(rows)),
        [f"{r['configuration']}{' (' + _count(r) + ')' if r['missing'] else ''}" for r in rows],
    )
    for tick, k in zip(top.get_yticklabels(), range(len(rows)), strict=True):
        tick.set_color(_COLORS(k % 10))
    top.set(
        xlim=(-0.02, 1.02),
        ylim=(len(rows) - 0.5, -0.5),
        xlabel="final success: IQM over seeds x tasks, 95 % interval",
    )
    for axes, limit, scale, name in (
        (left, "equal_seconds", 1, "seconds"),
        (right, "equal_steps", 1000, "environment steps (thousands)"),
    ):
        if found[limit] is not None:
            axes.axvline(found[limit] / scale, color="#8a94a0", ls=":", lw=1)
        axes.set(xlabel=name, ylim=(-0.02, 1.05))
    left.set_ylabel("validation: mean, least, most of seeds")
    return figure


def _band(
    curves: Sequence[Curve], axis: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Least, mean and most over seeds of the last validation, from where all have one to where the first ends."""
    pairs = [(getattr(c, axis)[~np.isnan(c.validation)], getattr(c, axis)) for c in curves]
    if not pairs or any(not len(checks) for checks, _ in pairs):
        return (np.empty(0),) * 4
    begin, end = max(checks[0] for checks, _ in pairs), min(np.nanmax(x) for _, x in pairs)
    x = np.unique(np.concatenate([*(checks for checks, _ in pairs), [end]]))
    x = x[(x >= begin) & (x <= end)]
    y = np.array([[c.at(axis, value) for value in x] for c in curves]).reshape(
        len(curves), -1
    )  # (seeds, points)
    return x, y.min(0), y.mean(0), y.max(0)
