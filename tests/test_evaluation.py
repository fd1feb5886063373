"""The evaluator is unbiased, and its statistics match closed forms."""

import csv
import json
import sys

import numpy as np
import pytest
import torch

from evaluation import runs
from evaluation.loggers import LOGGERS, require
from evaluation.protocol import BUILT_IN, evaluate, run_episodes, summary, write_episodes
from evaluation.report import write_report
from evaluation.statistics import area, bootstrap, steps_to_threshold, wilson


class Stub:
    """Four starts; only start 2 can be solved, and it ends ten times sooner than the others."""

    num_envs = 4

    def reset(self, seed):
        self.seed, self.t = np.array(seed), 0
        return {}, self._info()

    def _info(self):
        solved = (self.seed % 4 == 2) & (self.t >= 2)
        return {
            "success": solved,
            "success_any": solved,
            "progress": solved * 1.0,
            "contact_fraction": solved * 1.0,
            "task": np.zeros(4, int),
        }

    def step(self, action):
        self.t += 1
        done = np.where(self.seed % 4 == 2, self.t >= 3, self.t >= 30)
        return {}, np.ones(4), np.zeros(4, bool), done, self._info()


def test_one_of_four_starts_solvable_scores_a_quarter():
    table = run_episodes(
        Stub(), lambda obs, task: np.zeros((4, 5)), ["stub"] * 4, np.arange(4), [0, 1, 2, 3]
    )
    assert summary(table)["mean_success"] == 0.25
    assert [e.success for e in table] == [False, False, True, False]
    assert table[2].steps_to_success == 2 and table[0].steps_to_success == -1


def test_quota_is_exact_and_starts_are_shared():
    tasks = ("mug", "valve", "bottle")
    zero, expert = (evaluate(BUILT_IN[n], tasks, 3) for n in ("zero", "expert"))
    for table in (zero, expert):
        assert [(e.task, e.start) for e in table] == [(t, s) for t in tasks for s in range(3)]
    assert summary(zero)["mean_success"] == 0.0
    assert summary(expert)["mean_success"] == 1.0


def test_evaluation_does_not_depend_on_what_else_is_evaluated():
    together, alone = (
        evaluate(BUILT_IN["expert"], ("mug", "jar"), 3),
        evaluate(BUILT_IN["expert"], ("jar",), 2),
    )
    assert [e for e in together if e.task == "jar"][:2] == alone


def test_wilson_matches_published_values():
    assert wilson(0, 10) == pytest.approx(
        (0.0, 0.2775), abs=1e-4
    )  # Newcombe (1998) style check of the closed form
    low, high = wilson(81, 263)
    assert (low, high) == pytest.approx(
        (0.2553, 0.3662), abs=1e-4
    )  # Newcombe 1998, table I, method 3
    for bad in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="trials"):
            wilson(*bad)


def test_bootstrap_covers_and_uses_its_generator():
    scores = np.random.default_rng(1).normal(0.5, 0.1, (40, 4))
    a, b = bootstrap(scores, np.random.default_rng(0)), bootstrap(scores, np.random.default_rng(0))
    assert a == b and a[0] < scores.mean() < a[1]
    assert bootstrap(np.full((5, 2), 0.3), np.random.default_rng(0)) == pytest.approx((0.3, 0.3))


def test_thresholds_and_areas():
    assert steps_to_threshold([0, 10, 20], [0.1, 0.8, 0.7]) == 10
    assert steps_to_threshold([0, 10], [0.1, 0.2]) is None
    assert area([0, 10, 20], [0.0, 1.0, 1.0]) == pytest.approx(0.75)


def test_episode_table_round_trip(tmp_path):
    table = evaluate(BUILT_IN["zero"], ("mug",), 2)
    write_episodes(table, tmp_path / "episodes.csv")
    rows = list(csv.DictReader((tmp_path / "episodes.csv").read_text().splitlines()))
    assert [r["task"] for r in rows] == ["mug", "mug"]
    assert list(tmp_path.iterdir()) == [tmp_path / "episodes.csv"]


def test_run_folders_refuse_what_they_cannot_read(tmp_path):
    with pytest.raises(runs.RunError, match="no run folder"):
        runs.open_run(tmp_path / "nope")
    with pytest.raises(runs.RunError, match=r"config\.json is missing"):
        runs.open_run(tmp_path)
    (tmp_path / "config.json").write_text("{half")
    with pytest.raises(runs.RunError, match="damaged"):
        runs.open_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(runs.RunError, match="another version"):
        runs.open_run(tmp_path)
    with pytest.raises(runs.RunError, match="not empty"):
        runs.create(tmp_path, {})


def test_report_is_self_contained(tmp_path):
    run = tmp_path / "run"
    runs.create(
        run, {"command": "python train.py", "seed": 0, "train": ["mug"], "held_out": ["decanter"]}
    )
    runs.update_results(run, **summary(evaluate(BUILT_IN["zero"], ("mug",), 2)))
    page = write_report(run).read_text()
    assert "mug" in page and "python train.py" in page
    assert (
        "<td>seed</td><td><code>0</code>" in page
        and f"torch {torch.__version__}" in page
        and "{&#x27;" not in page
    )
    assert "src='http" not in page and 'src="http' not in page


def test_metrics_go_to_every_logger_that_is_asked_for(tmp_path, monkeypatch):
    """A stand-in for Weights & Biases, which keeps what it is sent."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/__init__.py").write_text(
        "sent = []\nclass Run:\n    def log(self, numbers, step): sent.append((step, numbers))\n    def finish(self): sent.append('end')\n"
        "def init(**about):\n    sent.append(about)\n    return Run()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(
        sys.modules, "wandb", None
    )  # whatever is installed here is put back afterwards
    del sys.modules["wandb"]
    require("wandb")
    run = tmp_path / "run"
    run.mkdir()
    metrics = runs.Metrics(
        run / "metrics.csv", ["phase", "env_steps", "loss"], loggers=[LOGGERS["wandb"](run)]
    )
    metrics.row(phase="ppo", env_steps=640, loss=0.5)
    metrics.close()
    about, row, end = sys.modules["wandb"].sent
    assert about["name"] == "run" and row == (640, {"loss": 0.5}) and end == "end"
    assert (run / "metrics.csv").read_text().splitlines()[1] == "ppo,640,0.5"


def test_a_logger_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(runs.RunError, match="pip install wandb"):
        require("wandb")
