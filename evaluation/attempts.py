"""Success by attempt in results.json: of a policy, its control and the scripted search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Columns = dict[str, Sequence[Mapping[str, Any]]]
"""{whose it is, in words: success in the first, second, ... attempt, with its interval}"""


def by_words(results: Mapping[str, Any]) -> Columns:
    """All that a run's results have.

    Args:
        results: of results.json.
    """
    searched = results.get("scripted_search") or {}
    found = {
        "memory kept": results.get("by_attempt"),
        "memory wiped before each": results.get("wiped_by_attempt"),
        "scripted search": searched.get("by_attempt"),
        **_held_out("held-out rows", results.get("held_out")),
        **_held_out("scripted search, held-out rows", searched.get("held_out")),
    }
    return {words: rows for words, rows in found.items() if rows}


def _held_out(words: str, part: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of held-out rows, and of each kind of them."""
    part = part or {}
    kinds = part.get("kinds_by_attempt", {})
    return {
        words: part.get("by_attempt"),
        **{f"{words}, {kind.replace('_', ' ')}": rows for kind, rows in kinds.items()},
    }
