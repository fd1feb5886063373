"""The command line from settings: parsed by tyro, listed in its help, completed by the shell."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from agents.settings import REQUIRED, Flag, check, flags, replaced

HELP = ("-h", "--help")
COMPLETION = "--tyro-"  # beginning of the flags that print or write a shell's completion


class Suggestions(tuple):
    """Choices that the help lists and the shell completes; `Setting.problem` checks them.

    The parser accepts any value: a mistake then gets the one line that the checks give, and a
    table may have more rows than it can list.
    """

    def __contains__(self, value: object) -> bool:
        return True


def parse(config: Any, arguments: Sequence[str], program: str) -> Any:
    """Parse arguments into a configuration, and check it.

    Args:
        config: an instance with the defaults; or a class, where some fields are required.
        arguments: of the command line, after the command.
        program: how the command is called, for the help.

    Raises:
        ValueError: a value out of its limits.
        SystemExit: help was asked for, or the arguments make no sense; tyro said why.
    """
    make = config if isinstance(config, type) else type(config)
    filled = tyro.cli(
        form(config, choices=any(word in HELP for word in arguments)),
        prog=program,
        description=inspect.getdoc(make),
        args=list(arguments),
    )
    values = {flag.path: _value(filled, flag) for flag in flags(config)}
    if isinstance(config, type):
        parsed = config(**{path[0]: value for path, value in values.items()})
    else:
        parsed = replaced(config, values)
    check(parsed)
    return parsed


def complete(configs: Mapping[str, Any], arguments: Sequence[str], program: str) -> None:
    """Print or write what a shell completes commands, flags and choices by.

    Args:
        configs: of every command, see `parse`.
        arguments: that ask for it, such as `--tyro-print-completion bash`.
        program: how the program is called.

    Raises:
        SystemExit: always.
    """
    forms = {name: form(config, choices=True) for name, config in configs.items()}
    tyro.extras.subcommand_cli_from_dict(forms, prog=program, args=list(arguments))


def form(config: Any, choices: bool) -> type:
    """The dataclass that tyro fills: a field per flag, grouped by the first part of its key.

    Args:
        config: an instance or a class, see `parse`.
        choices: load the tables of choices and list their rows.
    """
    groups: dict[str, list[Flag]] = {"": []}
    for flag in flags(config):
        group, _, _ = flag.key.rpartition(".")
        groups.setdefault(group, []).append(flag)
    fields = [_field(flag, choices) for flag in groups.pop("")]
    for name, inner in groups.items():
        nested = dataclasses.make_dataclass(name, [_field(flag, choices) for flag in inner])
        fields.append((name, nested, dataclasses.field(default_factory=nested)))
    made = dataclasses.make_dataclass("Flags", fields, kw_only=True)
    made.__doc__ = inspect.getdoc(config)
    return made


def _value(filled: Any, flag: Flag) -> Any:
    for part in flag.key.split("."):
        filled = getattr(filled, part)
    return filled


def _field(flag: Flag, choices: bool) -> tuple[str, Any, Any]:
    hint = flag.type
    if flag.setting.choices is not None:
        hint = _choice(hint, flag.setting.names() if choices else ())
    if flag.default is None:
        hint = hint | None
    text = flag.setting.help
    if choices and (words := flag.setting.words()):
        text += ": " + "; ".join(f"{name}, {line}" for name, line in words.items())
    hint_of_none = "" if flag.default is None else None  # the help says what None stands for
    markers: list[Any] = [tyro.conf.arg(help=text, help_behavior_hint=hint_of_none)]
    if flag.setting.positional:
        markers.append(tyro.conf.Positional)
    if flag.default is REQUIRED:
        default = dataclasses.field()
    else:
        default = dataclasses.field(default=flag.default)
    _, _, name = flag.key.rpartition(".")
    return name, Annotated[hint, *markers], default


def _choice(hint: Any, names: Sequence[str]) -> Any:
    """A string, or a tuple of strings, of which some are suggested."""
    listed = "{" + ",".join(names) + "}" if names else "NAME"
    several = hint is not str
    spec: Any = PrimitiveConstructorSpec(
        nargs="*" if several else 1,
        metavar=f"[{listed} ...]" if several else listed,
        instance_from_str=tuple if several else _only,
        is_instance=lambda value: isinstance(value, tuple if several else str),
        str_from_instance=_listed,
        choices=Suggestions(names) if names else None,
    )
    return Annotated[hint, spec]


def _only(words: Sequence[str]) -> str:
    [word] = words
    return word


def _listed(value: Any) -> list[str]:
    return list(value) if isinstance(value, tuple) else [value]
