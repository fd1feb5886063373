"""Task sets of drawn closures: hundreds of rows, named by what they are, made when asked for.

Of every mechanism there are two fixed sequences of rows: `drawn-screw-0`, `drawn-screw-1`, ...
are trained, `unseen-screw-0`, ... are held out. A row depends on its name only. So the rows of
`drawn-32` are the first 32 of `drawn-256`, and both are tested on the same ones.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from uncap.envs import closures, generator
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
_SET = re.compile(r"drawn-([1-9]\d{0,2})(?:-without-([a-z_]+?)(-but-1)?)?")

ROW_NAMES = f"drawn-MECHANISM-K and unseen-MECHANISM-K, K from 0 to {MOST - 1}"
SET_NAMES = (
    "drawn-N, drawn-N-without-MECHANISM and drawn-N-without-MECHANISM-but-1, "
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


@functools.lru_cache(maxsize=64)
def task_set(name: str) -> closures.TaskSet | None:
    """The drawn task set of a name; None if there is none of that name."""
    match = _SET.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return None
    number, left_out, but_one = match.groups()
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
    trained = _first("drawn", seen, n - bool(but_one))
    if but_one:
        trained += _first("drawn", (left_out,), 1)
    tested = _first("unseen", seen, _TESTED_SEEN * len(seen))
    tested += _first("unseen", (left_out,), _TESTED_LEFT_OUT)
    share = "one closure" if but_one else "none"
    probes = f"a mechanism never seen: {n} drawn closures, {share} of {left_out}"
    return closures.TaskSet(name, trained, tested, probes, transfers=(), left_out=left_out)


def _first(kind: str, mechanisms: tuple[str, ...], n: int) -> tuple[str, ...]:
    """Names of the first n rows of a sequence, the mechanisms by turns."""
    return tuple(
        _row_name(kind, mechanisms[k % len(mechanisms)], k // len(mechanisms)) for k in range(n)
    )
