"""Comparisons: statistics by hand, grids that are refused, and runs of a stand-in for training.

The stand-in stops, goes on and fails.
"""

import csv
import dataclasses
import json
import os
import pathlib
import signal
import sys
import threading
import time

import numpy as np
import pytest
from rich.console import Console

from agents.settings import flags, replaced, setting
from evaluation.commands import check_job
from evaluation.compare import compare
from evaluation.config import CompareConfig, TrainConfig, resolved
from evaluation.grid import axes, read_grid
from evaluation.runs import RunError
from evaluation.statistics import iqm, stratified_bootstrap


@dataclasses.dataclass(frozen=True)
class Options:
    """Flags of the stand-in."""

    conditioning: str = setting("none", "what it is told", choices=("none", "one_hot"))
    task_set: str = setting("first", "how it goes")
    env_steps: int = setting(100, "steps")
    rate: float = setting(1.0, "a number")
    videos: bool = setting(True, "a switch")


AXES = {flag.key: flag for flag in flags(Options())}
# A training of two validations; --task-set says how it goes, and the numbers follow from
# conditioning and seed.
STUB = """
import json, pathlib, signal, sys, time
words = sys.argv[1:]
get = lambda name, default=None: words[words.index(name) + 1] if name in words else default
resumed = get("--resume")
out = pathlib.Path(resumed or get("--out"))
with open(out.parent / "calls", "a") as calls:
    calls.write(" ".join(words).replace(str(out), "RUN") + chr(10))
if get("--task-set") == "bad" and get("--seed") == "1":
    sys.exit("error: diverged")
out.mkdir(exist_ok=True)
(out / "config.json").write_text("{}")
if get("--task-set") == "slow" and not resumed:
    asked = []
    signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    (out / "ready").write_text("")
    while not asked:
        time.sleep(0.05)
    time.sleep(0.3)
    (out / "saved").write_text(str(len(asked)))
    sys.exit(0)
quick, seed = get("--conditioning") == "one_hot", int(get("--seed", 0))
a, b = (0.4, 0.6) if quick else (0.2, 1.0)
rows = [(100, 10, ""), (200, 20, a + 0.1 * seed), (300, 30, ""), (400, 40, b)]
if quick:  # faster by the clock, with fewer steps
    rows = [(steps - 50, seconds / 2, score) for steps, seconds, score in rows]
lines = ["phase,env_steps,seconds,loss,validation,success/mug", *(f"ppo,{e},{s},,{v}," for e, s, v in rows)]
(out / "metrics.csv").write_text(chr(10).join(lines))
scores = {"mug": b, "jar": a + 0.1 * seed}
(out / "results.json").write_text(json.dumps({
    "mean_success": sum(scores.values()) / 2, "per_task": {t: {"success": s} for t, s in scores.items()},
    "train": {"env_steps": rows[-1][0], "wall_seconds": rows[-1][1] + 2}}))
"""
GRID = """
seeds = 2
[common]
videos = false
[vary]
conditioning = ["none", "one_hot"]
"""


@pytest.fixture
def job(tmp_path):
    (tmp_path / "stub.py").write_text(STUB)

    def run(grid=GRID, jobs=2):
        (tmp_path / "grid.toml").write_text(grid)
        config = CompareConfig(grid=tmp_path / "grid.toml", out=tmp_path / "out", jobs=jobs)
        return compare(config, AXES, Console(quiet=True), command)

    def command(words):
        return [sys.executable, "-S", str(tmp_path / "stub.py"), *words]

    run.out = tmp_path / "out"
    run.cells = run.out / "cells"
    run.calls = run.cells / "calls"
    return run


def test_iqm_by_hand():
    assert iqm(np.array([[0, 1, 2, 3], [4, 5, 6, 70]])) == 3.5  # 2 of 8 are cut at each end
    assert (
        iqm(np.array([[0.0, 1.0, 5.0]])) == 2.0
    )  # a quarter of 3 is less than one: nothing is cut
    with pytest.raises(ValueError, match="at least one"):
        iqm(np.empty((0, 3)))


def test_stratified_bootstrap_covers_is_deterministic_and_keeps_tasks_apart():
    draw = np.random.default_rng(1)
    scores = draw.normal(0.5, [0.1, 0.1, 0.3], (60, 3))
    half = (
        1.96 * np.sqrt((scores.var(0) / 60).sum()) / 3
    )  # the tasks are resampled independently: their variances add up
    found = stratified_bootstrap(scores, draw, np.mean)
    assert (
        found == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.1 * half)
        and found[0] < 0.5 < found[1]
    )
    scores = draw.normal(size=(4, 5))
    a, b = (stratified_bootstrap(scores, np.random.default_rng(7), iqm, 300) for _ in range(2))
    assert a == b and a[0] < iqm(scores) < a[1]
    apart = np.array(
        [[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]
    )  # runs agree on each task: nothing to resample
    assert stratified_bootstrap(apart, draw, np.mean, 50) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seeds = ", "not TOML"),
        ("sedes = 2", "unknown key 'sedes'; allowed: name, seeds, common, vary, cells"),
        ("seeds = 2", "nothing to compare"),
        ("seeds = 0\n[vary]\nrate = [1]", "1 or more"),
        ("seeds = [1, 1]\n[vary]\nrate = [1]", "different whole numbers"),
        ("seeds = true\n[vary]\nrate = [1]", "whole number or a list"),
        ("name = 3\n[vary]\nrate = [1]", "name must be a string"),
        ("vary = 3", "vary must be a table"),
        ("cells = [3]", "must be a table"),
        ("[vary]\nrate = []", "one value or more"),
        ("[vary]\nrate = 1", "one value or more"),
        ("[vary]\nspeed = [1]", "allowed: conditioning, task_set, env_steps, rate, videos"),
        ("[vary]\nseed = [1]", "sets itself"),
        ("[vary]\nenv_steps = [1.5]", "env_steps must be a whole number, not 1.5"),
        ("[vary]\nenv_steps = [true]", "whole number"),
        ('[vary]\nrate = ["x"]', "must be a number"),
        ('[common]\nvideos = "no"\n[vary]\nrate = [1]', "true or false"),
        ('[vary]\nconditioning = ["onehot"]', "allowed: none, one_hot"),
        ("[common]\nrate = 1\n[vary]\nrate = [1]", "in one of them"),
        ("[vary]\nrate = [1, 1.0]", "same configuration"),
        (
            '[[cells]]\nlabel = "a b"\nrate = 1\n[[cells]]\nlabel = "a/b"\nrate = 2',
            "share a folder",
        ),
        ('[[cells]]\nlabel = "?"', "letter or a digit"),
        ('[[cells]]\nlabel = ""', "not empty"),
        ('[[cells]]\nlable = "x"', "allowed: label, conditioning"),
    ],
)
def test_mistakes_in_a_grid_get_one_line(text, says, tmp_path):
    (tmp_path / "grid.toml").write_text(text)
    with pytest.raises(ValueError) as error:
        read_grid(tmp_path / "grid.toml", AXES)
    assert (
        says in str(error.value)
        and "grid.toml" in str(error.value)
        and "\n" not in str(error.value)
    )


def test_a_grid_is_every_combination_and_the_further_cells(tmp_path):
    (tmp_path / "grid.toml").write_text("""
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
    """)
    grid = read_grid(tmp_path / "grid.toml", AXES)
    assert grid.name == "grid" and len(grid.cells) == 10
    assert [c.label for c in grid.configurations] == [
        "none, videos true",
        "none, videos false",
        "one_hot, videos true",
        "one_hot, videos false",
        "plain PPO",
    ]
    assert grid.cells[-1].name == "plain-PPO-seed5"
    assert grid.cells[-1].arguments == ["--env-steps", "2000", "--rate", "1.0", "--seed", "5"]
    assert grid.cells[1].arguments == [
        "--env-steps",
        "1000",
        "--conditioning",
        "none",
        "--no-videos",
        "--seed",
        "3",
    ]


def test_nested_settings_are_axes_with_their_limits(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text("""
        [common]
        ppo.clip = 0.1
        [vary]
        body = ["mlp", "film"]
        ppo.learning_rate = [1e-4, 3e-4]
        dagger.updates = [10]
        ppo.deviations = [[[0, 0.5], [1000, 0.1]]]
    """)
    first, *_ = read_grid(path, axes()).cells
    words = "--ppo.clip 0.1 --body mlp --ppo.learning-rate 0.0001"
    schedule = ["--ppo.deviations", "0", "0.5", "1000", "0.1"]
    assert first.arguments[:-2] == [*words.split(), *schedule, "--dagger.updates", "10"]
    path.write_text("[vary]\nppo.learning_rate = [-1]")
    with pytest.raises(ValueError, match="ppo.learning_rate must be above 0, not -1"):
        read_grid(path, axes())
    path.write_text("[vary]\nppo.rate = [1]")
    with pytest.raises(ValueError, match="unknown flag 'ppo.rate'"):
        read_grid(path, axes())


def test_the_table_matches_hand_computed_values(job):
    found = job()
    none, one_hot = found["configurations"]
    # none: mug 1, 1 and jar 0.2, 0.3: of four entries one is cut at each end
    assert none["iqm"] == pytest.approx((0.3 + 1.0) / 2) and none["mean"] == pytest.approx(2.5 / 4)
    assert none["worst"] == pytest.approx(0.25) and none["worst_task"] == "jar"
    assert (none["train_seconds"], none["env_steps"], none["n"], none["missing"]) == (
        42,
        400,
        2,
        [],
    )
    assert 0.2 <= none["low"] <= none["iqm"] <= none["high"] <= 1.0
    assert one_hot["iqm"] == pytest.approx((0.5 + 0.6) / 2)
    # one_hot ends after 20 s and 350 steps; at 20 s none has its first validation, and at 350 steps still that one
    assert (found["equal_seconds"], found["equal_steps"]) == (20, 350)
    assert none["at_equal_seconds"] == pytest.approx(0.25) and none[
        "at_equal_steps"
    ] == pytest.approx(0.25)
    assert one_hot["at_equal_seconds"] == pytest.approx(0.6) and one_hot[
        "at_equal_steps"
    ] == pytest.approx(0.6)
    assert json.loads((job.out / "compare.json").read_text()) == found
    rows = list(csv.DictReader((job.out / "compare.csv").read_text().splitlines()))
    assert [float(r["mean"]) for r in rows] == [none["mean"], one_hot["mean"]]
    text, page = ((job.out / f"compare.{kind}").read_text() for kind in ("txt", "html"))
    assert "at 20 s" in text and "0.650" in text and "0.650" in page and "src='http" not in page
    assert not list(job.out.rglob("*.tmp"))
    first = job.calls.read_text()
    assert sorted(first.splitlines())[0] == "--no-videos --conditioning none --seed 0 --out RUN"
    assert (
        job() == found and job.calls.read_text() == first
    )  # what is finished is not trained again


def test_a_grid_that_changed_its_flags_is_refused(job, tmp_path):
    job()
    with pytest.raises(RunError, match="other flags"):
        job(GRID.replace("false", "true"))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("x")
    with pytest.raises(RunError, match="no comparison"):
        config = CompareConfig(grid=tmp_path / "grid.toml", out=tmp_path / "precious")
        compare(config, AXES, Console(quiet=True))


def test_a_failed_cell_is_reported_and_the_others_go_on(job):
    grid = GRID + '[[cells]]\nlabel = "fails"\ntask_set = "bad"\n'
    with pytest.raises(RunError, match="1 of 6 cells failed: fails-seed1"):
        job(grid)
    found = json.loads((job.out / "compare.json").read_text())
    assert found["failed"] == {"fails-seed1": "exit 1: error: diverged"}
    fails = found["configurations"][2]
    assert (fails["n"], fails["missing"], fails["low"]) == (1, [1], None) and fails[
        "mean"
    ] == pytest.approx(0.6)
    text = (job.out / "compare.txt").read_text()
    assert "1 of 2 !" in text and "failed: fails-seed1: exit 1: error: diverged" in text
    before = len(job.calls.read_text().splitlines())
    with pytest.raises(RunError, match="fails-seed1"):
        job(grid)
    assert len(job.calls.read_text().splitlines()) == before + 1  # only that one was tried again


def test_a_validation_that_came_too_late_is_not_available(job):
    grid = 'seeds = 1\n[vary]\nconditioning = ["none", "one_hot"]\n'
    job(grid)
    short = job.cells / "one_hot-seed0/metrics.csv"
    short.write_text(
        "\n".join(short.read_text().splitlines()[:2])
    )  # it ends after 5 s, before any validation
    found = job(grid)
    assert found["equal_seconds"] == 5
    assert [r["at_equal_seconds"] for r in found["configurations"]] == [None, None]
    assert [r["low"] for r in found["configurations"]] == [None, None]  # one seed has no interval
    short.unlink()
    assert job(grid)["equal_seconds"] == 40


def test_an_interrupt_reaches_each_training_once_and_the_same_command_goes_on(job):
    grid = 'seeds = 2\n[common]\ntask_set = "slow"\nvideos = false\n[vary]\nconditioning = ["none", "one_hot"]\n'

    def interrupt(ready):
        until = time.monotonic() + 15
        while len(list(job.cells.glob("*/ready"))) < ready and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    threading.Thread(target=interrupt, args=(2,)).start()
    stopped = job(grid)
    assert signal.getsignal(signal.SIGINT) is handler
    assert stopped["failed"] == {} and [r["n"] for r in stopped["configurations"]] == [0, 0]
    assert [p.read_text() for p in job.cells.glob("*/saved")] == ["1", "1"]
    threading.Thread(
        target=interrupt, args=(4,)
    ).start()  # two are resumed and end; the other two begin, and are interrupted
    again = job(grid)
    assert sorted(job.calls.read_text().splitlines())[:2] == ["--no-videos --resume RUN"] * 2
    assert sum(r["n"] for r in again["configurations"]) == 2


@pytest.mark.parametrize(
    "path",
    sorted(pathlib.Path(__file__).parents[1].glob("benchmarks/*.toml")),
    ids=lambda p: p.stem,
)
def test_every_benchmark_is_a_grid_of_jobs(path):
    grid = read_grid(path, axes())
    assert grid.name == path.stem and len(grid.seeds) == 3
    for configuration in grid.configurations:
        values = {axes()[key].path: value for key, value in configuration.flags}
        job = resolved(replaced(TrainConfig(), values).job, quick=False)
        check_job(job)
        assert job.transfer.env_steps == 0
