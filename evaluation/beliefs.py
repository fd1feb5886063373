"""What a policy with a memory believes over the attempts of its trials: numbers and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from gymnasium.vector import AutoresetMode
from matplotlib.figure import Figure

from uncap.agents.policy import Acting
from uncap.envs import ClosureVectorEnv
from uncap.envs.pool import VARIANT_STREAMS
from uncap.evaluation.pages import BLUE, GREY, WIDTH, new_figure
from uncap.evaluation.protocol import EVALUATION_SEED

FILE = "beliefs.json"  # in a run folder
MOST_ROWS = 40  # of a picture
_TRIALS = 200  # at once, of all rows together


def recorded(policy: Acting, meta: Mapping[str, Any], rows: Sequence[str]) -> dict[str, Any]:
    """The memory's belief in trials of its trained rows, on starts of the evaluation.

    Args:
        policy: with a memory.
        meta: of its checkpoint, see `policy.load_policy`.
        rows: among those that were trained.

    Returns:
        `rows`; `own`, for each attempt the mean belief in the row that it is after each control
        step; and `after`, for each attempt a matrix (rows, rows): the mean belief, when the
        attempt has ended, of closures of the first row in the second.
    """
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
    places = [meta["tasks"].index(row) for row in rows]  # among the memory's rows
    seeds = [EVALUATION_SEED + i // len(rows) for i in range(env.num_envs)]
    observation, info = env.reset(seed=seeds)
    act = policy(env)
    own: list[list[float]] = []
    after: list[list[list[float]]] = []
    for attempt in range(env.attempts):
        if attempt:
            observation, info = env.reset(options={"next_attempt": True})
        own.append([])
        done = False
        belief = np.zeros((env.num_envs, len(rows)))
        while not done:
            action = act(cast("dict[str, np.ndarray]", observation), info["task_index"])
            assert act.recall is not None
            belief = act.recall.known()[:, places]
            in_own = belief[np.arange(env.num_envs), env.task]
            own[-1].append(round(float(in_own.mean()), 4))
            observation, _, _, truncated, info = env.step(action)
            done = bool(truncated.all())
        matrix = [belief[env.task == k].mean(0) for k in range(len(rows))]
        after.append(np.round(matrix, 4).tolist())
    env.close()
    return {"rows": list(rows), "own": own, "after": after}


def own_figure(found: Mapping[str, Any]) -> Figure:
    """The mean belief in what it is, over the control steps of all attempts."""
    figure, axes = new_figure(WIDTH, 2.6)
    first = 0
    for number, values in enumerate(found["own"], start=1):
        axes.plot(range(first, first + len(values)), values, color=BLUE)
        axes.axvline(first, color=GREY, ls=":", lw=1)
        axes.text(first, 1.04, f" attempt {number}", color=GREY, fontsize=8)
        first += len(values)
    axes.set(ylim=(-0.02, 1.12), xlabel="control step", ylabel="mean belief in the true row")
    return figure


def after_figure(found: Mapping[str, Any]) -> Figure:
    """A matrix for each attempt: what is believed, when it has ended, of closures of each row."""
    rows, matrices = found["rows"], found["after"]
    side = 0.22 * len(rows)
    shown = (matrices[0], matrices[-1]) if len(matrices) > 1 else (matrices[0],)
    figure = Figure(figsize=(len(shown) * (side + 0.4) + 1.6, side + 1.6))
    numbers = (1, len(matrices))
    every = np.atleast_1d(figure.subplots(1, len(shown), sharey=True))
    every[0].set_ylabel("true row")
    for axes, matrix, number in zip(every, shown, numbers, strict=False):
        axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
        axes.set_title(f"after attempt {number}", fontsize=9)
        axes.set_xlabel("row that is believed in")
        axes.set_xticks(range(len(rows)), rows, rotation=90, fontsize=7)
        axes.set_yticks(range(len(rows)), rows, fontsize=7)
    return figure


def line(found: Mapping[str, Any]) -> str:
    """A sentence on the belief when each attempt has ended."""
    own = [float(np.mean(np.diag(matrix))) for matrix in found["after"]]
    right = [
        float((np.argmax(matrix, 1) == np.arange(len(matrix))).mean()) for matrix in found["after"]
    ]
    beliefs, shares = ([f"{value:.2f}" for value in values] for values in (own, right))
    return (
        f"after attempts 1 to {len(own)} the mean belief in the true row is {', '.join(beliefs)}; "
        f"for {', '.join(shares)} of the rows, the true row has the highest mean belief"
    )
