"""The evaluator is unbiased, and its statistics match closed forms."""

import csv
import importlib.metadata
import importlib.util
import json
import sys
import time
import typing

import numpy as np
import pytest

from uncap.envs import ClosureVectorEnv
from uncap.evaluation import runs
from uncap.evaluation.compare_report import compare_runs, write_comparison
from uncap.evaluation.loggers import LOGGERS, require
from uncap.evaluation.metrics import Metrics, read_metrics
from uncap.evaluation.protocol import (
    BUILT_IN,
    by_mechanism,
    evaluate,
    run_trials,
    spread,
    summary,
    write_episodes,
)
from uncap.evaluation.report import write_report
from uncap.evaluation.statistics import (
    area_weights,
    censored_interval,
    draw_starts,
    interval_of_starts,
    median_time,
    median_times,
    padded,
    percentile_interval,
    pooled,
    resample,
    steps_to_threshold,
    times_to_threshold,
    wilson,
)
from uncap.evaluation.watch import Watch


class Stub:
    """Four starts; only start 2 can be solved, and its episode is a tenth as long as the others."""

    num_envs = 4
    attempts = 1

    def reset(self, seed=None, options=None):
        if options:  # those whose episode has ended
            return {}, self._info()
        self.solvable = np.array(seed) % 4 == 2
        self.steps = 0
        return {}, self._info()

    def _info(self):
        solved = self.solvable & (self.steps >= 2)
        return {
            "success": solved,
            "success_any": solved,
            "progress": solved * 1.0,
            "contact_fraction": solved * 1.0,
            "task_index": np.zeros(4, int),
            "diverged": np.array([0, 0, 2, 0]),
            "invalid_action": np.array([1, 0, 0, 0]),
        }

    def step(self, action):
        self.steps += 1
        reward = np.ones(4)
        terminated = np.zeros(4, bool)
        truncated = self.steps >= np.where(self.solvable, 3, 30)
        return {}, reward, terminated, truncated, self._info()


def no_action(observation, task_index):
    return np.zeros((4, 5))


def test_the_bar_of_an_evaluation_follows_its_episodes():
    shown = []
    watch = Watch(4, lambda phase, done, total, text: shown.append(done))
    evaluate(watch.over(BUILT_IN["zero"]), ("mug", "jar"), 2, episode_steps=5)
    assert shown == pytest.approx([0, 0.8, 1.6, 2.4, 3.2, 4])


def test_one_of_four_starts_solvable_scores_a_quarter():
    env = typing.cast(ClosureVectorEnv, Stub())
    table = run_trials(env, lambda env: no_action, ["stub"] * 4, np.arange(4), [0, 1, 2, 3])
    assert summary(table)["mean_success"] == 0.25
    assert [episode.success for episode in table] == [False, False, True, False]
    assert table[2].steps_to_success == 2
    assert table[0].steps_to_success == -1
    assert [episode.diverged for episode in table] == [0, 0, 2, 0]
    assert summary(table)["diverged"] == 2 and summary(table)["invalid_actions"] == 1


def test_quota_is_exact_and_starts_are_shared():
    tasks = ("mug", "valve", "bottle")
    zero = evaluate(BUILT_IN["zero"], tasks, 3)
    expert = evaluate(BUILT_IN["expert"], tasks, 3)
    expected = [(task, start) for task in tasks for start in range(3)]
    for table in (zero, expert):
        assert [(episode.task, episode.start) for episode in table] == expected
    assert summary(zero)["mean_success"] == 0.0
    assert summary(expert)["mean_success"] == 1.0


def test_evaluation_does_not_depend_on_what_else_is_evaluated():
    together = evaluate(BUILT_IN["expert"], ("mug", "jar"), 3)
    alone = evaluate(BUILT_IN["expert"], ("jar",), 2)
    assert [episode for episode in together if episode.task == "jar"][:2] == alone


@pytest.mark.parametrize(
    ("quota", "turn", "rows", "episodes"),
    [
        (100, 0, "abcde", 5),  # no more than asked for per row
        (17, 3, "abcde", 3),
        (5, 1, "abcde", 1),
        (2, 0, "ab", 1),
        (2, 1, "cd", 1),
        (2, 2, "ae", 1),  # the last one, and the first again
        (2, None, "abcde", 1),  # at the end
    ],
)
def test_a_quota_of_episodes_is_spread_evenly_and_rows_take_turns(quota, turn, rows, episodes):
    assert spread(tuple("abcde"), quota, 5, turn) == (tuple(rows), episodes)


def test_every_row_has_its_turn():
    tasks = tuple(f"row-{k}" for k in range(7))
    seen = [name for turn in range(4) for name in spread(tasks, 2, 9, turn)[0]]
    assert set(seen) == set(tasks)


def rate(success, episodes):
    return {"success": success, "episodes": episodes}


def test_success_of_a_mechanism_is_over_the_episodes_of_its_rows():
    found = by_mechanism({"jar": rate(1.0, 10), "mug": rate(0.5, 10), "bottle": rate(0.0, 30)})
    assert list(found) == ["screw", "pull"]
    low, high = wilson(10, 40)
    assert found["screw"] == {**rate(0.25, 40), "low": low, "high": high, "rows": 2}
    assert found["pull"]["success"] == 0.5


def test_a_comparison_shows_unseen_rows_and_new_mechanisms(tmp_path):
    row = {**rate(0.9, 10), "low": 0.5, "high": 1.0, "success_any": 1.0, "progress": 1.0}
    trained = {"mug": {**row, "steps_to_success": 9.0}}
    for seed, (seen, new) in enumerate([(0.5, 0.25), (0.75, 0.0)]):
        held_out = {
            "mean_success": seen,
            "worst_success": 0.0,
            "per_task": {},
            "seen_mechanisms": seen,
            "new_mechanisms": new,
        }
        run = tmp_path / f"run-{seed}"
        runs.create(run, {"command": "a test"})
        measured = {"zero_shot_low": 0.0, "zero_shot_high": 1.0, "episodes": 10, "budget": 1}
        measured |= {"curves": {}, "area": {}, "wall_seconds": 0.0}
        final = {"zero_shot": seen, "scratch": 0.5} | ({"noise": 0.0} if seed else {})
        runs.update_results(
            run,
            mean_success=0.9,
            worst_success=0.9,
            per_task=trained,
            held_out=held_out,
            transfer={"jar": {**measured, "zero_shot": seen, "final": final}},
        )
    found, curves = compare_runs({"one": {0: tmp_path / "run-0", 1: tmp_path / "run-1"}}, 0)
    [entry] = found["configurations"]
    assert (entry["seen_mechanisms"], entry["new_mechanisms"]) == (0.625, 0.125)
    text = write_comparison(tmp_path, {**found, "name": "a", "jobs": 1, "failed": {}}, curves)
    heading, line, *_ = text.splitlines()
    assert "unseen rows  worst mechanism  new mechanisms" in heading
    assert line.split()[9:12] == ["0.625", "n/a", "0.125"]
    means = "zero_shot 0.625 (0.500 to 0.750), scratch 0.500 (0.500 to 0.500)"
    assert f"one, transferred to jar, success at the end: {means}" in text.splitlines()
    assert "jar:zero_shot=0.625 jar:scratch=0.500" in (tmp_path / "compare.csv").read_text()


def test_success_of_rows_together_is_over_their_episodes():
    success, low, high = pooled([(1.0, 1), (0.0, 9), (1 / 3, 3)])
    assert success == 2 / 13
    assert (low, high) == wilson(2, 13)
    with pytest.raises(ValueError):
        pooled([])


def test_wilson_matches_published_values():
    # without successes the upper end is z^2 / (n + z^2)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    # Newcombe (1998), table I, method 3
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match="trials"):
        wilson(successes, trials)


def test_thresholds():
    assert steps_to_threshold([0, 10, 20], [0.1, 0.8, 0.7], 0.7) == 10
    assert steps_to_threshold([0, 10, 20, 30], [0.9, 0.1, 0.8, 0.8]) == 20  # lost, and back
    assert steps_to_threshold([0, 10, 20], [0.1, 0.8, 0.7]) is None  # lost again
    assert steps_to_threshold([0, 10], [0.1, 0.2]) is None


def test_the_median_counts_who_never_gets_there():
    """Kaplan and Meier's estimate falls by 1/n at each time, where none was given up before."""
    assert median_time([10, 30, 20], [100] * 3) == 20
    assert median_time([10, None, 20], [100] * 3) == 20
    assert median_time([10, None, None], [100] * 3) is None
    assert median_time([10, 20, None, None], [100] * 4) == 20
    assert median_time([None], [100]) is None
    with pytest.raises(ValueError, match="at least one"):
        median_time([], [])


def test_many_medians_at_once_are_those_of_scipy():
    rng = np.random.default_rng(0)
    limits = rng.integers(1, 9, size=(300, 5)).astype(float)
    times = np.where(rng.random((300, 5)) < 0.4, np.inf, np.ceil(limits * rng.random((300, 5))))
    for sample, limit, found in zip(times, limits, median_times(times, limits), strict=True):
        one = median_time([None if each == np.inf else each for each in sample], limit.tolist())
        assert found == (np.inf if one is None else one)


def test_times_of_many_curves_are_those_of_each():
    steps = [[0, 10, 20], [0, 11, 22]]
    success = np.array([[[0.1, 0.8, 0.7], [0.9, 0.1, 0.8]], [[0.8, 0.8, 0.8], [0.8, 0.8, 0.0]]])
    found = times_to_threshold(steps, success, 0.8)
    assert found.tolist() == [[np.inf, 22], [0, np.inf]]
    for curves, times in zip(success, found, strict=True):
        for of_seed, curve, found in zip(steps, curves, times, strict=True):
            assert steps_to_threshold(of_seed, curve, 0.8) == (None if found == np.inf else found)


def test_an_interval_of_times_may_end_at_never():
    assert censored_interval(np.array([10.0, 20.0, np.inf])) == (10, None)
    assert censored_interval(np.full(5, np.inf)) == (None, None)
    assert censored_interval(np.full(5, 10.0)) == (10, 10)


def test_an_area_counts_as_far_as_it_is_asked():
    assert area_weights([0, 10, 20], 20).tolist() == [0.25, 0.5, 0.25]  # the trapezoidal rule
    assert area_weights([0, 10, 20], 10).tolist() == [0.5, 0.5, 0.0]
    assert area_weights([0, 20], 10).tolist() == [0.75, 0.25]  # its height at 10 is between
    assert area_weights([0, 10], 20).tolist() == [0.25, 0.75]  # it stays where it ended
    assert area_weights([0], 20).tolist() == [1.0]
    assert area_weights([0, 10, 10], 10).tolist() == [0.5, 0.5, 0.0]


def drawn_interval(outcomes, rng):
    """Of the mean of outcomes (seeds, starts)."""
    outcomes = np.array(outcomes, float)[:, None]
    drawn = resample(outcomes, draw_starts([outcomes.shape[2]], rng), rng)
    return percentile_interval(drawn.means(drawn.success[..., -1]))


def test_an_interval_without_spread_is_that_of_starts_that_may_be_otherwise():
    """With z = 1.96, Wilson's upper end for none of 96 is 3.84 / (96 + 3.84) = 0.0385."""
    others = 3.8415 / (96 + 3.8415)
    apart = [0.0] * 50 + [1.0] * 50
    assert interval_of_starts(0.5, apart, 96) == percentile_interval(apart)
    for value in (-1.0, -0.5, 0.0, 1.0):
        found = interval_of_starts(value, [value, value + 1e-15], 96)
        ends = value - others * (value + 1), value + others * (1 - value)
        assert found == pytest.approx(ends, abs=1e-5)
    assert interval_of_starts(1.0, [1.0], 96, least=0.0) == pytest.approx(wilson(96, 96))
    assert interval_of_starts(0.0, [0.0], 96, least=0.0) == pytest.approx(wilson(0, 96))


def test_intervals_over_seeds_and_starts():
    rng = np.random.default_rng(0)
    assert drawn_interval([[1, 1, 1, 1]], rng) == (1.0, 1.0)
    low, high = drawn_interval(np.arange(300)[None] % 2, rng)
    # of a rate of one half, n = 300: 1.96 sqrt(0.25 / 300) = 0.057
    assert (high - low) / 2 == pytest.approx(0.057, abs=0.006)
    apart = np.repeat([[0], [1]], 300, axis=1)  # seeds that differ as much as they can
    assert drawn_interval(apart, rng) == (0.0, 1.0)


def test_points_keep_the_starts_that_they_have():
    """Of four starts two are at both points: each draw has two of those, and two others."""
    rng = np.random.default_rng(0)
    starts = draw_starts([2, 4, 2], rng)
    assert (starts[:, :2].sum(1) == 2).all()
    assert (starts[:, 2:].sum(1) == 2).all()
    outcomes = padded([[[0, 1], [0, 1, 1, 0]]])
    success = resample(outcomes, starts, rng).success[:, 0]  # (draws, points)
    assert set(success[:, 0]) == {0.0, 0.5, 1.0}
    others = 4 * success[:, 1] - 2 * success[:, 0]  # of the last two, how many are start 2
    assert set(others) == {0.0, 1.0, 2.0}
    unknown = resample(padded([[[], [1, 1]]]), draw_starts([2], rng), rng).success
    assert np.isnan(unknown[..., 0]).all()
    assert (unknown[..., 1] == 1).all()


def test_episode_table_round_trip(tmp_path):
    path = tmp_path / "episodes.csv"
    write_episodes(evaluate(BUILT_IN["zero"], ("mug",), 2), path)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["task"] for row in rows] == ["mug", "mug"]
    assert list(tmp_path.iterdir()) == [path]


def test_run_folders_refuse_what_they_cannot_read(tmp_path):
    config = tmp_path / "config.json"
    with pytest.raises(runs.RunError, match="no run folder"):
        runs.open_run(tmp_path / "nope")
    with pytest.raises(runs.RunError, match=r"config\.json is missing"):
        runs.open_run(tmp_path)
    config.write_text("{half")
    with pytest.raises(runs.RunError, match="damaged"):
        runs.open_run(tmp_path)
    config.write_text(json.dumps({"format": 0}))
    with pytest.raises(runs.RunError, match="another version"):
        runs.open_run(tmp_path)
    with pytest.raises(runs.RunError, match="not empty"):
        runs.create(tmp_path, {})


def test_report_is_self_contained(tmp_path):
    run = tmp_path / "run"
    config = {
        "command": "python train.py",
        "seed": 0,
        "train": ["mug"],
        "held_out": ["decanter"],
    }
    runs.create(run, config)
    runs.update_results(run, **summary(evaluate(BUILT_IN["zero"], ("mug",), 2)))
    page = write_report(run).read_text()
    assert "mug" in page
    assert "python train.py" in page
    assert "<td>seed</td><td><code>0</code>" in page
    assert f"torch {importlib.metadata.version('torch')}" in page
    assert "{&#x27;" not in page  # no Python dictionary
    assert "src='http" not in page
    assert 'src="http' not in page


WANDB_STAND_IN = """
sent = []

class Run:
    def log(self, numbers, step):
        sent.append((step, numbers))

    def finish(self):
        sent.append("end")

def init(**about):
    sent.append(about)
    return Run()
"""


@pytest.fixture
def stand_in_for_wandb(tmp_path, monkeypatch):
    """A package `wandb` that keeps what it is sent; an installed one is put back afterwards."""
    package = tmp_path / "wandb"
    package.mkdir()
    (package / "__init__.py").write_text(WANDB_STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)  # remembered by monkeypatch
    del sys.modules["wandb"]


def test_metrics_go_to_every_logger_that_is_asked_for(tmp_path, stand_in_for_wandb):
    require("wandb")
    run = tmp_path / "run"
    run.mkdir()
    columns = ["phase", "env_steps", "loss"]
    metrics = Metrics(run / "metrics.csv", columns, loggers=[LOGGERS["wandb"](run)])
    metrics.tell({"train/approx_kl": 0.1}, 640)
    metrics.row(phase="ppo", env_steps=640, loss=0.5)
    metrics.close()
    about, told, row, end = sys.modules["wandb"].sent
    assert about["name"] == "run"
    assert told == (640, {"train/approx_kl": 0.1})  # in no column of the file
    assert row == (640, {"loss": 0.5})
    assert end == "end"
    assert read_metrics(run / "metrics.csv").rows == [
        {"phase": "ppo", "env_steps": "640", "loss": "0.5"}
    ]


def test_a_logger_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(runs.RunError, match="pip install wandb"):
        require("wandb")


def test_a_folder_of_a_loggers_name_is_no_package(tmp_path, monkeypatch):
    if importlib.util.find_spec("wandb"):
        pytest.skip("the package is installed")
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(runs.RunError, match="pip install wandb"):
        require("wandb")


def test_tensorboard_shows_one_line_after_a_resume(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for steps in ((10, 20, 30), (20, 30, 40)):  # killed after 30, resumed from 10
        logger = LOGGERS["tensorboard"](tmp_path, first_step=steps[0])
        for step in steps:
            logger.log({"success": step / 100}, step)
        logger.close()
        time.sleep(1.1 if steps[0] == 10 else 0)  # event files are named by the second
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("success")] == [10, 20, 30, 40]
