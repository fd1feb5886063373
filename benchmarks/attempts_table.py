"""Success by attempt of what memory_left_out.sh evaluated, as a table in Markdown.

    python benchmarks/attempts_table.py FOLDER

The folder has one for each mechanism that was left out, and in it one for each policy.
"""

from __future__ import annotations

import argparse
import csv
import pathlib
import sys
from collections import defaultdict

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.evaluation.statistics import pooled  # noqa: E402

PREFIX = "unseen-"  # of the names of unseen closures, which a mechanism and a number follow


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="what the mechanisms' folders are in")
    options = parser.parse_args()
    tables = sorted(options.folder.glob("*/*/episodes.csv"))
    if not tables:
        sys.exit(f"{options.folder} has no evaluations: memory_left_out.sh makes them")
    heads = ("never trained", "policy", "its closures, attempt by attempt", "those of the others")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for path in tables:
        policy, mechanism = path.parent.name, path.parent.parent.name
        of_it, of_others = by_attempt(path, mechanism)
        print(f"| `{mechanism}` | {policy} | {of_it} | {of_others} |")


def by_attempt(path: pathlib.Path, mechanism: str) -> tuple[str, str]:
    """Success at each attempt, and the last one's interval: of a mechanism, and of all others."""
    outcomes: dict[tuple[bool, int], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            own = row["task"].startswith(f"{PREFIX}{mechanism.replace('_', '-')}-")
            outcomes[own, int(row["attempt"])][row["task"]].append(row["success"] == "True")
    attempts = sorted({attempt for _, attempt in outcomes})
    return _cell(outcomes, True, attempts), _cell(outcomes, False, attempts)


def _cell(
    outcomes: dict[tuple[bool, int], dict[str, list[bool]]], own: bool, attempts: list[int]
) -> str:
    rates = [
        pooled((sum(found) / len(found), len(found)) for found in outcomes[own, k].values())
        for k in attempts
    ]
    *_, (_, low, high) = rates
    means = ", ".join(f"{mean:.2f}" for mean, _, _ in rates)
    return f"{means} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
