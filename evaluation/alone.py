"""The control of multi-task learning: a policy of its own for every row of a task set, each with its share of the budget."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable

import numpy as np

from envs.closures import named_set
from evaluation import experiment, runs
from evaluation.experiment import JobConfig, Report


def share(config: JobConfig, row: str) -> JobConfig:
    """The job of one row: as many steps, and as many per update, as the row has in the whole job."""
    rows = len(named_set(config.task_set).train)
    minutes = config.minutes and config.minutes / rows
    return dataclasses.replace(
        config,
        task_set=f"{config.task_set}/{row}",
        alone=False,
        env_steps=-(-config.env_steps // rows),
        minutes=minutes,
        num_envs=max(1, config.num_envs // rows),
    )


def train(
    run: pathlib.Path, config: JobConfig, seed: int, report: Report, stop: Callable[[], bool]
) -> bool:
    """Learn and evaluate every row alone, in run folders of their own under `alone/`; rows that are done are left as they are.

    Returns:
        Whether it finished; False when `stop` asked to end.
    """
    found = {}
    for row in named_set(config.task_set).train:
        folder, job = run / "alone" / row, share(config, row)
        known = folder.exists()
        if not known:
            experiment.start(folder, job, seed, f"a part of {run}")
        path = folder / "results.json"
        results = json.loads(path.read_text()) if path.exists() else {}

        def named(phase: str, done: int, total: int, text: str, row: str = row) -> None:
            report(f"{row}: {phase}", done, total, text)

        if "train" not in results and not experiment.train(folder, job, seed, named, stop, known):
            return False
        found[row] = results if "mean_success" in results else experiment.evaluate_run(folder, job)
    rates = [r["mean_success"] for r in found.values()]
    steps, wall = (
        sum(r["train"][k] for r in found.values()) for k in ("env_steps", "wall_seconds")
    )
    seconds = {
        k: sum(r["train"]["seconds"].get(k, 0.0) for r in found.values())
        for k in next(iter(found.values()))["train"]["seconds"]
    }
    runs.update_results(
        run,
        mean_success=float(np.mean(rates)),
        worst_success=float(np.min(rates)),
        per_task={row: r["per_task"][row] for row, r in found.items()},
        train={
            "env_steps": steps,
            "wall_seconds": wall,
            "env_steps_per_second": steps / wall,
            "seconds": seconds,
        },
    )
    return True
