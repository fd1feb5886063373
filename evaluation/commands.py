"""What the commands of the command line do: a function each, with its settings."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console

from agents.files import replacing
from agents.settings import as_words, flags
from agents.tables import ALGORITHMS
from envs import TASK_SETS
from envs.closures import named_set
from envs.conditioning import UNSEEN
from envs.opengl import RenderingUnavailable
from evaluation import compare as comparison
from evaluation import experiment, grid, runs, single_task
from evaluation.benchmark import benchmark as measure_speed
from evaluation.benchmark import inference
from evaluation.config import (
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
from evaluation.interrupt import Interrupt
from evaluation.loggers import LOGGERS, require
from evaluation.progress import Bars
from evaluation.protocol import (
    BUILT_IN,
    EVALUATION_SEED,
    Episode,
    Policy,
    summary,
    write_episodes,
)
from evaluation.protocol import (
    evaluate as evaluate_policy,
)
from evaluation.report import write_report
from evaluation.training import Session, Training, learner_config

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
    for name in LOGGERS:
        if getattr(job, name):
            require(name)


def train(config: TrainConfig, console: Console) -> None:
    """The whole job in a new run folder, or what is left of it in one to resume."""
    if config.resume:
        run = config.resume
        stored, job = experiment.stored_job(run)
        seed = stored["seed"]
        _check_split(run, stored, job)
        say_notes(run, console)
        for line in experiment.lost_rows(run):
            console.print(line, markup=False)
    else:
        job, seed = resolved(config.job, config.quick), config.seed
        check_job(job)
        command = " ".join(["python train.py", *sys.argv[1:]])
        run = experiment.start(config.out, job, seed, command)
    bars, stop = Bars(console), Interrupt(console.print)
    session = Session(run, job, seed, bars, stop)
    with runs.writing(run, new=not config.resume), bars.progress:
        _Job(session, console).run(resume=config.resume is not None, videos=config.videos)


def say_notes(run: pathlib.Path, console: Console) -> None:
    """Print what a user of a run should know."""
    for line in experiment.notes(run):
        console.print(line, markup=False)


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
        self.session = session
        self.run_folder = session.run
        self.config = session.config
        self.split = named_set(session.config.task_set)
        self.say = console.print

    def run(self, resume: bool, videos: bool) -> None:
        """Do what is not done yet."""
        began = time.perf_counter()
        train, held_out = ", ".join(self.split.train), ", ".join(self.split.held_out)
        self.say(
            f"run {self.run_folder}  |  split {self.split.hash}: train {train}; held out {held_out}"
        )
        if not self._learn(resume):
            self._say_stopped()
            return
        targets = self._targets()
        for target in targets:
            done = runs.read_results(self.run_folder).get("transfer", {})
            if target not in done and not self.session.stop():
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
        runs.update_results(self.run_folder, total_seconds=time.perf_counter() - began)
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
                if not (self.run_folder / "latest").exists():
                    self.say("the warm start was not finished and begins again")
                return False
            results = experiment.evaluate_run(self.run_folder, self.config)
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
        self.say(f"stopped; go on with: python train.py --resume {self.run_folder}")


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
    say_notes(run, console)
    bars = Bars(console)
    with runs.writing(run, new=False), bars.progress:
        session = Session(run, job, config.seed, bars, stop=lambda: False)
        results = experiment.transfer_run(session, config.target)
    assert results is not None
    entry = results["transfer"][config.target]
    shown = ("zero_shot", "steps_to_threshold", "jumpstart", "final", "area")
    console.print(json.dumps({name: entry[name] for name in shown}, indent=1))
    if config.out:
        runs.write_json(config.out, entry)
    console.print(f"report: {write_report(run)}")


class Actor(NamedTuple):
    """A policy, what it is told, and in which rows it acts."""

    policy: Policy
    conditioning: Any
    known_tasks: Sequence[str] | None
    tasks: tuple[str, ...]


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
    if not run.exists() and len(run.parts) == 1:
        raise runs.RunError(
            f"there is no run folder {run} and no policy of that name "
            f"(policies: {', '.join(BUILT_IN)})"
        )
    stored = runs.open_run(run)
    if stored.get("job", {}).get("alone") is True:
        rows = tasks or stored.get("train", [])
        return [actor for row in rows for actor in actors(run / single_task.FOLDER / row, (row,))]
    policy, meta = experiment.run_policy(run)
    rows = tuple(tasks) or tuple(meta["tasks"])
    return [Actor(policy, meta["conditioning"], meta["known"], rows)]


def evaluate(config: EvaluateConfig, console: Console) -> dict:
    """Print success per task with intervals."""
    if config.out and config.out.exists() and any(config.out.iterdir()):
        raise runs.RunError(f"{config.out} exists and is not empty: choose another --out")
    table: list[Episode] = []
    acting = actors(config.run, config.tasks)
    if str(config.run) not in BUILT_IN:
        say_notes(config.run, console)
    for actor in acting:
        table += evaluate_policy(
            actor.policy,
            actor.tasks,
            config.episodes,
            conditioning=actor.conditioning,
            known_tasks=actor.known_tasks,
            seed=EVALUATION_SEED if config.seed is None else config.seed,
            level=config.level,
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
    if str(config.run) in BUILT_IN:
        own = pathlib.Path(f"{config.run}-{config.task}.mp4")
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
        with replacing(config.out) as temporary:
            shutil.copyfile(page, temporary)
    console.print(str(page))


def benchmark(config: BenchmarkConfig, console: Console) -> None:
    """Speed with one thread and with all, and of the policies."""
    tasks = named_set(config.task_set).train
    steps = config.steps or (STEPS if config.observation == "state" else PICTURED_STEPS)
    speed = {
        name: measure_speed(tasks, config.num_envs, steps, threads, config.seed, config.observation)
        for name, threads in (("one_thread", 1), ("all_threads", 0))
    }
    found = {
        "machine": runs.machine(),
        **speed,
        "inference_milliseconds": inference(tasks, config.num_envs),
    }
    if config.out:
        runs.write_json(config.out, found)
    console.print_json(data=found)


def gallery(config: GalleryConfig, console: Console) -> None:
    """Every row, closed and open."""
    from evaluation.gallery import gallery as draw

    bars = Bars(console)

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

    def on_progress(done: int, total: int) -> None:
        bars("demonstrations", done, total, "")

    settings = DemoConfig(config.episodes, config.seed, perturb=config.perturb)
    with bars.progress:
        folder = record(config.out, f"uncap/{config.task_set}-v0", tasks, settings, on_progress)
    console.print(f"demonstrations: {folder}")


def compare(config: CompareConfig, console: Console) -> dict:
    """Train the cells of a grid."""
    return comparison.compare(config, grid.axes(), console)
