"""The rule by which the settings of every arm are chosen, see `arm_settings`.

A run that left rows out of its sources takes these as its targets, in the place of those that a
later transfer is about. Each arm has the same number of trials, whose settings are drawn from its
space at random, once and for all (Bergstra and Bengio, 2012); the first trial has today's defaults.
A trial is worth the mean success over the later half of its curves, so that what rises late, or
falls again, counts less.

Which episodes are cloned is no matter of one arm: a method and its control clone the same ones. So
trials of the same number have the same share of random bursts in them (`perturb`), in all arms, and
the share is chosen that suits all arms together best; then each arm's other settings are.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uncap.agents import checkpoints
from uncap.agents.files import write_json
from uncap.agents.policy import load_policy
from uncap.envs import CLOSURES
from uncap.evaluation import runs
from uncap.evaluation.arm_settings import ArmSettings, default, space
from uncap.evaluation.arms import arm_of
from uncap.evaluation.curves import FINISHED, Which, common
from uncap.evaluation.processes import do_all
from uncap.evaluation.run_shapes import LEARNED
from uncap.evaluation.training import Session
from uncap.evaluation.transfer import check, check_same, learn

FOLDER = runs.SETTINGS
SHARED = "perturb"  # has its values in turn, by the trials' numbers, as it is chosen for all arms


def drawn(name: str, trials: int, seed: int) -> list[ArmSettings]:
    """The settings of an arm's trials: the defaults, and then others, all different.

    Args:
        name: of the arm.
        trials: how many, at most: as many as there are.
        seed: of the draws; those of an arm do not depend on the others.
    """
    values = space(arm_of(name))
    rng = np.random.default_rng(np.random.SeedSequence([seed, *name.encode()]))
    found = [default(arm_of(name))]
    tried: set[tuple[int, ...]] = set()
    combinations = int(np.prod([len(choices) for choices in values.values()]))
    while len(found) < trials and len(tried) < combinations:
        picks = tuple(
            len(found) % len(choices) if setting == SHARED else int(rng.integers(len(choices)))
            for setting, choices in values.items()
        )
        if picks not in tried:
            tried.add(picks)
            chosen = {
                setting: choices[pick]
                for (setting, choices), pick in zip(values.items(), picks, strict=True)
            }
            found.append(ArmSettings(**chosen))
    return found


def names_to_tune(methods: Sequence[str], controls: Sequence[str]) -> tuple[str, ...]:
    """The arms among these that have settings.

    Raises:
        ValueError: none has.
    """
    found = tuple(name for name in (*methods, *controls) if space(arm_of(name)))
    if not found:
        raise ValueError(
            f"{', '.join((*methods, *controls))} learn nothing: there is nothing to choose"
        )
    return found


def tune(
    session: Session, targets: Sequence[str], names: Sequence[str], trials: int
) -> dict[str, Any] | None:
    """Try settings of arms on targets, and choose those of each; None if stopped.

    What a stop or a kill interrupts goes on from the trials' folders.

    Args:
        session: the job; the seeds of a trial count on from its own.
        targets: rows that were left out of the run's sources.
        names: of arms.
        trials: of each.

    Returns:
        What the file of settings holds, see `arm_settings.read`.

    Raises:
        RunError: see `transfer.check`; or what goes on has other settings.
        ValueError: see `transfer.check`.
    """
    source, meta = load_policy(session.run / "checkpoint")
    check(session, source, meta, targets, names)
    config = session.config.transfer
    seeds = range(session.seed, session.seed + config.seeds)
    tried = {name: drawn(name, trials, session.seed) for name in names}
    works = [
        Which(CLOSURES[target], name, seed, settings, number)
        for name, of_arm in tried.items()
        for number, settings in enumerate(of_arm)
        for target in targets
        for seed in seeds
    ]
    for which in works:
        _check_kept(which, session, common(session.config, source, arm_of(which.kind)))
    waiting = [which for which in works if not _file(which, session).exists()]
    if not do_all("settings", learn, waiting, session, lambda which: None):
        return None
    scores = {
        name: [
            [_score(which, session) for which in works if _is(which, name, number)]
            for number in range(len(of_arm))
        ]
        for name, of_arm in tried.items()
    }
    return {
        "arms": chosen(tried, scores),
        "run": session.run.name,
        "targets": list(targets),
        "budget": config.env_steps,
        "seeds": config.seeds,
        "trials": trials,
        "engine": session.config.engine,
        "versions": runs.versions(),
        "machine": runs.machine(),
    }


def _is(which: Which, name: str, number: int) -> bool:
    return which.kind == name and which.trial == number


def _file(which: Which, session: Session) -> pathlib.Path:
    return which.folder(session.run) / FINISHED


def _check_kept(which: Which, session: Session, ours: Mapping[str, Any]) -> None:
    """Refuse what a trial has kept of another search.

    Raises:
        RunError: it is of other settings, or damaged.
    """
    assert which.settings is not None
    folder = which.folder(session.run)
    if _file(which, session).exists():
        theirs = _learned(which, session)["settings"]
    elif checkpoints.exists(folder):
        theirs = checkpoints.load(folder)[1]["transfer"]["settings"]
    else:
        return
    remedy = "--replace drops what there is of the search"
    check_same({**ours, "arm": vars(which.settings)}, theirs, str(folder), remedy)


def _learned(which: Which, session: Session) -> dict[str, Any]:
    remedy = f"delete {which.folder(session.run)} to try this again"
    return runs.read_shaped(_file(which, session), LEARNED, remedy)


def _score(which: Which, session: Session) -> float:
    """Mean success over the later half of a curve, the middle one included."""
    success = _learned(which, session)["curve"]["success"]
    return float(np.mean(success[len(success) // 2 :]))


Tried = Sequence[ArmSettings]  # of an arm, by the trial's number
Scores = Sequence[Sequence[float]]  # of its trials, of each curve


def chosen(tried: Mapping[str, Tried], scores: Mapping[str, Scores]) -> dict[str, Any]:
    """What is chosen for each arm, and what its trials were worth.

    Args:
        tried: settings of the trials by arm.
        scores: of the same trials.
    """
    means = {name: [float(np.mean(found)) for found in of_arm] for name, of_arm in scores.items()}
    cloning = {name: of_arm for name, of_arm in tried.items() if arm_of(name).demos}
    shared = _shared(cloning, means) if cloning else None
    found = {}
    for name, of_arm in tried.items():
        allowed = {
            number: score
            for number, score in enumerate(means[name])
            if name not in cloning or of_arm[number].perturb == shared
        }
        best = max(allowed, key=lambda number: allowed[number])  # the first of equals
        found[name] = {
            "chosen": _set(of_arm[best]),
            "tried": [
                {"settings": _set(settings), "scores": list(of_trial), "score": mean}
                for settings, of_trial, mean in zip(of_arm, scores[name], means[name], strict=True)
            ],
        }
    return found


def _shared(tried: Mapping[str, Tried], means: Mapping[str, Sequence[float]]) -> float:
    """The perturbation, of those that all arms tried, at which their best trials are worth most."""

    def best(name: str, perturb: float) -> float:
        trials = zip(tried[name], means[name], strict=True)
        return max(score for settings, score in trials if settings.perturb == perturb)

    perturbs = set.intersection(*({s.perturb for s in of_arm} for of_arm in tried.values()))
    return max(sorted(perturbs), key=lambda p: sum(best(name, p) for name in tried))


def _set(settings: ArmSettings) -> dict[str, Any]:
    """The settings that are not the defaults."""
    defaults = vars(ArmSettings())
    return {name: value for name, value in vars(settings).items() if value != defaults[name]}


def write(path: pathlib.Path, found: Mapping[str, Any]) -> None:
    """Write a file of settings, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, dict(found))


def lines(found: Mapping[str, Any]) -> list[str]:
    """What was chosen of each arm, and what it is worth beside the defaults, a line each."""
    shown = []
    for name, of_arm in found["arms"].items():
        scores = [trial["score"] for trial in of_arm["tried"]]
        values = ", ".join(f"{key} {value}" for key, value in of_arm["chosen"].items())
        shown.append(
            f"{name}  {max(scores):.2f} (defaults {scores[0]:.2f}, {len(scores)} tried): "
            f"{values or 'the defaults'}"
        )
    return shown
