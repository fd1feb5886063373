"""What a job does in its run folder: start, evaluate, transfer, film."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil

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
from evaluation.transfer import learner_kinds, transfer


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


def transfer_run(session: Session, target: str) -> dict | None:
    """Transfer a run's policy to one target and add it to results.json; None if stopped.

    Raises:
        RunError: the target was trained.
    """
    source, meta = load_policy(session.run / "checkpoint")
    if target in meta["tasks"]:
        trained = ", ".join(meta["tasks"])
        raise runs.RunError(
            f"{target} was trained in this run: a target must be unseen (trained: {trained})"
        )
    budget = session.config.transfer
    total = len(learner_kinds(budget)) * budget.seeds * (budget.points + 1)
    points: list[float] = []

    def on_point(kind: str, steps: int, success: float) -> None:
        points.append(success)
        text = f"{kind} {steps:,} steps: {success:.2f}"
        session.report(f"transfer to {target}", len(points), total, text)

    torch.manual_seed(session.seed)
    entry = transfer(source, meta["conditioning"], target, session, on_point)
    return entry and runs.update_results(session.run, transfer={target: entry})


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
