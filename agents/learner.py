"""One learner: environment, policy and PPO together; warm start, learning, exact save and resume."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.callbacks import BaseCallback

from agents import checkpoints, demonstrations
from agents.config import DaggerConfig, NetworkConfig, PPOConfig, SACConfig
from agents.dagger import dagger
from agents.networks import MultiTaskPolicy
from agents.plain import PlainPolicy, make_plain_ppo
from agents.ppo import make_ppo
from agents.sac import MultiTaskSACPolicy, demonstration_transitions, make_sac
from agents.tables import SAMPLINGS
from agents.vec_env import TaskVecEnv
from envs import CLOSURES, ClosureVectorEnv
from envs.conditioning import vectors
from envs.experts import expert_action

# Networks this small gain nothing from a second thread, which would fight the physics
# for the cores; and one thread gives the same bytes on every machine.
torch.set_num_threads(1)
DEFAULT_NETWORK, DEFAULT_SAC = NetworkConfig(), SACConfig()
POLICIES = {"ppo": MultiTaskPolicy, "plain_ppo": PlainPolicy, "sac": MultiTaskSACPolicy}


class Learner:
    """A task-conditioned policy that learns in its own batch of environments.

    Args:
        tasks: rows it is trained on.
        conditioning: what the policy is told, see `envs.conditioning.vectors`.
        known_tasks: rows that `one_hot` has components for; by default `tasks`.
        ppo: settings of PPO.
        network: what actor and critic are made of.
        num_envs: sub-environments.
        seed: of environments, weights and minibatches.
        warm: whether the policy will start from something learned.
        sampling: which task is practised next, a row of `balance.SAMPLINGS`.
        algorithm: ppo, sac, or plain_ppo, the control.
        sac: settings of SAC.
        guided: go on to imitate the scripted experts while reinforcement learns, see `PPOConfig.guidance`.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        *,
        conditioning: str | Mapping[str, np.ndarray],
        ppo: PPOConfig,
        num_envs: int,
        seed: int,
        warm: bool,
        network: NetworkConfig = DEFAULT_NETWORK,
        known_tasks: Sequence[str] | None = None,
        sampling: str = "uniform",
        algorithm: str = "ppo",
        sac: SACConfig = DEFAULT_SAC,
        guided: bool = False,
    ):
        self.tasks, self.known = tuple(tasks), tuple(known_tasks or tasks)
        self.kind = conditioning if isinstance(conditioning, str) else "language"
        if conditioning == "language":  # encoded once, and kept with the policy
            conditioning = dict(zip(CLOSURES, vectors("language", tuple(CLOSURES)), strict=True))
        self.conditioning = conditioning
        self.simulation = ClosureVectorEnv(
            tasks,
            num_envs,
            conditioning=conditioning,
            known_tasks=self.known,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        self.env = TaskVecEnv(
            self.simulation,
            ppo.gamma,
            scaled=algorithm == "ppo" and not ppo.popart,
            plain=algorithm == "plain_ppo",
            expert=self._expert if guided else None,
        )
        self.seed, self.algorithm = seed, algorithm
        network = dataclasses.replace(
            network, embedding=self.kind == "embedding", blind=self.kind in ("none", "history")
        )
        make = {
            "ppo": lambda: make_ppo(self.env, ppo, network, seed, warm),
            "plain_ppo": lambda: make_plain_ppo(self.env, seed),
            "sac": lambda: make_sac(self.env, sac, network, seed, warm),
        }
        self.ppo = make[algorithm]()
        self._between = 0.0  # seconds of what is done between updates, which stable-baselines3 counts to the rollout
        self.sampling, self.success = (
            sampling,
            np.full(len(self.tasks), np.nan),
        )  # (tasks,) running rates

    @property
    def policy(self) -> MultiTaskPolicy:
        """The policy, trained in place."""
        return self.ppo.policy

    @property
    def env_steps(self) -> int:
        """Environment steps of PPO so far."""
        return self.ppo.num_timesteps

    @property
    def seconds(self) -> dict[str, float]:
        """Where the time of PPO went so far: physics, environment (the rest of it), inference, update."""
        physics, rollout = (
            self.simulation.batch.physics_seconds,
            self.ppo.seconds.get("rollout", 0.0),
        )
        return {
            "physics": physics,
            "environment": self.env.seconds - physics,
            "inference": rollout - self.env.seconds - self._between,
            "update": self.ppo.seconds.get("update", 0.0),
        }

    def take_successes(self) -> np.ndarray:
        """Success rate (tasks,) of the episodes finished since the last call, nan where none; the next ones are sampled by it."""
        rates = self.env.take_successes()
        mixed = np.where(np.isnan(self.success), rates, 0.8 * self.success + 0.2 * rates)
        self.success = np.where(np.isnan(rates), self.success, mixed)
        if self.sampling != "uniform":
            self.simulation.probabilities = SAMPLINGS[self.sampling](self.success)
        return rates

    def _expert(self) -> np.ndarray:
        return expert_action(self.simulation.batch.measure())

    def warm_start(self, config: DaggerConfig, on_round: Callable[[int, float], bool]) -> None:
        """DAgger from the scripted experts of the learner's own tasks."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, 1]))
        self.take_successes()  # sets how tasks are sampled
        dagger(self.policy, self.env, self._expert, config, rng, on_round)

    def demonstrations(self, folder: pathlib.Path) -> dict[str, np.ndarray]:
        """The steps of a recording that are of the learner's tasks, told by its own conditioning.

        Raises:
            ValueError: no such recording, or it lacks a task.
        """
        recorded, data = demonstrations.metadata(folder)["tasks"], demonstrations.load(folder)
        if missing := [t for t in self.tasks if t not in recorded]:
            raise ValueError(
                f"{folder} has no demonstrations of {', '.join(missing)} (recorded: {', '.join(recorded)})"
            )
        own = np.array([self.tasks.index(t) if t in self.tasks else -1 for t in recorded])[
            data["index"]
        ]
        data = {name: column[own >= 0] for name, column in data.items()}
        index = own[own >= 0]
        return {**data, "index": index, "task": self.simulation.task_vectors[index]}

    def replay_demonstrations(self, folder: pathlib.Path) -> None:
        """Let SAC draw a share of each batch from a recording.

        Raises:
            ValueError: no such recording, or it lacks a task.
        """
        self.ppo.add_demonstrations(
            demonstration_transitions(folder, self.tasks, self.simulation.task_vectors)
        )

    def learn(self, env_steps: int, on_update: Callable[[], bool]) -> None:
        """PPO until `env_steps` in all; on_update runs after each update and returns whether to go on."""
        fresh = self.ppo._last_obs is None
        if fresh:
            self.take_successes()
            self.env.seconds = self.simulation.batch.physics_seconds = 0.0
        remaining = env_steps - self.env_steps

        def timed() -> bool:
            began, before = time.perf_counter(), self.ppo.num_timesteps
            going = on_update()
            if before < env_steps:  # the last call comes after the rollout
                self._between += time.perf_counter() - began
            return going

        if remaining > 0:
            self.ppo.learn(
                remaining,
                callback=_AfterUpdate(timed),
                reset_num_timesteps=fresh,
                log_interval=10**9,
            )

    def save(self, folder: pathlib.Path, **meta) -> None:
        """Write the exact state; call between updates."""
        model = self.policy.state_dict()
        tensors = {f"policy/{k}": v.numpy() for k, v in model.items()}
        optimizer = self.policy.optimizer.state_dict()["state"]
        tensors |= checkpoints.flatten(
            {str(i): {k: v.numpy() for k, v in s.items()} for i, s in optimizer.items()},
            "optimizer/",
        )
        tensors |= checkpoints.flatten(self.env.scale.state(), "scale/")
        if self.ppo._last_obs is not None:
            snapshot = self.simulation.snapshot()
            meta["rngs"] = snapshot.pop("rngs")
            kind, keys, *position = np.random.get_state()  # noqa: NPY002 - stable-baselines3 shuffles minibatches with it
            meta["shuffle"] = position
            tensors |= checkpoints.flatten(snapshot, "env/") | checkpoints.flatten(
                dict(self.ppo._last_obs), "obs/"
            )
            tensors["success"] = self.success
            tensors |= {
                "starts": self.ppo._last_episode_starts,
                "return": self.env._return,
                "shuffle": keys,
            }
            if self.algorithm == "sac":
                tensors |= checkpoints.flatten(self.ppo.replay_buffer.state(), "replay/")
        tensors["torch_rng"] = torch.get_rng_state().numpy()
        if self.kind == "language":
            tensors["sentences"] = np.stack(list(self.conditioning.values()))
            meta["sentences"] = list(self.conditioning)
        meta |= {
            "tasks": self.tasks,
            "known": self.known,
            "conditioning": self.kind,
            "env_steps": self.env_steps,
            "critic_warmup": self.ppo.critic_warmup,
            "updates": self.ppo._n_updates,
            "num_tasks": self.policy.num_tasks,
            "network": dataclasses.asdict(self.policy.network),
            "popart": self.policy.popart,
            "algorithm": self.algorithm,
            "clock": [
                self.simulation.batch.physics_seconds,
                self.env.seconds,
                self._between,
                self.ppo.seconds,
            ],
        }
        checkpoints.save(folder, tensors, meta)

    def resume(self, folder: pathlib.Path) -> None:
        """Return to a saved state; what follows is bit for bit what would have followed it."""
        tensors, meta = checkpoints.load(folder)
        self.policy.load_state_dict(
            {k[7:]: torch.tensor(v) for k, v in tensors.items() if k.startswith("policy/")}
        )
        state = {
            int(i): {k: torch.tensor(v) for k, v in s.items()}
            for i, s in checkpoints.unflatten(tensors, "optimizer/").items()
        }
        self.policy.optimizer.load_state_dict(
            {**self.policy.optimizer.state_dict(), "state": state}
        )
        self.env.scale.load(checkpoints.unflatten(tensors, "scale/"))
        self.ppo.num_timesteps, self.ppo.critic_warmup = meta["env_steps"], meta["critic_warmup"]
        self.ppo._n_updates = meta["updates"]
        self.simulation.batch.physics_seconds, self.env.seconds, self._between, self.ppo.seconds = (
            meta["clock"]
        )
        if "rngs" in meta:
            self.simulation.restore(
                {**checkpoints.unflatten(tensors, "env/"), "rngs": meta["rngs"]}
            )
            self.ppo._last_obs = checkpoints.unflatten(tensors, "obs/")
            self.ppo._last_episode_starts, self.env._return = tensors["starts"], tensors["return"]
            self.success = tensors["success"]
            if self.algorithm == "sac":
                self.ppo.replay_buffer.load(checkpoints.unflatten(tensors, "replay/"))
            if self.sampling != "uniform":
                self.simulation.probabilities = SAMPLINGS[self.sampling](self.success)
            np.random.set_state(("MT19937", tensors["shuffle"], *meta["shuffle"]))  # noqa: NPY002
        torch.set_rng_state(torch.tensor(tensors["torch_rng"]))


class _AfterUpdate(BaseCallback):
    """Calls a function between updates, and stops learning when it returns False."""

    def __init__(self, function: Callable[[], bool]):
        super().__init__()
        self.function, self.going, self.first = function, True, True

    def _on_rollout_start(self) -> None:
        if not self.first:  # before the first rollout no update has happened
            self.going = self.function()
        self.first = False

    def _on_step(self) -> bool:
        return self.going

    def _on_training_end(self) -> None:
        if self.going:
            self.function()


def load_policy(folder: pathlib.Path) -> tuple[MultiTaskPolicy, dict]:
    """The policy of a checkpoint, and the checkpoint's JSON part; `conditioning` in it is what environments take.

    Raises:
        CheckpointError: see `checkpoints.load`.
    """
    tensors, meta = checkpoints.load(folder)
    try:
        if "sentences" in meta:
            meta["conditioning"] = dict(zip(meta["sentences"], tensors["sentences"], strict=True))
        env = ClosureVectorEnv(
            meta["tasks"][:1],
            1,
            conditioning=meta["conditioning"],
            known_tasks=meta["known"],
            threads=1,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        algorithm = meta["algorithm"]
        spaces = TaskVecEnv(env, plain=algorithm == "plain_ppo")
        own = (
            {}
            if algorithm == "plain_ppo"
            else {"num_tasks": meta["num_tasks"], "network": NetworkConfig(**meta["network"])}
        )
        own |= {"popart": meta["popart"]} if algorithm == "ppo" else {}
        policy = POLICIES[algorithm](
            spaces.observation_space, spaces.action_space, lambda _: 0.0, **own
        )
        policy.load_state_dict(
            {k[7:]: torch.tensor(v) for k, v in tensors.items() if k.startswith("policy/")}
        )
    except (RuntimeError, KeyError, TypeError):
        raise checkpoints.CheckpointError(
            f"the checkpoint in {folder} was made by another version: its networks differ"
        ) from None
    return policy, meta


def acting(policy: MultiTaskPolicy, tasks: Sequence[str]) -> Callable:
    """The policy as evaluation takes it: made for an environment, deterministic.

    Args:
        policy: trained.
        tasks: its rows, in the order of its indices; a row that is not among them is
            given index 0, which counts only for `per_task` heads.
    """
    order = {name: k for k, name in enumerate(tasks)}

    def make(env: ClosureVectorEnv) -> Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]:
        own = np.array([order.get(name, 0) for name in env.tasks], np.float32)

        def act(observation: dict[str, np.ndarray], task: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                tensors = {
                    k: torch.as_tensor(v)
                    for k, v in {**observation, "index": own[task][:, None]}.items()
                }
                return policy.act(tensors).clamp(-1, 1).numpy()

        return act

    return make
