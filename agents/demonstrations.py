"""Demonstrations: episodes as a Minari dataset, and behaviour cloning.

The scripted experts act, or policies, or both by turns. In short bursts the hand acts at random
and has to recover (after DART, Laskey et al., 2017), so that the data hold more than the expert's
own path. `actions` are those that were executed, as Minari defines them. What the expert would
have done is `infos["expert_action"]`, and that is cloned; `infos["actor"]` says who acted.

A root folder holds datasets by id. Minari's own loader reads one as `minari.load_dataset(id)`
where MINARI_DATASETS_PATH names the root, and anywhere as
`minari.MinariDataset("<root>/<id>/data")`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import importlib.metadata
import json
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec

import uncap.envs
from uncap.agents import files
from uncap.agents.bursts import bursts_of
from uncap.agents.config import CloneConfig
from uncap.agents.dagger import Teacher
from uncap.agents.networks import MultiTaskPolicy, input_sizes
from uncap.envs import CLOSURES, TASK_SETS
from uncap.envs.experts import expert_action
from uncap.envs.observations import FULL, LIMIT, SIZE
from uncap.envs.tables import lookup

if TYPE_CHECKING:  # so that loading a policy loads no simulation
    from uncap.envs import ClosureVectorEnv

BY_HAND = "uncap/by-hand"  # dataset of what is recorded in `view`, see `append`
FORMAT = 1  # version of what `record` adds to Minari's metadata
_ENTROPY = 0xDE40  # separates the seeds of demonstrations from those of training and evaluation
_LARGEST_STATE = 6.0  # observations are cut off at 5, before noise
_CHUNK = 128  # sub-environments at a time
TEMPORARY = ".demos-"  # prefix of the folder of a recording that is not yet whole
_SPACES = ("observation_space", "action_space")
_READ_BY = ("data_format", "observation_space", "action_space", "total_episodes", "total_steps")
_PACKAGES = ("uncap", "mujoco", "gymnasium", "numpy", "minari", "h5py")  # versions are noted


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """What is recorded.

    Attributes:
        episodes: per task.
        seed: of starts and bursts.
        conditioning: what the observations tell of the task.
        perturb: share of random actions in the first half of an episode; the second half is for
            recovery.
        sensors: what the observations sense, a row of `uncap.envs.sensors.SENSORS`.
        known_tasks: rows that `one_hot` has components for.
        episode_steps: control steps of every episode; by default what each row says.
        engine: what runs the simulations, a row of `uncap.envs.engines.ENGINES`.
    """

    episodes: int = 20
    seed: int = 0
    conditioning: Any = "parameters"
    perturb: float = 0.2
    sensors: str = FULL
    known_tasks: Sequence[str] | None = None
    episode_steps: int | None = None
    engine: str = "cpu"

    @property
    def told(self) -> str:
        """The conditioning's name; vectors by task are those of sentences."""
        return self.conditioning if isinstance(self.conditioning, str) else "language"


class Actor(NamedTuple):
    """Who acts in a recording.

    Attributes:
        name: that the recording notes.
        policy: makes act(observation, task index) -> actions (n, 5) for an environment.
    """

    name: str
    policy: Callable[[ClosureVectorEnv], Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]]


def _expert(env: ClosureVectorEnv) -> Callable[..., np.ndarray]:
    """The scripted experts; they read the simulation, not the observation."""
    return lambda observation, task_index: expert_action(env.batch.measure())


EXPERT = Actor("expert", _expert)


def record(
    root: pathlib.Path,
    dataset_id: str,
    tasks: Sequence[str],
    config: DemoConfig,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    actors: Sequence[Actor] = (EXPERT,),
) -> pathlib.Path:
    """Run the experts, or policies, and write `<root>/<dataset_id>`, whole or not at all.

    Every task has a fixed quota of episodes, successful or not: Minari's episode e is number
    e // len(tasks) of tasks[e % len(tasks)]. It depends on the seed, its row and its number
    alone: an environment reset with the episode's `seed` repeats it from its `actions`.

    Args:
        root: folder of datasets; made if missing.
        dataset_id: Minari's, (namespace/)name-v0.
        tasks: rows of the table.
        config: settings.
        on_progress: called with (episodes done, all of them).
        actors: take turns: number k of a task's episodes is the k-th's, and then again the
            first's. All of them see the same observations.

    Returns:
        The dataset's folder.

    Raises:
        KeyError: no such row or conditioning.
        ValueError: a setting out of range; the dataset exists; no Minari.
    """
    minari = _minari()
    tasks = tuple(tasks)
    root = pathlib.Path(root).resolve()  # Minari joins a relative path to itself
    folder = root / dataset_id
    _check_request(minari, folder, dataset_id, tasks, config)
    names = [actor.name for actor in actors]
    notes = {**_notes(tasks, config), "actors": names}
    with _workplace(root, folder) as dataset:
        data = dataset / "data"
        storage = _write_episodes(minari, data, tasks, config, on_progress, actors)
        storage.update_metadata({"eval_env_spec": _environment(tasks, config).to_json()})
        algorithm = ", ".join("scripted experts" if n == EXPERT.name else n for n in names)
        _seal(storage, dataset, folder, algorithm, notes)
    return folder


def _environment(tasks: tuple[str, ...], config: DemoConfig) -> EnvSpec:
    """How Gymnasium makes the environment of a recording; `reset` takes a row of it by name.

    Minari has it as the environment for evaluation, `recover_environment(eval_env=True)`: as that
    of the recording, it would keep recordings of different rows from being combined.
    """
    choices = {
        "tasks": list(tasks),
        "conditioning": config.told,
        "known_tasks": None if config.known_tasks is None else list(config.known_tasks),
        "sensors": config.sensors,
        "episode_steps": config.episode_steps,
    }
    return EnvSpec("Uncap/Recorded-v0", entry_point="uncap.envs.env:of_set", kwargs=choices)


def append(root: pathlib.Path, recording: Recording) -> pathlib.Path:
    """Add an episode to what was recorded by hand in a folder: whole, or not at all.

    The episodes are one dataset, `BY_HAND` with the version v0 of one episode, v1 of two, and so
    on. The longer dataset is written beside the shorter one, which is then removed.

    Args:
        root: folder of datasets; made if missing.
        recording: the episode.

    Returns:
        The dataset's folder.

    Raises:
        ValueError: no steps; the dataset is damaged, or of other numbers of the row; no Minari.
        Busy: another process adds an episode there.
    """
    minari = _minari()
    if not recording.steps:
        raise ValueError("nothing was recorded: not one control step")
    root = pathlib.Path(root).resolve()
    older = _by_hand(root)
    number = 1 + _version(older[-1]) if older else 0
    folder = root / f"{BY_HAND}-v{number}"
    with _workplace(root, folder) as dataset:
        data = dataset / "data"
        minari_storage = minari.dataset.minari_storage.MinariStorage
        tasks = (recording.task,)
        if older:
            tasks = _tasks_with(older[-1], recording.task)
            _copy_unsealed(older[-1] / "data", data)
            storage = minari_storage.read(data)
        else:
            storage = minari_storage.new(data, *recording.spaces(), data_format="hdf5")
        episode = recording.episode(tasks.index(recording.task))
        storage.update_episodes([minari.data_collector.EpisodeBuffer(**episode)])
        notes = _notes(tasks, DemoConfig(storage.total_episodes, perturb=0.0))
        _seal(storage, dataset, folder, "by hand", notes)
    for path in older:
        (path / "data" / "metadata.json").unlink(missing_ok=True)  # half removed, it is no dataset
        shutil.rmtree(path, ignore_errors=True)
    return folder


def _by_hand(root: pathlib.Path) -> list[pathlib.Path]:
    """The datasets that `append` made in a folder, the longest last; there may be a shorter one."""
    place = root / BY_HAND
    found = [path for path in place.parent.glob(f"{place.name}-v*") if _version(path) >= 0]
    whole = [path for path in found if (path / "data" / "metadata.json").exists()]
    return sorted(whole, key=_version)


def _copy_unsealed(data: pathlib.Path, copy: pathlib.Path) -> None:
    """Copy a dataset's data, without what Minari lets nobody change: see `_seal`."""
    shutil.copytree(data, copy)
    stored = _read_metadata(copy / "metadata.json")
    for name in ("dataset_id", "minari_version"):
        stored.pop(name, None)
    (copy / "metadata.json").write_text(json.dumps(stored), encoding="utf-8")


def _version(folder: pathlib.Path) -> int:
    """The number of a dataset's version; -1 where it has none."""
    number = folder.name.rpartition("-v")[2]
    return int(number) if number.isascii() and number.isdigit() else -1


def _tasks_with(folder: pathlib.Path, task: str) -> tuple[str, ...]:
    """The tasks of a whole dataset, and one more if it is not among them.

    Raises:
        ValueError: it is damaged, or holds episodes of a row with other numbers.
    """
    load(folder)  # refuses what is damaged
    notes = metadata(folder)
    row = notes["rows"].get(task)
    if row is not None and row["vector"] != CLOSURES[task].vector.tolist():
        raise ValueError(f"{folder} holds {task} with other numbers: choose another --out")
    return tuple(dict.fromkeys((*notes["tasks"], task)))


class Recording:
    """One episode of one closure, as it is recorded, see `append`.

    What it was told or senses makes no difference: observations are the full state without noise
    and the row's own vector.

    Args:
        task: a row.
        seed: of the reset that the episode begins with.

    Attributes:
        steps: of each control step, what Minari holds of it.
    """

    def __init__(self, task: str, seed: int):
        self.task = task
        self.seed = seed
        self.steps: list[dict[str, Any]] = []
        self._seen: list[dict[str, Any]] = []  # before each control step, and at the end

    def see(self, state: np.ndarray, success: bool, progress: float) -> None:
        """Note what there is before a control step, or at the end.

        Args:
            state: (36,) full state without noise.
            success: see `ClosureVectorEnv`.
            progress: the same.
        """
        seen = {"state": state, "success": bool(success), "progress": float(progress)}
        self._seen.append(seen)

    def act(self, action: np.ndarray, reward: float, truncated: bool, by_hand: bool) -> None:
        """Note a control step.

        Args:
            action: (5,) float32, as it was executed.
            reward: that it got.
            truncated: whether the episode has ended.
            by_hand: whether a person acted.
        """
        self.steps.append(
            {"action": action, "reward": reward, "truncated": truncated, "by_hand": by_hand}
        )

    def spaces(self) -> tuple[gym.Space, gym.Space]:
        """Of its observations and actions."""
        sizes = {"state": SIZE, "task": len(CLOSURES[self.task].vector)}
        boxes: dict[str, gym.Space] = {
            name: gym.spaces.Box(-LIMIT, LIMIT, (n,), np.float32) for name, n in sizes.items()
        }
        return gym.spaces.Dict(boxes), gym.spaces.Box(-1.0, 1.0, (5,), np.float32)

    def episode(self, index: int) -> dict[str, Any]:
        """Arguments of Minari's EpisodeBuffer; the executed actions are the labels, too.

        Args:
            index: of the row among the dataset's tasks.
        """
        ends = [step["truncated"] for step in self.steps]
        actions = np.stack([step["action"] for step in self.steps])  # (steps, 5)
        by_hand = [step["by_hand"] for step in self.steps]
        n = len(self._seen)  # steps + 1
        vector = CLOSURES[self.task].vector
        return {
            "seed": self.seed,
            "actions": actions,
            "rewards": np.array([step["reward"] for step in self.steps]),
            "terminations": np.zeros(len(ends), bool),
            "truncations": np.array([*ends[:-1], True]),  # the last one may have been cut short
            "observations": {
                "state": np.stack([seen["state"] for seen in self._seen]),
                "task": np.tile(vector, (n, 1)),
            },
            "infos": {
                "success": np.array([seen["success"] for seen in self._seen]),
                "progress": np.array([seen["progress"] for seen in self._seen]),
                "task": np.full(n, index),
                "expert_action": np.concatenate([actions, actions[-1:]]),
                "perturbed": np.zeros(n, bool),
                "by_hand": np.array([*by_hand, by_hand[-1]]),
            },
        }


def _seal(
    storage: Any,
    dataset: pathlib.Path,
    folder: pathlib.Path,
    algorithm: str,
    notes: dict[str, Any],
) -> None:
    """Complete a dataset's metadata.

    Args:
        storage: Minari's, of `dataset / "data"`.
        dataset: where it was made.
        folder: where it belongs, `<root>/<dataset id>`.
        algorithm: who acted, in words.
        notes: see `_notes`; the digests are added.
    """
    data = dataset / "data"
    root = dataset.parent.parent
    notes["sha256"] = _digest(data)
    storage.update_metadata(
        {
            "dataset_id": folder.relative_to(root).as_posix(),
            "minari_version": _minari().__version__,
            "algorithm_name": algorithm,
            "description": f"A Panda opens: {', '.join(notes['tasks'])}",
        }
    )
    notes["notes_sha256"] = _notes_digest(notes, _read_metadata(data / "metadata.json"))
    storage.update_metadata({"uncap": notes})


def _workplace(
    root: pathlib.Path, folder: pathlib.Path
) -> contextlib.AbstractContextManager[pathlib.Path]:
    """A folder in root to fill, which becomes `folder`, see `files.making`."""
    return files.making(folder, root / f"{TEMPORARY}{'-'.join(folder.relative_to(root).parts)}")


def _check_request(
    minari: Any,
    folder: pathlib.Path,
    dataset_id: str,
    tasks: tuple[str, ...],
    config: DemoConfig,
) -> None:
    """Raise what `record` raises for arguments that it cannot serve."""
    for name in tasks:
        lookup(CLOSURES, name, "closure")
    different = len(set(tasks)) == len(tasks) > 0
    in_range = config.episodes >= 1 and config.seed >= 0 and 0 <= config.perturb < 1
    if not different or not in_range:
        raise ValueError(
            "needed: different tasks, episodes from 1, a seed from 0, perturb in [0, 1); "
            f"not {len(tasks)} tasks, {config}"
        )
    match = minari.dataset.minari_dataset.DATASET_ID_RE.fullmatch(dataset_id)
    if not match or not match["version"]:
        raise ValueError(f"{dataset_id!r} is no dataset id of Minari's, such as uncap/first-v0")
    files.check_free(folder)


def _notes(tasks: tuple[str, ...], config: DemoConfig) -> dict[str, Any]:
    """What `record` adds to Minari's metadata, but for the digest."""
    rows = {}
    for name in tasks:
        row = CLOSURES[name]
        rows[name] = {**dataclasses.asdict(row), "vector": row.vector.tolist()}
    return {
        "format": FORMAT,
        "commit": _commit(),
        "tasks": tasks,
        **dataclasses.asdict(dataclasses.replace(config, conditioning=config.told)),
        "splits": {split.name: split.hash for split in TASK_SETS.values() if split.train == tasks},
        "rows": rows,
        "versions": {
            package.name: package.version
            for package in importlib.metadata.distributions()
            if package.name in _PACKAGES
        },
    }


def _episode_seeds(tasks: tuple[str, ...], config: DemoConfig) -> np.ndarray:
    """Seeds (episodes, tasks); a task's do not depend on the other tasks."""
    columns = []
    for name in tasks:
        sequence = np.random.SeedSequence([_ENTROPY, config.seed, *name.encode()])
        columns.append(sequence.generate_state(config.episodes))  # (episodes,)
    return np.stack(columns, 1)


def _write_episodes(
    minari: Any,
    data: pathlib.Path,
    tasks: tuple[str, ...],
    config: DemoConfig,
    on_progress: Callable[[int, int], None],
    actors: Sequence[Actor],
) -> Any:
    """Record all episodes, some at a time, into the new folder data; returns Minari's storage."""
    seeds = _episode_seeds(tasks, config)  # (episodes, tasks)
    per_task = max(1, _CHUNK // len(tasks))  # episodes of each task at a time
    storage = None
    for first in range(0, config.episodes, per_task):
        chunk = seeds[first : first + per_task].ravel().tolist()
        env = uncap.envs.ClosureVectorEnv(
            tasks,
            len(chunk),
            conditioning=config.conditioning,
            known_tasks=config.known_tasks,
            sensors=config.sensors,
            episode_steps=config.episode_steps,
            autoreset_mode="Disabled",
            engine=config.engine,
        )
        # sub-environment i has number first + i // len(tasks) of its task's episodes
        turns = (first + np.arange(len(chunk)) // len(tasks)) % len(actors)  # (n,)
        if storage is None:
            storage = minari.dataset.minari_storage.MinariStorage.new(
                data, env.single_observation_space, env.single_action_space, data_format="hdf5"
            )
        episodes = _episodes(env, chunk, config.perturb, actors, turns)
        buffers = [minari.data_collector.EpisodeBuffer(**episode) for episode in episodes]
        storage.update_episodes(buffers)
        env.close()
        on_progress(first * len(tasks) + len(chunk), seeds.size)
    return storage


@dataclasses.dataclass(frozen=True)
class _Rollout:
    """One episode of each of n sub-environments, all as long as the longest.

    Attributes:
        lengths: control steps of each episode (n,).
        steps: actions, rewards and ends (n, longest, ...).
        observations: (n, longest + 1, ...); they include those at the end.
        infos: (n, longest + 1, ...).
    """

    lengths: np.ndarray
    steps: dict[str, np.ndarray]
    observations: dict[str, np.ndarray]
    infos: dict[str, np.ndarray]


def _episodes(
    env: ClosureVectorEnv,
    seeds: list[int],
    perturb: float,
    actors: Sequence[Actor],
    turns: np.ndarray,
) -> Iterator[dict[str, Any]]:
    """One episode of every sub-environment, as arguments of Minari's EpisodeBuffer."""
    rollout = _run(env, seeds, perturb, actors, turns)
    for i, length in enumerate(rollout.lengths):
        yield {
            "seed": seeds[i],
            **{name: values[i, :length] for name, values in rollout.steps.items()},
            "observations": {
                name: values[i, : length + 1] for name, values in rollout.observations.items()
            },
            "infos": {name: values[i, : length + 1] for name, values in rollout.infos.items()},
        }


def _run(
    env: ClosureVectorEnv,
    seeds: list[int],
    perturb: float,
    actors: Sequence[Actor],
    turns: np.ndarray,
) -> _Rollout:
    """Act in all n sub-environments until the longest episode ends.

    Args:
        env: the environment.
        seeds: of the episodes (n,).
        perturb: see `DemoConfig`.
        actors: who acts.
        turns: index of the actor of each sub-environment (n,).
    """
    observation, info = env.reset(seed=seeds)
    lengths = env.max_steps.copy()  # (n,)
    longest = lengths.max()
    perturbed, random_actions = bursts_of(seeds, lengths, perturb)
    steps = []
    observations = []
    infos = []
    ended = np.zeros(env.num_envs, bool)
    policies = [actor.policy(env) for actor in actors]
    for t in range(longest + 1):
        label = expert_action(env.batch.measure()).astype(np.float32)  # (n, 5)
        observations.append(observation)
        infos.append(
            {
                "success": info["success"],
                "progress": info["progress"],
                "task": info["task_index"],
                "expert_action": label,
                "perturbed": perturbed[t],
                "actor": turns,
            }
        )
        if ended.any() and t < longest:  # they wait for the others in new episodes
            observation, info = env.reset(options={"reset_mask": ended})
        if t < longest:
            chosen = label.copy()  # (n, 5)
            for k, act in enumerate(policies):
                if actors[k] is not EXPERT:
                    own = np.clip(act(observation, info["task_index"]), -1.0, 1.0)
                    chosen[turns == k] = own[turns == k]
            action = np.where(perturbed[t, :, None], random_actions[t], chosen)  # (n, 5)
            for act in policies:
                if recall := getattr(act, "recall", None):  # it remembers what was done
                    recall.acted(action)
            observation, reward, terminated, truncated, info = env.step(action)
            ended = terminated | truncated
            steps.append(
                {
                    "actions": action,
                    "rewards": reward,
                    "terminations": terminated,
                    "truncations": truncated,
                }
            )
    return _Rollout(lengths, _stacked(steps), _stacked(observations), _stacked(infos))


def _stacked(steps: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays (n, ...) of each control step as arrays (n, steps, ...)."""
    return {name: np.stack([step[name] for step in steps], 1) for name in steps[0]}


def metadata(folder: pathlib.Path) -> dict[str, Any]:
    """What `record` noted, and `data`, the path that Minari reads.

    Datasets without such notes, such as those that `minari.combine_datasets` makes, are read by
    what they hold: their rows are those whose vectors were observed.

    Args:
        folder: of a dataset, or a root that holds one.

    Returns:
        Tasks, rows, settings, commit, versions and so on, see `_notes`; of other datasets, tasks
        only.

    Raises:
        ValueError: the folder has no dataset, several, or a damaged one.
    """
    path = _find_metadata(pathlib.Path(folder))
    stored = _read_metadata(path)
    if "uncap" not in stored:
        return {"tasks": _observed_rows(path.parent), "data": path.parent}
    notes = stored["uncap"]
    if not isinstance(notes, dict) or notes.get("format") != FORMAT:
        raise ValueError(f"{path} is damaged, or not of this version of Uncap: record it again")
    expected = notes.pop("notes_sha256", None)  # older recordings have none
    if expected not in (None, _notes_digest(notes, stored)) or not _are_names(notes.get("tasks")):
        raise ValueError(f"{path} is damaged, or was changed by hand: record it again")
    return {**notes, "data": path.parent}


def _read_metadata(path: pathlib.Path) -> dict[str, Any]:
    """Minari's metadata.

    Raises:
        FileError: damaged.
    """
    stored = files.read_json(path, "record it again")
    if stored.get("data_format") != "hdf5":
        raise ValueError(f"{path} is damaged, or no dataset that Uncap reads: no data_format hdf5")
    # Without them Minari makes the environment that the file names, which runs any code.
    if not all(isinstance(stored.get(name), str) for name in _SPACES):
        raise ValueError(f"{path} is damaged: it lacks {' or '.join(_SPACES)}; record it again")
    return stored


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _notes_digest(notes: dict[str, Any], stored: dict[str, Any]) -> str:
    """Digest of our notes, and of what Minari must know to read the arrays."""
    read_by = {name: stored.get(name) for name in _READ_BY}
    return files.digest({"notes": notes, "minari": read_by})


def _observed_rows(data: pathlib.Path) -> list[str]:
    """The rows of a dataset without notes, in the order of their first episodes.

    Raises:
        ValueError: not readable, or its observations do not tell the rows.
    """
    vectors = [steps["task"][0] for steps in _read_steps(data) if len(steps["task"])]
    return list(dict.fromkeys(_row_of(vector, data) for vector in vectors))


def _row_of(vector: np.ndarray, data: pathlib.Path) -> str:
    """The row whose vector was observed."""
    for name, row in CLOSURES.items():
        if np.array_equal(vector, row.vector):
            return name
    raise ValueError(
        f"{data} has no notes of Uncap's, and its observations do not tell the rows: only what was "
        'recorded with conditioning "parameters", of registered rows, can be combined'
    )


def _find_metadata(folder: pathlib.Path) -> pathlib.Path:
    """The metadata file of the one dataset in folder; recordings not yet whole do not count."""
    found = [
        path
        for path in sorted(folder.glob("**/metadata.json"))
        if not any(part.startswith(TEMPORARY) for part in path.relative_to(folder).parts)
    ]
    if len(found) != 1:
        datasets = ", ".join(str(path.parent.parent) for path in found)
        raise ValueError(
            f"{folder} holds {len(found)} datasets, not one: {datasets or 'record it'}"
        )
    return found[0]


def task_indices(folder: pathlib.Path, tasks: Sequence[str]) -> np.ndarray:
    """Where the tasks of a recording are among tasks.

    Args:
        folder: see `metadata`.
        tasks: rows, all of which must have been recorded.

    Returns:
        (recorded tasks,) int, -1 for a recorded task that is not among tasks. Indexed by `index`
        of `load`, it gives the index in tasks of every step.

    Raises:
        ValueError: see `metadata`; or a task was not recorded.
    """
    recorded = metadata(folder)["tasks"]
    missing = [name for name in tasks if name not in recorded]
    if missing:
        raise ValueError(
            f"{folder} has no demonstrations of {', '.join(missing)} "
            f"(recorded: {', '.join(recorded)})"
        )
    return np.array([tasks.index(name) if name in tasks else -1 for name in recorded])


def load(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The control steps of all episodes, one after the other.

    Args:
        folder: see `metadata`.

    Returns:
        Arrays by name:
            state: (n, observations.SIZE x history), as observed.
            task: task vector (n, size; 0 where there is none), as observed.
            label: the expert's action (n, 5).
            index: of the row in the dataset's tasks (n,).
            success: of the episode's end, bool (n,).
            episode: number of the episode (n,).

    Raises:
        ValueError: see `metadata`; the data are damaged; no Minari.
    """
    _minari()
    notes = metadata(folder)
    data = notes["data"]
    if "sha256" in notes and _digest(data) != notes["sha256"]:
        raise ValueError(
            f"cannot read the demonstrations in {folder}: damaged, not what was recorded; record "
            "them again"
        )
    episodes = list(_read_steps(data))
    if not episodes:
        raise ValueError(f"cannot read the demonstrations in {folder}: it has no episodes")
    if "sha256" not in notes:  # indices of combined recordings are those of their parts
        for steps in episodes:
            name = _row_of(steps["task"][0], data)
            steps["index"] = np.full(len(steps["index"]), notes["tasks"].index(name))
    try:
        arrays = {name: np.concatenate([steps[name] for steps in episodes]) for name in episodes[0]}
    except ValueError as error:
        raise ValueError(f"the episodes in {data} differ in shape: {error}") from None
    if problem := _problem(arrays, len(notes["tasks"])):
        raise ValueError(f"{data} is damaged: {problem}; record it again")
    return arrays


def _read_steps(data: pathlib.Path) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of every episode.

    Raises:
        ValueError: the data cannot be read; no Minari.
    """
    minari = _minari()
    try:
        for episode in minari.MinariDataset(data.resolve()):
            yield _labelled_steps(episode)
    except Exception as error:  # of h5py, of Minari, of Gymnasium: whatever damage leads to
        problem = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot read the demonstrations in {data}: {problem}") from None


def _problem(arrays: dict[str, np.ndarray], tasks: int) -> str | None:
    """What is wrong with the arrays of `load`; None if nothing is."""
    n = len(arrays["index"])
    shapes = {"state": (n, arrays["state"].shape[-1]), "label": (n, 5), "index": (n,)}
    shapes |= {"task": (n, arrays["task"].shape[-1]), "success": (n,), "episode": (n,)}
    wrong = [name for name, shape in shapes.items() if arrays[name].shape != shape]
    if not n or wrong:
        return f"{', '.join(wrong) or 'no steps'}: another shape"
    numbers = [arrays[name] for name in ("state", "task", "label")]
    if any(values.dtype.kind != "f" or not np.isfinite(values).all() for values in numbers):
        return "values are no finite numbers"
    if np.abs(arrays["label"]).max() > 1 or np.abs(arrays["state"]).max() > _LARGEST_STATE:
        return "values are out of range"
    index = arrays["index"]
    if index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= tasks:
        return f"a step belongs to none of the {tasks} rows"
    return None


def _labelled_steps(episode: Any) -> dict[str, np.ndarray]:
    """The arrays of `load` for one of Minari's episodes, without the observation at its end."""
    steps = len(episode)
    no_vector = np.zeros((steps + 1, 0), np.float32)
    task = episode.observations.get("task", no_vector)
    return {
        "state": episode.observations["state"][:steps],
        "task": task[:steps],
        "label": episode.infos["expert_action"][:steps],
        "index": episode.infos["task"][:steps],
        "success": np.full(steps, episode.infos["success"][-1]),
        "episode": np.full(steps, episode.id),
    }


def clone(
    policy: MultiTaskPolicy,
    data: dict[str, np.ndarray],
    config: CloneConfig,
    rng: np.random.Generator,
    on_epoch: Callable[[int, float], bool] = lambda done, loss: True,
) -> None:
    """Teach a policy's actor the expert's actions: L1 on the mean action, by Adam.

    Args:
        policy: made for the data's tasks in their order; its actor is trained in place.
        data: of `load`, or a selection of its steps.
        config: settings.
        rng: draws minibatches.
        on_epoch: called with (epochs done, mean loss) after each; returns whether to go on.

    Raises:
        ValueError: no data, or a policy that is made for other observations or fewer tasks.
    """
    Cloning(policy, data, config, rng).run(on_epoch)


class Cloning(Teacher):
    """Behaviour cloning, see `clone`; between two epochs its state can be saved.

    Args:
        policy: see `clone`.
        data: see `clone`.
        config: settings.
        rng: draws minibatches.
        state: to go on from; the policy is in the state that it had then.

    Raises:
        ValueError: see `clone`.
    """

    def __init__(
        self,
        policy: MultiTaskPolicy,
        data: dict[str, np.ndarray],
        config: CloneConfig,
        rng: np.random.Generator,
        state: Mapping[str, Any] | None = None,
    ):
        _check_fits(policy, data)
        super().__init__(policy, config, config.epochs, rng, fused=False)
        names = ("state", "task", "index", "label")
        self.tensors = {name: torch.as_tensor(data[name]) for name in names}
        if state is not None:
            self.load(state)

    def run(self, on_epoch: Callable[[int, float], bool]) -> None:
        """Teach the epochs that are left, see `clone`."""
        while self.done < self.fits:
            loss = self.fit(self.tensors)
            if not on_epoch(self.done, loss):
                return


def _check_fits(policy: MultiTaskPolicy, data: dict[str, np.ndarray]) -> None:
    """Raise what `clone` raises for data that do not fit the policy."""
    sizes = input_sizes(policy.observation_space)  # (state, task vector)
    given_sizes = (data["state"].shape[1], data["task"].shape[1])
    given_tasks = int(data["index"].max(initial=-1)) + 1  # 0 where there are no data
    if given_sizes != sizes or not 0 < given_tasks <= policy.num_tasks:
        raise ValueError(
            f"demonstrations of (state, task vector, tasks) {(*given_sizes, given_tasks)} "
            f"do not fit a policy made for {(*sizes, policy.num_tasks)}"
        )


def _digest(data: pathlib.Path) -> str:
    """SHA-256 of the file that holds a dataset's arrays."""
    try:
        with open(data / "main_data.hdf5", "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise ValueError(f"{data} has no arrays, main_data.hdf5: record it again") from None


def check_installed() -> None:
    """Refuse to go on without Minari.

    Raises:
        ValueError: it is not installed.
    """
    _minari()


def _minari() -> Any:
    """The library, which is optional.

    Raises:
        ValueError: it is not installed.
    """
    try:
        importlib.import_module("h5py")  # in which Minari stores
        return importlib.import_module("minari")
    except ImportError:
        raise ValueError('demonstrations need Minari: pip install "uncap[demos]"') from None


def _commit() -> str:
    """Commit of the checkout, with -dirty where tracked files were changed; or "unknown"."""
    root = pathlib.Path(__file__).resolve().parent.parent
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
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
        return done.stdout.strip()
    except (OSError, UnicodeDecodeError, subprocess.CalledProcessError):
        return "unknown"
