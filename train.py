"""Uncap's command line: `python train.py` is the main job; with `--help`, it lists the rest."""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console

from agents.settings import load
from evaluation import config, flags
from evaluation.progress import make_console

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
        console.print(overview())
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
    console = make_console()
    try:
        run(sys.argv[1:], console)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        if not said(error) or isinstance(error, NotImplementedError):
            raise
        sys.exit(f"error: {said(error)}")


def said(error: BaseException) -> str:
    """What went wrong, in one line; empty where an error does not say."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "there is not enough memory: fewer --num-envs or --episodes need less"
    if not isinstance(error, OSError) or error.strerror is None:
        return " ".join(str(error).split())
    where = f" {error.filename}" if error.filename else " a file"
    reasons = {
        errno.ENOSPC: f"the disk is full: cannot write{where}",
        getattr(errno, "EDQUOT", -1): f"the quota of the disk is used up: cannot write{where}",
        errno.EMFILE: f"too many files are open: cannot open{where} (ulimit -n allows more)",
        errno.EROFS: f"cannot write{where}: it is on a read-only file system",
        errno.EACCES: f"no permission for{where}",
        errno.EPERM: f"no permission for{where}",
        errno.ENOENT: f"there is no file or folder{where}",
        errno.ENAMETOOLONG: f"the name is too long:{where}",
        errno.ENOMEM: "there is not enough memory: fewer --num-envs or --episodes need less",
    }
    return reasons.get(error.errno or 0, f"{error.strerror.lower()}:{where}")


if __name__ == "__main__":
    _main()
