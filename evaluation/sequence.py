"""Task sequences: rows are learned one after the other, and all are tested after each.

Measures of continual learning, over starts of the tests:

- accuracy: mean success of all rows at the end;
- forgetting: how much each row but the last has lost at the end from the best it ever had (Chaudhry
  et al., 2018);
- forward transfer: success on each row just before it is learned, less that of a policy that has
  learned nothing (Lopez-Paz and Ranzato, 2017).
"""

from __future__ import annotations

import csv
import functools
import io
import pathlib
import shutil
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from uncap.agents import checkpoints
from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig
from uncap.agents.files import FileError, replacing, write_json, write_text
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting, load_policy
from uncap.agents.rehearsal import REHEARSALS, Before, Rehearsing, told_vectors
from uncap.envs import CLOSURES, named_set
from uncap.envs.distances import distance
from uncap.evaluation import runs
from uncap.evaluation.config import SequenceConfig
from uncap.evaluation.protocol import evaluate
from uncap.evaluation.run_shapes import SEQUENCE
from uncap.evaluation.statistics import interval_of_starts, wilson

LEARNERS = {
    **{name: row.words for name, row in REHEARSALS.items()},
    "joint": "a new policy for all rows so far, with as many steps of each: the upper bound",
    "alone": "a new policy for each row, with its steps alone",
}
FILE, TABLE, PICTURE = "sequence.json", "sequence.csv", "sequence.png"
_AFTER, _LATEST = "after", "latest"  # checkpoints: after so many rows; within the present one
_SAVES = 10  # in each row
_DRAWS = 2000  # of the bootstrap

Report = Callable[[str, float, float, str], None]


def rows_of(config: SequenceConfig) -> tuple[str, ...]:
    """The rows in their order.

    Raises:
        ValueError: fewer than two; rows and a task set, or neither; an order of named rows.
    """
    if bool(config.tasks) == (config.task_set is not None):
        raise ValueError("name two rows or more, or give --task-set: one of both")
    if config.tasks:
        rows = config.tasks
        if config.order != "given":
            raise ValueError("--order goes with --task-set: rows that are named have their order")
    else:
        rows = _ordered(named_set(str(config.task_set)).train, config.order, config.seed)
    if len(rows) < 2 or len(set(rows)) < len(rows):
        raise ValueError(f"a sequence needs two different rows or more, not {', '.join(rows)}")
    return tuple(rows)


def _ordered(rows: Sequence[str], order: str, seed: int) -> tuple[str, ...]:
    """Rows as they are given; from near to the first one to far, the other way round, or drawn."""
    if order == "drawn":
        return tuple(np.random.default_rng(seed).permutation(rows).tolist())
    if order in ("near", "far"):
        first = CLOSURES[rows[0]]
        by_distance = sorted(rows, key=lambda name: distance(CLOSURES[name], first))
        return tuple(by_distance if order == "near" else by_distance[::-1])
    return tuple(rows)


class TaskSequence:
    """A sequence that is learned in a folder, from where it was left.

    Args:
        out: the folder.
        config: settings.
        report: called with (phase, done, total, text).
        stop: whether a stop was asked for.

    Attributes:
        rows: in their order.
        outcomes: of each test, before the first row and after each: 0 or 1 by row and start.

    Raises:
        FileError: the folder holds another sequence, or is damaged.
        ValueError: see `rows_of`.
    """

    def __init__(
        self, out: pathlib.Path, config: SequenceConfig, report: Report, stop: Callable[[], bool]
    ):
        self.out = out
        self.config = config
        self.report = report
        self.stop = stop
        self.rows = rows_of(config)
        self.settings = {
            "rows": list(self.rows),
            "learner": config.learner,
            "conditioning": config.conditioning,
            "steps": config.steps,
            "seed": config.seed,
            "episodes": config.episodes,
            "kept_episodes": config.kept_episodes,
            "num_envs": config.num_envs,
            "body": config.body,
            "width": config.width,
            "engine": config.engine,
        }
        self.outcomes: list[list[list[int]]] = self._read()

    def _read(self) -> list[list[list[int]]]:
        """What was found out in the folder before."""
        if not (self.out / FILE).exists():
            return []
        found = runs.read_shaped(self.out / FILE, SEQUENCE, "choose another --out")
        settings = {"engine": "cpu", **found["settings"]}  # older ones do not say it
        if settings != self.settings:
            changed = [k for k, v in self.settings.items() if settings.get(k) != v]
            raise FileError(
                f"{self.out} holds a sequence with another {', '.join(changed)}: choose another "
                "--out"
            )
        sizes = np.shape(found["outcomes"])
        if len(sizes) != 3 or sizes[1:] != (len(self.rows), self.config.episodes):
            raise FileError(f"{self.out / FILE} is damaged: choose another --out")
        return found["outcomes"]

    def run(self) -> bool:
        """Learn and test what is left; False if stopped (the state is saved)."""
        self.out.mkdir(parents=True, exist_ok=True)
        while (number := len(self.outcomes) - 1) < len(self.rows):
            if number < 0:
                tested = self._tested(self._learner(0))
            else:
                learner = self._learner(number)
                if not self._learn(learner, number):
                    return False
                tested = self._tested(learner)
                if self.config.learner == "alone" and number:
                    tested = [*self.outcomes[-1][:number], *tested[number:]]
                learner.save(self._after(number + 1), teacher=False)
            self.outcomes.append(tested)
            self._write()  # from here on what is older is not needed
            shutil.rmtree(self.out / _LATEST, ignore_errors=True)
            shutil.rmtree(self._after(number), ignore_errors=True)
        return True

    def _after(self, number: int) -> pathlib.Path:
        """The checkpoint of the policy that has learned so many rows."""
        return self.out / f"{_AFTER}-{number}"

    def _learner(self, number: int) -> Learner:
        """Who learns row `number`."""
        config = LearnerConfig(
            conditioning=self.config.conditioning,
            num_envs=self.config.num_envs,
            engine=self.config.engine,
            warm=True,
            network=NetworkConfig(body=self.config.body, width=self.config.width),
        )
        learner = Learner(self._of_learner(number), config, self.config.seed, self.rows)
        if self.config.learner in REHEARSALS:
            if number:
                learner.policy.adopt(load_policy(self._after(number))[0])
            only = np.zeros(len(self.rows))
            only[number] = 1.0
            learner.closures.probabilities = only
        return learner

    def _of_learner(self, number: int) -> tuple[str, ...]:
        """The rows that a learner has."""
        if self.config.learner == "joint":
            return self.rows[: number + 1]
        return (self.rows[number],) if self.config.learner == "alone" else self.rows

    def _learn(self, learner: Learner, number: int) -> bool:
        """Learn a row, from where that was left; False if stopped."""
        latest = self.out / _LATEST / str(number)  # an older row's may be left by a kill
        steps = self.config.steps * (number + 1 if self.config.learner == "joint" else 1)
        if checkpoints.exists(latest):
            learner.resume(latest)
        saved = 0

        def on_round(done: int, loss: float) -> bool:
            nonlocal saved
            self._show(number, done / steps, f"{self.rows[number]}, loss {loss:.3f}")
            part = int(_SAVES * done / steps)
            if part > saved or self.stop():
                saved = part
                learner.save(latest)
            return not self.stop()

        make = self._teacher(learner, number)
        learner.imitate_experts(DaggerConfig(steps=steps), on_round, make, phase=number)
        return not self.stop()

    def _teacher(self, learner: Learner, number: int) -> Callable[..., Any] | None:
        """What makes the teacher of a row; None: the usual one."""
        if self.config.learner not in REHEARSALS or not number:
            return None
        policy, _ = load_policy(self._after(number))
        before = Before(
            policy,
            self.rows[:number],
            np.arange(number),
            told_vectors(learner.closures.task_vectors, range(number)),
            self.config.kept_episodes,
            learner.sensors,
            learner.episode_steps,
            self.config.engine,
        )
        rehearse = REHEARSALS[self.config.learner].prepare(before)
        return functools.partial(Rehearsing, rehearse=rehearse) if rehearse else None

    def _tested(self, learner: Learner) -> list[list[int]]:
        """Outcomes (rows, starts) of the policy as it is now."""
        table = evaluate(
            Acting(learner.policy, learner.tasks),
            self.rows,
            self.config.episodes,
            conditioning=self.config.conditioning,
            known_tasks=self.rows,
        )
        return [[int(e.success) for e in table if e.task == row] for row in self.rows]

    def _show(self, number: int, share: float, text: str) -> None:
        self.report("sequence", number + min(1.0, share), len(self.rows), text)

    def _write(self) -> None:
        """Write what was found out so far; last what a further session goes by."""
        found = {"settings": self.settings, "outcomes": self.outcomes}
        if len(self.outcomes) > len(self.rows):
            found["measures"] = measures(np.array(self.outcomes))
        write_text(self.out / TABLE, as_csv(self.rows, self.outcomes))
        with replacing(self.out / PICTURE) as temporary:
            picture(self.rows, self.outcomes, self.config.learner).savefig(
                temporary, format="png", dpi=130
            )
        write_json(self.out / FILE, found)


def measures(outcomes: np.ndarray) -> dict[str, list[float]]:
    """Accuracy, forgetting and forward transfer, with 95 % bootstrap intervals over starts.

    Where all draws are the same, see `statistics.interval_of_starts`.

    Args:
        outcomes: (tests, rows, starts), the first test before anything was learned.
    """
    rng = np.random.default_rng(0)
    count = outcomes.shape[2]
    starts = rng.integers(count, size=(_DRAWS, count))
    resampled = [_measured(outcomes[:, :, picked].mean(2)) for picked in starts]
    found = {}
    for name, value in _measured(outcomes.mean(2)).items():
        values = [one[name] for one in resampled]
        least = 0.0 if name == "accuracy" else -1.0
        found[name] = [value, *interval_of_starts(value, values, count, least)]
    return found


def _measured(success: np.ndarray) -> dict[str, float]:
    """The measures of success (tests, rows)."""
    untaught, after = success[0], success[1:]
    last = after[-1]
    lost = after[:-1, :-1].max(0) - last[:-1]  # below 0 where the row is at its best at the end
    rows = np.arange(1, len(last))
    before_it_is_learned = after[rows - 1, rows]
    return {
        "accuracy": float(last.mean()),
        "forgetting": float(lost.mean()),
        "forward_transfer": float((before_it_is_learned - untaught[1:]).mean()),
    }


def as_csv(rows: Sequence[str], outcomes: Sequence[Sequence[Sequence[int]]]) -> str:
    """The accuracy matrix: a line for each test and row, with Wilson's interval."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["learned", "last", "row", "success", "low", "high", "episodes"])
    for number, test in enumerate(outcomes):
        last = rows[number - 1] if number else ""
        for row, found in zip(rows, test, strict=True):
            low, high = wilson(sum(found), len(found))
            rate = sum(found) / len(found)
            numbers = (f"{value:.4f}" for value in (rate, low, high))
            writer.writerow([number, last, row, *numbers, len(found)])
    return buffer.getvalue()


def picture(
    rows: Sequence[str], outcomes: Sequence[Sequence[Sequence[int]]], learner: str
) -> Figure:
    """The accuracy matrix: a line for each test, a column for each row; what is learned framed."""
    success = np.array(outcomes).mean(2)  # (tests, rows)
    figure = Figure(figsize=(0.62 * len(rows) + 3.0, 0.42 * len(success) + 2.2))
    axes = figure.add_subplot()
    axes.imshow(success, cmap="RdYlGn", vmin=0, vmax=1, aspect="auto")
    for (test, row), value in np.ndenumerate(success):
        ink = "black" if 0.2 < value < 0.85 else "white"  # both ends of the colours are dark
        axes.text(row, test, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
        if test == row + 1:
            frame: dict[str, Any] = {"fill": False, "edgecolor": "black", "lw": 1.8}
            axes.add_patch(Rectangle((row - 0.5, test - 0.5), 1, 1, **frame))
    axes.set_xticks(range(len(rows)), rows, rotation=40, ha="right", fontsize=8)
    tests = ["nothing", *rows[: len(success) - 1]]
    axes.set_yticks(range(len(success)), [f"after {name}" for name in tests], fontsize=8)
    axes.set_title(f"{learner}: success on every row after each was learned", fontsize=9)
    figure.tight_layout()
    return figure


def lines(rows: Sequence[str], outcomes: np.ndarray) -> list[str]:
    """What is printed at the end: a line for each row, and the measures."""
    success = outcomes.mean(2)
    width = max(map(len, rows))
    found = []
    for number, row in enumerate(rows):
        of_row = success[:, number]
        found.append(
            f"{row:{width}}  before it was learned {of_row[number]:.2f}, then "
            f"{of_row[number + 1]:.2f}, at the end {of_row[-1]:.2f}"
        )
    for name, (value, low, high) in measures(outcomes).items():
        found.append(f"{name.replace('_', ' ')} {value:.2f} [{low:.2f}, {high:.2f}]")
    return found
