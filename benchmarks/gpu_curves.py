"""A picture of success against seconds: trainings on a GPU beside trainings on a CPU.

    python benchmarks/gpu_curves.py runs/first-cpu runs/first-gpu --out curves.png

Success is that of the training's own episodes, as metrics.csv has it: of each row its last rate,
and their mean over the rows that have one. Seconds are those of learning. A line of each run says
how long it took to 0.5 and 0.9, and where it ended. Runs of `cpu` are dashed.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.agents.files import replacing  # noqa: E402
from uncap.evaluation import runs  # noqa: E402
from uncap.evaluation.metrics import read_metrics  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (after the back end is chosen)

LEVELS = (0.5, 0.9)  # of success, that a line says the seconds to
PREFIX = "success/"


class Curve(NamedTuple):
    """A training.

    Attributes:
        name: of its folder.
        engine: that it learned on.
        seconds: (points,) of learning.
        success: (points,) mean over rows, in [0, 1].
    """

    name: str
    engine: str
    seconds: np.ndarray
    success: np.ndarray


def curve_of(run: pathlib.Path) -> Curve:
    """The curve of a run folder.

    Raises:
        RunError: no run folder, or one without a success in its metrics.csv.
    """
    config = runs.open_run(run)
    latest: dict[str, float] = {}
    points = []
    for row in read_metrics(run / "metrics.csv").rows:
        latest |= {
            name: float(value) for name, value in row.items() if name.startswith(PREFIX) and value
        }
        if latest and row.get("seconds"):
            points.append((float(row["seconds"]), float(np.mean(list(latest.values())))))
    if not points:
        raise runs.RunError(f"{run / 'metrics.csv'} has no success of any row: nothing to draw")
    seconds, success = np.array(points).T
    engine = config.get("job", {}).get("engine", "cpu")
    return Curve(run.resolve().name, engine, seconds, success)


def seconds_to(curve: Curve, level: float) -> float:
    """Seconds until a curve has first reached a success; nan where it has not."""
    reached = np.flatnonzero(curve.success >= level)
    return float(curve.seconds[reached[0]]) if len(reached) else math.nan


def line(curve: Curve) -> str:
    """What is printed of a run."""
    times = {level: seconds_to(curve, level) for level in LEVELS}
    to_levels = "  ".join(
        f"to {level} {'never' if math.isnan(time) else f'{time:.0f} s'}"
        for level, time in times.items()
    )
    end = f"{curve.success[-1]:.3f} after {curve.seconds[-1]:.0f} s"
    return f"{curve.name:24} {curve.engine:5} {to_levels}  at the end {end}"


def draw(curves: Sequence[Curve], path: pathlib.Path) -> None:
    """Write the picture, a PNG."""
    figure, axes = plt.subplots(figsize=(7.0, 4.2))
    for curve in curves:
        style = "--" if curve.engine == "cpu" else "-"
        label = f"{curve.name} ({curve.engine})"
        axes.plot(curve.seconds, curve.success, style, label=label, linewidth=1.6)
    axes.set_xscale("symlog", linthresh=10)  # a GPU's minutes beside a CPU's hours
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.set_xlabel("seconds of learning")
    axes.set_ylabel("success in training")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    plt.close(figure)


def main() -> None:
    """Read, draw, say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=pathlib.Path, help="run folders")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu_curves.png"))
    options = parser.parse_args()
    try:
        curves = [curve_of(run) for run in options.runs]
        draw(curves, options.out)
    except (ValueError, OSError) as error:  # a RunError is one
        raise SystemExit(f"error: {error}") from None
    print(*map(line, curves), f"picture: {options.out}", sep="\n")


if __name__ == "__main__":
    main()
