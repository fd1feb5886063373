"""Uncap's command line: `python train.py` is the main job; with `--help`, it lists the rest."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console

from agents.settings import load
from evaluation import config, flags

warnings.filterwarnings("ignore", category=UserWarning, module="stable_baselines3")

PROGRAM = "python train.py"


class Command(NamedTuple):
    """A command: its settings, and the function that runs it."""

    config: Any
    run: str


COMMANDS = {
    "train": Command(config.TrainConfig(), "evaluation.commands:train"),
    "transfer": Command(config.TransferRunConfig, "evaluation.commands:transfer"),
    "evaluate": Command(config.EvaluateConfig, "evaluation.commands:evaluate"),
    "video": Command(config.VideoConfig, "evaluation.commands:video"),
    "report": Command(config.ReportConfig, "evaluation.commands:report"),
    "benchmark": Command(config.BenchmarkConfig(), "evaluation.commands:benchmark"),
    "gallery": Command(config.GalleryConfig(), "evaluation.commands:gallery"),
    "audit": Command(config.AuditConfig(), "evaluation.commands:audit"),
    "demos": Command(config.DemosConfig(), "evaluation.commands:demos"),
    "compare": Command(config.CompareConfig, "evaluation.commands:compare"),
}


def run(arguments: Sequence[str], console: Console) -> None:
    """Run a command.

    Args:
        arguments: of the command line.
        console: to print on.

    Raises:
        ValueError, OSError, RuntimeError: a user's mistake, or what is missing; in one line.
    """
    if arguments and arguments[0] in flags.HELP:
        console.print(overview(), markup=False)
        return
    if arguments and arguments[0].startswith(flags.COMPLETION):
        configs = {name: command.config for name, command in COMMANDS.items()}
        flags.complete(configs, arguments, PROGRAM)
    name, rest = "train", list(arguments)
    if rest and not rest[0].startswith("-"):
        name = rest.pop(0)
    if name not in COMMANDS:
        load("envs.tables:lookup")(COMMANDS, name, "command")
    command = COMMANDS[name]
    defaults = command.config
    if name == "train" and "--quick" in rest:
        defaults = config.TrainConfig(job=config.QUICK)
    settings = flags.parse(defaults, rest, f"{PROGRAM} {name}")
    load(command.run)(settings, console)


def overview() -> str:
    """What the program does, and its commands, a line each."""
    lines = [f"usage: {PROGRAM} [COMMAND] [OPTIONS]", "", *(__doc__ or "").splitlines(), ""]
    for name, command in COMMANDS.items():
        summary, *_ = command.config.__doc__.splitlines()
        lines.append(f"  {name:10} {summary}")
    return "\n".join([*lines, "", f"{PROGRAM} COMMAND --help lists a command's options."])


def _main() -> None:
    """Run what the command line says; a user's mistake ends with one line."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        run(sys.argv[1:], console)
    except (ValueError, OSError, RuntimeError) as error:
        if not error.args or isinstance(error, NotImplementedError):
            raise
        sys.exit("error: " + " ".join(str(error).split()))
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)  # as a shell says it


if __name__ == "__main__":
    _main()
