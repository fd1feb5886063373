"""The transfers to one target as a table in Markdown: success along the curves, and differences.

    python benchmarks/transfer_table.py RUN TARGET

Success is the mean over the seeds, in percent at each point but the last; what is behind the last
one is its interval. What takes no steps has one success.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.evaluation import gains  # noqa: E402
from uncap.evaluation.runs import read_results  # noqa: E402


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="folder of the run that is transferred")
    parser.add_argument("target", help="a row that it was transferred to")
    options = parser.parse_args()
    transfers = read_results(options.run).get("transfer", {})
    if options.target not in transfers:
        known = ", ".join(transfers) or "none"
        sys.exit(f"{options.run} has no transfer to {options.target}: it has {known}")
    print("\n".join(lines(transfers[options.target])))


def lines(entry: Mapping[str, Any]) -> list[str]:
    """A heading, and a line for each arm.

    Args:
        entry: of a target in results.json.
    """
    longest = max((c["steps"] for of_arm in entry["curves"].values() for c in of_arm), key=len)
    budget = entry["budget"]
    at = [round(budget * point / (len(longest) - 1)) for point in range(len(longest))]
    heads = [
        "arm",
        f"success at {', '.join(f'{steps / 1000:.0f}' for steps in at[:-1])} thousand steps",
        "at the end",
        "0.8 for good",
        "more than the best control with the same episodes",
        "n",
    ]
    found = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for arm, of_arm in entry["curves"].items():
        means = np.mean([curve["success"] for curve in of_arm], 0)  # (points,)
        on_the_way = ", ".join(f"{100 * success:.0f}" for success in means[:-1])
        cells = gains.arm_cells(entry, arm)
        row = [
            f"`{arm}`",
            on_the_way,
            cells["success"],
            cells.get("0.8", ""),
            cells.get("same_demos", ""),
            cells.get("n", ""),
        ]
        found.append(f"| {' | '.join(row)} |")
    return found


if __name__ == "__main__":
    main()
