"""Pictures of Warp's batch renderer beside the CPU's, on Warp's CPU device, and what sees them."""

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp")

from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig
from uncap.agents.device.config import WideConfig
from uncap.agents.device.dagger import DeviceDagger
from uncap.agents.device.worlds import on_warp
from uncap.agents.learner import Learner
from uncap.agents.policy import Acting, load, load_policy
from uncap.envs import ClosureVectorEnv
from uncap.envs.batch import ClosureBatch
from uncap.envs.device.arrays import tensor_of
from uncap.envs.device.closures import DeviceClosures
from uncap.envs.device.warp_worlds import WarpWorlds
from uncap.envs.pixels import Pixels
from uncap.evaluation.protocol import evaluate

ROWS = ("jar", "valve")  # glass and a thread; a bar
N = 4
CHANGED = {"camera": 2, "colours": 2}
MEAN, FAR, FAR_SHARE = 3.0, 40, 0.03  # of 255; a pixel that is another; how many of them


pytestmark = pytest.mark.usefixtures("warp_on_the_cpu")


@pytest.fixture(scope="module")
def closures():
    """Worlds with other colours, lights and cameras each, in episodes of three control steps."""
    batch = ClosureBatch(ROWS, len(ROWS), threads=1, disturb=CHANGED, wrist=True)
    made = DeviceClosures(
        batch, WarpWorlds(batch, N), told="one_hot", sensors="pictures", starts=4, expert=True
    )
    made.episode_steps.fill_(3)
    return batch, made


def drawn_on_the_cpu(batch, closures) -> np.ndarray:
    """The CPU's pictures of the worlds as they are."""
    step = closures.step_of
    state = [
        tensor_of(step._arrays[name]).numpy().astype(float)
        for name in ("qpos", "mocap_pos", "mocap_quat")
    ]
    shown = {name: tensor_of(values).numpy() for name, values in step.variation.pictured().items()}
    pixels = Pixels(batch.pool)
    pictures = pixels.draw(tensor_of(step.lids.variant).numpy(), *state, shown)
    pixels.close()
    return pictures


def test_pictures_are_the_cpus_in_new_episodes_too(closures):
    batch, closures = closures
    observation, info = closures.reset()
    first = observation["rgb"].clone()
    variant = tensor_of(closures.step_of.lids.variant).clone()
    for _ in range(4):  # the last one begins an episode with another variant
        observation, *_, info = closures.step(info["expert"])
    assert not torch.equal(tensor_of(closures.step_of.lids.variant), variant)
    seen = observation["rgb"].numpy()
    assert seen.shape == (N, 84, 84, 6) and seen.dtype == np.uint8
    assert not np.array_equal(seen, first.numpy())
    off = np.abs(seen.astype(int) - drawn_on_the_cpu(batch, closures))  # (n, 84, 84, 6)
    assert off.mean((1, 2, 3)).max() < MEAN
    assert (off > FAR).any(3).mean((1, 2)).max() < FAR_SHARE
    assert off.std() > 0 and seen.std() > 20


def test_worlds_without_changes_have_the_plain_look():
    batch = ClosureBatch(ROWS, len(ROWS), threads=1, wrist=True)
    closures = DeviceClosures(batch, WarpWorlds(batch, N), sensors="pictures", starts=1)
    seen = closures.reset()[0]["rgb"].numpy()
    env = ClosureVectorEnv(ROWS, 2, sensors="pictures", threads=1)
    plain = env.reset(seed=0)[0]["rgb"]
    corner = np.s_[:, :8, :8]  # the sky
    assert (
        np.abs(seen[corner].astype(int).mean((0, 1, 2)) - plain[corner].mean((0, 1, 2))).max() < 6
    )


def learner_of() -> Learner:
    config = LearnerConfig(
        conditioning="one_hot",
        num_envs=2,
        sensors="pictures",
        episode_steps=3,
        network=NetworkConfig(width=16),
    )
    return Learner(ROWS, config, 0)


def test_a_policy_taught_on_warps_pictures_acts_on_the_cpus(tmp_path):
    learner = learner_of()
    worlds = on_warp(learner, N, 2, expert=True, disturb=CHANGED)
    settings = WideConfig(
        num_envs=N, states=40, dagger=DaggerConfig(rollout=2, updates=2, minibatch=8)
    )
    before = learner.policy.actor.encoder.network.cnn[0].weight.clone()
    DeviceDagger(learner.policy, worlds, settings, 0).run(lambda steps, loss: steps / (4 * N))
    assert not torch.equal(learner.policy.actor.encoder.network.cnn[0].weight, before)
    learner.save(tmp_path / "checkpoint", teacher=False)
    policy, meta = load_policy(tmp_path / "checkpoint")
    table = evaluate(
        Acting(policy, meta["tasks"]),
        ROWS,
        1,
        conditioning="one_hot",
        sensors=meta["sensors"],
        disturb=CHANGED,
        episode_steps=2,
        threads=1,
    )
    assert [episode.task for episode in table] == list(ROWS)
    env = ClosureVectorEnv(ROWS, 2, sensors="pictures", conditioning="one_hot", threads=1)
    observation, _ = env.reset(seed=0)
    action, _ = load(tmp_path).predict(observation)
    assert action.shape == (2, 5)
    dark = {**observation, "rgb": observation["rgb"] // 2}
    assert not np.array_equal(load(tmp_path).predict(dark)[0], action)
    with pytest.raises(ValueError, match="this policy sees pictures: rgb must be"):
        load(tmp_path).predict({**observation, "rgb": observation["rgb"][..., :3]})


def test_a_body_that_reads_parts_sees_no_pictures():
    network = NetworkConfig(body="transformer")
    with pytest.raises(ValueError, match="transformer sees no pictures: allowed: mlp, film"):
        Learner(ROWS, LearnerConfig(num_envs=2, sensors="pictures", network=network), 0)
