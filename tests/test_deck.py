"""Equal shares of control steps, for any number of rows and environments."""

import heapq

import numpy as np
import pytest

from uncap.agents.config import LearnerConfig
from uncap.agents.learner import Learner
from uncap.envs import ClosureVectorEnv
from uncap.envs.deck import Deck

STEPS = {"equal": [80], "mixed": [80, 80, 100, 160]}


def shares(deck, steps, num_envs, total):
    """Shares of the control steps that tasks get in num_envs environments, up to `total` steps."""
    steps = np.asarray(steps)
    practised = np.zeros(len(steps))
    ends = [(0, env) for env in range(num_envs)]  # (control step, environment)
    heapq.heapify(ends)
    while ends[0][0] < total:
        now, env = heapq.heappop(ends)
        task = int(deck.deal(1)[0])
        practised[task] += min(steps[task], total - now)
        heapq.heappush(ends, (now + int(steps[task]), env))
    return practised / practised.sum()


@pytest.mark.parametrize("lengths", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("rows, num_envs", [(8, 4), (24, 64), (5, 3), (256, 64), (3, 64)])
def test_tasks_get_equal_shares_of_steps(rows, num_envs, lengths):
    steps = np.resize(lengths, rows)
    deck = Deck(steps, np.random.default_rng(0))
    total = 16_000 * rows // num_envs  # 200 episodes of 80 steps of each row
    assert shares(deck, steps, num_envs, total) * rows == pytest.approx(np.ones(rows), abs=0.02)


def test_with_episodes_of_one_length_every_task_is_dealt_once_before_any_again():
    deck = Deck(np.full(8, 80), np.random.default_rng(0))
    rounds = [deck.deal(8).tolist() for _ in range(20)]
    assert all(sorted(dealt) == list(range(8)) for dealt in rounds)
    assert len({tuple(dealt) for dealt in rounds}) > 15  # shuffled anew


def without_physics(env):
    """Let time pass, but nothing move."""
    env.batch.step = lambda actions: None
    env.batch.reset = lambda ids, task, rngs, same: None
    return env


def practised(env, steps):
    """Episodes that begin, by task, and the task of every step."""
    seen = []
    env.reset(seed=0)
    for _ in range(steps):
        seen.append(env.task.copy())
        env.step(np.zeros((env.num_envs, 5)))
    return np.array(seen)


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_an_environment_with_a_deck_practises_every_task(mode):
    tasks = ("pump", "button", "flip-mug", "tap", "mug")  # of 80, 80, 100, 160 and 80 steps
    env = ClosureVectorEnv(tasks, 4, autoreset_mode=mode, assignment="deck", threads=1)
    env = without_physics(env)
    seen = practised(env, 1200)
    share = np.bincount(seen.ravel(), minlength=5) / seen.size
    assert share * 5 == pytest.approx(np.ones(5), abs=0.1)  # 24 to 60 episodes of each
    again = without_physics(ClosureVectorEnv(tasks, 4, autoreset_mode=mode, assignment="deck"))
    assert np.array_equal(practised(again, 200), seen[:200])


def test_tasks_stay_where_no_deck_is_asked_for():
    env = without_physics(ClosureVectorEnv(("pump", "button", "mug"), 4, autoreset_mode="SameStep"))
    assert (practised(env, 200) == [0, 1, 2, 0]).all()


def test_probabilities_are_shares_of_what_they_weigh():
    env = ClosureVectorEnv(("pump", "button"), 4, autoreset_mode="SameStep", assignment="deck")
    env = without_physics(env)
    env.probabilities = [1.0, 0.0]
    assert (practised(env, 200) == 0).all()
    for wrong in ([1.0], [0.7, 0.7], [-1.0, 2.0], [np.nan, 1.0]):
        with pytest.raises(ValueError, match="probabilities must be"):
            env.probabilities = wrong


def test_a_learner_practises_more_tasks_than_it_has_environments():
    learner = Learner(("pump", "button", "mug"), LearnerConfig(num_envs=2), seed=0)
    without_physics(learner.closures)
    assert set(practised(learner.closures, 200).ravel()) == {0, 1, 2}


@pytest.mark.parametrize("before", range(1, 8))
def test_a_deck_goes_on_from_a_snapshot_after_any_number_of_deals(before):
    steps = np.full(5, 80)
    deck, other = (Deck(steps, np.random.default_rng(seed)) for seed in (0, 1))
    deck.deal(before)
    other.restore(deck.snapshot())
    assert np.array_equal(other.deal(20), deck.deal(20))
