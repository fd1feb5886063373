"""Task sets of drawn closures: hundreds of rows, named by what they are, made when asked for.

Of every mechanism there are two fixed sequences of rows: `drawn-screw-0`, `drawn-screw-1`, ...
are trained, `unseen-screw-0`, ... are held out. A row depends on its name only. So the rows of
`drawn-32` are the first 32 of `drawn-256`, and both are tested on the same ones.
"""

from __future__ import annotations

import functools
import itertools
import re

import numpy as np

from uncap.envs import closures, composed, generator, grammar, splits
from uncap.envs.structure import Closure

MOST = 512  # training rows of a set
# Where the generator's rays begin: rows by mechanism. A further one would change every drawn row
SEEDS = {
    "pull": ("mug", "cork", "decanter", "teapot"),
    "screw": ("bottle", "jar", "tumbler", "gas-cap", "thermos", "spice-jar", "canteen",
        "gas-bottle"),
    "turn": ("valve", "grinder", "stove-knob", "tap"),
    "push_twist": ("pill-box", "solvent-can"),
    "bayonet": ("canister", "radiator-cap"),
    "flip": ("flip-mug", "soap-box"),
    "slide": ("slide-mug", "pencil-box"),
    "press": ("pump",),
}  # fmt: skip
_ENTROPY = {"drawn": 0xD4A, "unseen": 0x0E1}  # of the two sequences
_TESTED = 6  # held-out rows of each mechanism, where all are trained
_TESTED_SEEN = 4  # the same, of the others, where one is left out
_TESTED_LEFT_OUT = 16  # held-out rows of a mechanism that is left out
_ROW = re.compile(r"(drawn|unseen)-([a-z]+(?:-twist)?)-(0|[1-9]\d{0,2})")
_NEARLY = re.compile(r"(drawn|unseen)-([a-z_-]+)-(\d{1,3})")  # not as a row is spelled
_SET = re.compile(r"drawn-([1-9]\d{0,2})(?:-without-([a-z_]+?)(-but-1|-composed)?)?")

ROW_NAMES = (
    f"drawn-MECHANISM-K and unseen-MECHANISM-K, K from 0 to {MOST - 1}, "
    f"MECHANISM one of {', '.join(mechanism.replace('_', '-') for mechanism in SEEDS)}"
)
SET_NAMES = (
    "drawn-N, drawn-N-without-MECHANISM, drawn-N-without-MECHANISM-but-1 and "
    "drawn-N-without-MECHANISM-composed, "
    f"N from 1 to {MOST}, MECHANISM one of {', '.join(SEEDS)}"
)


def _row_name(kind: str, mechanism: str, number: int) -> str:
    return f"{kind}-{mechanism.replace('_', '-')}-{number}"


@functools.lru_cache(maxsize=2048)
def row(name: str) -> Closure | None:
    """The drawn row of a name; None if there is none of that name."""
    match = _ROW.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    kind, words, number = match.groups()
    mechanism = words.replace("-", "_")
    if mechanism not in SEEDS or int(number) >= MOST:
        return None
    entropy = [_ENTROPY[kind], int(number), *mechanism.encode()]
    seeds = [closures.CLOSURES[seed] for seed in SEEDS[mechanism]]
    return generator.sample_from(np.random.default_rng(entropy), seeds, name)


def why_not(name: str) -> str | None:
    """How a row's name is spelled that was nearly hit, such as `unseen-push_twist-0`."""
    if nearly := _NEARLY.fullmatch(name):
        kind, words, number = nearly.groups()
        spelled = _row_name(kind, words, int(number))
        if row(spelled):
            return f"did you mean {spelled!r}?"
    return None


@functools.lru_cache(maxsize=64)
def task_set(name: str) -> closures.TaskSet | None:
    """The drawn task set of a name; None if there is none of that name."""
    match = _SET.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    number, left_out, further = match.groups()
    n = int(number)
    if n > MOST or (left_out and left_out not in SEEDS):
        return None
    if not left_out:
        trained = _first("drawn", tuple(SEEDS), n)
        tested = _first("unseen", tuple(SEEDS), _TESTED * len(SEEDS))
        return closures.TaskSet(
            name, trained, tested, f"breadth: {n} drawn closures of eight mechanisms", transfers=()
        )
    seen = tuple(mechanism for mechanism in SEEDS if mechanism != left_out)
    others, share = _further(left_out, further, n)
    trained = _first("drawn", seen, n - len(others)) + others
    kinds = {
        "seen": _first("unseen", seen, _TESTED_SEEN * len(seen)),
        "left_out": _first("unseen", (left_out,), _TESTED_LEFT_OUT),
    }
    return closures.TaskSet(
        name,
        trained,
        kinds["seen"] + kinds["left_out"],
        f"a mechanism never seen: {n} drawn closures, {share}",
        transfers=(),
        left_out=left_out,
        held_out_kinds=kinds,
    )


def _further(left_out: str, further: str | None, n: int) -> tuple[tuple[str, ...], str]:
    """Rows among the n that are not drawn of the other mechanisms, and a few words on all.

    With `-composed` half of the rows are of composed mechanisms, each of another one. None of them
    is the mechanism that is left out, or has both of its stages in their order; one of its stages
    may be part of longer ones.
    """
    if further == "-but-1":
        return _first("drawn", (left_out,), 1), f"one closure of {left_out}"
    if further is None:
        return (), f"none of {left_out}"
    own = {
        grammar.sequence_of_row(closures.CLOSURES[_row_name("drawn", left_out, k)])
        for k in range(MOST)
    }
    others = [s for s in splits.split("a").trained if not _is_same(s, own)]
    half = n // 2
    rows = tuple(composed.row_name(others[k % len(others)], k // len(others)) for k in range(half))
    return rows, f"half of them composed, none of {left_out}"


def _is_same(sequence: grammar.Sequence, own: set[grammar.Sequence | None]) -> bool:
    """Whether a composed mechanism is the one whose closures have these sequences, or holds it.

    A single stage is held by every longer mechanism that has it: that does not count.
    """
    pairs = set(itertools.pairwise(sequence))
    return bool({sequence, *pairs} & own)


def _first(kind: str, mechanisms: tuple[str, ...], n: int) -> tuple[str, ...]:
    """Names of the first n rows of a sequence, the mechanisms by turns."""
    return tuple(
        _row_name(kind, mechanisms[k % len(mechanisms)], k // len(mechanisms)) for k in range(n)
    )
