"""SAC: temperatures, the replay's shares and truncations, isolation, warm start, determinism."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from agents import demonstrations
from agents.config import LearnerConfig, NetworkConfig, SACConfig
from agents.dagger import fit
from agents.demonstrations import DemoConfig
from agents.networks import split_observation
from agents.sac import SAC, demonstration_transitions
from agents.tables import BODIES
from agents.vec_env import TaskVecEnv
from envs import ClosureVectorEnv
from envs.observations import SIZE

TASKS = ("bottle", "mug")
SMALL = SACConfig(
    batch_size=32,
    buffer_size=800,
    train_freq=4,
    gradient_steps=4,
    learning_starts=32,
    critic_warmup=2,
)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learner(
    tasks=TASKS, warm=False, body="mlp", head="shared", seed=3, conditioning="parameters", **changes
):
    env = ClosureVectorEnv(
        tasks, 8, conditioning=conditioning, autoreset_mode=AutoresetMode.SAME_STEP
    )
    config = LearnerConfig(
        algorithm="sac",
        warm=warm,
        network=NetworkConfig(body, head, 32),
        sac=dataclasses.replace(SMALL, **changes),
    )
    return SAC.build(TaskVecEnv(env, scaled=False), config, seed)


def learn(algorithm, steps):
    return algorithm.learn(steps, log_interval=10**9)


def copied(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def changed(module, before):
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}


def transitions(n=40, tasks=2, reward=7.0):
    rng = np.random.default_rng(0)
    index = np.arange(n)[:, None] % tasks
    arrays = {
        "state": rng.normal(size=(n, SIZE)),
        "next_state": rng.normal(size=(n, SIZE)),
        "task": rng.normal(size=(n, 23)),
        "index": index,
        "action": rng.uniform(-1, 1, (n, 5)),
        "reward": np.full((n, 1), reward),
        "done": np.zeros((n, 1)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def observations(algorithm, index):
    sizes = {name: s.shape[0] for name, s in algorithm.observation_space.spaces.items()}
    given = {name: torch.randn(len(index), size) for name, size in sizes.items()}
    return {**given, "index": torch.as_tensor(index, dtype=torch.float32)[:, None]}


def filled(algorithm, truncated, reward=1.0):
    """A replay of whole steps of all environments, of random observations, that all end."""
    n, buffer = algorithm.n_envs, algorithm.replay_buffer
    for _ in range(8):
        now, then = (
            {k: v.numpy() for k, v in observations(algorithm, np.arange(n) % 2).items()}
            for _ in range(2)
        )
        infos = [{"TimeLimit.truncated": truncated}] * n
        buffer.add(now, then, np.zeros((n, 5)), np.full(n, reward), np.ones(n, bool), infos)
    return algorithm


@pytest.mark.parametrize("per_task", [True, False])
def test_a_temperature_moves_only_with_its_own_tasks_entropy(per_task):
    algorithm = filled(learner(per_task_temperature=per_task), truncated=True)
    batch = algorithm.replay_buffer.sample(64)
    mine = batch._replace(observations={**batch.observations, "index": torch.ones(64, 1)})
    algorithm.losses(mine)["temperature"].backward()
    gradient = algorithm.policy.log_ent_coef.grad
    assert (gradient != 0).tolist() == ([False, True] if per_task else [True, False])
    with torch.no_grad():  # too certain: the temperature has to rise; too random: to fall
        for log_std, sign in ((-4.0, -1), (0.4, 1)):
            algorithm.policy.log_std.fill_(log_std)
            loss = algorithm.losses(mine)["temperature"]
            slope = loss / algorithm.policy.log_ent_coef[1]
            assert torch.sign(slope) == sign


def test_a_loss_reaches_its_own_parameters_alone():
    algorithm = filled(learner(), truncated=True)
    own = {"critic": "critic.", "actor": ("actor.", "log_std"), "temperature": "log_ent_coef"}
    for name, loss in algorithm.losses(algorithm.replay_buffer.sample(32)).items():
        algorithm.policy.zero_grad()
        loss.backward()
        reached = {
            n
            for n, p in algorithm.policy.named_parameters()
            if p.grad is not None and p.grad.abs().sum() > 0
        }
        assert reached == {
            n for n, _ in algorithm.policy.named_parameters() if n.startswith(own[name])
        }, name


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_share_of_each_batch_is_demonstrations(share):
    algorithm = filled(learner(demo_share=share), truncated=True)
    assert (algorithm.replay_buffer.sample(32).rewards == 1).all()
    data = transitions()
    algorithm.add_demonstrations(data)
    batch = algorithm.replay_buffer.sample(32)
    shown = batch.rewards[:, 0] == 7
    assert shown.sum() == share * 32 and algorithm.replay_buffer.size() == 8
    drawn = (
        batch.observations["state"],
        batch.next_observations["state"],
        batch.next_observations["task"],
        batch.actions,
    )
    for state, following, task, action in zip(*(x[shown].numpy() for x in drawn), strict=True):
        row = np.flatnonzero((data["state"] == state).all(1))
        assert len(row) == 1
        assert np.array_equal(data["next_state"][row[0]], following) and np.array_equal(
            data["task"][row[0]], task
        )
        assert np.array_equal(data["action"][row[0]], action)
    filled(algorithm, truncated=True)  # and new experience takes nothing of them away
    assert len(algorithm.replay_buffer.demos.rewards) == 40


def test_demonstrations_that_do_not_fit_are_refused():
    algorithm, data = learner(), transitions()
    for wrong in (
        {"state": data["state"][:, :-1]},
        {"task": data["task"][:, :0]},
        {"index": data["index"] + 1},
    ):
        with pytest.raises(ValueError, match="do not fit"):
            algorithm.add_demonstrations({**data, **wrong})


@pytest.mark.parametrize("truncated", [True, False])
def test_a_time_limit_is_bootstrapped_and_an_end_is_not(truncated):
    algorithm = filled(learner(reward_scale=2.0), truncated)
    batch = algorithm.replay_buffer.sample(32)
    assert (batch.dones == (0 if truncated else 1)).all()
    with torch.no_grad():
        for net in (
            *algorithm.critic.nets,
            *algorithm.critic_target.nets,
        ):  # critics that say 3 everywhere
            net.head.linear.weight.zero_()
            net.head.linear.bias.fill_(3.0)
        algorithm.policy.log_ent_coef.fill_(-np.inf)  # no bonus for entropy
        error = 2 + (algorithm.gamma * 3 if truncated else 0) - 3
        assert algorithm.losses(batch)["critic"].item() == pytest.approx(
            2 * 0.5 * error**2, rel=1e-5
        )


def test_the_environments_time_limit_reaches_the_replay():
    algorithm = learn(learner(("mug",), learning_starts=10**6), 8 * 81)
    buffer = algorithm.replay_buffer
    assert buffer.dones[79].all() and buffer.timeouts[79].all() and not buffer.dones[:79].any()
    assert np.array_equal(buffer.next_observations["state"][40], buffer.observations["state"][41])
    assert (
        (buffer.next_observations["state"][79] != buffer.observations["state"][80]).any(1).all()
    )  # the last of the old episode


def test_scaled_rewards_are_refused():
    env = ClosureVectorEnv(
        TASKS, 2, conditioning="parameters", autoreset_mode=AutoresetMode.SAME_STEP
    )
    with pytest.raises(ValueError, match="scaled=False"):
        SAC.build(TaskVecEnv(env), LearnerConfig(sac=SMALL), 0)


def test_per_task_heads_are_isolated():
    algorithm = filled(learner(head="per_task"), truncated=True)
    batch = algorithm.replay_buffer.sample(32)
    mine = batch._replace(
        observations={**batch.observations, "index": torch.ones(32, 1)},
        next_observations={**batch.next_observations, "index": torch.ones(32, 1)},
    )
    sum(algorithm.losses(mine).values()).backward()
    heads = [
        p for net in (algorithm.actor.net, *algorithm.critic.nets) for p in net.head.parameters()
    ]
    assert len(heads) == 8
    assert all(not p.grad[0].any() and p.grad[1].any() for p in heads)


@pytest.mark.parametrize("body", BODIES)
def test_every_body_acts_and_is_updated(body):
    algorithm = filled(learner(body=body), truncated=True)
    obs = observations(algorithm, [0, 1, 1])
    action, (drawn, log_prob) = algorithm.policy.act(obs), algorithm.policy.draw(obs)
    assert action.shape == drawn.shape == (3, 5) and log_prob.shape == (3,)
    assert action.abs().max() <= 1 and drawn.abs().max() <= 1
    assert algorithm.critic(obs, action).shape == (3, 2)
    assert not torch.allclose(algorithm.critic(obs, action), algorithm.critic(obs, -action))
    before = copied(algorithm.policy)
    algorithm.train(2, 32)
    assert {name.split(".")[0] for name in changed(algorithm.policy, before)} >= {
        "actor",
        "critic",
        "critic_target",
        "log_ent_coef",
    }


def test_log_probabilities_are_the_squashed_gaussians():
    algorithm = learner(deviation=0.5)
    obs = observations(algorithm, np.zeros(2000, int))
    obs = {name: value[:1].expand(2000, -1) for name, value in obs.items()}
    mean = algorithm.policy.act(obs)[0].atanh()
    action, log_prob = algorithm.policy.draw(obs)
    inner = torch.distributions.Normal(mean, 0.5)
    expected = (inner.log_prob(action.atanh()) - (1 - action**2).log()).sum(1)
    assert torch.allclose(log_prob, expected, atol=2e-2)
    assert action.atanh().std(0).detach().numpy() == pytest.approx(0.5, rel=0.1)


def test_critic_warm_up_leaves_the_actor_alone():
    algorithm = learner(warm=True)
    before = copied(algorithm.policy)
    learn(algorithm, 64)  # the first 32 steps only fill the replay
    assert algorithm.critic_warmup == 1
    assert {name.split(".")[0] for name in changed(algorithm.policy, before)} == {
        "critic",
        "critic_target",
    }
    algorithm.learn(96, log_interval=10**9, reset_num_timesteps=False)
    assert algorithm.critic_warmup == 0 and changed(
        algorithm.actor, {k[6:]: v for k, v in before.items() if k.startswith("actor.")}
    )
    assert set(algorithm.seconds) == {"rollout", "update"}


def test_dagger_trains_the_actor_and_it_acts_so():
    algorithm = learner(warm=True)
    obs, rng = observations(algorithm, np.arange(200) % 2), np.random.default_rng(0)
    state, task, index = split_observation(obs)
    label = 0.8 * torch.sign(state[:, :5])
    optimizer = torch.optim.Adam(algorithm.policy.actor.parameters(), lr=3e-3)
    data = {"state": state, "task": task, "index": index, "label": label}
    losses = [fit(algorithm.policy, optimizer, data, 50, 64, rng) for _ in range(6)]
    assert losses[-1] < 0.3 * losses[0]
    given = {name: value.numpy() for name, value in obs.items()}
    for deterministic in (True, False):  # a warm start explores narrowly, in every state
        action, _ = algorithm.predict(given, deterministic=deterministic)
        assert np.abs(action - label.numpy()).mean() < 0.15
        assert (np.sign(action) == label.sign().numpy()).mean() > 0.97


def test_the_same_seed_gives_the_same_weights():
    a, b, c = (learn(learner(seed=seed), 96).policy.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_saved_and_loaded():
    source, target = learn(learner(head="per_task"), 96), learner(head="per_task", seed=4)
    weights = source.policy.state_dict()
    assert {"log_ent_coef", "log_std"} < set(weights)
    target.policy.load_state_dict(weights)
    target.policy.optimizer.load_state_dict(copy.deepcopy(source.policy.optimizer.state_dict()))
    obs = observations(source, [0, 1])
    assert torch.equal(source.policy.act(obs), target.policy.act(obs))
    batch = source.replay_buffer.sample(32)
    for algorithm in (source, target):
        torch.manual_seed(0)
        algorithm.policy.zero_grad()
        sum(algorithm.losses(batch).values()).backward()
        algorithm.policy.optimizer.step()
    assert all(
        torch.equal(a, b)
        for a, b in zip(source.policy.parameters(), target.policy.parameters(), strict=True)
    )


def test_the_replay_returns_to_a_saved_state():
    source, target = filled(learner(), truncated=True), learner()
    target.replay_buffer.load(copy.deepcopy(source.replay_buffer.state()))
    batches = []
    for algorithm in (source, target):
        algorithm.set_random_seed(5)
        batches.append(algorithm.replay_buffer.sample(32))
    assert target.replay_buffer.size() == 8 and target.replay_buffer.pos == source.replay_buffer.pos
    for a, b in zip(*(b[:5] for b in batches), strict=True):
        a, b = (x if isinstance(x, dict) else {"": x} for x in (a, b))
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_adopts_a_policy_of_the_same_tasks():
    source, target = learner(), learner(seed=4)
    target.policy.adopt(source.policy)
    obs = observations(source, [0, 1])
    assert torch.equal(source.policy.act(obs), target.policy.act(obs))


def test_learns_a_bandit_of_each_task():
    """One step is all: what is best is known, and the entropy keeps to its goal."""
    algorithm = learner(
        learning_rate=3e-3,
        temperature_rate=3e-2,
        actor_every=1,
        demo_share=1.0,
        reward_scale=1.0,
        temperature=0.1,
    )
    rng, data = np.random.default_rng(0), transitions(2000)
    data["task"] = np.repeat(1 - 2 * data["index"], 23, 1)
    best = (1 - 2 * data["index"]) * np.array([1, 1, 1, -1, -1], np.float32)
    data["action"] = rng.uniform(-1, 1, (2000, 5)).astype(np.float32)
    data["reward"], data["done"] = (
        (data["action"] * best).sum(1, keepdims=True),
        np.ones((2000, 1), np.float32),
    )
    algorithm.add_demonstrations(data)
    filled(algorithm, truncated=False).train(300, 64)
    obs = {name: torch.as_tensor(data[name]) for name in ("state", "task", "index")}
    with torch.no_grad():
        assert (algorithm.policy.act(obs).numpy() * best).mean() > 0.8
        assert -algorithm.policy.draw(obs)[1].mean().item() == pytest.approx(-5, abs=2)


def test_demonstrations_are_what_was_executed(tmp_path):
    pytest.importorskip("h5py")
    minari = pytest.importorskip("minari")
    demonstrations.record(
        tmp_path, "two-v0", ("flip-mug", "mug"), DemoConfig(episodes=2, seed=1, perturb=0.4)
    )
    vectors = np.arange(4.0).reshape(2, 2)
    data = demonstration_transitions(tmp_path, ("mug", "flip-mug"), vectors)
    assert all(
        len(column) == 2 * (80 + 100) and column.dtype == np.float32 for column in data.values()
    )
    start = 0
    for e in minari.MinariDataset(tmp_path / "two-v0" / "data"):
        own, index = (
            slice(start, start + len(e)),
            1 - e.infos["task"][0],
        )  # the learner's order is the other one
        assert np.array_equal(data["state"][own], e.observations["state"][:-1])
        assert np.array_equal(data["next_state"][own], e.observations["state"][1:])
        assert np.array_equal(data["action"][own], e.actions)
        assert np.array_equal(data["reward"][own, 0], e.rewards.astype(np.float32))
        assert (data["index"][own] == index).all() and (data["task"][own] == vectors[index]).all()
        start += len(e)
    assert not data["done"].any()  # time limits only
    assert len(demonstration_transitions(tmp_path, ("mug",), vectors[:1])["reward"]) == 160
    with pytest.raises(ValueError, match="no demonstrations of cork"):
        demonstration_transitions(tmp_path, ("mug", "cork"), vectors)
