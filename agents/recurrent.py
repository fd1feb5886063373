"""sb3-contrib's recurrent PPO over whole trials: what a memory learns by reinforcement alone.

A trial with all its attempts is one episode of the algorithm, whose memory goes through it (RL^2:
Duan et al., 2016; Wang et al., 2016); so do gradients, as a rollout is whole trials. It is the
control of the memories that are taught.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch

try:
    from sb3_contrib import RecurrentPPO
    from sb3_contrib.common.recurrent.type_aliases import RNNStates
    from sb3_contrib.ppo_recurrent import MultiInputLstmPolicy
except ModuleNotFoundError:
    raise ValueError("recurrent_ppo needs sb3-contrib: pip install 'uncap[sb3]'") from None

from uncap.agents import sb3
from uncap.agents.algorithm import Algorithm
from uncap.agents.config import LearnerConfig, NetworkConfig
from uncap.agents.memory import Memory
from uncap.agents.vec_env import TaskVecEnv
from uncap.envs import ClosureVectorEnv
from uncap.envs.panda import ACTIONS

LEAST_ROLLOUT = 80  # control steps per environment and update, as in `PPOConfig`
_BEGIN = len(ACTIONS) + 1  # numbers beside the state: the last action, whether an attempt begins


class TrialVecEnv(TaskVecEnv):
    """Trials as episodes: `state` (n, s + 6) has the last action and whether an attempt begins."""

    def __init__(self, *args: Any, **kwargs: Any):
        self._last: np.ndarray | None = None  # (n, a) actions of the last control step
        super().__init__(*args, **kwargs)

    @property
    def ends_with_trials(self) -> bool:
        """Always."""
        return True

    def _space(self) -> gym.Space:
        single: Any = self.env.single_observation_space
        size = single["state"].shape[0] + _BEGIN
        return gym.spaces.Dict({"state": gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)})

    def observe(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Put the last action and whether an attempt begins beside the state."""
        begins = self.closures.steps[:, None] == 0  # (n, 1)
        return {"state": self._beside(observation["state"], begins)}

    def _beside(self, state: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """States (n, s + 6)."""
        last = np.zeros((len(state), len(ACTIONS))) if self._last is None else self._last
        return np.concatenate([state, np.where(begins, 0.0, last), begins], 1, dtype=np.float32)

    def step_wait(self) -> Any:
        """Step all; what an episode ended with gets the last action beside it."""
        self._last = np.clip(self._actions, -1.0, 1.0)
        observation, reward, ended, infos = super().step_wait()
        for i in np.flatnonzero(ended):
            terminal = infos[i]["terminal_observation"]["state"][None]
            state = np.concatenate([terminal, self._last[i : i + 1], [[0.0]]], 1)
            infos[i]["terminal_observation"] = {"state": state[0].astype(np.float32)}
        return observation, reward, ended, infos


class Lstm:
    """The actor's LSTM of a policy, as `memory.Recall` and exported files use a memory.

    Args:
        policy: sb3-contrib's.
    """

    is_belief = names_rows = reads_reward = False
    inputs = Memory.inputs

    def __init__(self, policy: Any):
        self.policy = policy
        self.units = policy.lstm_actor.hidden_size
        self.recurrent = 2 * self.units
        self.size = self.recurrent + len(ACTIONS)
        self.told_size = self.units

    def step(
        self, inputs: torch.Tensor, numbers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Its output (n, units), and what is kept, (n, recurrent)."""
        before = (
            numbers[None, :, : self.units].contiguous(),
            numbers[None, :, self.units : self.recurrent].contiguous(),
        )
        found, (hidden, cell) = self.policy.lstm_actor(inputs[None], before)
        return found[0], torch.cat([hidden[0], cell[0]], 1)

    def told(self, outputs: torch.Tensor) -> torch.Tensor:
        """The output, from which the policy acts."""
        return outputs


class RecurrentPolicy(MultiInputLstmPolicy):
    """sb3-contrib's policy for Dict observations: an LSTM of 256 each for actor and critic."""

    num_tasks = 1  # what a checkpoint says of the other algorithms' policies
    network = NetworkConfig()
    popart = False

    @property
    def memory(self) -> Lstm:
        """What is remembered, and how."""
        return Lstm(self)

    def act(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean actions (n, a); `task` is what the LSTM has put out."""
        return self.action_net(self.mlp_extractor.forward_actor(obs["task"]))

    def draw(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Actions (n, a) that are drawn."""
        latent = self.mlp_extractor.forward_actor(obs["task"])
        return self._get_action_dist_from_latent(latent).get_actions(deterministic=False)


def rollout_length(closures: ClosureVectorEnv) -> int:
    """Control steps of a rollout: the fewest whole trials, of the longest rows, that are enough."""
    trial = closures.attempts * int(closures.task_steps.max())
    return math.ceil(LEAST_ROLLOUT / trial) * trial


class TimedRecurrentPPO(sb3.Timed, RecurrentPPO):
    """sb3-contrib's recurrent PPO, timed."""

    def train(self) -> None:
        """One update."""
        with self.timed("update"):
            super().train()


class RecurrentPPOAlgorithm(Algorithm):
    """sb3-contrib's recurrent PPO with its own settings, but for the length of a rollout."""

    policy_class = RecurrentPolicy
    env_class = TrialVecEnv
    plain = True
    remembers = True
    takes_memory = False
    groups = ()
    fixed = {
        "conditioning": "none",
        "warm_start": "none",
        "transfer_steps": 0,
        "rule": "sum",
        "popart": False,
        "cosines": False,
    }

    @classmethod
    def build(cls, env: TaskVecEnv, config: LearnerConfig, seed: int) -> TimedRecurrentPPO:
        """Make the model."""
        steps = rollout_length(env.closures)
        return TimedRecurrentPPO(
            RecurrentPolicy,
            env,
            n_steps=steps,
            batch_size=steps * env.num_envs // 8,
            seed=seed,
            device="cpu",
        )

    @classmethod
    def build_policy(cls, observation_space: Any, action_space, meta) -> RecurrentPolicy:
        """Make an untrained policy."""
        size = observation_space["state"].shape[0] + _BEGIN
        space = gym.spaces.Dict({"state": gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)})
        return RecurrentPolicy(space, action_space, lambda _: 0.0)

    def warm_start(self, teach: Callable[[Any], None]) -> None:
        """Refuse: it learns from scratch.

        Raises:
            ValueError: always.
        """
        raise ValueError("recurrent_ppo learns from scratch: --warm-start none")

    def save(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The exact state, with what is remembered where the next rollout begins."""
        tensors, meta = super().save()
        for name, state in zip(_STATES, _flat(self.model._last_lstm_states), strict=True):
            tensors[name] = state.numpy()
        return tensors, meta

    def resume(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Return to a saved state."""
        super().resume(tensors, meta)
        pi_h, pi_c, vf_h, vf_c = (torch.tensor(tensors[name]) for name in _STATES)
        self.model._last_lstm_states = RNNStates((pi_h, pi_c), (vf_h, vf_c))


_STATES = ("lstm/pi_hidden", "lstm/pi_cell", "lstm/vf_hidden", "lstm/vf_cell")


def _flat(states: Any) -> tuple[torch.Tensor, ...]:
    """The four tensors of sb3-contrib's states."""
    return (*states.pi, *states.vf)
