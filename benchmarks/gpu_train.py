"""Train a policy with thousands of environments on a GPU, into a run folder.

    python benchmarks/gpu_train.py --algorithm dagger --minutes 3 --out runs/gpu
    python benchmarks/gpu_train.py --resume runs/gpu
    python train.py evaluate runs/gpu

The physics is MuJoCo Warp's; rollouts and updates stay on its device, see `agents/device/`. The
minutes are those of learning: before them, starts are drawn and kernels are compiled. A line says
how far it is: seconds, environment steps, steps/s since the line before, and success in the
training's episodes, in which PPO explores. At the end the policy is saved, and measured on
variants that were not trained: on the CPU, as trainings validate, and on the device, in a whole
episode of every world. Ctrl-C saves the training, as `--save-every` does, and `--resume` goes on
with it.

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
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

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
from uncap.envs.engines import EngineUnavailable  # noqa: E402
from uncap.evaluation import experiment, runs  # noqa: E402
from uncap.evaluation.config import JobConfig  # noqa: E402
from uncap.evaluation.interrupt import INTERRUPTED, Interrupt  # noqa: E402
from uncap.evaluation.metrics import Logged, Metrics  # noqa: E402
from uncap.evaluation.protocol import evaluate, summary  # noqa: E402
from uncap.evaluation.statistics import wilson  # noqa: E402
from uncap.evaluation.training import VALIDATION_SEED, phrase  # noqa: E402

ALGORITHMS = {"dagger": DeviceDagger, "ppo": DevicePPO}
DRAWING = 64  # simulations on the CPU, which draw the starts
SAY_EVERY = 5.0  # s
VALIDATED = 25  # episodes per task
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
TEACHING = ("rollout", "updates", "minibatch", "learning_rate", "lead")  # DAgger's, as flags
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
    parser.add_argument("--looks", type=int, choices=STRENGTHS, default=2, help="with --pictures")
    parser.add_argument("--body", default=NetworkConfig().body)
    parser.add_argument("--width", type=int, default=NetworkConfig().width)
    parser.add_argument("--num-envs", type=int, default=wide.num_envs)
    parser.add_argument("--starts", type=int, default=wide.starts, help="of each row")
    parser.add_argument("--states", type=int, default=wide.states, help="of DAgger, kept")
    for name in TEACHING:
        default = getattr(wide.dagger, name)
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default, help=f"DAgger's ({default})")
    parser.add_argument("--episodes", type=int, default=64, help="of each row, with --pictures")
    parser.add_argument("--minutes", type=float, help="of learning")
    parser.add_argument(
        "--minutes-in-all",
        type=float,
        help="in place of --minutes: with the start, which takes its time; learning has the rest",
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
    parser.add_argument("--compiler", help="of the control step, such as inductor; minutes")
    parser.add_argument("--out", type=pathlib.Path, help="run folder, a new one")
    parser.add_argument(
        "--resume",
        type=pathlib.Path,
        help="go on with a run folder that was stopped, by its own flags; it goes with "
        f"{', '.join(CHANGEABLE)}",
    )
    return parser


def parsed() -> argparse.Namespace:
    """The flags; of a training that goes on, its own, and what is changed in them."""
    parser = parser_of(sys.argv[1:])
    options = parser.parse_args()
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


def resumed(parser: argparse.ArgumentParser, run: pathlib.Path) -> argparse.Namespace:
    """The flags of a run that was stopped, with those of the command line."""
    given = sys.argv[1:]
    names = {word.partition("=")[0] for word in given if word.startswith("--")}
    if wrong := sorted(names - {"--resume", *CHANGEABLE}):
        parser.error(f"--resume goes with {', '.join(CHANGEABLE)}, not with {', '.join(wrong)}")
    try:
        words = shlex.split(str(runs.open_run(run).get("command")))
    except ValueError as error:
        parser.error(str(error))
    if words[1:2] != [SCRIPT]:
        parser.error(f"{run} was not trained by {SCRIPT}: python train.py --resume {run}")
    if "train" in runs.read_results(run):
        saved.forget(run)  # it was killed before it did
        parser.error(f"{run} cannot go on: its training has ended")
    if not saved.exists(run):
        parser.error(f"{run} cannot go on: nothing was saved in it")
    options = parser_of(words).parse_args([*words[2:], *given])
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


def learner_of(job: JobConfig, seed: int) -> Learner:
    """An ordinary learner, whose policy will learn on the device."""
    split = named_set(job.task_set)
    config = LearnerConfig(
        conditioning=job.conditioning,
        sensors=job.sensors,
        num_envs=DRAWING,
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
        """Close metrics.csv."""
        self._metrics.close()


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


def validated(learner: Learner) -> float:
    """Mean success on the starts of validations, on the CPU."""
    table = evaluate(
        Acting(learner.policy, learner.tasks),
        learner.tasks,
        VALIDATED,
        conditioning=learner.vectors,
        known_tasks=learner.known_tasks,
        seed=VALIDATION_SEED,
        variants="validation",
        sensors=learner.sensors,
        episode_steps=learner.episode_steps,
    )
    return summary(table)["mean_success"]


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


def evaluate_on_device(options: argparse.Namespace, learner: Learner) -> None:
    """Print success in a whole episode of as many worlds, of variants that were not trained."""
    starts = min(options.starts, max(1, options.num_envs // len(learner.tasks)))  # one a world
    worlds = on_warp(learner, options.num_envs, starts, seed=VALIDATION_SEED, variants="validation")
    began = time.perf_counter()
    with moved(learner.policy, worlds.device):
        rates = worlds.measure(learner.policy.act)
    seconds = time.perf_counter() - began
    print(
        f"on the device, {len(worlds):,} episodes in {seconds:.1f} s: "
        f"{phrase(learner.tasks, rates)}"
    )


def stopped(options: argparse.Namespace, learner: Learner) -> None:
    """Keep the policy as it is, and say how to go on."""
    learner.save(options.out / "checkpoint", teacher=False)
    if options.no_state:
        print("stopped; the policy is kept as it is", flush=True)
        raise SystemExit(INTERRUPTED)
    words = sys.argv[1:] if options.resume else ["--resume", str(options.out)]
    print(f"stopped; go on with: {shlex.join(['python', SCRIPT, *words])}", flush=True)
    raise SystemExit(INTERRUPTED)


class Seen(NamedTuple):
    """Success on the device, pictures changed at a strength."""

    strength: int
    episodes: int
    success: float
    low: float  # of the 95 % interval
    high: float
    per_task: dict[str, float]


def seen_at(strength: int, options: argparse.Namespace, learner: Learner) -> Seen:
    """Success of a policy that sees, each episode from a start of its own."""
    number = options.episodes * len(learner.tasks)
    worlds = on_warp(
        learner,
        number,
        options.episodes,
        seed=VALIDATION_SEED,
        variants="validation",
        disturb=looks(strength),
    )
    with moved(learner.policy, worlds.device):
        rates = worlds.measure(learner.policy.act)
    opened = round(float(rates.sum()) * options.episodes)
    named = dict(zip(learner.tasks, rates.tolist(), strict=True))
    return Seen(strength, number, opened / number, *wilson(opened, number), named)


def measure_seen(options: argparse.Namespace, learner: Learner) -> float:
    """Measure a policy that sees at every strength, and print it; success as pictures are."""
    found: list[Seen] = []
    for strength in STRENGTHS:
        seen = seen_at(strength, options, learner)
        found.append(seen)
        print(
            f"pictures changed at strength {strength}: success {seen.success:.3f} "
            f"[{seen.low:.3f}, {seen.high:.3f}], {seen.episodes} episodes on the device",
            flush=True,
        )
        kept = {"trained at": options.looks, "seen": [one._asdict() for one in found]}
        runs.write_json(options.out / "pictures.json", kept)
    rates = ", ".join(f"{seen.success:.3f} at {seen.strength}" for seen in found)
    print(f"{options.task_set}: success by how pictures are changed: {rates}", flush=True)
    return found[0].success


def keep(
    options: argparse.Namespace, learner: Learner, trained: dict[str, Any], score: float
) -> None:
    """Write the policy, with its success in validation, and what results.json says of it."""
    learner.save(options.out / "checkpoint", teacher=False, validation=score)
    runs.update_results(options.out, train=trained, warm_start=None)


def measure(options: argparse.Namespace, learner: Learner, trained: dict[str, Any]) -> None:
    """Keep the policy, measure it, and keep what it is worth."""
    keep(options, learner, trained, 0.0)  # whatever becomes of what follows
    if options.pictures:
        keep(options, learner, trained, measure_seen(options, learner))
        return
    score = validated(learner)
    episodes = VALIDATED * len(learner.tasks)
    print(f"on the CPU, {episodes} episodes: success {score:.3f}", flush=True)
    keep(options, learner, trained, score)
    saved.forget(options.out)
    evaluate_on_device(options, learner)


def main() -> None:
    """Learn, save, measure."""
    options = parsed()
    if options.device:
        os.environ["UNCAP_WARP_DEVICE"] = options.device
    began = time.perf_counter()
    job = job_of(options)
    dagger = options.algorithm == "dagger"
    try:
        check(wide_config(options))
        check(job)
        learner = learner_of(job, options.seed)
        worlds = on_warp(
            learner,
            options.num_envs,
            options.starts,
            expert=dagger,
            compiler=options.compiler,
            disturb=looks(options.looks) if options.pictures else None,
        )
        command = shlex.join(["python", SCRIPT, *sys.argv[1:]])
        if options.minutes_in_all:
            taken = (time.perf_counter() - began) / 60
            options.minutes = max(options.minutes_in_all - taken, LEAST_MINUTES)
            job = job_of(options)
        if not options.resume:
            experiment.start(options.out, job, options.seed, command)
    except (EngineUnavailable, ValueError) as error:  # a RunError is one
        raise SystemExit(f"error: {error}") from None
    seconds = time.perf_counter() - began
    place = f"{len(worlds):,} worlds of {len(learner.tasks)} rows on {worlds.device}"
    print(f"{place}, ready after {seconds:.0f} s", flush=True)
    try:
        with runs.writing(options.out, new=not options.resume):
            trained = learned(options, learner, worlds)
    except CheckpointError as error:
        raise SystemExit(f"error: {error}") from None
    if not trained:
        stopped(options, learner)
    if not dagger:
        learner.algorithm.model.num_timesteps = trained["env_steps"]
    measure(options, learner, trained)


if __name__ == "__main__":
    main()
