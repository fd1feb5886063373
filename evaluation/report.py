"""The report: one self-contained HTML page, made from a run folder alone."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import os
import pathlib

import matplotlib

from envs.batch import CONTROL_DT

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

_STYLE = """body{font:15px/1.55 system-ui,sans-serif;max-width:1040px;margin:36px auto;padding:0 20px;color:#1d232b}
h1{margin-bottom:0}h2{margin-top:36px;border-bottom:1px solid #dde2e8;padding-bottom:4px}table{border-collapse:collapse}
td,th{padding:4px 14px 4px 0;text-align:left;border-bottom:1px solid #eceff3}code{background:#f2f4f7;padding:2px 5px;border-radius:4px}
.films{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:12px}video{width:100%;border-radius:6px}
.big{font-size:40px;font-weight:650;margin-right:8px}.note{color:#5b6672}img{max-width:100%}"""
_BLUE, _GREY, _ORANGE, _GREEN = "#2463c2", "#8a94a0", "#d9772b", "#2f9e5b"


def write_report(run: pathlib.Path) -> pathlib.Path:
    """Write report.html from config.json, metrics.csv, results.json and videos/; missing parts are left out."""
    config, results = (_read(run / name) for name in ("config.json", "results.json"))
    parts = [
        f"<h1>Uncap: {html.escape(run.name)}</h1><p class=note>{html.escape(config.get('command', ''))}</p>"
    ]
    if "mean_success" in results:
        parts += [
            _headline(results, config),
            "<h2>Success per task</h2>",
            _per_task(results["per_task"]),
        ]
    metrics = _metrics(run / "metrics.csv")
    if metrics:
        parts += [
            "<h2>Learning</h2>",
            _learning(metrics),
            _seconds(results.get("train", {}).get("seconds")),
        ]
    if cosines := _read(run / "cosines.json"):
        parts += ["<h2>Do the tasks pull the same way?</h2>", _cosines(cosines)]
    for target, entry in results.get("transfer", {}).items():
        parts += [f"<h2>Transfer to {html.escape(target)}</h2>", _transfer(entry)]
    parts += [_films(run), "<h2>How this was made</h2>", _facts(config, results)]
    path = run / "report.html"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page("Uncap report", "".join(parts)))
    os.replace(temporary, path)
    return path


def page(title: str, body: str) -> str:
    """A self-contained HTML page."""
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>{body}"


def _read(path: pathlib.Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


def _metrics(path: pathlib.Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def _headline(results: dict, config: dict) -> str:
    train = results.get("train", {})
    tasks = len(results["per_task"])
    line = (
        f"<p><span class=big>{100 * results['mean_success']:.1f} %</span> mean final success over {tasks} tasks; "
        f"worst {100 * results['worst_success']:.0f} %.</p>"
    )
    if warm := results.get("warm_start"):
        line += (
            f"<p>Warm start: {100 * warm['mean_success']:.1f} % (validation starts); after reinforcement learning the kept "
            f"checkpoint has {100 * warm['kept']:.1f} % on the same starts.</p>"
        )
    return (
        line
        + f"<p class=note>{train.get('env_steps', 0):,} environment steps in {train.get('wall_seconds', 0):.0f} s.</p>"
    )


def _per_task(per_task: dict) -> str:
    rows = []
    for name, t in per_task.items():
        seconds = (
            "never"
            if t["steps_to_success"] is None
            else f"{t['steps_to_success'] * CONTROL_DT:.1f} s"
        )
        cells = (
            name,
            _percent(t["success"]),
            f"{_percent(t['low'])} to {_percent(t['high'])}",
            t["episodes"],
            _percent(t["success_any"]),
            _percent(t["progress"]),
            seconds,
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    figure, axes = plt.subplots(figsize=(8.5, 0.36 * len(per_task) + 0.9))
    names = list(per_task)[::-1]
    y = [per_task[n]["success"] for n in names]
    low, high = ([per_task[n][k] for n in names] for k in ("low", "high"))
    spread = [
        [max(0, v - e) for v, e in zip(y, low, strict=True)],
        [max(0, e - v) for v, e in zip(y, high, strict=True)],
    ]
    axes.barh(names, y, color=_BLUE, xerr=spread, error_kw={"ecolor": "#1d232b", "capsize": 3})
    axes.set(xlim=(0, 1.02), xlabel="final success (bars: 95 % Wilson interval)")
    titles = (
        "task",
        "final success",
        "95 % interval",
        "episodes",
        "at any time",
        "progress",
        "time to open",
    )
    head = "<tr>" + "".join(f"<th>{title}</th>" for title in titles) + "</tr>"
    return picture(figure) + f"<table>{head}{''.join(rows)}</table>"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _learning(metrics: list[dict]) -> str:
    figure, axes = plt.subplots(figsize=(8.5, 3.4))
    axes.set_prop_cycle(
        plt.cycler(ls=("-", "--", ":")) * plt.cycler(color=plt.get_cmap("tab10").colors)
    )  # 30 rows that differ
    names = [k[8:] for k in metrics[0] if k.startswith("success/")]
    steps = [float(m["env_steps"]) / 1000 for m in metrics]
    for name in names:
        pairs = [
            (s, float(m[f"success/{name}"]))
            for s, m in zip(steps, metrics, strict=True)
            if m[f"success/{name}"]
        ]
        smooth = [
            sum(y for _, y in pairs[max(0, k - 9) : k + 1]) / min(k + 1, 10)
            for k in range(len(pairs))
        ]
        axes.plot([x for x, _ in pairs], smooth, lw=1, alpha=0.7, label=name)
    checks = [
        (s, float(m["validation"])) for s, m in zip(steps, metrics, strict=True) if m["validation"]
    ]
    axes.plot(
        [x for x, _ in checks],
        [y for _, y in checks],
        "ko-",
        ms=4,
        lw=2,
        label="all, without exploration",
    )
    if boundary := [
        s for s, m in zip(steps, metrics, strict=True) if m["phase"] in ("dagger", "clone")
    ]:
        axes.axvline(boundary[-1], color=_GREY, ls="--", lw=1)
        axes.text(boundary[-1], 1.03, " warm start ends", color=_GREY, fontsize=8)
    axes.set(
        xlabel="environment steps (thousands)",
        ylabel="success (tasks: last 10 updates)",
        ylim=(-0.02, 1.1),
    )
    axes.legend(ncol=4, fontsize=8, frameon=False)
    return picture(figure)


def _seconds(seconds: dict | None) -> str:
    """One bar: what the time of learning went to."""
    if not seconds:
        return ""
    figure, axes = plt.subplots(figsize=(8.5, 1.3))
    total, left = sum(seconds.values()), 0.0
    for k, (name, share) in enumerate(seconds.items()):
        axes.barh(
            0,
            share,
            left=left,
            color=plt.get_cmap("tab10")(k),
            label=f"{name} {_percent(share / total)}",
        )
        left += share
    axes.set(xlim=(0, total), xlabel="seconds of learning", yticks=[])
    axes.legend(
        ncol=len(seconds),
        fontsize=8,
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        columnspacing=1.0,
    )
    return picture(figure)


def _cosines(found: dict) -> str:
    """Heat map of the cosines between the tasks' gradients of the actor."""
    names, values = (
        found["tasks"],
        [[float("nan") if c is None else c for c in row] for row in found["cosines"]],
    )
    figure, axes = plt.subplots(figsize=(0.55 * len(names) + 2.4, 0.45 * len(names) + 1.6))
    image = axes.imshow(values, cmap="RdBu", vmin=-1, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    figure.colorbar(image, label="cosine: blue agrees, red conflicts")
    note = "Gradients of the actor's shared parameters, in the last update; blank: the task was not practised in it."
    return picture(figure) + f"<p class=note>{note}</p>"


def _transfer(entry: dict) -> str:
    figure, axes = plt.subplots(figsize=(8.5, 3.2))
    for name, color in (("pretrained", _BLUE), ("scratch", _ORANGE), ("few_shot", _GREEN)):
        for k, curve in enumerate(entry["curves"].get(name, [])):
            axes.plot(
                [s / 1000 for s in curve["steps"]],
                curve["success"],
                "o-",
                color=color,
                ms=3,
                label=name if k == 0 else None,
            )
    axes.axhline(entry["threshold"], color=_GREY, ls=":", lw=1)
    axes.set(
        xlabel="environment steps on the target (thousands)",
        ylabel="final success",
        ylim=(-0.02, 1.05),
    )
    axes.legend(frameon=False)

    def steps(values: list) -> str:
        return ", ".join(
            f"{v:,}" if v is not None else f"not within {entry['budget']:,}" for v in values
        )

    reach = entry["steps_to_threshold"]
    rows = (
        (
            "zero-shot success",
            f"{_percent(entry['zero_shot'])} ({_percent(entry['zero_shot_low'])} to "
            f"{_percent(entry['zero_shot_high'])}, {entry['episodes']} episodes)",
        ),
        ("steps to 80 %, pretrained (per seed)", steps(reach["pretrained"])),
        ("steps to 80 %, from scratch (per seed)", steps(reach["scratch"])),
        *(
            (f"steps to 80 %, after {entry['few_shot']} expert episodes (per seed)", steps(v))
            for k, v in reach.items()
            if k == "few_shot"
        ),
        ("jumpstart", f"{100 * entry['jumpstart']:+.0f} points"),
        (
            "area under the curve",
            f"{entry['area']['pretrained']:.2f} against {entry['area']['scratch']:.2f}",
        ),
        ("wall seconds", f"{entry['wall_seconds']:.0f}"),
    )
    return (
        picture(figure)
        + "<table>"
        + "".join(f"<tr><td>{a}</td><td>{b}</td></tr>" for a, b in rows)
        + "</table>"
    )


def _films(run: pathlib.Path) -> str:
    films = sorted((run / "videos").glob("*.mp4"))
    if not films:
        return ""
    tags = [
        f"<figure style='margin:0'><video controls loop muted src='data:video/mp4;base64,{base64.b64encode(f.read_bytes()).decode()}'>"
        f"</video><figcaption class=note>{html.escape(f.stem)}</figcaption></figure>"
        for f in films
    ]
    return f"<h2>Rollouts</h2><div class=films>{''.join(tags)}</div>"


def _facts(config: dict, results: dict) -> str:
    seconds = results.get("total_seconds")
    facts = {
        "command": config.get("command"),
        "seed": config.get("seed"),
        "trained": ", ".join(config.get("train", [])),
        "held out": ", ".join(config.get("held_out", [])),
        "split": config.get("split_hash"),
        "conditioning": config.get("conditioning"),
        "machine": results.get("machine") or config.get("machine"),
        "versions": config.get("versions"),
        "total seconds": seconds and round(seconds),
    }
    rows = [
        f"<tr><td>{k}</td><td><code>{html.escape(_text(v))}</code></td></tr>"
        for k, v in facts.items()
        if v not in (None, "")
    ]
    return f"<table>{''.join(rows)}</table>"


def _text(value) -> str:
    return (
        ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
    )


def picture(figure) -> str:
    """An <img> that holds the figure, which is closed."""
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return f"<img src='data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'>"
