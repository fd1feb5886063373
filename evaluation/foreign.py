"""Policies that Uncap did not train, or that left it: as evaluation takes them.

What is scored is a function or an object with `predict` in a module, a model that
stable-baselines3 saved, or an ONNX file. All act on batches: observations are dictionaries of
arrays (n, ...), as `ClosureVectorEnv` gives them, and actions are (n, 5) in [-1, 1].
"""

from __future__ import annotations

import difflib
import inspect
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from uncap.agents import exported
from uncap.agents.policy import EXPORTED, LoadedPolicy
from uncap.envs import ClosureVectorEnv
from uncap.envs.panda import ACTIONS
from uncap.evaluation import imports
from uncap.evaluation.config import MODULE
from uncap.evaluation.protocol import Act, Policy

_OF_MEMORIES = {"state", "episode_start", "next_attempt"}  # what policies with a memory take
SAVED = ".zip"  # suffix of stable-baselines3's models
DEFAULTS = ("parameters", "full")  # what a policy is told and senses that does not say itself
Observation = dict[str, np.ndarray]
Predict = Callable[[Observation, Mapping[str, Any]], tuple[Any, Any]]
"""predict(observation, what it may take beside it, by name) -> actions (n, 5), state"""
Sizes = Mapping[str, int | None] | int
"""What a policy reads: numbers of each part; or of all in one array. None: any number."""


class PolicyError(ValueError):
    """A policy that cannot be used; the message says which and why, in one line."""


class Told(NamedTuple):
    """What the command line says of a policy: None where it says nothing."""

    conditioning: str | None = None
    sensors: str | None = None
    trust: bool = False


class Opened(NamedTuple):
    """A policy with what it is told and senses, and what it says of its training."""

    policy: Policy
    conditioning: Any
    sensors: str
    remembers: bool  # over the attempts of a trial
    known: tuple[str, ...] | None = None
    trained: tuple[str, ...] = ()
    episode_steps: int | None = None
    attempts: int = 1


class Stranger(NamedTuple):
    """What acts, and whether it may have a memory."""

    predict: Predict
    remembers: bool


def is_foreign(run: pathlib.Path) -> bool:
    """Whether a word of the command line names such a policy, and no run folder."""
    return run.suffix in (SAVED, EXPORTED) or bool(re.fullmatch(MODULE, str(run)))


def refuse_told(run: pathlib.Path, told: Told) -> None:
    """Refuse what is told of a policy that says itself what it reads.

    Raises:
        PolicyError: what has no effect.
    """
    for flag, value in (("--conditioning", told.conditioning), ("--sensors", told.sensors)):
        if value is not None:
            raise PolicyError(f"{flag} has no effect here: what {run} reads is known")
    _refuse_trust(told)


def _refuse_trust(told: Told) -> None:
    if told.trust:
        raise PolicyError(f"--trust has no effect here: it goes with a {SAVED} file")


def opened(run: pathlib.Path, told: Told) -> Opened:
    """A policy that `is_foreign`.

    Raises:
        PolicyError: there is none, it cannot be opened, or is not trusted.
        FileError: an exported file is damaged.
    """
    if run.suffix == SAVED:
        found = _unzipped(run, told.trust)
    else:
        _refuse_trust(told)
        found = _of_file(run) if run.suffix == EXPORTED else _imported(str(run))
    if isinstance(found, LoadedPolicy):
        refuse_told(run, told)
        return _loaded(found)
    conditioning, sensors = told.conditioning or DEFAULTS[0], told.sensors or DEFAULTS[1]
    return Opened(Played(run.name, found.predict), conditioning, sensors, found.remembers)


def _loaded(policy: LoadedPolicy) -> Opened:
    """One of `uncap.load`: it knows its tasks by their indices, as a run's policy does."""
    reads = policy.reads
    place = {name: index for index, name in enumerate(reads.tasks)}

    def over(env: ClosureVectorEnv) -> Act:
        indices = np.array([place.get(name, 0) for name in env.tasks], np.float32)

        remembered: Any = None

        def act(observation: Observation, task: np.ndarray) -> np.ndarray:
            nonlocal remembered
            begins, first = env.steps == 0, env.attempt == 0
            actions, remembered = policy.predict(
                {**observation, "index": indices[task][:, None]},
                remembered,
                begins & first,
                next_attempt=begins & ~first if reads.memory else None,
                reward=env.last_reward if reads.reward else None,
            )
            return actions

        return act

    given = dict(reads.vectors) if reads.conditioning == "language" else reads.conditioning
    trained = (reads.tasks, reads.episode_steps, reads.attempts)
    return Opened(over, given, reads.sensors, reads.memory > 0, reads.known, *trained)


class Played:
    """A policy as `protocol.evaluate` takes it, whose answers are checked.

    Args:
        who: its name, for messages.
        predict: what it does.
    """

    def __init__(self, who: str, predict: Predict):
        self.who = who
        self.predict = predict

    def __call__(self, env: ClosureVectorEnv) -> Act:
        """Make act(observation, task) -> actions (n, 5) for an environment, from its reset on."""
        state: Any = None
        step = 0

        def act(observation: Observation, task: np.ndarray) -> np.ndarray:
            nonlocal state, step
            begins = env.steps == 0  # (n,)
            # a memory lasts over the attempts of a trial; what was just made has none
            starts = begins & ((env.attempt == 0) | (step == 0))
            own = {name: value.copy() for name, value in observation.items()}
            names = [env.tasks[index] for index in task.tolist()]
            beside = {
                "state": state,
                "episode_start": starts,
                "deterministic": True,
                "task": names,
                "next_attempt": begins & ~starts,
                "reward": env.last_reward.copy(),
            }
            step += 1
            try:
                answer, state = self.predict(own, beside)
                actions = np.asarray(answer)
            except PolicyError:
                raise
            except (Exception, SystemExit) as error:  # whatever someone's code raises
                raise PolicyError(f"{self.who} raised {imports.reason(error)}") from None
            return self._checked(actions, (len(names), len(ACTIONS)), step)

        return act

    def _checked(self, actions: np.ndarray, shape: tuple[int, int], step: int) -> np.ndarray:
        """Actions as numbers of the right shape.

        Raises:
            PolicyError: they are not.
        """
        if actions.dtype.kind not in "fiub":
            what = "None" if actions.shape == () and actions.item() is None else actions.dtype
            raise PolicyError(f"{self.who} returned no numbers, but {what}")
        if actions.shape != shape:
            raise PolicyError(
                f"{self.who} returned actions of the shape {actions.shape}, not {shape}: "
                "observations and actions are those of all sub-environments"
            )
        if not np.isfinite(actions).all():
            raise PolicyError(f"{self.who} returned NaN or infinity in control step {step}")
        return np.clip(actions.astype(np.float64), -1, 1)


# Modules


def _imported(word: str) -> Stranger | LoadedPolicy:
    """What `module:name` names. The working directory is looked in first.

    Raises:
        PolicyError: no such module, it cannot be imported, or what it holds is no policy.
    """
    module_name, _, path = word.partition(":")
    try:
        found: Any = imports.load(module_name)
    except ValueError as error:
        raise PolicyError(str(error)) from None
    for name in path.split("."):
        if not hasattr(found, name):
            close = difflib.get_close_matches(name, dir(found), n=3)
            hint = f": did you mean {' or '.join(close)}?" if close else ""
            raise PolicyError(f"{module_name} has no {path}{hint}")
        found = getattr(found, name)
    return found if isinstance(found, LoadedPolicy) else _stranger(found, word)


def _stranger(policy: Any, who: str) -> Stranger:
    """An object with `predict`, or a function of the observation.

    A function gets no `state`, as it returns none; it may keep what it remembers itself.

    Raises:
        PolicyError: it is neither.
    """
    if isinstance(policy, type):
        raise PolicyError(f"{who} is a class: name an object of it, or a function")
    method = getattr(policy, "predict", None)
    if not callable(method):
        method = None
        if not callable(policy):
            raise PolicyError(
                f"{who} is no policy: it must be a function of an observation, or have predict, "
                f"not {type(policy).__name__}"
            )
    takes = _parameters(method or policy)
    takes -= set() if method else {"state", "deterministic"}
    space = getattr(policy, "observation_space", None)
    sizes = _sizes(space, who) if isinstance(space, gym.Space) else None

    def predict(observation: Observation, beside: Mapping[str, Any]) -> Any:
        given: Any = observation if sizes is None else _fitted(sizes, observation, who)
        taken = {name: value for name, value in beside.items() if name in takes}
        answer = (method or policy)(given, **taken)
        return answer if method and isinstance(answer, tuple) else (answer, None)

    return Stranger(predict, bool(takes & _OF_MEMORIES) and not _forgets(policy))


def _forgets(policy: Any) -> bool:
    """Whether it is a policy or a model of stable-baselines3 without a memory.

    Those with one have a `predict` of their own; that of the others hands `state` through.
    """
    acts = policy.policy if isinstance(policy, BaseAlgorithm) else policy
    return getattr(type(acts), "predict", None) is BasePolicy.predict


def _parameters(function: Any) -> set[str]:
    """Names that a function takes its arguments by."""
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # of some that are compiled
        return set()


# What a policy reads


def _sizes(space: gym.Space, who: str) -> Sizes:
    """Sizes of an observation space.

    Raises:
        PolicyError: nothing of Uncap has it.
    """
    parts = space.spaces if isinstance(space, gym.spaces.Dict) else {"": space}
    shapes = {name: part.shape or () for name, part in parts.items()}
    if any(len(shape) != 1 for shape in shapes.values()):
        raise PolicyError(f"{who} reads {space}, but observations are vectors of numbers")
    sizes = {name: size for name, shape in shapes.items() for size in shape}
    return sizes if isinstance(space, gym.spaces.Dict) else sizes[""]


def _fitted(sizes: Sizes, observation: Observation, who: str) -> Any:
    """The parts of an observation that a policy reads; all in one array, if it reads that.

    Raises:
        PolicyError: it reads something else.
    """
    there = {name: value.shape[1] for name, value in observation.items()}
    if isinstance(sizes, int):
        if sizes == there["state"]:
            return observation["state"]
        if sizes == sum(there.values()):  # as gymnasium flattens it
            return np.concatenate([observation[name] for name in sorted(observation)], 1)
        fits = False
    else:
        fits = all(name in there and size in (None, there[name]) for name, size in sizes.items())
    if not fits:
        wanted = f"{sizes} numbers" if isinstance(sizes, int) else _words(sizes)
        raise PolicyError(
            f"{who} reads {wanted}, and is given {_words(there)}: --conditioning and --sensors "
            "say what it is given"
        )
    assert not isinstance(sizes, int)
    return {name: observation[name] for name in sizes}


def _words(sizes: Mapping[str, int | None]) -> str:
    return " and ".join(f"{name} ({size} numbers)" for name, size in sizes.items())


# Files


def _unzipped(path: pathlib.Path, trust: bool) -> Stranger:
    """A model that stable-baselines3 saved.

    Such a file holds pickles, which run code of whoever made it when they are read.

    Raises:
        PolicyError: it is not trusted, or cannot be opened.
    """
    if not path.is_file():
        raise PolicyError(f"there is no file {path}")
    if not trust:
        raise PolicyError(
            f"{path} can run code of whoever made it when it is opened: `evaluate --trust` does, "
            "if that is you or someone whom you trust"
        )
    from stable_baselines3.common.save_util import load_from_zip_file

    try:
        data, parameters, _ = load_from_zip_file(path, device="cpu")
        assert data is not None
        settings = dict(data.get("policy_kwargs") or {})
        make = data["policy_class"]
        if "use_sde" in _parameters(make):
            settings.setdefault("use_sde", data.get("use_sde", False))
        spaces = data["observation_space"], data["action_space"]
        policy = make(*spaces, lambda _: 0.0, **settings)
        policy.load_state_dict(parameters["policy"])
        policy.set_training_mode(False)
    except ModuleNotFoundError as error:
        raise PolicyError(
            f"{path} needs {error.name}, which is not installed (TQC, CrossQ and others: pip "
            "install 'uncap[sb3]')"
        ) from None
    except Exception as error:  # whatever the file holds
        raise PolicyError(
            f"{path} is damaged, or no model of stable-baselines3: {imports.reason(error)}"
        ) from None
    return _stranger(policy, path.name)


def _of_file(path: pathlib.Path) -> Stranger | LoadedPolicy:
    """An ONNX file: one that `export` wrote, or someone's, whose first output is the action.

    Its inputs are called as the parts of an observation; or it has one, of any name, for the
    state alone or for all in one.

    Raises:
        PolicyError: it does not fit.
        FileError: it is damaged.
    """
    if exported.is_ours(path):
        return exported.read(path)
    exported.check_installed()
    session = exported.open_session(path.read_bytes(), path)
    inputs = {part.name: part.shape[-1] for part in session.get_inputs()}
    sizes: Sizes = {name: size if type(size) is int else None for name, size in inputs.items()}
    if len(inputs) == 1 and "state" not in inputs:
        [(only, size)] = sizes.items()
        if size is None:
            raise PolicyError(f"{path}: its input {only} must have a size, or be called state")
        sizes = size

    def predict(observation: Observation, *_: Any) -> tuple[np.ndarray, None]:
        given = _fitted(sizes, observation, path.name)
        arrays = given if isinstance(given, dict) else {next(iter(inputs)): given}
        return session.run(None, arrays)[0], None

    return Stranger(predict, remembers=False)
