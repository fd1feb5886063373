"""Worlds on a device as Gymnasium sees them: on MuJoCo's own memory."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import NumpyToTorch, RecordEpisodeStatistics
from test_device import closures_on_mujoco

from uncap.envs import ClosureVectorEnv
from uncap.envs.device.vector_env import DeviceVectorEnv

ROWS = ("bottle", "mug")
N = 4
STEPS = 5  # of an episode


def environment(n=N, rows=ROWS, **choices):
    given = {"told": "parameters", "starts": 3, "episode_steps": STEPS, **choices}
    return DeviceVectorEnv(closures_on_mujoco(rows, n, **given))


class One(gym.Env):
    """The only world of a vector environment, for Gymnasium's checker."""

    metadata = {"render_modes": []}

    def __init__(self, **choices):
        self.worlds = environment(1, ROWS[:1], **choices)
        self.observation_space = self.worlds.single_observation_space
        self.action_space = self.worlds.single_action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observation, info = self.worlds.reset(seed=seed, options=options)
        return self.first(observation), self.first(info)

    def step(self, action):
        observation, reward, terminated, truncated, info = self.worlds.step(action[None])
        ends = bool(terminated[0]), bool(truncated[0])
        return self.first(observation), float(reward[0]), *ends, self.first(info)

    @staticmethod
    def first(part):
        return {name: values[0] for name, values in part.items()}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasiums_checker_is_clean():
    check_env(One(), skip_render_check=True)


@pytest.mark.parametrize(
    "choices",
    (
        {},
        {"history": 3, "privileged": True, "sensors": "arm"},
        {"told": "none", "level": "randomised", "attempts": 2},
    ),
)
def test_spaces_types_and_info_are_those_of_the_vector_environment(choices):
    env = environment(**choices)
    told = choices.get("told", "parameters")
    others = {name: value for name, value in choices.items() if name != "told"}
    other = ClosureVectorEnv(ROWS, N, conditioning=told, threads=1, episode_steps=STEPS, **others)
    assert env.observation_space == other.observation_space
    assert env.action_space == other.action_space
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP == other.autoreset_mode
    results = [env.reset(seed=0), other.reset(seed=0)]
    assert env.observation_space.contains(results[0][0])
    env.action_space.seed(0)
    for step in range(1, 2 * STEPS):
        action = env.action_space.sample()
        results = [each.step(action) for each in (env, other)]
        for own, its in zip(*results, strict=True):
            if isinstance(own, dict):
                assert set(own) == set(its)
            else:
                assert own.dtype == its.dtype and own.shape == its.shape
        observation, _, terminated, truncated, info = results[0]
        assert env.observation_space.contains(observation)
        assert all(type(value) is np.ndarray and len(value) == N for value in info.values())
        assert not terminated.any() and truncated.all() == (step == STEPS)


def test_a_seed_gives_the_same_episodes_and_another_one_others():
    env = environment(level="randomised")

    def played(seed):
        found = [env.reset(seed=seed)[0]["state"]]
        found += [env.step(np.full((N, 5), 0.5))[0]["state"] for _ in range(3 * STEPS)]
        return np.array(found)

    first, other, again = played(3), played(4), played(3)
    assert np.array_equal(first, again)
    assert not np.allclose(first[0], other[0])
    assert np.array_equal(
        environment(level="randomised", seed=3).reset(seed=3)[0]["state"], first[0]
    )
    assert not np.array_equal(first[0], first[STEPS + 1])  # the next start
    later = env.reset()[0]["state"]  # what comes next
    assert not np.array_equal(later, first[0])


def test_what_is_returned_is_not_overwritten():
    env = environment()
    kept, _ = env.reset(seed=0)
    before = kept["state"].copy()
    env.step(np.ones((N, 5)))
    assert np.array_equal(kept["state"], before)


def test_gymnasiums_wrappers_take_it():
    env = NumpyToTorch(RecordEpisodeStatistics(environment()))
    env.reset(seed=0)
    for _ in range(STEPS):
        observation, *_, info = env.step(env.action_space.sample())
    assert observation["state"].shape == (N, 36)
    assert (info["episode"]["l"] == STEPS).all()


def test_mistakes_are_explained():
    env = environment()
    with pytest.raises(gym.error.ResetNeeded, match="reset"):
        env.step(np.zeros((N, 5)))
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": np.ones(N, bool)})
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed="now")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must have shape \(4, 5\)"):
        env.step(np.zeros((N, 4)))
    action = np.zeros((N, 5))
    action[1, 2] = np.nan
    *_, info = env.step(action)
    assert info["invalid_action"].tolist() == [0, 1, 0, 0]
