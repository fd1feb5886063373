"""Learning on tensors: on MuJoCo's own memory, where the tensors are those of the CPU."""

import numpy as np
import pytest
import torch
from test_device import closures_on_mujoco

import uncap
from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig
from uncap.agents.device.config import WideConfig
from uncap.agents.device.dagger import DeviceDagger, LabelledStates
from uncap.agents.device.worlds import Worlds, moved
from uncap.agents.learner import Learner

ROWS = ("bottle", "mug")
N = 6
TINY = WideConfig(
    num_envs=N,
    starts=4,
    states=4000,
    dagger=DaggerConfig(rollout=20, updates=60, minibatch=64),
)


def learner_of(seed=0):
    config = LearnerConfig(num_envs=2, network=NetworkConfig(width=32), ppo=TINY.ppo)
    return Learner(ROWS, config, seed)


def worlds_of(seed=0, **choices):
    closures = closures_on_mujoco(ROWS, N, starts=TINY.starts, seed=seed, **choices)
    return Worlds(closures, len(ROWS), torch.Generator().manual_seed(seed))


def taught(rounds):
    """A learner after DAgger, its teacher, and its loss after each round."""
    learner, worlds, losses = learner_of(), worlds_of(expert=True), []

    def on_round(env_steps, loss):
        losses.append(loss)
        assert env_steps == len(losses) * TINY.dagger.rollout * N
        return len(losses) / rounds

    with moved(learner.policy, worlds.device):
        teacher = DeviceDagger(learner.policy, worlds, TINY, 0)
        teacher.run(on_round)
    return learner, teacher, losses


def error(policy, states):
    """Mean L1 distance from the expert's actions."""
    with torch.no_grad():
        action = policy.actor(states["state"], states["task"], states["index"])
    return (action - states["label"]).abs().mean().item()


def test_dagger_lowers_the_loss_and_its_checkpoint_acts_the_same(tmp_path):
    learner, teacher, losses = taught(8)
    assert len(losses) == 8
    states, worlds = teacher.states.all(), teacher.worlds
    assert len(states["label"]) == teacher.env_steps
    assert error(learner.policy, states) < 0.7 * error(learner_of().policy, states)
    learner.save(tmp_path / "checkpoint")
    loaded = uncap.load(tmp_path)
    observation = {name: values.numpy() for name, values in worlds.observation.items()}
    with torch.no_grad():
        action = learner.policy.act(worlds.observation).clamp(-1, 1).numpy()
    assert np.ptp(action, 0).max() > 0.01
    got, _ = loaded.predict(observation)
    np.testing.assert_allclose(got, action, atol=1e-5)


def test_dagger_is_the_same_for_a_seed():
    first, second = (taught(2) for _ in range(2))
    assert first[2] == second[2]
    for one, other in zip(first[0].policy.parameters(), second[0].policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_dagger_without_labels_is_refused():
    with pytest.raises(ValueError, match="expert=True"):
        DeviceDagger(learner_of().policy, worlds_of(), TINY, 0)


def test_new_states_replace_the_oldest():
    states = LabelledStates(7)
    for k in range(5):
        states.add({"label": torch.full((3, 1), float(k))})
        assert len(states.all()["label"]) == min(2, k + 1) * 3
    assert states.all()["label"][:, 0].tolist() == [4, 4, 4, 3, 3, 3]


def test_first_episodes_end_at_different_times():
    worlds = worlds_of()
    action = torch.zeros(N, 5)
    steps = int(worlds.closures.episode_steps.max())
    ended = torch.stack([worlds.step(action).ended for _ in range(steps)])  # (steps, n)
    first = ended.int().argmax(0)
    assert ended.any(0).all() and first.unique().numel() > N / 2
    early = ended.sum(0) == 1  # by their first, which is not counted
    counted = np.isnan(worlds.take_successes())
    assert counted.tolist() == [early[k :: len(ROWS)].all().item() for k in range(len(ROWS))]


def test_whole_episodes_are_measured():
    worlds = worlds_of(expert=True)
    assert worlds.measure(lambda observation: worlds.label).tolist() == [1.0, 1.0]
    assert worlds.measure(lambda observation: torch.zeros(N, 5)).tolist() == [0.0, 0.0]
    assert np.isnan(worlds.take_successes()).all()
