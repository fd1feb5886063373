"""DAgger through time: a policy with a memory is taught over whole trials.

The policy that acts is told its memory's estimate, and the labels are the expert's actions under
the hypothesised row: a policy learns to act upon a hypothesis, right or wrong. A memory that names
no rows (`belief_parts`) has no hypothesised row: states in which no expert leads have the label of
the true row there. (Labels of the row most like what it says were tried: the policy learned more
slowly.) The memory learns what the closure is, by supervision over the steps of a trial. Where the
experts lead, they follow hypotheses drawn at random: else the memory would read the answer off its
own actions. (Those that are taught by the scripted search see it lead.) In a share of the trials
the policy is told the truth, so that it meets what comes after a right guess before its memory
guesses right; these are kept from the memory.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch

from uncap.agents import checkpoints
from uncap.agents.config import DaggerConfig
from uncap.agents.dagger import Collector, Dagger, Labelled
from uncap.agents.memory import Memory, Recall
from uncap.agents.networks import MultiTaskPolicy
from uncap.agents.vec_env import TaskVecEnv
from uncap.envs import ClosureVectorEnv, checks
from uncap.envs.experts import expert_action
from uncap.envs.searching import Searcher, hypotheses

LABELS = 2  # hypotheses under which each state is labelled
_SAME = 0.2  # mean distance of two actions, below which one follows the other
_MOST_NORM = 1.0  # of the memory's gradients: they go through many steps


def round_length(trial: int, least: int) -> int:
    """Control steps of a round: the shortest of equal parts of a trial, of so many at least."""
    return next(steps for steps in range(min(least, trial), trial + 1) if trial % steps == 0)


def trial_length(closures: ClosureVectorEnv) -> int:
    """Control steps of a trial.

    Raises:
        ValueError: the rows' episodes differ in length: trials would drift apart.
    """
    return closures.attempts * checks.one_length("a memory", closures.task_steps)


class TrialDagger(Dagger):
    """Teaches a policy and its memory, see `Dagger`; some rounds make a trial.

    The policy learns from every round, the memory from the trials that are whole.

    Args:
        policy: actor and memory are trained in place.
        env: where a copy acts.
        expert: is not asked: what is labelled is what it would do under hypotheses.
        config: settings.
        rng: draws minibatches, and where the experts act.
        state: to go on from.

    Raises:
        ValueError: the rows' episodes differ in length.
    """

    config: DaggerConfig

    @property
    def memory(self) -> Memory:
        """The policy's, which is trained in place."""
        assert self.policy.memory is not None
        return self.policy.memory

    def parameters(self) -> list[torch.nn.Parameter]:
        """Of the actor and of the memory."""
        return [*super().parameters(), *self.memory.parameters()]

    def round_length(self, env: TaskVecEnv, config: DaggerConfig) -> int:
        """Control steps of a part of a trial; of all of it, where whole ones alone teach."""
        assert env.recall is not None
        trial = trial_length(env.closures)
        return round_length(trial, config.rollout if env.recall.memory.is_belief else trial)

    def count_rounds(self, env: TaskVecEnv, config: DaggerConfig) -> int:
        """As many as make whole trials."""
        self.parts = trial_length(env.closures) // self.rollout  # rounds of a trial
        trials = config.total(len(env.closures.tasks)) // (self.steps * self.parts)
        return self.parts * max(1, trials)

    def make_collector(
        self, env: TaskVecEnv, expert: Callable[[], np.ndarray], rng: np.random.Generator
    ) -> Collector:
        """Make what acts and labels: the truth is told where it is what the memory learns."""
        told = 0.0 if self.memory.searched else self.config.told
        return TrialCollector(env, expert, self.policy, rng, told)

    @property
    def collected(self) -> int:
        """Rounds that were collected: the environment is one ahead of the fits."""
        return min(self.done + 1, self.fits)

    @property
    def can_be_saved(self) -> bool:
        """Where a trial ends in the environment; after the last one, when it is learned."""
        if self.collected == self.fits:
            return self.done == self.fits
        return self.collected % self.parts == 0

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a saved state.

        Raises:
            CheckpointError: it is of an earlier version.
        """
        if state["schedule"]["total_iters"] != self.fits:
            raise checkpoints.CheckpointError(
                "the state is of an earlier version, which taught a memory in other rounds: begin "
                "a new run"
            )
        super().load(state)

    def fit(self, data: dict[str, torch.Tensor]) -> float:
        """Fit actor and memory to the rounds so far; returns the mean L1 loss of the actions."""
        every = self.config.memory_every
        # as many minibatches for each control step as without a memory
        updates = math.ceil(self.config.updates * self.rollout / self.config.rollout)
        self.whole = self._whole_trials(data)
        losses = []
        if self.done + 1 == self.parts and len(self.whole):  # what it could not learn before
            for _ in range(math.ceil(updates / every) * (self.parts - 1)):
                self._step(self._belief_loss(data), of_memory=True)
        for update in range(updates):
            of_memory = update % every == 0 and len(self.whole) > 0
            if self.memory.is_belief:
                loss = acting = self._acting_loss(data)
                if of_memory:
                    loss = acting + self._belief_loss(data)
            elif of_memory:  # a round is a trial
                loss = acting = self._code_loss(data)
            else:
                continue
            self._step(loss, of_memory)
            losses.append(acting.item())
        self.schedule.step()
        self.done += 1
        return float(np.mean(losses))

    def _step(self, loss: torch.Tensor, of_memory: bool) -> None:
        """Make a gradient step."""
        self.optimizer.zero_grad()
        loss.backward()
        if of_memory:
            torch.nn.utils.clip_grad_norm_(self.memory.parameters(), _MOST_NORM)
        self.optimizer.step()

    def _whole_trials(self, data: dict[str, torch.Tensor]) -> torch.Tensor:
        """Where the memory's trials lie among the rounds (r, t, ...): places (k, parts)."""
        envs = self.collector.env.num_envs
        count = len(data["row"]) // (envs * self.parts)
        places = torch.arange(count * envs * self.parts).reshape(count, self.parts, envs)
        places = places.transpose(1, 2).flatten(0, 1)
        return places[~data["told"][places[:, 0], 0]]

    def _acting_loss(self, data: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of a minibatch of states, each under one of its hypotheses."""
        rounds, steps, _ = data["taken_for"].shape
        picked = torch.as_tensor(self.rng.integers(rounds * steps, size=self.config.minibatch))
        is_other = self.rng.random(self.config.minibatch) < self.config.other
        which = torch.as_tensor(is_other.astype(np.int64))
        taken_for = data["taken_for"].flatten(0, 1)[picked, which]
        label = data["label"].flatten(0, 1)[picked, which]
        row = data["row"].flatten()[picked]
        inputs = data["inputs"].flatten(0, 1)[picked]
        task = self.memory.told_as(row, taken_for)
        return self._distance(inputs, task, label)

    def _belief_loss(self, data: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of a minibatch of trials."""
        name = "searched" if self.memory.searched else "row"
        inputs, label = self._trials(data["inputs"], data[name])
        outputs, _ = self.memory(inputs)
        return self.memory.loss(outputs, label)

    def _code_loss(self, data: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of the actions in a minibatch of trials, through the memory."""
        inputs, label = self._trials(data["inputs"], data["label"][:, :, 0])
        outputs, _ = self.memory(inputs)
        task = self.memory.told(outputs).flatten(0, 1)
        return self._distance(inputs.flatten(0, 1), task, label.flatten(0, 1))

    def _trials(self, *rounds: torch.Tensor) -> list[torch.Tensor]:
        """A minibatch of whole trials, (t, k, ...), of what was noted in rounds, (r, t, ...)."""
        count = self.config.trials
        places = self.whole[torch.as_tensor(self.rng.integers(len(self.whole), size=count))]
        return [one[places].flatten(1, 2).transpose(0, 1) for one in rounds]

    def _distance(
        self, inputs: torch.Tensor, task: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        """L1 distance of the actor's actions from labels (k, a).

        Args:
            inputs: (k, i) of the memory, which begin with the state.
            task: (k, t).
            label: (k, a).
        """
        state = inputs[:, : self.memory.state_size]
        index = torch.zeros(len(state), dtype=torch.long)
        return (self.policy.actor(state, task, index) - label).abs().mean()


class TrialCollector(Collector):
    """Acts with a memory and has the experts label what it reaches, under hypotheses.

    Args:
        env: where it acts; its `recall` is the acting copy's while this collects.
        expert: is not asked.
        policy: is copied.
        rng: draws hypotheses, and where the experts act.
        told: share of the trials in which the policy is told the truth. There it meets what it
            would not reach by wrong guesses.
    """

    def __init__(
        self,
        env: TaskVecEnv,
        expert: Callable[[], np.ndarray],
        policy: MultiTaskPolicy,
        rng: np.random.Generator,
        told: float = 0.0,
    ):
        super().__init__(env, expert, copy.deepcopy(policy.actor), rng)
        assert env.recall is not None and policy.memory is not None
        self.recall: Recall = env.recall
        memory = copy.deepcopy(policy.memory)
        self.recall.memory = memory
        self.searcher = Searcher(env.closures) if memory.searched else None
        self.among = hypotheses(env.closures.tasks)  # (tasks, h); -1 behind the last
        self.led_by = np.zeros(env.num_envs, np.int64)  # the hypothesis that an expert follows
        self.is_led = np.zeros(env.num_envs, bool)  # in this attempt
        self.told = told
        self.is_told = np.zeros(env.num_envs, bool)  # in this trial
        self.followed = np.ones(env.num_envs, bool)  # the executed action matched the search's

    def take(self, policy: MultiTaskPolicy) -> None:
        """Act and remember as a policy does now."""
        super().take(policy)
        assert policy.memory is not None
        self.recall.memory.load_state_dict(policy.memory.state_dict())
        if self._trials_begin().all():
            self._begin_trials()

    def _trials_begin(self) -> np.ndarray:
        """Where the present state is the first one of a trial, bool (n,)."""
        return (self.env.closures.steps == 0) & (self.env.closures.attempt == 0)

    def _begin_trials(self) -> None:
        """Read the first states of the trials, which all begin, with the memory as it is now."""
        told = self.recall.observe(self.observation["state"])
        self.observation = {**self.observation, "task": told}

    def collect(self, steps: int, expert_share: float) -> list[Labelled]:
        """What was met and labelled, (n, t, ...), in so many control steps; go on from there."""
        found = [self._step(expert_share) for _ in range(steps)]
        return [{name: np.stack([one[name] for one in found], 1) for name in found[0]}]

    def _step(self, expert_share: float) -> Labelled:
        closures = self.env.closures
        self._begin_attempts(expert_share)
        row = closures.task.copy()
        guess = self.recall.rows() if self.recall.memory.names_rows else row
        taken_for, labels = self._labels(guess)
        with torch.no_grad():
            state = torch.as_tensor(self.observation["state"])
            told = self._task(row)
            index = torch.zeros(len(state), dtype=torch.long)
            action = self.actor(state, told, index).numpy()  # (n, a)
        executed = np.where(self.is_led[:, None], labels[:, 0], action)
        labelled = {
            "inputs": self.recall.inputs.numpy().copy(),
            "row": row,
            "told": self.is_told.copy(),
            "taken_for": taken_for,
            "label": labels.astype(np.float32),
        }
        if self.searcher:
            labelled["searched"] = taken_for[:, 0].copy()
        self.followed = np.abs(executed - labels[:, 0]).mean(1) < _SAME
        observation, *_ = self.env.step(executed)
        self.observation = cast("dict[str, np.ndarray]", observation)
        return labelled

    def _begin_attempts(self, expert_share: float) -> None:
        """Draw where an expert leads in the attempts that begin, and what it goes by.

        Nothing of the trial before is left: a saved state, in which all trials begin, has none.
        """
        begins = self.env.closures.steps == 0
        first = self._trials_begin()
        self.followed[first] = True
        self.is_told[first] = self.rng.random(first.sum()) < self.told
        self.is_led[begins] = self.rng.random(begins.sum()) < expert_share
        self.led_by[begins] = self._drawn()[begins]

    def _task(self, row: np.ndarray) -> torch.Tensor:
        """The task vectors (n, t) that the policy acts upon, of the rows (n,)."""
        task = torch.as_tensor(self.observation["task"])
        if self.is_told.any():
            is_told = torch.as_tensor(self.is_told)[:, None]
            task = torch.where(is_told, self.recall.memory.vectors[row], task)
        return task

    def _drawn(self) -> np.ndarray:
        """A hypothesis (n,) on each closure, drawn from those that it may be."""
        among = self.among[self.env.closures.task]  # (n, h)
        place = self.rng.integers((among >= 0).sum(1))  # (n,)
        return among[np.arange(len(among)), place]

    def _labels(self, guess: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hypotheses (n, LABELS) on the present states, and the experts' actions, (n, LABELS, a).

        The first is what is followed: where an expert leads, its own.
        """
        batch = self.env.closures.batch
        if self.searcher:
            label = self.searcher.act(self.followed)
            first = self.searcher.taken_for
        else:
            first = np.where(self.is_led, self.led_by, guess)
            first = np.where(self.is_told, self.env.closures.task, first)
            label = expert_action(batch.measure_as(first))
        other = self._drawn()
        other_label = expert_action(batch.measure_as(other))
        return np.stack([first, other], 1), np.stack([label, other_label], 1)

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a saved state, in which all trials begin."""
        super().load(state)
        self._begin_trials()
