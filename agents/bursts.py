"""Short bursts of random actions in an expert's episodes: what it does off its own way is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BURST = 4  # control steps of the longest burst of random actions: 0.2 s
_ENTROPY = 0xDE40  # separates bursts from what else is drawn with an episode's seed


def bursts_of(
    seeds: Sequence[int], lengths: np.ndarray, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """`bursts` of n episodes: bool (longest + 1, n) and float32 (longest + 1, n, 5).

    Args:
        seeds: of the episodes.
        lengths: (n,) control steps of each.
        share: of the steps in the first half that lie in bursts.
    """
    perturbed = []
    actions = []
    for seed, length in zip(seeds, lengths, strict=True):
        rng = np.random.default_rng([_ENTROPY, seed])
        own_perturbed, own_actions = bursts(rng, length, lengths.max(), share)
        perturbed.append(own_perturbed)
        actions.append(own_actions)
    return np.stack(perturbed, 1), np.stack(actions, 1)


def bursts(
    rng: np.random.Generator, steps: int, longest: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """When to act at random in the first half of an episode, and how: one action per burst.

    Args:
        rng: draws bursts and actions.
        steps: control steps of the episode.
        longest: control steps of the longest episode of the batch.
        share: of the steps in the first half that lie in bursts.

    Returns:
        Whether a step lies in a burst, bool (longest + 1,), and its action, float32
        (longest + 1, 5).
    """
    perturbed = np.zeros(longest + 1, bool)
    actions = np.zeros((longest + 1, 5), np.float32)
    # Probability that a burst begins, for bursts of (BURST + 1) / 2 steps on average.
    start = share / (share + (1 - share) * (BURST + 1) / 2)
    t = 0
    while t < steps // 2:
        begins = rng.random() < start
        length = int(rng.integers(1, BURST + 1)) if begins else 0
        perturbed[t : t + length] = True
        actions[t : t + length] = rng.uniform(-1, 1, 5)  # drawn even where no burst begins
        t += max(1, length)
    return perturbed, actions
