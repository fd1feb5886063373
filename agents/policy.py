"""Policies outside a training: `load` gives one that acts on observations alone.

Nothing here needs the simulation: networks are built from what a checkpoint says of their sizes.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch

from uncap.agents import checkpoints
from uncap.agents.algorithm import Algorithm, load_weights
from uncap.agents.config import NetworkConfig
from uncap.agents.encoder import flat_pictures
from uncap.agents.memory import Recall, told_size
from uncap.agents.pretrained import located
from uncap.agents.tables import ALGORITHMS
from uncap.envs.conditioning import CONDITIONINGS, told, vectors
from uncap.envs.observations import FULL, LIMIT, SIZE, layout, stage_in
from uncap.envs.panda import ACTIONS
from uncap.envs.sensors import PICTURE_SHAPE, SENSORS
from uncap.envs.tables import UnknownName, lookup

if TYPE_CHECKING:
    from uncap.envs import ClosureVectorEnv

EXPORTED = ".onnx"  # suffix of files that `exported.export` writes
CHECKPOINT = "checkpoint"  # folder of a run's policy
Arrays = dict[str, np.ndarray]
Acts = Callable[[Arrays, bool], tuple[np.ndarray, np.ndarray | None]]
"""acts({state (n, s), task (n, t), index (n, 1), rgb?}, deterministic) -> actions (n, 5), memory

With a memory, it reads `memory` (n, m), what it kept, and `begins` (n, 1), whether an attempt
begins, in place of the task; and gives what it keeps now, (n, m)."""


@dataclasses.dataclass(frozen=True)
class Reads:
    """What a policy reads, of which tasks it knows, and in which episodes it was trained.

    Attributes:
        sensors: what a state is made of, a row of `sensors.SENSORS`.
        states: how many of the last states it reads.
        conditioning: what it is told of its task, a row of `conditioning.CONDITIONINGS`.
        tasks: rows that it was trained on, in the order of their indices.
        known: rows that `one_hot` has components for.
        vectors: task vectors (t,) by name; (MOST_STAGES + 1, t) where they change with the stage.
        task_size: numbers of a task vector; 0 where there is none.
        index: whether what it does depends on the task's index.
        memory: numbers that it keeps from one control step to the next; 0 without a memory.
        reward: whether its memory reads the reward of the last control step.
        episode_steps: control steps of every episode; None: what each row says.
        attempts: episodes of a trial.
    """

    sensors: str
    states: int
    conditioning: str
    tasks: tuple[str, ...]
    known: tuple[str, ...]
    vectors: Mapping[str, np.ndarray]
    task_size: int
    index: bool
    memory: int = 0
    reward: bool = False
    episode_steps: int | None = None
    attempts: int = 1

    @property
    def state_size(self) -> int:
        """Numbers of one state."""
        return layout(self.sensors).size

    @property
    def pictures(self) -> bool:
        """Whether it sees pictures, which an observation then has as `rgb`."""
        return SENSORS[self.sensors].pictures

    def vector(self, task: str) -> np.ndarray:
        """The vector of a task, as in `vectors`: the one that is kept, or one from the tables.

        Raises:
            ValueError: no such row, or the conditioning cannot act on it.
        """
        if task in self.vectors:
            return self.vectors[task]
        kept = self.vectors if self.conditioning == "language" else self.conditioning
        return vectors(kept, (task,), self.known)[0]


class LoadedPolicy:
    """A trained policy that acts on observations alone, with stable-baselines3's `predict`.

    Args:
        reads: what it reads.
        acts: the network.

    Attributes:
        reads: what it reads.
    """

    def __init__(self, reads: Reads, acts: Acts):
        self.reads = reads
        self._acts = acts

    def predict(
        self,
        observation: np.ndarray | Mapping[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        *,
        task: str | Sequence[str] | None = None,
        next_attempt: np.ndarray | None = None,
        reward: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose actions.

        Args:
            observation: of one environment or of n: a state (s,) or (n, s), or a dictionary with
                it as `state`, as Uncap's environments give it. The conditioning vector `task`
                in it is used, unless `task` names the rows.
            state: what it remembers, of the call before; None at the beginning. Only policies
                with a memory, and those that read several states, remember any; and those of an
                environment that stacks the states need not.
            episode_start: (n,) bool: episodes that begin with this observation, which forget
                what came before.
            deterministic: the mean action; else one is drawn, by torch's generator.
            task: the row that is opened, or one for each of the n; needed where the policy is
                told of its task and the observation does not tell.
            next_attempt: (n,) bool: episodes that begin with this observation and are the next
                attempt at the same closure: a memory is kept. Only for policies with a memory.
            reward: (n,) of the control step before; needed by a memory that reads it, but where
                episodes begin, and only for that.

        Returns:
            Actions (5,) or (n, 5) in [-1, 1], float32, see `panda.ACTIONS`, and what to hand to
            the next call as `state`.

        Raises:
            ValueError: an observation of another shape, or not finite; a task or a reward that is
                missing; a task that the policy cannot be told of; an argument without effect.
        """
        self._check_used({"task": task, "next_attempt": next_attempt, "reward": reward})
        observed = dict(observation) if isinstance(observation, Mapping) else {"state": observation}
        if "state" not in observed:
            raise ValueError(f"the observation must have a state, not only {', '.join(observed)}")
        now = _finite("the state", observed["state"])
        single = now.ndim == 1
        now = now[None] if single else now  # (n, s)
        if self.reads.memory:
            self._check_size(now)
            inputs = self._remembering(now, state, episode_start, next_attempt, reward)
            actions, kept = self._acts({"state": now, **inputs}, deterministic)
            assert kept is not None
            memory = (kept,)
        else:
            stacked, memory = self._stacked(now, state, episode_start)
            inputs = {"state": stacked, **self._told(observed, task, now)}
            if self.reads.pictures:
                inputs["rgb"] = _pictures(observed, len(now))
            actions, _ = self._acts(inputs, deterministic)  # (n, 5)
        return (actions[0] if single else actions), memory

    def _check_used(self, given: Mapping[str, Any]) -> None:
        """Refuse arguments that this policy does not read.

        Raises:
            ValueError: the first of them.
        """
        reads = self.reads
        missing = {
            "task": "" if reads.task_size or reads.index else "is told nothing of its task",
            "next_attempt": "" if reads.memory else "has no memory",
            "reward": "" if reads.reward else "reads no rewards",
        }
        for name, value in given.items():
            if value is not None and missing[name]:
                raise ValueError(f"{name} has no effect here: this policy {missing[name]}")

    def _remembering(
        self, now: np.ndarray, state: Any, start: Any, next_attempt: Any, reward: Any
    ) -> Arrays:
        """What a memory reads beside the states (n, s)."""
        n = len(now)
        kept = _remembered(state, (n, self.reads.memory))
        if kept is None:
            kept, start = np.zeros((n, self.reads.memory), np.float32), np.ones(n, bool)
        forgets = _flags("episode_start", start, n)
        begins = forgets | _flags("next_attempt", next_attempt, n)
        inputs = {
            "memory": np.where(forgets[:, None], np.float32(0.0), kept),
            "begins": begins[:, None].astype(np.float32),
        }
        if self.reads.reward:
            if reward is None and not begins.all():
                raise ValueError(
                    "this policy's memory reads rewards: give reward=, of the control step before"
                )
            paid = np.zeros(n) if reward is None else _finite("reward", reward).reshape(-1)
            if len(paid) != n:
                raise ValueError(f"reward must have {n} values, not {len(paid)}")
            inputs["reward"] = paid[:, None].astype(np.float32)
        return inputs

    def _stacked(
        self, now: np.ndarray, state: tuple[np.ndarray, ...] | None, start: Any
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """What the network gets of the states (n, s), and what is remembered."""
        size, states = self.reads.state_size, self.reads.states
        whole = size * states
        if now.ndim == 2 and now.shape[1] == whole:
            return now, state
        self._check_size(now)
        n = len(now)
        past, begins = _remembered(state, (n, states, size)), _flags("episode_start", start, n)
        if past is None:
            past, begins = np.zeros((n, states, size), np.float32), np.ones(n, bool)
        kept = np.concatenate((past[:, 1:], now[:, None]), 1)  # (n, states, size), oldest first
        kept[begins] = now[begins, None]
        return kept.reshape(n, whole), (kept,)

    def _check_size(self, now: np.ndarray) -> None:
        """Refuse states (n, s) of another size.

        Raises:
            ValueError: they have.
        """
        size, states = self.reads.state_size, self.reads.states
        if now.ndim != 2 or now.shape[1] != size:
            whole = f", or {size * states} of {states} states" if states > 1 else ""
            raise ValueError(
                f"a state must have {size} numbers{whole}, with the sensors {self.reads.sensors}, "
                f"not the shape {now.shape[1:]}"
            )

    def _told(self, observed: Mapping[str, Any], task: Any, now: np.ndarray) -> Arrays:
        """Task vectors (n, t) and indices (n, 1): of the rows that are named, or as observed.

        Args:
            observed: the observation.
            task: names of rows.
            now: (n, s) states, which tell the present stage.
        """
        reads = self.reads
        n = len(now)
        if task is None and len(reads.tasks) == 1 and not {"task", "index"} & set(observed):
            task = reads.tasks[0]
        if task is not None:
            names = (task,) * n if isinstance(task, str) else tuple(task)
            if len(names) != n:
                raise ValueError(f"task must be a name, or {n} of them, not {len(names)}")
            kept = np.stack([reads.vector(name) for name in names])
            vector = told(kept, np.arange(n), self._stages(now)) if kept.ndim > 2 else kept
            place = {name: index for index, name in enumerate(reads.tasks)}
            index = np.array([[place.get(name, 0)] for name in names], np.float32)
            return {"task": vector, "index": index} if reads.task_size else {"index": index}
        found = {}
        if reads.task_size:
            found["task"] = self._observed(observed, "task", (n, reads.task_size))
        shape = (n, 1)
        zeros = np.zeros(shape, np.float32)
        found["index"] = self._observed(observed, "index", shape) if reads.index else zeros
        return found

    def _stages(self, now: np.ndarray) -> np.ndarray:
        """Index (n,) of the present stages in states (n, s), the last of several.

        Raises:
            ValueError: the sensors do not tell.
        """
        if self.reads.sensors != FULL:
            raise ValueError(
                f"{self.reads.conditioning} changes with the stage, which the sensors "
                f"{self.reads.sensors} do not tell: the observation must have a task"
            )
        return stage_in(now[:, -self.reads.state_size :])

    def _observed(self, observed: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> Any:
        """A part of the observation, of a shape."""
        if name not in observed:
            raise ValueError(
                f"this policy is told of its task: give task=..., one of "
                f"{', '.join(self.reads.tasks)}"
            )
        value = _finite(name, observed[name])
        if value.size != np.prod(shape):
            told = self.reads.conditioning
            raise ValueError(
                f"{name} must have the shape {shape}, not {value.shape}: this policy is told "
                f"{told}; make the environment with conditioning={told!r}, or give task="
            )
        return value.reshape(shape)


def _finite(name: str, value: Any) -> np.ndarray:
    """Numbers as float32."""
    try:
        found = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be an array of numbers") from None
    if not np.isfinite(found).all():
        raise ValueError(f"{name} has numbers that are NaN or infinite")
    return found


def _pictures(observed: Mapping[str, Any], n: int) -> np.ndarray:
    """The pictures of an observation, (n, height, width, channels) uint8.

    Raises:
        ValueError: there are none, or others.
    """
    found = np.asarray(observed.get("rgb", ()))
    shape = found.shape if found.ndim > len(PICTURE_SHAPE) else (1, *found.shape)
    if found.dtype != np.uint8 or shape != (n, *PICTURE_SHAPE):
        raise ValueError(
            f"this policy sees pictures: rgb must be {(n, *PICTURE_SHAPE)} uint8, as environments "
            "with sensors='pictures' give it"
        )
    return found.reshape(shape)


def _flags(name: str, value: Any, n: int) -> np.ndarray:
    """Flags, bool (n,); None: all false."""
    if value is None:
        return np.zeros(n, bool)
    flags = np.asarray(value, bool).reshape(-1)
    if len(flags) != n:
        raise ValueError(f"{name} must have {n} values, not {len(flags)}")
    return flags


def _remembered(state: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """The numbers, of a shape, of the call before; None where there was none."""
    if state is None:
        return None
    if not isinstance(state, tuple) or len(state) != 1 or np.shape(state[0]) != shape:
        raise ValueError(f"state must be what predict returned for {shape[0]} environments before")
    return np.asarray(state[0], np.float32)


def load(path: str | pathlib.Path) -> LoadedPolicy:
    """A trained policy, to act anywhere: no environment is made, and no simulation loaded.

    Args:
        path: a run folder, a checkpoint in it, a file that `export` has written, or the name of
            a policy of the package, see `pretrained.NAMES`.

    Raises:
        CheckpointError: there is none, it is damaged, or of another version.
        FileError: the same of an exported file.
        ValueError: what reads exported files is not installed.
    """
    path = located(path)
    if path.suffix == EXPORTED:
        from uncap.agents.exported import read

        return read(path)
    folder = path if checkpoints.exists(path) else path / CHECKPOINT
    parts = sorted(part.parent for part in path.glob(f"*/*/{CHECKPOINT}"))
    if not checkpoints.exists(folder) and parts:
        raise checkpoints.CheckpointError(
            f"{path} has a policy per row: choose one of them, such as {parts[0]}"
        )
    policy, meta = load_policy(folder)
    return LoadedPolicy(reads(policy, meta), functools.partial(_acts, policy))


def _acts(policy: Any, inputs: Arrays, deterministic: bool) -> tuple[np.ndarray, np.ndarray | None]:
    tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
    with torch.inference_mode():
        hidden = None
        if getattr(policy, "memory", None) is not None:
            tensors, hidden = recalled(policy.memory, tensors)
        if deterministic:
            action = policy.act(tensors)
        elif hasattr(policy, "draw"):
            action = policy.draw(tensors)
        else:
            spaces = policy.observation_space.spaces
            own = {name: value for name, value in tensors.items() if name in spaces}
            action = policy._predict(own, deterministic=False)
        action = action.clamp(-1, 1)
        kept = None if hidden is None else torch.cat([hidden, action], 1).numpy()
        return action.numpy(), kept


def recalled(memory: Any, tensors: Mapping[str, torch.Tensor]) -> tuple[dict, torch.Tensor]:
    """What a policy reads once its memory has acted, and what that keeps, but for the action.

    Args:
        memory: the policy's.
        tensors: state (n, s), memory (n, m), begins (n, 1), and reward (n, 1) where it is read.
    """
    state = tensors["state"]
    inputs = memory.inputs(state, tensors["memory"], tensors["begins"], tensors.get("reward"))
    outputs, hidden = memory.step(inputs, tensors["memory"])
    index = state.new_zeros(state.shape[0], 1)
    return {"state": state, "task": memory.told(outputs), "index": index}, hidden


def reads(policy: Any, meta: Mapping[str, Any]) -> Reads:
    """What a policy reads.

    Args:
        policy: trained.
        meta: its checkpoint's JSON part, see `load_policy`.
    """
    given: Any = meta["conditioning"]
    conditioning = "language" if isinstance(given, Mapping) else given
    spaces = policy.observation_space.spaces
    network = policy.network
    memory = getattr(policy, "memory", None)
    kept = meta["vectors"]
    if isinstance(given, Mapping):
        kept = {name: np.asarray(value, np.float32) for name, value in given.items()}
    return Reads(
        sensors=meta["sensors"],
        states=CONDITIONINGS[conditioning].states,
        conditioning=conditioning,
        tasks=tuple(meta["tasks"]),
        known=tuple(meta["known"]),
        vectors=kept,
        task_size=spaces["task"].shape[0] if "task" in spaces and memory is None else 0,
        index="index" in spaces and (network.embedding or network.head == "per_task"),
        memory=0 if memory is None else memory.size,
        reward=network.memory_reward and memory is not None,
        episode_steps=meta["episode_steps"],
        attempts=meta["attempts"],
    )


def refuse_other_parts(meta: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Refuse a checkpoint whose sensors have had other parts than now.

    Raises:
        CheckpointError: they have.
    """
    sensors = str(meta.get("sensors", FULL))
    row = SENSORS.get(sensors)  # one that is not there is refused elsewhere
    if row and meta.get("parts", list(row.parts)) != list(row.parts):
        raise checkpoints.CheckpointError(
            f"the checkpoint in {folder} was made by another version, whose sensors {sensors} have "
            "other parts"
        )


def load_policy(folder: pathlib.Path) -> tuple[Any, dict]:
    """The policy of a checkpoint, and the checkpoint's JSON part.

    `conditioning`, `sensors` and `episode_steps` in it are what environments take, `vectors` the
    trained rows' task vectors by name.

    Raises:
        CheckpointError: see `checkpoints.load`.
    """
    tensors, meta = checkpoints.load(folder)
    refuse_other_parts(meta, folder)
    try:
        if "sentences" in meta:
            meta["conditioning"] = dict(zip(meta["sentences"], tensors["sentences"], strict=True))
        meta.setdefault("sensors", FULL)
        meta.setdefault("episode_steps", None)
        meta.setdefault("attempts", 1)
        meta["vectors"] = _kept_vectors(meta)
        if "sentences" in meta:
            meta["conditioning"] |= meta["vectors"]  # of drawn rows, too
        algorithm: type[Algorithm] = ALGORITHMS[meta["algorithm"]]
        actions = gym.spaces.Box(-1.0, 1.0, (len(ACTIONS),), np.float32)
        policy = algorithm.build_policy(_spaces(meta, algorithm), actions, meta)
        load_weights(policy, tensors, meta.get("acts_only") is True)
    except UnknownName as error:
        raise checkpoints.CheckpointError(
            f"the checkpoint in {folder} cannot be used here: {error}"
        ) from None
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        raise checkpoints.CheckpointError(
            f"the checkpoint in {folder} was made by another version, or is damaged: "
            "its networks differ"
        ) from None
    return policy, meta


def _kept_vectors(meta: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The trained rows' task vectors (t,) by name; of older checkpoints, from the tables."""
    if "vectors" in meta:
        kept = {name: np.asarray(meta["vectors"][name], np.float32) for name in meta["tasks"]}
        if any(value.shape != kept[meta["tasks"][0]].shape for value in kept.values()):
            raise ValueError("vectors of several sizes")
        return kept
    tasks = tuple(meta["tasks"])
    return dict(zip(tasks, vectors(meta["conditioning"], tasks, meta["known"]), strict=True))


def _spaces(meta: Mapping[str, Any], algorithm: type[Algorithm]) -> gym.spaces.Dict:
    """The observation space of a checkpoint's policy, as `TaskVecEnv` had it."""
    conditioning, sensors = meta["conditioning"], meta["sensors"]
    row = lookup(
        CONDITIONINGS,
        conditioning if isinstance(conditioning, str) else "language",
        "conditioning",
    )
    task_size = meta["vectors"][meta["tasks"][0]].shape[-1]
    if row.memory:
        task_size = told_size(NetworkConfig(**meta["network"]))
    sizes = {"state": layout(sensors).size * row.states, "task": task_size}
    if algorithm.critic_sees_more(sensors):
        sizes["privileged"] = SIZE
    spaces: dict[str, gym.Space] = {
        name: gym.spaces.Box(-LIMIT, LIMIT, (size,), np.float32)
        for name, size in sizes.items()
        if size
    }
    if SENSORS[sensors].pictures:
        spaces["rgb"] = flat_pictures()
    if not algorithm.plain:
        spaces["index"] = gym.spaces.Box(0, len(meta["tasks"]), (1,), np.float32)
    return gym.spaces.Dict(spaces)


class Acting:
    """A policy as evaluation takes it: made for an environment, deterministic.

    Args:
        policy: trained.
        tasks: its rows, in the order of its indices; a row that is not among them is given index
            0, which counts only for `per_task` heads.
    """

    def __init__(self, policy: Any, tasks: Sequence[str]):
        self.policy = policy
        self.index_of = {name: index for index, name in enumerate(tasks)}

    def __call__(self, env: ClosureVectorEnv) -> ActingIn:
        """Make act(observation, task) -> (n, a) for an environment."""
        indices = np.array([self.index_of.get(name, 0) for name in env.tasks], np.float32)
        return ActingIn(self.policy, tuple(self.index_of), indices, env)


class ActingIn:
    """A policy that acts in an environment.

    Args:
        policy: trained.
        tasks: its rows, in the order of its indices.
        indices: (tasks,) of the environment's rows.
        env: where it acts.

    Attributes:
        tasks: its rows.
        recall: what it remembers there; None without a memory.
    """

    def __init__(
        self, policy: Any, tasks: tuple[str, ...], indices: np.ndarray, env: ClosureVectorEnv
    ):
        self.policy = policy
        self.tasks = tasks
        self.indices = indices
        memory = getattr(policy, "memory", None)
        self.recall = Recall(memory, env) if memory is not None else None

    def __call__(self, observation: Arrays, task: np.ndarray) -> np.ndarray:
        """Actions (n, a) for the observation and the tasks (n,)."""
        inputs = {**observation, "index": self.indices[task][:, None]}
        if self.recall:
            inputs["task"] = self.recall.observe(observation["state"])
        with torch.inference_mode():
            tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
            actions = self.policy.act(tensors).clamp(-1, 1).numpy()
        if self.recall:
            self.recall.acted(actions)
        return actions
