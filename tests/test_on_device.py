"""Learning on tensors: on MuJoCo's own memory, where the tensors are those of the CPU."""

import dataclasses

import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer
from test_device import closures_on_mujoco

import uncap
from uncap.agents import checkpoints
from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.device import saved
from uncap.agents.device.config import WideConfig
from uncap.agents.device.dagger import DeviceDagger, LabelledStates
from uncap.agents.device.ppo import DevicePPO
from uncap.agents.device.rollout import advantages, normalised
from uncap.agents.device.scale import DeviceReturnScale
from uncap.agents.device.sums import TaskSums
from uncap.agents.device.worlds import Worlds, moved, on_warp
from uncap.agents.learner import Learner
from uncap.agents.ppo import TaskRolloutBuffer
from uncap.agents.vec_env import ReturnScale

ROWS = ("bottle", "mug")
N = 6
TINY = WideConfig(
    num_envs=N,
    starts=4,
    states=4000,
    dagger=DaggerConfig(rollout=20, updates=60, minibatch=64),
    ppo=PPOConfig(rollout=15, minibatches=3, epochs=2, target_kl=1.0),
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
    learner, teacher, losses = taught(5)
    assert len(losses) == 5
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


class Told:
    """A rollout of two tasks in numbers that are drawn, in both forms.

    On the CPU an episode's next one begins in the step after. On a device there is a step
    between the two, before which the state is the one that the episode was cut off at.
    """

    STEPS, GAMMA, DECAY = 12, 0.97, 0.9

    def __init__(self):
        rng = np.random.default_rng(0)
        steps, n = self.STEPS + 1, N
        self.task = np.arange(n) % 2
        self.reward = rng.normal(size=(steps, n)) * (1 + 9 * self.task)
        self.value = rng.normal(size=(steps, n))
        self.last_value = rng.normal(size=n)
        self.ended = np.zeros((steps, n), bool)
        last = rng.integers(steps - 1, size=n)
        self.ended[last, np.arange(n)] = True
        self.running = ~np.roll(self.ended, 1, axis=0)
        self.reward[~self.running] = 0.0
        self.sums = TaskSums(torch.as_tensor(self.task), 2)

    def without_pauses(self, values):
        """(STEPS, n) of (STEPS + 1, n)."""
        return values.T[self.running.T].reshape(N, self.STEPS).T

    def tensors(self, *names):
        return [torch.as_tensor(getattr(self, name)) for name in names]

    def found(self):
        found = self.tensors("reward", "value", "last_value", "ended")
        return advantages(*found, self.GAMMA, self.DECAY)

    def buffer(self, kind):
        """stable-baselines3's, which adds the value of what an episode was cut off at."""
        space = learner_of().env
        buffer = kind(
            self.STEPS,
            space.observation_space,
            space.action_space,
            gae_lambda=self.DECAY,
            gamma=self.GAMMA,
            n_envs=N,
        )
        following = np.concatenate([self.value[1:], self.last_value[None]])
        reward = self.reward + self.GAMMA * following * self.ended
        buffer.rewards[:] = self.without_pauses(reward)
        buffer.values[:] = self.without_pauses(self.value)
        begins = np.roll(self.without_pauses(self.ended), 1, axis=0)
        buffer.episode_starts[:] = begins
        buffer.episode_starts[0] = 0
        buffer.observations["index"][..., 0] = self.task
        buffer.compute_returns_and_advantage(torch.as_tensor(self.last_value), begins[0])
        return buffer


@pytest.mark.parametrize("floor", (0.3, 50.0))
def test_advantages_are_those_of_the_cpu(floor, monkeypatch):
    monkeypatch.setattr("uncap.agents.ppo.ADVANTAGE_FLOOR", floor)
    monkeypatch.setattr("uncap.agents.device.rollout.ADVANTAGE_FLOOR", floor)
    told = Told()
    assert told.ended[:-1].any(0).all()
    advantage = told.found()
    plain = told.buffer(DictRolloutBuffer)
    np.testing.assert_allclose(
        told.without_pauses(advantage.numpy()), plain.advantages, rtol=1e-5, atol=1e-5
    )
    (running,) = told.tensors("running")
    got = normalised(advantage, running, told.sums).numpy()
    want = told.buffer(TaskRolloutBuffer).advantages
    np.testing.assert_allclose(told.without_pauses(got), want, rtol=1e-5, atol=1e-5)


def test_rewards_are_scaled_as_on_the_cpu():
    """Worlds pause together here: then the CPU's steps are those between the pauses."""
    rng = np.random.default_rng(0)
    task = np.arange(N) % 2
    on_cpu = ReturnScale(2, N, 0.9)
    on_device = DeviceReturnScale(TaskSums(torch.as_tensor(task), 2), 0.9)
    for step in range(30):
        reward = rng.normal(1, 1 + task)
        ended = np.full(N, step % 7 == 6)
        want = on_cpu(reward, ended, task)
        running = torch.ones(N, dtype=torch.bool)
        got = on_device(torch.as_tensor(reward), torch.as_tensor(ended), running)
        np.testing.assert_allclose(got, want, rtol=1e-12)
        if ended.all():
            on_device(torch.zeros(N), torch.zeros(N, dtype=torch.bool), ~running)
    for name, value in on_cpu.state().items():
        np.testing.assert_allclose(getattr(on_device, name), value, rtol=1e-12)


def reinforced(updates):
    """A learner after PPO, and what was said of each update."""
    learner, worlds, said = learner_of(), worlds_of(), []

    def on_update(*numbers):
        said.append(numbers)
        return len(said) / updates

    with moved(learner.policy, worlds.device):
        DevicePPO(learner.policy, worlds, TINY, 0).run(on_update)
    return learner, said


def test_ppo_changes_all_weights_alike_for_a_seed():
    (first, said), (second, again) = reinforced(3), reinforced(3)
    assert said == again
    assert [env_steps for env_steps, _ in said] == [15 * N * k for k in range(1, 4)]
    assert all(divergence > 0 for _, divergence in said)
    weights, untrained = first.policy.state_dict(), learner_of().policy.state_dict()
    for name, value in second.policy.state_dict().items():
        assert torch.equal(weights[name], value)
        assert name.startswith("value_") or not torch.equal(untrained[name], value), name


def test_updates_on_one_rollout_lower_its_loss():
    longer = dataclasses.replace(TINY, ppo=dataclasses.replace(TINY.ppo, rollout=40))
    ppo = DevicePPO(learner_of().policy, worlds_of(), longer, 0)
    last_value = ppo._collect()
    steps = ppo._learned_from(last_value)
    assert len(steps["reward"]) < 40 * N  # some worlds restarted
    before = ppo._loss(steps)[0].item()
    for _ in range(10):
        ppo._update(last_value)
    assert ppo._loss(steps)[0].item() < 0.9 * before


def test_what_is_on_the_cpu_only_is_refused():
    learner, worlds = learner_of(), worlds_of()
    for other in (
        PPOConfig(rule="pcgrad"),
        PPOConfig(popart=True),
        PPOConfig(anneal_steps=9),
    ):
        with pytest.raises(ValueError, match="neither"):
            DevicePPO(learner.policy, worlds, dataclasses.replace(TINY, ppo=other), 0)


def test_a_learner_has_worlds_on_warp(monkeypatch):
    pytest.importorskip("mujoco_warp")
    monkeypatch.setenv("UNCAP_WARP_DEVICE", "cpu")
    config = LearnerConfig(
        conditioning="one_hot", num_envs=2, episode_steps=3, network=NetworkConfig(width=16)
    )
    learner = Learner(ROWS, config, 0)
    worlds = on_warp(learner, 3, 1, expert=True)
    assert len(worlds) == 3 and worlds.label is not None and worlds.label.shape == (3, 5)
    first = worlds.observation["state"].clone()
    told = worlds.observation["task"].numpy()
    assert np.array_equal(told, learner.closures.task_vectors[worlds.closures.task])
    for _ in range(3):
        outcome = worlds.step(worlds.label)
    assert np.isfinite(outcome.reward).all()
    assert worlds.measure(learner.policy.act).tolist() == [0.0, 0.0]
    others = on_warp(learner, 3, 1, variants="validation")
    assert not torch.allclose(others.observation["state"], first)


class Stopped:
    """Counts rounds or updates of a budget; asks for a stop after some of them."""

    def __init__(self, total, stop_after=None):
        self.total, self.stop_after, self.said = total, stop_after, []

    def __call__(self, env_steps, number):
        self.said.append((env_steps, number))
        return env_steps / self.total

    def stop(self):
        return len(self.said) == self.stop_after


KINDS = {"dagger": DeviceDagger, "ppo": DevicePPO}
UPDATES = 5


def going_on(kind, run=None, stop_after=None, **choices):
    """A learner that learns for UPDATES rounds or updates, after what is in a run folder."""
    learner, worlds = learner_of(), worlds_of(expert=kind == "dagger", **choices)
    rollout = (TINY.dagger if kind == "dagger" else TINY.ppo).rollout
    budget = Stopped(UPDATES * rollout * N, stop_after)
    with moved(learner.policy, worlds.device):
        teacher = KINDS[kind](learner.policy, worlds, TINY, 0)
        if run is not None and saved.exists(run):
            assert saved.restore(run, teacher)["kept"] == "beside"
        teacher.run(budget, budget.stop)
        if stop_after:
            saved.save(run, teacher, kept="beside")
    return learner, budget.said


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_stopped_goes_on_bit_for_bit(kind, tmp_path):
    choices = {"level": "randomised", "history": 1}
    whole, said = going_on(kind, **choices)
    _, first = going_on(kind, tmp_path, 2, **choices)
    torch.rand(7)  # what others draw meanwhile
    learner, then = going_on(kind, tmp_path, **choices)
    assert len(said) == UPDATES and first + then == said
    weights = learner.policy.state_dict()
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(weights[name], value), name
    saved.forget(tmp_path)
    assert not saved.exists(tmp_path)


def test_what_goes_on_is_refused_where_it_does_not_fit(tmp_path):
    going_on("ppo", tmp_path, 1)
    teacher = DevicePPO(learner_of().policy, worlds_of(privileged=True, history=2), TINY, 0)
    with pytest.raises(checkpoints.CheckpointError, match="is of another training"):
        saved.restore(tmp_path, teacher)
    dagger = DeviceDagger(learner_of().policy, worlds_of(expert=True), TINY, 0)
    with pytest.raises(checkpoints.CheckpointError, match="is of another training"):
        saved.restore(tmp_path, dagger)


def test_worlds_go_on_from_a_snapshot_in_the_midst_of_trials():
    choices = {"level": "randomised", "history": 2, "attempts": 2, "sensors": "arm"}
    worlds = worlds_of(expert=True, episode_steps=9, **choices)
    for _ in range(7):
        worlds.step(worlds.label)
    snapshot = worlds.snapshot()

    def played(own):
        found = []
        for _ in range(20):
            outcome = own.step(own.label)
            found += [outcome.reward, own.observation["state"].clone(), own.label.clone()]
        return found, own.take_successes()

    want, successes = played(worlds)
    other = worlds_of(expert=True, episode_steps=9, **choices)
    other.step(other.label)
    other.restore(snapshot)
    got, again = played(other)
    for one, two in zip(got, want, strict=True):
        assert torch.equal(one, two)
    np.testing.assert_array_equal(again, successes)
