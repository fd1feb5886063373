"""Train a policy with thousands of environments on a GPU, into a run folder.

    python benchmarks/gpu_train.py --algorithm dagger --minutes 3 --out runs/gpu
    python benchmarks/gpu_train.py --resume runs/gpu
    python benchmarks/gpu_train.py --measure runs/gpu
    python train.py evaluate runs/gpu --task-set first

The physics is MuJoCo Warp's; rollouts and updates stay on its device, see `agents/device/`. The
minutes are those of learning: before them, starts are drawn and kernels are compiled. A line says
how far it is: seconds, environment steps, steps/s since the line before, and success in the
training's episodes, in which PPO explores. At the end the policy is saved, and measured on
variants that were not trained: on the device, the rows that the task set holds out, then its own
(`OUT/device.json`), and on the CPU, as trainings validate. Ctrl-C saves the training, as
`--save-every` does, and `--resume` goes on with it. `--measure` measures a run on the device again.

    python benchmarks/gpu_train.py --pictures --task-set first --num-envs 1024 --starts 256 \
        --minutes 10 --out runs/seen
    python train.py evaluate runs/seen --episodes 20 --disturb camera=3 colours=3
    python train.py video runs/seen --task jar

With `--pictures` a policy sees two cameras and what an arm feels of itself, and is taught by
DAgger under other colours, lights and cameras in every episode (`--looks`, a strength of
`disturbances.FACTORS`). It is measured on the device only, where pictures are drawn quickly: as
they are, and changed at each strength; `OUT/pictures.json` has successes with their intervals.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from one_line import above_zero, in_one_line  # noqa: E402

from uncap.agents.checkpoints import CheckpointError  # noqa: E402
from uncap.agents.config import LearnerConfig, NetworkConfig  # noqa: E402
from uncap.agents.device import saved  # noqa: E402
from uncap.agents.device.config import PICTURED, WideConfig  # noqa: E402
from uncap.agents.device.dagger import DeviceDagger  # noqa: E402
from uncap.agents.device.ppo import DevicePPO  # noqa: E402
from uncap.agents.device.worlds import Worlds, moved, on_warp  # noqa: E402
from uncap.agents.learner import Learner  # noqa: E402
from uncap.agents.policy import Acting  # noqa: E402
from uncap.agents.settings import check  # noqa: E402
from uncap.envs.closures import named_set  # noqa: E402
from uncap.envs.conditioning import UNSEEN  # noqa: E402
from uncap.envs.device.fusing import check_compiler  # noqa: E402
from uncap.envs.device.turns import check_worlds  # noqa: E402
from uncap.evaluation import experiment, runs  # noqa: E402
from uncap.evaluation.config import JobConfig  # noqa: E402
from uncap.evaluation.experiment import run_policy  # noqa: E402
from uncap.evaluation.interrupt import INTERRUPTED, Interrupt  # noqa: E402
from uncap.evaluation.metrics import Logged, Metrics  # noqa: E402
from uncap.evaluation.protocol import evaluate, spread, summary  # noqa: E402
from uncap.evaluation.statistics import wilson  # noqa: E402
from uncap.evaluation.training import VALIDATION_SEED, phrase  # noqa: E402

ALGORITHMS = {"dagger": DeviceDagger, "ppo": DevicePPO}
DRAWING = 64  # simulations on the CPU, which draw the starts
SAY_EVERY = 5.0  # s
VALIDATED = 25  # episodes per task, at most
SMALLER = "--num-envs, --starts or --states"  # need less memory
SCRIPT = "benchmarks/gpu_train.py"
SAVE_EVERY = 300.0  # s
LEAST_MINUTES = 0.05  # of learning, where the start took all of the time
# in a training that goes on
CHANGEABLE = (
    "--minutes",
    "--minutes-in-all",
    "--env-steps",
    "--save-every",
    "--device",
    "--compiler",
)
MEASURING = ("--device", "--num-envs", "--starts", "--episodes")  # of a run that has ended
TEACHING = ("rollout", "updates", "minibatch", "learning_rate", "lead")  # DAgger's, as flags
HELP = {  # of DAgger's flags
    "rollout": "control steps of a round, in which all worlds act",
    "updates": "gradient steps after each round",
    "minibatch": "labelled states per gradient step",
    "learning_rate": "of the first gradient step; it falls to a tenth",
    "lead": "share of training over which the expert's control fades out",
}
STRENGTHS = (0, 2, 3, 1)  # of other colours, lights and cameras, as they are measured


def parser_of(words: Sequence[str]) -> argparse.ArgumentParser:
    """What reads the flags, some of whose defaults are others for pictures.

    Args:
        words: of the command line.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument(
        "--pictures", action="store_true", help="the policy sees, and DAgger teaches"
    )
    wide = PICTURED if first.parse_known_args(words)[0].pictures else WideConfig()
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], allow_abbrev=False, parents=[first]
    )
    parser.add_argument("--task-set", default="first")
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="dagger")
    told = "parameters" if wide is not PICTURED else "one_hot"
    parser.add_argument("--conditioning", default=told, help=f"(default: {told})")
    parser.add_argument(
        "--looks",
        type=int,
        choices=sorted(STRENGTHS),
        default=2,
        help="strength of visual randomisation in training, 0 to 3 (with --pictures)",
    )
    parser.add_argument("--body", default=NetworkConfig().body)
    parser.add_argument("--width", type=int, default=NetworkConfig().width)
    parser.add_argument("--num-envs", type=int, default=wide.num_envs)
    parser.add_argument(
        "--starts",
        type=int,
        default=wide.starts,
        help="precomputed initial states per row, reused in turn",
    )
    parser.add_argument(
        "--states", type=int, default=wide.states, help="size of DAgger's replay buffer"
    )
    for name in TEACHING:
        default = getattr(wide.dagger, name)
        flag = f"--{name.replace('_', '-')}"
        words = f"DAgger: {HELP[name]} (default: {default})"
        parser.add_argument(flag, type=type(default), default=default, help=words)
    parser.add_argument(
        "--episodes",
        type=above_zero(int),
        default=64,
        help="of each row, when it is measured (with --pictures)",
    )
    parser.add_argument("--minutes", type=above_zero(float), help="of learning")
    parser.add_argument(
        "--minutes-in-all",
        type=above_zero(float),
        help="in place of --minutes: minutes for start-up and learning together",
    )
    parser.add_argument("--env-steps", type=int, help="of learning; the same steps each time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--save-every",
        type=float,
        default=SAVE_EVERY,
        help=f"seconds, for --resume after a kill; 0: at a stop only (default: {SAVE_EVERY:g})",
    )
    parser.add_argument(
        "--no-state",
        action="store_true",
        help="save no state for --resume, which with pictures has gigabytes; a stop ends it",
    )
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: the first GPU, if any)")
    parser.add_argument(
        "--compiler",
        help="torch.compile backend for the control step, such as inductor; compiling takes "
        "minutes",
    )
    parser.add_argument("--out", type=pathlib.Path, help="run folder, a new one")
    parser.add_argument(
        "--resume",
        type=pathlib.Path,
        help="go on with a run folder that was stopped, by its own flags; it goes with "
        f"{', '.join(CHANGEABLE)}",
    )
    parser.add_argument(
        "--measure",
        type=pathlib.Path,
        help="measure the policy of a run folder on the device, in place of training; it goes with "
        f"{', '.join(MEASURING)}",
    )
    return parser


def parsed() -> argparse.Namespace:
    """The flags; of a training that goes on, its own, and what is changed in them."""
    parser = parser_of(sys.argv[1:])
    options = parser.parse_args()
    if options.measure:
        return ended(parser, options.measure)
    refuse_without_effect(parser, options)
    if options.resume:
        options = resumed(parser, options.resume)
    if not options.out:
        parser.error("--out names a new run folder, --resume one that was stopped")
    if not options.minutes and not options.minutes_in_all and not options.env_steps:
        parser.error("--minutes, --minutes-in-all or --env-steps says how long it learns")
    if options.minutes and options.minutes_in_all:
        parser.error("--minutes-in-all is in place of --minutes")
    if options.pictures and options.algorithm != "dagger":
        parser.error("--pictures goes with --algorithm dagger only")
    return options


def typed() -> set[str]:
    """Names of the flags in the command line."""
    return {word.partition("=")[0] for word in sys.argv[1:] if word.startswith("--")}


def refuse_without_effect(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with one line where a flag was typed that the others leave without an effect."""
    idle = {}
    if not options.pictures:
        idle |= dict.fromkeys(("--looks", "--episodes"), "without --pictures")
    if options.algorithm != "dagger":
        names = [f"--{name.replace('_', '-')}" for name in ("states", *TEACHING)]
        idle |= dict.fromkeys(names, f"with --algorithm {options.algorithm}")
    for flag in sorted(typed() & idle.keys()):
        parser.error(f"{flag} has no effect {idle[flag]}")


def resumed(parser: argparse.ArgumentParser, run: pathlib.Path) -> argparse.Namespace:
    """The flags of a run that was stopped, with those of the command line."""
    options = flags_of(parser, run, "--resume", CHANGEABLE, f"python train.py --resume {run}")
    if "train" in runs.read_results(run):
        saved.forget(run)  # it was killed before it did
        parser.error(f"{run} cannot go on: its training has ended")
    if not saved.exists(run):
        parser.error(f"{run} cannot go on: nothing was saved in it")
    return options


def ended(parser: argparse.ArgumentParser, run: pathlib.Path) -> argparse.Namespace:
    """The flags of a run that is measured, with those of the command line."""
    options = flags_of(parser, run, "--measure", MEASURING, f"python train.py evaluate {run}")
    refuse_without_effect(parser, options)
    return options


def flags_of(
    parser: argparse.ArgumentParser,
    run: pathlib.Path,
    flag: str,
    beside: tuple[str, ...],
    others: str,
) -> argparse.Namespace:
    """The flags that a run was made with, with those of the command line.

    Args:
        parser: ends with one line where they cannot be.
        run: its folder.
        flag: that names it.
        beside: what may stand beside that flag.
        others: the command for runs that were made otherwise.
    """
    if wrong := sorted(typed() - {flag, *beside}):
        parser.error(f"{flag} goes with {', '.join(beside)}, not with {', '.join(wrong)}")
    try:
        words = shlex.split(str(runs.open_run(run).get("command")))
    except ValueError as error:
        parser.error(str(error))
    if words[1:2] != [SCRIPT]:
        parser.error(f"{run} was not trained by {SCRIPT}: {others}")
    options = parser_of(words).parse_args([*words[2:], *sys.argv[1:]])
    options.out = run
    return options


def wide_config(options: argparse.Namespace) -> WideConfig:
    """The settings of this width; few of them are flags."""
    wide = PICTURED if options.pictures else WideConfig()
    named = {name: getattr(options, name) for name in TEACHING}
    return dataclasses.replace(
        wide,
        num_envs=options.num_envs,
        starts=options.starts,
        states=options.states,
        dagger=dataclasses.replace(wide.dagger, **named),
    )


def looks(strength: int) -> dict[str, int]:
    """Disturbances of pictures, in both factors."""
    return {"camera": strength, "colours": strength} if strength else {}


def job_of(options: argparse.Namespace) -> JobConfig:
    """The job as the run folder has it."""
    dagger = options.algorithm == "dagger"
    return JobConfig(
        task_set=options.task_set,
        warm_start="dagger" if dagger else "none",
        conditioning=options.conditioning,
        sensors="pictures" if options.pictures else "full",
        env_steps=0 if dagger else options.env_steps,
        minutes=options.minutes,
        num_envs=options.num_envs,
        engine="warp",
        network=NetworkConfig(body=options.body, width=options.width),
        ppo=wide_config(options).ppo,
        dagger=wide_config(options).dagger,
    )


def learner_of(job: JobConfig, wide: WideConfig, seed: int) -> Learner:
    """An ordinary learner, whose policy will learn on the device."""
    split = named_set(job.task_set)
    config = LearnerConfig(
        conditioning=job.conditioning,
        sensors=job.sensors,
        num_envs=DRAWING,
        variants=wide.variants_of(len(split.train)),
        episode_steps=split.episode_steps,
        network=job.network,
        ppo=job.ppo,
    )
    return Learner(split.train, config, seed)


class Progress:
    """How far the learning is: printed, and in metrics.csv.

    Called with (env steps, loss or divergence) after each round or update.

    Attributes:
        seconds: of learning so far.
        steps: environment steps so far.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        worlds: Worlds,
        tasks: tuple[str, ...],
        before: dict[str, Any],
    ):
        self.options = options
        self.worlds = worlds
        self.tasks = tasks
        self.seconds: float = before.get("seconds", 0.0)
        self.steps: int = before.get("steps", 0)
        self.stop = Interrupt(print)
        columns = ["phase", "env_steps", "seconds", "loss", "validation"]
        named = [f"success/{task}" for task in tasks]
        logged = Logged(*before.get("logged", ()))
        self._metrics = Metrics(options.out / "metrics.csv", [*columns, *named], logged)
        self._began = time.perf_counter() - self.seconds
        self._said = (self.seconds, self.steps)  # at the line before

    def __call__(self, steps: int, number: float) -> float:
        """The share of the budget that is used."""
        options = self.options
        self.seconds = time.perf_counter() - self._began
        self.steps = steps
        by_time = self.seconds / 60 / options.minutes if options.minutes else 0.0
        by_steps = steps / options.env_steps if options.env_steps else 0.0
        used = max(by_time, by_steps)
        if used >= 1 or self.stop() or self.seconds - self._said[0] >= SAY_EVERY:
            self._say(number)
        return used

    def _say(self, number: float) -> None:
        seconds, steps = self._said
        rate = (self.steps - steps) / max(self.seconds - seconds, 1e-9)
        self._said = (self.seconds, self.steps)
        rates = self.worlds.take_successes()
        what = "loss" if self.options.algorithm == "dagger" else "divergence"
        print(
            f"{self.seconds:7.1f} s {self.steps:12,} steps {rate:10,.0f} steps/s  "
            f"{what} {number:.4f}  {phrase(self.tasks, rates)}",
            flush=True,
        )
        known = {
            f"success/{task}": round(float(rate), 4)
            for task, rate in zip(self.tasks, rates, strict=True)
            if not np.isnan(rate)
        }
        row: dict[str, Any] = {"loss": round(number, 5)} if what == "loss" else {}
        self._metrics.row(
            phase=self.options.algorithm,
            env_steps=self.steps,
            seconds=round(self.seconds, 2),
            **row,
            **known,
        )

    def state(self) -> dict[str, Any]:
        """What a training that goes on from here has to know."""
        return {"seconds": self.seconds, "steps": self.steps, "logged": self._metrics.sync()}

    def close(self) -> None:
        """Close metrics.csv, and let signals end what follows."""
        self._metrics.close()
        self.stop.release()


def saving(options: argparse.Namespace, teacher: Any, progress: Progress) -> Callable[[], bool]:
    """Asked before each round or update: whether to stop. It also saves the training in between."""
    saved_at = time.perf_counter()

    def asked() -> bool:
        nonlocal saved_at
        due = options.save_every and not options.no_state
        if due and time.perf_counter() - saved_at >= options.save_every:
            saved.save(options.out, teacher, **progress.state())
            saved_at = time.perf_counter()
        return progress.stop()

    return asked


def validated(learner: Learner, quota: int) -> tuple[float, int]:
    """Mean success on the starts of validations, on the CPU, and of how many episodes.

    Args:
        learner: its policy is measured, in as many variants of each row as it was trained on.
        quota: episodes of all rows together; each has at least one.
    """
    rows, episodes = spread(learner.tasks, quota, VALIDATED, None)
    table = evaluate(
        Acting(learner.policy, learner.tasks),
        rows,
        episodes,
        conditioning=learner.vectors,
        known_tasks=learner.known_tasks,
        seed=VALIDATION_SEED,
        variants="validation",
        variants_per_row=learner.variants,
        sensors=learner.sensors,
        episode_steps=learner.episode_steps,
    )
    return summary(table)["mean_success"], len(table)


def learned(options: argparse.Namespace, learner: Learner, worlds: Worlds) -> dict[str, Any]:
    """Learn on the device; what results.json says of it, nothing of a training that was stopped.

    Raises:
        CheckpointError: what it goes on from is damaged, or of another training.
    """
    with moved(learner.policy, worlds.device):
        settings = wide_config(options)
        teacher = ALGORITHMS[options.algorithm](learner.policy, worlds, settings, options.seed)
        before = saved.restore(options.out, teacher) if options.resume else {}
        progress = Progress(options, worlds, learner.tasks, before)
        teacher.run(progress, saving(options, teacher, progress))
        if teacher.used < 1 and not options.no_state:
            saved.save(options.out, teacher, **progress.state())
        progress.close()
        if teacher.used < 1:
            return {}
    return {
        "env_steps": progress.steps,
        "wall_seconds": progress.seconds,
        "env_steps_per_second": progress.steps / progress.seconds,
        "seconds": {"learning": progress.seconds},
    }


class Measured(NamedTuple):
    """Success on the device, each episode from a start of its own, of variants not trained."""

    episodes: int
    success: float
    low: float  # of the 95 % interval
    high: float
    per_task: dict[str, float]


def measured(
    learner: Learner, rows: tuple[str, ...], episodes: int, disturb: dict[str, int] | None = None
) -> Measured:
    """What a policy is worth in rows, which it may not have seen.

    Args:
        learner: whose policy it is.
        rows: that are opened.
        episodes: of each.
        disturb: strengths by factor.
    """
    number = episodes * len(rows)
    worlds = on_warp(
        learner,
        number,
        episodes,
        rows=rows,
        seed=VALIDATION_SEED,
        variants="validation",
        disturb=disturb,
    )
    with moved(learner.policy, worlds.device):
        rates = worlds.measure(learner.policy.act)
    opened = round(float(rates.sum()) * episodes)
    named = dict(zip(rows, rates.tolist(), strict=True))
    return Measured(number, opened / number, *wilson(opened, number), named)


def unseen_rows(options: argparse.Namespace) -> tuple[str, ...]:
    """Rows that the task set holds out; none where the policy cannot be told of them."""
    return named_set(options.task_set).held_out if options.conditioning in UNSEEN else ()


def evaluate_on_device(options: argparse.Namespace, learner: Learner) -> None:
    """Measure held-out rows, then those that were trained; printed, and in OUT/device.json."""
    found: dict[str, Any] = {}
    for name, rows in {"held out": unseen_rows(options), "trained": learner.tasks}.items():
        if not rows:
            continue
        began = time.perf_counter()
        episodes = max(1, min(options.starts, options.num_envs // len(rows)))  # one a world
        one = measured(learner, rows, episodes)
        worst = min(one.per_task, key=one.per_task.__getitem__)
        print(
            f"on the device, {name}: success {one.success:.3f} [{one.low:.3f}, {one.high:.3f}], "
            f"worst {worst} {one.per_task[worst]:.2f}, {one.episodes:,} episodes in "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )
        found[name] = one._asdict()
        runs.write_json(options.out / "device.json", found)
        gc.collect()  # what refers to itself keeps its worlds


def stopped(options: argparse.Namespace, learner: Learner) -> None:
    """Keep the policy as it is, and say how to go on."""
    learner.save(options.out / "checkpoint", teacher=False)
    if options.no_state:
        print("stopped; the policy is kept as it is", flush=True)
        raise SystemExit(INTERRUPTED)
    words = sys.argv[1:] if options.resume else ["--resume", str(options.out)]
    print(f"stopped; go on with: {shlex.join(['python', SCRIPT, *words])}", flush=True)
    raise SystemExit(INTERRUPTED)


def measure_seen(options: argparse.Namespace, learner: Learner) -> float:
    """Measure a policy that sees at every strength, and print it; success as pictures are."""
    found: dict[int, Measured] = {}
    for strength in STRENGTHS:
        seen = measured(learner, learner.tasks, options.episodes, looks(strength))
        found[strength] = seen
        print(
            f"pictures changed at strength {strength}: success {seen.success:.3f} "
            f"[{seen.low:.3f}, {seen.high:.3f}], {seen.episodes} episodes on the device",
            flush=True,
        )
        seen_at = [{"strength": own, **one._asdict()} for own, one in found.items()]
        kept = {"trained at": options.looks, "seen": seen_at}
        runs.write_json(options.out / "pictures.json", kept)
    rates = ", ".join(f"{seen.success:.3f} at {strength}" for strength, seen in found.items())
    print(f"{options.task_set}: success by how pictures are changed: {rates}", flush=True)
    return found[0].success  # as they are


def keep(
    options: argparse.Namespace, learner: Learner, trained: dict[str, Any], score: float
) -> None:
    """Write the policy, with its success in validation, and what results.json says of it."""
    learner.save(options.out / "checkpoint", teacher=False, validation=score)
    runs.update_results(options.out, train=trained, warm_start=None)


def measure(options: argparse.Namespace, learner: Learner, trained: dict[str, Any]) -> None:
    """Keep the policy, measure it, and keep what it is worth."""
    keep(options, learner, trained, 0.0)  # whatever becomes of what follows
    saved.forget(options.out)
    if options.pictures:
        keep(options, learner, trained, measure_seen(options, learner))
        return
    evaluate_on_device(options, learner)
    score, episodes = validated(learner, job_of(options).validation_quota)
    print(f"on the CPU, {episodes} episodes: success {score:.3f}", flush=True)
    keep(options, learner, trained, score)


def measure_again(options: argparse.Namespace) -> None:
    """Measure the policy of a run that has ended, on the device."""
    acting, _ = run_policy(options.measure)
    learner = learner_of(job_of(options), wide_config(options), options.seed)
    learner.policy.load_state_dict(acting.policy.state_dict())
    if options.pictures:
        measure_seen(options, learner)
    else:
        evaluate_on_device(options, learner)


def prepared(options: argparse.Namespace) -> tuple[Learner, Worlds]:
    """The learner and its worlds; and the run folder of a new training, once these are there.

    Raises:
        EngineUnavailable: see `on_warp`.
        ValueError: a flag that cannot be; a run folder that is there.
    """
    from uncap.envs.device.warp_worlds import torch_device

    began = time.perf_counter()
    wide, job = wide_config(options), job_of(options)
    check(wide)
    check(job)
    check_worlds(options.num_envs, len(named_set(options.task_set).train))
    check_compiler(options.compiler)
    torch_device()  # refuses before variants are compiled
    learner = learner_of(job, wide, options.seed)
    worlds = on_warp(
        learner,
        options.num_envs,
        options.starts,
        expert=options.algorithm == "dagger",
        compiler=options.compiler,
        disturb=looks(options.looks) if options.pictures else None,
    )
    if options.minutes_in_all:
        taken = (time.perf_counter() - began) / 60
        options.minutes = max(options.minutes_in_all - taken, LEAST_MINUTES)
    if not options.resume:
        command = shlex.join(["python", SCRIPT, *sys.argv[1:]])
        experiment.start(options.out, job_of(options), options.seed, command)
    seconds = time.perf_counter() - began
    place = f"{len(worlds):,} worlds of {len(learner.tasks)} rows on {worlds.device}"
    print(f"{place}, ready after {seconds:.0f} s", flush=True)
    return learner, worlds


def main() -> None:
    """Learn, save, measure."""
    options = parsed()
    if options.device:
        os.environ["UNCAP_WARP_DEVICE"] = options.device
    if options.measure:
        with in_one_line(ValueError, smaller=SMALLER):
            measure_again(options)
        return
    with in_one_line(ValueError, smaller=SMALLER):  # a RunError is one
        learner, worlds = prepared(options)
    with in_one_line(CheckpointError, smaller=SMALLER):
        with runs.writing(options.out, new=not options.resume):
            trained = learned(options, learner, worlds)
        if not trained:
            stopped(options, learner)
        if options.algorithm == "ppo":
            learner.algorithm.model.num_timesteps = trained["env_steps"]
        measure(options, learner, trained)


if __name__ == "__main__":
    main()
