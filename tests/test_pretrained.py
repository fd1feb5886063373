"""Policies that come with the package: they open what they were trained on, and only act."""

import io

import numpy as np
import pytest
import stored
from rich.console import Console

import uncap
from uncap.agents import checkpoints, pretrained
from uncap.agents.files import read_json
from uncap.evaluation import commands, experiment, live_page, runs
from uncap.evaluation.cli import run as cli
from uncap.evaluation.config import JobConfig
from uncap.evaluation.training import Session

NAMES = sorted(pretrained.NAMES)


def said(*words) -> str:
    """What a command prints."""
    console = Console(file=io.StringIO(), markup=False, width=1000)
    cli(words, console)
    return console.file.getvalue()  # type: ignore


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_the_rows_that_it_was_trained_on(name):
    [actor] = commands.actors(pretrained.located(name), ())
    rows = actor.tasks
    assert rows == uncap.named_set("first" if name == "pretrained" else "mt16").train
    table = commands.evaluate_policy(
        actor.policy, rows, 2, conditioning=actor.conditioning, known_tasks=actor.known_tasks
    )
    assert np.mean([episode.success for episode in table]) >= 0.95


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_says_nothing_of_the_machine_that_made_it(name):
    folder = pretrained.NAMES[name]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    config = runs.open_run(folder)
    assert "/" not in config["command"]
    tensors, meta = checkpoints.load(folder / "checkpoint")
    assert not [part for part in tensors if "critic" in part or not part.startswith("policy/")]
    assert meta["acts_only"] is True


def test_names_stand_in_place_of_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "jar" in said("evaluate", "pretrained", "--tasks", "jar", "--episodes", "1")
    assert uncap.load("pretrained").predict(np.zeros(36), task="jar")[0].shape == (5,)
    assert list(tmp_path.iterdir()) == []  # nothing is written


def test_nothing_is_written_into_the_package(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="--out is needed: pretrained lies in the package"):
        said("export", "pretrained")
    said("export", "pretrained", "--out", str(tmp_path / "a.onnx"))
    assert (tmp_path / "a.onnx").exists()


def test_it_cannot_be_transferred():
    folder = pretrained.NAMES["pretrained"]
    session = Session(folder, JobConfig(), 0, lambda *_: None, lambda: False)
    with pytest.raises(runs.RunError, match="has no critic to transfer: train a run of your own"):
        experiment.transfer_rows(session, ("thermos",))


def test_a_policy_of_the_package_is_made_from_a_run(tmp_path):
    run = tmp_path / "run"
    stored.make_run(run)
    folder = tmp_path / "made"
    config = {**runs.open_run(run), "command": "uncap --out somewhere/run --seed 1"}
    pretrained.write(config, run / "checkpoint", folder)
    assert read_json(folder / "config.json", "")["command"] == "uncap --seed 1"
    ours, theirs = uncap.load(folder), uncap.load(run)
    state = np.random.default_rng(0).normal(size=(4, 36)).clip(-1, 1)
    row = ours.reads.tasks[0]
    assert np.array_equal(ours.predict(state, task=row)[0], theirs.predict(state, task=row)[0])


def test_a_checkpoint_without_its_critic_is_refused_where_it_is_not_said(tmp_path):
    run = tmp_path / "run"
    stored.make_run(run)
    tensors, meta = checkpoints.load(run / "checkpoint")
    acting = {name: value for name, value in tensors.items() if "critic" not in name}
    checkpoints.save(run / "checkpoint", acting, meta)
    with pytest.raises(checkpoints.CheckpointError, match="its networks differ"):
        uncap.load(run)


def test_a_look_begins_with_the_first_row(monkeypatch):
    looked = []
    monkeypatch.setattr(live_page, "check_installed", lambda: None)
    monkeypatch.setattr(live_page, "look", lambda live, port, say: looked.append(live.task))
    said("view", "pretrained")
    said("view", "pretrained", "--task", "jar")
    assert looked == [uncap.named_set("first").train[0], "jar"]
