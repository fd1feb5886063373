"""Uncap's command line: without a command it is the main job; with `--help`, it lists the rest."""

from __future__ import annotations

import errno
import io
import sys
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console

from uncap.agents.settings import load
from uncap.evaluation import config, flags, imports
from uncap.evaluation.program import PROGRAM, warn_in_lines
from uncap.evaluation.progress import make_console

warnings.filterwarnings("ignore", category=UserWarning, module="stable_baselines3")

# What the libraries say when memory or threads end.
OUT_OF_MEMORY = ("allocate memory", "bad_alloc")
NO_THREAD = ("thread constructor failed", "can't start new thread")


class Command(NamedTuple):
    """A command: its settings, and the function that runs it."""

    config: Any
    run: str


COMMANDS = {
    "train": Command(config.TrainConfig(), "uncap.evaluation.commands:train"),
    "transfer": Command(config.TransferRunConfig, "uncap.evaluation.commands:transfer"),
    "tune_transfer": Command(config.TuneTransferConfig, "uncap.evaluation.commands:tune_transfer"),
    "sequence": Command(config.SequenceConfig(), "uncap.evaluation.commands:sequence"),
    "forecast": Command(config.ForecastConfig, "uncap.evaluation.commands:forecast"),
    "evaluate": Command(config.EvaluateConfig, "uncap.evaluation.commands:evaluate"),
    "table": Command(config.TableConfig, "uncap.evaluation.commands:table"),
    "export": Command(config.ExportConfig, "uncap.evaluation.commands:export"),
    "video": Command(config.VideoConfig, "uncap.evaluation.commands:video"),
    "view": Command(config.ViewConfig, "uncap.evaluation.commands:view"),
    "report": Command(config.ReportConfig, "uncap.evaluation.commands:report"),
    "benchmark": Command(config.BenchmarkConfig(), "uncap.evaluation.commands:benchmark"),
    "gallery": Command(config.GalleryConfig(), "uncap.evaluation.commands:gallery"),
    "audit": Command(config.AuditConfig(), "uncap.evaluation.commands:audit"),
    "demos": Command(config.DemosConfig(), "uncap.evaluation.commands:demos"),
    "compare": Command(config.CompareConfig, "uncap.evaluation.commands:compare"),
    "tune": Command(config.TuneConfig, "uncap.evaluation.commands:tune"),
}


def run(arguments: Sequence[str], console: Console) -> None:
    """Run a command.

    Args:
        arguments: of the command line.
        console: to print on.

    Raises:
        ValueError, OSError, RuntimeError: a user's mistake, or what is missing; in one line.
    """
    arguments = imports.take(arguments)
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
        load("uncap.envs.tables:lookup")(COMMANDS, name, "command")
    command = COMMANDS[name]
    defaults = command.config
    if name == "train" and "--quick" in rest:
        defaults = config.TrainConfig(job=config.QUICK)
    settings = flags.parse(defaults, rest, f"{PROGRAM} {name}")
    load(command.run)(settings, console)


def overview() -> str:
    """What the program does, and its commands, a line each."""
    lines = [f"usage: {PROGRAM} [COMMAND] [OPTIONS]", "", *(__doc__ or "").splitlines(), ""]
    width = max(map(len, COMMANDS))
    for name, command in COMMANDS.items():
        summary, *_ = command.config.__doc__.splitlines()
        lines.append(f"  {name:{width}} {summary}")
    lines += ["", *textwrap.wrap(imports.HELP, 100), ""]
    return "\n".join([*lines, f"{PROGRAM} COMMAND --help lists a command's options."])


def main() -> None:
    """Run what the command line says; a user's mistake ends with one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a sign that it cannot show becomes another
            stream.reconfigure(errors="backslashreplace")
    warn_in_lines()
    console = make_console()
    try:
        run(sys.argv[1:], console)
    except Exception as error:
        line = said(error)
        if not line:
            raise
        sys.exit(f"error: {line}")
    except KeyboardInterrupt:
        console.print("interrupted")
        sys.exit(130)  # as a shell says it


def said(error: Exception) -> str:
    """What a user can do something about, in one line; empty for an error of the program."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return "there is not enough memory: fewer --num-envs or --episodes need less"
    if "Caught an unknown exception" in text:  # pybind11's words
        return "a library ended without a reason: most often, there is too little memory"
    if any(words in text for words in NO_THREAD):
        return "no thread can be started: too little memory, or more than `ulimit -u` allows"
    if isinstance(error, OSError) and error.strerror is not None:
        return _said_of_file(error)
    if "No space left on device" in text:
        return "the disk is full: make room, then go on"
    mistake = isinstance(error, ValueError | OSError | RuntimeError)
    return text if mistake and not isinstance(error, NotImplementedError) else ""


def _said_of_file(error: OSError) -> str:
    where = str(error.filename) if error.filename else "a file"
    reasons = {
        errno.ENOSPC: f"the disk is full: {where} cannot be written; make room, then go on",
        getattr(errno, "EDQUOT", -1): f"the disk's quota is used up: {where} cannot be written",
        errno.EMFILE: f"too many files are open for {where}: `ulimit -n` sets how many may be",
        errno.EROFS: f"{where} cannot be written: its file system is read-only",
        errno.EACCES: f"no permission for {where}",
        errno.EPERM: f"no permission for {where}",
        errno.ENOENT: f"there is no {where}",
        errno.ENAMETOOLONG: f"the name is too long: {where}",
    }
    return reasons.get(error.errno or 0, f"{where}: {str(error.strerror).lower()}")
