"""Task sequences: what is learned row after row, what is forgotten, and what is done against it."""

import dataclasses
import functools
import io
import itertools
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from uncap.agents import checkpoints
from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig
from uncap.agents.learner import Learner
from uncap.agents.rehearsal import REHEARSALS, Before, Rehearsing
from uncap.evaluation import cli, sequence
from uncap.evaluation.config import SequenceConfig
from uncap.evaluation.sequence import LEARNERS, TaskSequence
from uncap.evaluation.statistics import wilson

ROWS = ("reach", "puck", "mug")
SMALL = SequenceConfig(
    tasks=ROWS,
    steps=160,
    episodes=2,
    kept_episodes=1,
    num_envs=4,
    width=8,
)


def quiet(*_) -> None:
    return None


def never() -> bool:
    return False


def after(calls: int):
    """A stop that is asked for after so many calls."""
    left = itertools.count(calls, -1)
    return lambda: next(left) <= 0


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few minibatches in each round."""
    made = functools.partial(DaggerConfig, updates=2, minibatch=16, rollout=8)
    monkeypatch.setattr(sequence, "DaggerConfig", made)


# Measures


def test_measures_by_hand():
    """Three rows, four tests; each row loses or keeps what it had."""
    success = np.array(
        [
            [0.0, 0.2, 0.0],  # before anything
            [1.0, 0.4, 0.1],
            [0.5, 0.9, 0.3],
            [0.2, 0.9, 0.8],
        ]
    )
    found = sequence._measured(success)
    assert found["accuracy"] == pytest.approx((0.2 + 0.9 + 0.8) / 3)
    assert found["forgetting"] == pytest.approx(((1.0 - 0.2) + 0.0) / 2)
    assert found["forward_transfer"] == pytest.approx(((0.4 - 0.2) + (0.3 - 0.0)) / 2)


def test_intervals_are_over_starts():
    outcomes = np.zeros((3, 2, 40), int)
    outcomes[1:, 0, :20] = 1
    found = sequence.measures(outcomes)
    value, low, high = found["accuracy"]
    assert value == 0.25
    assert low < 0.25 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.5 * (0.25 / 40) ** 0.5, rel=0.25)
    others = wilson(0, 40)[1]  # no start of the forty differs, but others may
    assert found["forgetting"] == pytest.approx([0.0, -others, others])
    certain = sequence.measures(np.ones((3, 2, 40), int))
    assert certain["accuracy"] == pytest.approx([1.0, *wilson(40, 40)])


# Rehearsal


def before(learner: Learner, episodes: int = 2) -> Before:
    return Before(
        learner.policy,
        ROWS[:2],
        np.arange(2),
        learner.closures.task_vectors[:2],
        episodes,
        "full",
        10,
    )


@pytest.fixture(scope="module")
def learner() -> Learner:
    config = LearnerConfig(num_envs=4, warm=True, network=NetworkConfig(width=8))
    return Learner(ROWS, config, 0)


def batch(learner: Learner, n: int = 64) -> dict[str, torch.Tensor]:
    return {
        "state": torch.randn(n, 36),
        "task": torch.as_tensor(np.tile(learner.closures.task_vectors[2], (n, 1))),
        "index": torch.full((n,), 2),
        "label": torch.zeros(n, 5),
    }


def test_replay_gives_states_and_labels_of_the_rows_before(learner):
    rehearse = REHEARSALS["replay"].prepare(before(learner))
    assert rehearse is not None
    found = rehearse(batch(learner), np.random.default_rng(0))
    assert set(found["index"].tolist()) == {0, 1}
    told = torch.as_tensor(learner.closures.task_vectors)
    assert torch.equal(found["task"], told[found["index"]])
    assert found["label"].abs().max() <= 1.0
    assert found["label"].abs().sum() > 0
    again = REHEARSALS["replay"].prepare(before(learner))
    assert again is not None
    theirs = again(batch(learner), np.random.default_rng(0))
    assert all(torch.equal(found[name], theirs[name]) for name in found)


def test_distillation_asks_the_policy_before_in_the_present_states(learner):
    rehearse = REHEARSALS["distill"].prepare(before(learner))
    assert rehearse is not None
    present = batch(learner)
    found = rehearse(present, np.random.default_rng(0))
    assert torch.equal(found["state"], present["state"])
    assert set(found["index"].tolist()) == {0, 1}
    with torch.no_grad():
        expected = learner.policy.actor(found["state"], found["task"], found["index"])
    assert torch.equal(found["label"], expected)


def test_half_of_a_minibatch_is_rehearsed(learner):
    seen = []

    def rehearse(present, rng):
        seen.append(len(present["label"]))
        return present

    config = DaggerConfig(steps=128, rollout=8, updates=3, minibatch=32)
    make = functools.partial(Rehearsing, rehearse=rehearse)
    learner.imitate_experts(config, lambda *_: True, make)
    assert seen == [16] * 3 * 4


# Whole sequences


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns_a_sequence_and_goes_on_where_it_was_stopped(name, tmp_path):
    config = dataclasses.replace(SMALL, learner=name)
    whole = TaskSequence(tmp_path / "whole", config, quiet, never)
    assert whole.run()
    assert np.shape(whole.outcomes) == (4, 3, 2)
    parts = tmp_path / "parts"
    for _ in range(40):
        part = TaskSequence(parts, config, quiet, after(3))
        if part.run():
            break
        assert (parts / "latest").exists()
    assert part.outcomes == whole.outcomes
    assert not (parts / "latest").exists()
    for file in (sequence.FILE, sequence.TABLE, sequence.PICTURE):
        assert (parts / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    ours, theirs = (
        checkpoints.load(folder / "after-3")[0] for folder in (parts, tmp_path / "whole")
    )
    for name in ours:
        assert not name.startswith("policy/") or np.array_equal(ours[name], theirs[name]), name
    found = json.loads((parts / sequence.FILE).read_text())
    assert set(found["measures"]) == {"accuracy", "forgetting", "forward_transfer"}


@pytest.mark.parametrize("moment", ["before the results", "after them"])
def test_a_kill_between_two_rows_loses_nothing(moment, tmp_path, monkeypatch):
    config = dataclasses.replace(SMALL, learner="replay", tasks=ROWS[:2], steps=320)
    whole = TaskSequence(tmp_path / "whole", config, quiet, never)
    assert whole.run()
    write = TaskSequence._write

    def dies(self):
        if moment == "after them":
            write(self)
        if len(self.outcomes) == 2:
            raise KeyboardInterrupt
        write(self)

    with monkeypatch.context() as patch:
        patch.setattr(TaskSequence, "_write", dies)
        with pytest.raises(KeyboardInterrupt):
            TaskSequence(tmp_path / "killed", config, quiet, never).run()
    assert list((tmp_path / "killed" / "latest").iterdir())
    again = TaskSequence(tmp_path / "killed", config, quiet, never)
    assert again.run()
    assert again.outcomes == whole.outcomes
    ours, theirs = (checkpoints.load(f.out / "after-2")[0] for f in (again, whole))
    policy = [name for name in ours if name.startswith("policy/")]
    assert policy and all(np.array_equal(ours[name], theirs[name]) for name in policy)


def test_a_kill_while_results_are_written_leaves_no_older_table_for_good(tmp_path, monkeypatch):
    one = TaskSequence(tmp_path, SMALL, quiet, never)
    one.outcomes = np.zeros((3, 3, 2), int).tolist()
    one._write()
    one.outcomes.append(one.outcomes[0])

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sequence, "picture", dies)
    with pytest.raises(KeyboardInterrupt):
        one._write()
    again = TaskSequence(tmp_path, SMALL, quiet, never)
    assert len(again.outcomes) == 3  # the last row is tested and written again


def test_orders_go_by_distance():
    config = SequenceConfig(task_set="first", order="near")
    near = sequence.rows_of(config)
    assert near[0] == sequence.rows_of(SequenceConfig(task_set="first"))[0]
    assert sequence.rows_of(dataclasses.replace(config, order="far")) == near[::-1]
    drawn = [
        sequence.rows_of(dataclasses.replace(config, order="drawn", seed=k)) for k in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert set(drawn[0]) == set(near)


def said(*words) -> str:
    console = Console(file=io.StringIO(), markup=False, width=1000)
    cli.run(words, console)
    return console.file.getvalue()  # type: ignore


def test_the_command_prints_what_was_forgotten(tmp_path):
    out = tmp_path / "out"
    words = ("sequence", "reach", "puck", "--steps", "80", "--episodes", "1", "--num-envs", "4")
    printed = said(*words, "--width", "8", "--out", str(out))
    assert "puck   before it was learned 0.00" in printed
    assert "forgetting 0.00 [-0.79, 0.79]" in printed  # one start says little
    table = (out / sequence.TABLE).read_text().splitlines()
    assert table[0] == "learned,last,row,success,low,high,episodes"
    assert len(table) == 1 + 3 * 2
    assert said(*words, "--width", "8", "--out", str(out)) == printed  # nothing is left to do
    with pytest.raises(ValueError, match="holds a sequence with another width"):
        said(*words, "--width", "16", "--out", str(out))
    (out / sequence.FILE).write_text('{"settings": {}, "outcomes": 3}')
    with pytest.raises(ValueError, match="sequence.json is damaged"):
        said(*words, "--width", "8", "--out", str(out))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name two rows or more, or give --task-set: one of both"),
        (("jar",), "two different rows or more"),
        (("jar", "mug", "--task-set", "first"), "one of both"),
        (("jar", "mug", "--order", "near"), "--order goes with --task-set"),
        (("jar", "mugg"), "mugg"),
        (("jar", "mug", "--learner", "ewc"), "unknown learner 'ewc'"),
        (("jar", "mug", "--steps", "0"), "at least 1"),
    ],
)
def test_what_is_no_sequence_gets_one_line(words, says, tmp_path):
    with pytest.raises((ValueError, SystemExit), match=says):
        said("sequence", *words, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
