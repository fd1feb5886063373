"""Tuning: Optuna chooses values of flags, trial by trial, by what trainings reach in validation.

Each trial is trained with every seed of the study, in processes of their own, as the cells of a
comparison are. What is known of a study lies in the folders of its trainings; nothing else has to
be kept, so that a study that was stopped or killed goes on, and more trials can be added to it.
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from uncap.agents.files import owned, write_json
from uncap.agents.settings import as_words
from uncap.evaluation import places, program, runs
from uncap.evaluation.compare import Cells, Check, check_cells, is_finished, record_of
from uncap.evaluation.compare_report import aligned, read_curve
from uncap.evaluation.config import TuneConfig
from uncap.evaluation.effects import unused_in_cell
from uncap.evaluation.grid import (
    KEYS,
    Axes,
    Cell,
    Configuration,
    flag_value,
    flattened,
    label,
    read_toml,
    seeds_of,
)
from uncap.evaluation.places import Command, Place, train_command
from uncap.evaluation.progress import Bars

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STUDY_KEYS = {
    **{key: KEYS[key] for key in ("name", "seeds", "common")},
    "trials": (int, "a whole number"),
    "objective": (str, "a string"),
    "tune": (dict, "a table"),
}
MOST_TRIALS = 1_000
_RANGE = ("low", "high", "log", "step")
_SHOWN = 10  # trials in the table
_TRIAL = re.compile(r"trial-(\d+)-seed\d+\.json")


def _best(validation: np.ndarray) -> float:
    return float(validation.max())


def _mean(validation: np.ndarray) -> float:
    return float(validation.mean())


# What a training is worth, from its successes in validation (n,): of trained rows, on starts of
# their own. Held-out rows and evaluation starts are not tuned on.
OBJECTIVES: dict[str, Callable[[np.ndarray], float]] = {"best": _best, "mean": _mean}


@dataclasses.dataclass(frozen=True)
class Study:
    """What is tuned.

    Attributes:
        name: of its folder.
        seeds: with which each trial is trained.
        trials: how many.
        objective: a row of OBJECTIVES.
        common: flags that stay.
        space: the flags that are tuned, and the values that they may have.
    """

    name: str
    seeds: tuple[int, ...]
    trials: int
    objective: str
    common: dict[str, Any]
    space: dict[str, BaseDistribution]

    def cells(self, trial: Trial) -> list[Cell]:
        """The trainings of a trial."""
        return self._cells(f"trial {trial.number:03}", trial.values)

    def _cells(self, name: str, values: Mapping[str, Any]) -> list[Cell]:
        """The trainings with these values, by every seed."""
        configuration = Configuration(name, tuple({**self.common, **values}.items()))
        return [Cell(configuration, seed) for seed in self.seeds]

    def corners(self) -> list[Cell]:
        """Trainings in which each value of a list stands once, and both ends of each range.

        The other flags have their first values in them.
        """
        values = {key: _extremes(distribution) for key, distribution in self.space.items()}
        firsts = {key: those[0] for key, those in values.items()}
        picks = [{**firsts, key: value} for key, those in values.items() for value in those]
        return [cell for pick in picks for cell in self._cells(label(pick), pick)]

    def on(self, engine: str | None) -> Study:
        """The same on an engine, where the file says none; None: as it is."""
        if engine is None or "engine" in self.space:
            return self
        return dataclasses.replace(self, common={"engine": engine, **self.common})


@dataclasses.dataclass(frozen=True)
class Trial:
    """Values of the flags that are tuned; what is reached with them is told with every seed."""

    number: int
    values: dict[str, Any]
    scores: tuple[float | None, ...] = ()  # by seed; None of one that is not finished

    @property
    def score(self) -> float | None:
        """The mean over seeds; None while one of them is not finished."""
        finished = [score for score in self.scores if score is not None]
        whole = bool(finished) and len(finished) == len(self.scores)
        return float(np.mean(finished)) if whole else None


def tune(
    config: TuneConfig,
    axes: Axes,
    console: Console,
    command: Command = train_command,
    check: Check | None = None,
) -> dict:
    """Train the trials of a study that are not trained yet, and say which is the best.

    Args:
        config: the study, and where it is trained; the same folder goes on.
        axes: the flags that may be tuned.
        console: for the bar and the table.
        command: makes a training's process from its arguments.
        check: refuses a training of a study that has none yet; None: none is refused.

    Returns:
        What tune.json holds.

    Raises:
        ValueError: a mistake in the study, or a folder of another one; nothing was started.
        RunError: trainings failed; the table of the others is written and printed.
    """
    if config.ray and config.jobs is None:
        raise ValueError("--ray needs --jobs here: which values are tried depends on it")
    read_toml(config.grid, STUDY_KEYS)  # what is wrong with the file is said first
    check_installed()
    study = read_study(config.grid, axes).on(config.engine)
    out = config.out or pathlib.Path("runs") / Configuration(study.name, ()).folder
    folder = out / "cells"
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not folder.is_dir())):
        raise runs.RunError(f"{out} exists and is no study: choose another --out")
    is_new = not begun(study, folder)  # refuses those of another study
    if check and is_new:
        check_cells(study.corners(), check)
    folder.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    stopped = False
    bars = Bars(console)
    with places.opened(config.ray, config.jobs, command, [study.common]) as place, owned(out):
        with bars.progress:
            while not stopped and (batch := _next(study, folder, place.jobs, config.seed, failed)):
                stopped = _train(batch, study, folder, place, failed, bars)
        found = _write(study, out, begun(study, folder), failed, console)
    if stopped:
        engine = ("--engine", config.engine) if config.engine else ()
        where = places.words_of(config.ray, config.jobs)
        words = program.command("tune", config.grid, "--out", out, *engine, *where)
        console.print(f"stopped; go on with: {words}", markup=False)
    elif failed:
        raise runs.RunError(
            f"{len(failed)} trainings failed: {', '.join(failed)} (logs: {folder}/*.log)"
        )
    return found


def check_installed() -> None:
    """Refuse if Optuna is missing.

    Raises:
        ValueError: it is.
    """
    try:
        import optuna  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError("tuning needs Optuna: pip install 'uncap[tune]'") from None


def read_study(path: pathlib.Path, axes: Axes) -> Study:
    """The study of a TOML file; keys: name, seeds, trials, objective, [common], [tune].

    Args:
        path: the file.
        axes: the flags that may be tuned.

    Raises:
        ValueError: in one line, what is wrong in it and what is allowed.
    """
    raw = read_toml(path, STUDY_KEYS)
    try:
        return _study(raw, path.stem, axes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _study(raw: dict[str, Any], stem: str, axes: Axes) -> Study:
    common = {
        key: flag_value(key, value, axes, "[common]")
        for key, value in flattened(raw.get("common", {}), axes)
    }
    space = {}
    for key, given in flattened(raw.get("tune", {}), axes):
        if key in common:
            raise ValueError(f"{key} is in [common] and in [tune]; allowed in one of them")
        space[key] = _distribution(key, given, axes)
    if not space:
        raise ValueError(
            "nothing to tune: give [tune] with lists of values, or ranges {low = ..., high = ...}"
        )
    trials, objective = raw.get("trials", 20), raw.get("objective", "best")
    if not 1 <= trials <= MOST_TRIALS:
        raise ValueError(f"trials must be from 1 to {MOST_TRIALS:,}, not {trials}")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, not {objective!r}")
    name = raw.get("name", stem)
    if not Configuration(name, ()).folder:
        raise ValueError(f"the name {name!r} names no folder; it needs a letter or a digit")
    return Study(name, seeds_of(raw.get("seeds", 1)), trials, objective, common, space)


def _extremes(distribution: Any) -> Sequence[Any]:
    """The values of a list, or the ends of a range."""
    if hasattr(distribution, "choices"):
        return distribution.choices
    return distribution.low, distribution.high


def _distribution(key: str, given: Any, axes: Axes) -> BaseDistribution:
    """The values that a flag may have: one of a list, or a number of a range.

    Raises:
        ValueError: it is neither, or the flag takes no such value.
    """
    from optuna.distributions import (  # optional
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    where = "[tune]"
    if isinstance(given, list) and given:
        values = [flag_value(key, value, axes, where) for value in given]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of tuples: Optuna stores nothing here
            return CategoricalDistribution(values)
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= set(_RANGE):
        raise ValueError(
            f"{where} {key} must be a list of values, or a range such as "
            f"{{low = 1e-4, high = 1e-2, log = true}} (keys: {', '.join(_RANGE)}), not {given!r}"
        )
    ends = [flag_value(key, given[end], axes, where) for end in ("low", "high")]
    log, step = given.get("log", False), given.get("step")
    if any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise ValueError(f"{where} {key} has no range: give a list of its values")
    if not isinstance(log, bool):
        raise ValueError(f"{where} {key}: log must be true or false, not {log!r}")
    whole = all(isinstance(end, int) for end in ends)
    if step is not None and type(step) is not (int if whole else float):
        sort = "a whole number" if whole else "a number with a point"
        raise ValueError(f"{where} {key}: step must be {sort}, not {step!r}")
    try:
        if whole:
            return IntDistribution(*map(int, ends), log=log, step=1 if step is None else int(step))
        return FloatDistribution(*ends, log=log, step=step)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} {key}: {error}") from None


def begun(study: Study, folder: pathlib.Path) -> list[Trial]:
    """The trials of a study that were started, in their order.

    Raises:
        RunError: one of them is of another study, or it is not known of which.
    """
    for run in folder.glob("trial-*/"):
        if not run.with_name(f"{run.name}.json").exists():
            raise runs.RunError(
                f"{run}.json is missing: with what flags it was trained is not known; delete {run} "
                "to train it anew"
            )
    found: dict[int, Trial] = {}
    for record in sorted(folder.glob("trial-*.json")):
        match = _TRIAL.fullmatch(record.name)
        if match is None or int(match[1]) in found:
            continue
        number = int(match[1])
        flags = record_of(record.with_suffix("")).get("flags", {})
        values = {key: flags[key] for key in study.space if key in flags}
        _check_belongs(study, values, flags, record)
        trial = Trial(number, values)
        scores = tuple(_score(folder / cell.name, study) for cell in study.cells(trial))
        found[number] = dataclasses.replace(trial, scores=scores)
    return [found[number] for number in sorted(found)]


def _check_belongs(
    study: Study, values: Mapping[str, Any], flags: Mapping[str, Any], record: pathlib.Path
) -> None:
    """Refuse a training that the study would not have started.

    Raises:
        RunError: its flags are others.
    """
    try:
        _frozen(study, Trial(0, dict(values)), 0.0)
        inside = True
    except ValueError:  # a value that it would not choose, or none
        inside = False
    if not inside or {**study.common, **values} != flags:
        raise runs.RunError(
            f"{record.with_suffix('')} was trained with flags that the study does not give: "
            "choose another --out or name"
        )


def _score(run: pathlib.Path, study: Study) -> float | None:
    """What a training is worth; None of one that is not finished.

    Raises:
        RunError: its metrics are lost.
    """
    if not is_finished(run):
        return None
    validation = read_curve(run).validation
    validation = validation[~np.isnan(validation)]
    if not len(validation):
        raise runs.RunError(
            f"{run / 'metrics.csv'} is damaged: it has no validation; delete {run} to train it anew"
        )
    return OBJECTIVES[study.objective](validation)


def _next(
    study: Study, folder: pathlib.Path, jobs: int, seed: int, failed: Mapping[str, str]
) -> list[Trial]:
    """The trials to train now: those that were not finished, then new ones; as many as jobs."""
    known = begun(study, folder)
    lost = {cell.name for cell in _cells(study, known) if cell.name in failed}
    waiting = [
        trial
        for trial in known
        if trial.score is None and not any(c.name in lost for c in study.cells(trial))
    ]
    free = max(1, jobs // len(study.seeds)) - len(waiting)
    new = min(free, study.trials - len(known))
    taken = {trial.number for trial in known}
    unused = (number for number in itertools.count() if number not in taken)
    numbers = itertools.islice(unused, max(new, 0))
    return waiting + [_ask(study, known, number, seed) for number in numbers]


def _cells(study: Study, trials: Sequence[Trial]) -> Iterator[Cell]:
    for trial in trials:
        yield from study.cells(trial)


def _ask(study: Study, known: Sequence[Trial], number: int, seed: int) -> Trial:
    """The next trial, from what is known of the others; the same for the same seed and number."""
    import optuna  # optional

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=_seed(seed, number))
        asked = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in known:
            if trial.score is not None:
                asked.add_trial(_frozen(study, trial, trial.score))
        values = asked.ask(dict(study.space)).params
    return Trial(number, {key: values[key] for key in study.space})


def _frozen(study: Study, trial: Trial, score: float) -> FrozenTrial:
    """A trial as Optuna knows it.

    Raises:
        ValueError: the study gives no such values.
    """
    from optuna.trial import create_trial  # optional

    return create_trial(params=dict(trial.values), distributions=dict(study.space), value=score)


def _seed(seed: int, number: int) -> int:
    """Of the sampler of a trial."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _train(
    batch: Sequence[Trial],
    study: Study,
    folder: pathlib.Path,
    place: Place,
    failed: dict[str, str],
    bars: Bars,
) -> bool:
    """Train some trials; returns whether it was asked to stop. Failures are added to `failed`."""
    before = sum(score is not None for trial in begun(study, folder) for score in trial.scores)
    total = study.trials * len(study.seeds)
    cells = Cells(list(_cells(study, batch)), folder, place)

    def report(_phase: str, done: float, _total: int, text: str) -> None:
        bars("trainings", before + done, total, text)

    cells.run(report)
    failed.update(cells.failed)
    return cells.stopped


def _write(
    study: Study,
    out: pathlib.Path,
    trials: Sequence[Trial],
    failed: Mapping[str, str],
    console: Console,
) -> dict:
    """Write tune.json and print the best trials, and the flags of the best one."""
    finished = [trial for trial in trials if trial.score is not None]
    ranked = sorted(finished, key=lambda trial: (-(trial.score or 0.0), trial.number))
    found = {
        "name": study.name,
        "objective": study.objective,
        "seeds": list(study.seeds),
        "trials": [
            {"number": t.number, "values": t.values, "score": t.score, "scores": list(t.scores)}
            for t in trials
        ],
        "best": ranked[0].number if ranked else None,
        "failed": dict(failed),
        "machine": runs.machine(),
    }
    write_json(out / "tune.json", found)
    if not ranked:
        console.print("no trial is finished yet")
        return found
    heading = ["trial", "validation", *study.space]
    lines = [
        [f"{t.number:03}", f"{t.score:.4f}", *(_short(t.values[key]) for key in study.space)]
        for t in ranked[:_SHOWN]
    ]
    for line in aligned([heading, *lines]):
        console.print(line, markup=False)
    flags = {**study.common, **ranked[0].values}
    unused = unused_in_cell(flags)
    words = [
        word for key, value in flags.items() if key not in unused for word in as_words(key, value)
    ]
    console.print(f"train with the best: {program.command('train', *words)}", markup=False)
    return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
