"""Trials: several attempts at one closure, of one variant, from a new start each."""

import gymnasium as gym
import numpy as np
import pytest

from uncap.envs import ClosureVectorEnv

ROWS = ("jar", "mug", "reach")
STEPS = 3


def make(attempts=3, n=6, **choices):
    choices = {"episode_steps": STEPS, "conditioning": "none", **choices}
    return ClosureVectorEnv(ROWS, n, attempts=attempts, **choices)


def still(env):
    return np.zeros((env.num_envs, 5))


def played(env, steps, seed=0) -> list[dict]:
    """What there was before each control step."""
    _, info = env.reset(seed=seed)
    found = []
    for _ in range(steps):
        found.append(
            {
                "attempt": info.get("attempt", np.zeros(env.num_envs, int)).copy(),
                "task": env.task.copy(),
                "variant": env.batch.variant.copy(),
                "hand": env.batch.qpos[:, :7].copy(),
            }
        )
        _, _, _, _, info = env.step(still(env))
    return found


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_trial_is_of_one_variant_with_a_new_start_each(mode):
    env = make(autoreset_mode=mode, assignment="deck")
    length = STEPS + (mode == "NextStep")  # the step that restarts
    steps = played(env, 2 * 3 * length)
    starts = steps[::length]
    assert [step["attempt"].tolist() for step in starts] == [[k] * 6 for k in (0, 1, 2, 0, 1, 2)]
    for first in (0, 3):
        of_trial = starts[first : first + 3]
        assert all((step["task"] == of_trial[0]["task"]).all() for step in of_trial)
        assert all((step["variant"] == of_trial[0]["variant"]).all() for step in of_trial)
        hands = [step["hand"] for step in of_trial]
        assert not np.isclose(hands[0], hands[1]).all(1).any()
    trials = [
        {(int(t), int(v)) for t, v in zip(s["task"], s["variant"], strict=True)} for s in starts
    ]
    assert trials[0] != trials[3]  # other closures


def test_one_attempt_is_what_there_was_before():
    plain = ClosureVectorEnv(ROWS, 6, episode_steps=STEPS, conditioning="none")
    one = make(1)
    for a, b in zip(played(plain, 9), played(one, 9), strict=True):
        assert np.array_equal(a["hand"], b["hand"])
        assert np.array_equal(a["variant"], b["variant"])
    _, info = one.reset(seed=0)
    assert "attempt" not in info


def test_a_reset_begins_a_trial_and_goes_on_with_one_only_where_that_is_asked_for():
    env = make(autoreset_mode="Disabled")
    env.reset(seed=0)
    variants = []
    for attempt in range(4):
        variants.append(env.batch.variant.copy())
        for _ in range(STEPS):
            _, _, _, truncated, info = env.step(still(env))
        assert truncated.all()
        assert (info["attempt"] == attempt % 3).all()
        env.reset(options={"next_attempt": True})
    assert (variants[0] == variants[1]).all() and (variants[1] == variants[2]).all()
    assert (variants[3] != variants[2]).any()
    _, info = env.reset(options={"next_attempt": np.array([True, False] * 3)})
    assert info["attempt"].tolist() == [2, 0] * 3
    _, info = env.reset()
    assert (info["attempt"] == 0).all()


def test_a_snapshot_knows_its_attempt():
    env = make()
    env.reset(seed=1)
    for _ in range(STEPS + 2):
        env.step(still(env))
    kept = env.snapshot()
    ahead = [env.step(still(env)) for _ in range(2 * STEPS)]
    copy = make()
    copy.restore(kept)
    for observation, _, _, _, info in ahead:
        theirs, _, _, _, other = copy.step(still(copy))
        assert np.array_equal(observation["state"], theirs["state"])
        assert np.array_equal(info["attempt"], other["attempt"])
    with pytest.raises(ValueError, match="attempts"):
        make(2).restore(kept)


@pytest.mark.parametrize("attempts", [0, -1, 1.5, "3", None, True, 10**6])
def test_a_number_that_is_none_is_refused(attempts):
    with pytest.raises(ValueError, match="attempts must be"):
        make(attempts)


def test_what_no_trial_can_do_is_refused():
    one = make(1)
    one.reset(seed=0)
    with pytest.raises(ValueError, match="trials have one attempt here"):
        one.reset(options={"next_attempt": True})
    env = make()
    with pytest.raises(gym.error.ResetNeeded):
        env.reset(options={"next_attempt": True})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="exclude each other"):
        env.reset(options={"next_attempt": True, "task": "jar"})
    with pytest.raises(ValueError, match="next_attempt"):
        env.reset(options={"next_attempt": [True]})
