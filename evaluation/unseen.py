"""Rows that were not trained: where they lie, seen from those that were, and how many open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uncap.envs import Closure, TaskSet
from uncap.envs.distances import fewest_edits, in_words, nearest, unseen
from uncap.evaluation.protocol import Episode, by_attempt, by_mechanism, together


def position(row: Closure, trained: Sequence[Closure]) -> dict[str, Any]:
    """Of a row that was not trained: distance, nearest trained row, demands that none of them has.

    Args:
        row: the row.
        trained: at least one row.

    Returns:
        What results.json holds of it.
    """
    source, distance = nearest(row, trained)
    return {
        "distance": round(distance, 4),
        "nearest": source.name,
        "edits": fewest_edits(row, trained),
        "unseen": list(unseen(row, trained)),
    }


def place(found: Mapping[str, Any]) -> str:
    """A position in words: how far the row is, and from what."""
    text = f"{found['distance']:.2f} from {found['nearest']}"
    if found.get("edits"):  # of stages; 0 says nothing
        text += f", {found['edits']} stages off"
    return text.replace(" 1 stages", " 1 stage")


def news(found: Mapping[str, Any]) -> str:
    """A position in words: what no trained row asks for."""
    return in_words(found["unseen"]) or "nothing that no source asks for"


def lines(positions: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each row."""
    return [f"{name:12} {place(found)}; {news(found)}" for name, found in positions.items()]


def by_novelty(split: TaskSet, found: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of held-out rows, and means over those of mechanisms that were and were not seen.

    Args:
        split: the task set.
        found: `protocol.summary` of its held-out rows.
    """
    rows: dict[bool, dict] = {False: {}, True: {}}  # by whether the mechanism is new
    for name, row in found["per_task"].items():
        rows[split.is_of_new_mechanism(name)][name] = row
    seen = by_mechanism(rows[False])
    return {
        **found,
        "per_mechanism": by_mechanism(found["per_task"]),
        "seen_mechanisms": _mean_success(rows[False]),
        "worst_seen_mechanism": min((row["success"] for row in seen.values()), default=None),
        "new_mechanisms": _mean_success(rows[True]),
        "per_kind": {
            kind: together([found["per_task"][name] for name in names])
            for kind, names in split.held_out_kinds.items()
        },
    }


def attempts(split: TaskSet, table: Sequence[Episode]) -> dict[str, Any]:
    """Success by attempt in held-out rows: of all, and of each kind of them.

    Args:
        split: the task set.
        table: trials of its held-out rows.
    """
    return {
        "by_attempt": by_attempt(table),
        "kinds_by_attempt": {
            kind: by_attempt([episode for episode in table if episode.task in names])
            for kind, names in split.held_out_kinds.items()
        },
    }


def _mean_success(rows: Mapping[str, Mapping]) -> float | None:
    """Over rows; None of none."""
    return float(np.mean([row["success"] for row in rows.values()])) if rows else None
