"""The Gymnasium side: checkers, seeds, partial resets, autoreset, exact state."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from envs import CLOSURES, ClosureEnv, ClosureVectorEnv, observations
from envs.conditioning import CONDITIONINGS, UNSEEN, Conditioning, vectors
from envs.episodes import EpisodeTracker
from envs.experts import expert_action
from envs.mechanisms import TWIST
from envs.rewards import HOLD_STEPS, TERMS

MAX_STEPS = CLOSURES["bottle"].steps

TASKS = ("bottle", "mug", "gas-cap")


def roll(env, steps, seed=0):
    """What some steps of random actions return."""
    rng = np.random.default_rng(seed)
    return [env.step(rng.uniform(-1, 1, (env.num_envs, 5))) for _ in range(steps)]


def state_and_reward_bytes(steps):
    return [observation["state"].tobytes() + reward.tobytes() for observation, reward, *_ in steps]


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
        steps = roll(env, MAX_STEPS + 5)
        outputs.append([first["state"].tobytes(), *state_and_reward_bytes(steps)])
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
    first = state_and_reward_bytes(roll(env, MAX_STEPS))
    env.restore(saved)
    assert first == state_and_reward_bytes(roll(env, MAX_STEPS))


def test_autoreset_in_the_same_step():
    env = ClosureVectorEnv("mug", 2, autoreset_mode="SameStep")
    env.reset(seed=0)
    observation, _, _, truncated, info = roll(env, MAX_STEPS)[-1]
    assert truncated.all()
    assert info["_final_obs"].all()
    assert info["final_info"]["steps"][0] == MAX_STEPS
    assert not np.array_equal(info["final_obs"][0]["state"], observation["state"][0])
    assert (info["steps"] == 0).all()


def test_autoreset_in_the_next_step():
    env = ClosureVectorEnv("mug", 2)
    env.reset(seed=0)
    *_, last, restart, first = roll(env, MAX_STEPS + 2)
    assert last[3].all() and not restart[3].any()  # truncated
    assert (restart[1] == 0).all()  # reward
    assert (restart[4]["steps"] == 0).all()
    assert (first[4]["steps"] == 1).all()


def test_terms_are_named_and_bounded():
    env = ClosureVectorEnv(tuple(CLOSURES), 20)
    env.reset(seed=0)
    for _ in range(MAX_STEPS - 1):
        _, reward, _, _, info = env.step(expert_action(env.batch.measure()))
        for name in (*TERMS, "progress", "contact_fraction"):
            assert (info[name] >= 0).all() and (info[name] <= 1 + 1e-9).all(), name
        assert ((reward >= 0) & (reward <= 1)).all()
    assert env.task_names[:3] == tuple(CLOSURES)[:3]


def test_layout_of_observations():
    env = ClosureVectorEnv(TASKS, 3, conditioning="parameters")
    observation, _ = env.reset(seed=0)
    assert observation["state"].shape == (3, sum(part.size for part in observations.PARTS))
    assert observation["state"].dtype == np.float32
    assert np.array_equal(observation["task"], np.stack([CLOSURES[t].vector for t in TASKS]))
    assert "task" not in ClosureVectorEnv(TASKS, 3, conditioning="none").reset(seed=0)[0]
    eye, _ = ClosureVectorEnv(TASKS, 3).reset(seed=0)
    assert np.array_equal(eye["task"], np.eye(3))


def test_state_tells_progress_from_progress_that_counts():
    names = [part.name for part in observations.PARTS for _ in range(part.size)]
    env = ClosureVectorEnv("valve", 2)
    env.reset(seed=0)
    lid_force = env.batch.sim.bind("qfrc_applied")[:, env.batch.lid_dof_columns]
    for _ in range(40):  # the second lever turns by itself
        action = expert_action(env.batch.measure())
        action[1] = (0, 0, 1, 0, 1)
        lid_force[1, TWIST] = 3 * env.batch.constants["direction"][1]
        observation, *_ = env.step(action)
    progress = observation["state"][:, names.index("progress")]
    held = observation["state"][:, names.index("held")]
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
    measured = env.batch.measure()
    tracker = EpisodeTracker(1)
    running = np.ones(1, bool)
    steps = [  # contact, holds, progress that counts after the step
        (True, False, 0.0),
        (True, False, 0.1),
        (False, False, 0.2),
        (False, False, 0.2),
        (True, True, 0.3),
    ]
    for number, (contact, holds, expected) in enumerate(steps, start=1):
        changed = {
            "contact": np.array([contact]),
            "holds": np.array([holds]),
            "progress": np.array([0.1 * number]),
        }
        tracker.update({**measured, **changed}, running)
        assert tracker.held_progress[0] == pytest.approx(expected)


def test_lost_progress_counts_without_contact_and_success_must_last():
    env = ClosureVectorEnv("valve", 1)
    env.reset(seed=0)
    measured = env.batch.measure()
    tracker = EpisodeTracker(1)

    def update(progress, contact):
        changed = {
            "contact": np.array([contact]),
            "holds": np.array([contact]),
            "progress": np.array([progress]),
        }
        tracker.update({**measured, **changed}, np.ones(1, bool))

    update(1.0, True)
    for _ in range(HOLD_STEPS - 1):
        assert not tracker.success[0]
        update(1.0, False)
    assert tracker.success[0]
    update(0.5, False)
    assert tracker.held_progress[0] == pytest.approx(0.5)
    assert not tracker.success[0] and tracker.succeeded[0]
    tracker.restart(np.array([0]))
    assert not tracker.succeeded[0] and tracker.held_progress[0] == 0


@pytest.mark.parametrize("name", [name for name in CONDITIONINGS if name != "language"])
def test_a_conditionings_row_says_what_the_environment_does(name):
    row = CONDITIONINGS[name]
    env = ClosureVectorEnv(TASKS, 3, conditioning=name)
    observation, _ = env.reset(seed=0)
    assert observation["state"].shape == (3, row.states * observations.SIZE)
    assert ("task" in observation) == (row.task_input == "vector")
    assert row.words
    assert (name in UNSEEN) == row.unseen
    if row.unseen:
        vectors(name, ("thermos",), TASKS)
    else:
        with pytest.raises(ValueError, match=f"{name} conditioning has no component"):
            vectors(name, ("thermos",), TASKS)


def test_a_conditioning_is_one_row(monkeypatch):
    def steps_allowed(tasks, known):
        return np.array([[CLOSURES[task].steps / 100] for task in tasks], np.float32)

    row = Conditioning(steps_allowed, task_input="vector", unseen=True, words="", states=2)
    monkeypatch.setitem(CONDITIONINGS, "steps", row)
    env = ClosureVectorEnv(("bottle", "canteen"), 2, conditioning="steps")
    observation, _ = env.reset(seed=0)
    assert observation["task"] == pytest.approx(np.array([[0.8], [1.6]]))
    assert observation["state"].shape == (2, 2 * observations.SIZE)


def test_a_part_of_the_observation_is_a_row_that_fits_its_size():
    env = ClosureVectorEnv(TASKS, 3)
    env.reset(seed=0)
    measured = env.batch.measure()
    held_progress = np.full(3, 0.25)
    state = observations.observe(measured, held_progress)
    first = 0
    for part in observations.PARTS:
        if isinstance(part.source, str):
            values = measured[part.source][part.index]
        else:
            values = part.source(measured, held_progress)
        assert values.shape == (3, part.size), part.name
        expected = np.clip(part.factor * values, -observations.LIMIT, observations.LIMIT)
        found = state[:, first : first + part.size]
        assert found == pytest.approx(expected, abs=1e-6), part.name
        first += part.size
    assert first == observations.SIZE
