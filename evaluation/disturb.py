"""Disturbed episodes beside their undisturbed twins: pairs, and the table of all conditions.

A condition is one factor at one strength. Every disturbed episode has a twin of the same start,
variant, seed and policy randomness, so that their difference is the disturbance's.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from uncap.envs.disturbances import EVERYTHING, FACTORS, chosen, refuse_unseen
from uncap.evaluation import listing
from uncap.evaluation.protocol import Episode, last_attempts, write_rows
from uncap.evaluation.statistics import mcnemar, paired_difference, wilson

Condition = tuple[str, int]  # factor and strength
NOTE = (
    "lost and gained: pairs that only the undisturbed or only the disturbed episode opens; "
    "p: McNemar's exact test of one row, not corrected for the number of rows"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DisturbedEpisode(Episode):
    """A row of episodes.csv: an episode, its disturbance, and what became of its twin."""

    factor: str = "none"
    strength: int = 0
    twin_success: bool  # of the undisturbed episode of the same start; its own for that


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A condition over all its pairs: a row of the table."""

    factor: str
    strength: int
    pairs: int
    undisturbed: float  # success
    undisturbed_low: float  # 95 % Wilson intervals
    undisturbed_high: float
    disturbed: float
    disturbed_low: float
    disturbed_high: float
    difference: float  # disturbed less undisturbed
    difference_low: float  # 95 % interval of paired rates
    difference_high: float
    lost: int  # pairs that succeed undisturbed only
    gained: int  # pairs that succeed disturbed only
    p: float  # McNemar's exact test


def conditions(words: Sequence[str], is_shown: bool = False) -> tuple[list[Condition], list[str]]:
    """What `--disturb` asks for, and the factors that are left out.

    Args:
        words: `friction=2`, `friction` or `all`.
        is_shown: whether policies are shown pictures: some factors act on these only.

    Raises:
        ValueError: a factor that acts on pictures only is asked for by its name.
    """
    if is_shown:
        return chosen(words), []
    named = dict(chosen([word for word in words if word != EVERYTHING]))
    refuse_unseen(named, "what a policy is shown")
    asked = chosen(words)
    seen = [(factor, strength) for factor, strength in asked if not FACTORS[factor].pictured]
    skipped = [factor for factor, _ in asked if FACTORS[factor].pictured]
    return seen, list(dict.fromkeys(skipped))


def undisturbed(episodes: Sequence[Episode]) -> list[DisturbedEpisode]:
    """Rows of episodes without a disturbance."""
    return [_row(episode, episode, "none", 0) for episode in episodes]


def paired(
    episodes: Sequence[Episode], twins: Sequence[Episode], condition: Condition
) -> list[DisturbedEpisode]:
    """Rows of the episodes of a condition.

    Args:
        episodes: disturbed.
        twins: undisturbed, of the same tasks and starts, in the same order.
        condition: factor and strength.
    """
    return [_row(one, twin, *condition) for one, twin in zip(episodes, twins, strict=True)]


def _row(episode: Episode, twin: Episode, factor: str, strength: int) -> DisturbedEpisode:
    of_one = (episode.task, episode.start, episode.attempt)
    if of_one != (twin.task, twin.start, twin.attempt):
        raise ValueError(f"{episode} and {twin} are no pair")
    return DisturbedEpisode(
        **dataclasses.asdict(episode),
        factor=factor,
        strength=strength,
        twin_success=twin.success,
    )


def compared(rows: Sequence[DisturbedEpisode]) -> list[Comparison]:
    """The table: a row per condition, in their order, over the tasks of `rows`.

    Of trials with several attempts it is that of the last ones.
    """
    by_condition: dict[Condition, list[DisturbedEpisode]] = {}
    for row in last_attempts(rows):
        if row.strength:
            by_condition.setdefault((row.factor, row.strength), []).append(row)
    return [_compare(condition, found) for condition, found in by_condition.items()]


def _compare(condition: Condition, rows: Sequence[DisturbedEpisode]) -> Comparison:
    pairs = len(rows)
    disturbed = sum(row.success for row in rows)
    twins = sum(row.twin_success for row in rows)
    both = sum(row.success and row.twin_success for row in rows)
    lost, gained = twins - both, disturbed - both
    neither = pairs - both - lost - gained
    return Comparison(
        *condition,
        pairs,
        twins / pairs,
        *wilson(twins, pairs),
        disturbed / pairs,
        *wilson(disturbed, pairs),
        *paired_difference(both, lost, gained, neither),
        lost,
        gained,
        mcnemar(lost, gained),
    )


def results(rows: Sequence[DisturbedEpisode]) -> list[dict[str, Any]]:
    """The table for results.json: each condition over all tasks, and per task."""
    tasks = dict.fromkeys(row.task for row in rows)
    per_task = {task: compared([row for row in rows if row.task == task]) for task in tasks}
    return [
        {
            **dataclasses.asdict(whole),
            "per_task": {task: dataclasses.asdict(table[k]) for task, table in per_task.items()},
        }
        for k, whole in enumerate(compared(rows))
    ]


def write(twins: Sequence[Episode], rows: Sequence[DisturbedEpisode], folder: pathlib.Path) -> None:
    """Write episodes.csv, the undisturbed twins first, and the table disturbances.csv."""
    write_rows([*undisturbed(twins), *rows], DisturbedEpisode, folder / "episodes.csv")
    write_rows(compared(rows), Comparison, folder / "disturbances.csv")


COLUMNS = ("factor", "strength", "undisturbed", "disturbed", "difference", "lost", "gained", "p")


def show(table: Sequence[Comparison], console: Console) -> None:
    """Print the table: ruled on a terminal, else a line per condition."""
    listing.show(COLUMNS, [_cells(row) for row in table], console)
    console.print(NOTE)


def _cells(row: Comparison) -> tuple[str, ...]:
    return (
        row.factor,
        str(row.strength),
        f"{row.undisturbed:.2f} [{row.undisturbed_low:.2f}, {row.undisturbed_high:.2f}]",
        f"{row.disturbed:.2f} [{row.disturbed_low:.2f}, {row.disturbed_high:.2f}]",
        f"{row.difference:+.2f} [{row.difference_low:+.2f}, {row.difference_high:+.2f}]",
        str(row.lost),
        str(row.gained),
        f"{row.p:.4f}" if row.p >= 0.0001 else f"{row.p:.0e}",
    )
