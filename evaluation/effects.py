"""Which flags of `train` have an effect, in a new job and in one that goes on.

A flag that was typed and would change nothing is refused by name.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import pathlib
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from uncap.agents.settings import Flag, flags, replaced
from uncap.agents.tables import ALGORITHMS
from uncap.envs.closures import named_set
from uncap.envs.conditioning import REMEMBERING, TRANSFERABLE
from uncap.evaluation import runs
from uncap.evaluation.config import JobConfig, TrainConfig
from uncap.evaluation.curves import half_done
from uncap.evaluation.program import PROGRAM


class Use(NamedTuple):
    """What some flags need in order to have an effect.

    Attributes:
        keys: of the flags, with * for any text.
        holds: whether a training has it.
        needs: what it is, for the message.
    """

    keys: str
    holds: Callable[[TrainConfig], bool]
    needs: str


def _is_warm(config: TrainConfig) -> bool:
    return config.job.warm_start != "none"


def asked_targets(job: JobConfig) -> tuple[str, ...]:
    """Held-out rows that a job is to transfer to, whether or not it can."""
    if job.transfer.targets is not None:
        return tuple(job.transfer.targets)
    return named_set(job.task_set).transfers or ()


def targets_of(job: JobConfig) -> tuple[str, ...]:
    """Held-out rows that a job transfers to."""
    possible = job.transfer.env_steps and job.conditioning in TRANSFERABLE and not job.alone
    return asked_targets(job) if possible else ()


def _transfers(config: TrainConfig) -> bool:
    return bool(targets_of(config.job))


def _reinforces(config: TrainConfig) -> bool:
    return config.job.env_steps != 0


def _remembers(config: TrainConfig) -> bool:
    return config.job.conditioning in REMEMBERING


def _has_trials(config: TrainConfig) -> bool:
    return _remembers(config) or ALGORITHMS[config.job.algorithm].remembers


def _either(*ways: Callable[[TrainConfig], bool]) -> Callable[[TrainConfig], bool]:
    return lambda config: any(way(config) for way in ways)


def _from_scratch(config: TrainConfig) -> bool:
    return not _is_warm(config)


_REINFORCED = "reinforcement learning (--env-steps above 0)"
_WARM = "a warm start or a transfer"
_MEMORY = f"a --conditioning with a memory: {', '.join(REMEMBERING)}"
_KNOWING = ("belief", "belief_parts")  # memories whose labels are the truth
_BELIEVING = ("belief", "belief_parts", "belief_search")  # memories that say what they believe
_TAUGHT_THE_TRUTH = f"--conditioning {', '.join(_KNOWING)}"
_COLD = "--warm-start none or a transfer"
USES = (
    Use("dagger.steps_per_task", lambda c: not c.job.dagger.steps, "no --dagger.steps"),
    Use("validations", lambda c: _reinforces(c) or bool(c.job.minutes), _REINFORCED),
    Use("cosines", _reinforces, _REINFORCED),
    Use("reward", _either(_reinforces, _transfers), f"{_REINFORCED} or a transfer"),
    Use("ppo.*", _either(_reinforces, _transfers), f"{_REINFORCED} or a transfer"),
    Use("sac.*", _reinforces, _REINFORCED),
    Use("dagger.*", lambda c: c.job.warm_start == "dagger", "--warm-start dagger"),
    Use("clone.*", lambda c: c.job.warm_start == "clone", "--warm-start clone"),
    Use("dagger.trials", _remembers, _MEMORY),
    Use("dagger.memory_every", _remembers, _MEMORY),
    Use("dagger.told", lambda c: c.job.conditioning in _KNOWING, _TAUGHT_THE_TRUTH),
    Use("dagger.other", lambda c: c.job.conditioning in _BELIEVING,
        f"--conditioning {', '.join(_BELIEVING)}"),
    Use("attempts", _has_trials, f"{_MEMORY}, or --algorithm recurrent_ppo"),
    Use("cell", _remembers, _MEMORY),
    Use("memory_*", _remembers, _MEMORY),
    Use("ppo.guidance", lambda c: c.job.warm_start == "dagger", "--warm-start dagger"),
    Use("ppo.warm_*", _either(_is_warm, _transfers), _WARM),
    Use("ppo.critic_warmup", _either(_is_warm, _transfers), _WARM),
    Use("ppo.rollout", _either(_from_scratch, _transfers), _COLD),
    Use("ppo.epochs", _either(_from_scratch, _transfers), _COLD),
    Use("ppo.correlation", _either(_from_scratch, _transfers), _COLD),
    Use("sac.warm_*", _is_warm, "a warm start"),
    Use("sac.critic_warmup", _is_warm, "a warm start"),
    Use("sac.deviation", _from_scratch, "--warm-start none"),
    Use("sac.target_entropy", _from_scratch, "--warm-start none"),
    Use("sac.demo_share", lambda c: bool(c.job.demos), "--demos"),
    Use("transfer.*", _transfers, "a transfer: none with --transfer-steps 0, --alone, a drawn "
        "task set without --transfer.targets, or a --conditioning other than "
        f"{', '.join(TRANSFERABLE)}"),
    Use("film_width", lambda c: c.videos and not c.job.alone, "films: none with --no-videos or "
        "--alone"),
    Use("sampling", lambda c: not c.job.alone and len(named_set(c.job.task_set).train) > 1,
        "several rows with one policy"),
)  # fmt: skip
GROUPS_OF_ALGORITHMS = ("network", "ppo", "sac")  # an algorithm's `groups` are some of these


def check_effects(config: TrainConfig) -> None:
    """Refuse flags that were typed and would change nothing.

    Raises:
        ValueError: the first of them, and what it needs.
    """
    for problem in without_effect(config).values():
        raise ValueError(problem)


def without_effect(config: TrainConfig) -> dict[str, str]:
    """The flags among `config.given` that would change nothing, by their keys, and why."""
    found = {flag.key: _why_unused(flag, config) for flag in _typed(config)}
    job = config.job
    if job.alone and config.videos and "videos" in config.given:
        found["videos"] = "--videos has no effect with --alone: a control is not filmed"
    if "transfer_steps" in config.given and job.transfer.env_steps and not _transfers(config):
        found["transfer_steps"] = (
            "--transfer-steps has no effect here: there is no transfer with --alone, with a drawn "
            "task set without --transfer.targets, nor with a "
            f"--conditioning other than {', '.join(TRANSFERABLE)}"
        )
    return {key: problem for key, problem in found.items() if problem}


def unused_in_cell(values: Mapping[str, Any]) -> dict[str, str]:
    """The flags of a cell of a grid that would change nothing in it, and why.

    Args:
        values: of flags, by their keys.
    """
    return without_effect(config_of(values))


def config_of(values: Mapping[str, Any]) -> TrainConfig:
    """What `train` is told by flags; those that it does not know are left out.

    Args:
        values: of flags, by their keys.
    """
    paths = {flag.key: flag.path for flag in flags(TrainConfig())}
    known = {key: value for key, value in values.items() if key in paths}
    config = replaced(TrainConfig(), {paths[key]: value for key, value in known.items()})
    return dataclasses.replace(config, given=frozenset(known))


def _why_unused(flag: Flag, config: TrainConfig) -> str | None:
    """Why a flag of the job has no effect; None if it has one."""
    algorithm = ALGORITHMS[config.job.algorithm]
    if flag.key in algorithm.fixed:  # it has the one value that is allowed
        return None
    group, *inner = flag.path
    if inner and group in GROUPS_OF_ALGORITHMS and group not in algorithm.groups:
        return f"{flag.name} has no effect with --algorithm {config.job.algorithm}"
    for use in USES:
        if fnmatch.fnmatchcase(flag.key, use.keys) and not use.holds(config):
            return f"{flag.name} has no effect here: it needs {use.needs}"
    return None


def _typed(config: TrainConfig) -> list[Flag]:
    """The flags of the job that were typed, in their order."""
    return [flag for flag in flags(config.job) if flag.key in config.given]


# A run that goes on

ALWAYS = ("threads", "episodes", "film_width", "videos")
WHILE_LEARNING = (
    "env_steps",
    "minutes",
    "validations",
    "validation_episodes",
    "validation_quota",
    "tensorboard",
    "wandb",
)
NEW_ONLY = ("out", "quick", "tasks", "held_out")  # flags that only a new run has
WHILE_TRANSFERRING = ("transfer_steps", "transfer.*")


def job_to_resume(run: pathlib.Path, job: JobConfig, seed: int, config: TrainConfig) -> JobConfig:
    """The job of a run that goes on, with what the command line changes in it.

    Args:
        run: its folder.
        job: as it is stored.
        seed: as it is stored.
        config: of the command line.

    Raises:
        ValueError: a flag that cannot be changed, or not any more.
    """
    results = runs.read_results(run)
    waiting = set(targets_of(job)) - set(results.get("transfer", ()))
    values: dict[tuple[str, ...], Any] = {}
    stored = dataclasses.replace(config, job=job, seed=seed)
    for flag in flags(config):
        if flag.key not in config.given or flag.key in ("resume", "videos"):
            continue
        value = flag.get(config)
        if flag.key not in NEW_ONLY and _same(value, flag.get(stored)):
            continue  # as it is anyway
        problem = _unchangeable(flag.key, job, results) or _half_done(flag.key, run, waiting)
        if problem:
            raise ValueError(f"{flag.name} cannot be changed in {run}: {problem}")
        values[flag.path] = value
    resumed = replaced(stored, values)
    _check_still_used(config, resumed)
    return resumed.job


def _same(value: Any, other: Any) -> bool:
    """Whether values are the same once they were stored: JSON makes lists of tuples."""
    return json.dumps(value, default=str) == json.dumps(other, default=str)


def _unchangeable(key: str, job: JobConfig, results: Mapping[str, Any]) -> str | None:
    """Why a flag of a run cannot be changed any more."""
    if key == "threads":
        return None
    if key == "out":
        return "it goes on in its own folder"
    if job.alone:
        return "its rows have their shares already (--alone)"
    if _is_one_of(key, ALWAYS):
        return None
    if _is_one_of(key, WHILE_LEARNING):
        return "it has learned" if "train" in results else None
    if _is_one_of(key, WHILE_TRANSFERRING):
        done = set(asked_targets(job)) <= set(results.get("transfer", ()))
        return f"it has been transferred: see `{PROGRAM} transfer`" if done else None
    allowed = ", ".join((*ALWAYS, *WHILE_LEARNING, *WHILE_TRANSFERRING))
    return f"it would be another training (what can be: {allowed})"


def _half_done(key: str, run: pathlib.Path, waiting: Collection[str]) -> str | None:
    """Why a flag of a transfer cannot be changed while one is half done: curves of two kinds.

    Args:
        key: of the flag.
        run: its folder.
        waiting: targets of the job that are not done. Others are those of `transfer`.
    """
    if key == "transfer.seeds" or not _is_one_of(key, WHILE_TRANSFERRING):
        return None
    begun = [folder for folder in half_done(run) if folder.name in waiting]
    if not begun:
        return None
    target, *_ = begun
    return (
        f"the transfer to {target.name} is half done: finish it, or remove {target} to begin anew"
    )


def _is_one_of(key: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)


def _check_still_used(config: TrainConfig, resumed: TrainConfig) -> None:
    """Refuse flags of films and transfers where the run has none."""
    kept = {key for key in config.given if _is_one_of(key, (*ALWAYS, *WHILE_TRANSFERRING))}
    check_effects(dataclasses.replace(resumed, given=frozenset(kept)))


def note_changes(run: pathlib.Path, stored: dict, before: JobConfig, now: JobConfig) -> None:
    """Write a changed job into a run's config.json, and what was changed when into `changed`."""
    changed = {
        flag.key: {"from": flag.get(before), "to": flag.get(now)}
        for flag in flags(now)
        if not _same(flag.get(before), flag.get(now))
    }
    if not changed:
        return
    entry = {"time": time.strftime("%Y-%m-%d %H:%M:%S"), "flags": changed}
    entries = [*stored.get("changed", ()), entry]
    runs.write_json(
        run / "config.json", {**stored, "job": dataclasses.asdict(now), "changed": entries}
    )
