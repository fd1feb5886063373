"""Recordings of policies: who acts, half-trained policies, and what is refused."""

import dataclasses
import pathlib

import numpy as np
import pytest
import stored
from rich.console import Console

from uncap.agents import checkpoints, demonstrations
from uncap.agents.demonstrations import EXPERT, Actor, DemoConfig, record
from uncap.agents.policy import Acting, load_policy
from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.evaluation import commands, recording
from uncap.evaluation.config import DemosConfig
from uncap.evaluation.protocol import BUILT_IN
from uncap.evaluation.runs import RunError
from uncap.evaluation.same import compare, tensors
from uncap.evaluation.training import HALF_TRAINED, Session, Training

minari = pytest.importorskip("minari")
ROW = "button"
JOB = dataclasses.replace(
    stored.TINY, task_set=f"unrelated/{ROW}", warm_start="none", env_steps=160, checkpoints=True
)


def train(run: pathlib.Path, job=JOB, stops=()) -> pathlib.Path:
    """A whole training, stopped and gone on with after its updates of these numbers."""
    stored.experiment.start(run, job, 0, "a test")
    left = list(stops)
    done: list[int] = []
    resume = False
    while True:
        session = Session(
            run,
            job,
            0,
            lambda *_: done.append(1),
            stop=lambda: bool(left) and len(done) >= left[0],
        )
        if Training(session, resume).run():
            return run
        left.pop(0)
        resume = True


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A run that kept half-trained policies."""
    return train(tmp_path_factory.mktemp("runs") / "a")


def kept(run: pathlib.Path) -> list[str]:
    return sorted(path.name for path in (run / HALF_TRAINED).iterdir())


def set_validation(run: pathlib.Path, **scores: float) -> None:
    """Say how good the policies of a run were in validation."""
    for place, score in scores.items():
        folder = run / "checkpoint" if place == "final" else run / HALF_TRAINED / place
        tensors, meta = checkpoints.load(folder)
        checkpoints.save(folder, tensors, {**meta, "validation": score})


def test_actors_take_turns_and_the_expert_labels_all_of_them(tmp_path):
    still = Actor("zero", BUILT_IN["zero"])
    folder = record(
        tmp_path, "a-v0", (ROW, "block"), DemoConfig(4, perturb=0.0), actors=(still, EXPERT)
    )
    for number, episode in enumerate(minari.MinariDataset(folder / "data")):
        turn = (number // 2) % 2
        labels = episode.infos["expert_action"][:-1]
        assert (episode.infos["actor"] == turn).all()
        assert np.array_equal(episode.actions, labels if turn else np.zeros_like(labels))
        assert np.abs(labels).max() > 0.1
    assert demonstrations.metadata(folder)["actors"] == ["zero", "expert"]


def test_a_recorded_policy_acts_as_it_does_elsewhere(run, tmp_path):
    commands.demos(
        DemosConfig(task_set=f"unrelated/{ROW}", policy=(str(run),), episodes=2, out=tmp_path),
        Console(quiet=True),
    )
    folder = tmp_path / f"uncap/unrelated/{ROW}-policy-v0"
    notes = demonstrations.metadata(folder)
    assert notes["actors"] == ["a/checkpoint"]
    assert notes["perturb"] == 0
    policy, meta = load_policy(run / "checkpoint")
    act = None
    for episode in minari.MinariDataset(folder / "data"):
        env = ClosureVectorEnv((ROW,), 1, conditioning=meta["conditioning"])
        act = Acting(policy, meta["tasks"])(env)
        seen = {name: values[:-1] for name, values in episode.observations.items()}
        expected = act(seen, np.zeros(len(episode.actions), int))
        np.testing.assert_allclose(episode.actions, expected, atol=1e-6)
        env.close()


def test_what_is_kept_along_a_training_changes_nothing_else(run, tmp_path):
    plain = train(tmp_path / "plain", dataclasses.replace(JOB, checkpoints=False))
    assert not (plain / HALF_TRAINED).exists()
    assert (plain / "metrics.csv").read_text().count("\n") > 2
    of_plain, of_run = tensors(plain / "checkpoint"), tensors(run / "checkpoint")
    assert of_plain == of_run
    assert len(kept(run)) == 10


def test_a_training_that_was_stopped_keeps_the_same_policies(run, tmp_path):
    again = train(tmp_path / "again", stops=(3, 4, 11))
    assert kept(again) == kept(run)
    assert list(compare(run, again)) == []
    for name in kept(run):
        ours = checkpoints.load(run / HALF_TRAINED / name)[1]
        theirs = checkpoints.load(again / HALF_TRAINED / name)[1]
        assert ours["trained_steps"] == theirs["trained_steps"]
        assert ours["validation"] == theirs["validation"]


def test_grades_of_a_run(run, tmp_path):
    names = kept(run)
    copy = tmp_path / "graded"
    train(copy)
    scores = {name: 0.0 for name in names} | {names[2]: 0.25, names[3]: 0.5, names[4]: 0.75}
    set_validation(copy, final=0.75, **scores)

    def acting(grade, *policy):
        config = DemosConfig(
            task_set=f"unrelated/{ROW}", policy=policy or (str(copy),), grade=grade
        )
        return [actor.name for actor in recording.recorded(config, (ROW,)).actors]

    assert acting("final") == ["graded/checkpoint"]
    assert acting("medium") == [f"graded/{names[2]}"]  # of the two that are as near
    assert acting("replay") == [f"graded/{name}" for name in names]
    one = str(copy / HALF_TRAINED / names[4])
    assert acting("final", one, "expert", "random") == [f"graded/{names[4]}", "expert", "random"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": ("nobody",)}, "no run folder nobody and no policy nobody (policies: zero, ra"),
        ({"grade": "medium"}, "--grade medium is of run folders"),
        ({"policy": ("random",), "grade": "replay"}, "--grade replay is of run folders"),
    ],
)
def test_a_policy_that_is_not_there_is_refused(changes, message):
    with pytest.raises(ValueError) as caught:
        recording.recorded(DemosConfig(**changes), ("mug",))
    assert message in str(caught.value)


def test_runs_that_do_not_fit_are_refused(run, tmp_path):
    told_less = train(
        tmp_path / "less", dataclasses.replace(JOB, conditioning="one_hot", checkpoints=False)
    )

    def ask(rows=(ROW,), **changes):
        recording.recorded(DemosConfig(**changes), rows)

    with pytest.raises(ValueError, match="told or senses something else"):
        ask(policy=(str(run), str(told_less)))
    with pytest.raises(RunError, match="no half-trained policies: train with --checkpoints"):
        ask(policy=(str(told_less),), grade="medium")
    with pytest.raises(ValueError, match="was not trained on mug, and one_hot has no vector"):
        ask(("mug",), policy=(str(told_less),))
    assert "mug" in CLOSURES


def test_a_share_of_random_actions_is_the_experts_default():
    def perturb(**changes):
        return recording.recorded(DemosConfig(**changes), ("mug",)).settings.perturb

    assert perturb() == recording.PERTURB
    assert perturb(policy=("expert", "zero")) == 0
    assert perturb(policy=("zero",), perturb=0.1) == 0.1
    assert perturb(perturb=0.0) == 0
