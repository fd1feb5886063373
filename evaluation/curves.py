"""One learner of a transfer: what it begins with, how it learns, and its curve on the target."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from uncap.agents import adaptation, checkpoints
from uncap.agents import meta as meta_learning
from uncap.agents.config import CloneConfig, LearnerConfig, PPOConfig
from uncap.agents.dagger import Teacher
from uncap.agents.episodes import labelled
from uncap.agents.files import write_json
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting
from uncap.envs import CLOSURES, Closure, distances
from uncap.envs.closures import named_set
from uncap.envs.conditioning import vectors
from uncap.evaluation import arm_settings, beginnings, runs
from uncap.evaluation.arm_settings import ArmSettings
from uncap.evaluation.arms import ARMS, RUNS, TAUGHT_STEPS, Arm, arm_of, named_runs, parted
from uncap.evaluation.config import JobConfig, TransferConfig
from uncap.evaluation.gains import outcomes_of
from uncap.evaluation.protocol import EVALUATION_SEED, Episode, evaluate, spread, summary
from uncap.evaluation.training import SAVES, VALIDATION_SEED, Session
from uncap.evaluation.unseen import position

FOLDER = runs.TRANSFERS
FINISHED = "curve.json"  # in a learner's folder, in place of its state
DEMO_SEED = 10_000  # added to the seed of a learner that clones, for the starts of the episodes
CRITIC_SEED = 20_000  # the same, for the trained rows on which a critic warms up
_CRITIC = "critic"  # folder of its state, in the learner's, until it is warm
_CLONED = 2  # things a learner begins with that are there before its critic warms up
_MOST_ROWS = 64  # of the source, drawn, on which a critic warms up
_TABLE = "mt24"  # all rows of the table, look-alikes apart, whatever else is registered
_CLONE_BATCH = 512  # labelled states per minibatch of cloning
_VALIDATIONS = 20  # episodes of the target at each tenth of the budget, where the best is kept
Weights = dict[str, np.ndarray]


class Which(NamedTuple):
    """One learner of a transfer.

    Attributes:
        target: the row.
        kind: name of an arm, see `arms.parted`.
        seed: of everything random in it.
        settings: of the arm; None: what the job's file says.
        trial: of a search for settings, in whose folder it then is; None: of a transfer.
    """

    target: Closure
    kind: str
    seed: int
    settings: ArmSettings | None = None
    trial: int | None = None

    @property
    def words(self) -> str:
        """For messages."""
        text = f"{self.target.name} {self.kind}" + (f" {self.seed}" if self.seed else "")
        return text if self.trial is None else f"{text}, trial {self.trial}"

    def folder(self, run: pathlib.Path) -> pathlib.Path:
        """Where it keeps its state, and at last its curve."""
        if self.trial is not None:
            trial = runs.SETTINGS + f"/{self.kind}/trial-{self.trial:02}"
            return run / trial / f"{self.target.name}-{self.seed}"
        return run / FOLDER / self.target.name / f"{self.kind}-{self.seed}"


def half_done(run: pathlib.Path) -> list[pathlib.Path]:
    """Folders of the targets to which a run's transfers have begun, and are not finished."""
    kept = (checkpoints.FILE, FINISHED)
    files = (file for name in kept for file in (run / FOLDER).glob(f"*/*/{name}"))
    return sorted({file.parent.parent for file in files})


def settings_of(config: TransferConfig, which: Which) -> ArmSettings:
    """The settings of a learner's arm.

    Raises:
        RunError: the job's file of settings is missing or damaged.
    """
    if which.settings is not None:
        return which.settings
    if config.settings is None:
        return arm_settings.default(arm_of(which.kind))
    return arm_settings.of_arm(arm_settings.read(pathlib.Path(config.settings)), which.kind)


def common(job: JobConfig, source: Any, arm: Arm | None = None) -> dict[str, Any]:
    """What curves of one entry have in common.

    Args:
        job: with the transfer.
        source: the trained policy.
        arm: of a learner, for what matters to it; None: of all.
    """
    config = job.transfer
    weights = {name: value.numpy() for name, value in source.state_dict().items()}
    found = {
        "budget": config.env_steps,
        "points": config.points,
        "episodes": config.episodes,
        "last_episodes": config.last_episodes,
        "num_envs": config.num_envs,
        "engine": job.engine,
        "source": checkpoints.digest(weights),
    }
    for begins in named_runs(config):
        if arm is None or arm.begins == begins:
            setting = RUNS[begins].setting
            found[setting] = getattr(config, setting)
    if config.settings and (arm is None or arm_settings.space(arm)):
        found["settings"] = hashlib.sha256(pathlib.Path(config.settings).read_bytes()).hexdigest()
    return found


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
        outcomes: of each point's episodes, 0 or 1, of start 0, 1 and so on.
        begins: the JSON part of the checkpoint that it begins with.
        diverged: simulations that were put back in its evaluations.
        invalid_actions: control steps of its evaluations whose action was not finite.
    """

    def __init__(self, source: Any, meta: Mapping[str, Any], which: Which, session: Session):
        self.conditioning = meta["conditioning"]
        self.episode_steps = meta["episode_steps"]
        self.target = which.target.name
        self.seed = which.seed
        row, self.number = parted(which.kind)
        self.arm = ARMS[row]
        self.meta = meta
        self.session = session
        self.config = session.config.transfer
        self.arm_settings = settings_of(self.config, which)
        self.settings = common(session.config, source, self.arm)
        self.is_trial = which.trial is not None
        if self.is_trial:
            self.settings["arm"] = vars(self.arm_settings)
        self.folder = which.folder(session.run)
        self.points: list[tuple[int, float, float]] = []
        self.outcomes: list[list[int]] = []
        self.diverged = 0
        self.invalid_actions = 0
        self._saved = 0  # parts of the budget
        self._begun = 0  # things that it begins with and has got, see `_begin`
        self._halfway: dict[str, Any] = {}  # state of the present one of them
        self._began = time.perf_counter()
        self._evaluating = 0.0  # seconds
        self.budget = self.config.env_steps
        if self.arm.total:
            self.budget += runs.read_results(session.run).get("train", {}).get("env_steps", 0)
        begins = beginnings.beginning(which.kind, self.config, self.target, (source, meta))
        self.source, self.begins, self.specialists = begins
        self.learner = self._make_learner()
        if self.arm.begins != "nothing":
            self.learner.policy.adopt(self.source)
        self.trains = self.arm.trains
        if self.trains == "all":
            self.trains = self.arm_settings.trains or "all"
        if self.arm.reinforces or self.arm.demos:
            adaptation.train_only(self.learner.policy, self.trains, self._vector())
        self.told = self._told()
        self._best = _Best(self.learner.policy.actor)
        self._leash = adaptation.Leash(self.learner.policy, self.arm_settings.leash)

    def _make_learner(self) -> Learner:
        """The learner on the target, before it is given what it begins with."""
        from_nothing = self.arm.begins == "nothing"
        network = self.source.network
        config = LearnerConfig(
            conditioning=self.conditioning,
            sensors=network.sensors,
            episode_steps=self.episode_steps,
            reward=self.session.config.reward,
            num_envs=self.config.num_envs,
            engine=self.session.config.engine,
            warm=self._is_warm,
            network=self.arm_settings.network(network) if from_nothing else network,
            ppo=self._ppo,
        )
        return Learner((self.target,), config, self.seed)

    @property
    def _is_warm(self) -> bool:
        """Whether reinforcement does not begin with nothing."""
        return self.arm.begins != "nothing" or self.arm.demos or self.arm.taught

    @property
    def _ppo(self) -> PPOConfig:
        is_trained = self.arm.begins != "nothing"
        given = self.session.config.ppo
        return self.arm_settings.ppo(given, self._is_warm, is_trained, self.budget)

    def measure(self) -> bool:
        """Learn, and evaluate along the way; False if stopped."""
        if checkpoints.exists(self.folder):
            self._resume()
        if not self._begin():
            return False
        if self.arm.taught and not self.points and not self._teach():
            return False
        if not self.points:
            self._validate()
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
        told = self.learner.closures.task_vectors
        stays = told.ndim == 2 and not self.learner.policy.network.embedding
        return torch.as_tensor(told[0] if stays else told[0, :0].reshape(-1))

    def _told(self) -> Any:
        """What the environments of evaluations tell: the conditioning, or a vector of the arm's."""
        if self.arm.told == "own":
            return self.conditioning
        trained = {name: np.asarray(self.meta["vectors"][name]) for name in self.meta["tasks"]}
        known = np.stack(list(trained.values()))  # (rows, ..., t)
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 3]))
        if self.arm.told == "nearest":
            found = trained[
                position(CLOSURES[self.target], [CLOSURES[n] for n in trained])["nearest"]
            ]
        elif self.arm.told == "another":
            rows = distances.others(CLOSURES[self.target], [CLOSURES[n] for n in trained])
            found = trained[rows[rng.integers(len(rows))].name]
        else:
            found = rng.normal(known.mean(0), self._spread(known))
        return {self.target: found.astype(np.float32)}

    def _spread(self, known: np.ndarray) -> np.ndarray:
        """Deviation of task vectors (rows, ..., t); one alone has that of the table's."""
        if len(known) > 1:
            return known.std(0)
        table = named_set(_TABLE)
        rows = (*table.train, *table.held_out)
        return vectors(self.conditioning, rows, self.meta["known"]).std(0)

    def _begin(self) -> bool:
        """Give the learner what it begins with and has not got yet; False if stopped."""
        steps = (
            (bool(self.arm.adapts), self._train_to_adapt),
            (bool(self.arm.demos), self._clone_expert),
            (self._warms_critic, self._warm_critic),
        )
        if self._begun == len(steps):
            return True
        if not self._begun and (self.arm.begins != "nothing" or self.arm.demos):
            deviation = self._ppo.warm_deviation
            self.learner.policy.log_std.data.fill_(float(np.log(deviation)))
        for number, (is_needed, step) in enumerate(steps[self._begun :], self._begun + 1):
            if is_needed and not step():
                return False
            self._begun = number
            self._halfway = {}
            if number == len(steps):
                self._leash.begin()
            if is_needed and self.session.stop():
                self._save()
                return False
        return True

    @property
    def _warms_critic(self) -> bool:
        """Whether the critic is warmed up on the rows that the policy was trained on."""
        is_trained = self.arm.begins != "nothing"
        return self.arm.reinforces and is_trained and self.arm_settings.source_critic > 0

    def _goes_on(self, share: float) -> bool:
        """Report how far a beginning is."""
        self.session.report("", round(share * self.budget / 2), self.budget, "")
        return not self.session.stop()

    def _train_to_adapt(self) -> bool:
        """Train the policy on the source's rows to adapt; False if stopped."""
        training = meta_learning.Training(
            self.learner.policy,
            self.meta,
            self.arm.adapts,
            self.number,
            self.seed,
            engine=self.session.config.engine,
            state=self._halfway,
        )
        parts = int(SAVES * training.share)

        def goes_on(share: float) -> bool:
            nonlocal parts
            if int(SAVES * share) > parts or self.session.stop():
                parts = int(SAVES * share)
                self._halfway = training.state()
                self._save()
            return self._goes_on(share)

        return training.run(goes_on)

    def _clone_expert(self) -> bool:
        """Clone episodes of the target's expert into the learner's policy; False if stopped."""
        chosen = self.arm_settings
        seed = self.seed + DEMO_SEED
        episodes = (self.meta, self.target, self.number, seed, chosen.perturb)
        data = labelled(*episodes, self.session.config.engine)
        updates, minibatch, rate = chosen.clone_updates, _CLONE_BATCH, chosen.clone_rate
        noise = chosen.clone_noise
        if self.arm.adapts:  # as the inner loop did
            inner = meta_learning.DEFAULT
            updates, minibatch, rate = inner.updates, inner.minibatch, inner.inner_rate
            noise = 0.0
        rng = np.random.default_rng(np.random.SeedSequence([seed, 5]))
        parts = next(n for n in range(min(SAVES, updates), 0, -1) if updates % n == 0)
        config = CloneConfig(
            updates=updates // parts, minibatch=minibatch, learning_rate=rate, noise=noise
        )
        cloning = Teacher(self.learner.policy, config, parts, rng, fused=False, falls_to=1.0)
        if self._halfway:
            cloning.load(self._halfway)
        while cloning.done < parts:
            cloning.fit(data)
            self._halfway = cloning.state()
            self._save()
            if not self._goes_on(cloning.done / parts):
                return False
        return True

    def _warm_critic(self) -> bool:
        """Train the critic on rollouts of the policy on the rows that it was trained on.

        Returns:
            Whether it finished; False if stopped. Its state is in a folder of its own meanwhile.
        """
        folder = self.folder / _CRITIC
        if not checkpoints.exists(self.folder):  # which says whose critic it is
            shutil.rmtree(folder, ignore_errors=True)
            self._save()
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 6]))
        tasks = np.array(self.begins["tasks"])
        most = min(_MOST_ROWS, self.config.num_envs)
        rows = tuple(tasks[np.sort(rng.permutation(len(tasks))[:most])].tolist())
        updates = self.arm_settings.source_critic
        ppo = dataclasses.replace(self._ppo, critic_warmup=updates)
        config = dataclasses.replace(self.learner.config, ppo=ppo)
        there = Learner(rows, config, self.seed + CRITIC_SEED, self.begins["known"])
        if self.trains == "conditioning":  # the target's vector, which is none of theirs
            there.policy.adopt(self.source)
        else:
            adaptation.train_only(there.policy, self.trains, self._vector())
            there.policy.adopt(self.learner.policy)
        steps = updates * ppo.warm_rollout * self.config.num_envs
        if checkpoints.exists(folder):
            self._began = time.perf_counter() - there.resume(folder)["seconds"]

        def goes_on() -> bool:
            there.save(folder, seconds=time.perf_counter() - self._began)
            return self._goes_on(there.env_steps / steps)

        there.learn(steps, goes_on)
        there.closures.close()
        if there.env_steps < steps:
            return False
        self.learner.policy.adopt(there.policy, "critic.")
        return True

    def _teach(self) -> bool:
        """Let the target's expert teach; False if stopped.

        For how long does not depend on how the source was made.
        """
        total = min(self.config.env_steps, TAUGHT_STEPS)
        dagger = dataclasses.replace(self.session.config.dagger, steps=total)

        def on_round(env_steps: int, loss: float) -> bool:
            parts = int(SAVES * env_steps / total)
            if parts > self._saved or self.session.stop():
                self._saved = parts
                self._save()
            self.session.report("", min(env_steps, total), total, "")
            return not self.session.stop()

        self.learner.imitate_experts(dagger, on_round)
        return not self.session.stop()

    def _on_update(self) -> bool:
        """Save when another part of the budget is used, and at a stop; whether to go on."""
        parts = int(SAVES * self.learner.env_steps / self.budget)
        if parts > self._saved:
            self._validate()
        if parts > self._saved or self.session.stop():
            self._saved = parts
            self._save()
        self._report()
        return not self.session.stop()

    def _validate(self) -> None:
        """Keep the weights as they are now if none before did better on the validation starts."""
        if self.arm.reinforces and self.arm_settings.keep_best:
            table = self._played(
                (self.target,), _VALIDATIONS, self.told, VALIDATION_SEED, "validation"
            )
            self._best.note(summary(table)["mean_success"])

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
        self.outcomes.append(_outcomes(table))
        self.diverged += found["diverged"]
        self.invalid_actions += found["invalid_actions"]
        self._save()
        self._report()

    def _evaluated(self, rows: Sequence[str], episodes: int, told: Any) -> list[Episode]:
        """Episodes of the policy as it is now, or as it was at its best."""
        with self._best.acting():
            return self._played(rows, episodes, told, EVALUATION_SEED, "evaluation")

    def _played(
        self, rows: Sequence[str], episodes: int, told: Any, seed: int, variants: str
    ) -> list[Episode]:
        """Episodes of the policy as it is now, see `evaluate`."""
        began = time.perf_counter()
        table = evaluate(
            Acting(self.learner.policy, (self.target,)),
            rows,
            episodes,
            conditioning=told,
            known_tasks=self.meta["known"],
            seed=seed,
            variants=variants,
            sensors=self.source.network.sensors,
            episode_steps=self.episode_steps,
        )
        self._evaluating += time.perf_counter() - began
        return table

    def _on_sources(self) -> dict[str, Any]:
        """Success on the rows of the source; None of what never was, or cannot be, at home there.

        A trial of settings is not measured there either: that is no part of what it is worth.
        Beside it are the outcomes, by row and start: the same of all learners.
        With a head per row the target's is none of theirs; a vector that was learned for the
        target replaces what is told of every row.
        """
        if self.is_trial or self.arm.begins != "source" or self.arm.told != "own":
            return {"sources": None}
        if self.source.network.head == "per_task" or self.trains == "conditioning":
            return {"sources": None}
        rows = tuple(self.meta["tasks"])
        measured, episodes = spread(rows, self.config.source_quota, self.config.episodes, None)
        table = self._evaluated(measured, episodes, self.conditioning)
        return {"sources": summary(table)["mean_success"], "source_outcomes": _outcomes(table)}

    def _of_specialists(self) -> dict[str, float]:
        """Zero-shot success of each specialist on the target."""
        found = {}
        for name, (policy, meta) in self.specialists.items():
            table = evaluate(
                Acting(policy, (name,)),
                (self.target,),
                self.config.episodes,
                conditioning=self.conditioning,
                known_tasks=meta["known"],
                seed=EVALUATION_SEED,
                sensors=policy.network.sensors,
                episode_steps=self.episode_steps,
            )
            found[name] = summary(table)["mean_success"]
        return found

    def _report(self) -> None:
        success = self.points[-1][-1] if self.points else 0.0
        total = self.budget
        self.session.report("", min(total, self.learner.env_steps), total, f"{success:.2f}")

    def _save(self) -> None:
        state = {
            "settings": self.settings,
            "points": self.points,
            "outcomes": self.outcomes,
            "diverged": self.diverged,
            "invalid_actions": self.invalid_actions,
            "seconds": time.perf_counter() - self._began,
            "evaluating": self._evaluating,
            "begun": self._begun,
        }
        beside = self._best.state() if self.arm_settings.keep_best else {}
        beside["leash"] = self._leash.state()
        beside["halfway"] = self._halfway
        self.learner.save(self.folder, beside=beside, transfer=state)
        if self._begun > _CLONED:
            shutil.rmtree(self.folder / _CRITIC, ignore_errors=True)

    def _resume(self) -> None:
        """Return to the saved state."""
        meta = self.learner.resume(self.folder)
        kept = meta["transfer"]
        self._best.load(meta["beside"])
        self._leash.load(meta["beside"].get("leash", {}))  # older states have none
        self._begun = kept.get("begun", _CLONED + 1)  # older states are of later on
        self._halfway = meta["beside"].get("halfway", {})
        self._saved = int(SAVES * self.learner.env_steps / self.budget)
        self.points = [tuple(point) for point in kept["points"]]
        self.outcomes = outcomes_of({**kept, "success": kept["points"]})
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
            "outcomes": self.outcomes,
            **self._on_sources(),
            "diverged": self.diverged,
            "invalid_actions": self.invalid_actions,
        }
        if self.number == 1 and self.specialists:
            curve["specialists"] = self._of_specialists()
        seconds = time.perf_counter() - self._began
        learned = {"settings": self.settings, "curve": curve, "seconds": seconds}
        write_json(self.folder / FINISHED, learned)
        (self.folder / checkpoints.FILE).unlink()


def _outcomes(table: Sequence[Episode]) -> list[int]:
    """Whether each episode succeeded, 0 or 1."""
    return [int(episode.success) for episode in table]


class _Best:
    """The weights of an actor that did best on the validation starts.

    Args:
        actor: whose weights they are.
    """

    def __init__(self, actor: torch.nn.Module):
        self.actor = actor
        self.best: Weights = {}
        self.success = -1.0

    def note(self, success: float) -> None:
        """Keep the weights as they are now if their success is no less than the best before."""
        if success >= self.success:
            self.best, self.success = self._weights(), success

    def _weights(self) -> Weights:
        return {name: value.numpy().copy() for name, value in self.actor.state_dict().items()}

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """Let the actor act with the best weights, where there are any."""
        if not self.best:
            yield
            return
        now = self._weights()
        self._take(self.best)
        yield
        self._take(now)

    def _take(self, weights: Weights) -> None:
        self.actor.load_state_dict({n: torch.tensor(value) for n, value in weights.items()})

    def state(self) -> dict[str, Any]:
        """Everything, as nested dictionaries of arrays."""
        return {"best": self.best, "success": self.success}

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a state; an empty one changes nothing."""
        self.best = dict(state.get("best", {}))
        self.success = state.get("success", -1.0)


def attempts(which: Which, session: Session, source: beginnings.Loaded) -> None:
    """The curve of a policy with a memory: its success in each attempt of the trials.

    Its steps are those of the attempts before; nothing is trained.

    Args:
        which: the learner.
        session: the job.
        source: the policy that is transferred, which the settings of the curve name.

    Raises:
        RunError: see `beginnings.remembering`.
    """
    config = session.config.transfer
    began = time.perf_counter()
    policy, meta, _ = beginnings.beginning(which.kind, config, which.target.name, source)
    _, number = parted(which.kind)
    table = evaluate(
        Acting(policy, meta["tasks"]),
        (which.target.name,),
        max(config.episodes, config.last_episodes),
        conditioning=meta["conditioning"],
        known_tasks=meta["known"],
        seed=EVALUATION_SEED,
        sensors=meta["sensors"],
        episode_steps=meta["episode_steps"],
        attempts=number,
    )
    outcomes = [
        _outcomes([episode for episode in table if episode.attempt == attempt])
        for attempt in range(number)
    ]
    length = meta["episode_steps"] or which.target.steps
    found = summary(table)
    curve = {
        "seed": which.seed,
        "steps": [attempt * length for attempt in range(number)],
        "success": [float(np.mean(of_attempt)) for of_attempt in outcomes],
        "outcomes": outcomes,
        "sources": None,
        "diverged": found["diverged"],
        "invalid_actions": found["invalid_actions"],
    }
    seconds = time.perf_counter() - began
    arm = arm_of(which.kind)
    settings = common(session.config, source[0], arm)
    learned = {"settings": settings, "curve": curve, "seconds": seconds}
    write_json(which.folder(session.run) / FINISHED, learned)
