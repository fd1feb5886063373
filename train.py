"""Uncap's command line: `python train.py` is the main job; `python train.py --help` lists the rest."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from evaluation.options import TrainOptions

warnings.filterwarnings("ignore", category=UserWarning, module="stable_baselines3")
CONSOLE = Console(highlight=False, soft_wrap=True)
DEFAULTS, OwnSteps = TrainOptions(), int | None
Rows = Annotated[
    tuple[str, ...],
    tyro.conf.arg(help="rows of the table (default: the run's, the set `first`'s, or all)."),
]
Out = Annotated[
    Path | None,
    tyro.conf.arg(help="where to write (default: in runs/, in the run, or print only)."),
]
Run = Annotated[
    Path,
    tyro.conf.Positional,
    tyro.conf.arg(help="a run folder; where a policy is enough, also zero, random or expert."),
]
Seed = Annotated[int, tyro.conf.arg(help="of everything random in it.")]
OwnSeed = Annotated[
    int | None, tyro.conf.arg(help="of the starts, other than the evaluation's own.")
]


def _commands():
    return importlib.import_module("evaluation.commands")  # late, so that --help is quick


def train(
    options: Annotated[TrainOptions, tyro.conf.arg(name="")] = DEFAULTS,
    out: Out = None,
    seed: Seed = 0,
    quick: bool = False,
    resume: Out = None,
    videos: bool = True,
) -> None:
    """Train on a task set, evaluate, transfer to its held-out rows, film and report (the main job).

    Args:
        options: what is learned, and how.
        quick: the same end to end in about a minute, for trying out; poor success.
        resume: go on with an interrupted run folder.
        videos: film one rollout per task.
    """
    _commands().main_job(
        out,
        resume,
        options,
        quick,
        seed,
        " ".join(["python train.py", *sys.argv[1:]]),
        videos,
        CONSOLE,
    )


def transfer(
    run: Run,
    target: str,
    seed: Seed = 0,
    env_steps: OwnSteps = None,
    seeds: int = 1,
    few_shot: int = 0,
    out: Out = None,
) -> None:
    """Transfer a run's policy to an unseen closure, against the same budget from scratch.

    Args:
        target: a row that was not trained.
        env_steps: environment steps per learner.
        seeds: how many learners of each kind.
        few_shot: expert episodes that a third learner clones first (0: none).
    """
    _commands().transfer_job(run, target, seed, env_steps, seeds, few_shot, out, CONSOLE)


def evaluate(
    run: Run,
    tasks: Rows = (),
    episodes: int = 50,
    seed: OwnSeed = None,
    level: str = "default",
    out: Out = None,
) -> None:
    """Evaluate a run (or the policy zero, random or expert) with a fixed quota of episodes per task.

    Args:
        episodes: per task.
        level: default, randomised, tilted or shelf.
    """
    _commands().evaluate_job(run, tasks, episodes, seed, level, out, CONSOLE.print)


def video(run: Run, task: str, seed: Seed = 0, out: Path | None = None) -> None:
    """Film one episode of a run (or of the policy zero, random or expert).

    Args:
        task: a row.
    """
    _commands().video_job(run, task, seed, out, CONSOLE.print)


def report(run: Run, seed: Seed = 0, out: Path | None = None) -> None:
    """Write a run's report.html again, and copy it to --out."""
    CONSOLE.print(str(_commands().report_job(run, out)))


def benchmark(
    task_set: str = "first",
    num_envs: int = 64,
    steps: int | None = None,
    observation: str = "state",
    seed: Seed = 0,
    out: Path | None = None,
) -> None:
    """Measure environment steps per second against bare physics, on one thread and on all, and the policies' milliseconds.

    Args:
        task_set: its training rows share the batch.
        num_envs: sub-environments.
        steps: control steps; by default 300, or 20 where pictures are drawn: in software, each takes 20 ms.
        observation: state, rgb (two cameras) or state+rgb.
    """
    CONSOLE.print_json(
        data=_commands().benchmark_job(task_set, num_envs, steps, observation, seed, out)
    )


def gallery(seed: Seed = 0, out: Path = Path("runs/gallery")) -> None:
    """Picture every closure, closed and open, with its numbers and the distance matrix."""
    CONSOLE.print(f"gallery: {_commands().gallery_job(out, seed, CONSOLE)}")


def audit(tasks: Rows = (), seed: Seed = 7, out: Path = Path("runs/audit")) -> None:
    """Search for success without opening (2,000 candidates per row), and film the nearest misses."""
    CONSOLE.print_json(data=_commands().audit_job(out, tasks, seed, CONSOLE))


def demos(
    task_set: str = "first",
    episodes: int = 20,
    perturb: float = 0.2,
    seed: Seed = 0,
    out: Path = Path("runs/demos"),
) -> None:
    """Record expert episodes of a task set's training rows as a Minari dataset, for --warm-start clone.

    Args:
        episodes: per task.
        perturb: share of random actions, from which the expert recovers.
    """
    CONSOLE.print(
        f"demonstrations: {_commands().demos_job(task_set, episodes, seed, perturb, out, CONSOLE)}"
    )


def compare(
    grid: Annotated[Path, tyro.conf.Positional], jobs: int = 1, seed: Seed = 0, out: Out = None
) -> None:
    """Train every cell of a grid that is not trained yet, and set the results side by side.

    Args:
        grid: a TOML file: seeds, flags in [common], lists of values in [vary], further [[cells]]; see benchmarks/.
        jobs: trainings at once.
    """
    _commands().compare(grid, out, jobs, seed, CONSOLE)


COMMANDS = {
    f.__name__: f
    for f in (train, transfer, evaluate, video, report, benchmark, gallery, audit, demos, compare)
}


def _main() -> None:  # a user's mistake ends with one line
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    try:
        if arguments[0] not in (*COMMANDS, "-h", "--help"):
            _commands().lookup(COMMANDS, arguments[0], "command")
        tyro.extras.subcommand_cli_from_dict(COMMANDS, args=arguments, description=__doc__)
    except (ValueError, OSError, RuntimeError) as error:
        if not error.args or isinstance(error, NotImplementedError):
            raise
        sys.exit("error: " + " ".join(str(error).split()))


if __name__ == "__main__":
    _main()
