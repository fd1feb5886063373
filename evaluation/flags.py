"""The command line from settings: parsed by tyro, listed in its help, completed by the shell."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import io
import os
import pathlib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from uncap.agents.settings import REQUIRED, Flag, as_words, check, flags, replaced
from uncap.evaluation import imports

HELP = ("-h", "--help")
COMPLETION = "--tyro-"  # beginning of the flags that print or write a shell's completion

_TYPES = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    pathlib.Path: "a folder or a file",
}


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

    Returns:
        The configuration, with absolute paths. The field `given`, where it has one, holds the
        keys of the flags that were typed.

    Raises:
        ValueError: an unknown flag, or a value that is missing, of another type or out of its
            limits.
        SystemExit: help was asked for.
    """
    wants_help = any(word in HELP for word in arguments)
    given = {} if wants_help else typed(config, arguments)
    make = config if isinstance(config, type) else type(config)
    with contextlib.nullcontext() if wants_help else _one_line():
        filled = tyro.cli(
            form(config, choices=wants_help),
            prog=program,
            description=f"{inspect.getdoc(make)}\n\n{imports.HELP}",
            args=_gathered(arguments, config),
        )
    values = {flag.path: absolute(_value(filled, flag), flag) for flag in flags(config)}
    if isinstance(config, type):
        parsed = config(**{path[0]: value for path, value in values.items()})
    else:
        parsed = replaced(config, values)
    check(parsed)
    if hasattr(parsed, "given"):
        parsed = dataclasses.replace(parsed, given=frozenset(given))
    return parsed


def typed(config: Any, arguments: Sequence[str]) -> dict[str, list[str]]:
    """The flags among arguments by their keys, with the words after each.

    Args:
        config: see `parse`.
        arguments: of the command line, after the command.

    Raises:
        ValueError: no such flag; one is given twice; a path is empty.
    """
    by_name = _by_name(config)
    found: dict[str, list[str]] = {}
    values: list[str] = []  # of the present flag
    for word in arguments:
        if word == "--":
            break
        if not word.startswith("--"):
            values.append(word)
            continue
        name, equals, value = word.partition("=")
        flag = by_name.get("--" + name[2:].replace("_", "-"))
        if flag is None:
            raise ValueError(f"unknown flag {name}{_near(name, by_name)} (--help lists all)")
        if flag.key in found and not flag.setting.repeated:
            raise ValueError(f"{flag.name} is given twice")
        values = found.setdefault(flag.key, [])
        values += [value] if equals else []
    for flag in by_name.values():
        several = flag.setting.repeated or typing.get_origin(flag.type) is tuple
        if several and flag.key in found and not found[flag.key]:
            raise ValueError(f"{flag.name} needs a value")
        if flag.key in found and (problem := _not_of_type(flag, found[flag.key])):
            raise ValueError(f"{flag.name} {problem}")
    return found


def _gathered(arguments: Sequence[str], config: Any) -> list[str]:
    """The arguments, with the words of a flag that is typed several times behind its first."""
    by_name = _by_name(config)
    kept: list[str] = []
    words = kept  # of the present flag
    gathered: dict[str, list[str]] = {}
    for word in arguments:
        name, equals, value = word.partition("=")
        flag = by_name.get("--" + name[2:].replace("_", "-")) if word[:2] == "--" else None
        if flag is not None and flag.setting.repeated:
            words = gathered.setdefault(flag.name, [])
            words += [value] if equals else []
        else:
            words = kept if word.startswith("-") else words
            words.append(word)
    return [*kept, *(word for name, words in gathered.items() for word in (name, *words))]


def _not_of_type(flag: Flag, words: Sequence[str]) -> str | None:
    """What is wrong with the words after a flag, if it is of a simple type."""
    if flag.type not in _TYPES:
        return None
    if not words:
        return f"needs a value: {_TYPES[flag.type]}"
    if flag.setting.path and not words[0].strip():
        return f"must name a folder or a file, not {words[0]!r}"
    try:
        flag.type(words[0])
    except ValueError:
        return f"must be {_TYPES[flag.type]}, not {words[0]!r}"
    return None


def _by_name(config: Any) -> dict[str, Flag]:
    """Flags by all the names that they can be typed by."""
    named = [flag for flag in flags(config) if not flag.setting.positional]
    by_name = {flag.name: flag for flag in named}
    for flag in named:
        if flag.type is bool:
            by_name[as_words(flag.key, False)[0]] = flag
    return by_name


def _near(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
    return f": did you mean {' or '.join(close)}?" if close else ""


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    """Make an error of one line of what tyro says in a box before it exits.

    Raises:
        ValueError: with that line.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as end:
        if not end.code:
            raise
        lines = [line.strip(" │") for line in said.getvalue().splitlines()]
        rules = [k for k, line in enumerate(lines) if set(line) <= {"─"} or line[:1] in "╭╰"]
        first, last = [*rules, len(lines), len(lines)][:2]  # what stands under the box's title
        problem = " ".join(" ".join(lines[first + 1 : last]).split())
        raise ValueError(problem or "the arguments cannot be read") from None


def absolute(value: Any, flag: Flag) -> Any:
    """A flag's value; where it is a path, from the root on.

    Raises:
        ValueError: the working directory, which it is relative to, is gone.
    """
    if isinstance(value, tuple):
        return tuple(absolute(part, flag) for part in value)
    is_none = any(re.fullmatch(pattern, str(value)) for pattern in flag.setting.no_paths)
    if flag.setting.path is None or value is None or is_none:
        return value
    try:
        whole = os.path.abspath(value)
    except FileNotFoundError:
        raise ValueError(
            "the working directory is gone: go to one that exists, or give absolute paths"
        ) from None
    return pathlib.Path(whole) if isinstance(value, pathlib.Path) else whole


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
    # the help says what None and nothing stand for
    hint_of_none = "" if flag.default in (None, ()) else None
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
