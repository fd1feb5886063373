"""The report of a run: one self-contained HTML page, made from its folder alone."""

from __future__ import annotations

import html
import pathlib
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from uncap.agents.files import write_text
from uncap.agents.tables import WARM_STARTS
from uncap.envs.batch import CONTROL_DT
from uncap.evaluation import attempts, beliefs
from uncap.evaluation.pages import (
    BLACK,
    BLUE,
    GREY,
    WIDTH,
    curve_look,
    in_base64,
    new_figure,
    page,
    percent,
    picture,
    table,
)
from uncap.evaluation.protocol import in_words
from uncap.evaluation.runs import (
    open_run,
    problems,
    read_beliefs,
    read_cosines,
    read_results,
    read_run_metrics,
)
from uncap.evaluation.unseen_report import distance_section, transfer_section

_MOST_BARS = 30  # of a figure, and curves with a name
_SMOOTHING = 10  # updates: a task's curve is the mean of so many


def write_report(run: pathlib.Path) -> pathlib.Path:
    """Write report.html from a run folder; what is missing in the folder is left out.

    Args:
        run: the folder, of which config.json, results.json, metrics.csv, cosines.json and
            videos/ are read.

    Returns:
        The page.

    Raises:
        RunError: a file is damaged that cannot be left out.
    """
    config = open_run(run)
    results = read_results(run)
    metrics = read_run_metrics(run).rows
    seconds = results.get("train", {}).get("seconds")
    transfers = results.get("transfer", {})
    sections = [
        _title(run.name, config),
        *(f"<p class=note>{html.escape(line)}</p>" for line in problems(run)),
        _headline(results),
        distance_section(config, results),
        _success_section(results),
        _attempts_section(results),
        _beliefs_section(read_beliefs(run)),
        _held_out_section(results.get("held_out")),
        _learning_section(metrics, seconds),
        _cosines_section(read_cosines(run)),
        *(transfer_section(target, entry) for target, entry in transfers.items()),
        _films_section(run / "videos", config, results),
        _facts_section(config, results),
    ]
    path = run / "report.html"
    write_text(path, page("Uncap report", "".join(sections)))
    return path


def _title(name: str, config: Mapping) -> str:
    command = html.escape(config.get("command", ""))
    return f"<h1>Uncap: {html.escape(name)}</h1><p class=note>{command}</p>"


def _success_section(results: Mapping) -> str:
    """A figure of final success and a table; of many rows the figure shows their mechanisms."""
    if "mean_success" not in results:
        return ""
    rows = results["per_task"]
    many = len(rows) > _MOST_BARS
    mechanisms = results.get("per_mechanism") if many else None
    figure = _success_figure(mechanisms or rows, "mechanisms" if mechanisms else "rows")
    section = "<h2>Success on the trained rows</h2>" + picture(figure)
    return section + (_folded(_success_table(rows)) if many else _success_table(rows))


def _folded(content: str) -> str:
    return f"<details><summary>every row</summary>{content}</details>"


def _attempts_section(results: Mapping) -> str:
    """Success by attempt, with the memory kept and wiped."""
    kept = results.get("by_attempt")
    if not kept:
        return ""
    lines = [
        (words, *(_with_interval(row) for row in rows))
        for words, rows in attempts.by_words(results).items()
    ]
    heading = ("", *(f"attempt {number}" for number in range(1, len(kept) + 1)))
    steps = results.get("attempt_steps")
    length = f" of {in_words(steps)}" if steps else ""
    return (
        f"<h2>Attempts</h2><p>Each trial is {len(kept)} attempts{length} at one closure, from a "
        "new start each. The difference between a memory that is kept and one that is wiped is "
        "what is remembered over attempts; the rest is found out within one. The scripted search "
        "is told nothing either: it tries what a closure may be, and remembers.</p>"
        + table(lines, heading)
    )


def _beliefs_section(believed: Mapping) -> str:
    """What a policy with a memory takes the closures for, along its attempts and after each."""
    if not believed:
        return ""
    return (
        "<h2>What it takes the closures for</h2>"
        + picture(beliefs.own_figure(believed))
        + picture(beliefs.after_figure(believed))
        + f"<p class=note>{html.escape(beliefs.line(believed))}.</p>"
    )


def _with_interval(row: Mapping) -> str:
    return f"{percent(row['success'])} [{percent(row['low'])}, {percent(row['high'])}]"


def _held_out_section(held_out: Mapping | None) -> str:
    """Success on each held-out row, without training on it."""
    if not held_out:
        return ""
    means = {
        "mean": held_out["mean_success"],
        "worst": held_out["worst_success"],
        "rows of mechanisms that were trained": held_out.get("seen_mechanisms"),
        "the worst of these mechanisms": held_out.get("worst_seen_mechanism"),
        "rows of others": held_out.get("new_mechanisms"),
    }
    kinds = held_out.get("per_kind", {})
    means |= {f"kind: {kind.replace('_', ' ')}": row["success"] for kind, row in kinds.items()}
    line = ", ".join(f"{words} {percent(x)}" for words, x in means.items() if x is not None)
    return f"<h2>Held-out rows, without training on them</h2><p>{line}.</p>" + _folded(
        _success_table(held_out["per_task"])
    )


def _headline(results: Mapping) -> str:
    """Mean and worst success, the share of the warm start in it, what training cost, faults."""
    if "mean_success" not in results:
        return ""
    mean = f"{100 * results['mean_success']:.1f} %"
    text = (
        f"<p><span class=big>{mean}</span> mean final success over "
        f"{len(results['per_task'])} trained rows; worst: {_worst(results)}.</p>"
    )
    ceiling = results.get("guess_ceiling", 1.0)
    if ceiling < 1:
        text += (
            "<p>Rows of one group cannot be told apart until they are touched: a policy that "
            f"guesses, and learns nothing by touch, has {100 * ceiling:.1f} %.</p>"
        )
    if warm_start := results.get("warm_start"):
        text += (
            f"<p>In validation: {100 * warm_start['mean_success']:.1f} % after the warm start, "
            f"{100 * warm_start['kept']:.1f} % of the checkpoint that was kept.</p>"
        )
    train = results.get("train", {})
    env_steps = train.get("env_steps", 0)
    wall_seconds = train.get("wall_seconds", 0)
    text += f"<p class=note>{env_steps:,} environment steps in {wall_seconds:.0f} s.</p>"
    return text + _faults_line(results)


def _worst(results: Mapping) -> str:
    """The row that opens least, with a link to its film, and its success."""
    name = min(results["per_task"], key=lambda task: results["per_task"][task]["success"])
    words = html.escape(name)
    if name in results.get("films", {}):
        words = f"<a href='#film-{words}'>{words}</a>"
    return f"{words} {percent(results['worst_success'])}"


def _success_figure(parts: Mapping[str, Mapping], what: str) -> Figure:
    """Final success of each part with its interval: a bar each, or a point each of many.

    Args:
        parts: success and its interval of each row, or of each mechanism.
        what: what they are, in the plural.
    """
    if len(parts) > _MOST_BARS:
        return _sorted_success_figure(parts, what)
    names = list(parts)[::-1]  # bars are drawn from the bottom; the first one is on top
    success, interval = _with_errors([parts[name] for name in names])
    figure, axes = new_figure(WIDTH, 0.36 * len(names) + 0.9)
    error_style = {"ecolor": BLACK, "capsize": 3}
    axes.barh(names, success, color=BLUE, xerr=interval, error_kw=error_style)
    axes.set(xlim=(0, 1.02), xlabel="final success (bars: 95 % Wilson interval)")
    return figure


def _sorted_success_figure(parts: Mapping[str, Mapping], what: str) -> Figure:
    """A point of final success for each part with its interval, the least successful one first."""
    in_order = sorted(parts.values(), key=lambda part: part["success"])
    success, interval = _with_errors(in_order)
    figure, axes = new_figure(WIDTH, 3.2)
    axes.errorbar(
        range(1, len(in_order) + 1), success, yerr=interval, fmt=".", color=BLUE, ecolor=GREY
    )
    axes.set(
        ylim=(0, 1.02),
        xlabel=f"{len(in_order)} {what}, the least successful one first",
        ylabel="final success\n(bars: 95 % Wilson interval)",
    )
    return figure


def _with_errors(parts: Sequence[Mapping]) -> tuple[list[float], list[list[float]]]:
    """Success of each part, and how far its interval reaches below and above it."""
    success = [part["success"] for part in parts]
    below = [max(0.0, part["success"] - part["low"]) for part in parts]
    above = [max(0.0, part["high"] - part["success"]) for part in parts]
    return success, [below, above]


def _success_table(per_task: Mapping[str, Mapping]) -> str:
    heading = (
        "task",
        "final success",
        "95 % interval",
        "episodes",
        "at any time",
        "progress",
        "time to open",
    )
    rows = [
        (
            html.escape(name),
            percent(task["success"]),
            f"{percent(task['low'])} to {percent(task['high'])}",
            task["episodes"],
            percent(task["success_any"]),
            percent(task["progress"]),
            _time_to_open(task["steps_to_success"]),
        )
        for name, task in per_task.items()
    ]
    return table(rows, heading)


def _time_to_open(control_steps: float | None) -> str:
    return "never" if control_steps is None else f"{control_steps * CONTROL_DT:.1f} s"


def _learning_section(metrics: Sequence[Mapping[str, str]], seconds: Mapping | None) -> str:
    if not metrics:
        return ""
    section = "<h2>Learning</h2>" + picture(_learning_figure(metrics, "success"))
    if any(_of_rows(metrics, "validation")):
        section += picture(_learning_figure(metrics, "validation"))
    if seconds and sum(seconds.values()) > 0:
        section += picture(_seconds_figure(seconds))
    return section


def _of_rows(metrics: Sequence[Mapping[str, str]], part: str) -> list[str]:
    """The columns of metrics.csv that hold each row's success, in training or in validation."""
    return [column for column in metrics[0] if column.startswith(f"{part}/")]


def _learning_figure(metrics: Sequence[Mapping[str, str]], part: str) -> Figure:
    """Success of every row and the mean of validations, over environment steps.

    Over seconds, where there were no steps: cloning takes none.

    Args:
        metrics: rows of metrics.csv.
        part: "success", of the episodes in which it learned, or "validation".
    """
    columns = _of_rows(metrics, part)
    named = len(columns) <= _MOST_BARS
    lines = len(columns) + 1 if named else 1  # of the legend, beside the curves
    figure, axes = new_figure(WIDTH, max(3.2, 0.17 * lines + 0.6))
    learned = part == "success"
    spent, xlabel = _spent(metrics)
    for k, column in enumerate(columns):
        x, success = _curve(metrics, column, spent)
        values = _smooth(success) if learned else success
        if named:
            color, style = curve_look(k)
            name = column.removeprefix(f"{part}/")
            axes.plot(x, values, style, color=color, lw=1, alpha=0.7, label=name)
        else:
            axes.plot(x, values, color=GREY, lw=0.5, alpha=0.25)
    if not named:
        x, means = _mean_curve(metrics, columns, spent)
        axes.plot(
            x, _smooth(means) if learned else means, lw=2, label=f"mean of {len(columns)} rows"
        )
    x, validation = _curve(metrics, "validation", spent)
    axes.plot(x, validation, "ko-", ms=4, lw=2, label="validation, mean")
    phases = [m["phase"] for m in metrics]
    warm_start = [x for x, phase in zip(spent, phases, strict=True) if phase in WARM_STARTS]
    if warm_start:
        axes.axvline(warm_start[-1], color=GREY, ls="--", lw=1)
        middle = (spent[0] + spent[-1]) / 2
        side = "right" if warm_start[-1] > middle else "left"  # within the axes
        axes.text(warm_start[-1], 1.04, " warm start ends ", color=GREY, fontsize=8, ha=side)
    ylabel = f"success (rows: last {_SMOOTHING} updates)" if learned else "success in validation"
    axes.set(xlabel=xlabel, ylabel=ylabel, ylim=(-0.02, 1.1))
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    return figure


def _spent(metrics: Sequence[Mapping[str, str]]) -> tuple[list[float], str]:
    """What was spent at each row of metrics.csv, and in what: a figure's horizontal axis."""
    thousands = [float(m["env_steps"]) / 1000 for m in metrics]
    if any(thousands):
        return thousands, "environment steps (thousands)"
    return [float(m.get("seconds") or 0) for m in metrics], "seconds"


def _mean_curve(
    metrics: Sequence[Mapping[str, str]], columns: Sequence[str], spent: Sequence[float]
) -> tuple[list[float], list[float]]:
    """What was spent and the mean of the columns that have a number there."""
    filled = [
        (x, [float(m[c]) for c in columns if m.get(c)]) for x, m in zip(spent, metrics, strict=True)
    ]
    means = [(x, sum(values) / len(values)) for x, values in filled if values]
    return [x for x, _ in means], [mean for _, mean in means]


def _curve(
    metrics: Sequence[Mapping[str, str]], column: str, spent: Sequence[float]
) -> tuple[list[float], list[float]]:
    """What was spent and a column's numbers, where it has one."""
    filled = [(x, float(m[column])) for x, m in zip(spent, metrics, strict=True) if m.get(column)]
    return [x for x, _ in filled], [value for _, value in filled]


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean of each value and of up to nine before it."""
    means = []
    for end in range(1, len(values) + 1):
        window = values[max(0, end - _SMOOTHING) : end]
        means.append(sum(window) / len(window))
    return means


def _seconds_figure(seconds: Mapping[str, float]) -> Figure:
    """One bar: what the time of learning went to."""
    figure, axes = new_figure(WIDTH, 1.3)
    total = sum(seconds.values())
    left = 0.0
    for k, (name, spent) in enumerate(seconds.items()):
        color, _ = curve_look(k)
        label = f"{name} {percent(spent / total)}"
        axes.barh(0, spent, left=left, color=color, label=label)
        left += spent
    axes.set(xlim=(0, total), xlabel="seconds of learning", yticks=[])
    axes.legend(
        ncol=len(seconds),
        fontsize=8,
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        columnspacing=1.0,
    )
    return figure


def _cosines_section(cosines: Mapping) -> str:
    if not cosines:
        return ""
    note = (
        "Gradients of the actor's shared parameters on the last update's first minibatch; "
        "blank: it had no sample of the task."
    )
    return (
        "<h2>Do the tasks' gradients agree?</h2>"
        + picture(_cosines_figure(cosines["tasks"], cosines["cosines"]))
        + f"<p class=note>{note}</p>"
    )


def _cosines_figure(names: Sequence[str], cosines: Sequence[Sequence[float | None]]) -> Figure:
    """Heat map of the cosines between the tasks' gradients of the actor."""
    missing = float("nan")
    values = [[missing if cosine is None else cosine for cosine in line] for line in cosines]
    figure, axes = new_figure(0.55 * len(names) + 2.4, 0.45 * len(names) + 1.6)
    image = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(image, label="cosine: blue agrees, red conflicts")
    return figure


def _faults_line(results: Mapping) -> str:
    """What went wrong in the episodes of evaluations; none is said, too."""
    if "mean_success" not in results:
        return ""
    curves = {
        f"transfer to {target}, {kind}": curve
        for target, entry in results.get("transfer", {}).items()
        for kind, of_kind in entry["curves"].items()
        for curve in of_kind
    }
    parts = {"evaluation": results, "held-out rows": results.get("held_out"), **curves}
    lines = [
        f"{words}: {_faults(parts, key)}."
        for key, words in (
            ("diverged", "Simulations that diverged and were put back"),
            ("invalid_actions", "Actions that were not finite"),
        )
    ]
    return f"<p class=note>{html.escape(' '.join(lines))}</p>"


def _faults(parts: Mapping[str, Mapping | None], key: str) -> str:
    """Counts of one fault by the part of the run that had it."""
    counts = {name: part[key] for name, part in parts.items() if part and key in part}
    if "evaluation" not in counts:
        return "not recorded"
    found = [f"{count} ({name})" for name, count in counts.items() if count]
    return ", ".join(found) or "none"


def _films_section(folder: pathlib.Path, config: Mapping, results: Mapping) -> str:
    """The films: of held-out rows first, which are marked; each with its outcome, where known."""
    films = sorted(folder.glob("[!.]*.mp4"))
    if not films:
        return ""
    held_out = config.get("held_out", [])
    films.sort(key=lambda path: path.stem not in held_out)
    outcomes = results.get("films", {})
    figures = [_film(path, path.stem in held_out, outcomes.get(path.stem)) for path in films]
    return f"<h2>Rollouts</h2><div class=films>{''.join(figures)}</div>"


def _film(path: pathlib.Path, held_out: bool, outcome: Mapping | None) -> str:
    source = f"data:video/mp4;base64,{in_base64(path.read_bytes())}"
    name = html.escape(path.stem)
    words = f"<b>{name}</b>" + (", held out" if held_out else "")
    if outcome is not None:
        opened = "opened" if outcome["success"] else "not opened"
        words += f": {opened}" + ("" if outcome["success"] else f", {percent(outcome['progress'])}")
    plays = "autoplay controls loop muted playsinline"
    return (
        f"<figure id='film-{name}' style='margin:0'><video {plays} src='{source}'></video>"
        f"<figcaption class=note>{words}</figcaption></figure>"
    )


def _facts_section(config: Mapping, results: Mapping) -> str:
    """How the run was made: its command, tasks, machine and versions."""
    total_seconds = results.get("total_seconds")
    facts = {
        "command": config.get("command"),
        "seed": config.get("seed"),
        "trained": ", ".join(config.get("train", [])),
        "held out": ", ".join(config.get("held_out", [])),
        "split": config.get("split_hash"),
        "conditioning": config.get("conditioning"),
        "machine": results.get("machine") or config.get("machine"),
        "versions": config.get("versions"),
        "total seconds": total_seconds and round(total_seconds),
    }
    rows = [
        (name, f"<code>{html.escape(_text(value))}</code>")
        for name, value in facts.items()
        if value not in (None, "")
    ]
    return "<h2>How this was made</h2>" + table(rows)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return str(value)
