"""Settings of how a policy learns: networks, PPO, SAC, DAgger, cloning, and the learner.

Imports neither torch nor the environments, so that the command line is quick.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from uncap.agents.settings import setting


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """What every network of a learner is made of.

    Attributes:
        embedding: the body gets a learned vector of the task's index; follows from the
            conditioning.
        blind: the body gets nothing of the task; follows from the conditioning.
        sensors: what the state is made of, a row of `uncap.envs.sensors.SENSORS`; follows from the
            learner's. A critic that sees everything has `full`.
        memory: a row of `tables.MEMORIES`, or empty; follows from the conditioning.
    """

    body: str = setting(
        "mlp",
        "how state and task become features",
        choices="uncap.agents.tables:BODIES",
        flag="body",
    )
    head: str = setting(
        "shared", "what maps features to actions", choices="uncap.agents.tables:HEADS", flag="head"
    )
    width: int = setting(256, "units per hidden layer", least=4, flag="width")
    cell: str = setting(
        "gru",
        "kind of recurrent cell, of the conditionings that have a memory",
        choices=("gru", "lstm"),
        flag="cell",
    )
    memory_size: int = setting(128, "units of a memory", least=4, flag="memory_size")
    memory_reward: bool = setting(
        False, "a memory reads the reward of the last control step, too", flag="memory_reward"
    )
    embedding: bool = False
    blind: bool = False
    sensors: str = "full"
    memory: str = ""


def _schedule_problem(points: Any) -> str | None:
    steps = [step for step, _ in points]
    if not points or steps[0] != 0 or steps != sorted(set(steps)):
        return "must begin at 0 steps and go on to later ones"
    if any(deviation <= 0 for _, deviation in points):
        return "must have deviations above 0"
    return None


@dataclasses.dataclass(frozen=True)
class PPOConfig:
    """Settings of PPO; the same for every task.

    The settings named `warm_*` replace those without the prefix where the policy does not start
    from nothing: after a warm start and in a transfer.
    """

    learning_rate: float = setting(3e-4, "learning rate of actor and critic", above=0)
    warm_learning_rate: float = setting(
        5e-5,
        "learning rate of the actor after a warm start; the critic keeps learning_rate",
        above=0,
    )
    rollout: int = setting(80, "control steps per environment and update", least=1)
    warm_rollout: int = setting(
        320,
        "the same after a warm start: near the top, gradients of few episodes are noise",
        least=1,
    )
    minibatches: int = setting(8, "minibatches per epoch", least=1)
    epochs: int = setting(8, "epochs per update, at most: see target_kl", least=1)
    warm_epochs: int = setting(4, "the same after a warm start", least=1)
    gamma: float = setting(0.98, "discount per control step", above=0, most=1)
    gae_lambda: float = setting(0.95, "decay of generalised advantage estimation", least=0, most=1)
    clip: float = setting(0.2, "range of the clipped probability ratio", above=0)
    target_kl: float = setting(
        0.02, "an update ends once the approximate KL divergence is 1.5 times this", above=0
    )
    deviations: tuple[tuple[int, float], ...] = setting(
        ((0, 0.5), (750_000, 0.2), (2_000_000, 0.2), (3_000_000, 0.08)),
        "pairs (environment steps, largest standard deviation of the actions), with straight "
        "lines between them; the first is the initial deviation",
        check=_schedule_problem,
    )
    correlation: float = setting(
        0.8,
        "from scratch: correlation of the fingers' exploration noise between control steps",
        least=0,
        most=1,
    )
    warm_deviation: float = setting(
        0.04, "standard deviation of the actions after a warm start", above=0
    )
    critic_warmup: int = setting(
        5, "updates that train the critic alone, after a warm start", least=0
    )
    anneal_steps: int | None = setting(
        None,
        "environment steps over which the actor's learning rate falls linearly to a tenth "
        "(default: it does not)",
        least=1,
    )
    guidance: int = setting(
        32, "minibatches of imitation per update, after a warm start by DAgger", least=0
    )
    rule: str = setting(
        "sum",
        "how the tasks' gradients become one",
        choices="uncap.agents.tables:RULES",
        flag="rule",
    )
    popart: bool = setting(
        False,
        "normalise values per task by PopArt instead of rewards by their return",
        flag="popart",
    )


@dataclasses.dataclass(frozen=True)
class SACConfig:
    """Settings of SAC; the same for every task. They are not tuned."""

    learning_rate: float = setting(5e-4, "learning rate of actor and critics", above=0)
    warm_learning_rate: float = setting(
        5e-5,
        "learning rate of the actor after a warm start; the critics keep learning_rate",
        above=0,
    )
    temperature_rate: float = setting(
        3e-3, "learning rate of the temperatures' logarithms", above=0
    )
    gamma: float = setting(0.98, "discount per control step", above=0, most=1)
    tau: float = setting(
        0.01, "share of the critics in their targets, per gradient step", above=0, most=1
    )
    batch_size: int = setting(256, "transitions per gradient step", least=2)
    buffer_size: int = setting(300_000, "transitions in the replay, about 0.5 kB each", least=1)
    train_freq: int = setting(20, "control steps per environment between updates", least=1)
    gradient_steps: int = setting(40, "gradient steps per update", least=1)
    actor_every: int = setting(
        2, "gradient steps of the critics per one of actor and temperatures", least=1
    )
    learning_starts: int = setting(5_000, "environment steps before the first update", least=0)
    critic_warmup: int = setting(
        150, "updates that train the critics alone, after a warm start", least=0
    )
    demo_share: float = setting(
        0.5, "share of demonstrations in each batch, where there are any", least=0, most=1
    )
    per_task_temperature: bool = setting(True, "a temperature for every task instead of one")
    temperature: float = setting(0.003, "initial temperature", above=0)
    target_entropy: float = setting(-1.0, "target entropy per dimension of the action")
    warm_target_entropy: float = setting(
        -4.0,
        "the same after a warm start: about the entropy of imitation with warm_deviation, "
        "which -1 would undo",
    )
    reward_scale: float = setting(
        0.2, "constant factor on rewards; values then lie in [0, 10]", above=0
    )
    deviation: float = setting(
        0.8, "initial deviation of the actions before squashing, from scratch", above=0
    )
    warm_deviation: float = setting(0.04, "the same after a warm start", above=0)


@dataclasses.dataclass(frozen=True)
class DaggerConfig:
    """Settings of the warm start by DAgger."""

    steps_per_task: int = setting(24_000, "environment steps per task", least=1)
    steps: int | None = setting(
        None, "environment steps of all tasks together, in place of steps_per_task", least=1
    )
    lead: float = setting(
        0.1,
        "fraction of rounds over which the share of environments in which the expert acts falls "
        "to 0",
        least=0.01,
        most=1,
    )
    rollout: int = setting(
        20,
        "control steps per environment and round; at least, of equal parts of a trial, with a "
        "memory",
        least=1,
    )
    updates: int = setting(100, "minibatches per round", least=1)
    minibatch: int = setting(512, "labelled states per minibatch", least=1)
    trials: int = setting(32, "trials per minibatch of a memory", least=1)
    memory_every: int = setting(
        20, "minibatches of the policy for each minibatch of its memory", least=1
    )
    told: float = setting(
        0.5,
        "share of the trials in which a policy is told the truth, whose memory is taught the "
        "truth: it learns from them how to act, and the memory does not",
        least=0,
        most=0.9,
    )
    other: float = setting(
        0.5,
        "share of the labelled states of a policy with a memory that is taught what the closure is "
        "whose label is under a hypothesis drawn at random, and not under what is believed",
        least=0,
        most=1,
    )
    learning_rate: float = setting(1e-3, "learning rate; falls linearly to a tenth", above=0)

    def total(self, tasks: int) -> int:
        """Environment steps in all, of so many tasks."""
        return self.steps or self.steps_per_task * tasks


@dataclasses.dataclass(frozen=True)
class CloneConfig:
    """Settings of the warm start by behaviour cloning."""

    epochs: int = setting(100, "epochs", least=1)
    updates: int = setting(100, "minibatches per epoch", least=1)
    minibatch: int = setting(512, "labelled states per minibatch", least=1)
    learning_rate: float = setting(1e-3, "learning rate; falls linearly to a tenth", above=0)
    noise: float = setting(
        0.0,
        "deviation of what is added to the states of each minibatch at random, in deviations of "
        "the cloned states (cf. Bishop, 1995)",
        least=0,
    )


@dataclasses.dataclass(frozen=True)
class LearnerConfig:
    """What a `Learner` is made of.

    Attributes:
        conditioning: a row of `uncap.envs.conditioning.CONDITIONINGS`, or the tasks' vectors by
            name.
        algorithm: a row of `tables.ALGORITHMS`.
        sensors: what the policy senses, a row of `uncap.envs.sensors.SENSORS`.
        sampling: which task is practised next, a row of `tables.SAMPLINGS`.
        num_envs: sub-environments.
        variants: drawn of each row; None: as many as environments draw.
        episode_steps: control steps of every episode; None: what each row says.
        reward: what a control step is paid, a row of `uncap.envs.rewards.REWARDS`.
        attempts: episodes of a trial, over which a memory is kept, see `ClosureVectorEnv`.
        engine: what runs the simulations, a row of `uncap.envs.engines.ENGINES`.
        warm: whether the policy will start from something learned.
        guided: go on to imitate the scripted experts during reinforcement learning, see
            `PPOConfig.guidance`.
    """

    conditioning: str | Mapping[str, Any] = "parameters"
    algorithm: str = "ppo"
    sensors: str = "full"
    sampling: str = "uniform"
    num_envs: int = 64
    variants: int | None = None
    episode_steps: int | None = None
    reward: str = "dense"
    attempts: int = 1
    engine: str = "cpu"
    warm: bool = False
    guided: bool = False
    network: NetworkConfig = NetworkConfig()
    ppo: PPOConfig = PPOConfig()
    sac: SACConfig = SACConfig()
