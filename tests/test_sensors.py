"""What a policy senses: an arm's sensors tell nothing of the simulation; critics see all of it."""

import copy
import dataclasses
import functools
import pickle
import re

import numpy as np
import pytest
import torch

from uncap.agents import checkpoints
from uncap.agents.bodies import Transformer
from uncap.agents.config import LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting, load_policy
from uncap.envs import ClosureVectorEnv, observations
from uncap.envs.episodes import Squeeze
from uncap.envs.experts import expert_action
from uncap.envs.observations import LAYOUTS, ROWS, SIZE
from uncap.envs.sensors import SENSORS
from uncap.evaluation.commands import check_job
from uncap.evaluation.config import JobConfig

TASKS = ("jar", "mug")
ARM = LAYOUTS["arm"]
# Told by the simulation alone, or only of what a hand has moved
HIDDEN = {
    "grip_offset",
    "bar_yaw",
    "touch",
    "progress",
    "beyond",
    "held",
    "twist",
    "twist_velocity",
    "lift",
    "drift",
    "tilt",
    "released",
    "way",
    "lid_axis",
    "stage",
    "stage_done",
    "down",
    "dimensions",
    "bar",
}


@functools.cache
def prototype(names, values):
    """An environment to copy: compiling the models of one takes longer than most tests."""
    return ClosureVectorEnv(TASKS, **dict(zip(names, values, strict=True)))


def made(n=2, **changes):
    chosen = {"sensors": "arm", "privileged": True, "autoreset_mode": "SameStep", "threads": 1}
    settings = {**chosen, "num_envs": n, **changes}
    return copy.deepcopy(prototype(tuple(settings), tuple(settings.values())))


def started(steps=0, **changes):
    """An environment whose experts have acted for some steps."""
    env = made(**changes)
    env.reset(seed=0)
    for _ in range(steps):
        env.step(expert_action(env.batch.measure()))
    return env


def observed(env):
    """The names of an observation's parts."""
    return set(env.observation_space.spaces)


def state(env, sensors):
    measured = {**env.batch.measure(), **env.batch.measure_arm()}
    memory = copy.deepcopy(env._squeeze) if env._squeeze else Squeeze(env.num_envs)
    measured["moved"] = memory.update(measured)
    return observations.observe(measured, env._tracker.held_progress, sensors=sensors)


def part(states, name, sensors="arm"):
    """The columns (n, size) of a part."""
    low = 0
    for row in LAYOUTS[sensors].parts:
        if row.name == name:
            return states[:, low : low + row.size]
        low += row.size
    raise KeyError(name)


def test_sets_of_sensors_are_made_of_parts_and_an_arm_has_none_that_a_simulator_knows():
    assert not set(SENSORS["arm"].parts) & HIDDEN
    assert set(SENSORS["full"].parts) >= HIDDEN
    assert set(ROWS) == {name for row in SENSORS.values() for name in row.parts}
    for name, layout in LAYOUTS.items():
        assert sum(row.size for row in layout.parts) == layout.size == len(layout.factors)
        assert state(started(), name).shape == (2, layout.size)


def test_an_arm_does_not_sense_what_only_the_simulation_knows():
    env = started(steps=12)
    before = {name: state(env, name) for name in SENSORS}
    batch = env.batch
    batch.released[:] = ~batch.released
    batch._progress[:] = 0.6
    env._tracker.held_progress[:] = 0.3
    batch._lid[:] += 0.07
    batch.qvel[:, batch.lid_dof_columns] += 0.5
    hand = batch._hand
    batch._hand = hand._replace(grip=hand.grip + 0.01, touch=hand.touch + 1.0)
    sideways = batch._sideways
    batch._sideways = sideways._replace(goal=sideways.goal + 0.02)
    batch.constants["dimensions"][:] += 0.01
    batch.constants["bar"][:] = ~batch.constants["bar"]
    batch.now["swing"][:] = 1.0  # the lids stay, and have turned past their angle
    batch.now["swing_end"][:] = 0.0
    batch.now["end"][:] += 0.02
    batch.constants["per_down"][:] = -20.0  # what is lifted has gone down
    batch.stage[:] = 1
    after = {name: state(env, name) for name in SENSORS}
    assert np.array_equal(before["arm"], after["arm"])
    for name in HIDDEN:
        one, two = (part(found["full"], name, "full") for found in (before, after))
        assert not np.array_equal(one, two), name


@pytest.mark.parametrize("push", [(0.0, 0.0, -10.0), (6.0, 0.0, 0.0), (0.0, 5.0, 5.0)])
def test_the_wrist_senses_what_pushes_the_hand(push):
    env = started()
    batch = env.batch
    hand = batch.model.body("hand").id
    sensed = []
    for force in ((0.0, 0.0, 0.0), push):
        batch._push[:] = force
        batch.sim.step(300)
        rotation = batch._hand.rotation  # (n, 3, 3)
        found = batch.measure_arm()
        sensed.append(np.einsum("nij,nj->ni", rotation, found["wrist_force"]))
        at = np.einsum("nij,j->ni", rotation, batch.model.body_ipos[hand])  # m, from the flange
        torque = np.einsum("nij,nj->ni", rotation, found["wrist_torque"])
        assert np.allclose(torque, np.cross(at, force), atol=0.03)
    assert np.allclose(sensed[0], 0.0, atol=0.1)  # the hand's weight is subtracted
    assert np.allclose(sensed[1], push, atol=0.1)


def test_sensing_changes_nothing_else():
    arm, full = started(), started(sensors="full", privileged=False)
    for _ in range(30):
        action = expert_action(full.batch.measure())
        seen, reward, *_ = arm.step(action)
        expected, other_reward, *_ = full.step(action)
        assert np.array_equal(seen["privileged"], expected["state"])
        assert np.array_equal(reward, other_reward)
    assert np.array_equal(arm.batch.qpos, full.batch.qpos)
    with pytest.raises(ValueError, match=re.escape("ClosureBatch(wrist=True)")):
        full.batch.measure_arm()


def test_the_hand_remembers_where_it_began_to_squeeze():
    env = started()
    for fingers, dz in ((1.0, 0.5), (-1.0, 0.0), (-1.0, 0.5), (-1.0, 0.5), (1.0, 0.5)):
        before = env.batch.measure()["tcp"]
        action = np.tile([0.0, 0.0, dz, 0.2, fingers], (2, 1))
        found = env.step(action)[0]["state"]
        lifted = env.batch.measure()["tcp"][:, 2] - before[:, 2]  # m
        moved = part(found, "moved") / 10
        if fingers > 0:
            assert not moved.any() and not part(found, "turned").any()
        elif dz:
            assert (moved[:, 2] > 0.9 * lifted).all() and (part(found, "turned") > 0).all()


def test_the_arm_senses_where_the_closed_container_stands():
    env = started(n=8)
    batch, found = env.batch, state(env, "arm")
    tcp = batch.measure()["tcp"]
    offset = part(found, "container") / 10 + tcp[:, :2]  # (n, 2) m
    assert np.allclose(offset, batch.mocap_pos[:, 0, :2], atol=1e-6)
    seat = part(found, "seat")[:, 0] / 5  # m
    assert np.allclose(seat, [batch.pool[v].closure.body[1] + batch.pool[v].closure.neck[1]
                              for v in batch.variant], atol=1e-6)  # fmt: skip
    assert np.allclose(part(found, "height")[:, 0] / 5 + seat, tcp[:, 2], atol=1e-6)
    cos, sin = part(found, "container_yaw").T
    x, y = part(found, "axis").T
    hand = np.arctan2(y, x) - np.arctan2(sin, cos)
    assert np.allclose(np.cos(hand), env.batch._hand.rotation[:, 0, 0], atol=0.02)
    joints = part(found, "joints")
    assert (np.abs(joints) < 1).all()
    near = part(found, "near") / 40
    assert np.allclose(near[:, :2], part(found, "container") / 10, atol=1e-6)
    assert np.allclose(near[:, 2], np.minimum(part(found, "height")[:, 0] / 5, 0.125), atol=1e-6)


def test_fingers_that_stall_have_something_between_them():
    env = started()
    for _ in range(12):  # in the air, until they meet
        found = env.step(np.tile([0.0, 0.0, 0.0, 0.0, -1.0], (2, 1)))[0]["state"]
        assert not part(found, "stalled").any()
    assert (env.batch.measure()["opening"] < 0.001).all()
    env = started(steps=15)
    assert env.batch.measure()["holds"].all()
    found = state(env, "arm")
    assert part(found, "stalled").all()
    assert np.allclose(part(found, "finger_target"), 0.0, atol=1e-6)
    found = env.step(np.tile([0.0, 0.0, 0.0, 0.0, 1.0], (2, 1)))[0]["state"]
    assert not part(found, "stalled").any()
    speed = part(found, "finger_speed")[:, 0] / 10  # m/s
    assert np.allclose(speed, env.batch.measure_arm()["finger_speed"], atol=1e-6)
    assert (speed > 0.02).all()


def test_an_arm_knows_how_far_it_turned_a_lid_that_it_let_go():
    env = started(steps=20)  # the jar is open, the mug's lid was not turned
    for _ in range(3):
        seen = env.step(np.tile([0.0, 0.0, 0.0, 1.0, 1.0], (2, 1)))[0]
    arm, full = seen["state"], seen["privileged"]
    assert not part(arm, "turned").any()
    turned = part(arm, "lid_turned")[:, 0] * 3  # rad
    assert np.allclose(turned, env.batch.measure()["lid"][:, 3], atol=0.15) and turned[0] > 1.3
    # told from the closed container and from that, where a bar lies
    assert np.allclose(part(arm, "lid_yaw") / 2, part(full, "bar_yaw", "full"), atol=0.3)
    env.reset(seed=1)
    assert not part(state(env, "arm"), "lid_turned").any()


def test_an_arm_knows_where_its_wrist_will_be_along_the_lid():
    env = started()
    before = part(state(env, "arm"), "wrist_along")
    for _ in range(10):
        seen = env.step(np.tile([0.0, 0.0, 0.0, 1.0, 1.0], (2, 1)))[0]["state"]
    bar = env.batch.measure()["bar_yaw_offset"]  # rad
    assert np.allclose(part(seen, "wrist_along"), before, atol=0.1)  # turning does not change it
    angle = 2 * (env.batch.measure()["wrist"] - bar)
    expected = np.stack((np.cos(angle), np.sin(angle)), 1)
    assert np.allclose(part(seen, "wrist_along") / 2, expected, atol=1e-6)


def test_the_privileged_state_is_the_full_one_without_noise():
    env = started(level="randomised", history=3, steps=4)
    observation, *_ = env.step(np.zeros((2, 5)))
    full = observations.observe(env.batch.measure(), env._tracker.held_progress)
    assert np.array_equal(observation["privileged"], full)
    assert observation["state"].shape == (2, 3 * ARM.size)
    assert not np.array_equal(observation["state"][:, -ARM.size :], state(env, "arm"))
    assert env.observation_space.contains(observation)
    assert observed(made(sensors="full", privileged=False)) == {"state", "task"}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_and_a_snapshot_have_the_same_future(copied):
    env = started(level="randomised", steps=16)
    assert env._squeeze is not None and env._squeeze.turned.any()  # a lid in the fingers
    other = copied(env)
    third = made(level="randomised")
    restored = third.restore(env.snapshot())
    turn = np.tile([0.0, 0.0, 0.0, 0.5, -1.0], (2, 1))
    for _ in range(3):
        seen = [one.step(turn)[0] for one in (env, other, third)]
    for name, values in seen[0].items():
        assert np.array_equal(values, seen[1][name]) and np.array_equal(values, seen[2][name])
    assert set(restored) == set(seen[0])
    again = env.restore(third.snapshot())
    assert all(np.array_equal(again[name], values) for name, values in seen[0].items())


def test_a_snapshot_of_other_sensors_is_refused():
    env = made(sensors="full", privileged=False)
    with pytest.raises(ValueError, match="its sensors is 'arm', not 'full'"):
        env.restore(started().snapshot())


# Learning

SMALL = PPOConfig(rollout=8, minibatches=2, epochs=1)
ALGORITHMS = {"ppo": ("ppo", "mlp"), "sac": ("sac", "transformer")}
with_each_algorithm = pytest.mark.parametrize("name", ALGORITHMS)


def learner(name="ppo", sensors="arm", **changes):
    algorithm, body = ALGORITHMS.get(name, (name, "mlp"))
    network = NetworkConfig(body, width=16)
    config = LearnerConfig(
        algorithm=algorithm, sensors=sensors, num_envs=2, network=network, ppo=SMALL
    )
    return Learner(TASKS, dataclasses.replace(config, **changes), 0)


def value(policy, obs, action):
    return policy.critic(obs, action) if hasattr(policy, "draw") else policy.predict_values(obs)


@with_each_algorithm
def test_the_critic_reads_the_privileged_state_and_the_actor_does_not(name):
    agent = learner(name)
    policy = agent.policy
    obs = {key: torch.as_tensor(array) for key, array in agent.env.reset().items()}
    obs["privileged"].requires_grad_()
    obs["state"].requires_grad_()
    action = policy.act(obs)
    [of_action] = torch.autograd.grad(action.sum(), [obs["privileged"]], allow_unused=True)
    assert of_action is None
    assert not torch.equal(torch.autograd.grad(policy.act(obs).sum(), obs["state"])[0],
                           torch.zeros_like(obs["state"]))  # fmt: skip
    found = value(policy, obs, action.detach())
    sources = [obs["privileged"], obs["state"]]
    of_value, of_state = torch.autograd.grad(found.sum(), sources, allow_unused=True)
    assert of_value.abs().sum() > 0 and of_state is None
    moved = {**obs, "privileged": obs["privileged"] + 1.0}
    assert torch.equal(policy.act(moved), action)
    assert not torch.equal(value(policy, moved, action.detach()), found)


@with_each_algorithm
def test_a_checkpoint_knows_its_sensors(name, tmp_path):
    agent = learner(name)
    agent.save(tmp_path)
    policy, meta = load_policy(tmp_path)
    assert meta["sensors"] == policy.network.sensors == "arm"
    env = made(conditioning="parameters", privileged=False)
    observation, info = env.reset(seed=0)
    acts = [Acting(one, TASKS)(env)(observation, info["task_index"])
            for one in (policy, agent.policy)]  # fmt: skip
    assert np.array_equal(acts[0], acts[1])
    with pytest.raises(checkpoints.CheckpointError, match="the sensors arm, not full"):
        learner(name, sensors="full").resume(tmp_path)


def test_a_checkpoint_from_before_there_were_sensors_has_all(tmp_path):
    agent = learner(sensors="full")
    agent.save(tmp_path)
    tensors, meta = checkpoints.load(tmp_path)
    del meta["sensors"], meta["network"]["sensors"]
    checkpoints.save(tmp_path, tensors, meta)
    assert load_policy(tmp_path)[1]["sensors"] == "full"


def test_a_checkpoint_of_sensors_that_are_not_there_is_refused_by_name(tmp_path):
    agent = learner()
    agent.save(tmp_path)
    tensors, meta = checkpoints.load(tmp_path)
    checkpoints.save(tmp_path, tensors, {**meta, "sensors": "leg"})
    with pytest.raises(checkpoints.CheckpointError, match="unknown sensors 'leg': allowed: full"):
        load_policy(tmp_path)


def test_a_checkpoint_whose_sensors_had_other_parts_is_refused_by_name(tmp_path):
    agent = learner()
    agent.save(tmp_path)
    tensors, meta = checkpoints.load(tmp_path)
    parts = meta["parts"]
    assert parts == list(SENSORS["arm"].parts)
    checkpoints.save(tmp_path, tensors, {**meta, "parts": [*parts[1:], parts[0]]})
    for use in (load_policy, learner().resume):
        with pytest.raises(checkpoints.CheckpointError, match="sensors arm have other parts"):
            use(tmp_path)


def test_nothing_else_is_observed_where_the_policy_sees_everything_or_is_stable_baselines3s():
    assert observed(learner(sensors="full").env) == {"state", "task", "index"}
    assert observed(learner("plain_ppo").env) == {"state", "task"}


def test_a_body_that_tells_parts_apart_knows_those_of_the_sensors():
    net = Transformer(2 * ARM.size, 0, 1, 16, sensors="arm")
    tokens = net.tokens(torch.randn(1, 2 * ARM.size))
    assert tokens.shape[1] == len(ARM.parts)
    assert (net.member.sum(0).numpy() == [2 * row.size for row in ARM.parts]).all()
    with pytest.raises(ValueError, match=f"{ARM.size} numbers that the sensors arm give"):
        Transformer(SIZE, 0, 1, 16, sensors="arm")


def test_demonstrations_are_refused_by_name():
    job = JobConfig(sensors="arm", warm_start="clone", demos="somewhere", env_steps=1)
    with pytest.raises(ValueError, match=re.escape("--demos FOLDER goes with --sensors full")):
        check_job(job)
