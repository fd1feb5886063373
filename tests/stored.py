"""Small run folders and other stored files, made without training."""

import dataclasses
import pathlib

from uncap.agents.config import LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.files import write_json
from uncap.agents.learner import Learner
from uncap.envs.closures import named_set
from uncap.evaluation import experiment, runs
from uncap.evaluation.config import QUICK, JobConfig
from uncap.evaluation.metrics import Metrics
from uncap.evaluation.protocol import Episode, summary
from uncap.evaluation.training import Session, Training

TINY = dataclasses.replace(
    QUICK,
    env_steps=64,
    num_envs=2,
    network=NetworkConfig(width=4),
    ppo=PPOConfig(rollout=4, warm_rollout=4, minibatches=2),
)
CURVE = {"seed": 0, "steps": [0, 10], "success": [0.0, 0.5]}
POINT = {"seed": 0, "steps": [0], "success": [0.5]}
TRANSFER = {
    "distance": 0.35,
    "nearest": "tumbler",
    "unseen": [],
    "zero_shot": 0.5,
    "zero_shot_low": 0.1,
    "zero_shot_high": 0.9,
    "episodes": 4,
    "budget": 10,
    "seeds": 1,
    "curves": {"zero_shot": [POINT], "fine_tune": [CURVE], "scratch": [CURVE]},
    "reached": {
        "fine_tune": {
            "0.5": {"steps": [10], "median_steps": 10.0, "interval_steps": [10.0, None]},
        },
        "scratch": {"0.5": {"steps": [None], "median_steps": None}},
    },
    "interval": {"fine_tune": [0.2, 0.8]},
    "gain": {"fine_tune": [0.0, -0.3, 0.3]},
    "gap": {"fine_tune": [-0.1, -0.4, 0.2]},
    "same_demos": {"fine_tune": {"control": "scratch", "gain": [0.25, 0.0, 0.5]}},
    "jumpstarts": {"zero_shot": [0.0, -0.3, 0.3]},
    "lost": {"fine_tune": [0.1, 0.0, 0.2]},
    "n": {"fine_tune": {"seeds": 3, "starts": 200, "earlier": 50, "sources": 24}},
    "sources": {"zero_shot": 1.0, "fine_tune": 0.9},
    "best_control": "scratch",
    "final": {"zero_shot": 0.5, "fine_tune": 0.5, "scratch": 0.5},
    "jumpstart": 0.0,
    "area": {"fine_tune": 0.25, "scratch": 0.25},
    "area_interval": {"fine_tune": [0.0, 0.5]},
    "wall_seconds": 1.0,
}


def make_stopped(run: pathlib.Path, job: JobConfig) -> pathlib.Path:
    """A run folder whose training was stopped after its first update."""
    experiment.start(run, job, 0, "a test")
    updates: list[int] = []

    def report(phase: str, done: int, total: int, text: str) -> None:
        updates.append(done)

    session = Session(run, job, 0, report, stop=lambda: bool(updates))
    assert not Training(session, resume=False).run()
    return run


def make_run(run: pathlib.Path, job: JobConfig = TINY) -> pathlib.Path:
    """A run folder as a training leaves it, with a policy that has learned nothing."""
    experiment.start(run, job, 0, "a test")
    tasks = named_set(job.task_set).train
    config = LearnerConfig(
        conditioning=job.conditioning,
        num_envs=2,
        network=job.network,
        episode_steps=job.episode_steps,
        attempts=job.attempts,
    )
    learner = Learner(tasks, config, 0)
    learner.save(run / "checkpoint", validation=0.5)
    learner.closures.close()
    columns = ["phase", "env_steps", "seconds", "loss", "validation"]
    metrics = Metrics(run / "metrics.csv", [*columns, *(f"success/{task}" for task in tasks)])
    for number in range(1, 6):
        rates = {f"success/{task}": 0.1 * number for task in tasks}
        metrics.row(phase="ppo", env_steps=8 * number, seconds=number, validation=0.5, **rates)
    metrics.close()
    episodes = [Episode(task, 0, True, True, 1.0, 9, 0.5, 3.0) for task in tasks]
    seconds = {"physics": 3.0, "rest": 2.0}
    trained = {"env_steps": 40, "wall_seconds": 5.0, "seconds": seconds}
    runs.update_results(run, train=trained, warm_start=None)
    runs.update_results(run, **summary(episodes), transfer={"thermos": TRANSFER})
    square = [[1.0] * len(tasks)] * len(tasks)
    write_json(run / "cosines.json", {"tasks": tasks, "cosines": square})
    attempts = [{"success": 0.5, "low": 0.1, "high": 0.9, "episodes": 2, "rows": len(tasks)}] * 2
    runs.update_results(run, by_attempt=attempts, wiped_by_attempt=attempts, beliefs=True)
    believed = {"rows": tasks, "own": [[0.5, 1.0]] * 2, "after": [square] * 2}
    write_json(run / "beliefs.json", believed)
    return run
