"""What a job does in its run folder: start, evaluate, transfer, film."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import time

import torch

from agents.learner import Acting, load_policy
from agents.settings import from_dict
from envs import rewards
from envs.closures import named_set
from envs.opengl import RenderingUnavailable
from evaluation import runs
from evaluation.config import JobConfig
from evaluation.protocol import evaluate, summary, write_episodes
from evaluation.training import LATEST, Session
from evaluation.transfer import FOLDER, missing, transfer

NOTE_EVERY = 10.0  # s


def start(run: pathlib.Path, config: JobConfig, seed: int, command: str) -> None:
    """Make a run folder.

    Raises:
        RunError: the folder exists and is not empty.
    """
    split = named_set(config.task_set)
    stored = {
        "command": command,
        "seed": seed,
        "train": split.train,
        "held_out": split.held_out,
        "split_hash": split.hash,
        "conditioning": config.conditioning,
        "reward_version": rewards.VERSION,
        "job": dataclasses.asdict(config),
    }
    runs.create(run, stored)


def stored_job(run: pathlib.Path) -> tuple[dict, JobConfig]:
    """A run folder's config.json, and the job in it.

    Raises:
        RunError: not a run of this version.
    """
    stored = runs.open_run(run)
    try:
        return stored, from_dict(JobConfig, stored["job"])
    except (TypeError, KeyError, AttributeError) as error:
        raise runs.RunError(f"{run} was written by another version: {error}") from None


def run_policy(run: pathlib.Path) -> tuple[Acting, dict]:
    """The policy of a run for `evaluate`, and its checkpoint's JSON part."""
    policy, meta = load_policy(run / "checkpoint")
    return Acting(policy, meta["tasks"]), meta


def evaluate_run(run: pathlib.Path, config: JobConfig) -> dict:
    """Final evaluation on the training rows: episodes.csv and results.json.

    The training is over: the state to resume from is removed.
    """
    shutil.rmtree(run / LATEST, ignore_errors=True)
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


def transfer_run(session: Session, target: str, replace: bool = False) -> dict | None:
    """Transfer a run's policy to one target and add it to results.json; None if stopped.

    Args:
        session: the job.
        target: a row.
        replace: drop what there is of this target, instead of adding to it.

    Raises:
        RunError: the target was trained; or there are results of it with another budget.
    """
    run = session.run
    source, meta = load_policy(run / "checkpoint")
    if target in meta["tasks"]:
        trained = ", ".join(meta["tasks"])
        raise runs.RunError(
            f"{target} was trained in this run: a target must be unseen (trained: {trained})"
        )
    if replace:
        forget_transfer(run, target)
    entry = {} if replace else runs.read_results(run).get("transfer", {}).get(target, {})
    budget = session.config.transfer
    total = len(missing(budget, session.seed, entry)) * (budget.points + 1)
    points: list[float] = []

    def on_point(kind: str, steps: int, success: float) -> None:
        points.append(success)
        text = f"{kind} {steps:,} steps: {success:.2f}"
        session.report(f"transfer to {target}", len(points), total, text)

    torch.manual_seed(session.seed)
    found = transfer(source, meta["conditioning"], target, session, on_point, entry)
    if found is None:
        return None
    results = runs.update_results(run, transfer={target: found})
    forget_transfer(run, target)
    return results


def forget_transfer(run: pathlib.Path, target: str) -> None:
    """Remove what a transfer to a target would go on from."""
    folder = run / FOLDER / target
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # others are there, or none ever was
        folder.parent.rmdir()


class Stopwatch:
    """Seconds of all sessions of a run, noted in its results now and then: a kill may come.

    Args:
        run: its folder.
    """

    def __init__(self, run: pathlib.Path):
        self.run = run
        self._before = runs.read_results(run).get("total_seconds") or 0.0
        self._began = self._noted = time.perf_counter()

    def tick(self) -> None:
        """Note the seconds if it was not done lately."""
        if time.perf_counter() - self._noted >= NOTE_EVERY:
            self.note()

    def note(self) -> None:
        """Note the seconds."""
        self._noted = time.perf_counter()
        runs.update_results(self.run, total_seconds=self._before + self._noted - self._began)


def film_run(session: Session, tasks: list[str]) -> str | None:
    """One film per task; returns why there are none when OpenGL is missing."""
    from evaluation.video import record

    run = session.run
    policy, meta = run_policy(run)
    for number, task in enumerate(tasks, start=1):
        try:
            record(
                policy,
                task,
                run / "videos" / f"{task}.mp4",
                conditioning=meta["conditioning"],
                known_tasks=meta["known"],
                width=session.config.film_width,
            )
        except RenderingUnavailable as error:
            return str(error)
        session.report("videos", number, len(tasks), task)
    return None
