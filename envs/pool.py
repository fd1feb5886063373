"""Variants of rows: which are drawn, from which stream of numbers.

Rows of one group draw from one stream, so that they get the same shapes and masses. Training,
validation and evaluation have streams of their own: none meets a variant of another.
"""

from __future__ import annotations

import numpy as np

from uncap.envs.closures import CLOSURES
from uncap.envs.structure import Variant
from uncap.envs.tables import lookup

# What variants are drawn for -> the `variant_seed` of batches and environments
VARIANT_STREAMS = {"train": 0, "validation": 1, "evaluation": 2}
VARIANTS = 8  # of each row, where nothing else is asked for
_ENTROPY = 0xCA9  # separates the variants' randomness from the episodes'


def draw_pool(names: tuple[str, ...], variants: int, seed: int) -> list[Variant]:
    """Variants of each row, in the rows' order; those of a row do not depend on the others.

    Args:
        names: rows of the table of closures.
        variants: of each row.
        seed: which stream, see VARIANT_STREAMS.

    Returns:
        len(names) x variants of them.

    Raises:
        KeyError: unknown closure; close matches are named.
    """
    pool = []
    for name in names:
        row = lookup(CLOSURES, name, "closure")
        rng = np.random.default_rng([_ENTROPY, seed, *row.group_name.encode()])
        pool += [row.draw(rng) for _ in range(variants)]
    return pool
