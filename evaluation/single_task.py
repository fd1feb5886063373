"""The control of multi-task learning: a policy of its own for every row of a task set.

Each has its share of the budget, and a run folder of its own under `alone/`.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil

import numpy as np

from uncap.envs.closures import named_set
from uncap.evaluation import experiment, kept, runs
from uncap.evaluation.config import JobConfig
from uncap.evaluation.training import Session, Training

FOLDER = runs.PARTS


def share(config: JobConfig, row: str) -> JobConfig:
    """The job of one row: as many steps, and as many per update, as it has in the whole job."""
    rows = len(named_set(config.task_set).train)
    assert config.env_steps is not None
    return dataclasses.replace(
        config,
        task_set=f"{config.task_set}/{row}",
        alone=False,
        env_steps=-(-config.env_steps // rows),  # rounded up
        minutes=config.minutes and config.minutes / rows,
        num_envs=max(1, config.num_envs // rows),
        dagger=dataclasses.replace(
            config.dagger, steps=config.dagger.steps and -(-config.dagger.steps // rows)
        ),
    )


def train(session: Session) -> bool:
    """Learn and evaluate every row alone; rows that are done are left as they are.

    Returns:
        Whether it finished; False when a stop was asked for.
    """
    results = {}
    for row in named_set(session.config.task_set).train:
        found = _train_row(session, row)
        if found is None:
            return False
        results[row] = found
    _write_results(session, results)
    return True


def _train_row(session: Session, row: str) -> dict | None:
    """Results of one row's run, trained if need be; None when a stop was asked for."""
    folder, config = session.run / FOLDER / row, share(session.config, row)
    exists = (folder / "config.json").exists()
    if not exists:
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed at once
        experiment.start(folder, config, session.seed, f"a part of {session.run}")
    results = runs.read_results(folder)
    report = functools.partial(_report, session, row)
    part = Session(folder, config, session.seed, report, session.stop)
    if "train" not in results and not Training(part, resume=exists).run():
        return None
    evaluated = "mean_success" in results
    found = results if evaluated else experiment.evaluate_run(part, zero_shot=False)
    kept.forget(folder)
    return found


def _report(session: Session, row: str, phase: str, done: float, total: float, text: str) -> None:
    session.report(f"{row}: {phase}", done, total, text)


def _write_results(session: Session, results: dict[str, dict]) -> None:
    """Means and sums over the rows, in the run's own results.json."""
    rates = [found["mean_success"] for found in results.values()]
    trained = [found["train"] for found in results.values()]
    env_steps = sum(train["env_steps"] for train in trained)
    wall_seconds = sum(train["wall_seconds"] for train in trained)
    seconds = {
        part: sum(train["seconds"].get(part, 0.0) for train in trained)
        for part in trained[0]["seconds"]
    }
    runs.update_results(
        session.run,
        mean_success=float(np.mean(rates)),
        worst_success=float(np.min(rates)),
        per_task={row: found["per_task"][row] for row, found in results.items()},
        train={
            "env_steps": env_steps,
            "wall_seconds": wall_seconds,
            "env_steps_per_second": env_steps / wall_seconds,
            "seconds": seconds,
        },
    )
