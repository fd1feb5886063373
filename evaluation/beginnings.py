"""What the arms of a transfer begin with, where it is not the source: policies of other runs."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from uncap.agents.memory import has_memory
from uncap.agents.policy import load_policy
from uncap.envs import CLOSURES
from uncap.envs.structure import distance
from uncap.evaluation import arm_settings, runs
from uncap.evaluation.arms import RUNS, arm_of, parted
from uncap.evaluation.config import TransferConfig
from uncap.evaluation.rows import restore

Loaded = tuple[Any, Mapping[str, Any]]  # a policy, and the JSON part of its checkpoint
_SAME = ("sensors", "algorithm", "network")  # of two policies that are exchanged


def check_files(config: TransferConfig, names: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse runs and settings that have seen a target, by what their files say.

    There need be no source yet. What its policies are, `beginning` finds out.

    Args:
        config: names the files.
        names: of arms.
        targets: rows.

    Raises:
        RunError: which has seen which; or it is damaged.
    """
    for begins in dict.fromkeys(arm_of(name).begins for name in names):
        if begins in RUNS:
            run = pathlib.Path(getattr(config, RUNS[begins].setting))
            trained = runs.open_run(run).get("train", ())
            runs.check_unseen(f"{run} was trained on", trained, targets)
            if begins == "unrelated":
                _refuse_related(run, trained, targets)
    if config.settings:
        arm_settings.check_targets(pathlib.Path(config.settings), targets)


class Beginning(NamedTuple):
    """What a learner begins with.

    Attributes:
        policy: its weights.
        meta: the JSON part of its checkpoint.
        specialists: those among which it was picked, by their rows, the nearest first.
    """

    policy: Any
    meta: Mapping[str, Any]
    specialists: Mapping[str, Loaded]


def beginning(name: str, config: TransferConfig, target: str, source: Loaded) -> Beginning:
    """What an arm begins with; the source, where that is nothing.

    Args:
        name: of the arm.
        config: names the runs.
        target: a row.
        source: the policy that is transferred.

    Raises:
        RunError: a run is not what the arm needs, or has seen the target.
    """
    begins, meta = arm_of(name).begins, source[1]
    if begins not in RUNS:
        return Beginning(*source, {})
    run = pathlib.Path(getattr(config, RUNS[begins].setting))
    if begins == "unrelated":
        return Beginning(*unrelated(run, target, meta), {})
    if begins == "memory":
        return Beginning(*remembering(run, (target,)), {})
    found = specialists(run, target, meta)
    _, number = parted(name)
    if number > len(found):
        raise runs.RunError(f"{name} needs as many rows: {run} has {len(found)}")
    return Beginning(*list(found.values())[number - 1], found)


def unrelated(run: pathlib.Path, target: str, meta: Mapping[str, Any]) -> Loaded:
    """The policy of a run of rows of other mechanisms.

    Args:
        run: its folder.
        target: a row.
        meta: of the source's checkpoint, see `policy.load_policy`.

    Raises:
        RunError: it is not made as the source is, shares rows with it, or has seen the target or
            its mechanism.
    """
    policy, other = load_policy(run / "checkpoint")
    _refuse_other(run, other, meta)
    runs.check_unseen(f"{run} was trained on", other["tasks"], (target,))
    if shared := set(other["tasks"]) & set(meta["tasks"]):
        raise runs.RunError(f"{run} was trained on {', '.join(sorted(shared))}, as the source was")
    _refuse_related(run, other["tasks"], (target,))
    return policy, other


def _refuse_related(run: pathlib.Path, trained: Sequence[str], targets: Sequence[str]) -> None:
    """Refuse rows that open as a target does, in a run of unrelated ones.

    Args:
        run: its folder, which brings the rows that are not known here.
        trained: its rows.
        targets: rows.

    Raises:
        RunError: the first that does.
    """
    restore(run, runs.open_run(run))
    for name, target in itertools.product(trained, targets):
        mechanism = CLOSURES[target].mechanism
        if CLOSURES[name].mechanism == mechanism:
            raise runs.RunError(
                f"{run} was trained on {name}, whose mechanism is that of {target} ({mechanism}): "
                "unrelated needs a run of rows of other mechanisms"
            )


def specialists(run: pathlib.Path, target: str, meta: Mapping[str, Any]) -> dict[str, Loaded]:
    """The policies of a run that has one per row, by row, the nearest row first.

    Which is the most likely to transfer is told by the structural distance to the target, before
    any step on it.

    Args:
        run: its folder.
        target: a row.
        meta: of the source's checkpoint, see `policy.load_policy`.

    Raises:
        RunError: it has no policy per row; the target is among them; or they are not made as the
            source is.
    """
    stored = runs.open_run(run)
    folders = {name: run / runs.PARTS / name for name in stored["train"]}
    if not all((folder / "checkpoint").is_dir() for folder in folders.values()):
        raise runs.RunError(
            f"{run} has no policy for each of its rows: train one with --alone, to its end"
        )
    runs.check_unseen(f"{run} was trained on", folders, (target,))
    restore(run, stored)
    to = CLOSURES[target]
    ranked = sorted(folders, key=lambda name: distance(to, CLOSURES[name]))
    found = {}
    for name in ranked:
        policy, other = load_policy(folders[name] / "checkpoint")
        _refuse_other(folders[name], other, meta)
        found[name] = policy, other
    return found


def remembering(run: pathlib.Path, targets: Sequence[str]) -> Loaded:
    """The policy of a run with a memory.

    Args:
        run: its folder.
        targets: rows.

    Raises:
        RunError: it has no memory, or has seen a target.
    """
    policy, meta = load_policy(run / "checkpoint")
    if not has_memory(policy):
        raise runs.RunError(f"{run} has no memory: train one with --conditioning belief")
    runs.check_unseen(f"{run} was trained on", meta["tasks"], targets)
    return policy, meta


def _refuse_other(run: pathlib.Path, other: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
    """Refuse a policy that is not made as the source is.

    Raises:
        RunError: what is different.
    """
    different = [name for name in _SAME if other[name] != meta[name]]
    if told(other) != told(meta):
        different.insert(0, "conditioning")
    if different:
        raise runs.RunError(
            f"{run} was trained with another {', '.join(different)} than the source: both must "
            "have the same"
        )


def told(meta: Mapping[str, Any]) -> str:
    """The name of what a policy is told."""
    given = meta["conditioning"]
    return given if isinstance(given, str) else "language"
