"""What is killed goes on as if it had not been: learners, transfers, metrics, whole commands."""

import dataclasses
import json
import multiprocessing
import os
import pathlib
import runpy
import secrets
import shutil
import signal
import sys
import time
import types
from typing import Any

import numpy as np
import pytest
import torch

if os.name != "posix":
    pytest.skip("signals and forks", allow_module_level=True)

import kills

from uncap.agents import checkpoints, demonstrations, plain, recurrent
from uncap.agents.config import CloneConfig, DaggerConfig, LearnerConfig, PPOConfig, SACConfig
from uncap.agents.files import is_owned
from uncap.agents.learner import Learner
from uncap.envs import cores
from uncap.envs.observations import SIZE
from uncap.evaluation import (
    commands,
    curves,
    experiment,
    kept,
    protocol,
    runs,
    same,
    transfer,
    video,
)
from uncap.evaluation import flags as command_line
from uncap.evaluation.config import QUICK, TrainConfig, TransferConfig, resolved
from uncap.evaluation.effects import check_effects
from uncap.evaluation.interrupt import Interrupt
from uncap.evaluation.loggers import LOGGERS
from uncap.evaluation.metrics import Logged, Metrics
from uncap.evaluation.protocol import Episode
from uncap.evaluation.training import STEPS_SHOWN, Budget, Session, Training

ROOT = pathlib.Path(__file__).parent.parent
TASKS = ("reach", "puck")
NUM_ENVS = 4
SMALL = LearnerConfig(
    num_envs=NUM_ENVS,
    ppo=PPOConfig(rollout=6, warm_rollout=6, minibatches=2, epochs=2, critic_warmup=1, guidance=2),
    sac=SACConfig(learning_starts=8, train_freq=3, gradient_steps=2, batch_size=16),
)


TRAININGS = [
    name for name, job in kills.JOBS.items() if job.begin.startswith("-") and not job.script
]


class Killed(BaseException):
    """As sudden as SIGKILL, but for this process."""


# Learners


def learner(algorithm: str, warm: bool, sampling: str) -> Learner:
    """A new one, whatever the generators of this process are at."""
    np.random.seed(99)
    torch.manual_seed(99)
    guided = warm and algorithm == "ppo"
    config = dataclasses.replace(
        SMALL, algorithm=algorithm, warm=warm, guided=guided, sampling=sampling
    )
    if algorithm == "recurrent_ppo":
        trials = {"conditioning": "none", "attempts": 2, "episode_steps": 5}
        config = dataclasses.replace(config, **trials)
    return Learner(TASKS, config, seed=0)


def recording(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Steps as `demonstrations.load` gives them."""
    rng = np.random.default_rng(0)
    return {
        "state": rng.normal(size=(64, SIZE)).astype(np.float32),
        "label": rng.uniform(-1, 1, (64, 5)).astype(np.float32),
        "index": np.arange(64) % 2,
    }


def warm_up(agent: Learner, warm_start: str, on_round) -> None:
    """Teach a learner, four rounds."""
    if warm_start == "dagger":
        agent.imitate_experts(DaggerConfig(steps_per_task=48, rollout=6, updates=3), on_round)
    elif warm_start == "clone":
        agent.clone_demonstrations(pathlib.Path(), CloneConfig(4, 3, 16), on_round)


def always(*_) -> bool:
    return True


@pytest.mark.parametrize(
    ("algorithm", "warm_start", "sampling"),
    [
        ("ppo", "dagger", "by_failure"),
        ("ppo", "clone", "uniform"),
        ("sac", "dagger", "uniform"),
        ("plain_ppo", "none", "uniform"),
        ("recurrent_ppo", "none", "uniform"),
    ],
)
def test_a_learner_goes_on_from_any_save(tmp_path, monkeypatch, algorithm, warm_start, sampling):
    """Killed twice in its warm start, after it, and while it learns by reinforcement."""
    monkeypatch.setattr(demonstrations, "load", recording)
    monkeypatch.setattr(demonstrations, "task_indices", lambda folder, tasks: np.arange(2))
    warm = warm_start != "none"
    monkeypatch.setattr(plain, "ROLLOUT", 16)
    monkeypatch.setattr(recurrent, "LEAST_ROLLOUT", 16)  # two trials have 20
    update = {"plain_ppo": 16, "recurrent_ppo": 20}.get(algorithm, 6) * NUM_ENVS
    whole = learner(algorithm, warm, sampling)
    warm_up(whole, warm_start, always)
    whole.learn(3 * update, always)

    def save_and_die(*_) -> bool:
        agent.save(tmp_path)
        raise Killed

    for _ in range(2 if warm else 0):
        agent = resumed(tmp_path, algorithm, warm, sampling)
        with pytest.raises(Killed):
            warm_up(agent, warm_start, save_and_die)
    agent = resumed(tmp_path, algorithm, warm, sampling)
    assert agent.is_warming_up == warm
    warm_up(agent, warm_start, always)
    agent.save(tmp_path)
    for _ in range(2):
        agent = resumed(tmp_path, algorithm, warm, sampling)
        assert not agent.is_warming_up
        with pytest.raises(Killed):
            agent.learn(3 * update, save_and_die)
    agent = resumed(tmp_path, algorithm, warm, sampling)
    agent.learn(3 * update, always)
    expected, found = whole.policy.state_dict(), agent.policy.state_dict()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert np.array_equal(whole.closures.batch.qpos, agent.closures.batch.qpos)
    assert np.array_equal(whole.success, agent.success, equal_nan=True)


def resumed(folder: pathlib.Path, *kind) -> Learner:
    """A new learner, in the state that was saved last."""
    agent = learner(*kind)
    if any(folder.iterdir()):
        agent.resume(folder)
    return agent


# Trainings


TINY = dataclasses.replace(
    QUICK,
    task_set="unrelated/reach",
    warm_start="none",
    num_envs=NUM_ENVS,
    episodes=2,
    env_steps=480,
    validation_episodes=1,
    ppo=PPOConfig(rollout=6, warm_rollout=6, minibatches=2, epochs=1, critic_warmup=1),
    transfer=TransferConfig(env_steps=72, points=1, episodes=20, num_envs=NUM_ENVS),
)


def session(run: pathlib.Path, report=always, **transfer) -> Session:
    """A job of this process that nobody stops."""
    config = dataclasses.replace(TINY, transfer=dataclasses.replace(TINY.transfer, **transfer))
    return Session(run, config, 0, report, lambda: False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> pathlib.Path:
    """A run that has learned."""
    run = tmp_path_factory.mktemp("trained") / "run"
    experiment.start(run, TINY, 0, "a test")
    assert Training(session(run), resume=False).run()
    return run


@pytest.fixture
def run(trained, tmp_path) -> pathlib.Path:
    """A copy of `trained`."""
    return shutil.copytree(trained, tmp_path / "run")


def test_a_tenth_is_lost_at_most_and_no_row_is_lost_or_there_twice(trained, tmp_path):
    """Each tenth has two updates; killed at the third, again and again."""
    run = tmp_path / "run"
    experiment.start(run, TINY, 0, "a test")
    done: list[int] = []  # environment steps of each session's updates

    def report(phase, now, total, text) -> None:
        done.append(now)
        if len(done) == 3:
            raise Killed

    for number in range(5):
        done.clear()
        training = Training(session(run, report), resume=True)
        begun = training.learner.env_steps
        assert begun == 48 * number
        with pytest.raises(Killed):
            training.run()
    Training(session(run), resume=True).run()
    rows, expected = (
        [line.split(",")[:2] for line in (folder / "metrics.csv").read_text().splitlines()]
        for folder in (run, trained)
    )
    assert rows == expected


def test_an_evaluation_goes_on(run, monkeypatch):
    """Killed after each of its parts: none is played twice."""
    monkeypatch.setattr(protocol, "_MAX_SIMULATIONS", 1)
    whole = experiment.evaluate_run(session(run))
    episodes = (run / "episodes.csv").read_bytes()
    kept.forget(run)
    played = []
    play, part = protocol.run_trials, kept.Kept.part

    def noted(env, policy, tasks, starts, seeds, wiped) -> list[Episode]:
        played.append((tuple(tasks), tuple(starts)))
        return play(env, policy, tasks, starts, seeds, wiped)

    def killed_after(self, name, work) -> list[Episode]:
        before = len(played)
        found = part(self, name, work)
        if len(played) > before:
            raise Killed
        return found

    monkeypatch.setattr(protocol, "run_trials", noted)
    monkeypatch.setattr(kept.Kept, "part", killed_after)
    kills = 0
    while True:
        try:
            found = experiment.evaluate_run(session(run))
            break
        except Killed:
            kills += 1
    assert found == whole
    assert (run / "episodes.csv").read_bytes() == episodes
    assert len(set(played)) == len(played) == kills >= TINY.episodes


def test_films_go_on(run, monkeypatch):
    made = []

    def record(policy, task, path, **_) -> dict:
        path.parent.mkdir(exist_ok=True)
        path.write_text(task)
        made.append(task)
        if len(made) in (2, 4):
            raise Killed
        return {"success": task != "mug", "progress": 0.5}

    monkeypatch.setattr(video, "record", record)
    tasks = ["reach", "mug", "jar"]
    for _ in range(2):
        with pytest.raises(Killed):
            experiment.film_run(session(run), tasks)
    assert experiment.film_run(session(run), tasks) is None
    assert made == ["reach", "mug", "mug", "jar", "jar"]
    experiment.film_run(session(run), tasks)
    assert len(made) == 5
    outcomes = runs.read_results(run)["films"]
    assert {task: film["success"] for task, film in outcomes.items()} == {
        "reach": True,
        "mug": False,
        "jar": True,
    }
    kept.forget(run)
    experiment.film_run(session(run), tasks)
    assert len(made) == 8


def test_what_was_kept_of_another_policy_or_is_damaged_is_done_again(run):
    def part() -> list[Episode]:
        return [Episode("reach", 0, True, True, 0.1, 9, 0.5, 3.0)]

    def empty() -> list[Episode]:
        return []

    assert kept.Kept(run).part("a", part) == part()
    assert kept.Kept(run).part("a", empty) == part()
    stored = (run / kept.FILE).read_text("utf-8")
    for damage in ("", "[]", stored[:-9], stored.replace("0.1", "0.2"), "{}"):
        (run / kept.FILE).write_text(damage, "utf-8")
        assert kept.Kept(run).part("a", empty) == []
    (run / kept.FILE).write_text(stored, "utf-8")
    checkpoint = run / "checkpoint" / checkpoints.FILE
    checkpoint.write_bytes(checkpoint.read_bytes() + b" ")
    assert kept.Kept(run).part("a", empty) == []


def test_the_smallest_of_budgets_is_used_up():
    learned: Any = types.SimpleNamespace(env_steps=0)
    assert Budget(learned, dataclasses.replace(TINY, minutes=5e-324)).used() == 1


def test_the_seconds_of_all_sessions_are_counted(run, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(experiment.time, "perf_counter", lambda: now[0])
    for _ in range(2):  # sessions
        watch = experiment.Stopwatch(run)
        for _ in range(12):
            now[0] += 1
            watch.tick()
        now[0] += 1000  # killed; nobody counts until the next one
    assert runs.read_results(run)["total_seconds"] == 20
    experiment.Stopwatch(run).note()
    assert runs.read_results(run)["total_seconds"] == 20


def flip(file: pathlib.Path) -> None:
    """Change a bit in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_a_damaged_state_says_what_to_do(run, tmp_path):
    learner("ppo", False, "uniform").save(run / "latest")
    with pytest.raises(checkpoints.CheckpointError, match="does not fit .*remove .*latest"):
        Training(session(run), resume=True)
    flip(run / "latest" / checkpoints.FILE)
    with pytest.raises(checkpoints.CheckpointError, match="damaged: .*remove .*latest"):
        Training(session(run), resume=True)
    (run / "transfer" / "mug").mkdir(parents=True)
    shutil.move(run / "latest", run / "transfer" / "mug" / "scratch-0")
    with pytest.raises(checkpoints.CheckpointError, match="damaged: .*--replace"):
        experiment.transfer_run(session(run), "mug")
    flip(run / "checkpoint" / checkpoints.FILE)
    with pytest.raises(checkpoints.CheckpointError, match="checkpoint is damaged"):
        experiment.run_policy(run)


# Transfers


@pytest.fixture(autouse=True)
def one_thread():
    """One learner after the other, in this process; a test of processes asks for more."""
    cores.set_threads(1)
    yield
    cores.set_threads(0)


@pytest.fixture
def quick_points(monkeypatch):
    """The points of curves follow from the weights: no episode is run for them."""

    def evaluate(acting, tasks, episodes, **_):
        weights = {name: value.numpy() for name, value in acting.policy.state_dict().items()}
        rng = np.random.default_rng(int(checkpoints.digest(weights)[:8], 16))
        opened = rng.random(episodes) < 0.5
        return [Episode(tasks[0], k, bool(opened[k]), True, 1, 9, 1, 3) for k in range(episodes)]

    monkeypatch.setattr(curves, "evaluate", evaluate)


def entry_of(results: dict | None) -> dict:
    """The entry of mug."""
    assert results is not None
    return results["transfer"]["mug"]


def success_of(results: dict | None) -> dict:
    """The curves of mug."""
    return {
        arm: [{key: value for key, value in one.items() if key != "seconds"} for one in found]
        for arm, found in entry_of(results)["curves"].items()
    }


def test_a_transfer_goes_on_and_learners_are_added(run, tmp_path, quick_points):
    """Killed after a curve's last point, after the next one's first, and after its last."""
    other = shutil.copytree(run, tmp_path / "other")
    whole = experiment.transfer_run(session(run, seeds=2), "mug")
    experiment.transfer_run(session(other), "mug")
    seen = []

    def report(phase, done, total, text) -> None:
        seen.append(text)
        assert done <= total <= 3 * STEPS_SHOWN  # three learners at most: the others are there
        if len(seen) in (3, 7, 10):
            raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            experiment.transfer_run(session(other, report, seeds=2), "mug")
    added = experiment.transfer_run(session(other, report, seeds=2), "mug")
    assert success_of(added) == success_of(whole)
    assert not (other / "transfer").exists()
    seen.clear()
    again = experiment.transfer_run(session(other, report, seeds=1), "mug")
    assert success_of(again) == success_of(added)
    assert seen == []


def test_learners_at_once_are_those_one_after_the_other(run, tmp_path):
    """Stopped while they learn, gone on with, and again after one was killed."""
    other = shutil.copytree(run, tmp_path / "other")
    targets = ("mug", "bottle")
    assert experiment.transfer_rows(session(run), targets)
    cores.set_threads(4)
    states = other / "transfer"
    stopping = dataclasses.replace(session(other), stop=lambda: any(states.rglob("*.safetensors")))
    assert not experiment.transfer_rows(stopping, targets)
    assert "transfer" not in runs.read_results(other)
    assert any(states.rglob("*.safetensors"))
    assert not any(is_owned(lock.parent) for lock in states.rglob(".lock"))

    def kill(phase, done, total, text) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(runs.RunError, match="its process was killed .exit -9.*goes on"):
        experiment.transfer_rows(session(other, kill), targets)
    assert experiment.transfer_rows(session(other), targets)
    assert list(same.compare(run, other)) == []
    assert not states.exists()


def test_only_missing_learners_are_trained():
    there = ("zero_shot", "fine_tune", "scratch")
    entry = {"curves": {name: [{"seed": 0}] for name in there}}
    config = TransferConfig(seeds=2, methods=("fine_tune", "demos-1"))
    learners = transfer.missing(config, 0, entry)
    assert learners == [(0, "demos-1"), *((1, name) for name in transfer.learner_kinds(config))]
    assert set(transfer.learner_kinds(config)) == {*there, "demos-1"}
    assert transfer.missing(TransferConfig(), 0, entry) == []


def test_a_transfer_of_another_budget_is_refused_unless_told(run, quick_points):
    first = experiment.transfer_run(session(run), "mug")
    with pytest.raises(runs.RunError, match="budget 72, now 24; .*--replace"):
        experiment.transfer_run(session(run, env_steps=24, episodes=21), "mug")
    assert runs.read_results(run)["transfer"] == (first or {})["transfer"]
    second = experiment.transfer_run(session(run, env_steps=24), "mug", replace=True)
    assert success_of(second)["scratch"][0]["steps"] == [0, 24]


def test_a_transfer_that_replaces_another_goes_on_without_that_flag(run, tmp_path, quick_points):
    other = shutil.copytree(run, tmp_path / "other")
    whole = experiment.transfer_run(session(other, env_steps=24), "mug")
    experiment.transfer_run(session(run), "mug")
    folder = run / "transfer" / "mug" / "scratch-0"

    def kill(*_) -> None:
        if (folder / checkpoints.FILE).exists():
            raise Killed

    with pytest.raises(Killed):
        experiment.transfer_run(session(run, kill, env_steps=24), "mug", replace=True)
    assert "mug" not in runs.read_results(run).get("transfer", {})
    assert folder.exists()
    assert success_of(experiment.transfer_run(session(run, env_steps=24), "mug")) == success_of(
        whole
    )


def test_what_another_command_has_begun_is_left_alone(run, quick_points):
    begun = run / "transfer" / "mug" / "demos-1-0"

    def kill(*_) -> None:
        if (begun / curves.FINISHED).exists():
            raise Killed

    with pytest.raises(Killed):
        experiment.transfer_run(session(run, kill, methods=("demos-1", "fine_tune")), "mug")
    experiment.transfer_run(session(run), "mug")
    assert (begun / curves.FINISHED).exists()
    assert not (begun.parent / "scratch-0").exists()
    experiment.transfer_run(session(run, methods=("demos-1", "fine_tune")), "mug")
    assert not (run / "transfer").exists()


@pytest.fixture
def settings(tmp_path) -> str:
    """A file of settings of arms."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"arms": {"fine_tune": {"chosen": {"rate": 1e-4}, "tried": []}}}))
    return str(path)


def test_curves_with_a_file_of_settings_are_not_put_beside_those_without(
    run, settings, quick_points
):
    without = experiment.transfer_run(session(run), "mug")
    says = r"file of settings none, now [0-9a-f]{8}\): .*--replace"
    for seeds in (1, 2):
        with pytest.raises(runs.RunError, match=says):
            experiment.transfer_run(session(run, settings=settings, seeds=seeds), "mug")
    assert entry_of(runs.read_results(run)) == entry_of(without)
    experiment.transfer_run(session(run, settings=settings), "mug", replace=True)
    says = r"file of settings [0-9a-f]{8}, now none\): .*--replace"
    with pytest.raises(runs.RunError, match=says):
        experiment.transfer_run(session(run, seeds=2), "mug")


def test_a_transfer_with_a_file_of_settings_goes_on_with_it_only(run, settings, quick_points):
    """Of some arms the settings matter not; these have none, and go on all the same."""
    folder = run / "transfer" / "mug"

    def kill(*_) -> None:
        if (folder / "fine_tune-0" / checkpoints.FILE).exists():
            raise Killed

    with pytest.raises(Killed):
        experiment.transfer_run(session(run, kill, settings=settings), "mug")
    assert (folder / "zero_shot-0" / curves.FINISHED).exists()
    says = f"^{folder / 'fine_tune-0'} is .*, now none.*remove {folder / 'fine_tune-0'} .*--replace"
    with pytest.raises(runs.RunError, match=says):
        experiment.transfer_run(session(run), "mug")
    assert experiment.transfer_run(session(run, settings=settings), "mug") is not None


def test_runs_beside_a_transfer_are_remembered_where_learners_are_added(
    run, quick_points, monkeypatch
):
    monkeypatch.setattr(transfer.arms, "check", lambda *_: None)  # no arm begins with the run
    first = experiment.transfer_run(session(run, memory="there"), "mug")
    added = experiment.transfer_run(session(run, seeds=2), "mug")
    assert [entry_of(found)["memory"] for found in (first, added)] == ["there", "there"]
    with pytest.raises(runs.RunError, match="memory there, now elsewhere"):
        experiment.transfer_run(session(run, memory="elsewhere"), "mug")


# Loggers


def test_tensorboard_shows_one_line_after_a_kill(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged = Logged()
    saved = logged
    for first, last in ((0, 6), (3, 9)):  # updates; the first session is killed, saved after three
        board = LOGGERS["tensorboard"](tmp_path, logged.steps + 1)
        metrics = Metrics(tmp_path / "metrics.csv", ["phase", "env_steps", "loss"], logged, [board])
        for number in range(first, last):
            metrics.row(phase="ppo", env_steps=10 * number, loss=float(number))
            saved = metrics.sync() if number == 2 else saved
        logged = saved
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    points = [(event.step, event.value) for event in shown.Scalars("loss")]
    assert points == [(10 * number, float(number)) for number in range(9)]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == [str(10 * n) for n in range(9)]


def test_tensorboard_has_every_updates_diagnostics_once_and_changes_nothing(trained, tmp_path):
    """Killed at update 11, and gone on with from update 10."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    job = dataclasses.replace(TINY, tensorboard=True)
    experiment.start(run, job, 0, "a test")
    seen = []

    def report(*_) -> None:
        seen.append(1)
        if len(seen) == 11:
            raise Killed

    with pytest.raises(Killed):
        Training(dataclasses.replace(session(run, report), config=job), resume=False).run()
    time.sleep(1.1)  # event files are named by the second
    Training(dataclasses.replace(session(run), config=job), resume=True).run()
    shown = EventAccumulator(str(run / "tensorboard"))
    shown.Reload()
    steps = [24 * number for number in range(1, 21)]
    of_update = ("approx_kl", "clip_fraction", "explained_variance", "value_loss", "entropy_loss")
    names = [*(f"train/{name}" for name in of_update), "train/learning_rate"]
    for name in (*names, "rollout/ep_rew_mean", "rollout/ep_len_mean"):
        found = [event.step for event in shown.Scalars(name)]
        assert found == (steps if name in names else steps[-len(found) :]), name
        assert np.isfinite([event.value for event in shown.Scalars(name)]).all(), name
    assert list(same.compare(trained, run)) == []  # a run that nothing watched


# Signals


@pytest.fixture
def handlers():
    """Puts back the handlers of signals."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *kills.SIGNALS[1:])}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_ask_for_a_stop_and_ctrl_c_twice_ends(handlers):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        said = []
        stop = Interrupt(said.append)
        assert not stop()
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)  # together with SIGHUP when a machine goes down
        assert stop()
        assert len(said) == 1
    with pytest.raises(SystemExit, match="interrupted twice"):
        os.kill(os.getpid(), signal.SIGINT)


def test_nohup_stays_in_force(handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = Interrupt(print)
    os.kill(os.getpid(), signal.SIGHUP)
    assert not stop()


def test_a_closed_terminal_does_not_end_the_save(handlers):
    def say(text: str) -> None:
        raise OSError("nobody listens")

    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored under nohup
    stop = Interrupt(say)
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop()


def test_ctrl_c_in_other_commands_gets_one_line(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "evaluate_policy", interrupted)
    monkeypatch.setattr(sys, "argv", ["train.py", "evaluate", "zero"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    out, err = capsys.readouterr()
    assert end.value.code == 130
    assert (out + err).count("\n") == 1
    assert "interrupted" in out + err


# Whole commands


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_that_is_killed_is_one_that_is_accepted(name):
    words = kills.JOBS[name].begin.split()
    config = command_line.parse(TrainConfig(job=QUICK), words, "train")
    commands.check_job(resolved(config.job, config.quick))
    check_effects(config)


SHORT = ("quick", "scratch", "sac", "plain", "alone", "history", "memory")  # jobs that need nothing


def test_killed_runs_end_the_same(tmp_path):
    """A job for every signal, another one at each call; `make soak` has all of them."""
    seed = secrets.randbits(32)
    rng = np.random.default_rng(seed)
    harness: dict[str, kills.Killing] = {}
    for number, times in zip(kills.SIGNALS, (2, 1, 1), strict=True):
        name = str(rng.choice(SHORT))
        if name not in harness:
            harness[name] = kills.Killing(kills.JOBS[name], tmp_path / name)
        assert harness[name].killed(rng, times, (number,)) == [], f"seed {seed}, {name}"


FOLDERS = ("OUT", "DEMOS", "GRID", "STUDY", "RAY")


def test_words_of_a_job_are_no_folders():
    """Folders of runs are called as the jobs that made them, and some jobs as a word."""
    given = {name: pathlib.Path("/runs", name) for name in (*kills.JOBS, *FOLDERS)}
    for job in kills.JOBS.values():
        words = kills.filled(job.begin, given)
        assert [w for w in words if w.startswith("/")] == [
            f"/runs/{w}" for w in job.begin.split() if w.split("/")[0].isupper()
        ]
