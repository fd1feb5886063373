"""Transfer: what a trained policy is worth on closures it never saw, by methods and controls.

What each arm does is a row of `arms.ARMS`. All get the same environment, budget and evaluation
starts, and the same PPO but for what their beginnings ask for: a pretrained policy is tuned gently
(`warm_*` and `critic_warmup` in `PPOConfig`), the one from scratch explores with the full rate.
What the source cost, its own steps and its own tasks' experts, is part of the budget of
`scratch_total` only.

Learners do not depend on each other: each has a folder of its own, `transfer/TARGET/ARM-SEED/` in
the run, and they are trained at once, see `processes`.
"""

from __future__ import annotations

import copy
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from uncap.agents import checkpoints
from uncap.agents.files import owned
from uncap.agents.memory import has_memory
from uncap.agents.policy import load_policy
from uncap.envs import CLOSURES, Closure, register
from uncap.evaluation import arms, beginnings, gains, runs
from uncap.evaluation.config import TransferConfig
from uncap.evaluation.curves import FINISHED, Curve, Which, attempts, common
from uncap.evaluation.processes import do_all
from uncap.evaluation.program import PROGRAM
from uncap.evaluation.rows import restore
from uncap.evaluation.run_shapes import LEARNED
from uncap.evaluation.training import Session
from uncap.evaluation.unseen import position

OnTarget = Callable[[str, dict], None]  # (target, its entry of results.json)
# What curves had that do not say it: older ones the engine, others a file that there was none of
ABSENT: dict[str, Any] = {"engine": "cpu", "settings": None}
WORDS = {"settings": "file of settings"}
REPLACE = f"`{PROGRAM} transfer --replace` drops what there is of the target"


def learner_kinds(config: TransferConfig) -> tuple[str, ...]:
    """The arms of a transfer; zero-shot success is always measured."""
    return tuple(dict.fromkeys(("zero_shot", *config.methods, *config.controls)))


def transfer(
    source: Any,
    meta: Mapping[str, Any],
    targets: Sequence[str],
    session: Session,
    on_target: OnTarget,
    entries: Mapping[str, dict],
) -> bool:
    """Learn targets by methods and controls, with the same budget.

    What a stop or a kill interrupts goes on from the learners' folders.

    Args:
        source: the trained policy.
        meta: the JSON part of its checkpoint.
        targets: rows that were not trained.
        session: the job; its seed is the first learner's, and each further one adds 1.
        on_target: called with each target that is done and its entry of results.json: curves,
            what `gains.measured` reads off them, and how far the target is from the rows that were
            trained.
        entries: of results.json, to add to: learners that are in them are not trained again.

    Returns:
        Whether all targets are done; False if stopped.

    Raises:
        RunError: an entry, or what goes on, has another budget or source; a process was killed.
        CheckpointError: what goes on is damaged.
    """
    trained = [CLOSURES[name] for name in meta["tasks"]]
    parts = [_Target(name, session, source, entries.get(name, {}), trained) for name in targets]
    by_name = {part.name: part for part in parts}
    for part in parts:
        if part.is_done():
            on_target(part.name, part.entry())

    def on_done(which: Which) -> None:
        part = by_name[which.target.name]
        if part.is_done():
            on_target(part.name, part.entry())

    waiting = [which for part in parts for which in part.waiting()]
    return do_all("transfer", learn, waiting, session, on_done)


def check(
    session: Session,
    source: Any,
    meta: Mapping[str, Any],
    targets: Sequence[str],
    names: Sequence[str],
) -> None:
    """Refuse a transfer that cannot be, before anything is made.

    Args:
        session: the job.
        source: the trained policy.
        meta: the JSON part of its checkpoint.
        targets: rows.
        names: of arms.

    Raises:
        RunError: the policy cannot be transferred, or a run that is named beside it; a target was
            trained.
        ValueError: see `arms.check`.
    """
    run, config = session.run, session.config.transfer
    if meta.get("acts_only"):
        raise runs.RunError(f"{run} has no critic to transfer: train a run of your own")
    if meta["algorithm"] != "ppo":
        raise runs.RunError(
            f"{run} was trained by {meta['algorithm']}: what is transferred goes on by ppo, and "
            "needs a run of --algorithm ppo"
        )
    if has_memory(source):
        raise runs.RunError(
            f"{run} has a memory, which is not transferred: `evaluate --attempts` measures what it "
            "finds out of an unseen closure"
        )
    runs.check_unseen(f"{run} was trained on", meta["tasks"], targets)
    beside = arms.named_runs(config)
    arms.check(names, arms.Source(beginnings.told(meta), len(meta["tasks"]), beside))
    beginnings.check_files(config, names, targets)
    for name, target in itertools.product(names, targets):
        beginnings.beginning(name, config, target, (source, meta))


def missing(config: TransferConfig, first_seed: int, entry: dict) -> list[tuple[int, str]]:
    """Seeds and kinds of the learners that an entry of results.json has not got."""
    there = {
        (curve["seed"], kind)
        for kind, of_kind in entry.get("curves", {}).items()
        for curve in of_kind
    }
    seeds = range(first_seed, first_seed + config.seeds)
    wanted = itertools.product(seeds, learner_kinds(config))
    return [learner for learner in wanted if learner not in there]


def check_same(ours: Mapping[str, Any], theirs: Mapping[str, Any], place: str, remedy: str) -> None:
    """Refuse curves of other settings.

    What is not known of one side counts as the same, but for ABSENT, which is what it was then.

    Args:
        ours: see `curves.common`.
        theirs: the same, of what is there; empty where nothing is.
        place: where theirs are.
        remedy: what drops them.

    Raises:
        RunError: what differs.
    """
    if not theirs:
        return
    ours, theirs = ABSENT | dict(ours), ABSENT | dict(theirs)
    both = [key for key in ours if key in theirs]
    different = [
        f"{WORDS.get(key, key)} {_said(key, theirs[key])}, now {_said(key, ours[key])}"
        for key in both
        if ours[key] != theirs[key]
    ]
    if different:
        raise runs.RunError(
            f"{place} is a transfer with other settings ({'; '.join(different)}): give it the same "
            f"ones to add to it; {remedy}"
        )


def _said(key: str, value: Any) -> Any:
    """A setting's value for a message."""
    if value is None:
        return "none"
    return value[:8] if key == "settings" else value  # of the file's SHA-256


class _Target:
    """The learners of one target, and what is known of them.

    Args:
        name: of the target.
        session: the job.
        source: the trained policy.
        entry: of results.json, to add to.
        trained: the source's rows.

    Raises:
        RunError: the entry, or what a learner has kept, is of other settings; or it is damaged.
        CheckpointError: what a learner has kept is damaged.
    """

    def __init__(
        self,
        name: str,
        session: Session,
        source: Any,
        entry: dict,
        trained: Sequence[Closure],
    ):
        self.name = name
        self.run = session.run
        self.config = session.config.transfer
        self.common = common(session.config, source)
        self.before = entry
        self.trained = trained
        check_same(self.common, entry, "what the results hold", REPLACE)
        row, seeds = CLOSURES[name], missing(self.config, session.seed, entry)
        self.learners = [Which(row, kind, seed) for seed, kind in seeds]
        for which in self.learners:
            ours = common(session.config, source, arms.arm_of(which.kind))
            _check_kept(which.folder(self.run), ours)

    def waiting(self) -> list[Which]:
        """Learners that are not finished."""
        return [which for which in self.learners if not _is_finished(which.folder(self.run))]

    def is_done(self) -> bool:
        """Whether all learners are finished."""
        return not self.waiting()

    def entry(self) -> dict[str, Any]:
        """The entry of results.json, of what was there and of the learners' curves."""
        curves: dict[str, list[dict]] = copy.deepcopy(self.before.get("curves", {}))
        seconds = self.before.get("wall_seconds", 0.0)
        for which in self.learners:
            learned = _learned(which.folder(self.run))
            curves.setdefault(which.kind, []).append(learned["curve"])
            seconds += learned["seconds"]
        beside = [run.setting for run in arms.RUNS.values() if run.setting in self.before]
        return {
            **{setting: self.before[setting] for setting in beside},
            **self.common,
            **position(CLOSURES[self.name], self.trained),
            **gains.measured(curves),
            "seeds": len(curves["zero_shot"]),
            "curves": curves,
            "wall_seconds": seconds,
        }


def _is_finished(folder: pathlib.Path) -> bool:
    return (folder / FINISHED).exists()


def _learned(folder: pathlib.Path) -> dict[str, Any]:
    """What a learner that is finished has left: settings, curve, seconds.

    Raises:
        RunError: it is damaged.
    """
    remedy = f"delete {folder} to train this learner again"
    return runs.read_shaped(folder / FINISHED, LEARNED, remedy)


def _check_kept(folder: pathlib.Path, ours: Mapping[str, Any]) -> None:
    """Refuse what a learner has kept of other settings.

    Args:
        folder: of the learner.
        ours: what matters to its arm, see `curves.common`.

    Raises:
        RunError: see `check_same`.
        CheckpointError: it is damaged, or of another version.
    """
    remedy = f"remove {folder} to drop it, or: {REPLACE}"
    if _is_finished(folder):
        check_same(ours, _learned(folder)["settings"], str(folder), remedy)
    elif checkpoints.exists(folder):
        try:
            kept = checkpoints.load(folder)[1]["transfer"]
        except checkpoints.CheckpointError as error:
            raise checkpoints.CheckpointError(f"{error}; {remedy}") from None
        check_same(ours, kept["settings"], str(folder), remedy)


def learn(which: Which, session: Session) -> bool:
    """Train one learner, or what is left of it, in its own folder.

    Returns:
        Whether it finished; False if stopped (its state is saved).
    """
    restore(session.run, runs.open_run(session.run))  # a process of its own knows no rows of a run
    register(which.target)
    source, meta = load_policy(session.run / "checkpoint")
    torch.manual_seed(which.seed)
    folder = which.folder(session.run)
    folder.mkdir(parents=True, exist_ok=True)
    with owned(folder):
        if arms.arm_of(which.kind).begins == "memory":
            attempts(which, session, (source, meta))
            return True
        return Curve(source, meta, which, session).measure()
