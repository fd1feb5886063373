"""The script that trains on a GPU, on Warp's CPU device: it stops, and goes on."""

import importlib
import io
import json
import pathlib
import re
import signal
import sys

import numpy as np
import pytest
import torch
from rich.console import Console

pytest.importorskip("mujoco_warp")

from uncap.agents import checkpoints
from uncap.agents.config import DaggerConfig, NetworkConfig, PPOConfig
from uncap.agents.device.config import WideConfig
from uncap.envs.conditioning import vectors
from uncap.envs.engine_warp import WarpEngine
from uncap.evaluation import commands
from uncap.evaluation.config import TrainConfig
from uncap.evaluation.interrupt import Interrupt
from uncap.evaluation.metrics import read_metrics

ROOT = pathlib.Path(__file__).parent.parent
STEPS = {"dagger": 120, "ppo": 120}  # environment steps: of three rounds or updates
FLAGS = "--task-set bottle,mug: --width 8 --num-envs 4 --starts 2"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(ROOT / "benchmarks")
    gpu_train = importlib.import_module("gpu_train")


EVALUATE_ON_DEVICE = gpu_train.evaluate_on_device  # tests of trainings do without


def toy_config(options):
    dagger = DaggerConfig(rollout=10, updates=5, minibatch=64)
    ppo = PPOConfig(rollout=10, minibatches=2, epochs=1)
    return WideConfig(options.num_envs, options.starts, states=1000, dagger=dagger, ppo=ppo)


class Killed(BaseException):
    """Ends a training in the midst of it."""


@pytest.fixture
def train(monkeypatch, capsys):
    """Runs the script with words; gives its exit status, and what it printed."""
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    monkeypatch.setattr(gpu_train, "validated", lambda learner, quota: (0.5, 50))
    monkeypatch.setattr(gpu_train, "evaluate_on_device", lambda *_: None)
    monkeypatch.setattr(gpu_train, "SAY_EVERY", 0.0)
    monkeypatch.setattr(gpu_train, "wide_config", toy_config)

    def called(*words, stop_after=None, die_after=None):
        asked = []

        def ask():
            asked.append(1)
            if len(asked) == die_after:
                raise Killed
            return len(asked) == stop_after

        def interrupt(say):
            ask.release = lambda: None
            return ask

        monkeypatch.setattr(gpu_train, "Interrupt", interrupt)
        monkeypatch.setattr(sys, "argv", ["gpu_train.py", *map(str, words)])
        status = 0
        try:
            gpu_train.main()
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return called


@pytest.mark.parametrize("algorithm", STEPS)
def test_a_training_that_was_stopped_goes_on(algorithm, train, tmp_path):
    words = [*FLAGS.split(), "--algorithm", algorithm, "--env-steps", STEPS[algorithm], "--out"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(*words, whole)[0] == 0
    status, printed = train(*words, run, stop_after=3)  # after the first round
    assert status == 130
    assert printed.splitlines()[-1] == (
        f"stopped; go on with: python benchmarks/gpu_train.py --resume {run}"
    )
    assert checkpoints.exists(run / "checkpoint")  # the policy as it is
    status, printed = train("--resume", run)
    assert status == 0, printed
    both = [checkpoints.load(folder / "checkpoint")[0] for folder in (whole, run)]
    for name in both[0]:
        if name.startswith("policy"):
            assert np.array_equal(both[0][name], both[1][name]), name
    assert any(name.startswith("policy") for name in both[0])
    steps = [
        [row["env_steps"] for row in read_metrics(folder / "metrics.csv").rows]
        for folder in (whole, run)
    ]
    assert steps[0] == steps[1] and len(steps[0]) > 2
    results = json.loads((run / "results.json").read_text())
    assert results["train"]["env_steps"] == STEPS[algorithm]
    status, printed = train("--resume", run)
    assert status == 2 and f"{run} cannot go on: its training has ended" in printed


def test_a_training_that_was_killed_goes_on_from_what_it_saved(train, tmp_path):
    words = [*FLAGS.split(), "--env-steps", STEPS["dagger"], "--save-every", 1e-9, "--out"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(*words, whole)[0] == 0
    with pytest.raises(Killed):
        train(*words, run, die_after=3)
    console = Console(file=io.StringIO())
    words = re.escape(f"go on with python benchmarks/gpu_train.py --resume {run}")
    with pytest.raises(ValueError, match=words):
        commands.train(TrainConfig(resume=run), console)
    status, printed = train("--resume", run)
    assert status == 0, printed
    both = [checkpoints.load(folder / "checkpoint")[0] for folder in (whole, run)]
    assert all(np.array_equal(both[0][n], both[1][n]) for n in both[0] if n.startswith("policy"))
    rows = [read_metrics(folder / "metrics.csv").rows for folder in (whole, run)]
    assert [row["env_steps"] for row in rows[0]] == [row["env_steps"] for row in rows[1]]


def test_what_does_not_go_with_resume_is_named(train, tmp_path):
    for words, said in (
        (["--resume", tmp_path, "--width", "8"], "not with --width"),
        (["--resume", tmp_path / "none"], "none"),
        (["--minutes", "1"], "--out names a new run folder, --resume one that was stopped"),
    ):
        status, printed = train(*words)
        assert status == 2 and said in printed


def test_a_training_that_saves_no_state_keeps_its_policy(train, tmp_path):
    run = tmp_path / "run"
    words = [*FLAGS.split(), "--env-steps", STEPS["dagger"], "--no-state", "--save-every", 1e-9]
    status, printed = train(*words, "--out", run, stop_after=3)
    assert status == 130
    assert printed.splitlines()[-1] == "stopped; the policy is kept as it is"
    assert checkpoints.exists(run / "checkpoint")
    status, printed = train("--resume", run)
    assert status == 2 and f"{run} cannot go on: nothing was saved in it" in printed


def test_minutes_in_all_are_those_of_the_start_too(train, tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(gpu_train, "LEAST_MINUTES", 1e-4)
    assert train(*FLAGS.split(), "--minutes-in-all", 1e-4, "--out", run)[0] == 0
    config = json.loads((run / "config.json").read_text())
    assert config["job"]["minutes"] == 1e-4  # the start took more than there was
    status, printed = train("--minutes", 1, "--minutes-in-all", 1, "--out", tmp_path / "other")
    assert status == 2 and "--minutes-in-all is in place of --minutes" in printed


# What cannot be is one line, before anything is made


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--minutes 1 --looks 1", "--looks has no effect without --pictures"),
        ("--minutes 1 --episodes=9", "--episodes has no effect without --pictures"),
        ("--minutes 1 --algorithm ppo --lead 0.1", "--lead has no effect with --algorithm ppo"),
        ("--minutes 1 --algorithm ppo --states 9", "--states has no effect with --algorithm ppo"),
        ("--pictures --minutes 1 --episodes 0", "--episodes: must be a whole number above 0"),
        ("--minutes-in-all -1", "--minutes-in-all: must be a number above 0, not '-1'"),
        ("--minutes nan", "--minutes: must be a number above 0, not 'nan'"),
    ],
)
def test_flags_that_cannot_be_are_refused(words, said, train, tmp_path):
    status, printed = train(*words.split(), "--out", tmp_path / "run")
    assert status == 2 and said in printed.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--num-envs 1", "2 rows need at least 2 worlds, one each, not 1"),
        ("--conditioning belief", "a policy with a memory does not learn on a device"),
        ("--compiler inductr", "unknown compiler 'inductr': did you mean 'inductor'?"),
        ("--device cuda:9", "UNCAP_WARP_DEVICE=cuda:9: MuJoCo Warp finds no such device"),
    ],
)
def test_a_training_that_cannot_be_is_one_line_and_leaves_no_folder(words, said, train, tmp_path):
    run = tmp_path / "run"
    status, printed = train(*FLAGS.split(), "--env-steps", 120, *words.split(), "--out", run)
    assert status.startswith(f"error: {said}") and "\n" not in status
    assert not run.exists() and not printed


@pytest.mark.parametrize("where", ["worlds", "learning"])
def test_too_little_memory_is_one_line(where, train, tmp_path, monkeypatch):
    def fails(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    if where == "worlds":
        monkeypatch.setattr(WarpEngine, "_open_state", fails)
    else:
        monkeypatch.setattr(gpu_train.DeviceDagger, "run", fails)
    status, _ = train(*FLAGS.split(), "--env-steps", 120, "--out", tmp_path / "run")
    assert status == (
        "error: there is too little memory: smaller --num-envs, --starts or --states need less"
    )
    assert not (tmp_path / "run").exists()


class Given:
    """In place of worlds: their successes are given, and what they were asked for is noted."""

    device = torch.device("cpu")

    def __init__(self):
        self.asked = []

    def __call__(self, learner, num_envs, starts, *, rows, seed, variants, disturb):
        self.asked.append((num_envs, starts, rows, variants, disturb))
        self.weights = {k: v.clone() for k, v in learner.policy.state_dict().items()}
        return self

    def measure(self, act):
        return np.linspace(1.0, 0.0, len(self.asked[-1][2]))


def test_a_run_is_measured_on_the_device_in_rows_that_it_has_not_seen_too(
    train, tmp_path, monkeypatch
):
    run, worlds = tmp_path / "run", Given()
    flags = "--task-set bottle,mug:jar,thermos,cork --width 8 --num-envs 4 --starts 2"
    assert train(*flags.split(), "--env-steps", 40, "--out", run)[0] == 0
    weights = checkpoints.load(run / "checkpoint")[0]
    monkeypatch.setattr(gpu_train, "evaluate_on_device", EVALUATE_ON_DEVICE)
    monkeypatch.setattr(gpu_train, "on_warp", worlds)
    status, printed = train("--measure", run, "--num-envs", 7)
    assert status == 0, printed
    unseen, known = ("jar", "thermos", "cork"), ("bottle", "mug")
    assert worlds.asked == [(6, 2, unseen, "validation", None), (4, 2, known, "validation", None)]
    kept = [value for name, value in weights.items() if name.startswith("policy")]
    assert len(kept) > 3
    for value in worlds.weights.values():
        assert any(np.array_equal(value, own) for own in kept)
    lines = printed.splitlines()[-2:]
    words = "on the device, held out: success 0.500 [0.188, 0.812], worst cork 0.00, 6 episodes in"
    assert lines[0].startswith(words)
    assert lines[1].startswith("on the device, trained: success 0.500 [0.150, 0.850], worst mug")
    found = json.loads((run / "device.json").read_text())
    assert found["held out"]["per_task"] == {"jar": 1.0, "thermos": 0.5, "cork": 0.0}
    for words, said in (
        (["--measure", run, "--width", 9], "--measure goes with --device, --num-envs, --starts"),
        (["--measure", run, "--episodes", 9], "--episodes has no effect without --pictures"),
        (["--measure", tmp_path / "none"], "none"),
    ):
        status, printed = train(*words)
        assert status == 2 and said in printed


def test_a_policy_that_cannot_be_told_of_other_rows_is_not_measured_in_them():
    words = ["--task-set", "first", "--conditioning"]
    options = [gpu_train.parser_of([]).parse_args([*words, own]) for own in ("one_hot", "stages")]
    assert gpu_train.unseen_rows(options[0]) == ()
    assert gpu_train.unseen_rows(options[1]) == ("thermos", "canister", "reach")


def test_worlds_of_rows_that_a_policy_has_not_seen(monkeypatch):
    """It is told of them as of its own; its index of a row is the one that it learned."""
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    job = gpu_train.JobConfig(task_set="bottle,mug:", network=NetworkConfig(width=8))
    learner = gpu_train.learner_of(job, WideConfig(variants=2), 0)
    rows = ("jar", "mug")
    worlds = gpu_train.on_warp(learner, 2, 1, rows=rows, variants="validation")
    assert worlds.observation["index"].tolist() == [[0.0], [1.0]]
    np.testing.assert_allclose(worlds.observation["task"], vectors("parameters", rows), rtol=1e-6)


def test_a_validation_keeps_to_its_quota_and_to_the_variants_of_the_training(monkeypatch):
    wide = WideConfig(variants=4)
    assert [wide.variants_of(rows) for rows in (1, 2, 3, 9)] == [4, 2, 1, 1]
    assert WideConfig().variants_of(8) == 8 and WideConfig().variants_of(256) == 2
    job = gpu_train.JobConfig(task_set="bottle,mug:", network=NetworkConfig(width=8))
    learner = gpu_train.learner_of(job, wide, 0)
    assert len(learner.closures.batch.pool) == 4
    seen = []

    def evaluate(policy, rows, episodes, **choices):
        seen.append((rows, episodes, choices["variants_per_row"]))
        return []

    monkeypatch.setattr(gpu_train, "evaluate", evaluate)
    monkeypatch.setattr(gpu_train, "summary", lambda table: {"mean_success": 0.5})
    gpu_train.validated(learner, 9)
    gpu_train.validated(learner, 900)
    assert seen == [(("bottle", "mug"), 4, 2), (("bottle", "mug"), 25, 2)]


def test_a_signal_that_stopped_the_learning_ends_what_follows():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop = Interrupt(lambda line: None)
    assert signal.getsignal(signal.SIGTERM) == stop._on_signal
    stop.release()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_in_the_measuring_ends_it_and_the_policy_is_kept(train, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_train, "learned", lambda *_: {"env_steps": 40, "wall_seconds": 1.0})
    monkeypatch.setattr(gpu_train, "validated", interrupted)
    run = tmp_path / "run"
    status, printed = train(*FLAGS.split(), "--env-steps", 40, "--out", run)
    assert status == 130 and printed.splitlines()[-1] == "interrupted"
    assert checkpoints.exists(run / "checkpoint")
