"""The curve of a comparison of composed sets: mechanisms never seen against mechanisms trained.

    python train.py compare benchmarks/composed.toml
    python benchmarks/composed_curve.py runs/composed --png docs/composed.png

Prints a table in Markdown: of each number of mechanisms, split and conditioning the success on
unseen closures of seen mechanisms and on unseen mechanisms by kind of novelty, without an attempt,
means over seeds; and the share of the neighbouring pairs of the unseen ones that were trained.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import re
import sys
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.agents.files import replacing  # noqa: E402
from uncap.envs import splits  # noqa: E402
from uncap.evaluation.pages import curve_look, new_figure  # noqa: E402
from uncap.evaluation.runs import open_run, read_results  # noqa: E402

_SET = re.compile(r"composed-(\d+)(-b)?(-final)?")


class Point(NamedTuple):
    """One configuration: mechanisms trained, split, part, and what was told to which body."""

    k: int
    split: str
    part: str
    conditioning: str
    body: str


def main() -> None:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparison", type=pathlib.Path, nargs="+", help="folders of comparisons")
    parser.add_argument("--png", type=pathlib.Path, help="file for the figure")
    options = parser.parse_args()
    found = collections.defaultdict(list)
    for folder in options.comparison:
        for cell in sorted(folder.glob("cells/*/results.json")):
            point, kinds = read(cell.parent)
            if kinds:
                found[point].append(kinds)
    if not found:
        sys.exit(f"no finished trainings of composed sets in {options.comparison}")
    print_table(found)
    if options.png:
        draw(found, options.png)


def read(run: pathlib.Path) -> tuple[Point | None, dict[str, float]]:
    """The configuration of a run, and its success by kind; nothing of an unfinished one."""
    config, results = open_run(run), read_results(run)
    match = _SET.fullmatch(config["job"]["task_set"])
    per_kind = (results.get("held_out") or {}).get("per_kind")
    if match is None or not per_kind:
        return None, {}
    k, other, final = match.groups()
    job = config["job"]
    body = job.get("network", {}).get("body", job.get("body", ""))
    part = "final" if final else "dev"
    point = Point(int(k), "b" if other else "a", part, job["conditioning"], body)
    return point, {kind: row["success"] for kind, row in per_kind.items()}


def print_table(found: dict[Point, list[dict[str, float]]]) -> None:
    """A line for each configuration."""
    kinds = list(splits.NOVELTIES)
    heads = [
        "told",
        "body",
        "split",
        "mechanisms trained",
        "seeds",
        "unseen closures of them",
        *(kind.replace("_", " ") for kind in kinds),
        "mechanisms never seen",
        "pairs trained",
    ]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for point in sorted(found, key=lambda p: (p.conditioning, p.body, p.split, p.part, p.k)):
        rows = found[point]
        means = {kind: np.mean([row[kind] for row in rows]) for kind in rows[0]}
        new = [np.mean([row[kind] for kind in kinds]) for row in rows]
        spread = f" ({min(new):.2f} to {max(new):.2f})" if len(new) > 1 else ""
        shares = splits.shares_seen(splits.split(point.split), point.k, point.part)
        cells = [
            f"`{point.conditioning}`",
            point.body,
            f"{point.split}, {point.part}",
            str(point.k),
            str(len(rows)),
            f"{means['seen']:.2f}",
            *(f"{means[kind]:.2f}" for kind in kinds),
            f"**{np.mean(new):.2f}**{spread}",
            f"{np.mean(list(shares.values())):.2f}",
        ]
        print(f"| {' | '.join(cells)} |")


def draw(found: dict[Point, list[dict[str, float]]], path: pathlib.Path) -> None:
    """Success on mechanisms never seen against mechanisms trained: a line per conditioning."""
    figure, axes = new_figure(6.0, 3.6)
    lines = collections.defaultdict(lambda: collections.defaultdict(list))
    for point, rows in found.items():
        new = [np.mean([row[kind] for kind in splits.NOVELTIES]) for row in rows]
        lines[point.conditioning, point.body][point.k] += new
    for k, ((conditioning, body), by_k) in enumerate(sorted(lines.items())):
        at = sorted(by_k)
        color, style = curve_look(k)[:2]
        means = [np.mean(by_k[x]) for x in at]
        axes.plot(at, means, style, marker="o", color=color, label=f"{conditioning} ({body})")
        low, high = [min(by_k[x]) for x in at], [max(by_k[x]) for x in at]
        axes.fill_between(at, low, high, color=color, alpha=0.15, lw=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({point.k for point in found}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set(
        xlabel="mechanisms trained",
        ylabel="mechanisms never seen, opened",
        ylim=(0, 1.02),
    )
    axes.legend(frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, bbox_inches="tight")


if __name__ == "__main__":
    main()
