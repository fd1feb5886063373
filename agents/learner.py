"""One learner: environment, policy and algorithm together; warm start, learning, save, resume."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from uncap.agents import checkpoints, demonstrations, sb3
from uncap.agents.algorithm import Algorithm
from uncap.agents.config import CloneConfig, DaggerConfig, LearnerConfig
from uncap.agents.dagger import Dagger, Teacher
from uncap.agents.memory import Recall, told_size
from uncap.agents.policy import refuse_other_parts
from uncap.agents.sac import demonstration_transitions
from uncap.agents.tables import ALGORITHMS, SAMPLINGS
from uncap.agents.trials import TrialDagger
from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.conditioning import CONDITIONINGS, told, vectors
from uncap.envs.experts import expert_action
from uncap.envs.observations import FULL, stage_in
from uncap.envs.pool import VARIANTS
from uncap.envs.sensors import SENSORS
from uncap.envs.tables import lookup

# Networks this small gain nothing from a second thread, which would fight the physics for the
# cores; and one thread gives the same bytes on every machine.
torch.set_num_threads(1)

OLD_SHARE, NEW_SHARE = 0.8, 0.2  # of the running success rates, per update


class Learner:
    """A task-conditioned policy that learns in its own batch of environments.

    Args:
        tasks: rows it is trained on.
        config: what it is made of.
        seed: of environments, weights and minibatches.
        known_tasks: rows that `one_hot` has components for; by default `tasks`.

    Attributes:
        conditioning: name of what the policy is told.
        sensors: name of what it senses.
        variants: of each row.
        vectors: what environments take as conditioning: the name, or vectors by task.
        closures: the vector environment.
        env: the same for stable-baselines3.
        algorithm: how it learns by reinforcement.
        success: (tasks,) running success rates, nan where unknown.
        teacher: of the warm start, while it goes on.

    Raises:
        ValueError: an unknown name, or a setting out of its limits.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        config: LearnerConfig,
        seed: int,
        known_tasks: Sequence[str] | None = None,
    ):
        algorithm: type[Algorithm] = lookup(ALGORITHMS, config.algorithm, "algorithm")
        self.tasks = tuple(tasks)
        self.known_tasks = tuple(known_tasks or tasks)
        self.seed = seed
        self.sampling = config.sampling
        given = config.conditioning
        self.conditioning = given if isinstance(given, str) else "language"
        self.vectors = _encoded(given)
        self.sensors = config.sensors
        self.variants = config.variants or VARIANTS
        self.episode_steps = config.episode_steps
        self.closures = ClosureVectorEnv(
            self.tasks,
            config.num_envs,
            conditioning=self.vectors,
            known_tasks=self.known_tasks,
            autoreset_mode=AutoresetMode.SAME_STEP,
            assignment="deck",
            variants=self.variants,
            sensors=self.sensors,
            privileged=algorithm.critic_sees_more(self.sensors),
            episode_steps=self.episode_steps,
            reward=config.reward,
            attempts=config.attempts,
            engine=config.engine,
        )
        row = lookup(CONDITIONINGS, self.conditioning, "conditioning")
        network = dataclasses.replace(
            config.network,
            embedding=row.task_input == "index",
            blind=row.task_input == "nothing" and not row.memory,
            sensors=self.sensors,
            memory=self.conditioning if row.memory else "",
        )
        self.env = algorithm.env_class(
            self.closures,
            config.ppo.gamma,
            scaled=algorithm.scales_rewards(config),
            plain=algorithm.plain,
            expert=self.label if config.guided else None,
            told_size=told_size(network),
        )
        self.config = dataclasses.replace(config, network=network)
        self.algorithm = algorithm(self.env, self.config, seed)
        if memory := self.policy.memory if row.memory else None:
            memory.vectors[:] = torch.as_tensor(vectors("parameters", self.tasks))
            self.env.recall = Recall(memory, self.closures)
        self.success = np.full(len(self.tasks), np.nan)
        self.teacher: Teacher | None = None
        self._taught: dict[str, Any] | None = None  # a teacher's saved state, to go on from
        self._between_updates = 0.0  # seconds, which stable-baselines3 counts to the rollout

    @property
    def policy(self) -> Any:
        """The policy, trained in place."""
        return self.algorithm.policy

    @property
    def env_steps(self) -> int:
        """Environment steps of reinforcement learning so far."""
        return self.algorithm.env_steps

    @property
    def seconds(self) -> dict[str, float]:
        """Where the time of learning went: physics, environment (the rest), inference, update."""
        physics = self.closures.batch.physics_seconds
        rollout = self.algorithm.seconds.get("rollout", 0.0)
        return {
            "physics": physics,
            "environment": self.env.seconds - physics,
            "inference": rollout - self.env.seconds - self._between_updates,
            "update": self.algorithm.seconds.get("update", 0.0),
        }

    def label(self) -> np.ndarray:
        """The expert's actions (n, a) for the present states.

        With a memory that believes they are those for the rows that it takes the closures for,
        which the policy is told: for the true ones it could not know what to do.
        """
        batch, recall = self.closures.batch, self.env.recall
        if recall and recall.memory.is_belief:
            return expert_action(batch.measure_as(recall.rows()))
        return expert_action(batch.measure())

    def take_successes(self) -> np.ndarray:
        """Success rate (tasks,) of the episodes finished since the last call; nan where none.

        Which tasks are practised next follows from the running rates.
        """
        rates = self.env.take_successes()
        mixed = OLD_SHARE * self.success + NEW_SHARE * rates
        mixed = np.where(np.isnan(self.success), rates, mixed)
        self.success = np.where(np.isnan(rates), self.success, mixed)
        self._choose_tasks()
        return rates

    def _choose_tasks(self) -> None:
        if self.sampling != "uniform":
            self.closures.probabilities = SAMPLINGS[self.sampling](self.success)

    def imitate_experts(
        self,
        config: DaggerConfig,
        on_round: Callable[[int, float], bool],
        make: Callable[..., Dagger] | None = None,
        phase: int = 0,
    ) -> None:
        """DAgger from the scripted experts of the learner's own tasks, see `dagger.Dagger`.

        After `resume` it goes on where it was.

        Args:
            config: settings.
            on_round: see `Dagger.run`.
            make: makes another kind of teacher, with the arguments of `Dagger`.
            phase: of several that follow one another: each has a generator of its own.
        """
        words = [self.seed, 1, phase] if phase else [self.seed, 1]
        rng = np.random.default_rng(np.random.SeedSequence(words))
        self.take_successes()  # sets which tasks are practised

        def teach(policy: Any) -> None:
            made = make or (TrialDagger if self.env.recall else Dagger)
            self.teacher = made(policy, self.env, self.label, config, rng, self._taught)
            self.teacher.run(on_round)

        self._warm_start(teach)
        if self.env.recall:
            self.env.recall.memory = self.policy.memory  # not the copy that was taught with
            # what is left of its gradients would count where all gradients are clipped together
            self.policy.memory.zero_grad()

    def clone_demonstrations(
        self, folder: pathlib.Path, config: CloneConfig, on_epoch: Callable[[int, float], bool]
    ) -> None:
        """Behaviour cloning from a recording, see `demonstrations.clone`.

        After `resume` it goes on where it was.

        Raises:
            ValueError: no such recording, or it lacks a task.
        """
        data = self.demonstrations(folder)
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 2]))

        def teach(policy: Any) -> None:
            self.teacher = demonstrations.Cloning(policy, data, config, rng, self._taught)
            self.teacher.run(on_epoch)

        self._warm_start(teach)

    def _warm_start(self, teach: Callable[[Any], None]) -> None:
        """Let a function make a teacher and run it."""
        self.algorithm.warm_start(teach)
        self.teacher = self._taught = None

    @property
    def is_warming_up(self) -> bool:
        """Whether the state that it returned to was saved during a warm start, which goes on."""
        return self._taught is not None

    def demonstrations(self, folder: pathlib.Path) -> dict[str, np.ndarray]:
        """The steps of a recording that are of the learner's tasks, with its own conditioning.

        Raises:
            ValueError: no such recording, or it lacks a task.
        """
        data = demonstrations.load(folder)
        index = demonstrations.task_indices(folder, self.tasks)[data["index"]]  # -1: other tasks
        known = index >= 0
        steps = {name: column[known] for name, column in data.items()}
        index = index[known]
        told_then = told(self.closures.task_vectors, index, stage_in(steps["state"]))
        return {**steps, "index": index, "task": told_then}

    def replay_demonstrations(self, folder: pathlib.Path) -> None:
        """Let the algorithm draw a share of each batch from a recording.

        Raises:
            ValueError: no such recording, or it lacks a task.
        """
        transitions = demonstration_transitions(folder, self.tasks, self.closures.task_vectors)
        self.algorithm.add_demonstrations(transitions)

    def learn(self, env_steps: int, on_update: Callable[[], bool]) -> None:
        """Learn by reinforcement until `env_steps` in all.

        Args:
            env_steps: of reinforcement learning.
            on_update: called after each update; returns whether to go on.
        """
        if not self.algorithm.has_begun:
            self.take_successes()
            self.env.seconds = self.closures.batch.physics_seconds = 0.0
        remaining = env_steps - self.env_steps
        if remaining > 0:
            timed = functools.partial(self._timed, on_update, env_steps)
            self.algorithm.learn(remaining, timed)

    def _timed(self, on_update: Callable[[], bool], env_steps: int) -> bool:
        """Log the update, call on_update, and note the time of both."""
        began = time.perf_counter()
        last = self.env_steps >= env_steps  # this call comes after the rollout
        sb3.dump(self.algorithm.model)
        goes_on = on_update()
        if not last:
            self._between_updates += time.perf_counter() - began
        return goes_on

    def save(
        self,
        folder: pathlib.Path,
        *,
        teacher: bool = True,
        beside: Mapping[str, Any] | None = None,
        **meta: Any,
    ) -> None:
        """Write the exact state; call between updates, rounds or epochs.

        Args:
            folder: of the checkpoint.
            teacher: with the state of the teacher, without which a warm start cannot go on.
            beside: nested dictionaries of arrays and JSON, to keep with it.
            **meta: goes into its JSON part.
        """
        tensors, learned = self.algorithm.save()
        meta |= learned
        state, meta["state"] = checkpoints.separate(self._state(teacher), "state/")
        others, meta["beside"] = checkpoints.separate(beside or {}, "beside/")
        tensors |= state | others
        if self.conditioning == "language":
            tensors["sentences"] = np.stack(list(self.vectors.values()))
            meta["sentences"] = list(self.vectors)
        meta |= {
            "tasks": self.tasks,
            "known": self.known_tasks,
            "conditioning": self.conditioning,
            "sensors": self.sensors,
            "episode_steps": self.episode_steps,
            "attempts": self.closures.attempts,
            "vectors": dict(zip(self.tasks, self.closures.task_vectors.tolist(), strict=True)),
            "parts": SENSORS[self.sensors].parts,
            "network": dataclasses.asdict(self.policy.network),
            "algorithm": self.config.algorithm,
            "clock": [
                self.closures.batch.physics_seconds,
                self.env.seconds,
                self._between_updates,
                self.algorithm.seconds,
            ],
        }
        checkpoints.save(folder, tensors, meta)

    def _state(self, teacher: bool) -> dict[str, Any]:
        """What stands beside the algorithm: environment, scale, generators, and the teacher."""
        generator: Any = np.random.get_state()  # noqa: NPY002 - stable-baselines3's
        _, keys, *position = generator
        state = {
            "scale": self.env.scale.state(),
            "success": self.success,
            "return": self.env.returns,
            "shuffle": {"keys": keys, "position": position},
            "torch_rng": torch.get_rng_state().numpy(),
        }
        if not sb3.awaits_first_reset(self.env):
            state["env"] = self.closures.snapshot()
            if self.env.recall:
                state["remembered"] = self.env.recall.snapshot()
        if self.teacher and teacher:
            state["teacher"] = self.teacher.state()
        return state

    def _load_state(self, state: Mapping[str, Any]) -> None:
        """Return to a state of `_state`."""
        self.env.scale.load(state["scale"])
        self.success = state["success"]
        self.env.returns = state["return"]
        if "env" in state:
            sb3.take_seed(self.env)  # it was used
            self.closures.restore(state["env"])
            if self.env.recall:
                self.env.recall.restore(state["remembered"])
            self._choose_tasks()
        self._taught = state.get("teacher")
        shuffle = state["shuffle"]
        np.random.set_state(("MT19937", shuffle["keys"], *shuffle["position"]))  # noqa: NPY002
        torch.set_rng_state(torch.tensor(state["torch_rng"]))

    def resume(self, folder: pathlib.Path) -> dict[str, Any]:
        """Return to a saved state; what follows is bit for bit what would have followed it.

        Returns:
            The checkpoint's JSON part; `beside` in it is whole.

        Raises:
            CheckpointError: see `checkpoints.load`; or it is of an earlier version.
        """
        tensors, meta = checkpoints.load(folder)
        if meta["format"] != checkpoints.FORMAT:
            raise checkpoints.CheckpointError(
                f"{folder} was saved by an earlier version, whose trainings this one cannot go on "
                "with: begin a new one"
            )
        if (found := meta.get("sensors", FULL)) != self.sensors:
            raise checkpoints.CheckpointError(
                f"{folder} was trained with the sensors {found}, not {self.sensors}"
            )
        refuse_other_parts(meta, folder)
        try:
            self.algorithm.resume(tensors, meta)
            self._load_clock(*meta["clock"])
            self._load_state(checkpoints.together(tensors, "state/", meta["state"]))
        except (LookupError, RuntimeError, TypeError, ValueError):
            raise checkpoints.CheckpointError(
                f"{folder} was saved by another job or version: it does not fit this one"
            ) from None
        meta["beside"] = checkpoints.together(tensors, "beside/", meta.get("beside", {}))
        return meta

    def _load_clock(
        self, physics: float, env: float, between: float, model: dict[str, float]
    ) -> None:
        """Take the seconds that were spent before a state was saved."""
        self.closures.batch.physics_seconds = physics
        self.env.seconds = env
        self._between_updates = between
        self.algorithm.model.seconds = model


def _encoded(conditioning: str | Mapping[str, np.ndarray]) -> Any:
    """What environments take: sentences are encoded once, and kept with the policy."""
    if conditioning != "language":
        return conditioning
    return dict(zip(CLOSURES, vectors("language", tuple(CLOSURES)), strict=True))
