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
DEFAULTS = TrainOptions()
Rows, Out, OwnSteps = tuple[str, ...], Path | None, int | None
Run = Annotated[Path, tyro.conf.Positional]
Seed = Annotated[int, tyro.conf.arg(help="of everything random in it.")]
OwnSeed = Annotated[int | None, tyro.conf.arg(help="of the starts, other than the evaluation's own.")]


def _commands():
    return importlib.import_module("evaluation.commands")  # late, so that --help is quick


def train(
    options: Annotated[TrainOptions, tyro.conf.arg(name="")] = DEFAULTS, out: Out = None, seed: Seed = 0, quick: bool = False,
    resume: Out = None, videos: bool = True,
) -> None:  # fmt: skip
    """Train on a task set, evaluate, transfer to its held-out rows, film and report (the main job).

    Args:
        options: what is learned, and how.
        out: run folder to make (default: runs/<time>).
        quick: the same end to end in about a minute, for trying out; poor success.
        resume: go on with an interrupted run folder.
        videos: film one rollout per task.
    """
    _commands().main_job(out, resume, options, quick, seed, " ".join(["python train.py", *sys.argv[1:]]), videos, CONSOLE)


def transfer(run: Run, target: str, seed: Seed = 0, env_steps: OwnSteps = None, seeds: int = 1, few_shot: int = 0, out: Out = None) -> None:
    """Transfer a run's policy to an unseen closure, against the same budget from scratch.

    Args:
        run: a trained run folder.
        target: a row that was not trained.
        env_steps: environment steps per learner.
        seeds: how many learners of each kind.
        few_shot: expert episodes that a third learner clones first (0: none).
        out: where to copy the entry as JSON, too.
    """
    _commands().transfer_job(run, target, seed, env_steps, seeds, few_shot, out, CONSOLE)


def evaluate(run: Run, tasks: Rows = (), episodes: int = 50, seed: OwnSeed = None, level: str = "default", out: Out = None) -> None:
    """Evaluate a run (or the policy zero, random or expert) with a fixed quota of episodes per task.

    Args:
        run: a trained run folder, or zero, random, expert.
        tasks: rows (default: the trained ones, or the set `first`).
        episodes: per task.
        level: default, randomised, tilted or shelf.
        out: folder for episodes.csv and results.json (default: print only).
    """
    _commands().evaluate_job(run, tasks, episodes, seed, level, out, CONSOLE.print)


def video(run: Run, task: str, seed: Seed = 0, out: Path | None = None) -> None:
    """Film one episode of a run (or of the policy zero, random or expert).

    Args:
        run: a trained run folder, or zero, random, expert.
        task: a row.
        out: the .mp4 to write (default: in the run's videos/, or <policy>-<task>.mp4 here).
    """
    _commands().video_job(run, task, seed, out, CONSOLE.print)


def report(run: Run, seed: Seed = 0, out: Path | None = None) -> None:
    """Write a run's report.html again.

    Args:
        run: a run folder.
        out: copy the page there, too.
    """
    CONSOLE.print(str(_commands().report_job(run, out)))


def benchmark(task_set: str = "first", num_envs: int = 64, steps: int = 300, seed: Seed = 0, out: Path | None = None) -> None:
    """Measure environment steps per second against bare physics, on one thread and on all.

    Args:
        task_set: its training rows share the batch.
        num_envs: sub-environments.
        steps: control steps.
        out: JSON file to write (default: print only).
    """
    CONSOLE.print_json(data=_commands().benchmark_job(task_set, num_envs, steps, seed, out))


def gallery(seed: Seed = 0, out: Path = Path("runs/gallery")) -> None:
    """Picture every closure, closed and open, with its numbers and the distance matrix.

    Args:
        out: folder for gallery.html and its pictures.
    """
    CONSOLE.print(f"gallery: {_commands().gallery_job(out, seed, CONSOLE)}")


def audit(tasks: Rows = (), seed: Seed = 7, out: Path = Path("runs/audit")) -> None:
    """Search for success without opening (2,000 candidates per row), and film the nearest misses.

    Args:
        tasks: rows (default: all that need contact).
        out: folder for audit.json and the films.
    """
    CONSOLE.print_json(data=_commands().audit_job(out, tasks, seed, CONSOLE))


COMMANDS = {f.__name__: f for f in (train, transfer, evaluate, video, report, benchmark, gallery, audit)}


def _main() -> None:  # a user's mistake ends with one line
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    try:
        if arguments[0] not in (*COMMANDS, "-h", "--help"):
            _commands().lookup(COMMANDS, arguments[0], "command")
        tyro.extras.subcommand_cli_from_dict(COMMANDS, args=arguments, description=__doc__)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        if not error.args or isinstance(error, NotImplementedError):
            raise
        sys.exit("error: " + " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split()))


if __name__ == "__main__":
    _main()
