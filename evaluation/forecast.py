"""When to share: which targets will gain, guessed from a source run before any step on them.

A predictor is a function of the source and a target, and a row of PREDICTORS; each says of which
sign its rank correlation with the gain should be. Where outcomes are known, the correlations are
given with intervals.
"""

from __future__ import annotations

import dataclasses
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import bootstrap, spearmanr

from uncap.agents.episodes import expert_env, expert_episodes
from uncap.agents.networks import actor_inputs
from uncap.agents.policy import Acting, load_policy
from uncap.envs import CLOSURES
from uncap.envs.distances import demands, nearest, unseen
from uncap.evaluation.beginnings import remembering
from uncap.evaluation.protocol import evaluate, summary

LEAST_TARGETS = 4  # of a correlation: fewer say nothing
DEMO_SEED = 5_000_000  # of the demonstrations: no evaluation's, and no training's
_DRAWS = 2000
_ATTEMPTS = 20  # that a policy with a memory makes


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained policy, as predictors see it.

    Attributes:
        policy: the network.
        meta: of its checkpoint, see `policy.load_policy`.
        gradient: (parameters,) of imitation on its own rows.
        memory: a policy with a memory that was trained on the same rows, and its checkpoint's JSON.
        engine: what runs the simulations, a row of `uncap.envs.engines.ENGINES`.
    """

    policy: Any
    meta: Mapping[str, Any]
    gradient: torch.Tensor
    memory: tuple[Any, Mapping[str, Any]] | None = None
    engine: str = "cpu"


class Demonstration(NamedTuple):
    """An episode of a row's expert: what a policy would see, and what the expert does."""

    observation: dict[str, torch.Tensor]  # (steps, ...)
    action: torch.Tensor  # (steps, a)


class Predictor(NamedTuple):
    """A row of PREDICTORS.

    Attributes:
        predict: of a source, a target's name and a demonstration of it.
        sign: of its correlation with the gain, if it is right: +1 or -1.
        words: one line.
        asks_memory: needs a policy with a memory.
    """

    predict: Callable[[Source, str, Demonstration], float]
    sign: int
    words: str
    asks_memory: bool = False


def distance(source: Source, target: str, demo: Demonstration) -> float:
    """Structural distance to the nearest trained row."""
    trained = [CLOSURES[name] for name in source.meta["tasks"]]
    return nearest(CLOSURES[target], trained)[1]


def directed(source: Source, target: str, demo: Demonstration) -> float:
    """What the target asks for that no trained row does, as a share of what it asks for."""
    trained = [CLOSURES[name] for name in source.meta["tasks"]]
    missing = unseen(CLOSURES[target], trained)
    return len(missing) / max(1, len(demands(CLOSURES[target])))


def disagreement(source: Source, target: str, demo: Demonstration) -> float:
    """Mean distance of the policy's actions from the expert's, in the expert's states."""
    with torch.no_grad():
        action = source.policy.act(demo.observation).clamp(-1, 1)
    return float((action - demo.action).abs().mean())


def cosine(source: Source, target: str, demo: Demonstration) -> float:
    """Cosine between the gradients of imitation, of the target and of the source's rows."""
    own = imitation_gradient(source.policy, demo)
    return float(torch.nn.functional.cosine_similarity(own, source.gradient, 0))


def first_attempt(source: Source, target: str, demo: Demonstration) -> float:
    """Success of a policy with a memory, told nothing, in its first attempts."""
    assert source.memory is not None
    policy, meta = source.memory
    table = evaluate(
        Acting(policy, meta["tasks"]),
        (target,),
        _ATTEMPTS,
        conditioning=meta["conditioning"],
        known_tasks=meta["known"],
        seed=DEMO_SEED,
        variants="validation",
        engine=source.engine,
        sensors=meta["sensors"],
        episode_steps=meta["episode_steps"],
    )
    return summary(table)["mean_success"]


PREDICTORS = {
    "distance": Predictor(distance, -1, "structural distance to the nearest trained row"),
    "directed": Predictor(directed, -1, "share of its demands that no trained row has"),
    "disagreement": Predictor(disagreement, -1, "actions off the expert's, in one demonstration"),
    "cosine": Predictor(cosine, 1, "between gradients of imitation: of one demonstration each"),
    "first_attempt": Predictor(
        first_attempt, 1, "success of a policy with a memory in its first attempts", True
    ),
}


def imitation_gradient(policy: Any, demo: Demonstration) -> torch.Tensor:
    """Gradient (parameters,) of the actor's L1 distance from an expert's actions."""
    action = policy.actor(*actor_inputs(demo.observation))
    loss = (action - demo.action).abs().mean()
    parameters = [p for p in policy.actor.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(parameters, gradients, strict=True)
        ]
    )


def demonstration(meta: Mapping[str, Any], row: str, engine: str = "cpu") -> Demonstration:
    """One episode of a row's expert, with what the source's policy would be told.

    Args:
        meta: of the source's checkpoint.
        row: any row.
        engine: what runs the simulation.
    """
    env = expert_env(meta, row, 1, "validation", engine)
    observations, actions = expert_episodes(env, DEMO_SEED)
    env.close()
    index = meta["tasks"].index(row) if row in meta["tasks"] else 0
    observations["index"] = torch.full((len(actions), 1), float(index))
    return Demonstration(observations, actions)


def source_of(
    run: pathlib.Path,
    on_row: Callable[[str], None],
    memory: pathlib.Path | None = None,
    engine: str = "cpu",
    targets: Sequence[str] = (),
) -> Source:
    """The policy of a run, with the gradient of imitation on its own rows.

    Args:
        run: its folder.
        on_row: called with each row that is looked at.
        memory: run of a policy with a memory.
        engine: what runs the simulations, a row of `uncap.envs.engines.ENGINES`.
        targets: rows that it will be asked about, which a memory must not have seen.

    Raises:
        CheckpointError: see `load_policy`.
        RunError: see `beginnings.remembering`.
        ValueError: it has no actor whose gradient could be taken, or it has a memory.
    """
    policy, meta = load_policy(run / "checkpoint")
    if not hasattr(policy, "actor") or getattr(policy, "memory", None) is not None:
        raise ValueError(f"{run} cannot be asked: forecasts need a policy without a memory, of ppo")
    remembers = remembering(memory, targets) if memory else None
    total = torch.zeros(())
    for row in meta["tasks"]:
        total = total + imitation_gradient(policy, demonstration(meta, row, engine))
        on_row(row)
    gradient = total / len(meta["tasks"])
    return Source(policy, meta, gradient, remembers, engine)


def predictions(source: Source, target: str) -> dict[str, float]:
    """What each predictor says of a target."""
    demo = demonstration(source.meta, target, source.engine)
    return {
        name: row.predict(source, target, demo)
        for name, row in PREDICTORS.items()
        if source.memory or not row.asks_memory
    }


def outcomes(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """What is known of targets, by its name: zero-shot success, and the gain.

    Args:
        results: of the run.
    """
    held_out = (results.get("held_out") or {}).get("per_task", {})
    zero_shot = {name: row["success"] for name, row in held_out.items()}
    gain = {}
    for name, entry in results.get("transfer", {}).items():
        zero_shot[name] = entry["zero_shot"]
        final = entry["final"]
        if "fine_tune" in final and "scratch" in final:
            gain[name] = final["fine_tune"] - final["scratch"]
    return {"zero-shot success": zero_shot, "gain of fine_tune on scratch": gain}


def correlation(
    predicted: Sequence[float], found: Sequence[float], seed: int
) -> tuple[float, float, float] | None:
    """Spearman's rank correlation with its 95 % bootstrap interval over targets.

    Args:
        predicted: (targets,).
        found: (targets,).
        seed: of the bootstrap.

    Returns:
        None of fewer than LEAST_TARGETS, or where one of the two is the same for all.
    """
    if len(found) < LEAST_TARGETS or len(set(predicted)) < 2 or len(set(found)) < 2:
        return None

    def rank(a: np.ndarray, b: np.ndarray) -> float:
        found: Any = spearmanr(a, b)  # Any: its stubs lack the fields
        return float(found.statistic)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # resamples in which all are the same have none
        interval = bootstrap(
            (np.asarray(predicted), np.asarray(found)),
            rank,
            paired=True,
            vectorized=False,
            n_resamples=_DRAWS,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
        value = rank(np.asarray(predicted), np.asarray(found))
        resampled = interval.bootstrap_distribution
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    return value, float(low), float(high)


def correlations(
    predicted: Mapping[str, Mapping[str, float]],
    known: Mapping[str, Mapping[str, float]],
    seed: int,
) -> dict[str, dict[str, list[float] | None]]:
    """Rank correlations of each outcome with each predictor.

    Args:
        predicted: predictions by target.
        known: outcomes by kind and target.
        seed: of the bootstraps.
    """
    found: dict[str, dict[str, list[float] | None]] = {}
    for kind, values in known.items():
        targets = [target for target in predicted if target in values]
        if len(targets) < LEAST_TARGETS:
            continue
        found[kind] = {}
        for name in predicted[targets[0]]:
            pair = [predicted[t][name] for t in targets], [values[t] for t in targets]
            measured = correlation(*pair, seed)
            found[kind][name] = measured and list(measured)
    return found
