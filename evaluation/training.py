"""The learning part of a job: warm start, reinforcement, validation, and the best checkpoint."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from uncap.agents import checkpoints
from uncap.agents.config import LearnerConfig
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting
from uncap.agents.tables import ALGORITHMS, WARM_STARTS
from uncap.agents.warm_starts import Progress, WarmStartConfig
from uncap.envs.closures import named_set
from uncap.evaluation import runs
from uncap.evaluation.config import JobConfig
from uncap.evaluation.loggers import LOGGERS
from uncap.evaluation.metrics import Logged, Metrics
from uncap.evaluation.protocol import evaluate, spread, summary

VALIDATION_SEED = 3_000_000  # of the starts on which checkpoints are compared: no evaluation's
STEPS_SHOWN = 1000  # into which the progress of reinforcement is divided
SAVES = 10  # in each phase, evenly: what a kill can lose at most is one part of it
HALF_TRAINED = "checkpoints"  # folder of the policies that are kept along the training
WARM, LEARNED = "1-warm", "2-learned"  # what they are called, in order
ROW_COLUMNS = ("success", "validation")  # of metrics.csv, one for each task
LATEST = "latest"  # folder of the exact state in a run's

Report = Callable[[str, float, float, str], None]  # (phase, done, total, text)


@dataclasses.dataclass(frozen=True)
class Session:
    """What the parts of a job hand along.

    Attributes:
        run: its folder.
        config: what it does.
        seed: of everything random in it.
        report: called with (phase, done, total, text) as it goes on.
        stop: whether the user asked for a stop.
    """

    run: pathlib.Path
    config: JobConfig
    seed: int
    report: Report
    stop: Callable[[], bool]


class Budget:
    """The steps or minutes that a training may use, and what it has used.

    Attributes:
        warm_steps: environment steps of the warm start.
        warm_seconds: of the warm start, without its validations.
        validation_seconds: of all validations.
    """

    KEPT = ("warm_steps", "warm_seconds", "validation_seconds")

    def __init__(self, learner: Learner, config: JobConfig):
        assert config.env_steps is not None
        self.learner = learner
        self.env_steps = config.env_steps
        self.minutes = config.minutes
        self.warm_steps = 0
        self.warm_seconds = 0.0
        self.validation_seconds = 0.0
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the training began, without the time that it stood still."""
        return time.perf_counter() - self._began

    @property
    def steps(self) -> int:
        """Environment steps so far, those of the warm start included."""
        return self.warm_steps + self.learner.env_steps

    def used(self) -> float:
        """Share of the budget, of steps or of minutes, that is used; at most 1."""
        by_steps = self.learner.env_steps / self.env_steps if self.env_steps else 0.0
        by_time = self.seconds / 60 / self.minutes if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def parts(self) -> dict[str, float]:
        """Seconds of each part of learning; `rest` is the time that belongs to none of them."""
        reinforcement = self.learner.seconds if self.learner.env_steps else {}
        parts = {
            "warm start": self.warm_seconds,
            **reinforcement,
            "validation": self.validation_seconds,
        }
        return {**parts, "rest": max(0.0, self.seconds - sum(parts.values()))}

    def state(self) -> dict[str, Any]:
        """What a resumed training has to know."""
        return {**{name: getattr(self, name) for name in self.KEPT}, "seconds": self.seconds}

    def load(self, state: dict[str, Any]) -> None:
        """Return to a saved state."""
        self._began -= state["seconds"]
        for name in self.KEPT:
            setattr(self, name, state[name])


class BestCheckpoint:
    """Keeps `checkpoint/` at the best mean success on validation starts; the last of equals.

    Attributes:
        score: its mean success.
        label: when it was made.
        after_warm_start: mean success after the warm start.
        due: share of the budget at which the next validation is due.
    """

    KEPT = ("score", "label", "after_warm_start", "due")

    def __init__(self, run: pathlib.Path, config: JobConfig, learner: Learner, budget: Budget):
        self.folder = run / "checkpoint"
        self.learner = learner
        self.budget = budget
        self.episodes = config.validation_episodes
        self.quota = config.validation_quota
        self.validations = config.validations
        self.score = -1.0
        self.label = ""
        self.after_warm_start = -1.0
        self.due = 1 / config.validations
        self.rates: dict[str, float] = {}  # success of each task in the last measurement

    def validate(self, label: str, turn: int | None = None) -> float:
        """Measure the policy, keep it if it is the best, and return its mean success.

        Args:
            label: when this is.
            turn: which part of the rows is measured, where the quota is not enough for all; None:
                all of them.
        """
        score = self.measure(turn)
        if score >= self.score:
            self.score = score
            self.label = label
            self.learner.save(self.folder, teacher=False, validation=score)
        return score

    def measure(self, turn: int | None = None) -> float:
        """The policy's mean success on validation starts, see `validate`."""
        began = time.perf_counter()
        learner = self.learner
        rows, episodes = spread(learner.tasks, self.quota, self.episodes, turn)
        table = evaluate(
            Acting(learner.policy, learner.tasks),
            rows,
            episodes,
            conditioning=learner.vectors,
            known_tasks=learner.known_tasks,
            seed=VALIDATION_SEED,
            variants="validation",
            sensors=learner.sensors,
            episode_steps=learner.episode_steps,
            attempts=learner.closures.attempts,
        )
        self.budget.validation_seconds += time.perf_counter() - began
        found = summary(table)
        self.rates = {name: row["success"] for name, row in found["per_task"].items()}
        return found["mean_success"]

    def validate_when_due(self, label: str) -> float | None:
        """Validate if another share of the budget is used."""
        if self.budget.used() < self.due:
            return None
        score = self.validate(label, turn=round(self.due * self.validations))
        self.due = (int(self.budget.used() * self.validations) + 1) / self.validations
        return score

    def state(self) -> dict[str, Any]:
        """What a resumed training has to know."""
        return {name: getattr(self, name) for name in self.KEPT}

    def load(self, state: dict[str, Any]) -> None:
        """Return to a saved state."""
        for name in self.KEPT:
            setattr(self, name, state[name])


def learner_config(job: JobConfig) -> LearnerConfig:
    """What the learner of a job is made of."""
    guided = ALGORITHMS[job.algorithm].guided and job.warm_start == "dagger"
    return LearnerConfig(
        conditioning=job.conditioning,
        algorithm=job.algorithm,
        sensors=job.sensors,
        episode_steps=job.episode_steps or named_set(job.task_set).steps(job.attempts),
        reward=job.reward,
        attempts=job.attempts,
        sampling=job.sampling,
        num_envs=job.num_envs,
        engine=job.engine,
        warm=job.warm_start != "none",
        guided=guided,
        network=job.network,
        ppo=job.ppo,
        sac=job.sac,
    )


class Training:
    """Learns the training rows of a task set.

    One checkpoint serves all tasks: `checkpoint/` is the one with the best mean success on
    validation starts, the warm start included; the last of equals. `latest/` is the exact state
    to resume from: after the warm start, and ten times in it and in what follows. A row of
    metrics.csv is written before the state that belongs to it: none is lost or there twice.

    Args:
        session: the job.
        resume: go on from `latest/`, if it is there.

    Raises:
        ValueError: demonstrations are missing, or do not fit.
    """

    def __init__(self, session: Session, resume: bool):
        config = session.config
        self.session = session
        self.tasks = named_set(config.task_set).train
        self.latest = session.run / LATEST
        self.learner = self._make_learner()
        self.budget = Budget(self.learner, config)
        self.best = BestCheckpoint(session.run, config, self.learner, self.budget)
        self.resumed = resume and checkpoints.exists(self.latest)
        self.metrics = self._open_metrics(self._load() if self.resumed else Logged())
        self.learner.algorithm.log_to(self._tell)
        self._saved = 0  # parts of the present phase

    def _open_metrics(self, logged: Logged) -> Metrics:
        """Open metrics.csv, and the loggers, behind what was logged before the saved state."""
        run, config = self.session.run, self.session.config
        columns = ["phase", "env_steps", "seconds", "loss", "validation"]
        first = logged.steps + 1  # environment steps of what is logged from now on, at least
        return Metrics(
            run / "metrics.csv",
            [*columns, *(f"{part}/{task}" for part in ROW_COLUMNS for task in self.tasks)],
            logged,
            [make(run, first) for name, make in LOGGERS.items() if getattr(config, name)],
        )

    def _tell(self, diagnostics: dict[str, float], steps: int) -> None:
        """Give the loggers an update's diagnostics, after so many steps of reinforcement."""
        self.metrics.tell(diagnostics, self.budget.warm_steps + steps)

    def _make_learner(self) -> Learner:
        config = self.session.config
        learner = Learner(self.tasks, learner_config(config), self.session.seed)
        if learner.algorithm.replays_demonstrations and config.demos:
            learner.replay_demonstrations(pathlib.Path(config.demos))
        if config.cosines:
            learner.algorithm.watch_cosines()
        return learner

    @property
    def _is_warm(self) -> bool:
        return self.session.config.warm_start != "none"

    def run(self) -> bool:
        """Learn.

        Returns:
            Whether it finished; False when a stop was asked for (the state is saved).
        """
        try:
            begins = not self.resumed or self.learner.is_warming_up
            if self._is_warm and begins and not self._warm_start():
                return False
            steps = self.session.config.env_steps
            if steps and self.budget.used() < 1:
                self.learner.learn(steps, self._on_update)
            if self.session.stop():
                return False
            if steps:  # else this was the warm start's
                rates = self.learner.take_successes()
                score = self.best.validate("end")
                self._row(self.learner.algorithm.phase, self.budget.steps, rates, score)
        finally:
            self.metrics.close()
        self._write_results()
        return True

    def _warm_start(self) -> bool:
        """Learn before reinforcement, for no longer than the minutes; False if stopped."""
        config = self.session.config
        demos = pathlib.Path(config.demos) if config.demos else None
        settings = WarmStartConfig(config.dagger, config.clone, demos)
        WARM_STARTS[config.warm_start](self.learner, settings, self._on_warm_start)
        if self.session.stop():
            return False
        self.budget.warm_seconds = self.budget.seconds - self.budget.validation_seconds
        score = self.best.validate("warm start")
        self.best.after_warm_start = score
        rates = self.learner.take_successes()
        self._row(config.warm_start, self.budget.warm_steps, rates, score)
        self._save()
        self._saved = 0
        return True

    def _on_warm_start(self, progress: Progress) -> bool:
        """Note how far the warm start is; whether it goes on."""
        self.budget.warm_steps = progress.env_steps
        rates = self.learner.take_successes()
        label = f"warm start, {progress.done} of {progress.total}"
        score = self.best.validate_when_due(label)
        phase = self.session.config.warm_start
        self._row(phase, progress.env_steps, rates, score, loss=round(progress.loss, 5))
        self._save_when_due(WARM, max(progress.done / progress.total, self.budget.used()))
        self.session.report("warm start", progress.done, progress.total, phrase(self.tasks, rates))
        return not self.session.stop() and self.budget.used() < 1

    def _on_update(self) -> bool:
        """Note an update of reinforcement learning; whether it goes on."""
        rates = self.learner.take_successes()
        steps = self.budget.steps
        score = self.best.validate_when_due(f"{self.learner.env_steps} steps")
        self._row(self.learner.algorithm.phase, steps, rates, score)
        self._save_when_due(LEARNED, self.budget.used())
        done = round(STEPS_SHOWN * self.budget.used())
        self.session.report("reinforcement", done, STEPS_SHOWN, phrase(self.tasks, rates))
        return not self.session.stop() and self.budget.used() < 1

    def _row(
        self, phase: str, steps: int, rates: np.ndarray, score: float | None, **more: float
    ) -> None:
        """Append a row to metrics.csv."""
        named = {
            f"success/{task}": round(float(rate), 4)
            for task, rate in zip(self.tasks, rates, strict=True)
            if not np.isnan(rate)
        }
        if score is not None:
            named |= {f"validation/{task}": rate for task, rate in self.best.rates.items()}
        self.metrics.row(
            phase=phase,
            env_steps=steps,
            seconds=round(self.budget.seconds, 2),
            validation="" if score is None else round(score, 4),
            **named,
            **more,
        )

    def _save_when_due(self, phase: str, share: float) -> None:
        """Save if another part of a phase is done, of which this is the share, or at a stop."""
        parts = int(share * SAVES)
        if self.session.config.checkpoints:
            self._keep_policy(phase, parts)
        if parts > self._saved or self.session.stop():
            self._save()
            self._saved = parts

    def _keep_policy(self, phase: str, parts: int) -> None:
        """Keep the policy, if another part of a phase is done and none was kept since.

        What was kept is seen in the folder: after a kill the same moments are kept as without.
        """
        folder = self.session.run / HALF_TRAINED / f"{phase}-{parts:02}"
        if parts and not checkpoints.exists(folder):
            self.learner.save(
                folder,
                teacher=False,
                validation=self.best.measure(),
                trained_steps=self.budget.steps,
            )

    def _save(self) -> None:
        state = {**self.budget.state(), **self.best.state()}
        logged = self.metrics.sync()
        self.learner.save(self.latest, best=state, logged=logged)

    def _load(self) -> Logged:
        """Return to the saved state; what was logged before it.

        Raises:
            CheckpointError: it is damaged, or of another version.
        """
        try:
            meta = self.learner.resume(self.latest)
        except checkpoints.CheckpointError as error:
            raise checkpoints.CheckpointError(
                f"{error}; to train this run from its beginning, remove {self.latest}"
            ) from None
        self.budget.load(meta["best"])
        self.best.load(meta["best"])
        return Logged(*meta["logged"])

    def _write_results(self) -> None:
        run, budget, best = self.session.run, self.budget, self.best
        if (cosines := self.learner.algorithm.cosines) is not None:
            rounded = [
                [None if np.isnan(c) else round(float(c), 4) for c in row] for row in cosines
            ]
            runs.write_json(run / "cosines.json", {"tasks": self.tasks, "cosines": rounded})
        seconds = budget.seconds
        warm_start = {
            "mean_success": best.after_warm_start,
            "kept": best.score,
            "kept_from": best.label,
        }
        runs.update_results(
            run,
            train={
                "env_steps": budget.steps,
                "wall_seconds": seconds,
                "env_steps_per_second": budget.steps / seconds,
                "seconds": budget.parts(),
            },
            warm_start=warm_start if self._is_warm else None,
        )


def phrase(tasks: tuple[str, ...], rates: np.ndarray) -> str:
    """A few words on the success rates (tasks,) of the last update, for the progress bar."""
    if np.isnan(rates).all():
        return ""
    worst = int(np.nanargmin(rates))
    return f"success {np.nanmean(rates):.2f}, worst {tasks[worst]} {rates[worst]:.2f}"
