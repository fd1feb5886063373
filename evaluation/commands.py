"""What the commands of the command line do, with their input checked first."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import signal
import time
from collections.abc import Callable, Sequence

from rich.console import Console

from agents.learner import POLICIES
from agents.tables import BODIES, HEADS, RULES, SAMPLINGS
from envs import CLOSURES, TASK_SETS
from envs.closures import TaskSet, named_set
from envs.conditioning import CONDITIONINGS, UNSEEN
from envs.opengl import RenderingUnavailable
from envs.tables import lookup
from envs.variation import LEVELS
from evaluation import alone, experiment, runs
from evaluation.benchmark import benchmark, inference
from evaluation.experiment import QUICK, JobConfig, run_policy
from evaluation.loggers import LOGGERS, require
from evaluation.options import TrainOptions
from evaluation.progress import Bars
from evaluation.protocol import BUILT_IN, EVALUATION_SEED, Policy, evaluate, summary, write_episodes
from evaluation.report import write_report

Print = Callable[[str], None]
_CHOICES = {
    "algorithm": POLICIES,
    "warm_start": dict.fromkeys(("dagger", "clone", "none")),
    "conditioning": CONDITIONINGS,
    "body": BODIES,
    "head": HEADS,
    "rule": RULES,
    "sampling": SAMPLINGS,
}


def _positive(name: str, value: int | None, least: int = 1) -> None:
    if value is not None and value < least:
        raise ValueError(f"--{name} must be at least {least}, not {value}")


def job_config(quick: bool, options: TrainOptions) -> JobConfig:
    """The job a user asked for.

    Raises:
        KeyError, ValueError: a choice that does not exist or a number out of range.
    """
    named_set(options.task_set)
    for table, kind in _CHOICES.items():
        lookup(kind, getattr(options, table), table.replace("_", " "))
    for name, least in (
        ("env_steps", 1),
        ("episodes", 1),
        ("validations", 1),
        ("transfer_steps", 0),
        ("num_envs", 1),
        ("width", 4),
    ):
        _positive(name.replace("_", "-"), getattr(options, name), least)
    for name in LOGGERS:
        if getattr(options, name):
            require(name)
    if options.minutes is not None and options.minutes <= 0:
        raise ValueError(f"--minutes must be above 0, not {options.minutes}")
    if options.algorithm == "plain_ppo" and (
        options.warm_start != "none" or options.transfer_steps != 0
    ):
        raise ValueError(
            "plain_ppo learns from scratch and is not transferred: --warm-start none --transfer-steps 0"
        )
    if options.algorithm == "sac" and (
        options.rule != "sum" or options.popart or options.cosines or options.transfer_steps != 0
    ):
        raise ValueError(
            "sac has no --rule, --popart and --cosines, and is not transferred yet: --transfer-steps 0"
        )
    clones = options.warm_start == "clone"
    if clones and not options.demos or options.demos and not clones and options.algorithm != "sac":
        raise ValueError(
            "--demos FOLDER goes with --warm-start clone, or with sac: make a folder with `python train.py demos`"
        )
    base = QUICK if quick else JobConfig()
    given = {k: v for k, v in dataclasses.asdict(options).items() if v is not None}
    if options.minutes and options.env_steps is None:
        given["env_steps"] = 10**9
    network = dataclasses.replace(
        base.network, **{k: given.pop(k) for k in ("body", "head", "width") if k in given}
    )
    ppo = dataclasses.replace(base.ppo, rule=given.pop("rule"), popart=given.pop("popart"))
    transfer = dataclasses.replace(
        base.transfer, env_steps=given.pop("transfer_steps", base.transfer.env_steps)
    )
    return dataclasses.replace(
        base, **{**given, "network": network, "ppo": ppo, "transfer": transfer}
    )


def stop_on_interrupt(say: Print) -> Callable[[], bool]:
    """Make Ctrl-C ask for a stop instead of ending at once; the second one ends. Returns whether it was asked."""
    asked: list[bool] = []

    def interrupt(*_) -> None:
        if asked:
            raise SystemExit("error: interrupted twice: ended without saving the last update")
        asked.append(True)
        say("stopping after this update; the state will be saved ...")

    signal.signal(signal.SIGINT, interrupt)
    return lambda: bool(asked)


def main_job(
    out: pathlib.Path | None,
    resume: pathlib.Path | None,
    options: TrainOptions,
    quick: bool,
    seed: int,
    command: str,
    videos: bool,
    console: Console,
) -> None:
    """`train`: the whole job in one run folder `out`, or what is left of it in `resume`."""
    bars, stop = Bars(console), stop_on_interrupt(console.print)
    _positive("seed", seed, 0)
    run = resume or out or pathlib.Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    if resume:
        kept, config = experiment.stored_job(run)
        seed, split = kept["seed"], named_set(config.task_set)
        if kept["split_hash"] != split.hash:
            raise runs.RunError(
                f"{run} was trained on other rows (split {kept['split_hash']}, now {split.hash}): it cannot go on"
            )
    else:
        config = job_config(quick, options)
        split = named_set(config.task_set)
        experiment.start(run, config, seed, command)
    with bars.progress:
        _main_job(run, config, split, seed, bars, stop, videos, bool(resume), console.print)


def _main_job(
    run,
    config: JobConfig,
    split: TaskSet,
    seed: int,
    report,
    stop,
    videos: bool,
    resumed: bool,
    say: Print,
) -> None:
    began = time.perf_counter()
    say(
        f"run {run}  |  split {split.hash}: train {', '.join(split.train)}; held out {', '.join(split.held_out)}"
    )
    results = (
        json.loads((run / "results.json").read_text()) if (run / "results.json").exists() else {}
    )
    stopped = f"stopped; go on with: python train.py --resume {run}"
    if config.alone:
        if not alone.train(run, config, seed, report, stop):
            say(stopped)
            return
        results = json.loads((run / "results.json").read_text())
    else:
        if "train" not in results and not experiment.train(
            run, config, seed, report, stop, resumed
        ):
            if not (run / "latest").exists():
                say("the warm start was not finished and begins again")
            say(stopped)
            return
        results = experiment.evaluate_run(run, config)
    say(
        f"mean success {results['mean_success']:.3f}, worst {results['worst_success']:.2f} ({config.episodes} episodes per task)"
    )
    targets = (
        split.held_out
        if not config.alone and config.transfer.env_steps and config.conditioning in UNSEEN
        else ()
    )
    if config.conditioning not in UNSEEN and config.transfer.env_steps:
        say(
            f"no transfer: {config.conditioning} has no vector for an unseen closure; use --conditioning parameters"
        )
    for target in targets:
        if target not in results.get("transfer", {}) and not stop():
            experiment.transfer_run(run, target, config, seed, report, stop)
    if config.alone:
        say("no transfer and no videos: policies of single rows are a control")
    if stop():
        say(stopped)
        return
    problem = None
    if videos and not config.alone:
        problem = experiment.film_run(run, [*split.train, *targets], report, config.film_width)
    if problem:
        say(f"no videos: {problem}")
    runs.update_results(run, total_seconds=time.perf_counter() - began)
    say(f"report: {write_report(run)}")


def transfer_job(
    run: pathlib.Path,
    target: str,
    seed: int,
    env_steps: int | None,
    seeds: int,
    few_shot: int,
    out: pathlib.Path | None,
    console: Console,
) -> None:
    """`transfer`: add a target to a run's results and report."""
    config, bars = experiment.stored_job(run)[1], Bars(console)
    if config.alone:
        row = named_set(config.task_set).train[0]
        raise runs.RunError(
            f"{run} has a policy per row: transfer one of them, such as {run / 'alone' / row}"
        )
    lookup(CLOSURES, target, "closure")
    _positive("env-steps", env_steps)
    _positive("seeds", seeds)
    _positive("few-shot", few_shot, 0)
    env_steps = (
        env_steps or config.transfer.env_steps or JobConfig().transfer.env_steps
    )  # a run may have had no transfer of its own
    budget = dataclasses.replace(
        config.transfer, seeds=seeds, few_shot=few_shot, env_steps=env_steps
    )
    with bars.progress:
        results = experiment.transfer_run(
            run, target, dataclasses.replace(config, transfer=budget), seed, bars
        )
    entry = results["transfer"][target]
    console.print(
        json.dumps(
            {
                k: entry[k]
                for k in ("zero_shot", "steps_to_threshold", "jumpstart", "final", "area")
            },
            indent=1,
        )
    )
    if out:
        runs.write_json(out, entry)
    console.print(f"report: {write_report(run)}")


def _policies(
    name: pathlib.Path, tasks: Sequence[str]
) -> list[tuple[Policy, dict, tuple[str, ...]]]:
    """Who acts in which rows, and what it is told: one policy in all, or, of an `--alone` run, each row's own."""
    if str(name) in BUILT_IN:
        return [
            (
                BUILT_IN[str(name)],
                {"known": None, "conditioning": "parameters"},
                tuple(tasks) or TASK_SETS["first"].train,
            )
        ]
    if not name.exists() and len(name.parts) == 1:
        raise runs.RunError(
            f"there is no run folder {name} and no policy of that name (policies: {', '.join(BUILT_IN)})"
        )
    config = runs.open_run(name)
    if config.get("job", {}).get("alone"):
        return [
            p for row in tasks or config["train"] for p in _policies(name / "alone" / row, (row,))
        ]
    policy, meta = run_policy(name)
    return [(policy, meta, tuple(tasks) or tuple(meta["tasks"]))]


def evaluate_job(
    run: pathlib.Path,
    tasks: Sequence[str],
    episodes: int,
    seed: int | None,
    level: str,
    out: pathlib.Path | None,
    say: Print,
) -> dict:
    """`evaluate`: print success per task with intervals."""
    for task in tasks:
        lookup(CLOSURES, task, "closure")
    lookup(LEVELS, level, "level")
    _positive("episodes", episodes)
    if out and out.exists() and any(out.iterdir()):
        raise runs.RunError(f"{out} exists and is not empty: choose another --out")
    seed, table = EVALUATION_SEED if seed is None else seed, []
    for policy, meta, rows in _policies(run, tasks):
        table += evaluate(
            policy,
            rows,
            episodes,
            conditioning=meta["conditioning"],
            known_tasks=meta["known"],
            seed=seed,
            level=level,
        )
    found = summary(table)
    for name, t in found["per_task"].items():
        say(
            f"{name:12} {t['success']:.2f}  [{t['low']:.2f}, {t['high']:.2f}]  at any time {t['success_any']:.2f}  n={t['episodes']}"
        )
    say(f"{'mean':12} {found['mean_success']:.3f}   worst {found['worst_success']:.2f}")
    if out:
        out.mkdir(parents=True, exist_ok=True)
        write_episodes(table, out / "episodes.csv")
        runs.write_json(out / "results.json", {**found, "machine": runs.machine()})
    return found


def video_job(
    run: pathlib.Path, task: str, start: int, out: pathlib.Path | None, say: Print
) -> None:
    """`video`: film one episode."""
    from evaluation.video import record

    lookup(CLOSURES, task, "closure")
    _positive("seed", start, 0)
    [(policy, meta, _)] = _policies(run, (task,))
    path = out or (
        pathlib.Path(f"{run}-{task}.mp4")
        if str(run) in BUILT_IN
        else run / "videos" / f"{task}.mp4"
    )
    if path.suffix != ".mp4":
        raise ValueError(f"--out must end in .mp4, not {path.name!r}")
    outcome = record(
        policy,
        task,
        path,
        conditioning=meta["conditioning"],
        known_tasks=meta["known"],
        start=start,
    )
    say(
        f"{path}: {'success' if outcome['success'] else 'not opened'}, progress {outcome['progress']:.2f}"
    )


def report_job(run: pathlib.Path, out: pathlib.Path | None) -> pathlib.Path:
    """`report`: write the page again."""
    runs.open_run(run)
    page = write_report(run)
    if out:
        shutil.copyfile(page, out)
    return page


def benchmark_job(
    task_set: str,
    num_envs: int,
    steps: int | None,
    observation: str,
    seed: int,
    out: pathlib.Path | None,
) -> dict:
    """`benchmark`: one thread and all."""
    tasks = named_set(task_set).train
    _positive("num-envs", num_envs)
    _positive("steps", steps)
    steps = steps or (300 if observation == "state" else 20)
    found = {
        "machine": runs.machine(),
        "one_thread": benchmark(tasks, num_envs, steps, 1, seed, observation),
        "all_threads": benchmark(tasks, num_envs, steps, 0, seed, observation),
        "inference_milliseconds": inference(tasks, num_envs),
    }
    if out:
        runs.write_json(out, found)
    return found


def gallery_job(out: pathlib.Path, seed: int, console: Console) -> pathlib.Path:
    """`gallery`: every row, closed and open."""
    from evaluation.gallery import gallery

    _positive("seed", seed, 0)
    bars = Bars(console)
    with bars.progress:
        return gallery(out, seed, lambda done, total, name: bars("gallery", done, total, name))


def audit_job(out: pathlib.Path, tasks: Sequence[str], seed: int, console: Console) -> dict:
    """`audit`: search every row for a cheat and film the nearest misses."""
    from evaluation.audit import replay, rows, search
    from evaluation.video import record

    for task in tasks:
        lookup(CLOSURES, task, "closure")
    _positive("seed", seed, 0)
    bars, names, found = Bars(console), tuple(tasks) or rows(), {}
    with bars.progress:
        for k, name in enumerate(names):
            result = search(name, seed)
            found[name] = {
                "candidates": result.candidates,
                "cheats": result.cheats,
                "honest": result.honest,
                "untouched": result.untouched,
            }
            try:
                record(
                    replay(result.plan),
                    name,
                    out / f"{name}.mp4",
                    conditioning="parameters",
                    known_tasks=None,
                    seed=seed,
                    width=320,
                )
            except RenderingUnavailable as error:
                found[name]["film"] = str(error)
            bars("audit", k + 1, len(names), name)
    out.mkdir(parents=True, exist_ok=True)
    runs.write_json(out / "audit.json", found)
    return found


def demos_job(
    task_set: str, episodes: int, seed: int, perturb: float, out: pathlib.Path, console: Console
) -> pathlib.Path:
    """`demos`: record expert episodes of a task set's training rows."""
    from agents.demonstrations import DemoConfig, record

    split = named_set(task_set)
    _positive("episodes", episodes)
    _positive("seed", seed, 0)
    if not 0 <= perturb < 1:
        raise ValueError(f"--perturb must lie in [0, 1), not {perturb}")
    bars = Bars(console)
    with bars.progress:
        return record(
            out,
            f"uncap/{task_set}-v0",
            split.train,
            DemoConfig(episodes, seed, perturb=perturb),
            lambda done, total: bars("demonstrations", done, total, ""),
        )


def compare(
    grid: pathlib.Path, out: pathlib.Path | None, jobs: int, seed: int, console: Console
) -> dict:
    """`compare`: train the cells of a grid."""
    from evaluation.compare import compare_job

    return compare_job(grid, out, jobs, seed, grid_kinds(), console)


def grid_kinds() -> dict[str, type | tuple]:
    """What the flags of a grid may be."""
    from evaluation.compare import flag_kinds

    sets = [*TASK_SETS, *(f"{s.name}/{row}" for s in TASK_SETS.values() for row in s.train)]
    return {
        **flag_kinds(TrainOptions, choices={**_CHOICES, "task_set": sets}),
        "quick": bool,
        "videos": bool,
    }
