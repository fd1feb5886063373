"""What a policy with a memory believes over the attempts of its trials: numbers and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from gymnasium.vector import AutoresetMode
from matplotlib.figure import Figure

from uncap.agents.policy import Acting
from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.pool import VARIANT_STREAMS
from uncap.evaluation.pages import BLUE, GREY, WIDTH, new_figure
from uncap.evaluation.protocol import EVALUATION_SEED

FILE = "beliefs.json"  # in a run folder
MOST_ROWS = 40  # that are told apart in a picture
_TRIALS = 200  # at once, of all rows together
_MOST_WIDTH = 13.0  # inches of a picture with the belief after every attempt


class Kinds(NamedTuple):
    """What closures are taken for: rows, or their mechanisms, where there are many rows.

    Attributes:
        word: what one is called.
        names: of all.
        of: (rows,) which one each row is.
    """

    word: str
    names: list[str]
    of: np.ndarray

    def sums(self, belief: np.ndarray) -> np.ndarray:
        """The belief (n, kinds) in each, of that in the rows, (n, rows)."""
        return belief @ np.eye(len(self.names))[self.of]


def kinds_of(rows: Sequence[str]) -> Kinds:
    """Rows themselves, or the mechanisms of many."""
    if len(rows) <= MOST_ROWS:
        return Kinds("row", list(rows), np.arange(len(rows)))
    mechanisms = [CLOSURES[row].mechanism for row in rows]
    names = list(dict.fromkeys(mechanisms))
    return Kinds("mechanism", names, np.array([names.index(name) for name in mechanisms]))


def _sample(kinds: Kinds) -> np.ndarray:
    """Numbers of at most MOST_ROWS rows in their order, as many as can be of each kind."""
    rank = np.zeros(len(kinds.of), np.int64)  # of a row among those of its kind
    for kind in range(len(kinds.names)):
        mine = kinds.of == kind
        rank[mine] = np.arange(mine.sum())
    return np.sort(np.argsort(rank, kind="stable")[:MOST_ROWS])


def recorded(policy: Acting, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The memory's belief in trials of its trained rows, on starts of the evaluation.

    Args:
        policy: with a memory.
        meta: of its checkpoint, see `policy.load_policy`.

    Returns:
        `kind` and `rows`, what a closure is taken for: the word for it, and the names of all; or
        of those of which there were trials. `own`: for each attempt the mean belief in what it is
        after each control step. `after`: for each attempt a matrix (rows, rows), the mean belief,
        when the attempt has ended, of closures of the first in the second. `right`: for each
        attempt the share of the trials in which, when it has ended, no other is believed in more,
        of all that there are.
    """
    kinds = kinds_of(meta["tasks"])
    sample = _sample(kinds)
    rows = [meta["tasks"][k] for k in sample]
    shown = np.unique(kinds.of[sample])  # numbers of kinds
    own_kind = np.searchsorted(shown, kinds.of[sample])  # (rows,) among those shown
    trials = max(1, _TRIALS // len(rows))
    env = ClosureVectorEnv(
        rows,
        trials * len(rows),
        conditioning=meta["conditioning"],
        autoreset_mode=AutoresetMode.DISABLED,
        variant_seed=VARIANT_STREAMS["evaluation"],
        sensors=meta["sensors"],
        episode_steps=meta["episode_steps"],
        attempts=meta["attempts"],
    )
    seeds = [EVALUATION_SEED + i // len(rows) for i in range(env.num_envs)]
    observation, info = env.reset(seed=seeds)
    act = policy(env)
    own: list[list[float]] = []
    after: list[list[list[float]]] = []
    right: list[float] = []
    for attempt in range(env.attempts):
        if attempt:
            observation, info = env.reset(options={"next_attempt": True})
        own.append([])
        done = False
        belief = np.zeros((env.num_envs, len(kinds.names)))
        is_kind = own_kind[env.task]  # (n,)
        true = shown[is_kind]  # (n,)
        while not done:
            action = act(cast("dict[str, np.ndarray]", observation), info["task_index"])
            assert act.recall is not None
            belief = kinds.sums(act.recall.known())
            in_own = belief[np.arange(env.num_envs), true]
            own[-1].append(round(float(in_own.mean()), 4))
            observation, _, _, truncated, info = env.step(action)
            done = bool(truncated.all())
        matrix = [belief[is_kind == k][:, shown].mean(0) for k in range(len(shown))]
        after.append(np.round(matrix, 4).tolist())
        right.append(round(float((belief.argmax(1) == true).mean()), 4))
    env.close()
    names = [kinds.names[k] for k in shown]
    return {"kind": kinds.word, "rows": names, "own": own, "after": after, "right": right}


def _word(found: Mapping[str, Any]) -> str:
    """What is taken for what; older files have rows."""
    return found.get("kind", "row")


def own_figure(found: Mapping[str, Any]) -> Figure:
    """The mean belief in what it is, over the control steps of all attempts."""
    figure, axes = new_figure(WIDTH, 2.6)
    first = 0
    for number, values in enumerate(found["own"], start=1):
        axes.plot(range(first, first + len(values)), values, color=BLUE)
        axes.axvline(first, color=GREY, ls=":", lw=1)
        axes.text(first, 1.04, f" attempt {number}", color=GREY, fontsize=8)
        first += len(values)
    axes.set(ylim=(-0.02, 1.12), xlabel="control step", ylabel=f"belief in the true {_word(found)}")
    return figure


def after_figure(found: Mapping[str, Any]) -> Figure:
    """A matrix for each attempt: what is believed, when it has ended, of closures of each kind.

    Where there is no room for all, those of the first and of the last attempt.
    """
    rows, matrices = found["rows"], found["after"]
    side = 0.22 * len(rows)  # inches
    numbers = list(range(1, len(matrices) + 1))
    if len(numbers) * (side + 0.4) > _MOST_WIDTH:
        numbers = sorted({1, len(matrices)})
    figure = Figure(figsize=(len(numbers) * (side + 0.4) + 1.6, side + 1.6))
    every = np.atleast_1d(figure.subplots(1, len(numbers), sharey=True))
    every[0].set_ylabel(f"true {_word(found)}")
    for axes, number in zip(every, numbers, strict=True):
        axes.imshow(matrices[number - 1], cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"after attempt {number}", fontsize=9)
        axes.set_xlabel(f"{_word(found)} that is believed in")
        axes.set_xticks(range(len(rows)), rows, rotation=90, fontsize=7)
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
    return figure


def line(found: Mapping[str, Any]) -> str:
    """A sentence on the belief when each attempt has ended."""
    own = [float(np.mean(np.diag(matrix))) for matrix in found["after"]]
    word = _word(found)
    beliefs, shares = (
        ", ".join(f"{value:.2f}" for value in values) for values in (own, found.get("right", ()))
    )
    text = f"after attempts 1 to {len(own)} the mean belief in the true {word} is {beliefs}"
    if shares:  # older files have none
        text += f"; in {shares} of the trials it takes the closure for the true {word}"
    return text
