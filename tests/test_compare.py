"""Comparisons: statistics by hand, grids that are refused, and runs of a stand-in for training.

The stand-in stops, goes on and fails.
"""

import csv
import dataclasses
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from rich.console import Console

from uncap.agents.files import Busy, owned, read_json, write_json
from uncap.agents.settings import flags, setting
from uncap.evaluation import commands
from uncap.evaluation.compare import compare
from uncap.evaluation.config import CompareConfig, TuneConfig
from uncap.evaluation.grid import Grid, axes, read_grid
from uncap.evaluation.runs import RunError
from uncap.evaluation.statistics import iqm, stratified_bootstrap

ROOT = pathlib.Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of the stand-in."""

    conditioning: str = setting("none", "what it is told", choices=("none", "one_hot"))
    task_set: str = setting("first", "how it goes")
    env_steps: int = setting(100, "steps")
    rate: float = setting(1.0, "a number")
    videos: bool = setting(True, "a switch")
    deviations: tuple[tuple[int, float], ...] = setting(((0, 0.5),), "pairs")


AXES = {flag.key: flag for flag in flags(Options())}
# A training of two validations. --task-set says how it goes: `bad` fails with seed 1, `slow` waits
# for an interrupt, then saves and has to be resumed, `orphan` waits for a file `go`.
# The numbers follow from conditioning and seed.
STUB = """
import json, os, pathlib, signal, sys, time

words = sys.argv[1:]


def get(name, default=None):
    return words[words.index(name) + 1] if name in words else default


def wait_for_an_interrupt_and_save(out):
    asked = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    (out / "ready").write_text("")
    while not asked:
        time.sleep(0.05)
    time.sleep(0.3)
    (out / "saved").write_text(str(len(asked)))
    sys.exit(0)


resumed = get("--resume")
out = pathlib.Path(resumed or get("--out"))
with open(out.parent / "calls", "a") as calls:
    calls.write(" ".join(words).replace(str(out), "RUN") + chr(10))
if get("--task-set") == "bad" and get("--seed") == "1":
    sys.exit("error: diverged")
out.mkdir(exist_ok=True)
(out / "config.json").write_text('{"format": 1}')
if get("--task-set") == "slow" and not resumed:
    wait_for_an_interrupt_and_save(out)

if get("--task-set") == "orphan" and not resumed:
    (out / "ready").write_text(str(os.getpid()))
    while not (out.parent / "go").exists():
        time.sleep(0.05)

quick = get("--conditioning") == "one_hot"
seed = int(get("--seed", 0))
first, last = (0.4, 0.6) if quick else (0.2, 1.0)
first += 0.1 * seed
rows = [(100, 10, ""), (200, 20, first), (300, 30, ""), (400, 40, last)]
if quick:  # faster by the clock, with fewer steps
    rows = [(steps - 50, seconds / 2, score) for steps, seconds, score in rows]
lines = ["phase,env_steps,seconds,loss,validation,success/mug"]
lines += [f"ppo,{steps},{seconds},,{score}," for steps, seconds, score in rows]
(out / "metrics.csv").write_text(chr(10).join([*lines, ""]))
steps, seconds, _ = rows[-1]
rest = {"low": 0, "high": 1, "episodes": 2, "success_any": 1, "progress": 1, "steps_to_success": 9}
results = {
    "mean_success": (last + first) / 2,
    "worst_success": min(first, last),
    "per_task": {"mug": {"success": last, **rest}, "jar": {"success": first, **rest}},
    "train": {"env_steps": steps, "wall_seconds": seconds + 2},
}
(out / "results.json").write_text(json.dumps(results))
(out / "kept.json").unlink(missing_ok=True)
"""
GRID = """
seeds = 2
[common]
videos = false
[vary]
conditioning = ["none", "one_hot"]
"""


ONE_RATE = "[vary]\nrate = [1]"


def cell_named(label: str, rate: int) -> str:
    """A cell in TOML."""
    return f'[[cells]]\nlabel = "{label}"\nrate = {rate}'


class StandIn:
    """Comparisons whose trainings are the stand-in's.

    Attributes:
        out: folder of the comparison.
        cells: folder of its run folders.
        calls: file with the command line of every training.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.out = folder / "out"
        self.cells = self.out / "cells"
        folder.mkdir(exist_ok=True)
        (folder / "stub.py").write_text(STUB)

    @property
    def calls(self) -> pathlib.Path:
        return self.cells / "calls"

    def command(self, words) -> list[str]:
        return [sys.executable, "-S", str(self.folder / "stub.py"), *words]

    def __call__(self, grid=GRID, jobs=2, **more) -> dict:
        """What comes of comparing the cells of a grid."""
        path = self.folder / "grid.toml"
        path.write_text(grid)
        config = CompareConfig(grid=path, out=self.out, jobs=jobs, **more)
        return compare(config, AXES, Console(quiet=True), self.command)

    def command_lines(self) -> list[str]:
        """Of the trainings so far."""
        return self.calls.read_text().splitlines()


@pytest.fixture
def job(tmp_path) -> StandIn:
    return StandIn(tmp_path)


def read_text(text: str, folder: pathlib.Path, allowed=AXES) -> Grid:
    """The grid of a TOML text."""
    path = folder / "grid.toml"
    path.write_text(text)
    return read_grid(path, allowed)


# Statistics


def test_iqm_by_hand():
    assert iqm(np.array([[0, 1, 2, 3], [4, 5, 6, 70]])) == 3.5  # 2 of 8 are cut at each end
    # A quarter of 3 is less than one: nothing is cut.
    assert iqm(np.array([[0.0, 1.0, 5.0]])) == 2.0
    with pytest.raises(ValueError, match="at least one"):
        iqm(np.empty((0, 3)))


def test_a_bootstrap_covers_the_mean():
    draw = np.random.default_rng(1)
    scores = draw.normal(0.5, [0.1, 0.1, 0.3], (60, 3))  # (runs, tasks)
    # The tasks are resampled independently: their variances add up.
    half = 1.96 * np.sqrt((scores.var(0) / 60).sum()) / 3
    low, high = stratified_bootstrap(scores, draw, np.mean)
    assert low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.1 * half)
    assert low < 0.5 < high


def test_a_bootstrap_is_deterministic():
    scores = np.random.default_rng(1).normal(size=(4, 5))
    first, second = (
        stratified_bootstrap(scores, np.random.default_rng(7), iqm, 300) for _ in range(2)
    )
    assert first == second
    low, high = first
    assert low < iqm(scores) < high


def test_a_bootstrap_keeps_tasks_apart():
    # The runs agree on each task: there is nothing to resample.
    apart = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert stratified_bootstrap(apart, np.random.default_rng(1), np.mean, 50) == (0.5, 0.5)


# Grids


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seeds = ", "not TOML"),
        ("sedes = 2", "unknown key 'sedes'; allowed: name, seeds, common, vary, cells"),
        ("seeds = 2", "nothing to compare"),
        (f"seeds = 0\n{ONE_RATE}", "1 or more"),
        (f"seeds = [1, 1]\n{ONE_RATE}", "different whole numbers"),
        (f"seeds = true\n{ONE_RATE}", "whole number or a list"),
        (f"name = 3\n{ONE_RATE}", "name must be a string"),
        ("vary = 3", "vary must be a table"),
        ("cells = [3]", "must be a table"),
        ("[vary]\nrate = []", "one value or more"),
        ("[vary]\nrate = 1", "one value or more"),
        ("[vary]\nspeed = [1]", "allowed: conditioning, task_set, env_steps, rate, videos"),
        ("[vary]\nseed = [1]", "sets itself"),
        ("[vary]\nenv_steps = [1.5]", "env_steps must be a whole number, not 1.5"),
        ("[vary]\nenv_steps = [true]", "whole number"),
        ('[vary]\nrate = ["x"]', "must be a number"),
        (f'[common]\nvideos = "no"\n{ONE_RATE}', "true or false"),
        ('[vary]\nconditioning = ["onehot"]', "allowed: none, one_hot"),
        (f"[common]\nrate = 1\n{ONE_RATE}", "in one of them"),
        ("[vary]\nrate = [1, 1.0]", "same configuration"),
        (f"{cell_named('a b', 1)}\n{cell_named('a/b', 2)}", "share a folder"),
        ('[[cells]]\nlabel = "?"', "letter or a digit"),
        ('[[cells]]\nlabel = ""', "not empty"),
        (f'name = "?"\n{ONE_RATE}', "names no folder"),
        (f"seeds = 1000000000\n{ONE_RATE}", "at most 1,000"),
        ("x = " + "[" * 5000, "not TOML"),
        ('[[cells]]\nlable = "x"', "allowed: label, conditioning"),
    ],
)
def test_mistakes_in_a_grid_get_one_line(text, says, tmp_path):
    with pytest.raises(ValueError) as error:
        read_text(text, tmp_path)
    message = str(error.value)
    assert says in message
    assert "grid.toml" in message
    assert "\n" not in message


def test_a_grid_is_every_combination_and_the_further_cells(tmp_path):
    text = """
        seeds = [3, 5]
        [common]
        env_steps = 1000
        [vary]
        conditioning = ["none", "one_hot"]
        videos = [true, false]
        [[cells]]
        label = "plain PPO"
        rate = 1
        env_steps = 2000
    """
    grid = read_text(text, tmp_path)
    assert grid.name == "grid"
    assert len(grid.cells) == 10
    assert [configuration.label for configuration in grid.configurations] == [
        "none, videos true",
        "none, videos false",
        "one_hot, videos true",
        "one_hot, videos false",
        "plain PPO",
    ]
    second = grid.cells[1]
    last = grid.cells[-1]
    words = "--env-steps 1000 --conditioning none --no-videos --seed 3"
    assert second.arguments == words.split()
    assert last.name == "plain-PPO-seed5"
    words = "--env-steps 2000 --rate 1.0 --seed 5"
    assert last.arguments == words.split()


def test_nested_settings_are_axes(tmp_path):
    text = """
        [common]
        ppo.clip = 0.1
        [vary]
        body = ["mlp", "film"]
        ppo.learning_rate = [1e-4, 3e-4]
        dagger.updates = [10]
        ppo.deviations = [[[0, 0.5], [1000, 0.1]]]
    """
    first, *_ = read_text(text, tmp_path, axes()).cells
    words = (
        "--ppo.clip 0.1 --body mlp --ppo.learning-rate 0.0001 "
        "--ppo.deviations 0 0.5 1000 0.1 --dagger.updates 10 --seed 0"
    )
    assert first.arguments == words.split()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ppo.learning_rate = [-1]", "ppo.learning_rate must be above 0, not -1"),
        ("ppo.rate = [1]", "unknown flag 'ppo.rate'"),
    ],
)
def test_nested_settings_have_limits(text, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        read_text(f"[vary]\n{text}", tmp_path, axes())


GRIDS = [path for path in sorted(ROOT.glob("benchmarks/*.toml")) if path.stem != "tune"]


@pytest.mark.parametrize("path", GRIDS, ids=lambda p: p.stem)
def test_every_benchmark_is_a_grid_of_jobs(path):
    grid = read_grid(path, axes())
    assert grid.name == path.stem
    assert grid.seeds == tuple(range(len(grid.seeds)))
    assert len(grid.seeds) in (1, 3, 10)
    for cell in grid.cells[: len(grid.configurations)]:  # of the first seed
        commands.check_cell(cell)
        assert cell.job.transfer.env_steps == 0


# Comparisons


def test_the_table_matches_hand_computed_values(job):
    found = job()
    none, one_hot = found["configurations"]
    # none: mug 1, 1 and jar 0.2, 0.3: of four entries one is cut at each end
    assert none["iqm"] == pytest.approx((0.3 + 1.0) / 2)
    assert none["mean"] == pytest.approx(2.5 / 4)
    assert none["worst"] == pytest.approx(0.25)
    assert none["worst_task"] == "jar"
    assert none["train_seconds"] == 42
    assert none["env_steps"] == 400
    assert none["n"] == 2
    assert none["missing"] == []
    assert 0.2 <= none["low"] <= none["iqm"] <= none["high"] <= 1.0
    assert one_hot["iqm"] == pytest.approx((0.5 + 0.6) / 2)
    # one_hot ends after 20 s and 350 steps. At 20 s none has its first validation, and at 350
    # steps still that one.
    assert found["equal_seconds"] == 20
    assert found["equal_steps"] == 350
    assert none["at_equal_seconds"] == pytest.approx(0.25)
    assert none["at_equal_steps"] == pytest.approx(0.25)
    assert one_hot["at_equal_seconds"] == pytest.approx(0.6)
    assert one_hot["at_equal_steps"] == pytest.approx(0.6)


def test_the_table_is_written_in_every_format(job):
    found = job()
    assert read_json(job.out / "compare.json", "") == found
    rows = list(csv.DictReader((job.out / "compare.csv").read_text().splitlines()))
    means = [configuration["mean"] for configuration in found["configurations"]]
    assert [float(row["mean"]) for row in rows] == means
    text = (job.out / "compare.txt").read_text()
    page = (job.out / "compare.html").read_text()
    assert "at 20 s" in text
    assert "0.650" in text
    assert "0.650" in page
    assert "src='http" not in page
    assert not list(job.out.rglob("*.tmp"))


def test_what_is_finished_is_not_trained_again(job):
    found = job()
    calls = job.command_lines()
    assert min(calls) == "--no-videos --conditioning none --seed 0 --out RUN"
    assert job() == found
    assert job.command_lines() == calls


def test_a_training_that_was_killed_after_its_evaluation_goes_on(job):
    found = job()
    calls = job.command_lines()
    (job.cells / "none-seed0/kept.json").write_text("{}")  # there until the report is made
    assert job() == found
    assert job.command_lines() == [*calls, "--no-videos --resume RUN"]


def test_a_grid_that_changed_its_flags_is_refused(job):
    job()
    with pytest.raises(RunError, match="other flags"):
        job(GRID.replace("false", "true"))


def test_a_grid_with_flags_that_are_lists_of_pairs_goes_on(job):
    grid = "[common]\ndeviations = [[0, 0.5], [9, 0.1]]\n[vary]\nrate = [1]\n"
    job(grid)
    job(grid)
    with pytest.raises(RunError, match="other flags"):
        job(grid.replace("0.1", "0.2"))


@pytest.mark.parametrize(
    ("command", "kind", "table"),
    [(commands.compare, CompareConfig, "vary"), (commands.tune, TuneConfig, "tune")],
)
def test_a_cell_that_cannot_be_is_refused_before_any_is_trained(command, kind, table, tmp_path):
    if command is commands.tune:
        pytest.importorskip("optuna")
    path = tmp_path / "grid.toml"
    path.write_text(f'[common]\nenv_steps = 0\n[{table}]\nwarm_start = ["dagger", "none"]\n')
    with pytest.raises(ValueError, match="the cell 'none': --env-steps 0 leaves nothing to learn"):
        command(kind(grid=path, out=tmp_path / "out"), Console(quiet=True))
    assert not (tmp_path / "out").exists()


def test_a_finished_cell_is_not_refused(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text('seeds = 2\n[vary]\nconditioning = ["none"]\n')
    stand_in = StandIn(tmp_path)
    config = CompareConfig(grid=path, out=tmp_path / "out")
    compare(config, AXES, Console(quiet=True), stand_in.command)
    path.write_text(path.read_text().replace("2", "3"))
    refused = []

    def check(cell):
        refused.append(cell.seed)
        raise ValueError("no")

    with pytest.raises(ValueError, match="the cell 'none': no"):
        compare(config, AXES, Console(quiet=True), stand_in.command, check)
    assert refused == [2]


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "grid.toml").write_text(GRID)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("x")
    config = CompareConfig(grid=tmp_path / "grid.toml", out=tmp_path / "precious")
    with pytest.raises(RunError, match="no comparison"):
        compare(config, AXES, Console(quiet=True))


def test_a_failed_cell_is_reported_and_the_others_go_on(job):
    grid = GRID + '[[cells]]\nlabel = "fails"\ntask_set = "bad"\n'
    with pytest.raises(RunError, match="1 of 6 cells failed: fails-seed1"):
        job(grid)
    found = json.loads((job.out / "compare.json").read_text())
    assert found["failed"] == {"fails-seed1": "exit 1: error: diverged"}
    fails = found["configurations"][2]
    assert fails["n"] == 1
    assert fails["missing"] == [1]
    assert fails["low"] is None
    assert fails["mean"] == pytest.approx(0.6)
    text = (job.out / "compare.txt").read_text()
    assert "1 of 2 !" in text
    assert "failed: fails-seed1: exit 1: error: diverged" in text
    before = len(job.command_lines())
    with pytest.raises(RunError, match="fails-seed1"):
        job(grid)
    assert len(job.command_lines()) == before + 1  # only that one was tried again


def test_a_validation_that_came_too_late_is_not_available(job):
    grid = 'seeds = 1\n[vary]\nconditioning = ["none", "one_hot"]\n'
    job(grid)
    short = job.cells / "one_hot-seed0/metrics.csv"
    lines = short.read_text().splitlines()
    short.write_text("\n".join([*lines[:2], ""]))  # it ends after 5 s, before any validation
    found = job(grid)
    assert found["equal_seconds"] == 5
    rows = found["configurations"]
    assert [row["at_equal_seconds"] for row in rows] == [None, None]
    assert [row["low"] for row in rows] == [None, None]  # one seed has no interval
    short.unlink()
    assert job(grid)["equal_seconds"] == 40


def interrupt_once_ready(job: StandIn, count: int) -> None:
    """Interrupt this process from a thread, once so many trainings wait for it."""

    def interrupt() -> None:
        until = time.monotonic() + 15
        while len(list(job.cells.glob("*/ready"))) < count and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()


def test_an_interrupt_reaches_each_training_once_and_the_same_command_goes_on(job):
    grid = GRID.replace("[common]", '[common]\ntask_set = "slow"')
    handler = signal.getsignal(signal.SIGINT)
    interrupt_once_ready(job, 2)
    stopped = job(grid)
    assert signal.getsignal(signal.SIGINT) is handler
    assert stopped["failed"] == {}
    assert [row["n"] for row in stopped["configurations"]] == [0, 0]
    assert [path.read_text() for path in job.cells.glob("*/saved")] == ["1", "1"]
    # Two are resumed and end; the other two begin, and are interrupted.
    interrupt_once_ready(job, 4)
    again = job(grid)
    resumed = sorted(job.command_lines())[:2]
    assert resumed == ["--no-videos --resume RUN"] * 2
    assert sum(row["n"] for row in again["configurations"]) == 2


RECORDED = ("flags", "seed", "jobs")  # before a training is started
ORPHANS = 'seeds = 2\n[common]\ntask_set = "orphan"\n[vary]\nrate = [1]\n'


@pytest.fixture
def orphan(job) -> int:
    """A training that goes on after its comparison was killed: its process."""
    comparison = multiprocessing.get_context("fork").Process(target=job, args=(ORPHANS, 1))
    comparison.start()
    ready = job.cells / "rate-1.0-seed0/ready"
    until = time.monotonic() + 30
    while not (ready.exists() and ready.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    comparison.kill()
    comparison.join()
    return int(ready.read_text())


@pytest.mark.parametrize("noted", [True, False])
def test_trainings_that_a_killed_comparison_left_behind_are_waited_for(job, orphan, noted):
    record = job.cells / "rate-1.0-seed0.json"
    if not noted:  # killed before it wrote which process it had started
        write_json(record, {k: v for k, v in read_json(record, "").items() if k in RECORDED})
    threading.Timer(1.0, (job.cells / "go").write_text, [""]).start()
    found = job(ORPHANS, jobs=1)
    assert found["failed"] == {}
    assert [row["n"] for row in found["configurations"]] == [2]
    assert len(job.command_lines()) == 2  # none was started twice


def test_what_such_a_training_leaves_undone_is_gone_on_with(job, orphan):
    threading.Timer(0.5, os.kill, [orphan, signal.SIGKILL]).start()
    threading.Timer(1.0, (job.cells / "go").write_text, [""]).start()
    found = job(ORPHANS, jobs=1)
    assert [row["n"] for row in found["configurations"]] == [2]
    assert job.command_lines()[1] == "--resume RUN"


def test_one_comparison_owns_its_folder(job):
    job()
    with owned(job.out), pytest.raises(Busy, match=f"process {os.getpid()}"):
        job()


def version_of(run: pathlib.Path, version: int) -> None:
    (run / "config.json").write_text(json.dumps({"format": 1, "reward_version": version}))


def test_runs_of_other_rewards_are_not_set_side_by_side_unless_told(job):
    job()
    version_of(job.cells / "none-seed0", 16)
    with pytest.raises(RunError, match="rewards of version 16.*--mixed-rewards"):
        job()
    found = job(mixed_rewards=True)
    assert (
        "none-seed0 was trained with rewards of version 16" in (job.out / "compare.txt").read_text()
    )
    for cell in job.cells.glob("*/config.json"):
        version_of(cell.parent, 16)
    assert len(job()["notes"]) == 4  # they agree: it is said only
    assert found["configurations"] == job()["configurations"]


def test_damage_in_a_cell_is_named_in_one_line(job):
    one = 'seeds = 1\n[vary]\nconditioning = ["none"]'
    job(one)
    for name, content in (
        ("none-seed0/results.json", '{"mean_success": 0.5}'),
        ("none-seed0/results.json", "{"),
        ("none-seed0/config.json", "[]"),
        ("none-seed0.json", '{"flags": 3}'),
    ):
        file = job.cells / name
        before = file.read_text()
        file.write_text(content)
        with pytest.raises(RunError, match="is damaged") as caught:
            job(one)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
        file.write_text(before)
    metrics = job.cells / "none-seed0/metrics.csv"
    metrics.write_bytes(metrics.read_bytes()[:-3])
    assert str(metrics) in job(one)["notes"][0]
    assert "1 of its 4 rows are left out (4)" in (job.out / "compare.txt").read_text()


# Shards


def shards_of(job: StandIn, shards: int, *folders: pathlib.Path) -> None:
    """Train a grid shard by shard, in the folders in turn."""
    for number in range(1, shards + 1):
        job.out = folders[(number - 1) % len(folders)]
        job.cells = job.out / "cells"
        assert job(shard=f"{number}/{shards}") == {}


def files_of(out: pathlib.Path) -> dict[str, str]:
    """The files of a comparison's table."""
    return {path.name: path.read_text() for path in out.glob("compare.*")}


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_a_table_over_shards_has_the_bytes_of_one_grid(shards, tmp_path):
    whole, parts = StandIn(tmp_path / "whole"), StandIn(tmp_path / "parts")
    whole()
    shards_of(parts, shards, parts.out)
    assert files_of(parts.out) == {}
    trained = parts.command_lines()
    assert sorted(trained) == sorted(whole.command_lines())
    parts()
    assert parts.command_lines() == trained  # each cell was some shard's
    assert files_of(parts.out) == files_of(whole.out)
    assert len(files_of(whole.out)) == 4


def test_shards_of_several_machines_are_copied_together(tmp_path):
    whole, parts = StandIn(tmp_path / "whole"), StandIn(tmp_path / "parts")
    whole()
    machines = [tmp_path / "a", tmp_path / "b"]
    shards_of(parts, 2, *machines)
    parts.out = tmp_path / "merged"
    parts.cells = parts.out / "cells"
    for machine in machines:
        shutil.copytree(machine / "cells", parts.cells, dirs_exist_ok=True)
    calls = parts.command_lines()
    parts()
    assert parts.command_lines() == calls
    assert files_of(parts.out) == files_of(whole.out)


def test_a_shard_that_fails_or_is_stopped_says_so(job):
    bad = GRID.replace("[common]", '[common]\ntask_set = "bad"')
    assert job(bad, shard="1/4") == {}
    with pytest.raises(RunError, match="1 of 1 cells failed: none-seed1"):
        job(bad, shard="3/4")
    slow = 'seeds = 1\n[common]\ntask_set = "slow"\n[vary]\nrate = [1, 2]'
    job.out = job.folder / "slow"
    job.cells = job.out / "cells"
    interrupt_once_ready(job, 1)
    with pytest.raises(SystemExit) as caught:
        job(slow, shard="2/2")
    assert caught.value.code == 130
    assert [path.parent.name for path in job.cells.glob("*/saved")] == ["rate-2.0-seed0"]


def test_shards_are_trained_beside_each_other_but_not_beside_the_whole(job):
    job(shard="1/2")
    with owned(job.out / "shards/1-of-2"):
        assert job(shard="2/2") == {}
        with pytest.raises(Busy):
            job(shard="1/2")
        with pytest.raises(Busy, match="1-of-2 is being written by another comparison"):
            job()
    with owned(job.out), pytest.raises(Busy, match="is being written by another comparison"):
        job(shard="2/2")
    assert job()["failed"] == {}


@pytest.mark.parametrize("shard", ["0/8", "9/8", "a/b", "1", "1/2/3", "1/0", "-1/2", "1.0/2", ""])
def test_a_shard_that_is_none_gets_one_line(shard):
    problem = flags_of_compare()["shard"].setting.problem(shard, "--shard")
    assert (
        problem
        == f"--shard must be K/N, with whole numbers K from 1 to N, such as 2/8, not {shard}"
    )


@pytest.mark.parametrize("shard", ["1/1", "8/8", "2/8", "999/1000"])
def test_a_shard_is_taken(shard):
    assert flags_of_compare()["shard"].setting.problem(shard, "--shard") is None


@pytest.mark.parametrize(
    "address", ["", "6379", "a b:1", "host:0", "host:70000", "ray://h:1", "h:"]
)
def test_an_address_that_is_none_gets_one_line(address):
    problem = flags_of_compare()["ray"].setting.problem(address, "--ray")
    assert problem.startswith("--ray must be HOST:PORT of a Ray cluster, ")


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head.example:1"])
def test_an_address_is_taken(address):
    assert flags_of_compare()["ray"].setting.problem(address, "--ray") is None


def flags_of_compare() -> dict:
    given = CompareConfig(grid=pathlib.Path("grid.toml"))
    return {flag.key: flag for flag in flags(given)}


def test_the_template_for_slurm_trains_the_shard_of_its_task(tmp_path):
    """Slurm is not here: a shell runs the script with the variables that Slurm sets."""
    stub = tmp_path / "uncap"
    stub.write_text('#!/bin/sh\necho "$@"\n')
    stub.chmod(0o755)
    script = ROOT / "benchmarks/slurm.sh"
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_ARRAY_TASK_MAX": "8",
        "SLURM_CPUS_PER_TASK": "4",
    }
    done = subprocess.run(
        ["bash", script, "grid.toml", "--out", "a b"],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "compare grid.toml --shard 3/8 --jobs 4 --out a b\n"
    options = re.findall(r"^#SBATCH --([a-z-]+)", script.read_text(), re.MULTILINE)
    assert {"array", "cpus-per-task", "signal", "time"} <= set(options)
