"""The rule for the settings of arms: what is tried, what is chosen, and what the settings do."""

import dataclasses
import io
import json
import math
import pathlib
import re
import shutil

import numpy as np
import pytest
import stored
import torch
from rich.console import Console

from uncap.agents import adaptation, checkpoints
from uncap.agents import meta as meta_learning
from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.learner import Learner
from uncap.agents.policy import load_policy
from uncap.envs import CLOSURES
from uncap.envs.opengl import RenderingUnavailable
from uncap.evaluation import arm_settings, arms, cli, curves, runs, transfer_tuning
from uncap.evaluation.arm_settings import ArmSettings, default
from uncap.evaluation.config import TransferConfig
from uncap.evaluation.training import Session

JOB = dataclasses.replace(
    stored.TINY,
    task_set="unrelated",
    dagger=DaggerConfig(steps_per_task=80, updates=2, minibatch=16),
    transfer=TransferConfig(
        env_steps=32, points=2, episodes=2, last_episodes=2, source_quota=4, num_envs=2
    ),
)
SEARCH = ("--targets", "mug", "--trials", "2", "--env-steps", "32", "--methods")


@pytest.fixture
def run(tmp_path) -> pathlib.Path:
    return stored.make_run(tmp_path / "run", JOB)


def said(*words) -> str:
    console = Console(file=io.StringIO(), markup=False, width=1000)
    cli.run(tuple(map(str, words)), console)
    return console.file.getvalue()  # type: ignore


def file_of(path: pathlib.Path, **chosen) -> pathlib.Path:
    """A file of settings of arms."""
    stored_arms = {
        name.replace("__", "-"): {"chosen": found, "tried": []} for name, found in chosen.items()
    }
    path.write_text(json.dumps({"arms": stored_arms}))
    return path


# What is tried


def test_trials_begin_with_the_defaults_and_differ():
    tried = transfer_tuning.drawn("fine_tune", 12, 0)
    assert tried[0] == ArmSettings()
    assert len(set(tried)) == 12
    assert tried == transfer_tuning.drawn("fine_tune", 12, 0)
    assert tried[:5] == transfer_tuning.drawn("fine_tune", 5, 0)  # more can be added
    assert tried != transfer_tuning.drawn("fine_tune", 12, 1)
    values = arm_settings.space(arms.METHODS["fine_tune"])
    assert all(getattr(settings, n) in v for settings in tried[1:] for n, v in values.items())


def test_no_more_is_tried_than_there_is(monkeypatch):
    monkeypatch.setattr(transfer_tuning, "space", lambda arm: {"rate": (1e-4, 2e-4)})
    assert len(transfer_tuning.drawn("fine_tune", 12, 0)) == 3


def test_what_makes_no_difference_is_not_tried():
    def space(name):
        return set(arm_settings.space(arms.arm_of(name)))

    assert not space("zero_shot") | space("shuffled") | space("attempts-2")
    assert "body" in space("scratch")
    assert "body" not in space("fine_tune")
    assert "source_critic" in space("fine_tune")
    assert "trains" in space("demos_then_rl-1") & space("demos-1")
    whole = space("fine_tune") | space("specialist-1") | space("unrelated")  # they say so
    assert "trains" not in whole | space("head_only") | space("scratch") | space("reptile-1")
    assert "source_critic" not in space("scratch")
    assert "clone_rate" in space("demos-1")
    assert "rate" not in space("demos-1")
    assert space("reptile-1") == space("fomaml-1") == {"perturb"}  # they clone as they were trained
    assert space("demos_then_rl-1") >= space("demos-1") | space("fine_tune")


def test_settings_make_no_other_arm_of_an_arm(tmp_path):
    path = file_of(tmp_path / "settings.json", demos__1={"trains": "head"}, fine_tune={})
    assert arm_settings.read(path)["demos-1"].trains == "head"
    for name, way in (("fine_tune", "head"), ("specialist__1", "adapter"), ("scratch", "head")):
        path = file_of(tmp_path / "settings.json", **{name: {"trains": way}})
        says = f"{name.replace('__', '-')}: trains {way} is no setting of it; .*tune_transfer"
        with pytest.raises(runs.RunError, match=says):
            arm_settings.read(path)


def test_arms_that_clone_try_the_same_episodes_in_trials_of_the_same_number():
    names = ("demos-1", "demos-5", "demos_then_rl-5", "demos_from_nothing-5")
    perturbs = {tuple(s.perturb for s in transfer_tuning.drawn(name, 7, 3)) for name in names}
    assert len(perturbs) == 1
    assert set(*perturbs) == set(arm_settings.OF_DEMOS["perturb"])
    assert len(transfer_tuning.drawn("reptile-1", 7, 0)) == 3  # the defaults, and all there are


def test_one_perturbation_is_chosen_for_all_arms_that_clone():
    """Not that of the best trial of each: a method and its control clone the same episodes."""
    clean, bursts = ArmSettings(clone_updates=100), ArmSettings(perturb=0.3)
    long = ArmSettings(perturb=0.3, clone_updates=1000)
    tried = {
        "demos-1": [clean, bursts, long],
        "demos_from_nothing-1": [clean, bursts],
        "fine_tune": [ArmSettings(), ArmSettings(rate=1e-4)],
    }
    scores = {
        "demos-1": [[0.5], [0.4], [0.9]],
        "demos_from_nothing-1": [[0.7, 0.9], [0.6, 0.8]],  # in the mean, 0.65 clean, else 0.8
        "fine_tune": [[0.1], [0.2]],
    }
    found = transfer_tuning.chosen(tried, scores)
    assert {name: of_arm["chosen"] for name, of_arm in found.items()} == {
        "demos-1": {"perturb": 0.3, "clone_updates": 1000},
        "demos_from_nothing-1": {"perturb": 0.3},
        "fine_tune": {"rate": 1e-4},
    }
    scores["demos_from_nothing-1"][1] = [0.0, 0.0]  # then 0.65 clean, else 0.45
    found = transfer_tuning.chosen(tried, scores)
    assert found["demos-1"]["chosen"] == {"clone_updates": 100}
    assert found["demos-1"]["tried"][2]["score"] == 0.9


def test_an_arm_that_was_not_tried_clones_the_same_episodes_as_the_others(tmp_path):
    path = file_of(tmp_path / "one.json", demos__1={"perturb": 0.3}, fine_tune={})
    found = arm_settings.read(path)
    for name in ("demos-5", "demos_from_nothing-5", "reptile-1"):
        assert arm_settings.of_arm(found, name).perturb == 0.3
    assert arm_settings.of_arm({}, "demos-1").perturb == ArmSettings().perturb
    path = file_of(tmp_path / "two.json", demos__1={"perturb": 0.3}, demos_from_nothing__1={})
    with pytest.raises(runs.RunError, match="different episodes .perturb 0.0, 0.3.*tune_transfer"):
        arm_settings.read(path)


@pytest.mark.parametrize(
    ("chosen_on", "target"),
    [
        ("canister", "canister-left"),  # the mirror image
        ("canister", "canister-pushed"),  # opens otherwise, and looks the same
        ("mug", "mug-again"),  # the same row but for a gram of its lid
    ],
)
def test_settings_of_a_row_that_is_the_same_are_refused(tmp_path, monkeypatch, chosen_on, target):
    heavier = tuple(mass + 0.001 for mass in CLOSURES["mug"].mass)
    again = dataclasses.replace(CLOSURES["mug"], name="mug-again", mass=heavier)
    monkeypatch.setitem(CLOSURES, "mug-again", again)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"arms": {}, "targets": ["reach", chosen_on]}))
    with pytest.raises(runs.RunError, match=f"chosen on {chosen_on}, which is nearly {target}"):
        arm_settings.check_targets(path, ("jar", target))


def test_settings_of_other_rows_are_taken(tmp_path):
    """Those of the benchmark, and rows that are not known here are judged by their names."""
    script = (pathlib.Path(__file__).parents[1] / "benchmarks/push_twist.sh").read_text("utf-8")
    chosen_on = re.search(r"--targets (.*?) --", script)[1].split()  # type: ignore
    targets = re.search(r"for target in (.*?);", script)[1].split()  # type: ignore
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"arms": {}, "targets": [*chosen_on, "of-a-friend"]}))
    arm_settings.check_targets(path, targets)
    with pytest.raises(runs.RunError, match="chosen on of-a-friend: a target must be unseen"):
        arm_settings.check_targets(path, ("of-a-friend",))


# What the settings do


def test_settings_are_those_of_ppo_for_its_beginning():
    given = PPOConfig()
    chosen = ArmSettings(rate=1e-4, deviation=0.1, rollout=40, falls=True, critic_warmup=0)
    warm = chosen.ppo(given, True, True, 1000)
    assert (warm.warm_learning_rate, warm.warm_deviation, warm.warm_rollout) == (1e-4, 0.1, 40)
    assert (warm.learning_rate, warm.deviations) == (given.learning_rate, given.deviations)
    assert (warm.critic_warmup, warm.anneal_steps) == (0, 1000)
    cold = chosen.ppo(given, False, False, 1000)
    assert (cold.learning_rate, cold.rollout, cold.deviations[0]) == (1e-4, 40, (0, 0.1))
    assert all(deviation <= 0.1 for _, deviation in cold.deviations)
    assert ArmSettings().ppo(given, True, False, 1000) == given


def test_a_critic_that_was_warmed_up_on_the_source_takes_nothing_of_the_budget():
    given = PPOConfig(critic_warmup=5)
    assert ArmSettings().ppo(given, True, True, 1000).critic_warmup == 0
    assert ArmSettings(critic_warmup=2).ppo(given, True, True, 1000).critic_warmup == 2
    assert ArmSettings(source_critic=0).ppo(given, True, True, 1000).critic_warmup == 5


def test_what_clones_from_nothing_has_a_small_plain_network_by_default():
    given = NetworkConfig(body="film", width=384)
    of_demos = default(arms.ARMS["demos_from_nothing"]).network(given)
    assert (of_demos.body, of_demos.width) == ("mlp", 256)
    assert default(arms.ARMS["scratch"]).network(given) == given


def test_a_file_of_settings_says_what_it_does_not_cover(tmp_path):
    path = tmp_path / "settings.json"
    tried = {"chosen": {"clone_updates": 3}, "tried": []}
    path.write_text(json.dumps({"arms": {"demos-5": tried}, "budget": 1000}))
    names = ("zero_shot", "demos-1", "fine_tune")
    found = arm_settings.notes(path, names, 2000)
    assert [line.removeprefix(f"{path} ") for line in found] == [
        "has no settings for fine_tune: they have the defaults",
        "was chosen with 1,000 environment steps, not 2,000",
    ]
    assert arm_settings.notes(path, ("zero_shot", "demos-1"), 1000) == []


def learner(**ppo) -> Learner:
    config = LearnerConfig(
        num_envs=2,
        warm=True,
        network=NetworkConfig(body="film", width=8),
        ppo=PPOConfig(warm_rollout=8, minibatches=2, warm_epochs=1, critic_warmup=0, **ppo),
    )
    return Learner(("mug",), config, 0)


def moved(agent: Learner, before: dict[str, torch.Tensor]) -> float:
    """How far the weights of an actor are from those before."""
    squared = [
        (value - before[name]).square().sum().item()
        for name, value in agent.policy.actor.state_dict().items()
    ]
    return math.sqrt(sum(squared))


def test_a_leash_keeps_the_weights_near_and_lets_go_of_none():
    found = []
    for share in (0.0, 0.3):
        agent = learner()
        before = {n: v.clone() for n, v in agent.policy.actor.state_dict().items()}
        adaptation.Leash(agent.policy, share)
        agent.learn(64, lambda: True)
        found.append(moved(agent, before))
    assert 0 < found[1] < 0.7 * found[0]


def test_a_leash_pulls_back_to_what_was_cloned_and_remembers_it(run):
    """Also where a learner goes on whose weights have moved since."""
    source, meta = load_policy(run / "checkpoint")
    which = curves.Which(
        CLOSURES["mug"], "demos_then_rl-1", 0, ArmSettings(leash=0.5, clone_updates=2, rollout=8)
    )
    session = Session(run, JOB, 0, lambda *_: None, lambda: False)
    torch.manual_seed(0)
    curve = curves.Curve(source, meta, which, session)
    assert curve._begin()
    actor = curve.learner.policy.actor
    cloned = {name: value.detach().clone() for name, value in actor.named_parameters()}
    assert any(not torch.equal(source.actor.get_parameter(n), v) for n, v in cloned.items())

    def pulled(learner: Learner) -> dict[str, torch.Tensor]:
        """The weights after a step whose gradient is none."""
        for parameter in learner.policy.actor.parameters():
            parameter.grad = torch.zeros_like(parameter)
            parameter.data += 1.0
        for group in learner.policy.optimizer.param_groups:
            group["lr"] = 0.0
        learner.policy.optimizer.step()
        return dict(learner.policy.actor.named_parameters())

    curve._save()
    again = curves.Curve(source, meta, which, session)
    again._resume()
    for learner in (curve.learner, again.learner):
        found = pulled(learner)
        for name, value in cloned.items():
            torch.testing.assert_close(found[name].detach(), value + 0.5)


def test_the_rate_falls_to_a_tenth():
    agent = learner(anneal_steps=64)
    rates = []

    def note() -> bool:
        rates.append(agent.policy.optimizer.param_groups[0]["lr"])
        return True

    agent.learn(96, note)
    full = PPOConfig().warm_learning_rate
    done = [16, 32, 48, 64, 80, 96]  # environment steps before each update
    assert rates == pytest.approx([full * (1 - 0.9 * min(1, steps / 64)) for steps in done])


def test_the_best_weights_act_and_the_last_ones_learn():
    actor = torch.nn.Linear(1, 1)
    best = curves._Best(actor)
    played = []
    for success in (0.2, 0.9, 0.9, 0.5):
        with torch.no_grad():
            actor.weight += 1.0  # an update
        played.append(actor.weight.item())
        best.note(success)
    with best.acting():
        assert actor.weight.item() == played[2]
    assert actor.weight.item() == played[-1]
    again = curves._Best(actor)
    again.load(best.state())
    with again.acting():
        assert actor.weight.item() == played[2]


@pytest.mark.parametrize("keep_best", [True, False])
def test_the_best_weights_are_those_of_validation_starts(run, monkeypatch, tmp_path, keep_best):
    evaluated = curves.evaluate
    validated, measured = [], []  # the policy's success, as it is said to be; its weights

    def played(acting, tasks, episodes, *, seed, **others):
        first = next(iter(acting.policy.actor.parameters())).detach().clone()
        table = evaluated(acting, tasks, episodes, seed=seed, **others)
        if seed != curves.VALIDATION_SEED:
            measured.append(first)
            return table
        validated.append(first)
        success = len(validated) == 2  # the second is the best
        return [dataclasses.replace(episode, success=success) for episode in table]

    monkeypatch.setattr(curves, "evaluate", played)
    monkeypatch.setattr(curves, "_VALIDATIONS", 2)
    source, meta = load_policy(run / "checkpoint")
    settings = ArmSettings(keep_best=keep_best, rollout=8, source_critic=0, critic_warmup=0)
    which = curves.Which(CLOSURES["mug"], "fine_tune", 0, settings, trial=0)
    alone = dataclasses.replace(Session(run, JOB, 0, lambda *_: None, lambda: False), run=tmp_path)
    assert curves.Curve(source, meta, which, alone).measure()
    assert len(measured) >= 2
    if keep_best:
        assert len(validated) > 2
        assert torch.equal(measured[0], validated[0])
        assert torch.equal(measured[-1], validated[1])
    else:
        assert not validated


def test_a_critic_warms_up_on_the_rows_of_the_source(run):
    source, meta = load_policy(run / "checkpoint")
    session = Session(run, JOB, 0, lambda *_: None, lambda: False)
    critics = {}
    for updates in (0, 2):
        which = curves.Which(
            CLOSURES["mug"], "fine_tune", 0, ArmSettings(source_critic=updates, rollout=8)
        )
        curve = curves.Curve(source, meta, which, session)
        actor = {n: v.clone() for n, v in curve.learner.policy.actor.state_dict().items()}
        assert curve._begin()
        state = curve.learner.policy.actor.state_dict()
        assert all(torch.equal(state[n], v) for n, v in actor.items())
        assert curve.learner.env_steps == 0  # no part of the budget
        critics[updates] = curve.learner.policy.critic.state_dict()
    assert not all(torch.equal(critics[0][n], v) for n, v in critics[2].items())


@pytest.mark.parametrize("way", ["all", "head", "adapter"])
def test_a_critic_warms_up_on_the_policy_that_was_cloned(run, monkeypatch, way):
    """Whatever part of it has learned from the episodes."""
    source, meta = load_policy(run / "checkpoint")
    made: list[Learner] = []
    monkeypatch.setattr(curves, "Learner", lambda *a: made.append(Learner(*a)) or made[-1])
    settings = ArmSettings(trains=way, source_critic=1, rollout=4, clone_updates=20)
    which = curves.Which(CLOSURES["mug"], "demos_then_rl-1", 0, settings)
    curve = curves.Curve(source, meta, which, Session(run, JOB, 0, lambda *_: None, lambda: False))
    assert curve._begin()
    there, here = (agent.policy.actor for agent in (made[-1], curve.learner))
    assert there is not here
    inputs = torch.ones(1, 36), torch.ones(1, 36), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        assert torch.equal(there(*inputs), here(*inputs))
        assert not torch.allclose(there(*inputs), source.actor(*inputs))


@pytest.mark.parametrize("way", list(meta_learning.WAYS))
def test_a_policy_that_sees_pictures_clones_what_it_sees(way):
    config = LearnerConfig(
        num_envs=1, sensors="pictures", warm=True, network=NetworkConfig(width=8)
    )
    try:
        policy = Learner(("jar",), config, 0).policy
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    meta = {
        "tasks": ("jar",),
        "known": ("jar",),
        "conditioning": "parameters",
        "sensors": "pictures",
        "episode_steps": 3,
    }
    data = meta_learning.labelled(meta, "jar", 2, 0)
    assert data["rgb"].shape == (6, 84 * 84 * 6)
    encoder = policy.actor.encoder
    before = [weights.clone() for weights in encoder.parameters()]
    small = meta_learning.MetaConfig(iterations=1, updates=1, minibatch=4)
    assert meta_learning.Training(policy, meta, way, 1, 0, small).run(lambda _: True)
    after = encoder.parameters()
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("way", list(meta_learning.WAYS))
def test_meta_learning_makes_adapting_better(way):
    """After it, a few minibatches on unseen episodes lead further than before."""
    agent = learner()
    meta = {
        "tasks": ("bottle", "jar", "cork"),
        "known": ("bottle", "jar", "cork", "tumbler"),
        "conditioning": "parameters",
        "sensors": "full",
        "episode_steps": 40,
    }
    config = meta_learning.MetaConfig(iterations=40, updates=5, minibatch=64, outer_rate=1e-3)
    data = meta_learning.labelled(meta, "tumbler", 2, 3)

    def adapted_loss() -> float:
        policy = learner().policy
        policy.adopt(agent.policy)
        rng = np.random.default_rng(0)
        meta_learning.adapt(policy, data, config.updates, 64, config.inner_rate, rng)
        with torch.no_grad():
            action = policy.actor(data["state"], data["task"], data["index"])
        return float((action - data["label"]).abs().mean())

    before = adapted_loss()
    shares: list[float] = []
    torch.manual_seed(0)
    training = meta_learning.Training(agent.policy, meta, way, 1, 0, config)
    assert training.run(lambda share: not shares.append(share))
    assert adapted_loss() < before - 0.02
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    training = meta_learning.Training(agent.policy, meta, way, 1, 0, config)
    assert not training.run(lambda _: False)


@pytest.mark.parametrize("name", ["reptile-1", "fomaml-1", "demos_then_rl-1"])
def test_a_beginning_that_is_stopped_goes_on_where_it_was(name, run, monkeypatch):
    """In each of its parts: the rows' episodes, iterations, clonings, the critic's updates."""
    small = meta_learning.MetaConfig(iterations=4, updates=1, minibatch=4)
    monkeypatch.setattr(meta_learning, "DEFAULT", small)
    source, meta = load_policy(run / "checkpoint")
    settings = ArmSettings(source_critic=3, rollout=4, clone_updates=3)

    def begin(seed: int, calls: float) -> curves.Curve | None:
        """The learner that has begun; None where it was stopped after so many calls."""
        asked = 0

        def stop() -> bool:
            nonlocal asked
            asked += 1
            return asked >= calls

        which = curves.Which(CLOSURES["mug"], name, seed, settings)
        curve = curves.Curve(source, meta, which, Session(run, JOB, 0, lambda *_: None, stop))
        if checkpoints.exists(curve.folder):
            curve._resume()
        return curve if curve._begin() else None

    whole = begin(0, math.inf)
    assert whole is not None
    shutil.rmtree(whole.folder, ignore_errors=True)
    stops = 0
    while (again := begin(0, 2)) is None:
        stops += 1
        assert checkpoints.exists(whole.folder)  # which says of which settings it is
    assert stops > 0
    for name, value in whole.learner.policy.state_dict().items():
        assert torch.equal(value, again.learner.policy.state_dict()[name]), name


# The search


def test_the_search_writes_what_it_chose_and_a_transfer_uses_it(run, tmp_path):
    out = tmp_path / "settings.json"
    printed = said("tune_transfer", run, *SEARCH, "fine_tune", "demos-1", "zero_shot", "--out", out)
    found = json.loads(out.read_text())
    assert set(found["arms"]) == {"fine_tune", "demos-1", "scratch"}
    for of_arm in found["arms"].values():
        scores = [trial["score"] for trial in of_arm["tried"]]
        assert len(scores) == 2
        best = of_arm["tried"][int(np.argmax(scores))]
        assert of_arm["chosen"] == best["settings"]
    assert "fine_tune  " in printed
    trials = (run / transfer_tuning.FOLDER).glob(f"fine_tune/*/*/{curves.FINISHED}")
    learned = [json.loads(path.read_text())["curve"] for path in trials]
    assert [curve["sources"] for curve in learned] == [None] * 2  # what a trial is not worth
    chosen = {"rate": 1e-4, "rollout": 8}
    found["arms"]["fine_tune"]["chosen"] = chosen
    del found["sha256"]
    out.write_text(json.dumps(found))
    words = ("transfer", run, "--target", "jar", "--env-steps", 32, "--settings", out)
    assert "scratch" in said(*words, "--controls", "scratch")
    [curve] = runs.read_results(run)["transfer"]["jar"]["curves"]["fine_tune"]
    assert curve["steps"][-1] == 32
    assert curve["sources"] is not None
    settings = arm_settings.read(out)
    assert arm_settings.of_arm(settings, "fine_tune") == ArmSettings(**chosen)
    assert arm_settings.of_arm(settings, "demos-5") == arm_settings.of_arm(settings, "demos-1")
    assert arm_settings.of_arm(settings, "adapter") == ArmSettings()


def test_a_search_that_was_stopped_goes_on_to_the_same_file(run, tmp_path):
    whole = tmp_path / "whole.json"
    said("tune_transfer", run, *SEARCH, "fine_tune", "--seed", "1", "--out", whole)
    stops = iter([False] * 14 + [True] * 1000)
    job = dataclasses.replace(JOB, transfer=dataclasses.replace(JOB.transfer, env_steps=32))
    stopped = Session(run, job, 1, lambda *_: None, lambda: next(stops))
    shutil.rmtree(run / transfer_tuning.FOLDER)
    assert transfer_tuning.tune(stopped, ("mug",), ("fine_tune", "scratch"), 2) is None
    again = tmp_path / "again.json"
    said("tune_transfer", run, *SEARCH, "fine_tune", "--seed", "1", "--out", again)
    assert json.loads(again.read_text()) == json.loads(whole.read_text())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--methods", "zero_shot", "--controls", "noise"), "learn nothing: there is nothing"),
        (("--targets", "puck"), "was trained on puck: a target must be unseen"),
        (("--targets", "bottel"), "unknown .*'bottel'"),
        (("--trials", "0"), "must be at least 1"),
        (("--methods", "demos"), "demos needs a number of expert episodes"),
    ],
)
def test_a_search_that_cannot_be_gets_one_line(run, words, says):
    given = {"--targets": "mug", "--methods": "fine_tune", "--trials": "1"}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    with pytest.raises((ValueError, SystemExit), match=says):
        said("tune_transfer", run, *(word for pair in given.items() for word in pair))


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"rate": -1.0}, "fine_tune: --rate must be above 0"),
        ({"rate": "fast"}, "fine_tune: --rate must be a number"),
        ({"leash": 1.0}, "fine_tune: --leash must be below 1, not 1.0"),
        ({"speed": 1.0}, "fine_tune: .*speed"),
        ({"body": "mpl"}, "unknown body 'mpl'"),
    ],
)
def test_a_file_of_settings_that_is_damaged_gets_one_line(run, tmp_path, chosen, says):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"arms": {"fine_tune": {"chosen": chosen, "tried": []}}}))
    with pytest.raises(ValueError, match=says):
        said("transfer", run, "--target", "jar", "--settings", path, "--env-steps", 32)
    path.write_text(json.dumps({"arms": {"finetune": {"chosen": {}, "tried": []}}}))
    with pytest.raises(ValueError, match="unknown method or control 'finetune'"):
        arm_settings.read(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match="damaged: it lacks arms"):
        arm_settings.read(path)


def test_trials_of_another_search_are_not_taken_for_its_own(run):
    said("tune_transfer", run, *SEARCH, "fine_tune")
    with pytest.raises(ValueError, match="with other settings"):
        said("tune_transfer", run, *SEARCH[:-3], "--env-steps", "48", "--methods", "fine_tune")


def test_what_is_kept_beside_a_learner_comes_back(tmp_path):
    agent = learner()
    beside = {"best": {"weight": np.arange(3.0)}, "success": 0.5}
    agent.save(tmp_path, beside=beside)
    meta = learner().resume(tmp_path)
    assert meta["beside"]["success"] == 0.5
    assert np.array_equal(meta["beside"]["best"]["weight"], np.arange(3.0))
    assert checkpoints.exists(tmp_path)
