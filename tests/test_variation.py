"""Levels, histories and pictures: what an observation may hold and an episode may vary."""

import ast
import pathlib

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from uncap.envs import ClosureVectorEnv, conditioning, observations, variation
from uncap.envs.batch import ClosureBatch
from uncap.envs.experts import expert_action
from uncap.envs.opengl import RenderingUnavailable
from uncap.envs.render import Camera
from uncap.envs.variation import LEVELS, QUANTITIES

TASKS = ("bottle", "pill-box", "cork")


def roll(env, steps):
    rng = np.random.default_rng(0)
    return [env.step(rng.uniform(-1, 1, (env.num_envs, 5)))[0]["state"] for _ in range(steps)]


def test_default_varies_nothing():
    env = ClosureVectorEnv(TASKS, 6)
    env.reset(seed=0)
    drawn = env.batch.variation
    assert drawn.fields == []
    assert drawn.pushes() is None
    for name, values in drawn.values.items():
        assert set(values) == {QUANTITIES[name].neutral}, name


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_varies_known_quantities_within_ordered_ranges(level):
    assert LEVELS[level].words
    for name, (low, high) in LEVELS[level].items():
        assert name in QUANTITIES
        assert low < high


def test_randomised_draws_every_number_within_its_range():
    env = ClosureVectorEnv(TASKS, 30, level="randomised")
    env.reset(seed=0)
    for name, (low, high) in LEVELS["randomised"].items():
        drawn = env.batch.variation.values[name]
        assert (drawn >= low).all() and (drawn <= high).all()
        assert len(set(drawn)) == 30
    plain = ClosureVectorEnv(TASKS, 30)
    plain.reset(seed=0)
    masses = env.batch.sim.expand("body_mass")  # (n, bodies) kg
    plain_masses = plain.batch.sim.expand("body_mass")
    body = env.batch.model.body
    lid = body("lid").id
    values = env.batch.variation.values["mass"]
    assert masses[:, lid] / plain_masses[:, lid] == pytest.approx(values)
    robot = np.delete(np.arange(masses.shape[1]), [0, lid, body("container").id])[1:9]
    assert masses[:, robot] == pytest.approx(plain_masses[:, robot])


@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_reproducible_for_any_thread_count_and_restore_exactly(level):
    runs = []
    for threads in (1, 2):
        env = ClosureVectorEnv(TASKS, 6, level=level, threads=threads, history=2)
        env.reset(seed=3)
        roll(env, 15)
        snapshot = env.snapshot()
        runs.append(np.array(roll(env, 90)))
    assert np.array_equal(*runs)
    env.restore(snapshot)
    assert np.array_equal(np.array(roll(env, 60)), runs[1][:60])


def test_tilted_lids_lean_as_far_as_drawn():
    env = ClosureVectorEnv("bottle", 20, level="tilted")
    env.reset(seed=1)
    mat = env.batch.sim.bind("site_xmat")[:, env.batch.model.site("grip").id].reshape(-1, 3, 3)
    assert np.arccos(mat[:, 2, 2]) == pytest.approx(env.batch.variation.values["tilt"], abs=1e-6)
    assert env.batch.variation.values["tilt"].max() > 0.25


# late actions make the expert sway
@pytest.mark.parametrize("level, least", [("randomised", 0.4), ("shelf", 0.95)])
def test_the_expert_still_opens(level, least):
    env = ClosureVectorEnv(TASKS, 48, level=level, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=5)
    for _ in range(80):
        _, _, _, _, info = env.step(expert_action(env.batch.measure()))
    assert info["success"].mean() >= least


def test_history_stacks_the_last_states_oldest_first():
    length, size = 3, observations.SIZE
    mode = AutoresetMode.SAME_STEP
    env = ClosureVectorEnv(TASKS, 6, history=length, autoreset_mode=mode)
    plain = ClosureVectorEnv(TASKS, 6, history=1, autoreset_mode=mode)
    first, _ = env.reset(seed=0)
    plain.reset(seed=0)
    assert first["state"].shape == (6, length * size)
    space = env.single_observation_space
    assert isinstance(space, gym.spaces.Dict)
    assert space["state"].shape == (length * size,)
    assert np.array_equal(first["state"][:, :size], first["state"][:, -size:])
    stacked, single = roll(env, 90), roll(plain, 90)
    for t in (20, 79, 80, 85):
        assert np.array_equal(stacked[t][:, -size:], single[t])
    assert np.array_equal(stacked[50][:, :size], single[48])
    assert np.array_equal(stacked[50][:, size : 2 * size], single[49])
    # a new episode remembers nothing of the last one
    assert np.array_equal(stacked[79][:, :size], single[79])


def test_pictures_show_the_scene_from_two_sides():
    try:
        env = ClosureVectorEnv(("bottle", "jar"), 2, observation="state+rgb")
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    first, _ = env.reset(seed=0)
    pictures = first["rgb"]
    assert pictures.shape == (2, 84, 84, 6) and pictures.dtype == np.uint8
    assert env.single_observation_space.contains({k: v[0] for k, v in first.items()})
    front = pictures[0, ..., :3].astype(float)
    top = pictures[0, ..., 3:].astype(float)
    assert front.std() > 20
    assert abs(front - top).mean() > 10
    second, *_ = env.step(np.tile([1.0, 0, 0, 0, 1.0], (2, 1)))
    assert abs(second["rgb"].astype(float) - pictures).mean() > 0.3
    env.close()
    space = ClosureVectorEnv("jar", 1, observation="rgb").single_observation_space
    assert isinstance(space, gym.spaces.Dict)
    assert set(space.spaces) == {"rgb", "task"}


def test_one_camera_draws_every_variant_as_its_own_would():
    batch = ClosureBatch(("jar", "flip-mug"), 2)
    batch.reset(np.arange(2), np.arange(2), [np.random.default_rng(i) for i in range(2)])
    jar, mug = (batch.pool[v] for v in batch.variant)
    state = batch.qpos[1], batch.mocap_pos[1], batch.mocap_quat[1]
    try:
        shared, own = Camera(jar, 160, 120), Camera(mug, 160, 120)
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    seen = own.draw(*state)
    assert np.array_equal(shared.draw(*state, variant=mug), seen)
    assert abs(shared.draw(*state).astype(float) - seen).mean() > 1  # a jar


def test_mistakes_are_named():
    with pytest.raises(KeyError, match="unknown observation 'rgbd': did you mean 'rgb'"):
        ClosureVectorEnv("jar", 1, observation="rgbd")
    with pytest.raises(KeyError, match="unknown level 'tilt': did you mean 'tilted'"):
        ClosureVectorEnv("jar", 1, level="tilt")
    with pytest.raises(KeyError, match="unknown conditioning 'one_hott': did you mean 'one_hot'"):
        ClosureVectorEnv("jar", 1, conditioning="one_hott")
    with pytest.raises(ValueError, match="history must be at least 1"):
        ClosureVectorEnv("jar", 1, history=0)


@pytest.mark.parametrize("module", [conditioning, variation])
def test_tables_that_command_lines_read_import_neither_simulator_nor_networks(module):
    tree = ast.parse(pathlib.Path(module.__file__).read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert "numpy" in imported
    assert not {name.split(".")[0] for name in imported} & {"mujoco", "torch"}
    own = {name for name in imported if name.startswith("envs")}
    assert own <= {"uncap.envs.checks", "uncap.envs.closures", "uncap.envs.tables"}
