"""Demonstrations: episodes of the scripted experts as a Minari dataset, and behaviour cloning from them.

In short bursts the hand acts at random and the expert has to recover (after DART, Laskey et al.,
2017), so that the data hold more than the expert's own path. As Minari wants, `actions` are those
that were executed; what the expert would have done is `infos["expert_action"]`, and is cloned. A root
folder holds datasets by id. Minari's own loader reads one as `minari.load_dataset(id)` where
MINARI_DATASETS_PATH names the root, anywhere as `minari.MinariDataset("<root>/<id>/data")`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from agents.config import CloneConfig
from agents.dagger import fit
from agents.networks import MultiTaskPolicy
from envs import CLOSURES, TASK_SETS, ClosureVectorEnv
from envs.experts import expert_action
from envs.tables import lookup

FORMAT = 1  # of what `record` adds to Minari's metadata
BURST = 4  # control steps of the longest burst of random actions: 0.2 s
_ENTROPY = 0xDE40  # separates the starts of demonstrations from those of training and evaluation
_CHUNK = 128  # sub-environments at a time


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """What is recorded."""

    episodes: int = 20  # per task
    seed: int = 0  # of starts and bursts
    conditioning: str = "parameters"  # what observations tell of the task
    perturb: float = 0.2  # share of random actions in the first half of an episode; the second half is for recovery


def record(
    root: pathlib.Path,
    dataset_id: str,
    tasks: Sequence[str],
    config: DemoConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> pathlib.Path:
    """Run the experts, write `<root>/<dataset_id>`, whole or not at all, and return that folder.

    Every task has a fixed quota of episodes, successful or not: Minari's episode e is number
    e // len(tasks) of tasks[e % len(tasks)]. It depends on the seed, its row and its number
    alone: an environment reset with the episode's `seed` repeats it from its `actions`.

    Args:
        root: folder of datasets; made if missing.
        dataset_id: Minari's, (namespace/)name-v0.
        tasks: rows of the table.
        config: settings.
        on_progress: called with (episodes done, all of them).

    Raises:
        KeyError, ValueError: no such row or conditioning; a setting out of range; the dataset exists; no Minari.
    """
    minari, tasks, target = _minari(), tuple(tasks), pathlib.Path(root) / dataset_id
    packages = ("uncap", "mujoco", "gymnasium", "numpy", "minari", "h5py")
    rows = {name: lookup(CLOSURES, name, "closure") for name in tasks}
    if (
        len(rows) != len(tasks)
        or not rows
        or config.episodes < 1
        or config.seed < 0
        or not 0 <= config.perturb < 1
    ):
        raise ValueError(
            f"needed: different tasks, episodes from 1, a seed from 0, perturb in [0, 1); not {len(tasks)} tasks, {config}"
        )
    named = minari.dataset.minari_dataset.DATASET_ID_RE.fullmatch(dataset_id)
    if not named or not named["version"]:
        raise ValueError(f"{dataset_id!r} is no dataset id of Minari's, such as uncap/first-v0")
    if target.exists():
        raise ValueError(f"{target} exists: choose another --out, or remove it first")
    noted = {
        "format": FORMAT,
        "commit": _commit(),
        "tasks": tasks,
        **dataclasses.asdict(config),
        "splits": {s.name: s.hash for s in TASK_SETS.values() if s.train == tasks},
        "rows": {
            name: {**dataclasses.asdict(row), "vector": row.vector.tolist()}
            for name, row in rows.items()
        },
        "versions": {
            d.name: d.version for d in importlib.metadata.distributions() if d.name in packages
        },
    }
    seeds = np.stack(
        [
            np.random.SeedSequence([_ENTROPY, config.seed, *t.encode()]).generate_state(
                config.episodes
            )
            for t in tasks
        ],
        1,
    )
    share = max(1, _CHUNK // len(tasks))  # episodes per task at a time
    pathlib.Path(root).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demos-", dir=root) as temporary:
        data, storage = pathlib.Path(temporary) / "dataset" / "data", None
        data.parent.mkdir()
        for low in range(0, config.episodes, share):
            some = seeds[low : low + share].ravel().tolist()
            env = ClosureVectorEnv(
                tasks, len(some), conditioning=config.conditioning, autoreset_mode="Disabled"
            )
            spaces = env.single_observation_space, env.single_action_space
            storage = storage or minari.dataset.minari_storage.MinariStorage.new(
                data, *spaces, data_format="hdf5"
            )
            storage.update_episodes(
                [
                    minari.data_collector.EpisodeBuffer(**e)
                    for e in _episodes(env, some, config.perturb)
                ]
            )
            env.close()
            on_progress(low * len(tasks) + len(some), seeds.size)
        noted["sha256"] = _digest(data)
        storage.update_metadata(
            {
                "dataset_id": dataset_id,
                "minari_version": minari.__version__,
                "algorithm_name": "scripted experts",
                "description": f"A Panda opens: {', '.join(tasks)}",
                "uncap": noted,
            }
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(data.parent, target)
    return target


def _episodes(env: ClosureVectorEnv, seeds: list[int], perturb: float) -> Iterator[dict]:
    """One episode of every sub-environment, as arguments of Minari's EpisodeBuffer; observations and infos are one longer."""
    observation, info = env.reset(seed=seeds)
    lengths, done, seen, told = env.max_steps.copy(), [], [], []
    drawn = [
        _bursts(np.random.default_rng([_ENTROPY, s]), n, lengths.max(), perturb)
        for s, n in zip(seeds, lengths, strict=True)
    ]
    burst, chance = (
        np.stack(x, 1) for x in zip(*drawn, strict=True)
    )  # (steps + 1, n) and (steps + 1, n, 5)
    for t in range(lengths.max() + 1):
        label = expert_action(env.batch.measure()).astype(np.float32)  # (n, 5)
        seen.append(observation)
        told.append(
            {
                **{k: info[k] for k in ("success", "progress", "task")},
                "expert_action": label,
                "perturbed": burst[t],
            }
        )
        if t < lengths.max():
            action = np.where(burst[t, :, None], chance[t], label)
            observation, reward, terminated, truncated, info = env.step(action)
            done.append(
                {
                    "actions": action,
                    "rewards": reward,
                    "terminations": terminated,
                    "truncations": truncated,
                }
            )
    done, seen, told = (
        {k: np.stack([step[k] for step in steps], 1) for k in steps[0]}
        for steps in (done, seen, told)
    )  # (n, steps, ...)
    for i, n in enumerate(lengths):
        yield {
            "seed": seeds[i],
            **{k: v[i, :n] for k, v in done.items()},
            "observations": {k: v[i, : n + 1] for k, v in seen.items()},
            "infos": {k: v[i, : n + 1] for k, v in told.items()},
        }


def _bursts(
    rng: np.random.Generator, steps: int, longest: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """When to act at random, bool (longest + 1,), and how, float32 (longest + 1, 5): one action per burst."""
    burst, chance, t = np.zeros(longest + 1, bool), np.zeros((longest + 1, 5), np.float32), 0
    start = share / (
        share + (1 - share) * (BURST + 1) / 2
    )  # probability, so that `share` of the steps lie in bursts
    while t < steps // 2:
        length = int(rng.integers(1, BURST + 1)) if rng.random() < start else 0
        burst[t : t + length], chance[t : t + length] = True, rng.uniform(-1, 1, 5)
        t += max(1, length)
    return burst, chance


def metadata(folder: pathlib.Path) -> dict:
    """What `record` noted (tasks, rows, settings, commit, versions), and `data`, the path that Minari reads. Raises as `load`."""
    found = [
        p
        for p in sorted(pathlib.Path(folder).glob("**/metadata.json"))
        if not any(x.startswith(".demos-") for x in p.parts)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{folder} holds {len(found)} datasets, not one: {', '.join(str(p.parent.parent) for p in found) or 'record it'}"
        )
    try:
        noted = json.loads(found[0].read_text())["uncap"]
    except (ValueError, KeyError, TypeError):
        noted = None
    if not isinstance(noted, dict) or noted.get("format") != FORMAT:
        raise ValueError(f"{found[0]} is damaged, or not of this version of Uncap")
    return {**noted, "data": found[0].parent}


def load(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The control steps of all episodes, one after the other, as arrays by name.

    `state` (n, 32 x history) and `task` (n, size; 0 where there is none), as observed; `label` (n, 5), the expert's action;
    `index` (n,), of the row in the dataset's tasks; `success` (n,) bool, of the episode's end; `episode` (n,).

    Raises:
        ValueError: the folder, of a dataset or a root with one, has none, several, or a damaged one; no Minari.
    """
    minari, noted, steps = _minari(), metadata(folder), []
    try:
        if _digest(noted["data"]) != noted["sha256"]:
            raise ValueError("damaged, not what was recorded")
        for e in minari.MinariDataset(noted["data"]):
            task = e.observations.get("task", np.zeros((len(e) + 1, 0), np.float32))
            whole = {
                "state": e.observations["state"],
                "task": task,
                "label": e.infos["expert_action"],
                "index": e.infos["task"],
            }
            steps.append(
                {
                    **{k: v[: len(e)] for k, v in whole.items()},
                    "success": np.full(len(e), e.infos["success"][-1]),
                    "episode": np.full(len(e), e.id),
                }
            )
        return {name: np.concatenate([s[name] for s in steps]) for name in steps[0]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(
            f"cannot read the demonstrations in {folder}: {' '.join(str(error).split())}"
        ) from None


def clone(
    policy: MultiTaskPolicy,
    data: dict[str, np.ndarray],
    config: CloneConfig,
    rng: np.random.Generator,
    on_epoch: Callable[[int, float], bool] = lambda done, loss: True,
) -> None:
    """Teach the actor of a policy, made for the data's tasks in their order, the expert's actions (L1 on the mean action, Adam).

    Args:
        policy: its actor is trained in place.
        data: of `load`, or a selection of its steps.
        config: settings.
        rng: draws minibatches.
        on_epoch: called with (epochs done, mean loss) after each; returns whether to go on.

    Raises:
        ValueError: no data, or a policy that is made for other observations or fewer tasks.
    """
    spaces = policy.observation_space.spaces
    takes = (
        *(spaces[k].shape[0] if k in spaces else 0 for k in ("state", "task")),
        policy.num_tasks,
    )
    given = (data["state"].shape[1], data["task"].shape[1], int(data["index"].max(initial=-1)) + 1)
    if given[:2] != takes[:2] or not 0 < given[2] <= takes[2]:
        raise ValueError(
            f"demonstrations of (state, task vector, tasks) {given} do not fit a policy made for {takes}"
        )
    optimizer = torch.optim.Adam(policy.actor.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, config.epochs)
    tensors = {k: torch.as_tensor(data[k]) for k in ("state", "task", "index", "label")}
    for epoch in range(config.epochs):
        loss = fit(policy, optimizer, tensors, config.updates, config.minibatch, rng)
        schedule.step()
        if not on_epoch(epoch + 1, loss):
            return


def _digest(data: pathlib.Path) -> str:
    return hashlib.sha256((data / "main_data.hdf5").read_bytes()).hexdigest()


def _minari():
    try:
        importlib.import_module("h5py")  # in which Minari stores
        return importlib.import_module("minari")
    except ImportError:
        raise ValueError('demonstrations need Minari: pip install "uncap[demos]"') from None


def _commit() -> str:  # of the checkout; -dirty where tracked files were changed
    root = pathlib.Path(__file__).parent.parent
    command = [
        "git",
        f"--git-dir={root}/.git",
        f"--work-tree={root}",
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
