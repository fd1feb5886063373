"""The curve of a comparison of composed sets: mechanisms never seen against mechanisms trained.

    python train.py compare benchmarks/composed.toml
    python benchmarks/composed_curve.py docs/composed.csv --add runs/composed --png curve.png

Keeps one line for each finished training in a CSV file, so that a grid can be trained in parts.
Prints a table in Markdown: of each number of mechanisms, split and conditioning the success on
unseen closures of seen mechanisms and on unseen mechanisms by kind of novelty, zero-shot,
means over seeds; the share of the neighbouring pairs of the unseen ones that were trained; and the
curve of the figure, means over splits and seeds. Of what is added, also the neighbouring stages
that stay hard where many mechanisms were trained.
"""

from __future__ import annotations

import argparse
import collections
import csv
import itertools
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
MANY = 64  # mechanisms trained
HARDEST = 6  # pairs of stages that are printed
_KINDS = ("seen", *splits.NOVELTIES)


class Point(NamedTuple):
    """One configuration: mechanisms trained, split, part, and what was told to which body."""

    k: int
    split: str
    part: str
    conditioning: str
    body: str


class Cell(NamedTuple):
    """A finished training: success by kind, and the seconds of its training and of all of it."""

    point: Point
    seed: int
    success: dict[str, float]
    seconds: tuple[float, float]


def main() -> None:
    """Add what is new to the file, print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=pathlib.Path, help="CSV file, a line for each training")
    parser.add_argument(
        "--add", type=pathlib.Path, nargs="+", default=[], help="folders of comparisons"
    )
    parser.add_argument("--png", type=pathlib.Path, help="file for the figure")
    options = parser.parse_args()
    cells = read_table(options.data) if options.data.exists() else {}
    for folder in options.add:
        for results in sorted(folder.glob("cells/*/results.json")):
            if cell := read_run(results.parent):
                cells[cell.point, cell.seed] = cell
    if not cells:
        sys.exit(f"{options.data} has no training, and no finished one of composed sets is added")
    if options.add:
        write_table(options.data, cells)
    found = collections.defaultdict(list)
    for cell in cells.values():
        found[cell.point].append(cell.success)
    print_table(found)
    print_curve(found)
    print_hardest(options.add)
    if options.png:
        draw(found, options.png)


def read_run(run: pathlib.Path) -> Cell | None:
    """A finished training of a composed set; None of any other."""
    config, results = open_run(run), read_results(run)
    job = config["job"]
    match = _SET.fullmatch(job["task_set"])
    per_kind = (results.get("held_out") or {}).get("per_kind")
    if match is None or not per_kind:
        return None
    k, other, final = match.groups()
    body = job.get("network", {}).get("body", job.get("body", ""))
    part = "final" if final else "dev"
    point = Point(int(k), "b" if other else "a", part, job["conditioning"], body)
    success = {kind: per_kind[kind]["success"] for kind in _KINDS}
    seconds = (results["train"]["wall_seconds"], results["total_seconds"])
    return Cell(point, config["seed"], success, seconds)


def read_table(path: pathlib.Path) -> dict[tuple[Point, int], Cell]:
    """The trainings of a file that `write_table` wrote."""
    cells = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            point = Point(
                int(row["k"]), row["split"], row["part"], row["conditioning"], row["body"]
            )
            success = {kind: float(row[kind]) for kind in _KINDS}
            seconds = (float(row["train_seconds"]), float(row["total_seconds"]))
            cells[point, int(row["seed"])] = Cell(point, int(row["seed"]), success, seconds)
    return cells


def write_table(path: pathlib.Path, cells: dict[tuple[Point, int], Cell]) -> None:
    """A line for each training, in order."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*Point._fields, "seed", *_KINDS, "train_seconds", "total_seconds"])
        for (point, seed), cell in sorted(cells.items()):
            shares = [f"{cell.success[kind]:.4f}" for kind in _KINDS]
            writer.writerow([*point, seed, *shares, *(f"{s:.0f}" for s in cell.seconds)])


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


def print_hardest(folders: list[pathlib.Path]) -> None:
    """The neighbouring stages of unseen mechanisms that open least, where many were trained."""
    rates = collections.defaultdict(lambda: collections.defaultdict(list))
    for folder in folders:
        for results in sorted(folder.glob("cells/*/results.json")):
            cell = read_run(results.parent)
            if cell is None or cell.point.k < MANY:
                continue
            novel = splits.split(cell.point.split).novel(cell.point.part)
            per_mechanism = read_results(results.parent)["held_out"]["per_mechanism"]
            for sequence in novel:
                for pair in itertools.pairwise(sequence):
                    success = per_mechanism["-".join(sequence)]["success"]
                    rates[cell.point.conditioning][pair].append(success)
    for conditioning, of_pairs in sorted(rates.items()):
        least = sorted(of_pairs, key=lambda pair: np.mean(of_pairs[pair]))[:HARDEST]
        words = [f"`{'-'.join(pair)}` {np.mean(of_pairs[pair]):.2f}" for pair in least]
        print(f"\n{conditioning}, {MANY} mechanisms or more, least: {', '.join(words)}")


def curves(
    found: dict[Point, list[dict[str, float]]],
) -> dict[tuple[str, str], dict[int, list[float]]]:
    """Success on mechanisms never seen, of each training of both splits.

    Returns:
        By (conditioning, body), then by the number of mechanisms trained, both in order.
    """
    lines = collections.defaultdict(lambda: collections.defaultdict(list))
    for point in sorted(found, key=lambda point: (point.conditioning, point.body, point.k)):
        new = [float(np.mean([row[kind] for kind in splits.NOVELTIES])) for row in found[point]]
        lines[point.conditioning, point.body][point.k] += new
    return lines


def print_curve(found: dict[Point, list[dict[str, float]]]) -> None:
    """A line for each conditioning: its mean over splits and seeds at each number of mechanisms."""
    print("\nmechanisms never seen, means over splits and seeds, by mechanisms trained:")
    for (conditioning, body), by_k in curves(found).items():
        points = [f"{k}: {np.mean(new):.2f} (n = {len(new)})" for k, new in by_k.items()]
        print(f"{conditioning} ({body})  {', '.join(points)}")


def draw(found: dict[Point, list[dict[str, float]]], path: pathlib.Path) -> None:
    """Success on mechanisms never seen against mechanisms trained: a line per conditioning."""
    figure, axes = new_figure(6.0, 3.6)
    for k, ((conditioning, body), by_k) in enumerate(curves(found).items()):
        at = list(by_k)
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
