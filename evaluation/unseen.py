"""Where rows that were not trained lie, seen from those that were: for tables and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uncap.envs import Closure
from uncap.envs.distances import fewest_edits, in_words, nearest, unseen


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
