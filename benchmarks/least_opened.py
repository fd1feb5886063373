"""What a policy of a composed set opens in less than half of the episodes, of mechanisms unseen.

    python benchmarks/least_opened.py RUN

Prints a held-out closure of each such mechanism, a line each, the least opened first; where there
is none, one of the least opened.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from composed_curve import read_run  # noqa: E402

from uncap.envs import splits  # noqa: E402
from uncap.evaluation.runs import read_results  # noqa: E402

HALF = 0.5


def main() -> None:
    """Print the closures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="folder of a run of a composed set")
    options = parser.parse_args()
    try:
        cell = read_run(options.run)
    except ValueError as error:
        parser.error(str(error))
    if cell is None:
        sys.exit(f"{options.run} is no run of a composed set")
    per_mechanism = read_results(options.run)["held_out"]["per_mechanism"]
    sequences = splits.split(cell.point.split).novel(cell.point.part)
    success = {name: per_mechanism[name]["success"] for name in map("-".join, sequences)}
    least, *others = sorted(success, key=lambda name: success[name])
    for name in (least, *(other for other in others if success[other] < HALF)):
        print(f"composed-unseen-{name}-0")


if __name__ == "__main__":
    main()
