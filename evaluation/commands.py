"""What the commands of the command line do: a function each, with its settings."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from rich.console import Console

from uncap.agents import checkpoints, demonstrations, exported
from uncap.agents.device import saved
from uncap.agents.files import owned, replacing
from uncap.agents.gradients import GradientRule
from uncap.agents.memory import has_memory
from uncap.agents.policy import EXPORTED
from uncap.agents.pretrained import NAMES, located
from uncap.agents.settings import as_words, flags
from uncap.agents.tables import ALGORITHMS
from uncap.envs import CLOSURES, TASK_SETS, TaskSet, searching
from uncap.envs.closures import guess_ceiling, named_set, spot_name
from uncap.envs.conditioning import (
    CONDITIONINGS,
    REMEMBERING,
    TRANSFERABLE,
    UNSEEN,
    of_twins,
    vectors,
)
from uncap.envs.cores import set_threads
from uncap.envs.opengl import RenderingUnavailable
from uncap.envs.sensors import SENSORS
from uncap.envs.tables import brief, lookup
from uncap.evaluation import (
    arm_settings,
    arms,
    beginnings,
    disturb,
    experiment,
    foreign,
    grid,
    kept,
    listing,
    measured,
    program,
    runs,
    single_task,
    tuning,
    unseen,
)
from uncap.evaluation import compare as comparison
from uncap.evaluation.benchmark import benchmark as measure_speed
from uncap.evaluation.benchmark import inference
from uncap.evaluation.config import (
    LARGEST_SEED,
    MODULE,
    WHO,
    AuditConfig,
    BenchmarkConfig,
    CompareConfig,
    DemosConfig,
    EvaluateConfig,
    ExportConfig,
    ForecastConfig,
    GalleryConfig,
    JobConfig,
    ReportConfig,
    SequenceConfig,
    TableConfig,
    TrainConfig,
    TransferConfig,
    TransferRunConfig,
    TuneConfig,
    TuneTransferConfig,
    VideoConfig,
    ViewConfig,
    resolved,
)
from uncap.evaluation.curves import CRITIC_SEED
from uncap.evaluation.effects import (
    asked_targets,
    check_effects,
    job_to_resume,
    note_changes,
    targets_of,
)
from uncap.evaluation.gains import arm_numbers, choice_in_words
from uncap.evaluation.interrupt import INTERRUPTED, Interrupt
from uncap.evaluation.loggers import LOGGERS, require
from uncap.evaluation.progress import Bars
from uncap.evaluation.protocol import (
    BUILT_IN,
    EVALUATION_SEED,
    Episode,
    Policy,
    Search,
    attempt_steps,
    by_attempt,
    by_mechanism,
    in_words,
    summary,
    write_episodes,
)
from uncap.evaluation.protocol import (
    evaluate as evaluate_policy,
)
from uncap.evaluation.report import write_report
from uncap.evaluation.training import LATEST, Report, Session, Training, learner_config
from uncap.evaluation.transfer import learner_kinds
from uncap.evaluation.watch import Watch

MOST_NAMED = 30  # rows in a line
MOST_FILMS = 30  # of trained rows; of more, one of each mechanism
GUESS = "rows that look alike: a policy that guesses, and learns nothing by touch, has {:.2f}"
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
    if job.env_steps == 0 and job.warm_start == "none":
        raise ValueError("--env-steps 0 leaves nothing to learn without a warm start")
    _check_lengths(job)
    if CONDITIONINGS[job.conditioning].memory:
        _check_memory(job)
        if SENSORS[job.sensors].pictures:
            raise ValueError(
                f"--conditioning {job.conditioning} has a memory, and sees no pictures"
            )
    clones = job.warm_start == "clone"
    takes_demos = clones or algorithm.replays_demonstrations
    if (clones and not job.demos) or (job.demos and not takes_demos):
        raise ValueError(
            "--demos FOLDER goes with --warm-start clone, or with sac: make a folder with "
            f"`{program.PROGRAM} demos`"
        )
    if job.demos and job.sensors != "full":
        raise ValueError(
            f"--demos FOLDER goes with --sensors full only, not with {job.sensors}: demonstrations "
            "hold the full state (--warm-start dagger and none need none)"
        )
    if job.demos and algorithm.replays_demonstrations and job.reward != "dense":
        raise ValueError(
            f"--demos FOLDER goes with --reward dense only in {job.algorithm}, not with "
            f"{job.reward}: it replays the rewards that were recorded"
        )
    _check_transfer(job)
    for name in LOGGERS:
        if getattr(job, name):
            require(name)


def _check_transfer(job: JobConfig) -> None:
    """Refuse arms that cannot be, where a job transfers.

    Raises:
        ValueError: see `arms.check`; or a target is not held out.
    """
    split = named_set(job.task_set)
    for name in job.transfer.targets or ():
        lookup(dict.fromkeys(split.held_out), name, f"row held out of {brief(split.name)}")
    if targets_of(job):
        source = _source(job, arms.named_runs(job.transfer))
        arms.check(learner_kinds(job.transfer), source, "--transfer.")


def _source(job: JobConfig, named: Collection[str]) -> arms.Source:
    """A job's policy as the source of a transfer.

    Args:
        job: of the run.
        named: runs beside it, see `arms.named_runs`.
    """
    return arms.Source(job.conditioning, len(named_set(job.task_set).train), named)


def _check_memory(job: JobConfig) -> None:
    """Refuse what a memory cannot be trained with.

    Raises:
        ValueError: what is wrong and what is allowed.
    """
    told = f"--conditioning {job.conditioning}"
    if job.warm_start != "dagger":
        raise ValueError(
            f"{told} has a memory, which is taught by --warm-start dagger only, not "
            f"{job.warm_start}"
        )
    if job.network.head != "shared":
        raise ValueError(f"{told} works with --head shared only: a head of its own tells the row")
    if job.alone:
        raise ValueError(f"{told} has nothing to find out with --alone, in which a row is known")
    if job.network.memory_reward and job.reward != "dense":
        raise ValueError(
            f"--memory-reward goes with --reward dense only, not with {job.reward}: it is the "
            "reward that a memory reads when the policy is measured"
        )


def _check_lengths(job: JobConfig) -> None:
    """Refuse rows whose episodes differ in length, where trials need one length.

    A memory is taught by trials, be they of one attempt.

    Raises:
        ValueError: they do, and what is allowed.
    """
    split = named_set(job.task_set)
    steps = job.episode_steps or split.steps(job.attempts)
    if CONDITIONINGS[job.conditioning].memory or job.attempts > 1:
        attempt_steps(split.train, steps)
    if job.attempts > 1 and job.conditioning in UNSEEN and split.held_out:
        attempt_steps(split.held_out, steps)  # they are evaluated, apart from the others


def check_installed(job: JobConfig) -> None:
    """Refuse what needs a package or a recording that is missing, before anything is made.

    Also what a transfer at the end would begin with and must not.

    Raises:
        ValueError: what is missing, or see `beginnings.check_files`.
    """
    tasks = named_set(job.task_set).train
    vectors(job.conditioning, tasks[:1])  # an encoder may be missing
    if job.demos:
        demonstrations.check_installed()
        demonstrations.task_indices(pathlib.Path(job.demos), tasks)
    if job.ppo.rule != JobConfig().ppo.rule:
        GradientRule(job.ppo.rule, len(tasks))
    if targets := targets_of(job):
        beginnings.check_files(job.transfer, learner_kinds(job.transfer), targets)


def check_seeds(seed: int, config: TransferConfig) -> None:
    """Refuse a seed that some learner of a transfer would count on to beyond the largest.

    Raises:
        ValueError: the largest that is allowed.
    """
    asked = [arms.arm_of(name) for name in (*config.methods, *config.controls)]
    warms_critic = any(arm.reinforces and arm.begins != "nothing" for arm in asked)
    further = CRITIC_SEED if warms_critic or any(arm.demos for arm in asked) else 0
    allowed = LARGEST_SEED - (config.seeds - 1) - further
    if seed > allowed:
        raise ValueError(
            f"--seed must be at most {allowed} here, not {seed}: further learners count on from it"
        )


def check_cell(cell: grid.Cell) -> None:
    """Refuse a cell of a grid that its training would refuse.

    What is not installed is not looked for: other machines may train it.

    Raises:
        ValueError: what is wrong and what is allowed.
    """
    job = cell.job
    check_job(job)
    check_seeds(cell.seed, job.transfer)


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

    def checked(phase: str, done: float, total: float, text: str) -> None:
        if not (run / "config.json").exists():
            raise runs.RunError(f"{run} was removed or moved meanwhile: the training is ended")
        report(phase, done, total, text)

    return checked


def _started(config: TrainConfig) -> tuple[pathlib.Path, JobConfig, int]:
    """A new run folder, its job, and its seed."""
    config = with_own_rows(config)
    job, seed = resolved(config.job, config.quick), config.seed
    check_job(job)
    check_seeds(seed, job.transfer)
    check_effects(config)
    check_installed(job)
    here()
    run = experiment.start(config.out, job, seed, program.command(*sys.argv[1:]))
    return run.absolute(), job, seed


def _resumed(config: TrainConfig, console: Console) -> tuple[pathlib.Path, JobConfig, int]:
    """A run folder that goes on, its job with what the command line changes, and its seed."""
    run = config.resume
    assert run is not None
    stored, before = experiment.stored_job(run)
    if saved.exists(run):
        script = shlex.split(stored["command"])[:2]
        words = shlex.join([*script, "--resume", str(run)])
        raise ValueError(f"{run} learns on a device: go on with {words}")
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


def with_own_rows(config: TrainConfig) -> TrainConfig:
    """The configuration with the task set that `--tasks` and `--held-out` name, if they do.

    Raises:
        ValueError: they do not go together, or with `--task-set`.
    """
    if not (config.tasks or config.held_out):
        return config
    if not config.tasks:
        raise ValueError("--held-out goes with --tasks: which rows are trained?")
    if "task_set" in config.given:
        raise ValueError("--tasks and --task-set both say which rows are trained: give one")
    task_set = spot_name(config.tasks, config.held_out)
    named_set(task_set)
    return dataclasses.replace(config, job=dataclasses.replace(config.job, task_set=task_set))


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


def listed(rows: Sequence[str]) -> str:
    """Names in a line; of many, their number and the first ones."""
    if len(rows) <= MOST_NAMED:
        return ", ".join(rows)
    return f"{len(rows)} rows: {', '.join(rows[:3])}, ..."


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

    def _report(self, phase: str, done: float, total: float, text: str) -> None:
        self.stopwatch.tick()
        self._shown(phase, done, total, text)

    def run(self, resume: bool, videos: bool) -> None:
        """Do what is not done yet."""
        train, held_out = listed(self.split.train), listed(self.split.held_out)
        self.say(
            f"run {self.run_folder}  |  split {self.split.hash}: train {train}; held out {held_out}"
        )
        if not self._learn(resume):
            self._end_stopped()
        targets = self._targets()
        self._transfer(targets)
        if self.config.alone:
            self.say("no transfer and no videos: policies of single rows are a control")
        if self.session.stop():
            self._end_stopped()
        if videos and not self.config.alone:
            filmed = self.split.examples(MOST_FILMS)
            problem = experiment.film_run(self.session, [*filmed, *targets])
            if problem:
                self.say(f"no videos: {problem}")
        self.stopwatch.note()
        self.say(f"report: {write_report(self.run_folder)}")
        kept.forget(self.run_folder)

    def _learn(self, resume: bool) -> bool:
        """Learn and evaluate; False when a stop was asked for."""
        if not resume and (problem := led_throughout(self.config)):
            self.say(problem)
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
            results = experiment.evaluate_run(self.session)
        self.say(
            f"mean success {results['mean_success']:.3f}, worst {results['worst_success']:.2f} "
            f"({self.config.episodes} episodes per task)"
        )
        if (ceiling := self.split.guess_ceiling) < 1:
            self.say(GUESS.format(ceiling))
        if held_out := results.get("held_out"):
            self.say(
                f"held-out rows, zero-shot: mean success {held_out['mean_success']:.3f}, "
                f"worst {held_out['worst_success']:.2f}"
            )
        return True

    def _targets(self) -> tuple[str, ...]:
        """Held-out rows to transfer to."""
        asked = self.config.transfer.env_steps and asked_targets(self.config)
        if asked and self.config.conditioning not in TRANSFERABLE:
            self.say(
                f"no transfer with {self.config.conditioning}: use --conditioning "
                f"{', '.join(TRANSFERABLE)}"
            )
        return targets_of(self.config)

    def _transfer(self, targets: Sequence[str]) -> None:
        """Transfer to the targets that are not done, and say where all of them lie."""
        done = runs.read_results(self.run_folder).get("transfer", {})
        for target in set(targets) & set(done):  # a kill may have come before this
            experiment.forget_learners(self.run_folder, target, done[target])
        waiting = [target for target in targets if target not in done]
        if (
            not waiting
            or self.session.stop()
            or not experiment.transfer_rows(self.session, waiting)
        ):
            return
        for line in transfer_lines(runs.read_results(self.run_folder)["transfer"]):
            self.say(line)

    def _end_stopped(self) -> NoReturn:
        """Say how to go on, and end as a command that was interrupted."""
        self.stopwatch.note()
        self.say(f"stopped; go on with: {program.command('--resume', self.run_folder)}")
        raise SystemExit(INTERRUPTED)


def led_throughout(job: JobConfig) -> str:
    """That a warm start by DAgger is too short to learn from itself; empty where it is not."""
    split = named_set(job.task_set)
    if job.warm_start != "dagger" or job.alone:
        return ""
    remembers = bool(CONDITIONINGS[job.conditioning].memory)
    length = job.dagger.rollout
    if remembers:  # that learns from whole trials
        steps = job.episode_steps or split.steps(job.attempts)
        length = job.attempts * attempt_steps(split.train, steps)
    steps = job.num_envs * length
    if job.dagger.total(len(split.train)) >= 2 * steps:
        return ""
    if remembers:
        return (
            f"the warm start is one trial in each sub-environment, {steps:,} environment steps: "
            f"from {2 * steps:,} on (--dagger.steps) the memory learns from what it does"
        )
    return (
        f"the warm start is one round of {steps:,} environment steps, in which the experts alone "
        f"act: from {2 * steps:,} on (--dagger.steps) the policy does, too"
    )


def refuse_alone(run: pathlib.Path, job: JobConfig) -> None:
    """Refuse a run that has no policy of its own to transfer.

    Raises:
        RunError: it has one per row.
    """
    if job.alone:
        row, *_ = named_set(job.task_set).train
        folder = run / single_task.FOLDER / row
        raise runs.RunError(f"{run} has a policy per row: transfer one of them, such as {folder}")


def _transfer_job(
    config: TransferRunConfig | TuneTransferConfig,
    job: JobConfig,
    controls: tuple[str, ...],
    memory: pathlib.Path | None = None,
    settings: pathlib.Path | None = None,
) -> JobConfig:
    """The job of a run with what a transfer of it is told.

    Args:
        config: of the command.
        job: of the run.
        controls: of the transfer.
        memory: run with a memory.
        settings: file of the arms' settings.
    """
    own = job.transfer.env_steps or TransferConfig().env_steps  # a run may have had no transfer
    folders = {
        "unrelated": config.unrelated,
        "specialists": config.specialists,
        "memory": memory,
        "settings": settings,
    }
    budget = dataclasses.replace(
        job.transfer,
        seeds=config.seeds,
        methods=config.methods,
        controls=controls,
        env_steps=config.env_steps or own,
        points=config.points or job.transfer.points,
        num_envs=config.num_envs or job.transfer.num_envs,
        **{name: str(folder) if folder else None for name, folder in folders.items()},
    )
    return dataclasses.replace(job, engine=config.engine or job.engine, transfer=budget)


def transfer(config: TransferRunConfig, console: Console) -> None:
    """Add a target to a run's results and report."""
    run = config.run
    _, job = experiment.stored_job(run)
    refuse_alone(run, job)
    controls = config.controls
    if controls is None:
        source = _source(job, arms.named_runs(config))
        controls = arms.default_controls(config.methods, config.all_controls, source)
        if config.all_controls:
            for line in arms.left_out(source):
                console.print(line, markup=False)
    elif config.all_controls:
        raise ValueError("--all-controls has no effect here: --controls names those that there are")
    job = _transfer_job(config, job, controls, config.memory, config.settings)
    check_seeds(config.seed, job.transfer)
    set_threads(0)
    say_notes(run, console)
    if config.settings:
        names = (*config.methods, *controls)
        for line in arm_settings.notes(config.settings, names, job.transfer.env_steps):
            console.print(line, markup=False)
    bars, stop = Bars(console), Interrupt(console.print)
    with runs.writing(run, new=False), bars.progress:
        session = Session(run, job, config.seed, bars, stop)
        bars("transfer", 0, 1, "")
        results = experiment.transfer_run(session, config.target, config.replace)
    if results is None:
        _end_stopped_study(config.replace, console)
    entry = results["transfer"][config.target]
    shown = ("distance", "nearest", "unseen", "zero_shot", "jumpstart", "best_control")
    console.print(json.dumps({name: entry[name] for name in shown if name in entry}, indent=1))
    for line in arm_lines(entry):
        console.print(line)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        runs.write_json(config.out, entry)
    console.print(f"report: {write_report(run)}")


def _end_stopped_study(replaces: bool, console: Console) -> NoReturn:
    """Say how to go on with a study, and end as a command that was interrupted.

    Args:
        replaces: whether the command drops what there is, now this too.
        console: where it is said.
    """
    how = "the same command without --replace" if replaces else "the same command"
    console.print(f"stopped; {how} goes on")
    raise SystemExit(INTERRUPTED)


def tune_transfer(config: TuneTransferConfig, console: Console) -> None:
    """Choose the settings of arms, or go on with that."""
    from uncap.evaluation import transfer_tuning

    _, job = experiment.stored_job(config.run)
    refuse_alone(config.run, job)
    names = transfer_tuning.names_to_tune(config.methods, config.controls)
    job = _transfer_job(config, job, config.controls)
    check_seeds(config.seed, job.transfer)
    set_threads(0)
    say_notes(config.run, console)
    bars, stop = Bars(console), Interrupt(console.print)
    with runs.writing(config.run, new=False), bars.progress:
        if config.replace:
            shutil.rmtree(config.run / transfer_tuning.FOLDER, ignore_errors=True)
        session = Session(config.run, job, config.seed, bars, stop)
        bars("settings", 0, 1, "")
        found = transfer_tuning.tune(session, config.targets, names, config.trials)
        if found is not None:
            bars("settings", 1, 1, "")
    if found is None:
        _end_stopped_study(config.replace, console)
    for line in transfer_tuning.lines(found):
        console.print(line, markup=False)
    out = config.out or config.run / "arm_settings.json"
    transfer_tuning.write(out, found)
    console.print(f"settings: {out}; use them with: transfer RUN --target NAME --settings {out}")


def sequence(config: SequenceConfig, console: Console) -> None:
    """Learn rows one after the other, or go on with that."""
    from uncap.evaluation import sequence as sequences

    sequences.rows_of(config)
    set_threads(config.threads)
    bars, stop = Bars(console), Interrupt(console.print)
    with runs.filling(config.out):
        found = sequences.TaskSequence(config.out, config, bars, stop)
        with bars.progress:
            done = found.run()
    if not done:
        console.print("stopped; the same command goes on")
        raise SystemExit(INTERRUPTED)
    for line in sequences.lines(found.rows, np.array(found.outcomes)):
        console.print(line)
    console.print(f"matrix: {config.out / sequences.PICTURE}, {config.out / sequences.TABLE}")


def forecast(config: ForecastConfig, console: Console) -> None:
    """Print what predictors say of targets, and how right they were where outcomes are known."""
    from uncap.evaluation import forecast as forecasts

    stored, job = experiment.stored_job(config.run)
    refuse_alone(config.run, job)
    trained = stored["train"]
    targets = config.targets or tuple(stored["held_out"])
    if not targets:
        raise ValueError(f"{config.run} has no held-out rows: name some by --targets")
    runs.check_unseen(f"{config.run} was trained on", trained, targets)
    say_notes(config.run, console)
    bars = Bars(console)
    total = len(trained) + len(targets)
    done = 0

    def on_row(name: str) -> None:
        nonlocal done
        done += 1
        bars("forecast", done, total, name)

    bars("forecast", 0, total, "")
    with bars.progress:
        source = forecasts.source_of(config.run, on_row, config.memory, config.engine, targets)
        predicted = {}
        for name in targets:
            predicted[name] = forecasts.predictions(source, name)
            on_row(name)
    outcomes = forecasts.outcomes(runs.read_results(config.run))
    found = forecasts.correlations(predicted, outcomes, config.seed)
    _print_forecast(predicted, outcomes, found, console)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        written = {"predicted": predicted, "outcomes": outcomes, "correlations": found}
        runs.write_json(config.out, written)


def _print_forecast(
    predicted: Mapping[str, Mapping[str, float]],
    outcomes: Mapping[str, Mapping[str, float]],
    found: Mapping[str, Mapping[str, list[float] | None]],
    console: Console,
) -> None:
    """A line for each target, and one for each correlation."""
    from uncap.evaluation.forecast import LEAST_TARGETS, PREDICTORS

    kinds = [kind for kind, values in outcomes.items() if values]
    asked = {name: PREDICTORS[name] for row in predicted.values() for name in row}
    lines = [
        [name]
        + [f"{row[predictor]:.3f}" for predictor in asked]
        + [f"{outcomes[kind][name]:.2f}" if name in outcomes[kind] else "-" for kind in kinds]
        for name, row in predicted.items()
    ]
    listing.show(["target", *asked, *kinds], lines, console)
    for name, predictor in asked.items():
        better = "more" if predictor.sign > 0 else "less"
        console.print(f"{name}: {predictor.words}; the {better}, the more should be gained")
    for kind, row in found.items():
        for name, rank in row.items():
            value = "none: all are the same"
            if rank:
                value = f"{rank[0]:+.2f} [{rank[1]:+.2f}, {rank[2]:+.2f}]"
            console.print(f"rank correlation of {name} with {kind}: {value}")
    if not found:
        console.print(
            f"no correlations: they need outcomes of {LEAST_TARGETS} targets or more, by the run's "
            "evaluation or by `transfer`"
        )


def transfer_lines(entries: Mapping[str, dict]) -> list[str]:
    """Zero-shot success and success at the end of each arm, and where the targets lie."""
    found = []
    for name, entry in entries.items():
        others = {arm: rate for arm, rate in entry["final"].items() if arm != "zero_shot"}
        success = ", ".join(
            f"{arms.spaced(arm)} {rate:.2f}"
            for arm, rate in {"zero-shot": entry["zero_shot"], **others}.items()
        )
        where = f"{unseen.place(entry)}; {unseen.news(entry)}" if "distance" in entry else ""
        found.append(f"{name:12} {success}  {where}".rstrip())
    return found


def arm_lines(entry: Mapping[str, Any]) -> list[str]:
    """A line for each arm of a target: its last success, when it rose, and what the arm does."""
    width = max(map(len, entry["final"]))
    lines = [
        f"{name:{width}}  {arm_numbers(entry, name)}: {arms.arm_of(name).words}"
        for name in entry["final"]
    ]
    if "specialists" in entry:
        lines.append(choice_in_words(entry["specialists"]))
    return lines


class Actor(NamedTuple):
    """A policy, what it is told and senses, and in which rows it acts."""

    policy: Policy
    conditioning: Any
    known_tasks: Sequence[str] | None
    tasks: tuple[str, ...]
    trained: tuple[str, ...] = ()  # none: a built-in policy
    sensors: str = "full"
    episode_steps: int | None = None  # of the episodes in which it was trained
    attempts: int = 1  # of a trial, likewise
    remembers: bool = False  # over the attempts of a trial

    def positions(self) -> dict[str, dict]:
        """Where the rows lie that the policy was not trained on, by name."""
        trained = [CLOSURES[name] for name in self.trained]
        new = [name for name in self.tasks if name not in self.trained] if trained else []
        return {name: unseen.position(CLOSURES[name], trained) for name in new}


def actors(
    run: pathlib.Path, tasks: Sequence[str], told: foreign.Told | None = None
) -> list[Actor]:
    """Who acts in which rows: one policy in all, or, of a single-task control, each row's own.

    Args:
        run: a run folder, the name of a built-in policy, or a policy that `foreign` opens.
        tasks: rows; by default those of the run.
        told: what the command line says of a policy.

    Raises:
        RunError: no such run.
        PolicyError: no such policy, or it cannot be used.
    """
    told = told or foreign.Told()
    if foreign.is_foreign(run):
        opened = foreign.opened(run, told)
        rows = tuple(tasks) or opened.trained or TASK_SETS["first"].train
        known = opened.known or rows
        read = (opened.conditioning, known, rows, opened.trained, opened.sensors)
        trials = (opened.episode_steps, opened.attempts, opened.remembers)
        return [Actor(opened.policy, *read, *trials)]
    foreign.refuse_told(run, told)
    if str(run) in BUILT_IN:
        rows = tuple(tasks) or TASK_SETS["first"].train
        policy = BUILT_IN[str(run)]
        return [Actor(policy, "parameters", None, rows, remembers=policy is Search)]
    run = located(run)
    if not run.exists() and run in NAMES.values():
        raise runs.RunError(f"{run} is missing: install Uncap again")
    if not run.exists() and run.parent in (pathlib.Path(), pathlib.Path(os.path.abspath("."))):
        names = (*BUILT_IN, *NAMES)
        if re.fullmatch(MODULE, run.name):
            raise runs.RunError(
                f"{run.name} is a policy of your own, which evaluate alone takes (allowed here: a "
                f"run folder, an {EXPORTED} file, {', '.join(names)})"
            )
        close = difflib.get_close_matches(run.name, names, n=1)
        hint = f": did you mean {close[0]}?" if close else ""
        raise runs.RunError(
            f"there is no run folder {run} and no policy {run.name}{hint} (policies: "
            f"{', '.join(names)}; evaluate takes your own, module:name)"
        )
    stored = runs.open_run(run)
    if stored.get("job", {}).get("alone") is True:
        rows = tasks or stored.get("train", [])
        return [actor for row in rows for actor in actors(run / single_task.FOLDER / row, (row,))]
    policy, meta = experiment.run_policy(run)
    rows = tuple(tasks) or tuple(meta["tasks"])
    trained = tuple(meta["tasks"])
    given = (meta["conditioning"], meta["known"])
    trials = (meta["episode_steps"], meta["attempts"], has_memory(policy.policy))
    return [Actor(policy, *given, rows, trained, meta["sensors"], *trials)]


def evaluate(config: EvaluateConfig, console: Console) -> dict:
    """Print success per task with intervals."""
    if config.out is None:
        return _evaluated(config, console).results
    _check_unused(config.out)
    with runs.filling(config.out):
        _check_unused(config.out)
        found = _evaluated(config, console)
        if found.disturbed:
            disturb.write(found.table, found.disturbed, config.out)
        else:
            write_episodes(found.table, config.out / "episodes.csv")
        runs.write_json(config.out / measured.RESULTS, {**found.results, "machine": runs.machine()})
    return found.results


def _check_unused(folder: pathlib.Path) -> None:
    """Refuse a folder that holds anything but an evaluation that was killed while it was written.

    Raises:
        RunError: it does.
    """
    unfinished = (*runs.SIGNS, "episodes.csv", "disturbances.csv")
    if folder.exists() and any(path.name not in unfinished for path in folder.iterdir()):
        raise runs.RunError(f"{folder} exists and is not empty: choose another --out")


class _Evaluated(NamedTuple):
    """Of an evaluation: its results, its episodes, and the disturbed ones."""

    results: dict
    table: list[Episode]
    disturbed: list[disturb.DisturbedEpisode]


def _evaluated(config: EvaluateConfig, console: Console) -> _Evaluated:
    """Run the episodes, and print the results."""
    set_threads(config.threads)
    tables: list[list[Episode]] = []  # of trained rows, and of held-out ones
    paired: list[disturb.DisturbedEpisode] = []
    began = time.perf_counter()
    bars = Bars(console)
    with bars.progress:
        sides, split = _sides(config, console)
        config = _with_attempts(config, sides, console)
        for side in sides:
            _say_known(side, console)
        if config.told == "twin":
            sides = [[_told_of_twins(actor) for actor in side] for side in sides]
        acting = [actor for side in sides for actor in side]
        is_shown = all(SENSORS[actor.sensors].pictures for actor in acting)
        conditions, skipped = disturb.conditions(config.disturb, is_shown)
        for factor in skipped:
            console.print(f"{factor} is left out: the policy sees no pictures")
        quota = sum(len(actor.tasks) for actor in acting) * config.episodes * (config.attempts or 1)
        watch = Watch(quota * (1 + len(conditions)), bars)
        for side in sides:
            tables.append([])
            for actor in side:
                twins = _episodes(actor, config, watch)
                tables[-1] += twins
                for factor, strength in conditions:
                    disturbed = _episodes(actor, config, watch, {factor: strength})
                    paired += disturb.paired(disturbed, twins, (factor, strength))
        watch.end()
    found = _summarised(tables, sides, split, config, console)
    if paired:
        found["disturbances"] = disturb.results(paired)
        disturb.show(disturb.compared(paired), console)
    positions = {row: where for actor in acting for row, where in actor.positions().items()}
    for line in unseen.lines(positions):
        console.print(line)
    if positions:
        found["unseen"] = positions
    found |= _about(config, acting[0], split, time.perf_counter() - began)
    return _Evaluated(found, [episode for table in tables for episode in table], paired)


def _summarised(
    tables: Sequence[list[Episode]],
    sides: Sequence[Sequence[Actor]],
    split: TaskSet,
    config: EvaluateConfig,
    console: Console,
) -> dict:
    """The results of trained rows, with those of held-out ones in them; they are printed."""
    found, *held_out = [
        {**summary(table), "guess_ceiling": guess_ceiling(tuple({e.task: 0 for e in table}))}
        for table in tables
    ]
    parts = {"": found}
    if held_out:
        parts["held-out rows:"] = found["held_out"] = unseen.by_novelty(split, held_out[0])
    for (heading, part), table, side in zip(parts.items(), tables, sides, strict=True):
        if heading:
            console.print(heading)
        _print_success(part, console)
        if (config.attempts or 1) > 1:
            if heading:
                part.update(unseen.attempts(split, table))
            else:
                part["by_attempt"] = by_attempt(table)
            part["attempt_steps"] = _attempt_steps(config, side)
            _print_attempts(part, config.wiped, side[0].remembers, console)
    return found


def _sides(config: EvaluateConfig, console: Console) -> tuple[list[list[Actor]], TaskSet]:
    """Who acts in the trained rows, and, with --task-set, in the held-out ones; and the split.

    Raises:
        ValueError: both --tasks and --task-set; a policy that cannot be used.
    """
    if config.task_set and config.tasks:
        raise ValueError("--tasks and --task-set exclude each other: a task set names its rows")
    told = foreign.Told(config.conditioning, config.sensors, config.trust)
    chosen = named_set(config.task_set) if config.task_set else None
    acting = actors(config.run, chosen.train if chosen else config.tasks, told)
    if chosen:  # a policy's own length goes first
        acting = [
            actor._replace(
                episode_steps=actor.episode_steps or chosen.steps(config.attempts or actor.attempts)
            )
            for actor in acting
        ]
    if _is_run(config.run):
        say_notes(config.run, console)
    rows = tuple(row for actor in acting for row in actor.tasks)
    split = chosen or TaskSet("evaluated", rows, (), "rows that were evaluated")
    if not split.held_out:
        return [acting], split
    told_by = acting[0].conditioning
    problem = ""
    if isinstance(told_by, str) and told_by not in UNSEEN:
        problem = f"{told_by} has no vector for an unseen closure"
    if len(acting) > 1:
        problem = "a control has a policy for each trained row only"
    if problem:
        console.print(f"held-out rows are left out: {problem}")
        return [acting], split
    return [acting, [acting[0]._replace(tasks=split.held_out)]], split


def _told_of_twins(actor: Actor) -> Actor:
    """The same, told of each row's twin.

    Raises:
        ValueError: a row without one, or a policy that is told nothing by a vector.
    """
    if actor.policy in BUILT_IN.values():
        raise ValueError("--told twin: a built-in policy is not told of its task")
    return actor._replace(conditioning=of_twins(actor.conditioning, actor.tasks, actor.known_tasks))


def _is_run(run: pathlib.Path) -> bool:
    return str(run) not in (*BUILT_IN, *NAMES) and not foreign.is_foreign(run)


def _about(config: EvaluateConfig, actor: Actor, split: TaskSet, seconds: float) -> dict[str, Any]:
    """What results say of their evaluation, see `measured.about`."""
    name = config.run.stem if foreign.is_foreign(config.run) else config.run.name
    name = str(config.run) if re.fullmatch(MODULE, str(config.run)) else name
    told = actor.conditioning
    if config.told == "twin":
        told = "that of the twin"
    return measured.about(
        config.who or "".join(c for c in name if c.isprintable())[:WHO] or "nameless",
        split,
        {
            "conditioning": told if isinstance(told, str) else "language",
            "sensors": actor.sensors,
            "episode_steps": config.episode_steps or actor.episode_steps,
            "level": config.level,
            "engine": config.engine,
            "seed": EVALUATION_SEED if config.seed is None else config.seed,
            "episodes": config.episodes,
            "attempts": config.attempts,
            "wiped": config.wiped,
            "seconds": seconds,
        },
    )


def _print_success(found: dict, console: Console) -> None:
    """A line for each task, where they are many for each mechanism, and the mean."""
    width = max(12, *map(len, found["per_task"]))
    for name, row in found["per_task"].items():
        console.print(
            f"{name:{width}} {row['success']:.2f}  [{row['low']:.2f}, {row['high']:.2f}]  "
            f"at any time {row['success_any']:.2f}  n={row['episodes']}"
        )
    many = len(found["per_task"]) > MOST_NAMED
    groups = by_mechanism(found["per_task"]) if many else {}
    for kind, row in found.get("per_kind", {}).items():
        groups[kind.replace("_", " ")] = row
    for name, row in groups.items():
        console.print(
            f"{name:12} {row['success']:.3f}  "
            f"[{row['low']:.3f}, {row['high']:.3f}]  {row['rows']} rows, n={row['episodes']}"
        )
    console.print(f"{'mean':12} {found['mean_success']:.3f}   worst {found['worst_success']:.2f}")
    if found["guess_ceiling"] < 1:
        console.print(GUESS.format(found["guess_ceiling"]))


def _print_attempts(found: Mapping, wiped: bool, remembers: bool, console: Console) -> None:
    """How long the attempts are and what is remembered, and a line for each."""
    memory = "memory wiped before each" if wiped else "memory kept" if remembers else "no memory"
    console.print(f"attempts of {in_words(found['attempt_steps'])}, {memory}:")
    kinds = found.get("kinds_by_attempt", {})
    of_kinds = {f", {kind.replace('_', ' ')}": rows for kind, rows in kinds.items()}
    for kind, rows in {"": found["by_attempt"], **of_kinds}.items():
        for number, row in enumerate(rows, start=1):
            console.print(
                f"attempt {number:<4} {row['success']:.3f}  "
                f"[{row['low']:.3f}, {row['high']:.3f}]  n={row['episodes']}{kind}"
            )


def _attempt_steps(config: EvaluateConfig, side: Sequence[Actor]) -> int:
    """Control steps of an attempt of one side of an evaluation.

    Raises:
        ValueError: see `protocol.attempt_steps`.
    """
    tasks = [task for actor in side for task in actor.tasks]
    return attempt_steps(tasks, config.episode_steps or side[0].episode_steps)


def _episodes(
    actor: Actor, config: EvaluateConfig, watch: Watch, disturbed: dict[str, int] | None = None
) -> list[Episode]:
    """An actor's episodes, watched; of the same starts with a disturbance as without."""
    return evaluate_policy(
        watch.over(actor.policy),
        actor.tasks,
        config.episodes,
        conditioning=actor.conditioning,
        known_tasks=actor.known_tasks,
        seed=EVALUATION_SEED if config.seed is None else config.seed,
        level=config.level,
        engine=config.engine,
        sensors=actor.sensors,
        episode_steps=config.episode_steps or actor.episode_steps,
        attempts=config.attempts or actor.attempts,
        wiped=config.wiped,
        disturb=disturbed,
    )


def _with_attempts(
    config: EvaluateConfig, sides: Sequence[Sequence[Actor]], console: Console
) -> EvaluateConfig:
    """What is asked for, with the number of attempts; that a policy has no memory is said.

    Raises:
        ValueError: one attempt, or no memory, and it should be wiped between attempts; rows whose
            attempts would differ in length.
    """
    attempts = config.attempts or max(actor.attempts for side in sides for actor in side)
    if config.wiped and attempts == 1:
        raise ValueError("--wiped has no effect here: it goes with --attempts above 1")
    if attempts > 1:
        for side in sides:
            _attempt_steps(config, side)
        forgets = not sides[0][0].remembers
        if forgets and config.wiped:
            raise ValueError(
                f"--wiped has no effect here: {config.run} has no memory (allowed: a policy with "
                f"one, such as search, or a run of --conditioning {', '.join(REMEMBERING)})"
            )
        if forgets:
            console.print(
                f"{config.run} has no memory: its attempts at a closure are independent episodes",
                markup=False,
            )
    return dataclasses.replace(config, attempts=attempts)


def _say_known(side: Sequence[Actor], console: Console) -> None:
    """Say in which rows the search is the expert itself, as nothing looks like them there."""
    for actor in side:
        rows = searching.known(actor.tasks) if actor.policy is Search else []
        if rows:
            console.print(
                f"search acts as the expert on {listed(rows)}: no other row that is opened here "
                "looks like it, so that there is nothing to find out",
                markup=False,
            )


def table(config: TableConfig, console: Console) -> None:
    """Rank results."""
    entries = measured.ranked(config.results)
    measured.show(entries, console)
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        runs.write_json(config.out, {"ranked": entries})


def export(config: ExportConfig, console: Console) -> None:
    """Write a policy as an ONNX file."""
    run = located(config.run)
    if run != config.run and config.out is None:
        raise ValueError(f"--out is needed: {config.run} lies in the package")
    path = config.out or run / f"policy{EXPORTED}"
    if path.suffix != EXPORTED:
        raise ValueError(f"--out must end in {EXPORTED}, not {path.name!r}")
    exported.check_installed()
    runs.open_run(run)
    # in the run, its writer removes what one that was killed has left
    with contextlib.nullcontext() if config.out else runs.writing(run, new=False):
        difference = experiment.export_run(run, path)
    console.print(
        f"{path}: {path.stat().st_size:,} bytes; largest difference from torch {difference:.1e}"
    )


def video(config: VideoConfig, console: Console) -> None:
    """Film one episode."""
    from uncap.evaluation.video import record

    [actor] = actors(config.run, (config.task,))
    _say_known([actor], console)
    set_threads(0)
    if not _is_run(config.run):
        own = here() / f"{config.run.stem}-{config.task}.mp4"
    else:
        start = f"-{config.seed}" if config.seed else ""  # the first start's are the run's own
        own = config.run / "videos" / f"{config.task}{start}.mp4"
        say_notes(config.run, console)
    path = config.out or own
    if path.suffix != ".mp4":
        raise ValueError(f"--out must end in .mp4, not {path.name!r}")
    bars = Bars(console)
    bars("film", 0, 1, "")
    with bars.progress:
        outcome = record(
            actor.policy,
            config.task,
            path,
            conditioning=actor.conditioning,
            known_tasks=actor.known_tasks,
            sensors=actor.sensors,
            episode_steps=actor.episode_steps,
            attempts=actor.attempts,
            seed=EVALUATION_SEED + config.seed,
            engine=config.engine,
            on_frame=lambda done, total: bars("film", done, total, ""),
        )
    reached = f"not opened, progress {outcome['progress']:.2f}"
    console.print(f"{path}: {'success' if outcome['success'] else reached}")


def view(config: ViewConfig, console: Console) -> None:
    """Look at a closure being opened, until Ctrl-C."""
    from uncap.evaluation import live_page, live_window
    from uncap.evaluation.live import Live

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    if config.native and config.port is not None:
        raise ValueError("--port is of the page in the browser: --native has none")
    actor, *_ = actors(config.run, (config.task,) if config.task else ())
    task = config.task or actor.tasks[0]
    if _is_run(config.run):
        say_notes(config.run, console)
    lookup(CLOSURES, task, "closure")
    if config.native:
        live_window.check_display()
    else:
        live_page.check_installed()
    live = Live(actor, task, config.seed, config.out, config.engine)
    try:
        if config.native:
            live_window.look(live, say)
        else:
            live_page.look(live, config.port, say)
    except KeyboardInterrupt:  # how a look ends
        lost = "; the recording that had not ended is dropped" if live.recording else ""
        say(f"ended{lost}")
    finally:
        live.close()


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
    bars = Bars(console)

    def speed(threads: int, phase: str) -> dict:
        bars(phase, 0, 1, "")
        return measure_speed(
            tasks,
            config.num_envs,
            steps,
            threads,
            config.seed,
            config.observation,
            config.sensors,
            config.engine,
            lambda done, total: bars(phase, done, total, ""),
        )

    with bars.progress:
        found = {
            "machine": runs.machine(),
            "one_thread": speed(1, "one thread"),
            "all_threads": speed(config.threads, "all threads"),
            "inference_milliseconds": inference(
                tasks,
                config.num_envs,
                on_body=lambda done, total, name: bars("policies", done, total, name),
            ),
        }
    if config.out:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        runs.write_json(config.out, found)
    console.print_json(data=found)


def gallery(config: GalleryConfig, console: Console) -> None:
    """Every row, closed and open."""
    from uncap.evaluation.gallery import gallery as draw

    bars = Bars(console)
    bars("gallery", 0, 1, "")

    def on_row(done: int, total: int, name: str) -> None:
        bars("gallery", done, total, name)

    with runs.filling(config.out), bars.progress:
        page = draw(config.out, config.seed, on_row, config.engine)
    console.print(f"gallery: {page}")


def audit(config: AuditConfig, console: Console) -> None:
    """Search every row for a cheat and film the nearest misses."""
    from uncap.evaluation.audit import rows

    names = config.tasks or tuple(rows())
    bars, found = Bars(console), {}

    def on_round(number: int, done: int, total: int) -> None:
        bars("audit", number + done / total, len(names), names[number])

    with runs.filling(config.out), bars.progress:
        bars("audit", 0, len(names), names[0])
        for number, name in enumerate(names):
            found[name] = _audit_row(name, config, functools.partial(on_round, number))
            runs.write_json(config.out / "audit.json", found)  # an interrupt leaves what is found
            bars("audit", number + 1, len(names), name)
    console.print_json(data=found)


def _audit_row(
    name: str, config: AuditConfig, on_round: Callable[[int, int], object]
) -> dict[str, Any]:
    from uncap.evaluation.audit import replay, search
    from uncap.evaluation.video import record

    result = search(name, config.seed, engine=config.engine, on_round=on_round)
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
            engine=config.engine,
            variants="train",  # those of the search
            width=320,
        )
    except RenderingUnavailable as error:
        found["film"] = str(error)
    return found


def demos(config: DemosConfig, console: Console) -> None:
    """Record episodes of a task set's training rows."""
    from uncap.agents import lerobot
    from uncap.agents.demonstrations import check_installed, record
    from uncap.evaluation.recording import dataset_id, recorded

    if config.pictures and config.format != "lerobot":
        raise ValueError("--pictures goes with --format lerobot only")
    if config.pictures and config.engine != "cpu":
        raise ValueError(
            "--pictures goes with --engine cpu only: episodes are repeated for them, bit for bit"
        )
    tasks = named_set(config.task_set).train
    settings, actors = recorded(config, tasks)
    check_installed()
    if len(actors) > config.episodes:
        left = len(actors) - config.episodes
        console.print(f"{left} of {len(actors)} policies do not act: --episodes has fewer turns")
    bars = Bars(console)
    bars("demonstrations", 0, 1, "")

    def on_progress(done: int, total: int) -> None:
        bars("demonstrations", done, total, "")

    def minari(root: pathlib.Path) -> pathlib.Path:
        return record(root, dataset_id(config), tasks, settings, on_progress, actors)

    def on_converted(done: int, total: int) -> None:
        bars("LeRobotDataset", done, total, "")

    with bars.progress:
        if config.format == "lerobot":
            name = lerobot.name_of(dataset_id(config))
            folder = lerobot.write(config.out, name, minari, config.pictures, on_converted)
        else:
            folder = minari(config.out)
    console.print(f"demonstrations: {folder}")


def compare(config: CompareConfig, console: Console) -> dict:
    """Train the cells of a grid."""
    return comparison.compare(config, grid.axes(), console, check=check_cell)


def tune(config: TuneConfig, console: Console) -> dict:
    """Train the trials of a study."""
    return tuning.tune(config, grid.axes(), console, check=check_cell)
