"""What the commands of the command line do: a function each, with its settings."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from agents import checkpoints
from agents.demonstrations import task_indices
from agents.files import owned, replacing
from agents.settings import as_words, flags
from agents.tables import ALGORITHMS
from envs import CLOSURES, TASK_SETS, ClosureVectorEnv
from envs.closures import named_set
from envs.conditioning import UNSEEN, vectors
from envs.cores import set_threads
from envs.opengl import RenderingUnavailable
from evaluation import compare as comparison
from evaluation import experiment, grid, runs, single_task
from evaluation.benchmark import benchmark as measure_speed
from evaluation.benchmark import inference
from evaluation.config import (
    LARGEST_SEED,
    AuditConfig,
    BenchmarkConfig,
    CompareConfig,
    DemosConfig,
    EvaluateConfig,
    GalleryConfig,
    JobConfig,
    ReportConfig,
    TrainConfig,
    TransferConfig,
    TransferRunConfig,
    VideoConfig,
    resolved,
)
from evaluation.effects import check_effects, job_to_resume, note_changes
from evaluation.interrupt import INTERRUPTED, Interrupt
from evaluation.loggers import LOGGERS, require
from evaluation.progress import Bars
from evaluation.protocol import (
    BUILT_IN,
    EVALUATION_SEED,
    Act,
    Episode,
    Policy,
    summary,
    write_episodes,
)
from evaluation.protocol import (
    evaluate as evaluate_policy,
)
from evaluation.report import write_report
from evaluation.training import LATEST, Report, Session, Training, learner_config
from evaluation.transfer import TEACHER_SEED

PICTURED_STEPS, STEPS = 20, 300  # control steps of a benchmark, with and without pictures


def check_job(job: JobConfig) -> None:
    """Refuse settings that do not go together, and what is not installed.

    Raises:
        ValueError: what is wrong and what is allowed.
    """
    by_key = {flag.key: flag for flag in flags(job)}
    algorithm = ALGORITHMS[job.algorithm]
    fixed = algorithm.fixed
    if any(by_key[key].get(job) != value for key, value in fixed.items()):
        needed = " ".join(word for key, value in fixed.items() for word in as_words(key, value))
        raise ValueError(f"--algorithm {job.algorithm} works with these flags only: {needed}")
    algorithm.check(learner_config(job))
    clones = job.warm_start == "clone"
    takes_demos = clones or algorithm.replays_demonstrations
    if (clones and not job.demos) or (job.demos and not takes_demos):
        raise ValueError(
            "--demos FOLDER goes with --warm-start clone, or with sac: make a folder with "
            "`python train.py demos`"
        )
    if job.demos and job.sensors != "full":
        raise ValueError(
            f"--demos FOLDER goes with --sensors full only, not with {job.sensors}: demonstrations "
            "hold the full state (--warm-start dagger and none need none)"
        )
    for name in LOGGERS:
        if getattr(job, name):
            require(name)


def check_installed(job: JobConfig) -> None:
    """Refuse what needs a package or a recording that is missing, before anything is made.

    Raises:
        ValueError: what is missing.
    """
    tasks = named_set(job.task_set).train
    if job.conditioning == "language":
        vectors(job.conditioning, tasks[:1])
    if job.demos:
        task_indices(pathlib.Path(job.demos), tasks)


def check_seeds(seed: int, config: TransferConfig) -> None:
    """Refuse a seed that some learner of a transfer would count on to beyond the largest.

    Raises:
        ValueError: the largest that is allowed.
    """
    teacher = TEACHER_SEED if config.few_shot else 0
    allowed = LARGEST_SEED - (config.seeds - 1) - teacher
    if seed > allowed:
        raise ValueError(
            f"--seed must be at most {allowed} here, not {seed}: further learners count on from it"
        )


def train(config: TrainConfig, console: Console) -> None:
    """The whole job in a new run folder, or what is left of it in one to resume."""
    run, job, seed = _resumed(config, console) if config.resume else _started(config)
    set_threads(job.threads)
    bars, stop = Bars(console), Interrupt(console.print)
    session = Session(run, job, seed, watched(run, bars), stop)
    with runs.writing(run, new=not config.resume), bars.progress:
        _Job(session, console).run(resume=config.resume is not None, videos=config.videos)


def watched(run: pathlib.Path, report: Report) -> Report:
    """A session's report that notices when its run folder is gone: saving would make half of it.

    Raises:
        RunError: when it is called, and the folder is not there any more.
    """

    def checked(phase: str, done: int, total: int, text: str) -> None:
        if not (run / "config.json").exists():
            raise runs.RunError(f"{run} was removed or moved meanwhile: the training is ended")
        report(phase, done, total, text)

    return checked


def _started(config: TrainConfig) -> tuple[pathlib.Path, JobConfig, int]:
    """A new run folder, its job, and its seed."""
    job, seed = resolved(config.job, config.quick), config.seed
    check_job(job)
    check_seeds(seed, job.transfer)
    check_effects(config)
    check_installed(job)
    command = shlex.join(["python", "train.py", *sys.argv[1:]])
    here()
    run = experiment.start(config.out, job, seed, command)
    return run.absolute(), job, seed


def _resumed(config: TrainConfig, console: Console) -> tuple[pathlib.Path, JobConfig, int]:
    """A run folder that goes on, its job with what the command line changes, and its seed."""
    run = config.resume
    assert run is not None
    stored, before = experiment.stored_job(run)
    seed = stored["seed"]
    _check_split(run, stored, before)
    say_notes(run, console)
    for line in experiment.lost_rows(run):
        console.print(line, markup=False)
    job = job_to_resume(run, before, seed, config)
    check_job(job)
    check_seeds(seed, job.transfer)
    with owned(run):  # a training that goes on there keeps its own settings
        note_changes(run, stored, before, job)
    return run, job, seed


def say_notes(run: pathlib.Path, console: Console) -> None:
    """Print what a user of a run should know."""
    for line in experiment.notes(run):
        console.print(line, markup=False)


def here() -> pathlib.Path:
    """The working directory.

    Raises:
        ValueError: it is gone.
    """
    try:
        return pathlib.Path.cwd()
    except FileNotFoundError:
        raise ValueError("the working directory is gone: go to one that exists") from None


def _check_split(run: pathlib.Path, stored: dict, job: JobConfig) -> None:
    now = named_set(job.task_set).hash
    if stored["split_hash"] != now:
        raise runs.RunError(
            f"{run} was trained on other rows (split {stored['split_hash']}, now {now}): "
            "it cannot go on"
        )


class _Job:
    """The main job: learn, evaluate, transfer, film, report."""

    def __init__(self, session: Session, console: Console):
        self.stopwatch = experiment.Stopwatch(session.run)
        self.session = dataclasses.replace(session, report=self._report)
        self._shown = session.report
        self.run_folder = session.run
        self.config = session.config
        self.split = named_set(session.config.task_set)
        self.say = console.print

    def _report(self, phase: str, done: int, total: int, text: str) -> None:
        self.stopwatch.tick()
        self._shown(phase, done, total, text)

    def run(self, resume: bool, videos: bool) -> None:
        """Do what is not done yet."""
        train, held_out = ", ".join(self.split.train), ", ".join(self.split.held_out)
        self.say(
            f"run {self.run_folder}  |  split {self.split.hash}: train {train}; held out {held_out}"
        )
        if not self._learn(resume):
            self._say_stopped()
            return
        targets = self._targets()
        for target in targets:
            if target in runs.read_results(self.run_folder).get("transfer", {}):
                experiment.forget_transfer(self.run_folder, target)
            elif not self.session.stop():
                self.session.report(f"transfer to {target}", 0, 1, "")
                experiment.transfer_run(self.session, target)
        if self.config.alone:
            self.say("no transfer and no videos: policies of single rows are a control")
        if self.session.stop():
            self._say_stopped()
            return
        if videos and not self.config.alone:
            problem = experiment.film_run(self.session, [*self.split.train, *targets])
            if problem:
                self.say(f"no videos: {problem}")
        self.stopwatch.note()
        self.say(f"report: {write_report(self.run_folder)}")

    def _learn(self, resume: bool) -> bool:
        """Learn and evaluate; False when a stop was asked for."""
        if self.config.alone:
            if not single_task.train(self.session):
                return False
            results = runs.read_results(self.run_folder)
        else:
            results = runs.read_results(self.run_folder)
            if "train" not in results and not Training(self.session, resume).run():
                if not checkpoints.exists(self.run_folder / LATEST):
                    self.say("nothing is saved yet: the warm start begins again")
                return False
            self.session.report("evaluation", 0, 1, "")
            results = experiment.evaluate_run(self.run_folder, self.config)
            self.session.report("evaluation", 1, 1, "")
        self.say(
            f"mean success {results['mean_success']:.3f}, worst {results['worst_success']:.2f} "
            f"({self.config.episodes} episodes per task)"
        )
        return True

    def _targets(self) -> tuple[str, ...]:
        """Held-out rows to transfer to."""
        if not self.config.transfer.env_steps:
            return ()
        if self.config.conditioning not in UNSEEN:
            self.say(
                f"no transfer: {self.config.conditioning} has no vector for an unseen closure; "
                "use --conditioning parameters"
            )
            return ()
        return () if self.config.alone else self.split.held_out

    def _say_stopped(self) -> None:
        self.stopwatch.note()
        words = shlex.join(["python", "train.py", "--resume", str(self.run_folder)])
        self.say(f"stopped; go on with: {words}")


def transfer(config: TransferRunConfig, console: Console) -> None:
    """Add a target to a run's results and report."""
    run = config.run
    _, job = experiment.stored_job(run)
    if job.alone:
        row, *_ = named_set(job.task_set).train
        folder = run / single_task.FOLDER / row
        raise runs.RunError(f"{run} has a policy per row: transfer one of them, such as {folder}")
    own = job.transfer.env_steps or TransferConfig().env_steps  # a run may have had no transfer
    budget = dataclasses.replace(
        job.transfer,
        seeds=config.seeds,
        few_shot=config.few_shot,
        env_steps=config.env_steps or own,
    )
    job = dataclasses.replace(job, transfer=budget)
    check_seeds(config.seed, budget)
    set_threads(0)
    say_notes(run, console)
    bars, stop = Bars(console), Interrupt(console.print)
    with runs.writing(run, new=False), bars.progress:
        session = Session(run, job, config.seed, bars, stop)
        bars(f"transfer to {config.target}", 0, 1, "")
        results = experiment.transfer_run(session, config.target, config.replace)
    if results is None:
        console.print("stopped; the same command goes on")
        raise SystemExit(INTERRUPTED)
    entry = results["transfer"][config.target]
    shown = ("zero_shot", "steps_to_threshold", "jumpstart", "final", "area")
    console.print(json.dumps({name: entry[name] for name in shown}, indent=1))
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        runs.write_json(config.out, entry)
    console.print(f"report: {write_report(run)}")


class Watch:
    """Shows how far evaluations are, by counting the control steps of their policies.

    Args:
        episodes: of all evaluations together.
        report: called with (phase, done, total, text).
    """

    def __init__(self, episodes: int, report: Callable[[str, float, float, str], None]):
        self.episodes = episodes
        self.report = report
        self.done = 0.0  # episodes, parts of those that run included
        report("evaluation", 0, episodes, "")

    def over(self, policy: Policy) -> Policy:
        """The policy, watched."""

        def watched(env: ClosureVectorEnv) -> Act:
            act = policy(env)
            longest = max(CLOSURES[task].steps for task in env.tasks)

            def act_and_count(observation: dict[str, np.ndarray], task: np.ndarray) -> np.ndarray:
                self.done = min(self.episodes, self.done + env.num_envs / longest)
                self.report("evaluation", self.done, self.episodes, "")
                return act(observation, task)

            return act_and_count

        return watched


class Actor(NamedTuple):
    """A policy, what it is told and senses, and in which rows it acts."""

    policy: Policy
    conditioning: Any
    known_tasks: Sequence[str] | None
    tasks: tuple[str, ...]
    sensors: str = "full"


def actors(run: pathlib.Path, tasks: Sequence[str]) -> list[Actor]:
    """Who acts in which rows: one policy in all, or, of a single-task control, each row's own.

    Args:
        run: a run folder, or the name of a built-in policy.
        tasks: rows; by default those of the run.

    Raises:
        RunError: no such run.
    """
    if str(run) in BUILT_IN:
        rows = tuple(tasks) or TASK_SETS["first"].train
        return [Actor(BUILT_IN[str(run)], "parameters", None, rows)]
    if not run.exists() and run.parent in (pathlib.Path(), pathlib.Path(os.path.abspath("."))):
        raise runs.RunError(
            f"there is no run folder {run} and no policy {run.name} "
            f"(policies: {', '.join(BUILT_IN)})"
        )
    stored = runs.open_run(run)
    if stored.get("job", {}).get("alone") is True:
        rows = tasks or stored.get("train", [])
        return [actor for row in rows for actor in actors(run / single_task.FOLDER / row, (row,))]
    policy, meta = experiment.run_policy(run)
    rows = tuple(tasks) or tuple(meta["tasks"])
    return [Actor(policy, meta["conditioning"], meta["known"], rows, meta["sensors"])]


def evaluate(config: EvaluateConfig, console: Console) -> dict:
    """Print success per task with intervals."""
    if config.out and config.out.exists() and any(config.out.iterdir()):
        raise runs.RunError(f"{config.out} exists and is not empty: choose another --out")
    set_threads(config.threads)
    table: list[Episode] = []
    bars = Bars(console)
    with bars.progress:
        acting = actors(config.run, config.tasks)
        if str(config.run) not in BUILT_IN:
            say_notes(config.run, console)
        watch = Watch(sum(len(actor.tasks) for actor in acting) * config.episodes, bars)
        for actor in acting:
            table += evaluate_policy(
                watch.over(actor.policy),
                actor.tasks,
                config.episodes,
                conditioning=actor.conditioning,
                known_tasks=actor.known_tasks,
                seed=EVALUATION_SEED if config.seed is None else config.seed,
                level=config.level,
                sensors=actor.sensors,
            )
    found = summary(table)
    for name, row in found["per_task"].items():
        console.print(
            f"{name:12} {row['success']:.2f}  [{row['low']:.2f}, {row['high']:.2f}]  "
            f"at any time {row['success_any']:.2f}  n={row['episodes']}"
        )
    console.print(f"{'mean':12} {found['mean_success']:.3f}   worst {found['worst_success']:.2f}")
    if config.out:
        config.out.mkdir(parents=True, exist_ok=True)
        write_episodes(table, config.out / "episodes.csv")
        runs.write_json(config.out / "results.json", {**found, "machine": runs.machine()})
    return found


def video(config: VideoConfig, console: Console) -> None:
    """Film one episode."""
    from evaluation.video import record

    [actor] = actors(config.run, (config.task,))
    set_threads(0)
    if str(config.run) in BUILT_IN:
        own = here() / f"{config.run}-{config.task}.mp4"
    else:
        own = config.run / "videos" / f"{config.task}.mp4"
        say_notes(config.run, console)
    path = config.out or own
    if path.suffix != ".mp4":
        raise ValueError(f"--out must end in .mp4, not {path.name!r}")
    outcome = record(
        actor.policy,
        config.task,
        path,
        conditioning=actor.conditioning,
        known_tasks=actor.known_tasks,
        sensors=actor.sensors,
        start=config.seed,
    )
    success = "success" if outcome["success"] else "not opened"
    console.print(f"{path}: {success}, progress {outcome['progress']:.2f}")


def report(config: ReportConfig, console: Console) -> None:
    """Write the page again."""
    said = [*experiment.notes(config.run), *runs.problems(config.run)]
    for line in dict.fromkeys(said):
        console.print(line, markup=False)
    page = write_report(config.run)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(config.out) as temporary:
            shutil.copyfile(page, temporary)
    console.print(str(page))


def benchmark(config: BenchmarkConfig, console: Console) -> None:
    """Speed with one thread and with all, and of the policies."""
    set_threads(config.threads)
    tasks = named_set(config.task_set).train
    steps = config.steps or (STEPS if config.observation == "state" else PICTURED_STEPS)
    speed = {
        name: measure_speed(
            tasks,
            config.num_envs,
            steps,
            threads,
            config.seed,
            config.observation,
            config.sensors,
        )
        for name, threads in (("one_thread", 1), ("all_threads", config.threads))
    }
    found = {
        "machine": runs.machine(),
        **speed,
        "inference_milliseconds": inference(tasks, config.num_envs),
    }
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        runs.write_json(config.out, found)
    console.print_json(data=found)


def gallery(config: GalleryConfig, console: Console) -> None:
    """Every row, closed and open."""
    from evaluation.gallery import gallery as draw

    bars = Bars(console)
    bars("gallery", 0, 1, "")

    def on_row(done: int, total: int, name: str) -> None:
        bars("gallery", done, total, name)

    with bars.progress:
        page = draw(config.out, config.seed, on_row)
    console.print(f"gallery: {page}")


def audit(config: AuditConfig, console: Console) -> None:
    """Search every row for a cheat and film the nearest misses."""
    from evaluation.audit import rows

    names = config.tasks or tuple(rows())
    bars, found = Bars(console), {}
    with bars.progress:
        bars("audit", 0, len(names), names[0])
        for number, name in enumerate(names, start=1):
            found[name] = _audit_row(name, config)
            bars("audit", number, len(names), name)
    config.out.mkdir(parents=True, exist_ok=True)
    runs.write_json(config.out / "audit.json", found)
    console.print_json(data=found)


def _audit_row(name: str, config: AuditConfig) -> dict[str, Any]:
    from evaluation.audit import replay, search
    from evaluation.video import record

    result = search(name, config.seed)
    found: dict[str, Any] = {
        "candidates": result.candidates,
        "cheats": result.cheats,
        "honest": result.honest,
        "untouched": result.untouched,
    }
    try:
        record(
            replay(result.plan),
            name,
            config.out / f"{name}.mp4",
            conditioning="parameters",
            known_tasks=None,
            seed=config.seed,
            width=320,
        )
    except RenderingUnavailable as error:
        found["film"] = str(error)
    return found


def demos(config: DemosConfig, console: Console) -> None:
    """Record expert episodes of a task set's training rows."""
    from agents.demonstrations import DemoConfig, record

    tasks = named_set(config.task_set).train
    bars = Bars(console)
    bars("demonstrations", 0, 1, "")

    def on_progress(done: int, total: int) -> None:
        bars("demonstrations", done, total, "")

    settings = DemoConfig(config.episodes, config.seed, perturb=config.perturb)
    with bars.progress:
        folder = record(config.out, f"uncap/{config.task_set}-v0", tasks, settings, on_progress)
    console.print(f"demonstrations: {folder}")


def compare(config: CompareConfig, console: Console) -> dict:
    """Train the cells of a grid."""
    return comparison.compare(config, grid.axes(), console)
