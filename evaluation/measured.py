"""Results of evaluations, by whoever: each says what was measured, and a table ranks them.

What is compared was measured on the same rows, starts and level.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from uncap.agents.files import FileError, read_json
from uncap.envs import TaskSet, rewards
from uncap.evaluation import listing, runs
from uncap.evaluation.protocol import in_words
from uncap.evaluation.run_shapes import MEASURED
from uncap.evaluation.statistics import Interval, pooled

FORMAT = 1  # of what is measured
RESULTS = "results.json"
SAME = {  # what has to be the same in a table: a key, and how its difference is said
    "level": "at another level",
    "seed": "on other starts",
    "episode_steps": "in episodes of another length",
    "attempts": "with another number of attempts",
}
COLUMNS = ("rank", "who", "success", "worst row", "held-out rows", "is told", "senses", "episodes")
NOTE = (
    "success: mean over the trained rows of the split, with a 95 % interval over their episodes; "
    "where intervals overlap, a rank can be chance"
)
_MOST_ROWS = 30  # of the second table


def about(who: str, split: TaskSet, told: Mapping[str, Any]) -> dict[str, Any]:
    """What results say of their evaluation.

    Args:
        who: whose policy.
        split: the rows.
        told: conditioning, sensors, level, seed, episodes and seconds.
    """
    return {
        "measured": FORMAT,
        "who": who,
        "split": {"hash": split.hash, "train": split.train, "held_out": split.held_out},
        "reward_version": rewards.VERSION,
        "versions": runs.versions(),
        **told,
    }


def read(path: pathlib.Path) -> dict[str, Any]:
    """Results of an evaluation.

    Args:
        path: the file, or the folder that holds it.

    Raises:
        FileNotFoundError: there is none.
        FileError: it is damaged, or of something else.
    """
    file = path / RESULTS if path.is_dir() else path
    remedy = "evaluate the policy anew"
    found = read_json(file, remedy)
    if "measured" not in found:
        raise FileError(f"{file} says nothing of its rows and starts: make it by `evaluate --out`")
    if found["measured"] != FORMAT:
        raise FileError(
            f"{file} was written by another version: its format is {found['measured']!r}, this one "
            f"reads {FORMAT}"
        )
    if problem := MEASURED(found, "") or _inconsistent(found):
        raise FileError(f"{file} is damaged: {problem}; {remedy}")
    return {"attempts": 1, **found}


def _inconsistent(found: Mapping[str, Any]) -> str | None:
    """What does not fit together in results."""
    held_out = (found.get("held_out") or {}).get("per_task", {})
    for place, rows, measured in (
        ("per_task", found["split"]["train"], found["per_task"]),
        ("held_out.per_task", held_out and found["split"]["held_out"], held_out),
    ):
        if sorted(measured) != sorted(rows):
            return f"{place} must hold the rows {', '.join(rows)}"
        if any(not row["episodes"] for row in measured.values()):
            return f"{place} has a row without episodes"
    return None if found["per_task"] else "per_task must hold a row"


def ranked(paths: Sequence[pathlib.Path]) -> list[dict[str, Any]]:
    """Results, the best first; each has its `rank`, and equal ones share it.

    Raises:
        FileError: one is damaged, or was measured on other rows, starts or level than the first.
        ValueError: there are none.
    """
    if not paths:
        raise ValueError("no results are named: give results.json files of `evaluate --out`")
    found = [read(path) for path in paths]
    first = found[0]
    for path, one in zip(paths, found, strict=True):
        ours, theirs = first["split"]["hash"], one["split"]["hash"]
        if ours != theirs:
            raise FileError(
                f"{path} was measured on other rows (split {theirs}) than {paths[0]} (split "
                f"{ours}): only results on the same rows are ranked"
            )
        for key, words in SAME.items():
            if one.get(key) != first.get(key):
                raise FileError(
                    f"{path} was measured {words} ({key} {one.get(key)}) than {paths[0]} "
                    f"({first.get(key)}): only results on the same starts are ranked"
                )
    rates = [_pooled(one["per_task"]) for one in found]
    entries = [
        {
            **one,
            "mean_success": rate[0],
            "low": rate[1],
            "high": rate[2],
            "rank": 1 + sum(other[0] > rate[0] for other in rates),
        }
        for one, rate in zip(found, rates, strict=True)
    ]
    return sorted(entries, key=lambda entry: entry["rank"])


def _pooled(per_task: Mapping[str, Mapping]) -> Interval:
    """Success over the episodes of all rows, see `pooled`."""
    return pooled((row["success"], row["episodes"]) for row in per_task.values())


def show(entries: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the ranking, and success in each row."""
    listing.show(COLUMNS, [_cells(entry) for entry in entries], console)
    console.print(NOTE)
    rows = list(entries[0]["per_task"])
    if len(rows) <= _MOST_ROWS:
        lines = [
            [row, *(_interval(**_bounds(entry["per_task"][row])) for entry in entries)]
            for row in rows
        ]
        console.print()
        listing.show(["row", *map(_name, entries)], lines, console)
    if any(entry.get("by_attempt") for entry in entries):
        console.print()
        first = entries[0]  # the others have the same
        if steps := first.get("attempt_steps") or first.get("episode_steps"):
            console.print(f"attempts of {in_words(steps)}:")
        listing.show(["attempt", *map(_name, entries)], _attempts(entries), console)
    for line in notes(entries):
        console.print(line)


def _attempts(entries: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each attempt: success of each entry."""
    columns = [entry.get("by_attempt", []) for entry in entries]
    return [
        [str(k + 1), *(_interval(**_bounds(c[k])) if k < len(c) else "-" for c in columns)]
        for k in range(max(map(len, columns)))
    ]


def notes(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between results beside the policy, in lines."""
    rows = [
        {
            **entry["versions"],
            "rewards": entry["reward_version"],
            "engine": entry.get("engine", "cpu"),
        }
        for entry in entries
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    versions = {name: sorted({str(row.get(name)) for row in rows}) for name in names}
    return [
        f"measured with different versions of {name}: {', '.join(found)}"
        for name, found in versions.items()
        if len(found) > 1
    ]


def _name(entry: Mapping[str, Any]) -> str:
    """Whose results these are, and whether the memory was wiped."""
    return f"{entry['who']}, memory wiped" if entry.get("wiped") else entry["who"]


def _bounds(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in ("success", "low", "high")}


def _interval(success: float, low: float, high: float) -> str:
    return f"{success:.2f} [{low:.2f}, {high:.2f}]"


def _cells(entry: Mapping[str, Any]) -> list[str]:
    per_task = entry["per_task"]
    worst = min(per_task, key=lambda name: per_task[name]["success"])
    held_out = (entry.get("held_out") or {}).get("per_task")
    return [
        str(entry["rank"]),
        _name(entry),
        f"{entry['mean_success']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]",
        f"{per_task[worst]['success']:.2f} {worst}",
        _interval(*_pooled(held_out)) if held_out else "-",
        entry["conditioning"],
        entry["sensors"],
        str(sum(row["episodes"] for row in per_task.values())),
    ]
