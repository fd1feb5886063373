"""Transfer: what a trained policy is worth on a closure it never saw, against scratch.

The target is learned by reinforcement alone; its expert is used by the third learner only,
`few_shot`, which clones a few of its episodes first. All learners get the same environment, budget
and evaluation starts, and the same PPO but for what their beginnings ask for: a pretrained policy
is tuned gently (`warm_*` and `critic_warmup` in `PPOConfig`), the one from scratch explores with
the full rate. What the source cost, its own steps and its own tasks' experts, is not part of the
budget.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from agents import checkpoints
from agents.config import DaggerConfig, LearnerConfig, PPOConfig
from agents.learner import Acting, Learner
from envs import CLOSURES
from evaluation import runs
from evaluation.config import TransferConfig
from evaluation.protocol import EVALUATION_SEED, evaluate, summary
from evaluation.statistics import area, steps_to_threshold, wilson
from evaluation.training import SAVES, Session

FOLDER = "transfer"  # of a run: what is not finished, a folder for each target
THRESHOLD = 0.8  # success at which a target counts as learned
TEACHER_SEED = 10_000  # added to the seed of a few-shot learner, for its teacher's starts
FEW_SHOT_UPDATES, FEW_SHOT_RATE = 300, 3e-4  # minibatches and learning rate of its cloning

OnPoint = Callable[[str, int, float], None]  # (kind of learner, env steps, success)


def learner_kinds(config: TransferConfig) -> tuple[str, ...]:
    """The learners of a transfer."""
    few_shot = ("few_shot",) if config.few_shot else ()
    return ("pretrained", "scratch", *few_shot)


def transfer(
    source: Any,
    conditioning: Any,
    target: str,
    session: Session,
    on_point: OnPoint,
    entry: dict | None = None,
) -> dict | None:
    """Fine-tune on the target and learn it from scratch, with the same budget.

    What a stop or a kill interrupts goes on from `transfer/<target>/` in the run.

    Args:
        source: the trained policy.
        conditioning: what it was told; must be able to describe an unseen closure.
        target: a held-out row.
        session: the job; its seed is the first learner's, and each further one adds 1.
        on_point: called with (kind of learner, env steps, success) after each evaluation.
        entry: of results.json, to add to: learners that are in it are not trained again.

    Returns:
        The target's entry of results.json: zero-shot success with its interval, curves, steps to
        80 % (None: not reached within the budget), jumpstart, areas. None if stopped.

    Raises:
        RunError: the entry, or what goes on, has another budget or source.
    """
    config = session.config.transfer
    curves = Curves(session.run / FOLDER / target, settings(config, source), entry or {})
    for seed, kind in curves.missing(config, session.seed):
        curve = Curve(source, conditioning, target, session, seed, kind)
        if not curve.measure(on_point, curves):
            return None
    few_shot = max(config.few_shot, (entry or {}).get("few_shot", 0))
    config = dataclasses.replace(config, few_shot=few_shot)
    found = {**curves.settings, **_measures(curves.finished, config)}
    return {**found, "wall_seconds": curves.seconds}


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


def settings(config: TransferConfig, source: Any) -> dict[str, Any]:
    """What curves of one entry have in common."""
    weights = {name: value.numpy() for name, value in source.state_dict().items()}
    return {
        "budget": config.env_steps,
        "points": config.points,
        "episodes": config.episodes,
        "num_envs": config.num_envs,
        "few_shot": config.few_shot,
        "source": checkpoints.digest(weights),
    }


def _saved(folder: pathlib.Path) -> dict[str, Any]:
    """What `Curves.save` kept beside a learner's state.

    Raises:
        CheckpointError: it is damaged, or of another version.
    """
    try:
        return checkpoints.load(folder)[1]["transfer"]
    except checkpoints.CheckpointError as error:
        raise checkpoints.CheckpointError(f"{error}; --replace begins the transfer anew") from None


def check_same(ours: dict[str, Any], theirs: dict[str, Any], place: str) -> None:
    """Refuse curves of other settings; what is not known of the others counts as the same.

    Raises:
        RunError: what differs.
    """
    both = [key for key in ours if key in theirs]
    different = [
        f"{key} {theirs[key]}, now {ours[key]}"
        for key in both
        if ours[key] != theirs[key] and (key != "few_shot" or ours[key] and theirs[key])
    ]
    if different:
        raise runs.RunError(
            f"{place} is a transfer with other settings ({'; '.join(different)}): give it the same "
            "ones to add to it, or --replace to begin anew"
        )


class Curves:
    """The curves of a transfer: those that are finished, and the state of the one in progress.

    All of it is one checkpoint, which is written whole: after every point and between them.

    Args:
        folder: of the checkpoint.
        settings: see the function.
        entry: of results.json, to add to.

    Attributes:
        finished: curves by kind.
        seconds: spent on them, in all sessions.

    Raises:
        RunError: the entry, or the checkpoint, is of other settings.
        CheckpointError: the checkpoint is damaged.
    """

    def __init__(self, folder: pathlib.Path, settings: dict[str, Any], entry: dict):
        self.folder = folder
        self.settings = settings
        check_same(settings, entry, "what the results hold")
        self._current: dict[str, Any] = {}
        saved: dict[str, Any] = entry
        if checkpoints.exists(folder):
            saved = _saved(folder)
            check_same(settings, saved["settings"], str(folder))
            self._current = saved["current"]
        self.finished: dict[str, list[dict]] = saved.get("curves", {})
        self._seconds = saved.get("wall_seconds", 0.0)
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Spent on the curves, in all sessions."""
        return self._seconds + time.perf_counter() - self._began

    def missing(self, config: TransferConfig, first_seed: int) -> list[tuple[int, str]]:
        """Seeds and kinds of the learners that are to be trained; the one in progress first."""
        learners = missing(config, first_seed, {"curves": self.finished})
        current = (self._current.get("seed"), self._current.get("kind"))
        return sorted(learners, key=lambda learner: learner != current)

    def save(self, curve: Curve) -> None:
        """Keep the state of a curve."""
        current = {"kind": curve.kind, "seed": curve.seed, "points": curve.points}
        curve.learner.save(
            self.folder,
            transfer={
                "settings": self.settings,
                "curves": self.finished,
                "wall_seconds": self.seconds,
                "current": current,
            },
        )

    def resume(self, curve: Curve) -> bool:
        """Return a curve to its saved state; whether there is one."""
        current = (self._current.get("seed"), self._current.get("kind"))
        if current != (curve.seed, curve.kind):
            return False
        curve.learner.resume(self.folder)
        curve.points = [(steps, success) for steps, success in self._current["points"]]
        return True

    def finish(self, curve: Curve) -> None:
        """Add a curve that has all its points."""
        steps, success = zip(*curve.points, strict=True)
        own = {"seed": curve.seed, "steps": list(steps), "success": list(success)}
        self.finished.setdefault(curve.kind, []).append(own)


class Curve:
    """The learning curve of one learner on the target.

    Args:
        source: the trained policy.
        conditioning: what it was told.
        target: a row.
        session: the job.
        seed: of this learner.
        kind: pretrained, scratch or few_shot.

    Attributes:
        points: (environment steps, success) so far.
    """

    def __init__(
        self, source: Any, conditioning: Any, target: str, session: Session, seed: int, kind: str
    ):
        self.conditioning = conditioning
        self.target = target
        self.session = session
        self.config = session.config.transfer
        self.ppo: PPOConfig = session.config.ppo
        self.network = source.network
        self.seed = seed
        self.kind = kind
        self.source = source
        self.points: list[tuple[int, float]] = []
        self._saved = 0  # parts of the budget
        self.learner = self._make_learner(self.config.num_envs, seed, warm=kind != "scratch")

    def _begin(self) -> None:
        """Give the learner what it begins with."""
        if self.kind == "scratch":
            return
        self.learner.policy.adopt(self.source)
        deviation = float(np.log(self.ppo.warm_deviation))
        self.learner.policy.log_std.data.fill_(deviation)
        if self.kind == "few_shot":
            self._clone_expert(self.config.few_shot)

    def _make_learner(self, num_envs: int, seed: int, warm: bool) -> Learner:
        config = LearnerConfig(
            conditioning=self.conditioning,
            sensors=self.network.sensors,
            num_envs=num_envs,
            warm=warm,
            network=self.network,
            ppo=self.ppo,
        )
        return Learner((self.target,), config, seed)

    def _clone_expert(self, episodes: int) -> None:
        """Clone episodes of the target's expert into the learner's policy."""
        steps = CLOSURES[self.target].steps
        config = DaggerConfig(
            steps_per_task=episodes * steps,
            rollout=steps,
            updates=FEW_SHOT_UPDATES,
            learning_rate=FEW_SHOT_RATE,
        )
        teacher = self._make_learner(episodes, self.seed + TEACHER_SEED, warm=True)
        teacher.policy.adopt(self.learner.policy)
        teacher.imitate_experts(config, lambda *_: True)
        self.learner.policy.adopt(teacher.policy)

    def measure(self, on_point: OnPoint, curves: Curves) -> bool:
        """Learn, and evaluate along the way; False if stopped.

        Args:
            on_point: called with (kind, env steps, success) after each evaluation, those before a
                resume included.
            curves: keep the state, and the curve when it is finished.
        """
        if curves.resume(self):
            for steps, success in self.points:
                on_point(self.kind, steps, success)
        else:
            self._begin()
            self._point(on_point, curves)
        while len(self.points) <= self.config.points:
            steps = self.config.env_steps * len(self.points) // self.config.points
            self.learner.learn(steps, lambda: self._on_update(curves))
            if self.session.stop():
                return False
            self._point(on_point, curves)
        curves.finish(self)
        return True

    def _on_update(self, curves: Curves) -> bool:
        """Save when another part of the budget is used, and at a stop; whether to go on."""
        parts = int(SAVES * self.learner.env_steps / self.config.env_steps)
        if parts > self._saved or self.session.stop():
            self._saved = parts
            curves.save(self)
        return not self.session.stop()

    def _point(self, on_point: OnPoint, curves: Curves) -> None:
        """Evaluate, and keep the point."""
        table = evaluate(
            Acting(self.learner.policy, (self.target,)),
            (self.target,),
            self.config.episodes,
            conditioning=self.conditioning,
            seed=EVALUATION_SEED,
            sensors=self.network.sensors,
        )
        self.points.append((self.learner.env_steps, summary(table)["mean_success"]))
        curves.save(self)
        on_point(self.kind, *self.points[-1])


def _measures(curves: dict[str, list[dict]], config: TransferConfig) -> dict[str, Any]:
    """What is read off the curves."""
    zero_shot = curves["pretrained"][0]["success"][0]
    low, high = wilson(round(zero_shot * config.episodes), config.episodes)
    mean = {
        kind: np.mean([curve["success"] for curve in of_kind], axis=0)
        for kind, of_kind in curves.items()
    }
    reached = {
        kind: [steps_to_threshold(c["steps"], c["success"], THRESHOLD) for c in of_kind]
        for kind, of_kind in curves.items()
    }
    return {
        "zero_shot": zero_shot,
        "zero_shot_low": low,
        "zero_shot_high": high,
        "episodes": config.episodes,
        "budget": config.env_steps,
        "seeds": len(curves["pretrained"]),
        "few_shot": config.few_shot,
        "threshold": THRESHOLD,
        "curves": curves,
        "steps_to_threshold": reached,
        "final": {kind: float(success[-1]) for kind, success in mean.items()},
        "jumpstart": float(mean["pretrained"][0] - mean["scratch"][0]),
        "area": {kind: area(curves[kind][0]["steps"], success) for kind, success in mean.items()},
    }
