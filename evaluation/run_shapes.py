"""What the JSON files of a run folder hold, as far as the program reads it."""

from __future__ import annotations

from typing import Any

from uncap.evaluation.config import WHO
from uncap.evaluation.shapes import (
    Shape,
    anything,
    count,
    fields,
    listed,
    mapped,
    number,
    optional,
    share,
    text,
    truth,
)

_FACTS = optional(mapped(anything))
CONFIG: Shape = fields(
    {},
    {
        "command": text,
        "seed": count,
        "train": listed(text),
        "held_out": listed(text),
        "split_hash": text,
        "episode_steps": optional(count),
        "conditioning": text,
        "reward_version": count,
        "variant_streams": mapped(count),
        "rows": mapped(mapped(anything)),
        "job": mapped(anything),
        "machine": _FACTS,
        "versions": _FACTS,
    },
)
_TASK = fields(
    {"success": share, "low": number, "high": number, "episodes": count}
    | {"success_any": share, "progress": number, "steps_to_success": optional(number)}
)
_MECHANISM = fields(
    {"success": share, "low": number, "high": number, "episodes": count, "rows": count}
)
_FAULTS = {"diverged": count, "invalid_actions": count}
_COLUMNS = fields(
    {"steps": listed(count), "success": listed(share)},
    {
        **_FAULTS,
        "seconds": listed(number),
        "outcomes": listed(listed(count)),
        "last": listed(count),  # older ones: outcomes of the last point only
        "sources": optional(share),
        "source_outcomes": listed(count),
        "specialists": mapped(share),
    },
)


def _curve(value: Any, place: str) -> str | None:
    """A learning curve: as many numbers of steps as of successes, and of lists of outcomes."""
    if problem := _COLUMNS(value, place):
        return problem
    points = len(value["steps"])
    if not points == len(value["success"]) > 0:
        return f"{place} must have a success for each number of steps"
    same = len(value.get("outcomes", value["steps"])) == points
    return None if same else f"{place} must have outcomes for each number of steps"


def _new_curve(value: Any, place: str) -> str | None:
    """A learning curve that says whose it is, and what went wrong in its evaluations."""
    needed = fields({"seed": count, **_FAULTS})
    return needed(value, place) or _curve(value, place)


LEARNED: Shape = fields({"settings": mapped(anything), "curve": _new_curve, "seconds": number})
POSITION = {  # see `unseen.position`
    "distance": number,
    "nearest": text,
    "edits": optional(count),
    "unseen": listed(text),
}

_TRANSFER = fields(
    {
        "zero_shot": share,
        "zero_shot_low": number,
        "zero_shot_high": number,
        "episodes": count,
        "budget": count,
        "curves": mapped(listed(_curve)),
        "final": mapped(share),
        "area": mapped(number),
        "wall_seconds": number,
    },
    {  # not in older runs, or not of all arms
        "zero_shot_episodes": count,
        "reached": mapped(mapped(mapped(anything))),
        "interval": mapped(listed(number)),
        "area_interval": mapped(listed(number)),
        "gain": mapped(listed(number)),
        "gap": mapped(listed(number)),
        "same_demos": mapped(
            fields({"control": text, "gain": listed(number)}, {"gap": listed(number)})
        ),
        "jumpstarts": mapped(listed(number)),
        "lost": mapped(listed(number)),
        "n": mapped(mapped(count)),
        "sources": mapped(share),
        "best_control": optional(text),
        "jumpstart": number,
        "specialists": fields(
            {"picked": text, "zero_shot": mapped(share), "regret": number},
            {"final_regret": number},
        ),
        **POSITION,
    },
)
_HELD_OUT = fields(
    {"mean_success": share, "worst_success": share, "per_task": mapped(_TASK)},
    {
        "per_mechanism": mapped(_MECHANISM),
        "seen_mechanisms": optional(share),
        "worst_seen_mechanism": optional(share),
        "new_mechanisms": optional(share),
        "per_kind": mapped(_MECHANISM),
        "by_attempt": listed(_MECHANISM),
        "kinds_by_attempt": mapped(listed(_MECHANISM)),
        "attempt_steps": optional(count),  # control steps of each
        **_FAULTS,
    },
)
RESULTS: Shape = fields(
    {},
    {
        "machine": _FACTS,
        "mean_success": share,
        "worst_success": share,
        "per_task": mapped(_TASK),
        "per_mechanism": mapped(_MECHANISM),
        "guess_ceiling": share,
        "by_attempt": listed(_MECHANISM),
        "attempt_steps": optional(count),  # control steps of each
        "wiped_by_attempt": listed(_MECHANISM),
        "scripted_search": optional(
            fields(
                {"by_attempt": listed(_MECHANISM)},
                {
                    "held_out": fields(
                        {"by_attempt": listed(_MECHANISM)},
                        {"kinds_by_attempt": mapped(listed(_MECHANISM))},
                    )
                },
            )
        ),
        "beliefs": truth,  # whether there is a beliefs.json
        "held_out": optional(_HELD_OUT),
        **_FAULTS,
        "train": fields(
            {}, {"env_steps": count, "wall_seconds": number, "seconds": optional(mapped(number))}
        ),
        "warm_start": optional(
            fields({"mean_success": number, "kept": number}, {"kept_from": text})
        ),
        "metrics": fields({"check": text}),  # of the last row of metrics.csv
        "transfer": mapped(_TRANSFER),
        "films": mapped(fields({"success": truth, "progress": share})),
        "total_seconds": number,
    },
)


def _name(value: Any, place: str) -> str | None:
    """A name that can be printed in one line."""
    fits = isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= WHO
    return None if fits else f"{place} must be a printable name of at most {WHO} letters"


_SPLIT = fields({"hash": _name, "train": listed(_name), "held_out": listed(_name)})
MEASURED: Shape = fields(  # of `evaluate --out`, beside RESULTS
    {
        "measured": count,
        "who": _name,
        "split": _SPLIT,
        "mean_success": share,
        "per_task": mapped(_TASK),
        "level": _name,
        "seed": count,
        "episodes": count,
        "conditioning": _name,
        "sensors": _name,
        "reward_version": count,
        "versions": mapped(_name),
        "seconds": number,
    },
    {
        "held_out": optional(_HELD_OUT),
        "episode_steps": optional(count),
        "attempts": count,  # of a trial
        "wiped": truth,  # whether the memory was reset before every attempt
        "by_attempt": listed(_MECHANISM),
        "attempt_steps": optional(count),  # control steps of each
    },
)
_TRIED = fields({"settings": mapped(anything), "scores": listed(share), "score": share})
ARM_SETTINGS: Shape = fields(  # of `tune_transfer`
    {"arms": mapped(fields({"chosen": mapped(anything), "tried": listed(_TRIED)}))},
    {"run": text, "targets": listed(text), "budget": count, "seeds": count, "trials": count}
    | {"engine": text}
    | {"versions": _FACTS, "machine": _FACTS},
)
COSINES: Shape = fields({"tasks": listed(text), "cosines": listed(listed(optional(number)))})
BELIEFS: Shape = fields(
    {
        "rows": listed(text),
        "own": listed(listed(share)),
        "after": listed(listed(listed(share))),
    },
    {"kind": text, "right": listed(share)},  # what `rows` are, and how often it is right
)
SEQUENCE: Shape = fields(
    {"settings": mapped(anything), "outcomes": listed(listed(listed(count)))},
    {"measures": mapped(listed(number))},
)
