"""Which composed mechanisms are trained, and which are held out: drawn by rule, fixed once.

A split draws, from the grammar alone and before any training:

- held-out mechanisms of three kinds of novelty (NOVELTIES), as many of each, in two parts: those
  of `dev` are for development, those of `final` are not looked at until the end;
- the mechanisms that are trained, in one order: the first k of them are those of `composed-k`. So
  smaller sets are part of larger ones. The first eight have every kind of stage, and each further
  one has kinds that are rare so far.

What makes a held-out mechanism of its kind, such as the other order of its stages, is among the
first 128. The kinds of novelty are those of the larger sets, therefore: for a smaller set the same
mechanisms are stranger. `shares_seen` counts by how much.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from uncap.envs.grammar import KINDS, Sequence, is_valid, sequences

SPLITS = ("a", "b")
PARTS = ("dev", "final")
NOVELTIES = {
    "new_order": "stages that were trained together, in another order",
    "new_combination": "two of its stages were never trained in one mechanism",
    "new_length": "its two halves were trained as mechanisms of two stages, and never together",
}
OF_EACH = 8  # held-out mechanisms of a kind of novelty, in each part
MOST_TRAINED = 224
_COMPLETE = 128  # trained mechanisms among which is what the kinds of novelty speak of
_APART = 4  # pairs of kinds that no trained mechanism has together
_FIRST = 8  # trained mechanisms that have every kind of stage
_LENGTHS = (1, 2, 3, 2, 3, 3, 2, 3)  # of the trained mechanisms, by turns


class Split(NamedTuple):
    """Composed mechanisms, trained and held out.

    Attributes:
        trained: in the order in which sets take them.
        held_out: by part, by kind of novelty.
    """

    trained: tuple[Sequence, ...]
    held_out: dict[str, dict[str, tuple[Sequence, ...]]]

    def novel(self, part: str) -> list[Sequence]:
        """The held-out mechanisms of a part, of all kinds."""
        return [sequence for found in self.held_out[part].values() for sequence in found]


@functools.cache
def split(name: str) -> Split:
    """The split of a name, a row of SPLITS."""
    rng = np.random.default_rng([0x5B1, *name.encode()])
    every = [s for length in (1, 2, 3) for s in sequences(length)]
    apart = _pairs_apart(rng)
    combined = [s for s in every if _has_any(s, apart)]
    together = [s for s in every if not _has_any(s, apart)]
    held = {"new_combination": _choose(rng, combined, 2 * OF_EACH)}
    held["new_length"] = _choose(rng, _longer(together), 2 * OF_EACH)
    taken = {frozenset(s) for s in held["new_length"]}
    halves = {half for s in held["new_length"] for half in (s[:2], s[1:])}
    reordered = [s for s in _reorderable(together) if frozenset(s) not in taken | _sets(halves)]
    held["new_order"] = _choose_sets(rng, reordered, 2 * OF_EACH)
    never = {s for found in held.values() for s in found}
    partners = {_partner(rng, s, together) for s in held["new_order"]}
    allowed = [
        s for s in together if s not in never and not (len(s) == 3 and frozenset(s) in taken)
    ]
    trained = _in_order(rng, allowed, halves | partners)
    parts = {
        part: {kind: tuple(held[kind][at : at + OF_EACH]) for kind in NOVELTIES}
        for part, at in zip(PARTS, (0, OF_EACH), strict=True)
    }
    return Split(trained, parts)


def _pairs_apart(rng: np.random.Generator) -> list[frozenset[str]]:
    """Pairs of kinds that are never trained together, no kind in two of them."""
    possible = {frozenset(s) for s in sequences(2) if len(set(s)) == 2}
    pairs = sorted(map(sorted, possible))
    found: list[frozenset[str]] = []
    for k in rng.permutation(len(pairs)):
        pair = frozenset(pairs[k])
        if len(found) < _APART and not any(pair & other for other in found):
            found.append(pair)
    return found


def _has_any(sequence: Sequence, pairs: Iterable[frozenset[str]]) -> bool:
    return any(pair <= set(sequence) for pair in pairs)


def _longer(among: list[Sequence]) -> list[Sequence]:
    """Sequences of three different stages whose two halves are valid, too."""
    return [s for s in among if len(set(s)) == 3 and is_valid(s[:2]) and is_valid(s[1:])]


def _reorderable(among: list[Sequence]) -> list[Sequence]:
    """Sequences of which another order is valid."""
    orders = collections.Counter(tuple(sorted(s)) for s in among)
    return [s for s in among if orders[tuple(sorted(s))] > 1]


def _sets(found: Iterable[Sequence]) -> set[frozenset[str]]:
    return {frozenset(s) for s in found}


def _choose(rng: np.random.Generator, among: list[Sequence], n: int) -> list[Sequence]:
    """Some of the sequences."""
    return [among[k] for k in rng.choice(len(among), n, replace=False)]


def _choose_sets(rng: np.random.Generator, among: list[Sequence], n: int) -> list[Sequence]:
    """Some of the sequences, no two of them of the same stages."""
    found: dict[tuple[str, ...], Sequence] = {}
    for k in rng.permutation(len(among)):
        found.setdefault(tuple(sorted(among[k])), among[k])
    return list(found.values())[:n]


def _partner(rng: np.random.Generator, sequence: Sequence, among: list[Sequence]) -> Sequence:
    """Another order of the same stages."""
    orders = [s for s in among if sorted(s) == sorted(sequence) and s != sequence]
    return orders[rng.integers(len(orders))]


def _in_order(
    rng: np.random.Generator, allowed: list[Sequence], wanted: set[Sequence]
) -> tuple[Sequence, ...]:
    """The order of the trained mechanisms; the wanted ones are among the first `_COMPLETE`."""
    pool = [allowed[k] for k in rng.permutation(len(allowed))]
    used: collections.Counter[str] = collections.Counter()
    found: list[Sequence] = []
    while len(found) < MOST_TRAINED and pool:
        length = _LENGTHS[len(found) % len(_LENGTHS)]
        left = [s for s in pool if s in wanted]
        must = _FIRST <= len(found) < _COMPLETE and len(left) >= _COMPLETE - len(found)
        among = left if must else [s for s in pool if len(s) == length] or pool
        best = min(among, key=lambda s: _commonness(s, used))
        pool.remove(best)
        found.append(best)
        used.update(best)
    return tuple(found)


def _commonness(sequence: Sequence, used: collections.Counter[str]) -> float:
    """How often its kinds were used so far, on average."""
    return sum(used[kind] for kind in sequence) / len(sequence)


def shares_seen(split: Split, k: int, part: str) -> dict[str, float]:
    """Share of the neighbouring pairs of the held-out mechanisms that the first k trained have.

    Args:
        split: of `split`.
        k: trained mechanisms.
        part: a row of PARTS.

    Returns:
        By kind of novelty.
    """
    seen = {pair for s in split.trained[:k] for pair in itertools.pairwise(s)}
    found = {}
    for kind, held_out in split.held_out[part].items():
        pairs = [pair for s in held_out for pair in itertools.pairwise(s)]
        found[kind] = sum(pair in seen for pair in pairs) / len(pairs)
    return found


def kinds_seen(split: Split, k: int) -> int:
    """How many kinds of stages the first k trained mechanisms have, of `len(KINDS)`."""
    return len({kind for s in split.trained[:k] for kind in s} & set(KINDS))
