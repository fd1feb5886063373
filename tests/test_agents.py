"""Networks, PPO's per-task parts, checkpoints, and resume."""

import dataclasses
import time

import numpy as np
import pytest
import torch

from agents import checkpoints, dagger, sb3
from agents.balance import PopArt
from agents.config import DaggerConfig, LearnerConfig, NetworkConfig, PPOConfig
from agents.learner import Acting, Learner, load_policy
from agents.networks import TaskNetwork
from agents.ppo import ADVANTAGE_FLOOR, TaskRolloutBuffer
from agents.tables import BODIES, HEADS, SAMPLINGS
from agents.vec_env import ReturnScale
from envs import ClosureVectorEnv
from envs.observations import SIZE

SMALL = PPOConfig(rollout=8, warm_rollout=8, minibatches=2, epochs=2, critic_warmup=1)


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
):
    config = LearnerConfig(
        conditioning=conditioning,
        sampling=sampling,
        num_envs=8,
        warm=warm,
        guided=guided,
        network=NetworkConfig(body, head, width),
        ppo=dataclasses.replace(SMALL, **changes),
    )
    return Learner(tasks, config, seed=3)


def test_per_task_heads_are_isolated():
    net = TaskNetwork(4, 0, 2, 3, NetworkConfig(head="per_task", width=16))
    x, task, index = torch.randn(6, 4), torch.zeros(6, 0), torch.tensor([0, 1, 2, 0, 1, 2])
    before = net(x, task, index).detach().clone()
    with torch.no_grad():
        net.head.bias[1] += 1.0
    changed = (net(x, task, index) - before).detach()
    assert torch.allclose(changed[index == 1], torch.ones(2, 2))
    assert torch.equal(changed[index != 1], torch.zeros(4, 2))


@pytest.mark.parametrize("head", HEADS)
def test_batched_equals_looped(head):
    net = TaskNetwork(5, 2, 3, 4, NetworkConfig(head=head, width=16))
    x, task, index = torch.randn(8, 5), torch.randn(8, 2), torch.arange(8) % 4
    looped = torch.cat([net(x[i : i + 1], task[i : i + 1], index[i : i + 1]) for i in range(8)])
    assert torch.allclose(net(x, task, index), looped, atol=1e-6)
    assert net(x, task, index).shape == (8, 3)


def test_guidance_goes_on_to_imitate_and_leaves_the_critic():
    off = []
    for guidance in (0, 40):
        agent = learner(guided=True, guidance=guidance, warm_learning_rate=1e-3, critic_warmup=0)
        agent.learn(8 * 8 * 6, lambda: True)
        seen = {
            k: torch.as_tensor(v.reshape(-1, v.shape[-1]))
            for k, v in agent.algorithm.model.rollout_buffer.observations.items()
        }
        assert seen["label"].abs().max() <= 1 and seen["label"].std() > 0.1
        off.append((agent.policy.act(seen) - seen["label"]).abs().mean().item())
        before = [p.clone() for p in agent.policy.critic.parameters()]
        agent.algorithm.model._imitate()
        assert all(
            torch.equal(a, b) for a, b in zip(before, agent.policy.critic.parameters(), strict=True)
        )
    assert off[1] < 0.7 * off[0]
    assert "label" not in learner(guided=False).env.observation_space.spaces


@pytest.mark.parametrize("kind", ["none", "embedding", "history", "one_hot"])
def test_guidance_works_whatever_the_policy_is_told(kind):
    agent = learner(conditioning=kind, guided=True, guidance=2, critic_warmup=0)
    agent.learn(8 * 8, lambda: True)
    assert agent.algorithm.model.num_timesteps == 8 * 8


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", ["none", "embedding", "parameters"])
def test_a_body_is_told_what_the_conditioning_says(body, kind):
    agent = learner(conditioning=kind, body=body)
    state, index = torch.randn(1, SIZE).repeat(2, 1), torch.tensor([0, 1])
    task = torch.as_tensor(agent.closures.task_vectors)
    assert task.shape == (2, 23 if kind == "parameters" else 0)
    if body == "film":  # which starts as if it were told nothing
        torch.nn.init.normal_(agent.policy.actor.body.modulation.net[-1].weight)
    a, b = agent.policy.actor(state, task, index)
    assert torch.allclose(a, b, atol=1e-6) == (kind == "none")


def test_history_stacks_states_and_tells_no_task():
    agent = learner(conditioning="history")
    assert agent.env.observation_space["state"].shape == (8 * SIZE,)
    assert "task" not in agent.env.observation_space.spaces


def test_popart_keeps_what_the_critic_says():
    agent = learner(popart=True)
    assert not agent.env.scaled
    obs = {k: torch.as_tensor(v) for k, v in agent.env.reset().items()}
    before = agent.policy.predict_values(obs)
    rng, art = np.random.default_rng(0), PopArt(agent.policy, rate=1.0)
    art.update(0, 5 + 3 * rng.normal(size=4000))
    art.update(1, -7 + 0.5 * rng.normal(size=4000))
    assert torch.allclose(agent.policy.predict_values(obs), before, atol=1e-4)
    assert agent.policy.value_mean.numpy() == pytest.approx([5, -7], abs=0.2)
    assert agent.policy.value_std.numpy() == pytest.approx([3, 0.5], rel=0.05)


@pytest.mark.parametrize("rule", ["pcgrad", "upgrad"])
def test_gradient_rules_train_actor_and_critic(rule):
    agent = learner(rule=rule, critic_warmup=0)
    agent.algorithm.watch_cosines()
    before = [p.detach().clone() for p in agent.policy.parameters()]
    agent.learn(128, lambda: True)
    assert all(
        not torch.equal(a, b) for a, b in zip(before, agent.policy.parameters(), strict=True)
    )
    assert (
        np.allclose(np.diag(agent.algorithm.cosines), 1)
        and np.abs(agent.algorithm.cosines).max() <= 1
    )


def test_the_plain_sum_by_rule_is_stable_baselines3s_update():
    from agents.gradients import GradientRule

    agents = []
    for rules in (None, (GradientRule("sum", 2), GradientRule("sum", 2))):
        agents.append(agent := learner(warm=False))
        agent.algorithm.model.rules, agent.algorithm.model.batch_size = (
            rules,
            64,
        )  # one minibatch, of both tasks equally: their means weigh the same
        agent.learn(64, lambda: True)
    for a, b in zip(*(agent.policy.parameters() for agent in agents), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_samplings_are_distributions_and_favour_what_they_say():
    success = np.array([1.0, 0.0, np.nan, 0.5])
    for make in SAMPLINGS.values():
        p = make(success)
        assert p.sum() == pytest.approx(1) and (p > 0).all()
    assert np.ptp(SAMPLINGS["uniform"](success)) == 0
    p = SAMPLINGS["by_failure"](success)
    assert p[1] == p[2] > p[3] > p[0] >= 0.1 / 4
    p = SAMPLINGS["zipf"](success)
    assert p[0] == pytest.approx(2 * p[1]) == pytest.approx(4 * p[3])


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


def test_advantages_are_normalised_within_each_task():
    agent = learner()
    buffer = agent.algorithm.model.rollout_buffer
    assert isinstance(buffer, TaskRolloutBuffer)
    rng = np.random.default_rng(0)
    buffer.reset()
    index = np.arange(8) % 2
    for _ in range(8):
        obs = {
            k: rng.normal(size=(8, *s.shape)).astype(np.float32)
            for k, s in agent.env.observation_space.spaces.items()
        }
        obs["index"] = index[:, None].astype(np.float32)
        reward = np.where(index == 0, 100 * rng.normal(size=8), rng.normal(size=8))
        buffer.add(obs, np.zeros((8, 5)), reward, np.zeros(8), torch.zeros(8, 1), torch.zeros(8))
    buffer.compute_returns_and_advantage(torch.zeros(8, 1), np.zeros(8))
    for t in (0, 1):
        own = buffer.advantages[:, index == t]
        assert abs(own.mean()) < 1e-5
        assert own.std() == pytest.approx(1.0, abs=1e-4)
    buffer.reset()
    for _ in range(8):  # a solved task: advantages are noise far below the floor, and stay small
        buffer.add(
            obs,
            np.zeros((8, 5)),
            1e-3 * rng.normal(size=8),
            np.zeros(8),
            torch.zeros(8, 1),
            torch.zeros(8),
        )
    buffer.compute_returns_and_advantage(torch.zeros(8, 1), np.zeros(8))
    assert buffer.advantages.std() < 0.01 / ADVANTAGE_FLOOR


def test_gae_matches_hand_computation():
    agent = learner()
    buffer = agent.algorithm.model.rollout_buffer
    buffer.reset()
    gamma, lam = buffer.gamma, buffer.gae_lambda
    rewards, values = np.arange(8.0) ** 2 / 10, np.linspace(1, 2, 8)
    for k in range(8):
        obs = {
            name: np.zeros((8, *s.shape), np.float32)
            for name, s in agent.env.observation_space.spaces.items()
        }
        buffer.add(
            obs,
            np.zeros((8, 5)),
            np.full(8, rewards[k]),
            np.zeros(8),
            torch.full((8, 1), values[k]),
            torch.zeros(8),
        )
    buffer.compute_returns_and_advantage(torch.full((8, 1), 3.0), np.zeros(8))
    advantage, following, expected = 0.0, 3.0, np.zeros(8)
    for k in reversed(range(8)):
        advantage = rewards[k] + gamma * following - values[k] + gamma * lam * advantage
        expected[k], following = advantage, values[k]
    assert np.allclose(buffer.returns[:, 0], expected + values, atol=1e-4)


def test_rewards_are_scaled_per_task():
    rng, scale = np.random.default_rng(0), ReturnScale(2, 64, gamma=0.0)
    task = np.arange(64) % 2
    for _ in range(200):
        raw = np.where(task == 0, 1.0, 50.0) * rng.normal(size=64)
        scaled = scale(raw, np.zeros(64, bool), task)
    assert scaled[task == 0].std() == pytest.approx(1.0, abs=0.4)
    assert scaled[task == 1].std() == pytest.approx(1.0, abs=0.4)


def test_critic_warm_up_leaves_the_actor_alone():
    agent = learner()
    actor = [p.detach().clone() for p in agent.policy.actor.parameters()]
    critic = [p.detach().clone() for p in agent.policy.critic.parameters()]
    agent.learn(64, lambda: True)
    assert all(
        torch.equal(a, b) for a, b in zip(actor, agent.policy.actor.parameters(), strict=True)
    )
    assert any(
        not torch.equal(a, b) for a, b in zip(critic, agent.policy.critic.parameters(), strict=True)
    )
    agent.learn(128, lambda: True)
    assert any(
        not torch.equal(a, b) for a, b in zip(actor, agent.policy.actor.parameters(), strict=True)
    )


def test_resume_equals_uninterrupted(tmp_path):
    whole = learner()
    whole.learn(64 * 6, lambda: True)
    part = learner()

    def stop_after_three() -> bool:
        if part.env_steps == 64 * 3:
            part.save(tmp_path / "latest")
            return False
        return True

    part.learn(64 * 6, stop_after_three)
    rest = learner()
    rest.resume(tmp_path / "latest")
    assert rest.env_steps == 64 * 3
    rest.learn(64 * 6, lambda: True)
    for (name, a), b in zip(
        whole.policy.state_dict().items(), rest.policy.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert np.array_equal(whole.closures.batch.qpos, rest.closures.batch.qpos)


def test_same_seed_same_weights():
    a = learner()
    a.learn(128, lambda: True)
    b = learner()
    b.learn(128, lambda: True)
    assert all(
        torch.equal(x, y) for x, y in zip(a.policy.parameters(), b.policy.parameters(), strict=True)
    )


def test_exploration_lasts_in_the_fingers_and_its_deviation_falls():
    agent, kept = learner(warm=False, rollout=400, deviations=((0, 0.5), (6400, 0.2))), []
    sb3.prepare(agent.algorithm.model)
    agent.policy.noise = torch.full((8, 5), 1e3)  # of another rollout
    forward = agent.policy.forward
    agent.policy.forward = lambda *given: (
        forward(*given),
        kept.append(agent.policy.noise.clone()),
    )[0]
    agent.learn(3200, lambda: True)
    noise = torch.stack(kept)  # (steps, n, a)
    along = (noise[1:] * noise[:-1]).mean((0, 1)).numpy()
    assert np.allclose(along, [0, 0, 0, 0, 0.8], atol=0.1) and np.allclose(
        noise.std((0, 1)), 1, atol=0.1
    )
    assert kept[0].abs().max() < 10  # it begins anew
    assert (agent.policy.log_std.exp() < 0.351).all()  # half way between 0.5 and 0.2
    agent.learn(6400, lambda: True)
    assert (agent.policy.log_std.exp() < 0.201).all()
    actor, critic = agent.policy.optimizer.param_groups
    assert (
        actor["lr"] == pytest.approx(0.2 / 0.5 * critic["lr"])
        and critic["lr"] == SMALL.learning_rate
    )


@pytest.mark.parametrize(
    ("body", "warm", "share"),
    [("mlp", False, 1.0), ("transformer", False, 0.3), ("transformer", True, 1.0)],
)
def test_a_transformers_actor_learns_slower_from_nothing(body, warm, share):
    agent = learner(body=body, warm=warm)
    sb3.prepare(agent.algorithm.model)
    agent.algorithm.model._update_learning_rate(agent.policy.optimizer)
    actor, critic = agent.policy.optimizer.param_groups
    rate = SMALL.warm_learning_rate if warm else SMALL.learning_rate
    assert (
        actor["lr"] == pytest.approx(share * rate, rel=0.01) and critic["lr"] == SMALL.learning_rate
    )


def test_dagger_learns_the_expert():
    agent = learner(("mug",), width=128)
    losses = []
    agent.imitate_experts(
        DaggerConfig(steps_per_task=2_400, updates=60, minibatch=256),
        lambda steps, loss: losses.append(loss) is None,
    )
    assert losses[-1] < 0.8 * losses[0]


def test_dagger_does_not_depend_on_how_long_its_fits_take_and_ends_when_told(monkeypatch):
    def taught(rounds):
        agent, seen = learner(), []
        config = DaggerConfig(steps_per_task=160, rollout=10, updates=5)
        agent.imitate_experts(
            config, lambda *done: seen.append(done) is None and len(seen) < rounds
        )
        return agent.policy.state_dict(), seen

    quick, seen = taught(100)
    begun, fit = time.perf_counter(), dagger.fit

    def slow(*args):
        time.sleep(0.2)
        return fit(*args)

    monkeypatch.setattr(dagger, "fit", slow)
    late, same = taught(100)
    assert time.perf_counter() - begun > 0.2 * len(seen) and seen == same
    assert all(torch.equal(value, late[name]) for name, value in quick.items())
    assert [s for s, _ in taught(2)[1]] == [s for s, _ in seen[:2]]


@pytest.mark.parametrize(
    ("conditioning", "head"),
    [("parameters", "shared"), ("embedding", "per_task"), ("one_hot", "shared")],
)
def test_checkpoint_round_trip_and_acting(tmp_path, conditioning, head):
    agent = learner(conditioning=conditioning, head=head, body="film", popart=True)
    agent.save(tmp_path / "checkpoint")
    policy, meta = load_policy(tmp_path / "checkpoint")
    assert meta["tasks"] == ["bottle", "mug"]
    known = ("bottle", "mug")
    env = ClosureVectorEnv(known, 4, conditioning=conditioning)
    obs, info = env.reset(seed=0)
    action = Acting(policy, known)(env)(obs, info["task"])
    assert np.array_equal(action, Acting(agent.policy, known)(env)(obs, info["task"]))
    assert sorted(p.name for p in (tmp_path / "checkpoint").iterdir()) == [
        "meta.json",
        "tensors.safetensors",
    ]
    # a task is known by its name, whatever its place in the environment it is evaluated in
    env = ClosureVectorEnv("mug", 1, conditioning=conditioning, known_tasks=known)
    env.reset(seed=0)
    alone = Acting(policy, known)(env)({k: v[1:2] for k, v in obs.items()}, np.array([0]))
    assert np.allclose(alone[0], action[1], atol=1e-6)


@pytest.mark.parametrize("damage", ["missing", "garbage", "truncated", "format"])
def test_damaged_checkpoints_are_refused(tmp_path, damage):
    folder = tmp_path / "c"
    checkpoints.save(folder, {"x": np.arange(4.0)}, {"a": 1})
    file = folder / "tensors.safetensors"
    if damage == "missing":
        file.unlink()
    elif damage == "garbage":
        (folder / "meta.json").write_text("{nope")
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-8])
    else:
        (folder / "meta.json").write_text('{"format": 99}')
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.load(folder)


def test_adopting_a_policy_for_another_task():
    source, target = learner(head="per_task"), learner(("thermos",), head="per_task")
    target.policy.adopt(source.policy)
    assert torch.allclose(target.policy.actor.head.bias[0], source.policy.actor.head.bias.mean(0))
    assert torch.equal(
        target.policy.actor.body.net[0].weight, source.policy.actor.body.net[0].weight
    )
