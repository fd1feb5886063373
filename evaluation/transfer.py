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
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from uncap.agents import checkpoints
from uncap.agents.adaptation import train_only
from uncap.agents.config import DaggerConfig, LearnerConfig, PPOConfig
from uncap.agents.files import owned, write_json
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting, load_policy
from uncap.envs import CLOSURES, Closure, register
from uncap.evaluation import gains, runs
from uncap.evaluation.arms import ARMS, parted
from uncap.evaluation.config import TransferConfig
from uncap.evaluation.processes import do_all
from uncap.evaluation.protocol import EVALUATION_SEED, Episode, evaluate, spread, summary
from uncap.evaluation.rows import restore
from uncap.evaluation.run_shapes import LEARNED
from uncap.evaluation.training import SAVES, Session
from uncap.evaluation.unseen import position

FOLDER = runs.TRANSFERS
FINISHED = "curve.json"  # in a learner's folder, in place of its state
TEACHER_SEED = 10_000  # added to the seed of a learner that clones, for its teacher's starts
FEW_SHOT_UPDATES, FEW_SHOT_RATE = 300, 3e-4  # minibatches and learning rate of its cloning

OnTarget = Callable[[str, dict], None]  # (target, its entry of results.json)


class Which(NamedTuple):
    """One learner of a transfer."""

    target: Closure
    kind: str  # name of an arm, see `arms.parted`
    seed: int

    @property
    def words(self) -> str:
        """For messages."""
        return f"{self.target.name} {self.kind}" + (f" {self.seed}" if self.seed else "")

    def folder(self, run: pathlib.Path) -> pathlib.Path:
        """Where it keeps its state, and at last its curve."""
        return run / FOLDER / self.target.name / f"{self.kind}-{self.seed}"


def learner_kinds(config: TransferConfig) -> tuple[str, ...]:
    """The arms of a transfer; success without an attempt is always measured."""
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
    common = settings(session.config.transfer, source)
    trained = [CLOSURES[name] for name in meta["tasks"]]
    parts = [_Target(name, session, common, entries.get(name, {}), trained) for name in targets]
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
        "last_episodes": config.last_episodes,
        "num_envs": config.num_envs,
        "source": checkpoints.digest(weights),
    }


def check_same(ours: dict[str, Any], theirs: dict[str, Any], place: str) -> None:
    """Refuse curves of other settings; what is not known of the others counts as the same.

    Raises:
        RunError: what differs.
    """
    both = [key for key in ours if key in theirs]
    different = [
        f"{key} {theirs[key]}, now {ours[key]}" for key in both if ours[key] != theirs[key]
    ]
    if different:
        raise runs.RunError(
            f"{place} is a transfer with other settings ({'; '.join(different)}): give it the same "
            "ones to add to it, or --replace to begin anew"
        )


class _Target:
    """The learners of one target, and what is known of them.

    Args:
        name: of the target.
        session: the job.
        common: what the curves have in common, see `settings`.
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
        common: dict[str, Any],
        entry: dict,
        trained: Sequence[Closure],
    ):
        self.name = name
        self.run = session.run
        self.config = session.config.transfer
        self.common = common
        self.before = entry
        self.trained = trained
        check_same(common, entry, "what the results hold")
        row, seeds = CLOSURES[name], missing(self.config, session.seed, entry)
        self.learners = [Which(row, kind, seed) for seed, kind in seeds]
        for which in self.learners:
            _check_kept(which.folder(self.run), common)

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
        return {
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


def _check_kept(folder: pathlib.Path, common: dict[str, Any]) -> None:
    """Refuse what a learner has kept of other settings.

    Raises:
        RunError: see `check_same`.
        CheckpointError: it is damaged, or of another version.
    """
    if _is_finished(folder):
        check_same(common, _learned(folder)["settings"], str(folder))
    elif checkpoints.exists(folder):
        try:
            kept = checkpoints.load(folder)[1]["transfer"]
        except checkpoints.CheckpointError as error:
            raise checkpoints.CheckpointError(
                f"{error}; --replace begins the transfer anew"
            ) from None
        check_same(common, kept["settings"], str(folder))


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
        return Curve(source, meta, which, session).measure()


def _unrelated(run: str | None, source: Any, meta: Mapping[str, Any]) -> Any:
    """The policy of a run of unrelated rows.

    Raises:
        RunError: none is named, or it is not made as the source is.
    """
    if run is None:
        raise runs.RunError("the control unrelated needs --unrelated RUN, a run of unrelated rows")
    policy, other = load_policy(pathlib.Path(run) / "checkpoint")
    same = ("conditioning", "sensors", "algorithm", "network")
    if different := [name for name in same if other[name] != meta[name]]:
        raise runs.RunError(
            f"{run} was trained with another {', '.join(different)} than the source: both must "
            "have the same"
        )
    if shared := set(other["tasks"]) & set(meta["tasks"]):
        raise runs.RunError(f"{run} was trained on {', '.join(sorted(shared))}, as the source was")
    return policy


class Curve:
    """The learning curve of one learner on the target.

    Its state is a checkpoint, which is written whole: after every point and between them.

    Args:
        source: the trained policy.
        meta: of its checkpoint, see `load_policy`.
        which: the learner.
        session: the job.

    Attributes:
        points: (environment steps, seconds, success) so far.
        last: outcomes of the last point's episodes, 0 or 1.
        diverged: simulations that were put back in its evaluations.
        invalid_actions: control steps of its evaluations whose action was not finite.
    """

    def __init__(self, source: Any, meta: Mapping[str, Any], which: Which, session: Session):
        self.conditioning = meta["conditioning"]
        self.episode_steps = meta["episode_steps"]
        self.target = which.target.name
        self.seed = which.seed
        row, self.episodes_cloned = parted(which.kind)
        self.arm = ARMS[row]
        self.meta = meta
        self.session = session
        self.config = session.config.transfer
        self.ppo: PPOConfig = session.config.ppo
        self.network = source.network
        self.source = source
        if self.arm.begins == "unrelated":
            self.source = _unrelated(session.config.transfer.unrelated, source, meta)
        self.settings = settings(self.config, source)
        self.folder = which.folder(session.run)
        self.points: list[tuple[int, float, float]] = []
        self.last: list[int] = []
        self.diverged = 0
        self.invalid_actions = 0
        self._saved = 0  # parts of the budget
        self._began = time.perf_counter()
        self._evaluating = 0.0  # seconds
        self.budget = self.config.env_steps
        if self.arm.total:
            self.budget += runs.read_results(session.run).get("train", {}).get("env_steps", 0)
        warm = self.arm.begins != "nothing" or self.arm.demos or self.arm.taught
        self.learner = self._make_learner(self.config.num_envs, self.seed, warm)
        if self.arm.begins != "nothing":
            self.learner.policy.adopt(self.source)
        if self.arm.reinforces:
            train_only(self.learner.policy, self.arm.trains, self._vector())
        self.told = self._told()

    def _make_learner(self, num_envs: int, seed: int, warm: bool) -> Learner:
        config = LearnerConfig(
            conditioning=self.conditioning,
            sensors=self.network.sensors,
            episode_steps=self.episode_steps,
            reward=self.session.config.reward,
            num_envs=num_envs,
            engine=self.session.config.engine,
            warm=warm,
            network=self.network,
            ppo=self.ppo,
        )
        return Learner((self.target,), config, seed)

    def measure(self) -> bool:
        """Learn, and evaluate along the way; False if stopped."""
        if checkpoints.exists(self.folder):
            self._resume()
        else:
            self._begin()
            if self.arm.taught and self.session.stop():
                return False
            self._point()
        while self.arm.reinforces and len(self.points) <= self.config.points:
            steps = self.budget * len(self.points) // self.config.points
            self.learner.learn(steps, self._on_update)
            if self.session.stop():
                return False
            self._point()
        self._finish()
        return True

    def _vector(self) -> torch.Tensor:
        """What is told of the target, (t,), where it is a vector that stays; else of no size."""
        vectors = self.learner.closures.task_vectors
        stays = vectors.ndim == 2 and not self.network.embedding
        return torch.as_tensor(vectors[0] if stays else vectors[0, :0].reshape(-1))

    def _told(self) -> Any:
        """What the environments of evaluations tell: the conditioning, or a vector of the arm's.

        Raises:
            RunError: the policy is told nothing by a vector.
        """
        if self.arm.told == "own":
            return self.conditioning
        trained = {name: np.asarray(self.meta["vectors"][name]) for name in self.meta["tasks"]}
        known = np.stack(list(trained.values()))  # (rows, ..., t)
        if not known.size:
            raise runs.RunError(
                "nearest_task, shuffled and noise need a policy that is told of its task by a "
                f"vector: this one is told {self.conditioning}"
            )
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 3]))
        if self.arm.told == "nearest":
            found = trained[
                position(CLOSURES[self.target], [CLOSURES[n] for n in trained])["nearest"]
            ]
        elif self.arm.told == "another":
            found = known[rng.integers(len(known))]
        else:
            found = rng.normal(known.mean(0), known.std(0))
        return {self.target: found.astype(np.float32)}

    def _begin(self) -> None:
        """Give the learner what it begins with."""
        if self.arm.begins != "nothing":
            deviation = float(np.log(self.ppo.warm_deviation))
            self.learner.policy.log_std.data.fill_(deviation)
        if self.arm.demos:
            self._clone_expert(self.episodes_cloned)
        if self.arm.taught:
            self.learner.imitate_experts(
                self.session.config.dagger, lambda *_: not self.session.stop()
            )

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

    def _on_update(self) -> bool:
        """Save when another part of the budget is used, and at a stop; whether to go on."""
        parts = int(SAVES * self.learner.env_steps / self.budget)
        if parts > self._saved or self.session.stop():
            self._saved = parts
            self._save()
        self._report()
        return not self.session.stop()

    def _point(self) -> None:
        """Evaluate, and keep the point; the last one with more episodes."""
        is_last = not self.arm.reinforces or len(self.points) == self.config.points
        episodes = self.config.episodes
        if is_last:
            episodes = max(episodes, self.config.last_episodes)
        seconds = time.perf_counter() - self._began - self._evaluating
        table = self._evaluated((self.target,), episodes, self.told)
        found = summary(table)
        self.points.append((self.learner.env_steps, round(seconds, 2), found["mean_success"]))
        self.last = [int(episode.success) for episode in table]
        self.diverged += found["diverged"]
        self.invalid_actions += found["invalid_actions"]
        self._save()
        self._report()

    def _evaluated(self, rows: Sequence[str], episodes: int, told: Any) -> list[Episode]:
        """Episodes of the policy as it is now."""
        began = time.perf_counter()
        table = evaluate(
            Acting(self.learner.policy, (self.target,)),
            rows,
            episodes,
            conditioning=told,
            known_tasks=self.meta["known"],
            seed=EVALUATION_SEED,
            sensors=self.network.sensors,
            episode_steps=self.episode_steps,
        )
        self._evaluating += time.perf_counter() - began
        return table

    def _on_sources(self) -> float | None:
        """Success on the rows of the source; None of what never was, or cannot be, at home there.

        With a head per row the target's is none of theirs; a vector that was learned for the
        target replaces what is told of every row.
        """
        if self.arm.begins != "source" or self.arm.told != "own":
            return None
        if self.network.head == "per_task" or self.arm.trains == "conditioning":
            return None
        rows = tuple(self.meta["tasks"])
        measured, episodes = spread(rows, self.config.source_quota, self.config.episodes, None)
        return summary(self._evaluated(measured, episodes, self.conditioning))["mean_success"]

    def _report(self) -> None:
        *_, success = self.points[-1]
        total = self.budget
        self.session.report("", min(total, self.learner.env_steps), total, f"{success:.2f}")

    def _save(self) -> None:
        state = {
            "settings": self.settings,
            "points": self.points,
            "last": self.last,
            "diverged": self.diverged,
            "invalid_actions": self.invalid_actions,
            "seconds": time.perf_counter() - self._began,
            "evaluating": self._evaluating,
        }
        self.learner.save(self.folder, transfer=state)

    def _resume(self) -> None:
        """Return to the saved state."""
        kept = self.learner.resume(self.folder)["transfer"]
        self.points = [tuple(point) for point in kept["points"]]
        self.last = kept["last"]
        self.diverged = kept["diverged"]
        self.invalid_actions = kept["invalid_actions"]
        self._began -= kept["seconds"]
        self._evaluating += kept["evaluating"]

    def _finish(self) -> None:
        """Leave the curve in the folder, and the state no more."""
        steps, spent, success = zip(*self.points, strict=True)
        curve = {
            "seed": self.seed,
            "steps": list(steps),
            "seconds": list(spent),
            "success": list(success),
            "last": self.last,
            "sources": self._on_sources(),
            "diverged": self.diverged,
            "invalid_actions": self.invalid_actions,
        }
        seconds = time.perf_counter() - self._began
        learned = {"settings": self.settings, "curve": curve, "seconds": seconds}
        write_json(self.folder / FINISHED, learned)
        (self.folder / checkpoints.FILE).unlink()
