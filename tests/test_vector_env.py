"""The Gymnasium side: checkers, seeds, partial resets, autoreset, exact state."""

import copy
import gc
import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from uncap.envs import CLOSURES, TASK_SETS, ClosureEnv, ClosureVectorEnv, observations
from uncap.envs.conditioning import CONDITIONINGS, UNSEEN, Conditioning, vectors
from uncap.envs.episodes import EpisodeTracker
from uncap.envs.experts import expert_action
from uncap.envs.mechanisms import TWIST
from uncap.envs.opengl import RenderingUnavailable
from uncap.envs.rewards import HOLD_STEPS, TERMS
from uncap.envs.variation import LEVELS, Level

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


def test_an_episode_after_an_autoreset_counts_progress_as_the_first_does():
    """The hand of a control starts part of the way: what it has then is counted, or never can be.

    A row of closures starts at 0, and shows nothing of it.
    """
    env = ClosureVectorEnv("reach", 8, episode_steps=2)
    env.reset(seed=0)
    still = np.zeros((8, 5))
    _, _, _, _, first = env.step(still)
    env.step(still)  # the last of the episode
    _, _, _, _, restarted = env.step(still)
    assert (restarted["steps"] == 0).all()
    assert (restarted["progress"] > 0.1).any()
    assert not env._tracker.last_progress.any()
    _, _, _, _, second = env.step(still)
    for info in (first, second):
        np.testing.assert_allclose(info["contact_fraction"][info["progress"] > 0.1], 1.0)


def test_probabilities_may_be_rounded_as_a_networks_are():
    env = ClosureVectorEnv(TASKS, 2, threads=1)
    rounded = np.full(3, 1 / 3, np.float32)
    assert float(rounded.astype(float).sum()) != 1.0
    env.probabilities = rounded
    env.reset(seed=0)  # draws tasks
    rounded[:] = 0
    assert env.probabilities is not None
    assert env.probabilities.sum() == pytest.approx(1, abs=1e-12)


def test_what_is_told_lies_inside_its_space():
    told = {"jar": np.array([10.0, -0.5], np.float32)}
    env = ClosureVectorEnv("jar", 2, conditioning=told, threads=1)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)


def test_a_set_takes_gymnasiums_word_for_the_length_of_episodes():
    env = gym.make_vec("Uncap/First-v0", 2, max_episode_steps=7)
    assert (env.unwrapped.task_steps == 7).all()
    assert (gym.make_vec("Uncap/Alike-v0", 2).unwrapped.task_steps == 50).all()


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
    env.batch.hand_over(np.array([1]))
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


def test_a_row_makes_one_batch_whose_episodes_are_as_long_as_gymnasium_is_told():
    env: Any = gym.make_vec("Uncap/Jar-v0", 3)
    assert isinstance(env, ClosureVectorEnv)
    assert env.tasks == ("jar",) and env.num_envs == 3
    assert list(env.max_steps) == [CLOSURES["jar"].steps] * 3
    assert list(gym.make_vec("Uncap/Jar-v0", 2, max_episode_steps=7).unwrapped.max_steps) == [7, 7]
    assert list(gym.make_vec("Uncap/Jar-v0", 2, episode_steps=9).unwrapped.max_steps) == [9, 9]
    assert gym.spec("Uncap/Jar-v0").max_episode_steps == CLOSURES["jar"].steps
    for steps, changes in (
        (80, {}),
        (3, {"max_episode_steps": 3}),
        (90, {"max_episode_steps": 90}),
    ):
        single = gym.make("Uncap/Jar-v0", **changes)
        single.reset(seed=0)
        ends = [single.step(np.zeros(5))[3] for _ in range(steps)]
        assert ends == [False] * (steps - 1) + [True]
    with pytest.raises(ValueError, match="by max_episode_steps, not episode_steps"):
        gym.make("Uncap/Jar-v0", episode_steps=7)


def test_frames_show_every_sub_environment():
    env = ClosureVectorEnv(("jar", "pump"), 3, render_mode="rgb_array")
    env.reset(seed=0)
    try:
        frames = env.render()
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    assert [frame.shape for frame in frames] == [(240, 320, 3)] * 3
    assert len({frame.tobytes() for frame in frames}) == 3
    assert np.array_equal(copy.deepcopy(env).render(), frames)
    whole = gym.make_vec("Uncap/Jar-v0", 3, render_mode="mosaic")
    whole.reset(seed=0)
    picture = whole.render()
    assert picture.shape == (480, 640, 3)
    assert not picture[240:, 320:].any() and picture[:240, 320:].any()
    env.close()
    whole.close()
    assert ClosureVectorEnv("jar", 1).render() is None


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


@pytest.mark.parametrize(
    "name", [name for name in CONDITIONINGS if name not in ("language", "clause")]
)
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


def starts_of(env, **reset):
    return env.reset(**reset)[0]["state"]


def test_seeds_may_be_an_array_and_are_checked_before_anything_changes():
    env = ClosureVectorEnv("jar", 3)
    expected = starts_of(env, seed=[1, 2, 3])
    for seeds in (np.array([1, 2, 3]), (1, 2, 3), np.array([1, 2, 3], np.uint8)):
        assert np.array_equal(starts_of(env, seed=seeds), expected)
    assert np.array_equal(starts_of(env, seed=7), starts_of(env, seed=np.int64(7)))
    env.reset(seed=[1, 2, 3])
    following = starts_of(env)
    env.reset(seed=[1, 2, 3])
    for seeds in ([1, 2], np.arange(4), [1, 2, -1], [1, 2, "3"], -1, 1.5, "1", True):
        with pytest.raises(ValueError, match="seed must be") as refused:
            env.reset(seed=seeds)
        assert "\n" not in str(refused.value)
    assert np.array_equal(starts_of(env), following)


@pytest.mark.parametrize("seed", [99, [99, 98, 97, 96]])
def test_a_seed_for_a_part_leaves_the_others_starts(seed):
    env, other = (ClosureVectorEnv("jar", 4) for _ in range(2))
    mask = np.array([False, True, False, True])
    for one in (env, other):
        one.reset(seed=0)
    seeded = starts_of(env, seed=seed, options={"reset_mask": mask})
    assert np.array_equal(seeded[mask], starts_of(other, seed=seed)[mask])
    other.reset(seed=0)
    mine, others = starts_of(env), starts_of(other)
    assert np.array_equal(mine[~mask], others[~mask])
    assert not (mine[mask] == others[mask]).all(1).any()


def test_the_first_reset_starts_all():
    env = ClosureVectorEnv("jar", 2)
    with pytest.raises(gym.error.ResetNeeded, match="the first reset starts all"):
        env.reset(options={"reset_mask": np.array([True, False])})
    env.reset(options={"reset_mask": np.ones(2, bool)})


def test_a_reset_is_told_the_task_of_the_next_episode():
    env = ClosureVectorEnv(("jar", "mug"), 3, autoreset_mode="SameStep")
    env.reset(seed=0, options={"task": "mug"})
    assert env.task_names == ("mug", "mug", "mug")
    env.reset(options={"task": ["mug", "jar", "mug"], "reset_mask": np.array([True, True, False])})
    assert env.task_names == ("mug", "jar", "mug")
    roll(env, MAX_STEPS)
    assert env.task_names == ("jar", "mug", "jar")  # as before
    for options in ({"task": "cork"}, {"task": 1}, {"task": ["mug", "mug"]}, {"tasks": "mug"}, []):
        with pytest.raises(ValueError, match="task|option"):
            env.reset(options=options)
    with pytest.raises(ValueError, match=r"unknown option 'seed' of reset: allowed: reset_mask"):
        env.reset(options={"seed": 1})


def test_a_single_environment_knows_its_own_task_only():
    env = ClosureEnv("jar")
    env.reset(seed=0, options={"task": "jar"})
    with pytest.raises(KeyError, match="unknown task of this environment 'mug'"):
        env.reset(options={"task": "mug"})
    with pytest.raises(ValueError, match="unknown option 'reset_mask' of reset: allowed: task"):
        env.reset(options={"reset_mask": [True]})


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_is_said_and_counted(number):
    env = ClosureVectorEnv("jar", 3, autoreset_mode="SameStep")
    env.reset(seed=0)
    actions = np.zeros((3, 5))
    actions[1, 0] = number
    with pytest.warns(RuntimeWarning, match="actions of 1 of 3 sub-environments are NaN"):
        env.step(actions)
    *_, info = env.step(actions)  # warned once
    assert list(info["invalid_action"]) == [0, 2, 0]
    *_, info = env.step(np.zeros((3, 5)))
    assert list(info["invalid_action"]) == [0, 2, 0]
    *_, info = roll(env, MAX_STEPS - 3)[-1]
    assert list(info["final_info"]["invalid_action"]) == [0, 2, 0]
    assert not info["invalid_action"].any()


def test_divergences_are_counted_in_info():
    env = ClosureVectorEnv("bottle", 3, autoreset_mode="SameStep")
    env.reset(seed=0)
    env.batch.qvel[1, env.batch.lid_dof_columns.start] = 1e12
    *_, info = env.step(np.zeros((3, 5)))
    assert list(info["diverged"]) == [0, 1, 0]


def test_without_autoreset_no_step_follows_the_end():
    env = ClosureVectorEnv(("flip-mug", "jar"), 2, autoreset_mode="Disabled")  # 100 and 80 steps
    env.reset(seed=0)
    *_, truncated, _ = roll(env, 80)[-1]
    assert list(truncated) == [False, True]
    with pytest.raises(gym.error.ResetNeeded, match=r"the episodes of \[1\] have ended"):
        env.step(np.zeros((2, 5)))
    env.reset(options={"reset_mask": truncated})
    *_, info = env.step(np.zeros((2, 5)))
    assert list(info["steps"]) == [81, 1]
    single = ClosureEnv("jar")
    single.reset(seed=0)
    for _ in range(80):
        *_, truncated, info = single.step(np.zeros(5))
    assert truncated and info["is_success"] is False
    with pytest.raises(gym.error.ResetNeeded):
        single.step(np.zeros(5))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_infos_of_single_environments_make_numeric_arrays(mode):
    env = gym.make_vec("Uncap/Jar-v0", 2, vectorization_mode=mode)
    env.reset(seed=0)
    *_, info = env.step(env.action_space.sample())
    assert all(values.dtype != object for values in info.values())
    assert info["success"].dtype == bool
    env.close()


def test_info_is_numbers_whose_names_are_no_observations():
    single = ClosureEnv("jar")
    observation, info = single.reset(seed=0)
    assert json.loads(json.dumps(info)) == info
    assert not set(info) & set(observation)
    env = ClosureVectorEnv(TASKS, 3)
    observation, info = env.reset(seed=0)
    assert not set(info) & {"state", "rgb", "task"}
    assert all(values.dtype.kind in "bif" and values.shape == (3,) for values in info.values())


def test_gymnasium_makes_torch_tensors_of_it():
    pytest.importorskip("array_api_compat")
    from gymnasium.wrappers import NumpyToTorch
    from gymnasium.wrappers.vector import NumpyToTorch as VectorToTorch

    single = NumpyToTorch(ClosureEnv("jar"))
    vector = VectorToTorch(ClosureVectorEnv(TASKS, 3))
    for env, shape in ((single, (5,)), (vector, (3, 5))):
        env.reset(seed=0)
        observation, *_, info = env.step(torch.zeros(shape))
        assert isinstance(observation["state"], torch.Tensor)
        assert isinstance(info["success"], torch.Tensor)


@pytest.mark.parametrize("mode", ["SameStep", "Disabled"])  # TorchRL refuses the third
def test_torchrl_takes_it(mode):
    torchrl = pytest.importorskip("torchrl.envs")
    utils = pytest.importorskip("torchrl.envs.utils")
    utils.check_env_specs(torchrl.GymWrapper(ClosureEnv("jar")))
    env = torchrl.GymWrapper(ClosureVectorEnv("jar", 2, autoreset_mode=mode))
    utils.check_env_specs(env)
    env = torchrl.GymWrapper(ClosureVectorEnv("jar", 2, autoreset_mode=mode))
    if mode == "Disabled":
        env = env.auto_register_info_dict()
    steps = env.rollout(MAX_STEPS - 1)  # it fails at the ends of Gymnasium's own SAME_STEP batches
    assert steps.shape == (2, MAX_STEPS - 1)


def test_what_an_observation_says_stays_inside_the_space(monkeypatch):
    level = {**LEVELS["randomised"], "noise": (3.0, 6.0)}
    monkeypatch.setitem(LEVELS, "noisy", Level("much noise", level))
    env = ClosureVectorEnv(TASKS, 3, level="noisy", autoreset_mode="SameStep")
    first, _ = env.reset(seed=0)
    for observation in (first, *(step[0] for step in roll(env, MAX_STEPS + 2))):
        assert env.observation_space.contains(observation)
        assert abs(observation["state"]).max() == observations.LIMIT


def test_noise_of_a_sub_environment_does_not_depend_on_the_resets_of_others():
    env, other = (ClosureVectorEnv("jar", 2, level="randomised", history=2) for _ in range(2))
    for one in (env, other):
        one.reset(seed=0)
        roll(one, 3)
    mask = np.array([True, False])
    before = roll(env, 1)[-1][0]["state"]
    after = starts_of(env, options={"reset_mask": mask})
    assert np.array_equal(before[1], after[1])
    roll(other, 1)
    assert np.array_equal(roll(env, 1)[-1][0]["state"][1], roll(other, 1)[-1][0]["state"][1])


def test_one_simulation_of_several_rows_takes_them_in_turn():
    env: Any = gym.make("Uncap/First-v0")
    rows = TASK_SETS["first"].train
    env.reset(seed=0)
    dealt = [env.unwrapped.task_name]
    for _ in rows[1:]:
        env.reset()
        dealt.append(env.unwrapped.task_name)
    assert sorted(dealt) == sorted(rows)
    assert dealt != list(rows)
    env.reset(options={"task": "cork"})
    assert env.unwrapped.task_name == "cork"
    again = ClosureEnv(rows)
    again.reset(seed=0)
    assert again.task_name == dealt[0]
    two = ClosureEnv(("jar", "flip-mug"))
    two.reset(seed=0)
    for name in ("flip-mug", "jar"):
        two.reset(options={"task": name})
        ends = [two.step(np.zeros(5))[3] for _ in range(CLOSURES[name].steps)]
        assert ends == [False] * (len(ends) - 1) + [True]


def test_an_environment_that_could_not_be_made_is_closed_without_a_word(capfd):
    """Gymnasium closes it, too, whatever it has by then."""
    with pytest.raises(ValueError, match="num_envs must be at least 1"):
        ClosureVectorEnv("jar", 0)
    gc.collect()
    assert capfd.readouterr().err == ""
