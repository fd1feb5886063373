"""What a user can set when training: the flags of `train`, and of the cells of a `compare` grid. Imports nothing heavy."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Settings of one training; None leaves the default of the job.

    Attributes:
        task_set: which rows are trained and which are held out; mt16/jar is the row jar of mt16, alone.
        algorithm: ppo; sac; or plain_ppo: stable-baselines3's PPO as it comes, from scratch, as a control.
        warm_start: dagger (imitate the scripted experts first), clone (imitate --demos first) or none (reinforcement from scratch).
        demos: folder of demonstrations, made by `train.py demos`: to clone, and with sac for half of each batch.
        conditioning: what the policy is told: none, one_hot, embedding, parameters, language or history.
        body: mlp (task beside state), film, soft_modules, moore, paco or transformer.
        head: shared or per_task.
        width: units per hidden layer.
        rule: how the tasks' gradients become one: sum, pcgrad, cagrad, upgrad, nash_mtl, ...
        popart: normalise values per task by PopArt instead of rewards by their return.
        sampling: which task is practised next: uniform, by_failure (more of what is not yet solved) or zipf (a long tail).
        alone: a policy of its own for every row, each with its share of the steps: the control of multi-task learning.
        env_steps: environment steps of reinforcement learning.
        minutes: end learning after this many minutes, warm start included, if it has not ended before.
        num_envs: sub-environments.
        episodes: evaluation episodes per task.
        validations: how often checkpoints are compared along the training.
        transfer_steps: environment steps per learner of each transfer; 0 skips the transfer.
        cosines: record the cosines between the tasks' gradients.
        tensorboard: write the metrics for TensorBoard, too.
        wandb: send the metrics to Weights & Biases, too, if it is installed.
    """

    task_set: str = "first"
    algorithm: str = "ppo"
    warm_start: str = "dagger"
    demos: str | None = None
    conditioning: str = "parameters"
    body: str = "mlp"
    head: str = "shared"
    width: int | None = None
    rule: str = "sum"
    popart: bool = False
    sampling: str = "uniform"
    alone: bool = False
    env_steps: int | None = None
    minutes: float | None = None
    num_envs: int | None = None
    episodes: int | None = None
    validations: int | None = None
    transfer_steps: int | None = None
    cosines: bool = False
    tensorboard: bool = False
    wandb: bool = False
