"""What the arms of a transfer begin with, where it is not the source: policies of other runs."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from uncap.agents.memory import has_memory
from uncap.agents.policy import load_policy
from uncap.envs import CLOSURES
from uncap.envs.structure import distance
from uncap.evaluation import runs
from uncap.evaluation.config import TransferConfig
from uncap.evaluation.rows import restore

Loaded = tuple[Any, dict]  # a policy, and the JSON part of its checkpoint
_SAME = ("sensors", "algorithm", "network")  # of two policies that are exchanged


def unrelated(config: TransferConfig, meta: Mapping[str, Any]) -> Any:
    """The policy of a run of unrelated rows.

    Args:
        config: names the run.
        meta: of the source's checkpoint, see `policy.load_policy`.

    Raises:
        RunError: none is named, or it is not made as the source is.
    """
    if config.unrelated is None:
        raise runs.RunError("the control unrelated needs --unrelated RUN, a run of unrelated rows")
    policy, other = load_policy(pathlib.Path(config.unrelated) / "checkpoint")
    _refuse_other(config.unrelated, other, meta)
    if shared := set(other["tasks"]) & set(meta["tasks"]):
        raise runs.RunError(
            f"{config.unrelated} was trained on {', '.join(sorted(shared))}, as the source was"
        )
    return policy


def specialists(config: TransferConfig, target: str, meta: Mapping[str, Any]) -> dict[str, Loaded]:
    """The policies of a run that has one per row, by row, the nearest row first.

    Which is the most likely to transfer is told by the structural distance to the target, before
    any step on it.

    Args:
        config: names the run.
        target: a row.
        meta: of the source's checkpoint, see `policy.load_policy`.

    Raises:
        RunError: none is named; it has no policy per row; the target is among them; or they are
            not made as the source is.
    """
    if config.specialists is None:
        raise runs.RunError(
            "the method specialist needs --specialists RUN, a run that was trained with --alone"
        )
    run = pathlib.Path(config.specialists)
    stored = runs.open_run(run)
    folders = {name: run / runs.PARTS / name for name in stored["train"]}
    if not all((folder / "checkpoint").is_dir() for folder in folders.values()):
        raise runs.RunError(
            f"{run} has no policy for each of its rows: train one with --alone, to its end"
        )
    if target in folders:
        raise runs.RunError(f"{run} was trained on {target}: a target must be unseen")
    restore(run, stored)
    to = CLOSURES[target]
    ranked = sorted(folders, key=lambda name: distance(to, CLOSURES[name]))
    found = {}
    for name in ranked:
        policy, other = load_policy(folders[name] / "checkpoint")
        _refuse_other(str(folders[name]), other, meta)
        found[name] = policy, other
    return found


def remembering(run: pathlib.Path | str | None) -> Loaded:
    """The policy of a run with a memory.

    Args:
        run: its folder; None where none was named.

    Raises:
        RunError: none is named, or it has no memory.
    """
    if run is None:
        raise runs.RunError("the method attempts needs --memory RUN, a run with a memory")
    policy, meta = load_policy(pathlib.Path(run) / "checkpoint")
    if not has_memory(policy):
        raise runs.RunError(f"{run} has no memory: train one with --conditioning belief")
    return policy, meta


def _refuse_other(run: str, other: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Refuse a policy that is not made as the source is.

    Raises:
        RunError: what is different.
    """
    different = [name for name in _SAME if other[name] != meta[name]]
    if _told(other) != _told(meta):
        different.insert(0, "conditioning")
    if different:
        raise runs.RunError(
            f"{run} was trained with another {', '.join(different)} than the source: both must "
            "have the same"
        )


def _told(meta: Mapping[str, Any]) -> str:
    """The name of what a policy is told."""
    given = meta["conditioning"]
    return given if isinstance(given, str) else "language"
