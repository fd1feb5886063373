"""The main job: learn the training rows, keep the best checkpoint, evaluate, transfer, film, report."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import time
from collections.abc import Callable

import numpy as np
import torch

from agents import demonstrations
from agents.config import CloneConfig, DaggerConfig, NetworkConfig, PPOConfig, SACConfig
from agents.learner import Learner, acting, load_policy
from envs import rewards
from envs.closures import named_set
from envs.opengl import RenderingUnavailable
from evaluation import runs
from evaluation.loggers import LOGGERS
from evaluation.protocol import Policy, evaluate, summary, write_episodes
from evaluation.transfer import TransferConfig, transfer

VALIDATION_SEED = (
    3_000_000  # starts on which checkpoints are compared; disjoint from EVALUATION_SEED's
)


@dataclasses.dataclass(frozen=True)
class JobConfig:
    """What `train` does; every field is stored in the run's config.json."""

    task_set: str = "first"
    conditioning: str = "parameters"
    algorithm: str = "ppo"  # ppo | sac | plain_ppo
    warm_start: str = "dagger"  # dagger | clone | none
    demos: str | None = None  # folder of demonstrations to clone
    sampling: str = "uniform"  # which task is practised next, a row of balance.SAMPLINGS
    env_steps: int = 600_000  # of PPO, after the warm start
    minutes: float | None = None  # after which learning ends, warm start included
    alone: bool = False  # a policy of its own for every row
    num_envs: int = 64
    episodes: int = 50  # per task in the final evaluation
    validation_episodes: int = 25  # per task, each time checkpoints are compared
    validations: int = 10  # how often
    film_width: int = 640  # pixels of the videos; below 640 every second frame is left out
    cosines: bool = False  # record those between the tasks' gradients
    tensorboard: bool = False
    wandb: bool = False
    network: NetworkConfig = NetworkConfig()
    ppo: PPOConfig = PPOConfig()
    sac: SACConfig = SACConfig()
    dagger: DaggerConfig = DaggerConfig()
    clone: CloneConfig = CloneConfig()
    transfer: TransferConfig = TransferConfig()


QUICK = JobConfig(
    film_width=320,
    env_steps=16_000,
    num_envs=16,
    episodes=4,
    validation_episodes=2,
    validations=1,
    ppo=PPOConfig(rollout=40, warm_rollout=40, minibatches=2, critic_warmup=2),
    dagger=DaggerConfig(steps_per_task=1_600, updates=40),
    clone=CloneConfig(epochs=10),
    transfer=TransferConfig(env_steps=5_120, points=2, episodes=4, num_envs=16),
)
Report = Callable[[str, int, int, str], None]  # (phase, done, total, text)


def start(run: pathlib.Path, config: JobConfig, seed: int, command: str) -> None:
    """Make a run folder.

    Raises:
        RunError: the folder exists and is not empty.
    """
    split = named_set(config.task_set)
    runs.create(
        run,
        {
            "command": command,
            "seed": seed,
            "train": split.train,
            "held_out": split.held_out,
            "split_hash": split.hash,
            "conditioning": config.conditioning,
            "reward_version": rewards.VERSION,
            "job": dataclasses.asdict(config),
        },
    )


def stored_job(run: pathlib.Path) -> tuple[dict, JobConfig]:
    """A run folder's config.json, and the job in it.

    Raises:
        RunError: not a run of this version.
    """
    config = runs.open_run(run)
    parts = {
        "network": NetworkConfig,
        "ppo": PPOConfig,
        "sac": SACConfig,
        "dagger": DaggerConfig,
        "clone": CloneConfig,
        "transfer": TransferConfig,
    }
    try:
        job = config["job"]
        return config, JobConfig(**{**job, **{k: make(**job[k]) for k, make in parts.items()}})
    except (TypeError, KeyError) as error:
        raise runs.RunError(f"{run} was written by another version: {error}") from None


def train(
    run: pathlib.Path,
    config: JobConfig,
    seed: int,
    report: Report,
    stop: Callable[[], bool],
    resume: bool,
) -> bool:
    """Learn the training rows of the task set.

    One checkpoint serves all tasks: `checkpoint/` is the one with the best mean
    success on validation starts, the warm start included; the last of equals.
    `latest/` is the exact state to resume from.

    Returns:
        Whether it finished; False when `stop` asked to end (the state is saved).
    """
    split = named_set(config.task_set)
    assert not set(split.train) & set(split.held_out)
    warm = config.warm_start != "none"
    learner = Learner(
        split.train,
        conditioning=config.conditioning,
        ppo=config.ppo,
        network=config.network,
        num_envs=config.num_envs,
        seed=seed,
        warm=warm,
        sampling=config.sampling,
        algorithm=config.algorithm,
        sac=config.sac,
        guided=config.algorithm == "ppo" and config.warm_start == "dagger",
    )
    if config.algorithm == "sac" and config.demos:
        learner.replay_demonstrations(pathlib.Path(config.demos))
    learner.ppo.watch_cosines = config.cosines
    columns = [
        "phase",
        "env_steps",
        "seconds",
        "loss",
        "validation",
        *(f"success/{t}" for t in split.train),
    ]
    latest, best = run / "latest", _Best(run, config, learner)
    resumed = resume and latest.exists()
    if resumed:
        learner.resume(latest)
        best.load(latest)
    phase = "sac" if config.algorithm == "sac" else "ppo"
    metrics = runs.Metrics(
        run / "metrics.csv",
        columns,
        best.warm_steps + learner.env_steps if resumed else None,
        [make(run) for name, make in LOGGERS.items() if getattr(config, name)],
    )

    def row(phase: str, steps: int, rates: np.ndarray, score: float | None, **more) -> None:
        named = {
            f"success/{t}": round(float(r), 4)
            for t, r in zip(split.train, rates, strict=True)
            if not np.isnan(r)
        }
        seconds = round(time.perf_counter() - best.began, 2)
        metrics.row(
            phase=phase,
            env_steps=steps,
            seconds=seconds,
            validation="" if score is None else round(score, 4),
            **named,
            **more,
        )

    if warm and not resumed:
        if not _warm_start(learner, config, seed, best, row, report, stop):
            metrics.close()
            return False
        score = best.consider("warm start")
        row(config.warm_start, best.warm_steps, learner.take_successes(), score)
        learner.save(latest, best=best.state())

    def on_update() -> bool:
        rates, steps = learner.take_successes(), best.warm_steps + learner.env_steps
        score = best.consider_when_due(f"{learner.env_steps} steps")
        if score is not None:
            learner.save(latest, best=best.state())
        row(phase, steps, rates, score)
        report("reinforcement", round(1000 * best.progress()), 1000, worst(split.train, rates))
        if stop():
            learner.save(latest, best=best.state())
            return False
        return best.progress() < 1

    if best.progress() < 1:
        learner.learn(config.env_steps, on_update)
    if stop():
        metrics.close()
        return False
    steps = best.warm_steps + learner.env_steps
    row(phase, steps, learner.take_successes(), best.consider("end"))
    metrics.close()
    if learner.ppo.cosines is not None:
        values = [
            [None if np.isnan(c) else round(float(c), 4) for c in row]
            for row in learner.ppo.cosines
        ]
        runs.write_json(run / "cosines.json", {"tasks": split.train, "cosines": values})
    seconds = time.perf_counter() - best.began
    runs.update_results(
        run,
        train={
            "env_steps": steps,
            "wall_seconds": seconds,
            "env_steps_per_second": steps / seconds,
            "seconds": best.shares(),
        },
        warm_start={"mean_success": best.first, "kept": best.score, "kept_from": best.label}
        if warm
        else None,
    )
    shutil.rmtree(latest, ignore_errors=True)
    return True


def _warm_start(
    learner: Learner,
    config: JobConfig,
    seed: int,
    best: _Best,
    row: Callable,
    report: Report,
    stop: Callable,
) -> bool:
    """Imitate the experts, in the batch or from recorded episodes, for no longer than the minutes last; False when `stop` ended it."""

    def going(done: int, total: int, loss: float) -> bool:
        rates = learner.take_successes()
        row(
            config.warm_start,
            done,
            rates,
            best.consider_when_due(f"warm start, {done} of {total}"),
            loss=round(loss, 5),
        )
        report("warm start", done, total, worst(learner.tasks, rates))
        return not stop() and best.progress() < 1

    def on_round(steps: int, loss: float) -> bool:
        best.warm_steps = steps
        return going(steps, config.dagger.steps_per_task * len(learner.tasks), loss)

    if config.warm_start == "dagger":
        learner.warm_start(config.dagger, on_round)
    else:
        data, clone = learner.demonstrations(pathlib.Path(config.demos or "")), config.clone
        rng = np.random.default_rng(np.random.SeedSequence([seed, 2]))
        demonstrations.clone(
            learner.policy, data, clone, rng, lambda epoch, loss: going(epoch, clone.epochs, loss)
        )
    return not stop()


class _Best:
    """Keeps checkpoint/ at the best mean success on validation starts."""

    def __init__(self, run: pathlib.Path, config: JobConfig, learner: Learner):
        self.run, self.config, self.learner = run, config, learner
        self.score, self.first, self.label = -1.0, -1.0, ""
        self.began, self.validating, self.warm, self.warm_steps = (
            time.perf_counter(),
            0.0,
            0.0,
            0,
        )  # warm_steps: environment steps
        self.due = 1 / config.validations

    def progress(self) -> float:
        """Share of the budget, of steps or of minutes, that is used."""
        minutes = (time.perf_counter() - self.began) / 60
        return max(
            self.learner.env_steps / self.config.env_steps,
            minutes / self.config.minutes if self.config.minutes else 0.0,
        )

    def consider_when_due(self, label: str) -> float | None:
        """Compare checkpoints if another share of the budget is used."""
        if self.progress() < self.due:
            return None
        score = self.consider(label)
        self.due = (int(self.progress() * self.config.validations) + 1) / self.config.validations
        return score

    def shares(self) -> dict[str, float]:
        """Seconds of each part of learning; `rest` is what none of them accounts for."""
        parts = {"warm start": self.warm, **self.learner.seconds, "validation": self.validating}
        return {**parts, "rest": max(0.0, time.perf_counter() - self.began - sum(parts.values()))}

    def consider(self, label: str) -> float:
        began = time.perf_counter()
        if label == "warm start":
            self.warm = began - self.began - self.validating
        table = evaluate(
            acting(self.learner.policy, self.learner.tasks),
            self.learner.tasks,
            self.config.validation_episodes,
            conditioning=self.learner.conditioning,
            known_tasks=self.learner.known,
            seed=VALIDATION_SEED,
        )
        score = summary(table)["mean_success"]
        if label == "warm start":
            self.first = score
        if score >= self.score:
            self.score, self.label = score, label
            self.learner.save(self.run / "checkpoint", validation=score)
        self.validating += time.perf_counter() - began
        return score

    def state(self) -> dict:
        kept = ("score", "first", "label", "warm", "warm_steps", "due", "validating")
        return {**{k: getattr(self, k) for k in kept}, "seconds": time.perf_counter() - self.began}

    def load(self, folder: pathlib.Path) -> None:
        from agents.checkpoints import load

        state = load(folder)[1]["best"]
        self.began -= state.pop("seconds")
        for key, value in state.items():
            setattr(self, key, value)


def worst(names: tuple[str, ...], rates: np.ndarray) -> str:
    """One phrase on the progress of learning, for the progress bar."""
    if np.isnan(rates).all():
        return ""
    k = int(np.nanargmin(rates))
    return f"success {np.nanmean(rates):.2f}, worst {names[k]} {rates[k]:.2f}"


def run_policy(run: pathlib.Path) -> tuple[Policy, dict]:
    """The policy of a run for `evaluate`, and its checkpoint's JSON part."""
    policy, meta = load_policy(run / "checkpoint")
    return acting(policy, meta["tasks"]), meta


def evaluate_run(run: pathlib.Path, config: JobConfig) -> dict:
    """Final evaluation on the training rows: episodes.csv and results.json."""
    policy, meta = run_policy(run)
    table = evaluate(
        policy,
        meta["tasks"],
        config.episodes,
        conditioning=meta["conditioning"],
        known_tasks=meta["known"],
    )
    write_episodes(table, run / "episodes.csv")
    return runs.update_results(run, **summary(table))


def transfer_run(
    run: pathlib.Path,
    target: str,
    config: JobConfig,
    seed: int,
    report: Report,
    stop: Callable[[], bool] = lambda: False,
) -> dict | None:
    """Transfer a run's policy to one target and add it to results.json; None when `stop` ended it."""
    source, meta = load_policy(run / "checkpoint")
    if target in meta["tasks"]:
        raise runs.RunError(
            f"{target} was trained in this run: a target must be unseen (trained: {', '.join(meta['tasks'])})"
        )
    budget = config.transfer
    total = (3 if budget.few_shot else 2) * budget.seeds * (budget.points + 1)
    done = 0

    def on_point(name: str, steps: int, y: float) -> None:
        nonlocal done
        done += 1
        report(f"transfer to {target}", done, total, f"{name} {steps:,} steps: {y:.2f}")

    torch.manual_seed(seed)
    entry = transfer(source, meta["conditioning"], target, budget, config.ppo, seed, on_point, stop)
    return entry and runs.update_results(run, transfer={target: entry})


def film_run(run: pathlib.Path, tasks: list[str], report: Report, width: int = 640) -> str | None:
    """One video per task; returns why there are none when OpenGL is missing."""
    from evaluation.video import record

    policy, meta = run_policy(run)
    for k, task in enumerate(tasks):
        try:
            record(
                policy,
                task,
                run / "videos" / f"{task}.mp4",
                conditioning=meta["conditioning"],
                known_tasks=meta["known"],
                width=width,
            )
        except RenderingUnavailable as error:
            return str(error)
        report("videos", k + 1, len(tasks), task)
    return None
