"""Networks, PPO's per-task parts, checkpoints, and resume."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import types

import numpy as np
import pytest
import safetensors.numpy
import torch

from uncap.agents import checkpoints, dagger, sb3
from uncap.agents.balance import PopArt
from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.gradients import GradientRule
from uncap.agents.learner import Learner
from uncap.agents.networks import TaskNetwork
from uncap.agents.policy import Acting, load_policy
from uncap.agents.ppo import ADVANTAGE_FLOOR, TaskRolloutBuffer
from uncap.agents.tables import BODIES, HEADS, SAMPLINGS
from uncap.agents.vec_env import ReturnScale
from uncap.envs import ClosureVectorEnv, telling
from uncap.envs.observations import SIZE

NUM_ENVS = 8
ACTIONS = 5
SMALL = PPOConfig(rollout=8, warm_rollout=8, minibatches=2, epochs=2, critic_warmup=1)
UPDATE = SMALL.rollout * NUM_ENVS  # environment steps from one update to the next


def learner(
    tasks=("bottle", "mug"),
    warm=True,
    conditioning="parameters",
    sampling="uniform",
    width=32,
    body="mlp",
    head="shared",
    guided=False,
    **changes,
) -> Learner:
    config = LearnerConfig(
        conditioning=conditioning,
        sampling=sampling,
        num_envs=NUM_ENVS,
        warm=warm,
        guided=guided,
        network=NetworkConfig(body, head, width),
        ppo=dataclasses.replace(SMALL, **changes),
    )
    return Learner(tasks, config, seed=3)


def always() -> bool:
    """Go on after every update."""
    return True


def copied(module: torch.nn.Module) -> list[torch.Tensor]:
    """Copies of a module's parameters."""
    return [parameter.detach().clone() for parameter in module.parameters()]


def unchanged(module: torch.nn.Module, before: list[torch.Tensor]) -> list[bool]:
    """Whether each parameter is what it was."""
    pairs = zip(before, module.parameters(), strict=True)
    return [torch.equal(old, new) for old, new in pairs]


def learning_rates(agent: Learner) -> tuple[float, float]:
    """Of actor and critic."""
    actor, critic = agent.policy.optimizer.param_groups
    return actor["lr"], critic["lr"]


def add_step(buffer: TaskRolloutBuffer, observation: dict, reward: np.ndarray, values=None) -> None:
    """Add a control step without an episode's start; the critic said 0, where nothing is given."""
    values = torch.zeros(NUM_ENVS, 1) if values is None else values
    action = np.zeros((NUM_ENVS, ACTIONS))
    starts = np.zeros(NUM_ENVS)
    log_prob = torch.zeros(NUM_ENVS)
    buffer.add(observation, action, reward, starts, values, log_prob)


# Networks


def test_per_task_heads_are_isolated():
    net = TaskNetwork(4, 0, 2, 3, NetworkConfig(head="per_task", width=16))
    x = torch.randn(6, 4)
    task = torch.zeros(6, 0)
    index = torch.tensor([0, 1, 2, 0, 1, 2])
    before = net(x, task, index).detach().clone()
    with torch.no_grad():
        net.head.bias[1] += 1.0
    changed = (net(x, task, index) - before).detach()
    assert torch.allclose(changed[index == 1], torch.ones(2, 2))
    assert torch.equal(changed[index != 1], torch.zeros(4, 2))


@pytest.mark.parametrize("head", HEADS)
def test_batched_equals_looped(head):
    net = TaskNetwork(5, 2, 3, 4, NetworkConfig(head=head, width=16))
    x = torch.randn(8, 5)
    task = torch.randn(8, 2)
    index = torch.arange(8) % 4
    looped = torch.cat([net(x[i : i + 1], task[i : i + 1], index[i : i + 1]) for i in range(8)])
    assert torch.allclose(net(x, task, index), looped, atol=1e-6)
    assert net(x, task, index).shape == (8, 3)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", ["none", "embedding", "parameters"])
def test_a_body_is_told_what_the_conditioning_says(body, kind):
    agent = learner(conditioning=kind, body=body)
    state = torch.randn(1, SIZE).repeat(2, 1)  # the same state for both tasks
    index = torch.tensor([0, 1])
    task = torch.as_tensor(agent.closures.task_vectors)
    assert task.shape == (2, telling.SIZE if kind == "parameters" else 0)
    if body in ("film", "attention"):  # which starts as if it were told nothing
        torch.nn.init.normal_(agent.policy.actor.body.modulation.net[-1].weight)
    first, second = agent.policy.actor(state, task, index)
    assert torch.allclose(first, second, atol=1e-6) == (kind == "none")


def test_history_stacks_states_and_tells_no_task():
    agent = learner(conditioning="history")
    assert agent.env.observation_space["state"].shape == (8 * SIZE,)
    assert "task" not in agent.env.observation_space.spaces


# Guidance


def rollout_observations(agent: Learner) -> dict[str, torch.Tensor]:
    """The observations (steps * n, ...) of the last rollout, by name."""
    stored = agent.algorithm.model.rollout_buffer.observations
    return {
        name: torch.as_tensor(value.reshape(-1, value.shape[-1])) for name, value in stored.items()
    }


def test_guidance_goes_on_to_imitate_and_leaves_the_critic():
    distances = []  # mean distance from the labels, without guidance and with it
    for guidance in (0, 40):
        agent = learner(guided=True, guidance=guidance, warm_learning_rate=1e-3, critic_warmup=0)
        agent.learn(6 * UPDATE, always)
        seen = rollout_observations(agent)
        assert seen["label"].abs().max() <= 1
        assert seen["label"].std() > 0.1
        distances.append((agent.policy.act(seen) - seen["label"]).abs().mean().item())
        critic = copied(agent.policy.critic)
        agent.algorithm.model._imitate()
        assert all(unchanged(agent.policy.critic, critic))
    assert distances[1] < 0.7 * distances[0]


def test_without_guidance_there_are_no_labels():
    assert "label" not in learner(guided=False).env.observation_space.spaces


@pytest.mark.parametrize("kind", ["none", "embedding", "history", "one_hot"])
def test_guidance_works_whatever_the_policy_is_told(kind):
    agent = learner(conditioning=kind, guided=True, guidance=2, critic_warmup=0)
    agent.learn(UPDATE, always)
    assert agent.algorithm.model.num_timesteps == UPDATE


# Balance between tasks


def test_popart_keeps_what_the_critic_says():
    agent = learner(popart=True)
    assert not agent.env.scaled
    obs = {name: torch.as_tensor(value) for name, value in agent.env.reset().items()}
    before = agent.policy.predict_values(obs)
    rng = np.random.default_rng(0)
    art = PopArt(agent.policy, rate=1.0)
    art.update(0, 5 + 3 * rng.normal(size=4000))
    art.update(1, -7 + 0.5 * rng.normal(size=4000))
    assert torch.allclose(agent.policy.predict_values(obs), before, atol=1e-4)
    assert agent.policy.value_mean.numpy() == pytest.approx([5, -7], abs=0.2)
    assert agent.policy.value_std.numpy() == pytest.approx([3, 0.5], rel=0.05)


@pytest.mark.parametrize("rule", ["pcgrad", "upgrad"])
def test_gradient_rules_train_actor_and_critic(rule):
    agent = learner(rule=rule, critic_warmup=0)
    agent.algorithm.watch_cosines()
    before = copied(agent.policy)
    agent.learn(2 * UPDATE, always)
    assert not any(unchanged(agent.policy, before))
    cosines = agent.algorithm.cosines
    assert np.allclose(np.diag(cosines), 1)
    assert np.abs(cosines).max() <= 1


@pytest.mark.parametrize("target_kl", [None, 1e-6])  # all of an update; it ends in epoch 2
def test_the_plain_sum_by_rule_is_stable_baselines3s_update(target_kl):
    policies = []
    logged = []
    for rules in (None, (GradientRule("sum", 2), GradientRule("sum", 2))):
        agent = learner(warm=False, target_kl=target_kl)
        agent.algorithm.log_to(lambda numbers, step: logged.append(numbers))
        agent.algorithm.model.rules = rules
        # One minibatch, of both tasks equally: their means weigh the same.
        agent.algorithm.model.batch_size = UPDATE
        agent.learn(UPDATE, always)
        policies.append(agent.policy)
    plain, by_rule = policies
    for a, b in zip(plain.parameters(), by_rule.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    expected, found = logged
    assert set(found) == set(expected)
    for name in (name for name in expected if name.startswith("train/")):
        assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name
    assert expected["train/approx_kl"] > 1e-5


def test_samplings_are_distributions_and_favour_what_they_say():
    success = np.array([1.0, 0.0, np.nan, 0.5])
    for make in SAMPLINGS.values():
        p = make(success)
        assert p.sum() == pytest.approx(1)
        assert (p > 0).all()
    assert np.ptp(SAMPLINGS["uniform"](success)) == 0
    p = SAMPLINGS["by_failure"](success)
    assert p[1] == p[2] > p[3] > p[0] >= 0.1 / 4
    p = SAMPLINGS["zipf"](success)
    assert p[0] == pytest.approx(2 * p[1])
    assert 2 * p[1] == pytest.approx(4 * p[3])


def test_a_long_tail_is_practised_by_its_shares():
    agent = learner(("bottle", "mug", "valve", "cork"), sampling="zipf")
    agent.take_successes()
    count = np.zeros(4)
    for seed in range(30):
        agent.closures.reset(seed=seed)
        count += np.bincount(agent.closures.task, minlength=4)
    assert count[0] > count[1] > count[3]
    assert count / count.sum() == pytest.approx(SAMPLINGS["zipf"](np.zeros(4)), abs=0.1)
    assert np.array_equal(agent.closures.task, agent.closures.batch.task)


def test_rewards_are_scaled_per_task():
    rng = np.random.default_rng(0)
    scale = ReturnScale(2, 64, gamma=0.0)
    task = np.arange(64) % 2
    for _ in range(200):
        raw = np.where(task == 0, 1.0, 50.0) * rng.normal(size=64)
        scaled = scale(raw, np.zeros(64, bool), task)
    assert scaled[task == 0].std() == pytest.approx(1.0, abs=0.4)
    assert scaled[task == 1].std() == pytest.approx(1.0, abs=0.4)


# Advantages


def random_observation(agent: Learner, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Normal numbers (n, ...) for every part of the observation."""
    spaces = agent.env.observation_space.spaces
    return {
        name: rng.normal(size=(NUM_ENVS, *space.shape)).astype(np.float32)
        for name, space in spaces.items()
    }


def test_advantages_are_normalised_within_each_task():
    agent = learner()
    buffer = agent.algorithm.model.rollout_buffer
    assert isinstance(buffer, TaskRolloutBuffer)
    rng = np.random.default_rng(0)
    buffer.reset()
    index = np.arange(NUM_ENVS) % 2
    for _ in range(SMALL.rollout):
        obs = random_observation(agent, rng)
        obs["index"] = index[:, None].astype(np.float32)
        loud = 100 * rng.normal(size=NUM_ENVS)
        quiet = rng.normal(size=NUM_ENVS)
        add_step(buffer, obs, np.where(index == 0, loud, quiet))
    buffer.compute_returns_and_advantage(torch.zeros(NUM_ENVS, 1), np.zeros(NUM_ENVS))
    for task in (0, 1):
        own = buffer.advantages[:, index == task]
        assert abs(own.mean()) < 1e-5
        assert own.std() == pytest.approx(1.0, abs=1e-4)
    buffer.reset()
    # Of a solved task, advantages are noise far below the floor, and stay small.
    for _ in range(SMALL.rollout):
        add_step(buffer, obs, 1e-3 * rng.normal(size=NUM_ENVS))
    buffer.compute_returns_and_advantage(torch.zeros(NUM_ENVS, 1), np.zeros(NUM_ENVS))
    assert buffer.advantages.std() < 0.01 / ADVANTAGE_FLOOR


def test_gae_matches_hand_computation():
    agent = learner()
    buffer = agent.algorithm.model.rollout_buffer
    buffer.reset()
    steps = SMALL.rollout
    rewards = np.arange(float(steps)) ** 2 / 10
    values = np.linspace(1, 2, steps)
    last_value = 3.0
    spaces = agent.env.observation_space.spaces
    obs = {name: np.zeros((NUM_ENVS, *s.shape), np.float32) for name, s in spaces.items()}
    for step in range(steps):
        reward = np.full(NUM_ENVS, rewards[step])
        add_step(buffer, obs, reward, torch.full((NUM_ENVS, 1), values[step]))
    last_values = torch.full((NUM_ENVS, 1), last_value)
    buffer.compute_returns_and_advantage(last_values, np.zeros(NUM_ENVS))
    advantage = 0.0
    following = last_value
    expected = np.zeros(steps)
    for step in reversed(range(steps)):
        error = rewards[step] + buffer.gamma * following - values[step]
        advantage = error + buffer.gamma * buffer.gae_lambda * advantage
        expected[step] = advantage
        following = values[step]
    assert np.allclose(buffer.returns[:, 0], expected + values, atol=1e-4)


# Learning


def test_critic_warm_up_leaves_the_actor_alone():
    agent = learner()
    actor = copied(agent.policy.actor)
    critic = copied(agent.policy.critic)
    agent.learn(UPDATE, always)
    assert all(unchanged(agent.policy.actor, actor))
    assert not all(unchanged(agent.policy.critic, critic))
    agent.learn(2 * UPDATE, always)
    assert not all(unchanged(agent.policy.actor, actor))


def test_resume_equals_uninterrupted(tmp_path):
    whole = learner()
    whole.learn(6 * UPDATE, always)
    part = learner()

    def stop_after_three() -> bool:
        if part.env_steps == 3 * UPDATE:
            part.save(tmp_path / "latest")
            return False
        return True

    part.learn(6 * UPDATE, stop_after_three)
    rest = learner()
    rest.resume(tmp_path / "latest")
    assert rest.env_steps == 3 * UPDATE
    rest.learn(6 * UPDATE, always)
    expected = whole.policy.state_dict()
    found = rest.policy.state_dict()
    assert list(found) == list(expected)
    for name in expected:
        assert torch.equal(found[name], expected[name]), name
    assert np.array_equal(whole.closures.batch.qpos, rest.closures.batch.qpos)


def test_the_last_episodes_are_remembered_by_a_resumed_learner(tmp_path):
    last = [(1.5, 80, True), (0.5, 160, False)]
    agent = learner()
    agent.learn(UPDATE, always)
    sb3.set_episodes(agent.algorithm.model, last)
    agent.save(tmp_path / "latest")
    rest = learner()
    rest.resume(tmp_path / "latest")
    logged = {}
    rest.algorithm.log_to(lambda numbers, step: logged.update({step: numbers}))
    rest.learn(2 * UPDATE, always)
    assert sb3.episodes(rest.algorithm.model) == last
    [(step, numbers)] = logged.items()
    assert step == 2 * UPDATE
    assert numbers["rollout/ep_rew_mean"] == 1
    assert numbers["rollout/ep_len_mean"] == 120


def test_same_seed_same_weights():
    first = learner()
    first.learn(2 * UPDATE, always)
    second = learner()
    second.learn(2 * UPDATE, always)
    assert all(unchanged(second.policy, copied(first.policy)))


def test_exploration_lasts_in_the_fingers_and_its_deviation_falls(monkeypatch):
    agent = learner(warm=False, rollout=400, deviations=((0, 0.5), (6400, 0.2)))
    sb3.prepare(agent.algorithm.model)
    agent.policy.noise = torch.full((NUM_ENVS, ACTIONS), 1e3)  # of another rollout
    kept = []
    forward = agent.policy.forward

    def forward_and_keep_the_noise(*given):
        result = forward(*given)
        kept.append(agent.policy.noise.clone())
        return result

    monkeypatch.setattr(agent.policy, "forward", forward_and_keep_the_noise)
    agent.learn(3200, always)
    noise = torch.stack(kept)  # (steps, n, a)
    along = (noise[1:] * noise[:-1]).mean((0, 1)).numpy()
    assert np.allclose(along, [0, 0, 0, 0, 0.8], atol=0.1)
    assert np.allclose(noise.std((0, 1)), 1, atol=0.1)
    assert kept[0].abs().max() < 10  # it begins anew
    assert (agent.policy.log_std.exp() < 0.351).all()  # half way between 0.5 and 0.2
    agent.learn(6400, always)
    assert (agent.policy.log_std.exp() < 0.201).all()
    actor, critic = learning_rates(agent)
    assert actor == pytest.approx(0.2 / 0.5 * critic)
    assert critic == SMALL.learning_rate


@pytest.mark.parametrize(
    ("body", "warm", "share"),
    [
        ("mlp", False, 1.0),
        ("transformer", False, 0.3),
        ("transformer", True, 1.0),
    ],
)
def test_a_transformers_actor_learns_slower_from_nothing(body, warm, share):
    agent = learner(body=body, warm=warm)
    sb3.prepare(agent.algorithm.model)
    agent.algorithm.model._update_learning_rate(agent.policy.optimizer)
    actor, critic = learning_rates(agent)
    rate = SMALL.warm_learning_rate if warm else SMALL.learning_rate
    assert actor == pytest.approx(share * rate, rel=0.01)
    assert critic == SMALL.learning_rate


# DAgger


@pytest.mark.parametrize(("lead", "shares"), [(0.1, [1, 0, 0, 0]), (1.0, [1, 0.75, 0.5, 0])])
def test_the_expert_leads_in_the_first_rounds(lead, shares):
    found = [dagger._expert_share(k, 20, lead) for k in (0, 5, 10, 20)]
    assert np.allclose(found, shares)


def test_dagger_learns_the_expert():
    agent = learner(("mug",), width=128)
    losses = []

    def keep_loss(steps, loss) -> bool:
        losses.append(loss)
        return True

    config = DaggerConfig(steps_per_task=2_400, updates=60, minibatch=256)
    agent.imitate_experts(config, keep_loss)
    assert losses[-1] < 0.8 * losses[0]


def taught(rounds: int) -> tuple[dict, list[tuple[int, float]]]:
    """Weights after so many rounds of DAgger, and (environment steps, loss) of each."""
    agent = learner()
    seen = []

    def go_on(*done) -> bool:
        seen.append(done)
        return len(seen) < rounds

    agent.imitate_experts(DaggerConfig(steps_per_task=160, rollout=10, updates=5), go_on)
    return agent.policy.state_dict(), seen


def test_dagger_does_not_depend_on_how_long_its_fits_take(monkeypatch):
    quick, seen = taught(100)
    fit = dagger.fit

    def slow(*args):
        time.sleep(0.2)
        return fit(*args)

    monkeypatch.setattr(dagger, "fit", slow)
    began = time.perf_counter()
    late, same = taught(100)
    assert time.perf_counter() - began > 0.2 * len(seen)
    assert seen == same
    assert all(torch.equal(value, late[name]) for name, value in quick.items())


def test_noise_on_the_states_is_in_their_own_deviations():
    class Seeing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.seen: list[torch.Tensor] = []

        def forward(self, state, task, index):
            self.seen.append(state)
            return self.weight.expand(len(state), 1)

    def seen(*noise: float) -> torch.Tensor:
        actor = Seeing()
        optimizer = torch.optim.SGD(actor.parameters(), 0.1)
        fit = (optimizer, data, 1, 4000, np.random.default_rng(0), None, *noise)
        dagger.fit(types.SimpleNamespace(actor=actor), *fit)  # type: ignore
        return actor.seen[0]

    state = torch.tensor([[1.0, 5.0, -20.0], [3.0, 5.0, 20.0]])  # deviations 1, 0, 20
    alike = torch.zeros(2, 1)
    data = {"state": state, "task": alike, "index": alike, "label": alike}
    before = state.clone()
    plain, noisy = seen(), seen(0.3)
    assert torch.equal(seen(0.0), plain)
    torch.testing.assert_close(
        (noisy - plain).std(0), torch.tensor([0.3, 0.0, 6.0]), rtol=0.05, atol=1e-6
    )
    assert torch.equal(data["state"], before)


@pytest.mark.filterwarnings("error")
def test_a_fit_of_no_minibatches_has_no_loss():
    assert np.isnan(dagger.fit(None, None, {}, 0, 1, np.random.default_rng(0)))


def test_dagger_ends_when_told():
    _, whole = taught(100)
    _, two = taught(2)
    steps = [env_steps for env_steps, _ in whole]
    assert [env_steps for env_steps, _ in two] == steps[:2]


# Checkpoints


@pytest.mark.parametrize(
    ("conditioning", "head"),
    [
        ("parameters", "shared"),
        ("embedding", "per_task"),
        ("one_hot", "shared"),
    ],
)
def test_checkpoint_round_trip_and_acting(tmp_path, conditioning, head):
    agent = learner(conditioning=conditioning, head=head, body="film", popart=True)
    agent.save(tmp_path / "checkpoint")
    policy, meta = load_policy(tmp_path / "checkpoint")
    assert meta["tasks"] == ["bottle", "mug"]
    known = ("bottle", "mug")
    env = ClosureVectorEnv(known, 4, conditioning=conditioning)
    obs, info = env.reset(seed=0)
    action = Acting(policy, known)(env)(obs, info["task_index"])
    assert np.array_equal(action, Acting(agent.policy, known)(env)(obs, info["task_index"]))
    names = sorted(path.name for path in (tmp_path / "checkpoint").iterdir())
    assert names == [checkpoints.FILE]
    # A task is known by its name, whatever its place in the environment it is evaluated in.
    env = ClosureVectorEnv("mug", 1, conditioning=conditioning, known_tasks=known)
    env.reset(seed=0)
    second = {name: value[1:2] for name, value in obs.items()}
    alone = Acting(policy, known)(env)(second, np.array([0]))
    assert np.allclose(alone[0], action[1], atol=1e-6)


TENSORS = {"x": np.arange(4.0), "none": np.zeros((0, 3)), "one": np.array(True)}


def damaged(data: bytes, damage: str, place: int) -> bytes:
    """A file's bytes with a bit flipped, or a part of them only."""
    if damage == "cut":
        return data[:place]
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_damage_in_any_byte_of_a_checkpoint_is_noticed(tmp_path, damage):
    checkpoints.save(tmp_path, TENSORS, {"a": 1})
    file = tmp_path / checkpoints.FILE
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(damaged(whole, damage, place))
        with pytest.raises(checkpoints.CheckpointError):
            checkpoints.load(tmp_path)
    file.write_bytes(whole)
    tensors, meta = checkpoints.load(tmp_path)
    assert meta == {"format": checkpoints.FORMAT, "a": 1}
    for name, value in TENSORS.items():
        assert np.array_equal(tensors[name], value)
        assert tensors[name].shape == value.shape


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(checkpoints.CheckpointError, match="is missing"):
        checkpoints.load(tmp_path)
    checkpoints.save(tmp_path, TENSORS, {"format": 99})
    with pytest.raises(checkpoints.CheckpointError, match="format 99"):
        checkpoints.load(tmp_path)


def save_as_before(folder, tensors: dict, meta: dict) -> None:
    """Write a checkpoint in the first format: two files."""
    folder.mkdir(exist_ok=True)
    (folder / "meta.json").write_text(json.dumps({**meta, "format": 1}))
    safetensors.numpy.save_file(tensors, folder / checkpoints.FILE)


def test_checkpoints_of_before_are_read_and_replaced_but_not_resumed(tmp_path):
    agent = learner()
    agent.save(tmp_path / "new")
    tensors, meta = checkpoints.load(tmp_path / "new")
    old = tmp_path / "old"
    save_as_before(old, tensors, meta)
    policy, found = load_policy(old)
    assert found["tasks"] == ["bottle", "mug"]
    assert all(unchanged(policy, copied(agent.policy)))
    with pytest.raises(checkpoints.CheckpointError, match="earlier version"):
        agent.resume(old)
    agent.save(old)
    assert [path.name for path in old.iterdir()] == [checkpoints.FILE]


def test_a_save_that_is_cut_off_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    def cut_off(*_):
        raise KeyboardInterrupt

    checkpoints.save(tmp_path, TENSORS, {"a": 1})
    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(tmp_path, {}, {"a": 2})
    monkeypatch.undo()
    assert (tmp_path / checkpoints.TEMPORARY).exists()
    assert checkpoints.load(tmp_path)[1]["a"] == 1
    checkpoints.save(tmp_path, {}, {"a": 3})
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.FILE]


def test_learners_leave_no_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    learner().learn(UPDATE, always)
    assert not list(tmp_path.iterdir())


def test_adopting_a_policy_for_another_task():
    source = learner(head="per_task").policy
    target = learner(("thermos",), head="per_task").policy
    target.adopt(source)
    assert torch.allclose(target.actor.head.bias[0], source.actor.head.bias.mean(0))
    assert torch.equal(target.actor.body.net[0].weight, source.actor.body.net[0].weight)


PLACES = """
import numpy as np
import torch
import uncap.agents.networks

torch.set_num_threads(1)
rng = np.random.default_rng(0)
for n, k, m in ((4, 256, 5), (16, 72, 256), (64, 384, 1), (3, 36, 64)):
    weight = torch.as_tensor(rng.normal(size=(m, k)).astype(np.float32))
    values = rng.normal(size=(n, k)).astype(np.float32)
    found = set()
    for offset in range(0, 64, 4):  # bytes
        memory = np.zeros(values.nbytes + 128, np.uint8)
        begin = -memory.ctypes.data % 64 + offset
        moved = memory[begin : begin + values.nbytes].view(np.float32).reshape(n, k)
        moved[:] = values
        found.add((torch.as_tensor(moved) @ weight.T).numpy().tobytes())
    assert len(found) == 1, (n, k, m)
"""


def test_products_do_not_depend_on_where_arrays_lie():
    """Else what is resumed, whose arrays lie elsewhere, differs in the last bits."""
    subprocess.run([sys.executable, "-c", PLACES], check=True)
