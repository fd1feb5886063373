"""Task conditioning: the vector that tells a policy which task it is in."""

from __future__ import annotations

import numpy as np

from envs.closures import CLOSURES, lookup


def none(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """No task information, (tasks, 0)."""
    return np.zeros((len(tasks), 0), np.float32)


def one_hot(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """One component per known task, (tasks, known).

    Raises:
        ValueError: a task is not among the known ones; it has no component.
    """
    if unseen := [t for t in tasks if t not in known]:
        raise ValueError(
            f"one_hot conditioning has no component for unseen task {', '.join(unseen)} (known: {', '.join(known)}); "
            "use conditioning 'parameters' to act on closures that were not trained"
        )
    return np.eye(len(known), dtype=np.float32)[[known.index(t) for t in tasks]]


def parameters(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """The rows' physical numbers, (tasks, 23): see `Closure.vector`."""
    return np.stack([lookup(CLOSURES, t, "closure").vector for t in tasks])


CONDITIONINGS = {f.__name__: f for f in (none, one_hot, parameters)}


def vectors(kind: str, tasks: tuple[str, ...], known: tuple[str, ...] | None = None) -> np.ndarray:
    """Conditioning vectors, float32 (tasks, size).

    Args:
        kind: one of CONDITIONINGS.
        tasks: rows to condition on.
        known: rows a policy was trained on; by default the tasks themselves.

    Raises:
        KeyError: unknown kind.
        ValueError: `one_hot` of an unseen task.
    """
    return lookup(CONDITIONINGS, kind, "conditioning")(tuple(tasks), tuple(known or tasks))
