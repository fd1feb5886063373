"""What a job does in its run folder: start, evaluate, transfer, film."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from uncap.agents import checkpoints, exported
from uncap.agents.memory import has_belief
from uncap.agents.policy import Acting, load_policy
from uncap.envs import CLOSURES, TaskSet, rewards
from uncap.envs.closures import named_set
from uncap.envs.conditioning import UNSEEN, vectors
from uncap.envs.opengl import RenderingUnavailable
from uncap.envs.pool import VARIANT_STREAMS
from uncap.evaluation import beliefs, runs, unseen
from uncap.evaluation.config import JobConfig
from uncap.evaluation.curves import FOLDER, Which
from uncap.evaluation.kept import Kept
from uncap.evaluation.metrics import read_metrics
from uncap.evaluation.protocol import (
    BUILT_IN,
    Episode,
    attempt_steps,
    by_attempt,
    by_mechanism,
    evaluate,
    summary,
    write_episodes,
)
from uncap.evaluation.rows import restore, stored_rows
from uncap.evaluation.shapes import as_settings
from uncap.evaluation.training import LATEST, Session
from uncap.evaluation.transfer import check as check_transfer
from uncap.evaluation.transfer import learner_kinds, transfer
from uncap.evaluation.watch import Watch

NOTE_EVERY = 10.0  # s
_SEARCHED = ("search", "search held out")  # parts of an evaluation by the scripted search
_MOST_SEARCHED = 500  # trials in each, but one of each row at least

RUNS = pathlib.Path("runs")


def start(
    run: pathlib.Path | None,
    config: JobConfig,
    seed: int,
    command: str,
    root: pathlib.Path = RUNS,
) -> pathlib.Path:
    """Make a run folder.

    Args:
        run: the folder; by default `<root>/<time>`, or the next name where that is taken.
        config: the job.
        seed: of everything random in it.
        command: that asked for it, for the report.
        root: of folders without a name of their own.

    Returns:
        The folder.

    Raises:
        RunError: the folder exists and is not empty.
    """
    split = named_set(config.task_set)
    stored = {
        "command": command,
        "seed": seed,
        "train": split.train,
        "held_out": split.held_out,
        "split_hash": split.hash,
        "episode_steps": config.episode_steps or split.steps(config.attempts),
        "conditioning": config.conditioning,
        "reward_version": rewards.VERSION,
        "variant_streams": VARIANT_STREAMS,
        "rows": stored_rows((*split.train, *split.held_out)),
        "job": dataclasses.asdict(config),
    }
    if run is None:
        return runs.create_next(root / time.strftime("%Y%m%d-%H%M%S"), stored)
    runs.create(run, stored)
    return run


def stored_job(run: pathlib.Path) -> tuple[dict, JobConfig]:
    """A run folder's config.json, and the job in it; its rows are registered.

    Raises:
        RunError: not a run of this version.
    """
    stored = runs.open_run(run)
    for name in ("seed", "job", "train", "held_out", "split_hash"):
        if name not in stored:
            raise runs.RunError(f"{run / 'config.json'} is damaged: it lacks {name}")
    restore(run, stored)
    try:
        job = as_settings(JobConfig, stored["job"])
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise runs.RunError(
            f"{run / 'config.json'} was written by another version, or is damaged: {problem}"
        ) from None
    return stored, job


def notes(run: pathlib.Path) -> list[str]:
    """What a user of a run should know, in lines; its rows are registered.

    Raises:
        RunError: not a run of this version.
    """
    stored = runs.open_run(run)
    problem = runs.read_run_metrics(run).problem
    return [*restore(run, stored), *([problem] if problem else [])]


def lost_rows(run: pathlib.Path) -> list[str]:
    """What a run that goes on has lost of its metrics.csv, in a line.

    Raises:
        CheckpointError: the state to go on from is damaged.
    """
    if not (run / "latest").exists():
        return []
    _, meta = checkpoints.load(run / "latest")
    rows, *_ = meta.get("logged", [0])
    there = len(read_metrics(run / "metrics.csv").numbers)
    path = run / "metrics.csv"
    return [f"{path} is damaged: of {rows} rows {there} are there"] if there < rows else []


def run_policy(run: pathlib.Path) -> tuple[Acting, dict]:
    """The policy of a run for `evaluate`, and its checkpoint's JSON part."""
    restore(run, runs.open_run(run))
    policy, meta = load_policy(run / "checkpoint")
    return Acting(policy, meta["tasks"]), meta


def export_run(run: pathlib.Path, path: pathlib.Path) -> float:
    """Write the policy of a run as an ONNX file, with the vectors of its held-out rows, too.

    Returns:
        The largest difference from torch, see `exported.export`.

    Raises:
        RunError: it has a policy per row.
        ValueError: see `exported.export`.
    """
    stored = runs.open_run(run)
    rows = tuple(stored.get("held_out", ()))
    if stored.get("job", {}).get("alone") is True:
        first, *_ = stored.get("train") or ("<row>",)
        folder = run / runs.PARTS / first
        raise runs.RunError(f"{run} has a policy per row: export one of them, such as {folder}")
    acting, meta = run_policy(run)
    conditioning = meta["conditioning"]
    if isinstance(conditioning, str) and conditioning in UNSEEN and rows:
        found = vectors(conditioning, rows, meta["known"])
        meta["vectors"] |= dict(zip(rows, found, strict=True))
    about = {
        "versions": runs.versions(),
        "reward_version": stored.get("reward_version"),
        "split_hash": stored.get("split_hash"),
    }
    return exported.export(acting.policy, meta, path, about)


def evaluate_run(session: Session, *, zero_shot: bool = True) -> dict:
    """Final evaluation: on the training rows, and on the held-out ones, zero-shot.

    Writes episodes.csv, of both, and results.json. The training is over: the state to resume
    from is removed. Parts that were done before a kill are kept, see `kept.Kept`.

    Args:
        session: the job.
        zero_shot: whether the held-out rows are evaluated, too.
    """
    run, config = session.run, session.config
    shutil.rmtree(run / LATEST, ignore_errors=True)
    policy, meta = run_policy(run)
    split = named_set(config.task_set)
    can_see_others = zero_shot and config.conditioning in UNSEEN
    held_out_rows = split.held_out if can_see_others else ()
    trials = meta["attempts"] > 1
    parts = _parts(meta, held_out_rows, config.episodes)
    episodes = sum(len(part.rows) * part.episodes for part in parts.values()) * meta["attempts"]
    watch = Watch(episodes, session.report)
    kept = Kept(run)
    watch.done = kept.episodes

    def table(name: str, part: _Part) -> list[Episode]:
        told = {"conditioning": meta["conditioning"], "known_tasks": meta["known"]}
        return evaluate(
            watch.over(BUILT_IN["search"] if part.is_searched else policy),
            part.rows,
            part.episodes,
            **({} if part.is_searched else told),
            sensors=meta["sensors"],
            episode_steps=meta["episode_steps"],
            attempts=meta["attempts"],
            wiped=part.wiped,
            keep=lambda starts, play: kept.part(f"{name} {starts.start}:{starts.stop}", play),
        )

    tables = {name: table(name, part) for name, part in parts.items() if part.rows}
    wiped = tables.pop("wiped", None)
    searched = {name: tables.pop(name) for name in _SEARCHED if name in tables}
    watch.end()
    write_episodes(
        [episode for table in tables.values() for episode in table], run / "episodes.csv"
    )
    trained = summary(tables["trained"])
    held_out = tables.get("held out")
    believes = has_belief(policy.policy)
    if believes:
        runs.write_json(run / beliefs.FILE, beliefs.recorded(policy, meta))
    return runs.update_results(
        run,
        **trained,
        per_mechanism=by_mechanism(trained["per_task"]),
        guess_ceiling=split.guess_ceiling,
        by_attempt=by_attempt(tables["trained"]) if trials else [],
        attempt_steps=attempt_steps(meta["tasks"], meta["episode_steps"]) if trials else None,
        wiped_by_attempt=by_attempt(wiped) if wiped else [],
        scripted_search=_by_search(split, searched),
        beliefs=believes,
        held_out=_held_out(split, held_out, trials) if held_out else None,
    )


class _Part(NamedTuple):
    """What is evaluated together."""

    rows: Sequence[str]
    episodes: int  # of each row: trials, where there are attempts
    wiped: bool = False  # the control: nothing is remembered of an attempt
    is_searched: bool = False  # by the script that is told nothing either


def _parts(meta: Mapping[str, Any], held_out: Sequence[str], episodes: int) -> dict[str, _Part]:
    """What the final evaluation of a policy consists of, by name."""
    trained = meta["tasks"]
    parts = {"trained": _Part(trained, episodes), "held out": _Part(held_out, episodes)}
    if meta["attempts"] > 1:
        parts["wiped"] = _Part(trained, episodes, wiped=True)
        for name, rows in zip(_SEARCHED, (trained, held_out), strict=True):
            fewer = max(1, _MOST_SEARCHED // max(1, len(rows)))
            parts[name] = _Part(rows, min(episodes, fewer), is_searched=True)
    return parts


def _by_search(split: TaskSet, tables: Mapping[str, list[Episode]]) -> dict | None:
    """What results say of the scripted search, by attempt; None where there are no attempts."""
    if not tables:
        return None
    trained, held_out = (tables.get(name) for name in _SEARCHED)
    found: dict[str, Any] = {"by_attempt": by_attempt(trained or [])}
    if held_out:
        found["held_out"] = unseen.attempts(split, held_out)
    return found


def _held_out(split: TaskSet, table: list[Episode], trials: bool) -> dict:
    """What results say of the held-out rows."""
    found = unseen.by_novelty(split, summary(table))
    return {**found, **unseen.attempts(split, table)} if trials else found


def transfer_run(session: Session, target: str, replace: bool = False) -> dict | None:
    """Transfer a run's policy to one target and add it to results.json; None if stopped.

    Args:
        session: the job.
        target: a row.
        replace: drop what there is of this target, instead of adding to it.

    Raises:
        RunError: see `transfer_rows`.
        ValueError: the same.
    """
    done = transfer_rows(session, (target,), replace)
    return runs.read_results(session.run) if done else None


def transfer_rows(session: Session, targets: Sequence[str], replace: bool = False) -> bool:
    """Transfer a run's policy to targets and add each to results.json; False if stopped.

    Args:
        session: the job.
        targets: rows.
        replace: drop what there is of them, instead of adding to it.

    Raises:
        RunError: see `transfer.check`; or there are results of a target with another budget.
        ValueError: see `transfer.check`.
    """
    run = session.run
    source, meta = load_policy(run / "checkpoint")
    check_transfer(session, source, meta, targets, learner_kinds(session.config.transfer))
    if replace:
        for target in targets:
            forget_transfer(run, target)
    entries = runs.read_results(run).get("transfer", {})

    def on_target(target: str, entry: dict) -> None:
        runs.update_results(run, transfer={target: entry})
        forget_learners(run, target, entry)

    return transfer(source, meta, targets, session, on_target, entries)


def forget_transfer(run: pathlib.Path, target: str) -> None:
    """Remove what there is of a target: its results, and what a transfer would go on from."""
    runs.forget_target(run, target)
    folder = run / FOLDER / target
    shutil.rmtree(folder, ignore_errors=True)
    _remove_empty(folder.parent)


def forget_learners(run: pathlib.Path, target: str, entry: Mapping[str, Any]) -> None:
    """Remove the folders of the learners whose curves are in a target's results.

    Others may have begun by another command, which goes on from their folders.

    Args:
        run: its folder.
        target: a row.
        entry: of the target in results.json.
    """
    for kind, curves in entry.get("curves", {}).items():
        for curve in curves:
            which = Which(CLOSURES[target], kind, curve["seed"])
            shutil.rmtree(which.folder(run), ignore_errors=True)
    _remove_empty(run / FOLDER / target)
    _remove_empty(run / FOLDER)


def _remove_empty(folder: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # something is in it, or it never was
        folder.rmdir()


class Stopwatch:
    """Seconds of all sessions of a run, noted in its results now and then: a kill may come.

    Args:
        run: its folder.
    """

    def __init__(self, run: pathlib.Path):
        self.run = run
        self._before = runs.read_results(run).get("total_seconds") or 0.0
        self._began = self._noted = time.perf_counter()

    def tick(self) -> None:
        """Note the seconds if it was not done lately."""
        if time.perf_counter() - self._noted >= NOTE_EVERY:
            self.note()

    def note(self) -> None:
        """Note the seconds."""
        self._noted = time.perf_counter()
        runs.update_results(self.run, total_seconds=self._before + self._noted - self._began)


def film_run(session: Session, tasks: list[str]) -> str | None:
    """One film per task, but those kept; returns why there are none when OpenGL is missing."""
    from uncap.evaluation.video import record

    run = session.run
    policy, meta = run_policy(run)
    kept = Kept(run)
    for number, task in enumerate(tasks, start=1):
        path = run / "videos" / f"{task}.mp4"
        film = f"{task} {session.config.film_width}"  # pixels
        if path.exists() and kept.has_film(film):
            continue
        try:
            outcome = record(
                policy,
                task,
                path,
                conditioning=meta["conditioning"],
                known_tasks=meta["known"],
                sensors=meta["sensors"],
                episode_steps=meta["episode_steps"],
                attempts=meta["attempts"],
                width=session.config.film_width,
            )
        except RenderingUnavailable as error:
            return str(error)
        films = runs.read_results(run).get("films", {})
        shown = {"success": outcome["success"], "progress": outcome["progress"]}
        runs.update_results(run, films={**films, task: shown})
        kept.note_film(film)
        session.report("videos", number, len(tasks), task)
    return None
