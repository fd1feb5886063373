"""What a report says of rows that were not trained: where they lie, and what a policy is worth."""

from __future__ import annotations

import dataclasses
import html
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from uncap.envs import CLOSURES, named_set
from uncap.evaluation.arms import CONTROLS, parted, spaced
from uncap.evaluation.gains import THRESHOLDS, arm_cells, choice_in_words
from uncap.evaluation.pages import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    WIDTH,
    curve_look,
    new_figure,
    percent,
    picture,
    table,
)
from uncap.evaluation.statistics import pooled
from uncap.evaluation.unseen import news, position

_MOST_NAMED = 10  # rows that are named in the figure and in the table; more are grouped
_LEGEND_COLUMNS = 3
_COLORS = {"fine_tune": BLUE, "scratch": ORANGE}
_MARKS = "o^Dsv<>ph*X"
_ASIDE = 0.018  # of the figure's width: marks of one row stand beside each other


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row that was not trained, with what was measured on it."""

    name: str
    where: Mapping[str, Any]  # see `unseen.position`
    zero_shot: float
    low: float  # Wilson's interval
    high: float
    episodes: int
    final: Mapping[str, float]  # success at the end of the curves, by kind of learner
    kind: str = ""  # of held-out rows, where the task set has kinds

    @property
    def mechanism(self) -> str:
        """Of the row; what it cannot be told of is one group."""
        row = CLOSURES.get(self.name)
        return row.mechanism if row else "other"


def _looks(arms: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """Colour and mark of each arm."""
    return {
        name: (_COLORS.get(name) or curve_look(k + 2)[0], _MARKS[k % len(_MARKS)])
        for k, name in enumerate(arms)
    }


def _arms(rows: Sequence[_Row]) -> list[str]:
    """The arms that rows have, but for zero-shot, which has a column of its own."""
    return list(dict.fromkeys(arm for row in rows for arm in row.final if arm != "zero_shot"))


def distance_section(config: Mapping, results: Mapping) -> str:
    """Success against distance: a figure, and a table of the rows; empty without such rows.

    Args:
        config: of the run.
        results: of the run; those of older versions are placed by the present rows.
    """
    trained = config.get("train", [])
    transferred = results.get("transfer", {})
    others = (results.get("held_out") or {}).get("per_task", {})
    found = [_transferred(name, entry, trained) for name, entry in transferred.items()]
    found += [_evaluated(n, task, trained) for n, task in others.items() if n not in transferred]
    kinds = _kinds(config)
    found = [dataclasses.replace(row, kind=kinds.get(row.name, "")) for row in found]
    rows = sorted((row for row in found if row.where), key=lambda row: row.where["distance"])
    notes = [
        f"{html.escape(row.name)} is not placed: its distance is not stored, and its row is not "
        "known here."
        for row in found
        if not row.where
    ]
    if not found:
        return ""
    section = "<h2>Success on rows that were not trained</h2>"
    if rows:
        section += picture(_figure(rows, results.get("mean_success"), len(trained))) + _NOTE
        section += _table(rows) if len(rows) <= _MOST_NAMED else _grouped(rows)
    return section + "".join(f"<p class=note>{note}</p>" for note in notes)


_NOTE = (
    "<p class=note>Distance: structural, to the nearest trained row. Zero-shot success has its "
    "95 % Wilson interval; the ends of the learning curves are means over their seeds.</p>"
)


def _kinds(config: Mapping) -> dict[str, str]:
    """The kinds of a run's held-out rows by row, in words; none of a set that has no kinds."""
    try:
        kinds = named_set(str(config.get("job", {}).get("task_set"))).held_out_kinds
    except ValueError:  # of another version, or of a user's own
        return {}
    return {row: kind.replace("_", " ") for kind, rows in kinds.items() for row in rows}


def _transferred(name: str, entry: Mapping, trained: Sequence[str]) -> _Row:
    """A target of a transfer."""
    return _Row(
        name,
        _where(name, entry, trained),
        entry["zero_shot"],
        entry["zero_shot_low"],
        entry["zero_shot_high"],
        _episodes(entry),
        entry["final"],
    )


def _episodes(entry: Mapping) -> int:
    """Of the zero-shot evaluation."""
    return entry.get("zero_shot_episodes", entry["episodes"])


def _evaluated(name: str, task: Mapping, trained: Sequence[str]) -> _Row:
    """A held-out row that was evaluated only."""
    where = _where(name, task, trained)
    return _Row(name, where, task["success"], task["low"], task["high"], task["episodes"], {})


def _where(name: str, found: Mapping, trained: Sequence[str]) -> Mapping[str, Any]:
    """Where a row lies: as it is stored, or by the present rows; empty if it cannot be told."""
    if "distance" in found:
        return found
    if not trained or not all(row in CLOSURES for row in (name, *trained)):
        return {}
    return position(CLOSURES[name], [CLOSURES[row] for row in trained])


def _figure(rows: Sequence[_Row], trained_success: float | None, trained: int) -> Figure:
    """Success against distance: marks of a row beside each other, its name above them."""
    figure, axes = new_figure(WIDTH, 4.0)
    right = 1.15 * max(row.where["distance"] for row in rows) + 0.1
    if trained_success is not None:
        label = f"trained rows ({trained}), mean"
        axes.plot([0], [trained_success], "s", color=BLACK, ms=7, label=label, clip_on=False)
    if len(rows) <= _MOST_NAMED:
        _draw_named(axes, rows, right)
    else:
        _draw_groups(axes, rows)
    axes.set(
        xlim=(-0.05 * right, right),
        ylim=(-0.04, 1.05),
        xlabel="structural distance to the nearest trained row",
        ylabel="final success",
    )
    axes.grid(axis="y", color="#eceff3", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncol=4, fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


def _draw_named(axes: Axes, rows: Sequence[_Row], right: float) -> None:
    aside = _ASIDE * right
    x = np.array([row.where["distance"] for row in rows])
    _draw_zero_shot(axes, rows, x - aside, BLUE, "zero-shot, with its interval")
    for k, (arm, (color, mark)) in enumerate(_looks(_arms(rows)).items()):
        having = [(row.where["distance"], row.final[arm]) for row in rows if arm in row.final]
        distances, success = np.array(having).T
        place = distances + k * aside
        axes.plot(place, success, mark, color=color, ms=7, label=spaced(arm), clip_on=False)
    labels: dict[float, list[str]] = {}
    for row in rows:  # those at the same place would be written over each other
        labels.setdefault(round(row.where["distance"], 3), []).append(_label(row))
    for distance, names in labels.items():
        axes.annotate(
            ", ".join(names),
            (distance, 1.06),
            rotation=25,
            ha="left",
            va="bottom",
            fontsize=8.5,
            annotation_clip=False,
        )


def _label(row: _Row) -> str:
    new = len(row.where["unseen"])
    return f"{row.name} ({new} new)" if new else row.name


def _draw_groups(axes: Axes, rows: Sequence[_Row]) -> None:
    for k, (name, group) in enumerate(_groups(rows).items()):
        color, _ = curve_look(k)
        x = np.array([row.where["distance"] for row in group])
        _draw_zero_shot(axes, group, x, color, f"{name} ({len(group)})")


def _draw_zero_shot(
    axes: Axes, rows: Sequence[_Row], x: np.ndarray, color: Any, label: str
) -> None:
    success = np.array([row.zero_shot for row in rows])
    below = np.maximum(0, success - [row.low for row in rows])
    above = np.maximum(0, [row.high for row in rows] - success)
    axes.errorbar(
        *(x, success),
        yerr=[below, above],
        fmt="o",
        color=color,
        mfc="white",
        ms=7,
        capsize=3,
        lw=1,
        label=label,
    )


def _groups(rows: Sequence[_Row]) -> dict[str, list[_Row]]:
    """Rows by kind, where they have kinds, else by mechanism; those with the nearest row first."""
    found: dict[str, list[_Row]] = {}
    for row in rows:
        found.setdefault(row.kind or row.mechanism, []).append(row)
    return found


def _by_mechanism(rows: Sequence[_Row]) -> dict[str, list[_Row]]:
    """Rows by mechanism, those with the nearest row first."""
    return _groups([dataclasses.replace(row, kind="") for row in rows])


def _table(rows: Sequence[_Row]) -> str:
    kinds = _arms(rows)
    heading = ("row", "distance", "nearest trained row", "new in it", "zero-shot")
    return table(
        [
            (
                html.escape(row.name),
                f"{row.where['distance']:.2f}",
                html.escape(row.where["nearest"]),
                html.escape(news(row.where)),
                _zero_shot(row.zero_shot, row.low, row.high),
                *(percent(row.final[kind]) if kind in row.final else "" for kind in kinds),
            )
            for row in rows
        ],
        (*heading, *(html.escape(spaced(kind)) for kind in kinds)),
    )


def _zero_shot(success: float, low: float, high: float) -> str:
    text = f"{percent(success)} ({percent(low)} to {percent(high)})"
    return f"<span style='white-space:nowrap'>{text}</span>"


def _grouped(rows: Sequence[_Row]) -> str:
    """A line for each mechanism, where rows are many; behind one for each kind, where they have."""
    by_mechanism = _mechanism_table(rows)
    if not any(row.kind for row in rows):
        return by_mechanism
    lines = [
        (html.escape(name), len(_by_mechanism(group)), len(group), _success_of(group))
        for name, group in _groups(rows).items()
    ]
    by_kind = table(lines, ("kind", "mechanisms", "rows", "zero-shot"))
    return f"{by_kind}<details><summary>every mechanism</summary>{by_mechanism}</details>"


def _success_of(group: Sequence[_Row]) -> str:
    """Success over the episodes of rows, with Wilson's interval."""
    return _zero_shot(*pooled((row.zero_shot, row.episodes) for row in group))


def _mechanism_table(rows: Sequence[_Row]) -> str:
    """A line for each mechanism."""
    lines = []
    for mechanism, group in _by_mechanism(rows).items():
        distances = [row.where["distance"] for row in group]
        unseen = dict.fromkeys(itertools.chain(*(row.where["unseen"] for row in group)))
        worst = min(group, key=lambda row: row.zero_shot)
        lines.append(
            (
                html.escape(mechanism),
                len(group),
                f"{min(distances):.2f} to {max(distances):.2f}{_edits(group)}",
                html.escape(news({"unseen": list(unseen)})),
                _success_of(group),
                f"{html.escape(worst.name)} {percent(worst.zero_shot)}",
            )
        )
    heading = ("mechanism", "rows", "distance", "new in some of them", "zero-shot", "worst row")
    return table(lines, heading)


def _edits(group: Sequence[_Row]) -> str:
    """How many stages the mechanism is off those that were trained."""
    edits = {row.where["edits"] for row in group if row.where.get("edits")}
    return f", {min(edits)} stages off".replace(" 1 stages", " 1 stage") if edits else ""


def transfer_section(target: str, entry: Mapping) -> str:
    """Learning curves on a target, and what is read off them."""
    return (
        f"<h2>Transfer to {html.escape(target)}</h2>"
        + picture(_curves_figure(entry["curves"]))
        + _arms_table(entry)
        + _transfer_table(entry)
        + _controls_in_words(entry)
    )


def _controls_in_words(entry: Mapping) -> str:
    """What each control rules out, a line each."""
    rows = {parted(arm)[0] for arm in entry["final"]}
    controls = [(spaced(row), arm.words) for row, arm in CONTROLS.items() if row in rows]
    if not controls:
        return ""
    return "<p>Controls:</p>" + table([(html.escape(a), html.escape(b)) for a, b in controls])


def _curves_figure(curves: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Learning curves on the target: a colour per learner, a curve per seed."""
    lines = math.ceil(len(curves) / _LEGEND_COLUMNS)
    figure, axes = new_figure(WIDTH, 2.7 + 0.27 * lines)  # the legend takes nothing of the curves
    most = max(max(curve["steps"]) for of_arm in curves.values() for curve in of_arm) / 1000
    for name, (color, mark) in _looks(list(curves)).items():
        for k, curve in enumerate(curves[name]):
            steps = [count / 1000 for count in curve["steps"]]
            label = spaced(name) if k == 0 else None
            if len(steps) > 1:
                axes.plot(steps, curve["success"], f"{mark}-", color=color, ms=3, label=label)
            else:  # it takes no steps on the target
                axes.plot([0, most], [curve["success"][0]] * 2, ":", color=color, lw=1, label=label)
    for threshold in THRESHOLDS:
        axes.axhline(threshold, color=GREY, ls=":", lw=1)
    axes.set(
        xlabel="environment steps on the target (thousands)",
        ylabel="final success",
        ylim=(-0.02, 1.05),
    )
    axes.legend(ncol=_LEGEND_COLUMNS, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def _arms_table(entry: Mapping) -> str:
    """A line for each arm and a column for each measure that there is, with its intervals."""
    arms = {arm: arm_cells(entry, arm) for arm in entry["final"]}
    control = html.escape(spaced(entry.get("best_control") or ""))
    headings = {
        "success": "success at the end",
        **{str(threshold): f"{threshold} reached" for threshold in THRESHOLDS},
        "area": "area under the curve",
        "gain": f"more than {control} at the end",
        "gap": f"more than {control} over the curve",
        "same_demos": "more than the best control that has the same episodes, from nothing",
        "sources": "source's rows",
        "lost": "lost there",
        "n": "seeds x starts",
    }
    columns = [name for name in headings if any(name in cells for cells in arms.values())]
    rows = [
        (html.escape(spaced(arm)), *(_unbroken(cells.get(name, "")) for name in columns))
        for arm, cells in arms.items()
    ]
    return table(rows, ("", *(headings[name] for name in columns))) + _ARMS_NOTE


_ARMS_NOTE = (
    "<p class=note>In brackets: 95 % bootstrap intervals over seeds and starts; differences are "
    "paired by starts. Times are Kaplan-Meier medians over seeds, to where success stays; an end "
    "that is never reached says so.</p>"
)


def _unbroken(words: str) -> str:
    """Words as HTML, whose lines do not end within an interval."""
    interval = r"<span style='white-space:nowrap'>\g<0></span>"
    return re.sub(r"\[[^]]*\]", interval, html.escape(words))


def _transfer_table(entry: Mapping) -> str:
    zero_shot = (
        f"{percent(entry['zero_shot'])} ({percent(entry['zero_shot_low'])} to "
        f"{percent(entry['zero_shot_high'])}, {_episodes(entry)} episodes)"
    )
    rows = [("zero-shot success", zero_shot)]
    if "specialists" in entry:
        rows.append(("specialists", html.escape(choice_in_words(entry["specialists"]))))
    if "jumpstart" in entry:
        _, *ends = entry.get("jumpstarts", {}).get("zero_shot", (None,))
        interval = f" ({100 * ends[0]:+.0f} to {100 * ends[1]:+.0f})" if ends else ""
        rows.append(("jumpstart", f"{100 * entry['jumpstart']:+.0f} points{interval}"))
    rows.append(("environment steps at most", f"{entry['budget']:,}"))
    rows.append(("seconds of all its learners", f"{entry['wall_seconds']:.0f}"))
    return table(rows)
