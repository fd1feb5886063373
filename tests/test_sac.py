"""SAC: temperatures, the replay's shares and truncations, isolation, warm start, determinism."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from uncap.agents import demonstrations, sb3
from uncap.agents.config import LearnerConfig, NetworkConfig, SACConfig
from uncap.agents.dagger import fit
from uncap.agents.demonstrations import DemoConfig
from uncap.agents.networks import split_observation
from uncap.agents.sac import SAC, demonstration_transitions
from uncap.agents.tables import BODIES
from uncap.agents.vec_env import TaskVecEnv
from uncap.envs import ClosureVectorEnv, telling
from uncap.envs.mechanisms import MOST_STAGES
from uncap.envs.observations import SIZE, stage_in

TASKS = ("bottle", "mug")
NUM_ENVS = 8
ACTIONS = 5
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


def environment(tasks=TASKS, num_envs=NUM_ENVS) -> ClosureVectorEnv:
    return ClosureVectorEnv(
        tasks, num_envs, conditioning="parameters", autoreset_mode=AutoresetMode.SAME_STEP
    )


def model(tasks=TASKS, warm=False, body="mlp", head="shared", seed=3, **changes):
    """stable-baselines3's object, untrained, with a logger that writes nothing."""
    config = LearnerConfig(
        algorithm="sac",
        warm=warm,
        network=NetworkConfig(body, head, 32),
        sac=dataclasses.replace(SMALL, **changes),
    )
    made = SAC.build(TaskVecEnv(environment(tasks), scaled=False), config, seed)
    sb3.silence(made)
    return made


def learned(sac, steps: int, fresh: bool = True):
    """The model itself, after so many environment steps more."""
    return sac.learn(steps, log_interval=10**9, reset_num_timesteps=fresh)


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of a module's parameters, by name."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def changed(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """The names of a module's parameters that are not what they were."""
    return {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}


def first_parts(names: set[str]) -> set[str]:
    """The parts of a policy that some of its parameters belong to."""
    return {name.split(".")[0] for name in names}


def transitions(n=40, tasks=2, reward=7.0) -> dict[str, np.ndarray]:
    """Recorded steps (n, ...) of every task in turn, with random contents."""
    rng = np.random.default_rng(0)
    index = np.arange(n)[:, None] % tasks
    arrays = {
        "state": rng.normal(size=(n, SIZE)),
        "next_state": rng.normal(size=(n, SIZE)),
        "task": rng.normal(size=(n, telling.SIZE)),
        "index": index,
        "action": rng.uniform(-1, 1, (n, ACTIONS)),
        "reward": np.full((n, 1), reward),
        "done": np.zeros((n, 1)),
        "next_task": rng.normal(size=(n, telling.SIZE)),
    }
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def observations(sac, index) -> dict[str, torch.Tensor]:
    """Random observations of the tasks at some indices."""
    sizes = {name: s.shape[0] for name, s in sac.observation_space.spaces.items()}
    given = {name: torch.randn(len(index), size) for name, size in sizes.items()}
    return {**given, "index": torch.as_tensor(index, dtype=torch.float32)[:, None]}


def filled(sac, truncated: bool, reward=1.0):
    """The model itself, with whole steps of all environments in its replay.

    Their observations are random; they all end, or all at the time limit.
    """
    n = sac.n_envs
    index = np.arange(n) % 2
    for _ in range(8):
        now = {name: value.numpy() for name, value in observations(sac, index).items()}
        then = {name: value.numpy() for name, value in observations(sac, index).items()}
        infos = [{"TimeLimit.truncated": truncated}] * n
        action = np.zeros((n, ACTIONS))
        sac.replay_buffer.add(now, then, action, np.full(n, reward), np.ones(n, bool), infos)
    return sac


def of_task(index: int, batch):
    """The batch, as if all of it were of one task."""
    column = torch.full((len(batch.rewards), 1), float(index))
    return batch._replace(
        observations={**batch.observations, "index": column},
        next_observations={**batch.next_observations, "index": column},
    )


# Losses


@pytest.mark.parametrize("per_task", [True, False])
def test_a_temperature_moves_only_with_its_own_tasks_entropy(per_task):
    sac = filled(model(per_task_temperature=per_task), truncated=True)
    batch = of_task(1, sac.replay_buffer.sample(64))
    sac.losses(batch)["temperature"].backward()
    gradient = sac.policy.log_ent_coef.grad
    assert (gradient != 0).tolist() == ([False, True] if per_task else [True, False])


@pytest.mark.parametrize("per_task", [True, False])
@pytest.mark.parametrize(
    ("log_std", "sign"),
    [
        (-4.0, -1),  # too certain: the temperature has to rise
        (0.4, 1),  # too random: to fall
    ],
)
def test_a_temperature_moves_towards_the_target_entropy(log_std, sign, per_task):
    sac = filled(model(per_task_temperature=per_task), truncated=True)
    batch = of_task(1, sac.replay_buffer.sample(64))
    with torch.no_grad():
        sac.policy.log_std.fill_(log_std)
        loss = sac.losses(batch)["temperature"]
        slope = loss / sac.policy.log_ent_coef[1]
    assert torch.sign(slope) == sign


@pytest.mark.parametrize(
    ("loss", "prefixes"),
    [
        ("critic", "critic."),
        ("actor", ("actor.", "log_std")),
        ("temperature", "log_ent_coef"),
    ],
)
def test_a_loss_reaches_its_own_parameters_alone(loss, prefixes):
    sac = filled(model(), truncated=True)
    losses = sac.losses(sac.replay_buffer.sample(32))
    assert set(losses) == {"critic", "actor", "temperature"}
    sac.policy.zero_grad()
    losses[loss].backward()
    reached = {
        name
        for name, p in sac.policy.named_parameters()
        if p.grad is not None and p.grad.abs().sum() > 0
    }
    own = {name for name, _ in sac.policy.named_parameters() if name.startswith(prefixes)}
    assert reached == own


def test_scaled_rewards_are_refused():
    env = TaskVecEnv(environment(num_envs=2))
    with pytest.raises(ValueError, match="scaled=False"):
        SAC.build(env, LearnerConfig(sac=SMALL), 0)


def test_per_task_heads_are_isolated():
    sac = filled(model(head="per_task"), truncated=True)
    batch = of_task(1, sac.replay_buffer.sample(32))
    sum(sac.losses(batch).values()).backward()
    nets = (sac.actor.net, *sac.critic.nets)
    heads = [parameter for net in nets for parameter in net.head.parameters()]
    assert len(heads) == 8
    for parameter in heads:
        assert not parameter.grad[0].any()
        assert parameter.grad[1].any()


@pytest.mark.parametrize("body", BODIES)
def test_every_body_acts_and_is_updated(body):
    sac = filled(model(body=body), truncated=True)
    obs = observations(sac, [0, 1, 1])
    action = sac.policy.act(obs)
    drawn, log_prob = sac.policy.draw(obs)
    assert action.shape == drawn.shape == (3, ACTIONS)
    assert log_prob.shape == (3,)
    assert action.abs().max() <= 1
    assert drawn.abs().max() <= 1
    assert sac.critic(obs, action).shape == (3, 2)
    assert not torch.allclose(sac.critic(obs, action), sac.critic(obs, -action))
    before = copied(sac.policy)
    sac.train(2, 32)
    parts = first_parts(changed(sac.policy, before))
    assert parts >= {"actor", "critic", "critic_target", "log_ent_coef"}


def test_log_probabilities_are_the_squashed_gaussians():
    sac = model(deviation=0.5)
    obs = observations(sac, np.zeros(2000, int))
    obs = {name: value[:1].expand(2000, -1) for name, value in obs.items()}  # the same state
    mean = sac.policy.act(obs)[0].atanh()
    action, log_prob = sac.policy.draw(obs)
    inner = torch.distributions.Normal(mean, 0.5)
    expected = (inner.log_prob(action.atanh()) - (1 - action**2).log()).sum(1)
    assert torch.allclose(log_prob, expected, atol=2e-2)
    assert action.atanh().std(0).detach().numpy() == pytest.approx(0.5, rel=0.1)


# The replay


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_share_of_each_batch_is_demonstrations(share):
    sac = filled(model(demo_share=share), truncated=True)
    assert (sac.replay_buffer.sample(32).rewards == 1).all()
    data = transitions()  # whose rewards are 7
    sac.add_demonstrations(data)
    batch = sac.replay_buffer.sample(32)
    shown = batch.rewards[:, 0] == 7
    assert shown.sum() == share * 32
    assert sac.replay_buffer.size() == 8
    drawn = {
        "state": batch.observations["state"],
        "next_state": batch.next_observations["state"],
        "task": batch.observations["task"],
        "next_task": batch.next_observations["task"],
        "action": batch.actions,
    }
    drawn = {name: column[shown].numpy() for name, column in drawn.items()}
    for number, state in enumerate(drawn["state"]):
        [row] = np.flatnonzero((data["state"] == state).all(1))
        for name, column in drawn.items():
            assert np.array_equal(data[name][row], column[number])


def test_new_experience_takes_nothing_of_the_demonstrations_away():
    sac = filled(model(), truncated=True)
    sac.add_demonstrations(transitions(40))
    filled(sac, truncated=True)
    assert len(sac.replay_buffer.demos.rewards) == 40


def test_demonstrations_that_do_not_fit_are_refused():
    sac = model()
    data = transitions()
    for wrong in (
        {"state": data["state"][:, :-1]},
        {"task": data["task"][:, :0]},
        {"index": data["index"] + 1},
    ):
        with pytest.raises(ValueError, match="do not fit"):
            sac.add_demonstrations({**data, **wrong})


@pytest.mark.parametrize("truncated", [True, False])
def test_a_time_limit_is_bootstrapped_and_an_end_is_not(truncated):
    reward, scale, value = 1.0, 2.0, 3.0
    sac = filled(model(reward_scale=scale), truncated, reward)
    batch = sac.replay_buffer.sample(32)
    assert (batch.dones == (0 if truncated else 1)).all()
    with torch.no_grad():
        for net in (*sac.critic.nets, *sac.critic_target.nets):  # they say 3 everywhere
            net.head.linear.weight.zero_()
            net.head.linear.bias.fill_(value)
        sac.policy.log_ent_coef.fill_(-np.inf)  # no bonus for entropy
        loss = sac.losses(batch)["critic"].item()
    target = scale * reward + (sac.gamma * value if truncated else 0)
    assert loss == pytest.approx(2 * 0.5 * (target - value) ** 2, rel=1e-5)  # of two critics


def test_the_environments_time_limit_reaches_the_replay():
    sac = learned(model(("mug",), learning_starts=10**6), NUM_ENVS * 81)
    buffer = sac.replay_buffer
    last = 79  # step of an episode of mug
    assert buffer.dones[last].all()
    assert buffer.timeouts[last].all()
    assert not buffer.dones[:last].any()
    state = buffer.observations["state"]
    following = buffer.next_observations["state"]
    assert np.array_equal(following[40], state[41])
    assert (following[last] != state[last + 1]).any(1).all()  # the last of the old episode


def test_the_replay_returns_to_a_saved_state():
    source = filled(model(), truncated=True)
    target = model()
    target.replay_buffer.load(copy.deepcopy(source.replay_buffer.state()))
    batches = []
    for sac in (source, target):
        sac.set_random_seed(5)
        batches.append(sac.replay_buffer.sample(32))
    assert target.replay_buffer.size() == 8
    assert target.replay_buffer.pos == source.replay_buffer.pos
    for a, b in zip(*(batch[:5] for batch in batches), strict=True):
        columns_a = a if isinstance(a, dict) else {"": a}
        columns_b = b if isinstance(b, dict) else {"": b}
        assert all(torch.equal(columns_a[name], columns_b[name]) for name in columns_a)


# Learning


def test_critic_warm_up_leaves_the_actor_alone():
    sac = model(warm=True)
    before = copied(sac.policy)
    learned(sac, 64)  # the first 32 steps only fill the replay
    assert sac.critic_warmup == 1
    assert first_parts(changed(sac.policy, before)) == {"critic", "critic_target"}
    learned(sac, 96, fresh=False)
    assert sac.critic_warmup == 0
    assert "actor" in first_parts(changed(sac.policy, before))
    assert set(sac.seconds) == {"rollout", "update"}


def test_dagger_trains_the_actor_and_it_acts_so():
    sac = model(warm=True)
    obs = observations(sac, np.arange(200) % 2)
    rng = np.random.default_rng(0)
    state, task, index = split_observation(obs)
    label = 0.8 * torch.sign(state[:, :ACTIONS])
    optimizer = torch.optim.Adam(sac.policy.actor.parameters(), lr=3e-3)
    data = {"state": state, "task": task, "index": index, "label": label}
    losses = [fit(sac.policy, optimizer, data, 50, 64, rng) for _ in range(6)]
    assert losses[-1] < 0.3 * losses[0]
    given = {name: value.numpy() for name, value in obs.items()}
    for deterministic in (True, False):  # a warm start explores narrowly, in every state
        action, _ = sac.predict(given, deterministic=deterministic)
        assert np.abs(action - label.numpy()).mean() < 0.15
        assert (np.sign(action) == label.sign().numpy()).mean() > 0.97


def test_the_same_seed_gives_the_same_weights():
    first, same, other = (learned(model(seed=seed), 96).policy.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_saved_and_loaded():
    source = learned(model(head="per_task"), 96)
    target = model(head="per_task", seed=4)
    weights = source.policy.state_dict()
    assert {"log_ent_coef", "log_std"} < set(weights)
    target.policy.load_state_dict(weights)
    target.policy.optimizer.load_state_dict(copy.deepcopy(source.policy.optimizer.state_dict()))
    obs = observations(source, [0, 1])
    assert torch.equal(source.policy.act(obs), target.policy.act(obs))
    batch = source.replay_buffer.sample(32)
    for sac in (source, target):
        torch.manual_seed(0)
        sac.policy.zero_grad()
        sum(sac.losses(batch).values()).backward()
        sac.policy.optimizer.step()
    assert not changed(target.policy, copied(source.policy))


def test_losses_and_temperature_are_logged_by_stable_baselines3s_names():
    sac = model()
    logged = []
    sb3.log_to(sac, lambda numbers, step: logged.append((step, numbers)))

    def dump() -> bool:
        sb3.dump(sac)
        return True

    sb3.learn(sac, 128, dump, fresh=True)
    steps = [step for step, numbers in logged if "train/critic_loss" in numbers]
    assert steps == [64, 96, 128]  # the first 32 steps only fill the replay
    shown = {
        "train/critic_loss",
        "train/actor_loss",
        "train/ent_coef",
        "train/ent_coef_loss",
        "train/learning_rate",
    }
    for step, numbers in logged:
        assert (shown <= set(numbers)) == (step in steps)
        assert np.isfinite(list(numbers.values())).all()
    temperature = sac.policy.log_ent_coef.exp().mean().item()
    assert logged[-1][1]["train/ent_coef"] == pytest.approx(temperature)


def test_adopts_a_policy_of_the_same_tasks():
    source = model()
    target = model(seed=4)
    target.policy.adopt(source.policy)
    obs = observations(source, [0, 1])
    assert torch.equal(source.policy.act(obs), target.policy.act(obs))


def test_learns_a_bandit_of_each_task():
    """One step is all: what is best is known, and the entropy keeps to its goal."""
    sac = model(
        learning_rate=3e-3,
        temperature_rate=3e-2,
        actor_every=1,
        demo_share=1.0,
        reward_scale=1.0,
        temperature=0.1,
    )
    rng = np.random.default_rng(0)
    data = transitions(2000)
    sign = 1 - 2 * data["index"]  # (n, 1): 1 for the first task, -1 for the second
    best = sign * np.array([1, 1, 1, -1, -1], np.float32)  # (n, a)
    data["task"] = np.repeat(sign, telling.SIZE, 1)
    data["action"] = rng.uniform(-1, 1, (2000, ACTIONS)).astype(np.float32)
    data["reward"] = (data["action"] * best).sum(1, keepdims=True)
    data["done"] = np.ones((2000, 1), np.float32)
    sac.add_demonstrations(data)
    filled(sac, truncated=False).train(300, 64)
    obs = {name: torch.as_tensor(data[name]) for name in ("state", "task", "index")}
    with torch.no_grad():
        assert (sac.policy.act(obs).numpy() * best).mean() > 0.8
        assert -sac.policy.draw(obs)[1].mean().item() == pytest.approx(-5, abs=2)


# Demonstrations


def test_demonstrations_are_what_was_executed(tmp_path):
    pytest.importorskip("h5py")
    minari = pytest.importorskip("minari")
    recorded = ("flip-mug", "mug")
    config = DemoConfig(episodes=2, seed=1, perturb=0.4)
    demonstrations.record(tmp_path, "two-v0", recorded, config)
    vectors = np.arange(4.0).reshape(2, 2)
    staged = np.arange(2.0 * (MOST_STAGES + 1)).reshape(2, MOST_STAGES + 1, 1)  # (rows, stages, 1)
    told_stages = demonstration_transitions(tmp_path, ("mug", "flip-mug"), staged)
    data = demonstration_transitions(tmp_path, ("mug", "flip-mug"), vectors)
    for column in data.values():
        assert len(column) == 2 * (80 + 100)
        assert column.dtype == np.float32
    start = 0
    for episode in minari.MinariDataset(tmp_path / "two-v0" / "data"):
        own = slice(start, start + len(episode))
        index = 1 - episode.infos["task"][0]  # the learner's order is the other one
        assert np.array_equal(data["state"][own], episode.observations["state"][:-1])
        assert np.array_equal(data["next_state"][own], episode.observations["state"][1:])
        assert np.array_equal(data["action"][own], episode.actions)
        assert np.array_equal(data["reward"][own, 0], episode.rewards.astype(np.float32))
        assert (data["index"][own] == index).all()
        assert (data["task"][own] == vectors[index]).all()
        assert (data["next_task"][own] == vectors[index]).all()
        stages = stage_in(episode.observations["state"])  # (steps + 1,)
        assert np.array_equal(told_stages["task"][own], staged[index, stages[:-1]])
        assert np.array_equal(told_stages["next_task"][own], staged[index, stages[1:]])
        start += len(episode)
    assert (told_stages["task"] != told_stages["next_task"]).any()
    assert not data["done"].any()  # time limits only
    assert len(demonstration_transitions(tmp_path, ("mug",), vectors[:1])["reward"]) == 160
    with pytest.raises(ValueError, match="no demonstrations of cork"):
        demonstration_transitions(tmp_path, ("mug", "cork"), vectors)
