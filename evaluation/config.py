"""What each command of the command line can be told: a dataclass of settings each.

Imports neither torch nor the environments, so that the command line is quick.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

from uncap.agents.config import (
    CloneConfig,
    DaggerConfig,
    NetworkConfig,
    PPOConfig,
    SACConfig,
)
from uncap.agents.settings import REQUIRED, nested, setting

ENV_STEPS = 600_000  # of reinforcement learning, after the warm start
QUICK_ENV_STEPS = 16_000
UNLIMITED = 10**9  # environment steps of a job that minutes end
LARGEST_SEED = 2**32 - 1  # that torch and stable-baselines3 take
ATTEMPTS = {"least": 1, "most": 100}
SEED = {"least": 0, "most": LARGEST_SEED}
PORT = {"least": 1, "most": 65535}
# `protocol.BUILT_IN` and `pretrained.NAMES`: they stand in place of a run
PRETRAINED = ("pretrained", "pretrained-mt16")
POLICIES = ("zero", "random", "expert", "search", *PRETRAINED)
MODULE = r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"  # a module and what is in it, likewise
WHO = 60  # letters of a name, at most

THREADS: dict[str, Any] = {
    "help": "threads of the physics; results do not depend on it (0: one per core)",
    "least": 0,
}
ENGINE: dict[str, Any] = {
    "help": "what runs the simulations",
    "choices": "uncap.envs.engines:ENGINES",
    "accepts": "uncap.envs.engines:engine_row",
}
# of commands that learn
LEARNING_ENGINE: dict[str, Any] = {
    **ENGINE,
    "help": "what runs the simulations of learning; evaluations have cpu",
}
TRANSFER_ENGINE: dict[str, Any] = {
    **ENGINE,
    "help": "what runs the simulations of learning (default: the run's engine); evaluations have "
    "cpu",
}
GRID_ENGINE: dict[str, Any] = {
    **ENGINE,
    "help": "what runs the simulations of learning where the file does not say it (default: cpu); "
    "evaluations have cpu",
}


def shard_problem(shard: str) -> str | None:
    """What is wrong with a shard, K/N with K from 1 to N; None if nothing is."""
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", shard)
    if match and 1 <= int(match[1]) <= int(match[2]):
        return None
    return "must be K/N, with whole numbers K from 1 to N, such as 2/8"


def address_problem(address: str) -> str | None:
    """What is wrong with the address of a Ray cluster; None if nothing is."""
    match = re.fullmatch(r"auto|[^\s:/]+:([0-9]{1,5})", address)
    if match and (match[1] is None or 1 <= int(match[1]) <= PORT["most"]):
        return None
    return "must be HOST:PORT of a Ray cluster, or auto for the one that this machine belongs to"


JOBS: dict[str, Any] = {
    "help": "trainings at once (default: one; of compare with --ray, as many as the cluster has "
    "processors for; tune with --ray needs it)",
    "least": 1,
}
RAY: dict[str, Any] = {
    "help": "address of a Ray cluster that runs, HOST:PORT or auto: trainings run there instead of "
    "here, and their folders come back here",
    "check": address_problem,
}
RUN: dict[str, Any] = {"help": "run folder", "positional": True, "path": "read"}
EXPORTABLE: dict[str, Any] = {
    **RUN,
    "help": "run folder, or the policy pretrained or pretrained-mt16",
    "no_paths": PRETRAINED,
}
RUN_OR_POLICY: dict[str, Any] = {
    **RUN,
    "help": "run folder, exported .onnx file, or the policy zero, random, expert, search (the "
    "expert of what the closure may be, by trying), pretrained (of the default) or pretrained-mt16",
    "no_paths": POLICIES,
}
EVALUATED: dict[str, Any] = {
    **RUN,
    "help": "run folder; the policy zero, random, expert, search (the expert of what the closure "
    "may be, by trying), pretrained (of the default) or pretrained-mt16; or someone's own: "
    "module:name of a function or an object with predict, an .onnx file, a .zip of "
    "stable-baselines3",
    "no_paths": (*POLICIES, MODULE),
}

CLOSURES = "uncap.envs.closures:CLOSURES"
TARGETS = {"choices": CLOSURES, "accepts": "uncap.envs.closures:named_row"}
ROWS = {"choices": CLOSURES, "accepts": "uncap.evaluation.rows:any_name"}  # a run may have its own
TASK_SETS = {"choices": "uncap.envs.closures:TASK_SETS", "accepts": "uncap.envs.closures:named_set"}


METHODS: dict[str, Any] = {
    "help": "how the policy is transferred; the number K at the end of some names counts expert "
    "episodes, attempts, or the nearest rows",
    "choices": "uncap.evaluation.arms:METHODS",
    "accepts": "uncap.evaluation.arms:method",
}
CONTROLS: dict[str, Any] = {
    "help": "what the methods are compared with; demos_from_nothing-K clones K expert episodes",
    "choices": "uncap.evaluation.arms:CONTROLS",
    "accepts": "uncap.evaluation.arms:control",
}


SPECIALISTS: dict[str, Any] = {
    "help": "run folder with a policy per row (--alone): the sources of the method specialist-K, "
    "the K-th nearest of them to the target",
    "path": "read",
}
MEMORY: dict[str, Any] = {
    "help": "run folder of a policy with a memory, such as --conditioning belief --attempts 3: the "
    "source of the method attempts-K",
    "path": "read",
}
ARM_SETTINGS: dict[str, Any] = {
    "help": "file of `tune_transfer`: how each method and control explores and how gently it "
    "learns (default: as the run did)",
    "path": "read",
}
UNRELATED: dict[str, Any] = {
    "help": "run folder of rows of other mechanisms than the target's, such as --task-set "
    "unrelated: the source of the control of that name",
    "path": "read",
}


@dataclasses.dataclass(frozen=True)
class TransferConfig:
    """Budget and resolution of a transfer; the same for every learner."""

    env_steps: int = setting(
        320_000,
        "environment steps per learner of each transfer, rounded up to whole rollouts; 0 skips "
        "the transfer",
        least=0,
        flag="transfer_steps",
    )
    targets: tuple[str, ...] | None = setting(
        None,
        "held-out rows that the job goes on to learn (default: the task set's; none of a drawn "
        "set)",
        **ROWS,
    )
    points: int = setting(8, "evaluations along each curve, after the one at 0 steps", least=1)
    episodes: int = setting(50, "episodes per evaluation", least=1)
    last_episodes: int = setting(
        200, "episodes of the last evaluation, from the same starts for every arm", least=1
    )
    source_quota: int = setting(
        80, "episodes, at the end, of all rows of the source together: what was unlearned", least=1
    )
    num_envs: int = setting(64, "sub-environments", least=1)
    seeds: int = setting(1, "learners of each kind", least=1)
    methods: tuple[str, ...] = setting(("fine_tune",), **METHODS)
    controls: tuple[str, ...] = setting(("scratch",), **CONTROLS)
    unrelated: str | None = setting(None, **UNRELATED)
    specialists: str | None = setting(None, **SPECIALISTS)
    memory: str | None = setting(None, **MEMORY)
    settings: str | None = setting(None, **ARM_SETTINGS)


@dataclasses.dataclass(frozen=True)
class JobConfig:
    """What a training does; stored in the run's config.json."""

    task_set: str = setting(
        "first",
        "which rows are trained and which are held out; mt16/jar is the row jar of mt16, alone",
        **TASK_SETS,
    )
    algorithm: str = setting(
        "ppo", "how it learns by reinforcement", choices="uncap.agents.tables:ALGORITHMS"
    )
    warm_start: str = setting(
        "dagger", "what it learns before that", choices="uncap.agents.tables:WARM_STARTS"
    )
    demos: str | None = setting(
        None,
        "folder of demonstrations, made by `demos`: to clone, and with sac for a share "
        "of each batch",
        path="read",
    )
    conditioning: str = setting(
        "parameters",
        "what the policy is told of its task",
        choices="uncap.envs.conditioning:CONDITIONINGS",
    )
    sensors: str = setting(
        "full",
        "what the policy senses; its critic and the experts see everything in any case",
        choices="uncap.envs.sensors:SENSORS",
    )
    episode_steps: int | None = setting(
        None,
        "control steps of every episode, evaluations included (default: the task set's, or each "
        "row's)",
        least=1,
        most=100_000,
    )
    attempts: int = setting(
        1,
        "episodes of a trial: of one closure, from a new start each; for policies with a memory, "
        "which is kept over them",
        **ATTEMPTS,
    )
    reward: str = setting(
        "dense", "what a control step is paid", choices="uncap.envs.rewards:REWARDS"
    )
    sampling: str = setting(
        "uniform", "which task is practised next", choices="uncap.agents.tables:SAMPLINGS"
    )
    alone: bool = setting(
        False,
        "a policy of its own for every row, each with its share of the steps: the control of "
        "multi-task learning",
    )
    env_steps: int | None = setting(
        None,
        f"environment steps of reinforcement learning (default: {ENV_STEPS:,}, with --quick "
        f"{QUICK_ENV_STEPS:,}, with --minutes as many as they allow; 0: only the warm start)",
        least=0,
    )
    minutes: float | None = setting(
        None, "end learning after this many minutes, warm start included", above=0
    )
    num_envs: int = setting(64, "sub-environments", least=1)
    threads: int = setting(0, **THREADS)
    engine: str = setting("cpu", **LEARNING_ENGINE)
    episodes: int = setting(50, "evaluation episodes per task", least=1)
    validation_episodes: int = setting(
        25, "episodes per task each time checkpoints are compared", least=1
    )
    validation_quota: int = setting(
        400,
        "validation episodes of all tasks together; where there are more tasks, they take turns, "
        "and at the end each has one",
        least=1,
    )
    validations: int = setting(10, "how often checkpoints are compared along the training", least=1)
    film_width: int = setting(
        640, "pixels of the films; below 640 every second frame is left out", least=64
    )
    checkpoints: bool = setting(
        False,
        "keep the policies of ten moments of the warm start and ten of what follows, too: "
        "half-trained ones, for `demos`",
    )
    cosines: bool = setting(False, "record the cosines between the tasks' gradients")
    tensorboard: bool = setting(
        False, "write the metrics, and stable-baselines3's diagnostics, for TensorBoard"
    )
    wandb: bool = setting(False, "send the same to Weights & Biases, if it is installed")
    network: NetworkConfig = NetworkConfig()
    ppo: PPOConfig = PPOConfig()
    sac: SACConfig = SACConfig()
    dagger: DaggerConfig = DaggerConfig()
    clone: CloneConfig = CloneConfig()
    transfer: TransferConfig = TransferConfig()


QUICK = JobConfig(
    film_width=320,
    num_envs=16,
    episodes=4,
    validation_episodes=2,
    validations=1,
    ppo=PPOConfig(rollout=40, warm_rollout=40, minibatches=2, critic_warmup=2),
    dagger=DaggerConfig(steps_per_task=1_600, updates=40),
    clone=CloneConfig(epochs=10),
    transfer=TransferConfig(
        env_steps=5_120, points=2, episodes=4, last_episodes=4, source_quota=8, num_envs=16
    ),
)


def resolved(job: JobConfig, quick: bool) -> JobConfig:
    """The job with its environment steps, where they were not given."""
    if job.env_steps is not None:
        return job
    steps = UNLIMITED if job.minutes else QUICK_ENV_STEPS if quick else ENV_STEPS
    return dataclasses.replace(job, env_steps=steps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train on a task set, evaluate, transfer to its held-out rows, film and report.

    The main job: what is done without a command. Ctrl-C saves.
    """

    job: JobConfig = nested(JobConfig())
    out: pathlib.Path | None = setting(
        None, "run folder to make (default: runs/<time>)", path="folder"
    )
    seed: int = setting(0, "random seed of all of it", **SEED)
    quick: bool = setting(
        False, "the same end to end in a few minutes, for trying out; poor success"
    )
    resume: pathlib.Path | None = setting(
        None,
        "go on with an interrupted run folder; flags that can change then, such as --env-steps, "
        "are changed in it",
        path="read",
    )
    videos: bool = setting(True, "film one rollout per task")
    tasks: tuple[str, ...] = setting((), "rows to train, instead of a task set", **TARGETS)
    held_out: tuple[str, ...] = setting((), "rows to hold out, beside --tasks", **TARGETS)
    # no flag: the keys of those that were typed
    given: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceConfig:
    """Learn rows one after the other, test all after each, and see what was forgotten."""

    tasks: tuple[str, ...] = setting((), "rows in their order", positional=True, **TARGETS)
    task_set: str | None = setting(None, "its trained rows, instead", **TASK_SETS)
    order: str = setting(
        "given",
        "of a task set's rows: as given, from near to the first one to far, the other way, drawn",
        choices=("given", "near", "far", "drawn"),
    )
    learner: str = setting(
        "sequential",
        "what is done against forgetting",
        choices="uncap.evaluation.sequence:LEARNERS",
    )
    conditioning: str = setting(
        "parameters",
        "what the policy is told of its task",
        choices=("none", "one_hot", "parameters"),
    )
    steps: int = setting(24_000, "environment steps of each row, taught by its expert", least=1)
    kept_episodes: int = setting(5, "expert episodes of each row that replay keeps", least=1)
    episodes: int = setting(50, "of each row in each test", least=1)
    num_envs: int = setting(64, "sub-environments", least=1)
    body: str = setting(
        "mlp", "how state and task become features", choices="uncap.agents.tables:BODIES"
    )
    width: int = setting(256, "units per hidden layer", least=4)
    seed: int = setting(0, "random seed of all of it", **SEED)
    threads: int = setting(0, **THREADS)
    engine: str = setting("cpu", **LEARNING_ENGINE)
    out: pathlib.Path = setting(
        pathlib.Path("runs/sequence"), "folder; the same goes on", path="folder"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransferRunConfig:
    """Transfer a run's policy to an unseen closure, against the same budget from scratch."""

    run: pathlib.Path = setting(REQUIRED, **RUN)
    target: str = setting(REQUIRED, "a row that was not trained", **TARGETS)
    seed: int = setting(0, "random seed of all of it", **SEED)
    env_steps: int | None = setting(
        None, "environment steps per learner (default: the run's)", least=1
    )
    points: int | None = setting(
        None, "evaluations along each curve, after the one at 0 steps (default: the run's)", least=1
    )
    num_envs: int | None = setting(None, "sub-environments (default: the run's)", least=1)
    engine: str | None = setting(None, **TRANSFER_ENGINE)
    seeds: int = setting(1, "learners of each kind", least=1)
    methods: tuple[str, ...] = setting(("fine_tune",), **METHODS)
    controls: tuple[str, ...] | None = setting(
        None,
        **{**CONTROLS, "help": CONTROLS["help"] + " (default: all that cost little)"},
    )
    all_controls: bool = setting(
        False, "the expensive ones, too, which train long; unrelated needs --unrelated as well"
    )
    unrelated: pathlib.Path | None = setting(None, **UNRELATED)
    specialists: pathlib.Path | None = setting(None, **SPECIALISTS)
    memory: pathlib.Path | None = setting(None, **MEMORY)
    settings: pathlib.Path | None = setting(None, **ARM_SETTINGS)
    replace: bool = setting(
        False, "drop what the run holds of this target, instead of adding learners of other seeds"
    )
    out: pathlib.Path | None = setting(
        None, "file for the result (default: in the run)", path="file"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneTransferConfig:
    """Choose how each arm of transfers explores and learns, on rows left out of a run's sources."""

    run: pathlib.Path = setting(REQUIRED, **RUN)
    targets: tuple[str, ...] = setting(
        REQUIRED,
        "rows that were left out of the run's sources: no targets of the transfers to come",
        **TARGETS,
    )
    methods: tuple[str, ...] = setting(("fine_tune",), **METHODS)
    controls: tuple[str, ...] = setting(("scratch",), **CONTROLS)
    trials: int = setting(8, "settings that are tried of each arm", least=1, most=1000)
    seeds: int = setting(1, "learners of each", least=1)
    seed: int = setting(0, "random seed of all of it", **SEED)
    env_steps: int | None = setting(
        None, "environment steps per learner (default: the run's)", least=1
    )
    points: int | None = setting(
        None, "evaluations along each curve, after the one at 0 steps (default: the run's)", least=1
    )
    num_envs: int | None = setting(None, "sub-environments (default: the run's)", least=1)
    engine: str | None = setting(None, **TRANSFER_ENGINE)
    unrelated: pathlib.Path | None = setting(None, **UNRELATED)
    specialists: pathlib.Path | None = setting(None, **SPECIALISTS)
    replace: bool = setting(False, "drop what the run holds of a search, instead of going on")
    out: pathlib.Path | None = setting(
        None, "file of the settings (default: arm_settings.json in the run)", path="file"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """Guess which unseen closures will gain from a run, before any step on them."""

    run: pathlib.Path = setting(REQUIRED, **RUN)
    targets: tuple[str, ...] = setting(
        (), "rows that were not trained (default: the run's held-out ones)", **TARGETS
    )
    memory: pathlib.Path | None = setting(
        None,
        **{**MEMORY, "help": "run folder of a policy with a memory: its first attempts"},
    )
    seed: int = setting(0, "of the bootstrap", **SEED)
    engine: str = setting("cpu", **ENGINE)
    out: pathlib.Path | None = setting(
        None, "file for the result, as JSON (default: print only)", path="file"
    )


def _name_problem(value: str) -> str | None:
    fits = value.strip() and value.isprintable() and len(value) <= WHO
    return None if fits else f"must be a printable name of at most {WHO} letters"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Evaluate a run, or anyone's policy, with a fixed quota of episodes per task."""

    run: pathlib.Path = setting(REQUIRED, **EVALUATED)
    tasks: tuple[str, ...] = setting(
        (), "rows (default: the run's; of `first` for a policy)", **ROWS
    )
    task_set: str | None = setting(
        None, "its trained rows, and its held-out ones beside them, instead of --tasks", **TASK_SETS
    )
    conditioning: str | None = setting(
        None,
        "what someone's own policy is told of its task (default: parameters)",
        choices="uncap.envs.conditioning:CONDITIONINGS",
    )
    sensors: str | None = setting(
        None,
        "what its state is made of (default: full)",
        choices="uncap.envs.sensors:SENSORS",
    )
    told: str = setting(
        "own",
        "what it is told: of the row itself, or of its twin, the next row that looks alike: a "
        "policy that listens leaves the row shut then",
        choices=("own", "twin"),
    )
    trust: bool = setting(
        False, "open a .zip of stable-baselines3, which can run code of whoever made it"
    )
    who: str | None = setting(
        None,
        "name in tables (default: the policy's, or its file's or folder's)",
        check=_name_problem,
    )
    episodes: int = setting(50, "per task; trials, where there are several attempts", least=1)
    attempts: int | None = setting(
        None,
        "episodes of a trial: of one closure, from a new start each, with the policy's memory "
        "kept; the success of each is printed (default: as the policy was trained, or 1)",
        **ATTEMPTS,
    )
    wiped: bool = setting(
        False, "with --attempts, a control: the policy's memory is reset before every attempt"
    )
    episode_steps: int | None = setting(
        None,
        "control steps of every episode (default: those that the policy was trained with, else the "
        "task set's, or each row's)",
        least=1,
        most=100_000,
    )
    seed: int | None = setting(None, "of the starts (default: the evaluation's own)", **SEED)
    level: str = setting(
        "default", "what varies beside pose and variant", choices="uncap.envs.variation:LEVELS"
    )
    disturb: tuple[str, ...] = setting(
        (),
        "disturb one factor at a time, at strength 1, 2 or 3, such as friction=2, and compare with "
        "the undisturbed twins; may be repeated; `all` is every factor at every strength",
        choices="uncap.envs.disturbances:FACTORS",
        accepts="uncap.envs.disturbances:conditions",
        repeated=True,
    )
    threads: int = setting(0, **THREADS)
    engine: str = setting("cpu", **ENGINE)
    out: pathlib.Path | None = setting(
        None,
        "folder for episodes.csv, disturbances.csv and results.json, which `table` compares",
        path="folder",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableConfig:
    """Rank the results of `evaluate --out` beside each other."""

    results: tuple[pathlib.Path, ...] = setting(
        REQUIRED, "results.json files, or folders that hold one", positional=True, path="read"
    )
    out: pathlib.Path | None = setting(
        None, "file for the table, as JSON (default: print only)", path="file"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a run's policy as an ONNX file, which acts without Uncap and torch."""

    run: pathlib.Path = setting(REQUIRED, **EXPORTABLE)
    out: pathlib.Path | None = setting(
        None, "file to write, .onnx (default: policy.onnx in the run)", path="file"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Film one episode of a run."""

    run: pathlib.Path = setting(REQUIRED, **RUN_OR_POLICY)
    task: str = setting(REQUIRED, "a row", **ROWS)
    seed: int = setting(0, "number of the start", **SEED)
    engine: str = setting("cpu", **ENGINE)
    out: pathlib.Path | None = setting(
        None,
        "film to write, .mp4 (default: in videos/ of the run; without a run, in this folder)",
        path="file",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """Look at a closure being opened, live in the browser; take over by hand, and record."""

    run: pathlib.Path = setting(REQUIRED, **RUN_OR_POLICY)
    task: str | None = setting(
        None, "the row to begin with (default: the first that it was trained on)", **ROWS
    )
    seed: int = setting(0, "of the starts", **SEED)
    port: int | None = setting(
        None, "to serve on, on this machine only (default: a free one from 8080 on)", **PORT
    )
    engine: str = setting("cpu", **ENGINE)
    native: bool = setting(False, "MuJoCo's own viewer, which needs a display, instead of a page")
    out: pathlib.Path = setting(
        pathlib.Path("runs/by-hand"), "folder for what is recorded by hand", path="folder"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write a run's report.html again."""

    run: pathlib.Path = setting(REQUIRED, **RUN)
    out: pathlib.Path | None = setting(None, "copy the page there, too", path="file")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Measure environment steps per second against bare physics, and policies' milliseconds."""

    task_set: str = setting("first", "its training rows share the batch", **TASK_SETS)
    num_envs: int = setting(64, "sub-environments", least=1)
    steps: int | None = setting(
        None,
        "control steps (default: 300, or 20 where pictures are drawn: slow in software)",
        least=1,
    )
    observation: str = setting(
        "state", "what is observed", choices="uncap.envs.vector_env:OBSERVATIONS"
    )
    sensors: str = setting(
        "full", "what the state is made of", choices="uncap.envs.sensors:SENSORS"
    )
    threads: int = setting(
        0, "threads of the physics, beside a measurement with one (0: one per core)", least=0
    )
    engine: str = setting("cpu", **ENGINE)
    seed: int = setting(0, "of the actions", **SEED)
    out: pathlib.Path | None = setting(
        None, "file for the result (default: print only)", path="file"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GalleryConfig:
    """Picture every closure, closed and open, with its numbers and the distance matrix."""

    seed: int = setting(0, "of the starts", **SEED)
    engine: str = setting("cpu", **ENGINE)
    out: pathlib.Path = setting(pathlib.Path("runs/gallery"), "folder", path="folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Search for success without opening (2,000 candidates per row), and film near misses."""

    tasks: tuple[str, ...] = setting((), "rows (default: all)", **TARGETS)
    seed: int = setting(7, "of the search", **SEED)
    engine: str = setting("cpu", **ENGINE)
    out: pathlib.Path = setting(pathlib.Path("runs/audit"), "folder", path="folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DemosConfig:
    """Record episodes of the expert or of policies, for --warm-start clone and offline learning."""

    task_set: str = setting("first", "which rows", **TASK_SETS)
    episodes: int = setting(20, "per task", least=1)
    policy: tuple[str, ...] = setting(
        ("expert",),
        "who acts: expert, search, random, zero, pretrained, pretrained-mt16, run folders, or "
        "single policies that `train --checkpoints` kept in them (RUN/checkpoints/...); several "
        "take turns, episode by episode",
    )
    grade: str = setting(
        "final",
        "which policies of the run folders: their final ones; medium, those that were kept when "
        "success was nearest half of the final; replay, all that were kept, by turns",
        choices=("final", "medium", "replay"),
    )
    perturb: float | None = setting(
        None,
        "share of random actions in the first half of an episode, below 1 (default: 0.2 if the "
        "expert alone acts, else 0)",
        least=0,
        below=1,
    )
    seed: int = setting(0, "of starts and perturbations", **SEED)
    engine: str = setting("cpu", **ENGINE)
    format: str = setting(
        "minari",
        "minari, which --demos takes; or lerobot, a LeRobotDataset of the same episodes",
        choices=("minari", "lerobot"),
    )
    pictures: bool = setting(
        False,
        "with --format lerobot and --engine cpu: pictures of two cameras, too; it takes OpenGL and "
        "time",
    )
    out: pathlib.Path = setting(pathlib.Path("runs/demos"), "folder of the dataset", path="folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Train every cell of a grid that is not trained yet, and set the results side by side."""

    grid: pathlib.Path = setting(
        REQUIRED,
        "a TOML file: seeds, flags of `train` in [common], lists of values in [vary], further "
        "[[cells]]; see benchmarks/",
        positional=True,
        path="read",
    )
    jobs: int | None = setting(None, **JOBS)
    ray: str | None = setting(None, **RAY)
    engine: str | None = setting(None, **GRID_ENGINE)
    shard: str | None = setting(
        None,
        "K/N, such as 2/8: train every Nth cell only, beginning with the Kth, and make no table; "
        "the same command without it makes it",
        check=shard_problem,
    )
    mixed_rewards: bool = setting(
        False, "set runs side by side that were trained with different versions of the rewards"
    )
    seed: int = setting(0, "of the bootstrap", **SEED)
    out: pathlib.Path | None = setting(
        None, "folder (default: runs/<name of the grid>)", path="folder"
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Choose values of flags with Optuna, by success in validation, trial by trial."""

    grid: pathlib.Path = setting(
        REQUIRED,
        "a TOML file: trials, seeds, objective (best or mean validation of a training), flags of "
        "`train` in [common], and in [tune] lists of values or ranges of others; see "
        "benchmarks/tune.toml",
        positional=True,
        path="read",
    )
    jobs: int | None = setting(None, **JOBS)
    ray: str | None = setting(None, **RAY)
    engine: str | None = setting(None, **GRID_ENGINE)
    seed: int = setting(0, "of the choice of values", **SEED)
    out: pathlib.Path | None = setting(
        None, "folder (default: runs/<name of the study>)", path="folder"
    )
