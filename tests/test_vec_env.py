"""The adapter for stable-baselines3: its infos, resets, methods, and what it refuses."""

import copy

import numpy as np
import pytest
from gymnasium.wrappers.vector import ClipReward, RescaleAction
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from uncap.agents.vec_env import TaskVecEnv
from uncap.envs import CLOSURES, ClosureEnv, ClosureVectorEnv

STEPS = CLOSURES["mug"].steps


@pytest.fixture
def env():
    closures = ClosureVectorEnv(("mug", "button"), 3, autoreset_mode="SameStep", threads=1)
    env = TaskVecEnv(closures)
    env.seed(0)
    env.reset()
    return env


def step(env, times=1):
    for _ in range(times):
        found = env.step(np.zeros((env.num_envs, 5), np.float32))
    return found


def test_a_reset_forgets_the_return_that_the_scale_is_made_of(env):
    step(env, 3)
    assert env.scale.returns.all()
    env.reset()
    assert not env.scale.returns.any()
    assert env.scale.count.sum() > 8  # what was learned stays


def test_infos_are_those_that_stable_baselines3_gives(env):
    theirs = DummyVecEnv([lambda: ClosureEnv("mug")] * 1)
    theirs.reset()
    *_, ours = step(env)
    *_, others = step(theirs)
    assert set(others[0]) == set(ours[0])
    assert {type(value) for value in ours[0].values()} <= {float, int, bool}
    *_, done, ours = step(env, STEPS - 1)
    *_, others = step(theirs, STEPS - 1)
    assert done.all()
    assert set(others[0]) <= set(ours[0])
    assert ours[0]["steps"] == STEPS
    assert ours[0]["TimeLimit.truncated"] and ours[0]["episode"]["l"] == STEPS
    assert not step(env)[3][0]["TimeLimit.truncated"]


def test_a_wrapped_environment_is_taken():
    def made() -> ClosureVectorEnv:
        return ClosureVectorEnv(("mug", "button"), 2, autoreset_mode="SameStep", threads=1)

    bare, wrapped = made(), made()
    low, high = np.zeros(5, np.float32), np.ones(5, np.float32)
    env = TaskVecEnv(ClipReward(RescaleAction(wrapped, low, high), 0, 0.01), plain=True)
    env.seed(0)
    env.reset()
    bare.reset(seed=0)
    for _ in range(STEPS):
        _, reward, done, _ = env.step(np.full((2, 5), 0.5, np.float32))
        _, expected, *_ = bare.step(np.zeros((2, 5)))
        assert reward == pytest.approx(np.minimum(expected, 0.01))
    assert done.all() and env.closures is wrapped
    PPO("MultiInputPolicy", env, n_steps=4, batch_size=8, n_epochs=1).learn(8)
    indexed = TaskVecEnv(ClipReward(made(), 0, 0.01)).reset()
    assert indexed["index"].tolist() == [[0], [1]]


def test_another_autoreset_mode_is_refused():
    with pytest.raises(ValueError, match="SAME_STEP"):
        TaskVecEnv(ClipReward(ClosureVectorEnv("mug", 1), 0, 1))


def test_reset_infos_tell_of_new_episodes(env):
    assert [info["task_index"] for info in env.reset_infos] == [0, 1, 0]
    step(env, STEPS)
    assert [info["steps"] for info in env.reset_infos] == [0, 0, 0]


def test_methods_and_attributes_give_one_value_for_each_index(env):
    assert len(env.env_method("snapshot", indices=[0, 1, 2])) == 3
    assert len(env.env_method("snapshot", indices=1)) == 1
    assert env.get_attr("num_envs", indices=[0, 2]) == [3, 3]
    assert env.env_is_wrapped(object, indices=[1]) == [False]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_an_error_before_anything_is_stepped(env, number):
    actions = np.zeros((3, 5), np.float32)
    actions[1, 2] = number
    before = copy.deepcopy(env.closures)
    with pytest.raises(ValueError, match="of 1 of 3 sub-environments are NaN or infinite"):
        env.step(actions)
    assert np.array_equal(before.batch.qpos, env.closures.batch.qpos)
    assert (env.closures._tracker.steps == 0).all()


def test_a_copy_has_the_same_future(env):
    step(env, 5)
    other = copy.deepcopy(env)
    for one, two in zip(step(env, 4)[0].values(), step(other, 4)[0].values(), strict=True):
        assert np.array_equal(one, two)


def test_options_reach_the_environment_or_are_refused(env):
    env.set_options({"task": "button"})
    env.reset()
    assert env.closures.task_names == ("button",) * 3
    env.set_options([{"task": "mug"}, {"task": "mug"}, {"task": "button"}])
    env.reset()
    assert env.closures.task_names == ("mug", "mug", "button")
    for wrong in ({"level": "tilted"}, [{"task": "mug"}, {}, {}], [{"task": "mug"}]):
        env.set_options(wrong)
        with pytest.raises(ValueError, match="options must be a task for each of the 3"):
            env.reset()
    env.reset()  # asked for once
