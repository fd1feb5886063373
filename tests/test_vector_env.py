"""The Gymnasium side: checkers, seeds, partial resets, autoreset, exact state."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import CLOSURES, ClosureEnv, ClosureVectorEnv, observations
from envs.experts import expert_action
from envs.mechanisms import TWIST
from envs.rewards import WEIGHTS

MAX_STEPS = CLOSURES["bottle"].steps

TASKS = ("bottle", "mug", "gas-cap")


def roll(env, steps, seed=0):
    rng = np.random.default_rng(seed)
    return [env.step(rng.uniform(-1, 1, (env.num_envs, 5))) for _ in range(steps)]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CLOSURES)
def test_checkers_are_clean(name):
    env = gym.make(CLOSURES[name].gym_id).unwrapped
    check_env(env, skip_render_check=True)
    sb3_check_env(env)


def test_same_seed_same_bytes_for_any_thread_count():
    outputs = []
    for threads in (1, 2):
        env = ClosureVectorEnv(TASKS, 12, threads=threads)
        first, _ = env.reset(seed=5)
        outputs.append(
            [
                first["state"].tobytes(),
                *(o["state"].tobytes() + r.tobytes() for o, r, *_ in roll(env, MAX_STEPS + 5)),
            ]
        )
    assert outputs[0] == outputs[1]
    other, _ = env.reset(seed=6)
    assert other["state"].tobytes() != outputs[0][0]
    again, _ = env.reset(seed=5)
    assert again["state"].tobytes() == outputs[0][0]


def test_a_sub_environment_does_not_depend_on_its_neighbours():
    few, many = ClosureVectorEnv("jar", 2), ClosureVectorEnv("jar", 5)
    a, _ = few.reset(seed=[11, 12])
    b, _ = many.reset(seed=[9, 11, 8, 12, 7])
    assert np.array_equal(a["state"], b["state"][[1, 3]])


def test_reset_of_a_part_leaves_the_rest_alone():
    env = ClosureVectorEnv(TASKS, 6, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    before = roll(env, 10)[-1][0]["state"]
    mask = np.array([0, 1, 0, 0, 1, 0], bool)
    after, info = env.reset(options={"reset_mask": mask})
    assert np.array_equal(before[~mask], after["state"][~mask])
    assert (before[mask] != after["state"][mask]).any(1).all()
    assert list(info["steps"]) == [10, 0, 10, 10, 0, 10]


def test_snapshot_restores_every_bit():
    env = ClosureVectorEnv(TASKS, 6, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    for _ in range(25):  # some lids are free by now
        env.step(expert_action(env.batch.measure()))
    assert env.batch.released.any()
    saved = env.snapshot()
    first = [(o["state"].tobytes(), r.tobytes()) for o, r, *_ in roll(env, MAX_STEPS)]
    env.restore(saved)
    assert first == [(o["state"].tobytes(), r.tobytes()) for o, r, *_ in roll(env, MAX_STEPS)]


def test_autoreset_modes():
    same = ClosureVectorEnv("mug", 2, autoreset_mode="SameStep")
    same.reset(seed=0)
    obs, _, _, truncated, info = roll(same, MAX_STEPS)[-1]
    assert (
        truncated.all() and info["_final_obs"].all() and info["final_info"]["steps"][0] == MAX_STEPS
    )
    assert not np.array_equal(info["final_obs"][0]["state"], obs["state"][0])
    assert (info["steps"] == 0).all()
    following = ClosureVectorEnv("mug", 2)
    following.reset(seed=0)
    steps = roll(following, MAX_STEPS + 2)
    assert steps[MAX_STEPS - 1][3].all() and not steps[MAX_STEPS][3].any()
    assert (steps[MAX_STEPS][1] == 0).all() and (steps[MAX_STEPS][4]["steps"] == 0).all()
    assert (steps[MAX_STEPS + 1][4]["steps"] == 1).all()


def test_terms_are_named_and_bounded():
    env = ClosureVectorEnv(tuple(CLOSURES), 20)
    env.reset(seed=0)
    for _ in range(MAX_STEPS - 1):
        _, reward, _, _, info = env.step(expert_action(env.batch.measure()))
        for name in (*WEIGHTS, "progress", "contact_fraction"):
            assert (info[name] >= 0).all() and (info[name] <= 1 + 1e-9).all(), name
        assert ((reward >= 0) & (reward <= 1)).all()
    assert list(info["task_name"][:3]) == list(CLOSURES)[:3]


def test_layout_of_observations():
    env = ClosureVectorEnv(TASKS, 3, conditioning="parameters")
    obs, _ = env.reset(seed=0)
    assert (
        obs["state"].shape == (3, sum(size for _, size, *_ in observations.PARTS))
        and obs["state"].dtype == np.float32
    )
    assert np.array_equal(obs["task"], np.stack([CLOSURES[t].vector for t in TASKS]))
    assert "task" not in ClosureVectorEnv(TASKS, 3, conditioning="none").reset(seed=0)[0]
    eye, _ = ClosureVectorEnv(TASKS, 3).reset(seed=0)
    assert np.array_equal(eye["task"], np.eye(3))


def test_state_tells_progress_from_progress_that_counts():
    names = [name for name, size, *_ in observations.PARTS for _ in range(size)]
    env = ClosureVectorEnv("valve", 2)
    env.reset(seed=0)
    for _ in range(40):  # the second lever turns by itself
        action = expert_action(env.batch.measure())
        action[1] = (0, 0, 1, 0, 1)
        env.batch.sim.bind("qfrc_applied")[1, env.batch.lid_dof_columns.start + TWIST] = (
            3 * env.batch.constants["direction"][1]
        )
        obs, *_ = env.step(action)
    progress, held = (obs["state"][:, names.index(name)] for name in ("progress", "held"))
    np.testing.assert_allclose(progress, [1, 1], atol=0.02)
    np.testing.assert_allclose(held, [1, 0], atol=0.02)


def test_single_environment_is_the_first_of_the_vector():
    single, vector = ClosureEnv("jar"), ClosureVectorEnv("jar", 1)
    a, b = single.reset(seed=4)[0], vector.reset(seed=4)[0]
    assert np.array_equal(a["state"], b["state"][0])
    action = np.array([0.1, -0.2, -0.5, 0.3, 1.0])
    assert np.array_equal(single.step(action)[0]["state"], vector.step(action[None])[0]["state"][0])


def test_make_vec():
    env = gym.make_vec("Uncap/First-v0", num_envs=16)
    assert env.num_envs == 16
    env.reset(seed=0)
    _, reward, *_ = env.step(env.action_space.sample())
    assert reward.shape == (16,)


def test_mistakes_are_explained():
    with pytest.raises(ValueError, match="parameters"):
        ClosureVectorEnv("thermos", 1, known_tasks=TASKS)
    with pytest.raises(KeyError, match="one_hot"):
        ClosureVectorEnv("jar", 1, conditioning="onehot")
    with pytest.raises(ValueError, match="at least 1"):
        ClosureVectorEnv("jar", 0)
    env = ClosureVectorEnv("jar", 2)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros((2, 5)))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        env.step(np.zeros((1, 5)))


def test_progress_counts_from_a_finger_at_the_lid_or_to_a_hold():
    env = ClosureVectorEnv("bottle", 1)
    env.reset(seed=0)
    measured, gained = env.batch.measure(), []
    for step, (contact, holds) in enumerate(
        [(True, False), (True, False), (False, False), (False, False), (True, True)]
    ):
        changed = {
            "contact": np.array([contact]),
            "holds": np.array([holds]),
            "progress": np.array([0.1 * (step + 1)]),
        }
        env._track({**measured, **changed}, np.ones(1, bool))
        gained.append(env.held_progress[0])
    np.testing.assert_allclose(gained, [0.0, 0.1, 0.2, 0.2, 0.3])
