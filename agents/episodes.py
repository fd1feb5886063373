"""Episodes of the scripted experts, as labelled states that a policy can be fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from uncap.agents.bursts import bursts_of
from uncap.agents.dagger import Tensors
from uncap.envs import ClosureVectorEnv
from uncap.envs.experts import expert_action
from uncap.envs.pool import VARIANT_STREAMS


def expert_env(
    meta: Mapping[str, Any],
    row: str,
    episodes: int,
    variants: str = "train",
    engine: str = "cpu",
) -> ClosureVectorEnv:
    """Where a row's expert plays episodes, with what a policy would see and be told.

    Args:
        meta: of the policy's checkpoint, see `policy.load_policy`.
        row: any row.
        episodes: one in each sub-environment.
        variants: from which stream they are drawn, a row of `pool.VARIANT_STREAMS`.
        engine: what runs the simulations, a row of `engines.ENGINES`.
    """
    return ClosureVectorEnv(
        row,
        episodes,
        conditioning=meta["conditioning"],
        known_tasks=meta["known"],
        sensors=meta["sensors"],
        variant_seed=VARIANT_STREAMS[variants],
        autoreset_mode="Disabled",
        episode_steps=meta["episode_steps"],
        threads=1,
        engine=engine,
    )


def expert_episodes(
    env: ClosureVectorEnv, seed: int, perturb: float = 0.0
) -> tuple[Tensors, torch.Tensor]:
    """What is observed in an episode of each sub-environment, played by the expert; its actions.

    Args:
        env: with autoreset disabled, and episodes of one length.
        seed: of the starts.
        perturb: share of the steps in the first half of the episodes in which the hand acts at
            random, in short bursts; what the expert would have done is recorded of these, too.

    Returns:
        Observations (steps x n, ...) by name, and actions (steps x n, a), step by step.
    """
    observation, _ = env.reset(seed=seed)
    seeds = [seed + number for number in range(env.num_envs)]
    is_random, drawn = bursts_of(seeds, env.max_steps, perturb)
    seen: list[dict[str, np.ndarray]] = []
    actions: list[np.ndarray] = []
    done = False
    while not done:
        step = len(seen)
        seen.append(observation)
        actions.append(expert_action(env.batch.measure()))
        acted = np.where(is_random[step, :, None], drawn[step], actions[-1])
        observation, _, _, truncated, _ = env.step(acted)
        done = bool(truncated.all())
    names = seen[0]
    stacked = {n: torch.as_tensor(np.concatenate([step[n] for step in seen])) for n in names}
    return stacked, torch.as_tensor(np.concatenate(actions), dtype=torch.float32)


def labelled(
    meta: Mapping[str, Any],
    row: str,
    episodes: int,
    seed: int,
    perturb: float = 0.0,
    engine: str = "cpu",
) -> Tensors:
    """Labelled states of episodes of a row's expert: state, task, index, label, episode, and rgb.

    Args:
        meta: of the policy's checkpoint, see `policy.load_policy`.
        row: any row.
        episodes: how many.
        seed: of the starts.
        perturb: see `expert_episodes`.
        engine: see `expert_env`.

    Returns:
        (steps x episodes, ...) each; index is 0, episode (steps x episodes,) is the number, rgb
        (steps x episodes, pixels) uint8 is there where the policy sees pictures.
    """
    env = expert_env(meta, row, episodes, engine=engine)
    observations, actions = expert_episodes(env, seed, perturb)
    env.close()
    count = len(actions)
    seen = {"rgb": observations["rgb"].flatten(1)} if "rgb" in observations else {}
    return {
        "state": observations["state"],
        "task": observations.get("task", torch.zeros(count, 0)),
        "index": torch.zeros(count, dtype=torch.long),
        "label": actions,
        "episode": torch.arange(count) % episodes,
        **seen,
    }
