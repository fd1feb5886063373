"""gymnasium.vector.VectorEnv over the batch: many closures, one step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from uncap.envs import checks, disturbances, observations, rewards, snapshots
from uncap.envs.batch import CONTROL_DT, ClosureBatch
from uncap.envs.conditioning import states, told, vectors
from uncap.envs.deck import Deck
from uncap.envs.episodes import EpisodeTracker, Squeeze, StateHistory
from uncap.envs.frames import MODES, Frames, frames_in
from uncap.envs.pixels import Pixels
from uncap.envs.pool import VARIANTS
from uncap.envs.sensors import SENSORS
from uncap.envs.tables import lookup

ACTION_SIZE = 5  # numbers of an action, see `ClosureBatch.step`
OPTIONS = ("reset_mask", "task", "next_attempt")  # of a reset
Seeds = int | Sequence[int | None] | np.ndarray | None
Observation = dict[str, np.ndarray]
Info = dict[str, Any]


class ObservationKind(NamedTuple):
    """What an observation shows beside the task vector, and one line on it."""

    state: bool
    rgb: bool
    words: str


OBSERVATIONS = {
    "state": ObservationKind(True, False, "what is measured, laid out in `observations.ROWS`"),
    "rgb": ObservationKind(False, True, "the pictures of two cameras"),
    "state+rgb": ObservationKind(True, True, "both"),
}


ASSIGNMENTS = {  # of tasks to sub-environments, and one line on each
    "fixed": "sub-environment i opens tasks[i % len(tasks)]",
    "deck": "each takes the next task of one shuffled deck at every episode: see `deck.Deck`",
}


class ClosureVectorEnv(gym.vector.VectorEnv):
    """Sub-environment i opens tasks[i % len(tasks)]; all are stepped together.

    With assignment "deck", each takes its next task from a shuffled deck at every episode, so that
    all tasks get the same number of control steps. With `probabilities` (tasks,) set, a
    sub-environment draws its task anew for every episode.

    Observations are a Dict: `state` (n, size x history), laid out in
    `observations.LAYOUTS[sensors]`, 36 numbers for `full`, oldest first; `rgb` (n, 84, 84, 6), two
    cameras, where the observation or the sensors ask for them; `task` (n, size), the conditioning
    vector (absent where that is empty); and `privileged` (n, 36) where it is asked for. Actions
    are (n, 5) in [-1, 1], see `ClosureBatch.step`. Episodes are truncated after the row's `steps`;
    nothing terminates them.

    Info holds numbers only, (n,) by name: the reward's terms, `success`, `success_any`,
    `progress`, `contact_fraction`, `task_index`, `steps`, and of the present episode
    `invalid_action` (control steps whose action was not finite; it is taken for 0) and `diverged`
    (how often the simulation was put back, see `ClosureBatch`).

    It can be copied and pickled, before and after a reset: a copy has the same future.

    Args:
        tasks: rows of the table of closures.
        num_envs: number of sub-environments.
        conditioning: a row of `conditioning.CONDITIONINGS`, or the vectors by name of the task; of
            one without a vector, its description is encoded, as `language` does.
        threads: threads of the physics; 0: as many as the process has cores. Results do not
            depend on it.
        seed: seed of the first reset, unless that gets one.
        known_tasks: rows that `one_hot` has components for; by default `tasks`.
        autoreset_mode: Gymnasium's NEXT_STEP, SAME_STEP or DISABLED.
        variants: drawn of each row; each takes some 30 ms to compile.
        variant_seed: which variants are drawn from the rows' ranges, see `pool.VARIANT_STREAMS`.
        observation: a row of OBSERVATIONS: state, rgb or state+rgb.
        history: how many of the last states an observation holds; by default what the row of
            the conditioning says: 1, and `conditioning.HISTORY` for `history`.
        level: what varies beside pose and variant, a row of `variation.LEVELS`.
        disturb: what is disturbed beside that: strengths by factor, such as {"friction": 2}, of
            `disturbances.FACTORS`; several are combined. The starts and variants of a seed stay
            the same. Strength 0 is a factor's neutral value.
        assignment: which task is next, a row of ASSIGNMENTS: fixed or deck.
        attempts: episodes of a trial: they have the same closure, of the same variant, and a new
            start each. Where there are several, info has `attempt`, which one this is, from 0.
        episode_steps: control steps of every episode; by default the row's `steps`.
        sensors: what the state is made of, a row of `sensors.SENSORS`: full, arm, or
            pictures, which adds those.
        privileged: observe the present `full` state, too, without noise: for a critic, which
            may see in training what a policy may not.
        render_mode: what `render()` gives: None, or a row of `frames.MODES`: rgb_array (a frame
            of every sub-environment), mosaic (one picture with all of them).
        reward: what a control step is paid, a row of `rewards.REWARDS`: dense, sparse, or one
            of your own, see `rewards.register_reward`.
        engine: what runs the simulations, a row of `engines.ENGINES`: cpu, or warp.

    Attributes:
        batch: the simulations.
        task: (n,) task index of the present episodes.
        task_vectors: (tasks, size) conditioning vectors; (tasks, MOST_STAGES + 1, size) where
            what is told changes with the stage of the mechanism, see `conditioning.vectors`.
        task_steps: (tasks,) control steps of an episode of each task.
        last_reward: (n,) of the last control step.

    Raises:
        KeyError: unknown task, conditioning, observation, level, factor, sensors or engine; close
            matches are named.
        ValueError: a number of another type or out of range; no task; a conditioning that cannot
            act on a task; a disturbance of pictures without any.
        RenderingUnavailable: pictures without OpenGL.
        EngineUnavailable: what the engine needs is not installed, or not there.
    """

    _pixels: Pixels | None = None  # Gymnasium closes what could not be made, too
    _frames: Frames | None = None
    metadata: dict[str, Any] = {
        "render_modes": list(MODES),
        "render_fps": round(1 / CONTROL_DT),
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(  # noqa: PLR0913 - the public choices of an environment, all by name
        self,
        tasks: str | Sequence[str],
        num_envs: int = 1,
        *,
        conditioning: str | Mapping[str, np.ndarray] = "one_hot",
        threads: int = 0,
        seed: int | None = None,
        known_tasks: Sequence[str] | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        variants: int = VARIANTS,
        variant_seed: int = 0,
        observation: str = "state",
        history: int | None = None,
        level: str = "default",
        assignment: str = "fixed",
        disturb: Mapping[str, int] | None = None,
        sensors: str = observations.FULL,
        privileged: bool = False,
        episode_steps: int | None = None,
        render_mode: str | None = None,
        reward: str = "dense",
        attempts: int = 1,
        engine: str = "cpu",
    ):
        self.tasks = checks.names("tasks", tasks)
        self.num_envs = checks.integer("num_envs", num_envs, 1, checks.MOST_ENVS)
        self._first_seed = checks.seed(seed)
        if history is not None:
            history = checks.integer("history", history, 1, checks.MOST_STATES)
        if episode_steps is not None:
            episode_steps = checks.integer("episode_steps", episode_steps, 1, checks.MOST_STEPS)
        self.attempts = checks.integer("attempts", attempts, 1, checks.MOST_ATTEMPTS)
        kind = lookup(OBSERVATIONS, observation, "observation")
        lookup(ASSIGNMENTS, assignment, "assignment")
        disturb = disturbances.checked(disturb)
        is_pictured = kind.rgb or lookup(SENSORS, sensors, "sensors").pictures
        if not is_pictured:
            disturbances.refuse_unseen(disturb, f"the observation {observation!r}")
        self._reward = lookup(rewards.REWARDS, reward, "reward")
        self._layout = observations.layout(sensors)
        self.sensors = sensors
        self.privileged = checks.flag("privileged", privileged)
        mode = _autoreset_mode(autoreset_mode)
        self.task_vectors = vectors(conditioning, self.tasks, known_tasks)
        history = history or states(conditioning)
        self.batch = ClosureBatch(
            self.tasks,
            self.num_envs,
            threads,
            variants,
            variant_seed=variant_seed,
            level=level,
            disturb=disturb,
            wrist=sensors != observations.FULL,
            engine=engine,
        )
        self._shows = {  # of the observation: snapshots tell
            "observation": observation,
            "history": history,
            "conditioning": conditioning if isinstance(conditioning, str) else "given vectors",
            "sensors": sensors,
        }
        if self.attempts > 1:
            self._shows["attempts"] = self.attempts
        self._history: StateHistory | None = None
        if kind.state:
            self._history = StateHistory(self.num_envs, history, self._layout.size)
        self._pixels = Pixels(self.batch.pool, opened=kind.rgb) if is_pictured else None
        self._set_spaces(history)
        self._set_modes(mode, render_mode)
        self._set_episodes(assignment, episode_steps)
        self._tracker = EpisodeTracker(self.num_envs)
        # what an arm remembers; the other sensors do not ask for it
        self._squeeze = Squeeze(self.num_envs) if sensors != observations.FULL else None
        self._has_warned = False  # of actions that are not finite

    def _set_episodes(self, assignment: str, episode_steps: int | None) -> None:
        """Set which episodes there will be: their tasks, lengths, trials and generators."""
        self.assignment = assignment
        self._all_ids = np.arange(self.num_envs)
        self.task = self._all_ids % len(self.tasks)
        self._probabilities: np.ndarray | None = None
        self._deck: Deck | None = None  # made by the first reset, where the assignment asks for it
        self.task_steps = self.batch.episode_steps
        if episode_steps is not None:
            self.task_steps = np.full(len(self.tasks), episode_steps)
        self._rngs: list[np.random.Generator] | None = None  # before the first reset
        self._done = np.zeros(self.num_envs, bool)  # episodes that the last step has ended
        self._attempt = np.zeros(self.num_envs, np.int64)  # of the present episodes, from 0
        self.last_reward = np.zeros(self.num_envs)

    def _set_spaces(self, history: int) -> None:
        """Set Gymnasium's four spaces; observations hold `history` states."""
        limit = observations.LIMIT
        spaces: dict[str, gym.Space] = {}
        if self._history is not None:
            size = history * self._layout.size
            spaces["state"] = gym.spaces.Box(-limit, limit, (size,), np.float32)
        if self.privileged:
            spaces["privileged"] = gym.spaces.Box(-limit, limit, (observations.SIZE,), np.float32)
        if self._pixels is not None:
            spaces["rgb"] = gym.spaces.Box(0, 255, self._pixels.shape, np.uint8)
        if self._has_task_vectors:
            size = self.task_vectors.shape[-1]
            most = max(limit, float(np.abs(self.task_vectors).max()))  # what is told is not cut off
            spaces["task"] = gym.spaces.Box(-most, most, (size,), np.float32)
        self.single_observation_space = gym.spaces.Dict(spaces)
        self.single_action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _set_modes(self, mode: AutoresetMode, render_mode: str | None) -> None:
        """Set the modes of autoreset and of `render()`."""
        self.render_mode = render_mode
        self._frames = frames_in(render_mode, self.num_envs)
        self.autoreset_mode = mode
        self.metadata = {**self.metadata, "autoreset_mode": mode}

    @property
    def _has_task_vectors(self) -> bool:
        return self.task_vectors.shape[-1] > 0

    @property
    def max_steps(self) -> np.ndarray:
        """Control steps (n,) of the present episodes."""
        return self.task_steps[self.task]

    @property
    def task_names(self) -> tuple[str, ...]:
        """The rows (n) of the present episodes."""
        return tuple(self.tasks[index] for index in self.task)

    @property
    def attempt(self) -> np.ndarray:
        """Which episode of its trial each present one is, (n,) from 0."""
        return self._attempt.copy()

    @property
    def steps(self) -> np.ndarray:
        """Control steps (n,) of the present episodes so far."""
        return self._tracker.steps.copy()

    @property
    def probabilities(self) -> np.ndarray | None:
        """Probabilities (tasks,) of the next episodes' tasks; None: what the assignment says."""
        return self._probabilities

    @probabilities.setter
    def probabilities(self, value: Any) -> None:
        if value is not None:
            value = checks.numbers("probabilities", value)
            shape = (len(self.tasks),)
            if value.shape != shape or not ((value >= 0).all() and np.isclose(value.sum(), 1)):
                raise ValueError(f"probabilities must be of shape {shape}, not negative, sum 1")
            value = value / value.sum()  # NumPy's draws allow less than a float32's rounding
        self._probabilities = value

    @property
    def success(self) -> np.ndarray:
        """Whether each closure has been open for the last 5 control steps, bool (n,)."""
        return self._tracker.success

    def reset(
        self,
        *,
        seed: Seeds = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observation, Info]:
        """Start episodes.

        Args:
            seed: the same seed gives the same starts, for any number of threads. A list or array
                gives each sub-environment its own. Sub-environments that are not reset keep
                their generators.
            options: `reset_mask`, bool (n,): which are reset, by default all; `task`: the row of
                the episodes that start now, or a row for each of the n; `next_attempt`, True or
                bool (n,): which of them go on with their trial, unless it has ended. All others
                begin a new one.

        Raises:
            ResetNeeded: the first reset is asked for some only.
            ValueError: a seed, an option or its value that is not allowed; nothing is changed.
        """
        seeds = checks.seeds(seed, self.num_envs)
        options = checks.options(options, OPTIONS)
        ids = self._masked(options.get("reset_mask"))
        asked = self._asked_tasks(options.get("task"))
        going_on = self._going_on(options)
        self._seed_generators(seeds, ids)
        self._restart(ids, asked, going_on)
        measured = self._measure()
        self._remember_starts(measured, ids)
        return self._observation(measured), self._info(measured)

    def _measure(self) -> dict[str, np.ndarray]:
        """What is measured now, with what the sensors ask for; once after every step or reset."""
        measured = self.batch.measure()
        if self._squeeze is not None:
            measured |= self.batch.measure_arm()
            measured["moved"] = self._squeeze.update(measured)
        return measured

    def _masked(self, mask: Any) -> np.ndarray:
        """Sub-environments (k,) that a reset is asked for.

        Raises:
            ResetNeeded: the first reset is asked for some only.
            ValueError: no mask of this environment.
        """
        if mask is None:
            return np.arange(self.num_envs)
        ids = np.flatnonzero(checks.mask("reset_mask", mask, self.num_envs))
        if self._rngs is None and len(ids) < self.num_envs:
            raise gym.error.ResetNeeded("the first reset starts all: call it without reset_mask")
        return ids

    def _asked_tasks(self, names: Any) -> np.ndarray | None:
        """Indices (n,) of the tasks that a reset asks for; None: what the assignment says.

        Raises:
            ValueError: a name that is none of the environment's, or another number of names.
        """
        if names is None:
            return None
        names = checks.names("the option task", names)
        if len(names) == 1:
            names *= self.num_envs
        if len(names) != self.num_envs:
            raise ValueError(
                f"the option task must be a name, or {self.num_envs} of them, not {len(names)}"
            )
        index = {task: k for k, task in enumerate(self.tasks)}
        return np.array([lookup(index, name, "task of this environment") for name in names])

    def _going_on(self, options: Mapping[str, Any]) -> np.ndarray:
        """Which sub-environments go on with their trial at a reset, bool (n,).

        Raises:
            ResetNeeded: before the first reset.
            ValueError: no mask; or other tasks are asked for, too.
        """
        asked = options.get("next_attempt", False)
        if asked is False:
            return np.zeros(self.num_envs, bool)
        if asked is True:
            asked = np.ones(self.num_envs, bool)
        asked = checks.mask("next_attempt", asked, self.num_envs)
        if options.get("task") is not None:
            raise ValueError("next_attempt and task exclude each other: a trial has one closure")
        if self._rngs is None:
            raise gym.error.ResetNeeded("the first reset starts trials: call it without options")
        return asked

    def _seed_generators(self, seeds: int | list[int | None] | None, ids: np.ndarray) -> None:
        """Make new generators of sub-environments ids (k,) if seeded, and at the first reset.

        The deck's generator is new when all are.
        """
        first = self._rngs is None
        if first and seeds is None:
            seeds = self._first_seed
        if seeds is None and not first:
            return
        if isinstance(seeds, list):
            known = [seed for seed in seeds if seed is not None]
            sequence = np.random.SeedSequence(known if len(known) == len(seeds) else None)
            rngs = [np.random.default_rng(seed) for seed in seeds]
        else:
            sequence = np.random.SeedSequence(seeds)
            rngs = [np.random.default_rng(child) for child in sequence.spawn(self.num_envs)]
        kept = self._rngs or rngs
        chosen = set(ids.tolist())
        self._rngs = [rngs[i] if i in chosen else kept[i] for i in range(self.num_envs)]
        if self.assignment == "deck" and (first or len(ids) == self.num_envs):
            self._deck = self._new_deck(np.random.default_rng(sequence.spawn(1)[0]))

    def _new_deck(self, rng: np.random.Generator) -> Deck:
        """A deck that deals the tasks of trials."""
        return Deck(self.task_steps * self.attempts, rng)

    def _next_tasks(self, ids: np.ndarray, rngs: list[np.random.Generator]) -> np.ndarray:
        """Task indices (k,) of the next episodes of sub-environments ids (k,)."""
        if self._probabilities is not None:
            return np.array([rng.choice(len(self.tasks), p=self._probabilities) for rng in rngs])
        if self._deck is not None:
            return self._deck.deal(len(ids))
        return ids % len(self.tasks)

    def _restart(
        self,
        ids: np.ndarray,
        asked: np.ndarray | None = None,
        going_on: np.ndarray | None = None,
    ) -> None:
        """Start new episodes of some sub-environments.

        Args:
            ids: (k,) which.
            asked: tasks (n,) that are asked for; by default what the assignment says.
            going_on: bool (n,), which go on with their trials; by default all whose last step
                ended an episode.
        """
        generators = self._rngs
        assert generators is not None  # set by the first reset
        if len(ids):
            ended: np.ndarray = self._done
            goes_on = ended if going_on is None else going_on  # (n,)
            same = goes_on[ids] & (self._attempt[ids] + 1 < self.attempts)  # (k,)
            self._attempt[ids] = np.where(same, self._attempt[ids] + 1, 0)
            rngs = [generators[i] for i in ids]
            new = ids[~same]
            if len(new):
                own = [rng for rng, is_same in zip(rngs, same, strict=True) if not is_same]
                self.task[new] = self._next_tasks(new, own) if asked is None else asked[new]
            self.batch.reset(ids, self.task[ids], rngs, same)
        self._tracker.restart(ids)
        if self._squeeze is not None:
            self._squeeze.restart(ids)
        self._done[ids] = False
        if self._history is not None:
            self._history.restart(ids)

    def step(
        self, actions: np.ndarray
    ) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, Info]:
        """Advance every sub-environment by one control step (50 ms).

        In mode NEXT_STEP, sub-environments whose episode the last step ended restart instead:
        their action is ignored and their reward 0.

        Returns:
            Observations, rewards (n,), terminated (n,), truncated (n,) and info.

        Raises:
            ResetNeeded: before the first reset; in mode DISABLED, after the end of an episode.
            ValueError: actions of another shape or type.
        """
        actions = self._shaped(actions)
        restarting = self._restarting_in_this_step()
        actions = self._finite(actions, ~restarting)
        diverged_before = self.batch.diverged.copy()
        self.batch.step(actions)
        self._tracker.steps += 1
        self._tracker.divergences += self.batch.diverged - diverged_before
        if restarting.any():
            self._restart(np.flatnonzero(restarting))
        measured = self._measure()
        self._tracker.update(measured, running=~restarting)
        self._remember_step(measured)

        observation = self._observation(measured)
        info = self._info(measured)
        reward = np.where(restarting, 0.0, rewards.paid(self._reward, info, self.num_envs))
        self.last_reward = reward.copy()
        terminated = np.zeros(self.num_envs, bool)
        truncated = self._tracker.steps >= self.max_steps
        self._done = truncated.copy()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and truncated.any():
            observation, info = self._restart_in_same_step(truncated, observation, info)
        return observation, reward, terminated, truncated, info

    def _shaped(self, actions: Any) -> np.ndarray:
        """Actions (n, 5), float64.

        Raises:
            ResetNeeded: before the first reset; in mode DISABLED, after the end of an episode.
            ValueError: another shape, or no numbers.
        """
        if self._rngs is None:
            raise gym.error.ResetNeeded("call reset() before step()")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._done.any():
            ended = np.flatnonzero(self._done).tolist()
            raise gym.error.ResetNeeded(
                f"the episodes of {checks.brief(ended)} have ended: reset them before the next "
                'step, by options={"reset_mask": ...}'
            )
        actions = checks.numbers("actions", actions)
        if actions.shape != (self.num_envs, ACTION_SIZE):
            raise ValueError(
                f"actions must have shape ({self.num_envs}, {ACTION_SIZE}), not {actions.shape}"
            )
        return actions

    def _finite(self, actions: np.ndarray, running: np.ndarray) -> np.ndarray:
        """Actions (n, 5) in [-1, 1]; what is not finite is taken for 0, counted, and warned of.

        Args:
            actions: (n, 5).
            running: (n,) whose actions are used.
        """
        finite = np.isfinite(actions)
        if not finite.all():
            invalid = ~finite.all(1) & running
            self._tracker.invalid_actions += invalid
            actions = np.where(finite, actions, 0.0)
            if invalid.any() and not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"actions of {invalid.sum()} of {self.num_envs} sub-environments are NaN or "
                    "infinite, and taken for 0: info counts them as invalid_action",
                    RuntimeWarning,
                    stacklevel=3,
                )
        return np.minimum(np.maximum(actions, -1.0), 1.0)

    def _restarting_in_this_step(self) -> np.ndarray:
        """Sub-environments that restart instead of a control step, bool (n,): in NEXT_STEP only."""
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            return self._done.copy()
        return np.zeros(self.num_envs, bool)

    def _restart_in_same_step(
        self, truncated: np.ndarray, last_observation: Observation, last_info: Info
    ) -> tuple[Observation, Info]:
        """Restart the episodes that have just ended.

        Args:
            truncated: (n,) which ended.
            last_observation: of all sub-environments, before.
            last_info: the same.

        Returns:
            Observation and info of the new episodes. The info holds the last ones of those
            that ended, by Gymnasium's names.
        """
        ids = np.flatnonzero(truncated)
        self._restart(ids)
        measured = self._measure()
        self._remember_starts(measured, ids)
        observation = self._observation(measured)
        info = self._info(measured)

        final_observations = np.full(self.num_envs, None, object)
        for i in ids:
            final_observations[i] = {key: values[i] for key, values in last_observation.items()}
        info["final_info"] = last_info
        info["_final_info"] = truncated.copy()
        info["final_obs"] = final_observations
        info["_final_obs"] = truncated.copy()
        return observation, info

    def _remember_step(self, measured: dict[str, np.ndarray]) -> None:
        """Add what was measured after a control step, with its noise, to the history."""
        if self._history is not None:
            self._history.append(self._observe(measured, self._all_ids))

    def _remember_starts(self, measured: dict[str, np.ndarray], ids: np.ndarray) -> None:
        """Begin the histories of sub-environments ids (k,) that were reset."""
        if self._history is not None:
            self._history.begin(self._observe(measured, ids))

    def _observe(self, measured: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
        """States (n, size), with noise in those of sub-environments ids (k,)."""
        noise = self.batch.variation.noise(ids, self._layout.size)
        return observations.observe(measured, self._tracker.held_progress, noise, self.sensors)

    def _observation(self, measured: dict[str, np.ndarray]) -> Observation:
        """Present observations, of the history as it is and of what is measured."""
        observation = {}
        if self._history is not None:
            observation["state"] = self._history.stacked()
        if self.privileged:
            observation["privileged"] = observations.observe(measured, self._tracker.held_progress)
        if self._pixels is not None:
            batch = self.batch
            observation["rgb"] = self._pixels.draw(
                batch.variant,
                batch.qpos,
                batch.mocap_pos,
                batch.mocap_quat,
                batch.variation.pictured(),
            )
        if self._has_task_vectors:
            observation["task"] = self.told(self.task)
        return observation

    def told(self, task: np.ndarray) -> np.ndarray:
        """What is told now, (n, size), of tasks with the indices (n,): at the present stages."""
        return told(self.task_vectors, task, self.batch.present_stage())

    def _info(self, measured: dict[str, np.ndarray]) -> Info:
        tracker = self._tracker
        success = tracker.success
        progress = measured["progress"]
        trial = {"attempt": self._attempt.copy()} if self.attempts > 1 else {}
        return {
            **trial,
            **rewards.reward_terms(measured, tracker.held_progress, success),
            "success": success,
            "success_any": tracker.succeeded.copy(),
            "progress": progress,
            "contact_fraction": tracker.held_progress / np.maximum(progress, 1e-9),
            "task_index": self.task.copy(),
            "steps": tracker.steps.copy(),
            "invalid_action": tracker.invalid_actions.copy(),
            "diverged": tracker.divergences.copy(),
        }

    @property
    def _identity(self) -> snapshots.Identity:
        """What a snapshot of it is of."""
        return {**self.batch.identity, **self._shows}

    def snapshot(self) -> dict[str, Any]:
        """The exact state of all sub-environments; checkpoints hold it by these names.

        All are arrays, or dictionaries of arrays, but `rngs`: the generators' states, one for
        each sub-environment; none before the first reset.
        """
        snapshot = {
            "of": snapshots.encoded(self._identity),
            "batch": self.batch.snapshot(),
            "rngs": [rng.bit_generator.state for rng in self._rngs or []],
            "done": self._done.copy(),
            "last_reward": self.last_reward.copy(),
        }
        if self._history is not None:
            snapshot["past"] = self._history.snapshot()
        if self._squeeze is not None:
            snapshot["squeeze"] = self._squeeze.snapshot()
        if self._deck is not None:
            snapshot["deck"] = self._deck.snapshot()
        if self.attempts > 1:
            snapshot["attempt"] = self._attempt.copy()
        return {**snapshot, **self._tracker.snapshot()}

    def _fitted(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays of a snapshot that are not the batch's.

        Raises:
            ValueError: see `restore`.
        """
        own = self.snapshot()
        for name in ("of", "batch", "rngs", "deck"):
            own.pop(name, None)
        older = {name: np.zeros(self.num_envs, int) for name in ("invalid", "diverged")}
        older["last_reward"] = np.zeros(self.num_envs)
        return snapshots.fitted({**older, **snapshot}, own, self.num_envs)

    def _generators_of(
        self, snapshot: Mapping[str, Any], copies: bool
    ) -> list[np.random.Generator] | None:
        """The generators of a snapshot; None of one before the first reset.

        Raises:
            ValueError: see `restore`.
        """
        states = snapshots.part(snapshot, "rngs")
        if isinstance(states, Sequence) and len(states) == 0:
            return None
        if copies and isinstance(states, Sequence) and len(states) == 1:
            states = [*states] * self.num_envs
        try:
            rngs = [_generator_in(state) for state in states]
        except (TypeError, ValueError, KeyError, OverflowError):
            rngs = []
        if len(rngs) != self.num_envs:
            raise ValueError(
                f"the snapshot is damaged: rngs are not the states of {self.num_envs} generators"
            )
        return rngs

    def _deck_of(self, snapshot: Mapping[str, Any]) -> Deck | None:
        """The deck of a snapshot; a new one where there is none.

        Raises:
            ValueError: see `restore`.
        """
        if self.assignment != "deck":
            return None
        deck = self._new_deck(np.random.default_rng(0))
        if "deck" in snapshot:
            like = {"deck": deck.snapshot()}
            deck.restore(snapshots.fitted(snapshot, like, self.num_envs)["deck"])
        return deck

    def restore(self, snapshot: dict[str, Any], *, copies: bool = False) -> Observation:
        """Return to a snapshot; what follows is bit for bit what followed it.

        Args:
            snapshot: see `snapshot`.
            copies: give every sub-environment the state of a snapshot of one.

        Returns:
            The observation at the snapshot.

        Raises:
            ValueError: the snapshot is of something else, or damaged; nothing is changed.
        """
        snapshots.refuse_other(snapshot, self._identity, copies=copies)
        batch = self.batch.fitted(snapshots.part(snapshot, "batch"), copies=copies)
        found = self._fitted(snapshot)
        rngs = self._generators_of(snapshot, copies)
        deck = self._deck_of(snapshot)
        # all of it fits: from here on nothing is refused
        self.batch.write_fitted(batch)
        self.task = self.batch.task.copy()
        self._tracker.restore(found)
        self._done = found["done"]
        self.last_reward = found["last_reward"]
        if self.attempts > 1:
            self._attempt = found["attempt"]
        if self._history is not None:
            self._history.restore(found["past"])
        if self._squeeze is not None:
            self._squeeze.restore(found["squeeze"])
        self._rngs = rngs
        self._deck = deck
        return self._observation(self.batch.measure() if self.privileged else {})

    def render(self) -> tuple[np.ndarray, ...] | np.ndarray | None:
        """What the render mode says: frames (height, width, 3) uint8, or one; None without a mode.

        Raises:
            RenderingUnavailable: no OpenGL back end works.
        """
        return self._frames.draw(self.batch) if self._frames is not None else None

    def close_extras(self, **kwargs) -> None:
        """Free the renderers."""
        if self._frames is not None:
            self._frames.close()
        if self._pixels is not None:
            self._pixels.close()


def of_one_row(
    task: str,
    num_envs: int = 1,
    *,
    max_episode_steps: int | None = None,
    episode_steps: int | None = None,
    **choices: Any,
) -> ClosureVectorEnv:
    """The vector environment of a row, as `gymnasium.make_vec` asks for it.

    Args:
        task: the row.
        num_envs: number of sub-environments.
        max_episode_steps: control steps of an episode, by Gymnasium's name.
        episode_steps: the same, by ours.
        choices: see `ClosureVectorEnv`.
    """
    steps = max_episode_steps if episode_steps is None else episode_steps
    return ClosureVectorEnv(task, num_envs, episode_steps=steps, **choices)


def of_set(
    tasks: Sequence[str],
    num_envs: int = 1,
    *,
    lengths: tuple[int | None, int | None] = (None, None),
    max_episode_steps: int | None = None,
    episode_steps: int | None = None,
    **choices: Any,
) -> ClosureVectorEnv:
    """The vector environment of a task set, as `gymnasium.make_vec` asks for it.

    Args:
        tasks: its trained rows.
        num_envs: number of sub-environments.
        lengths: control steps of an episode in the set: of one attempt, and of several.
        max_episode_steps: control steps of an episode, by Gymnasium's name.
        episode_steps: the same, by ours; by default what the set or each row says.
        choices: see `ClosureVectorEnv`.
    """
    steps = max_episode_steps if episode_steps is None else episode_steps
    if steps is None:
        steps = lengths[choices.get("attempts", 1) != 1]
    return ClosureVectorEnv(tasks, num_envs, episode_steps=steps, **choices)


def _autoreset_mode(value: Any) -> AutoresetMode:
    """Gymnasium's mode of that name.

    Raises:
        ValueError: no such mode.
    """
    try:
        return AutoresetMode(value)
    except ValueError:
        allowed = ", ".join(mode.value for mode in AutoresetMode)
        raise ValueError(
            f"unknown autoreset_mode {checks.brief(value)}: allowed: {allowed}"
        ) from None


def _generator_in(state: Mapping[str, Any]) -> np.random.Generator:
    """A generator in a state of `bit_generator`."""
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return rng
