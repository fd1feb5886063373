"""The arms of a transfer: what each begins with, is told, and learns; all of them at toy size."""

import dataclasses
import io
import json
import pathlib
import re

import numpy as np
import pytest
import stored
import torch
from rich.console import Console
from torch import nn

from uncap.agents.adaptation import TRAINS, train_only
from uncap.agents.config import DaggerConfig, LearnerConfig, NetworkConfig, PPOConfig
from uncap.agents.learner import Learner
from uncap.agents.policy import load_policy
from uncap.envs import CLOSURES
from uncap.evaluation import (
    arms,
    beginnings,
    cli,
    curves,
    experiment,
    report,
    runs,
    single_task,
    transfer,
)
from uncap.evaluation.arm_settings import ArmSettings
from uncap.evaluation.config import TransferConfig
from uncap.evaluation.training import Session

TASKS = ("reach", "puck")
TARGET = "mug"
METHODS = (
    "nearest_task",
    "fine_tune",
    "head_only",
    "conditioning_only",
    "adapter",
    "demos-1",
    "demos_then_rl-2",
    "specialist-1",
    "specialist-2",
    "reptile-1",
    "fomaml-1",
    "attempts-2",
)


# Names


@pytest.mark.parametrize("name", ["fine_tune", "demos-1", "demos_from_nothing-1000", "scratch"])
def test_an_arm_is_known_by_its_name(name):
    row, episodes = arms.parted(name)
    assert name == (f"{row}-{episodes}" if arms.ARMS[row].counts else row)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("finetune", "unknown method or control 'finetune'.*fine_tune"),
        ("demos", "demos needs a number of expert episodes, 1 to 1,000: such as demos-5"),
        ("attempts-101", "attempts needs a number of attempts, 1 to 100: such as attempts-5"),
        ("demos-0", "needs a number"),
        ("demos-05", "needs a number"),
        ("demos-1001", "needs a number"),
        ("fine_tune-5", "fine_tune takes no number"),
    ],
)
def test_a_name_that_is_none_gets_one_line(name, says):
    with pytest.raises(ValueError, match=says):
        arms.parted(name)


def test_methods_and_controls_are_told_apart():
    arms.method("demos-5")
    arms.control("scratch")
    with pytest.raises(ValueError, match="unknown method 'scratch'"):
        arms.method("scratch")
    with pytest.raises(ValueError, match="unknown control 'fine_tune'"):
        arms.control("fine_tune")


def test_every_method_names_its_paper():
    """But for zero_shot, which does nothing."""
    assert arms.__doc__
    for name, arm in arms.METHODS.items():
        papers = re.findall(r"([A-Z][a-z]+)(?: et al\.| and [A-Z][a-z]+)?, (\d{4})\)", arm.words)
        assert len(papers) == (name != "zero_shot"), name
        for author, year in papers:
            assert re.search(rf"^ +{author} .*\({year}\)", arms.__doc__, re.MULTILINE), name


TOLD = arms.Source("parameters", 2)


def test_demonstrations_have_a_control_that_uses_them_from_nothing():
    methods = ("fine_tune", "demos-5", "demos_then_rl-1")
    found = arms.default_controls(methods, False, TOLD)
    assert found == (
        "scratch",
        "shuffled",
        "noise",
        "demos_from_nothing-1",
        "demos_from_nothing-5",
        "demos_then_rl_from_nothing-1",
    )
    cheap = arms.default_controls((), False, TOLD)
    expensive = set(arms.default_controls((), True, TOLD)) - set(cheap)
    of_runs = {name for name, arm in arms.CONTROLS.items() if arm.begins == "unrelated"}
    assert expensive == {name for name, arm in arms.CONTROLS.items() if arm.is_expensive} - of_runs
    beside = TOLD._replace(runs=("unrelated",))
    assert arms.default_controls((), False, beside) == (*cheap, *of_runs)


def test_the_benchmark_runs_the_same_episodes_from_nothing_for_each_method():
    script = (pathlib.Path(__file__).parents[1] / "benchmarks/push_twist.sh").read_text("utf-8")
    methods, controls = (
        re.search(rf"^{name}=\((.*?)\)", script, re.MULTILINE | re.DOTALL)[1].split()
        for name in ("methods", "from_nothing")
    )
    wanted = arms.default_controls(methods, False, TOLD)
    assert set(controls) == set(wanted) - {"shuffled", "noise"}


@pytest.mark.parametrize(
    ("source", "controls"),
    [
        (arms.Source("none", 8), ("scratch",)),
        (arms.Source("history", 8), ("scratch",)),
        (arms.Source("stages", 8), ("scratch", "shuffled", "noise")),
        (arms.Source("parameters", 1), ("scratch", "noise")),
    ],
)
def test_controls_that_cannot_be_are_none_of_the_defaults(source, controls):
    assert arms.default_controls(("fine_tune",), False, source) == controls


def test_all_controls_say_which_are_left_out():
    [line] = arms.left_out(TOLD)
    assert line == "left out: unrelated needs --unrelated RUN, a run of rows of other mechanisms"
    assert arms.left_out(TOLD._replace(runs=("unrelated",))) == []
    of_none = arms.left_out(arms.Source("none", 2, ("unrelated",)))
    assert [line.split()[2] for line in of_none] == ["shuffled", "noise"]


@pytest.mark.parametrize(
    ("name", "source", "says"),
    [
        ("shuffled", arms.Source("none", 8), "told .* by a vector .--conditioning parameters, .*"),
        ("noise", arms.Source("history", 8), "noise needs .*: this one has history"),
        ("nearest_task", arms.Source("none", 8), "nearest_task needs a source that is told"),
        ("shuffled", arms.Source("parameters", 1), "trained on two rows or more"),
        (
            "conditioning_only",
            arms.Source("stage", 8),
            "a vector that stays .*: this one has stage",
        ),
        ("attempts-3", arms.Source("parameters", 8), "attempts-3 needs --memory RUN, a run with"),
        ("specialist-1", arms.Source("parameters", 8, ["memory"]), "needs --specialists RUN"),
        (
            "fine_tune",
            arms.Source("one_hot", 8),
            "of --conditioning none, .*: this one has one_hot",
        ),
        ("fine_tune", arms.Source("belief", 8), "of --conditioning none, .*: this one has belief"),
    ],
)
def test_an_arm_that_cannot_be_gets_one_line(name, source, says):
    with pytest.raises(ValueError, match=says):
        arms.check(("zero_shot", name), source)


def test_a_run_that_no_arm_begins_with_gets_one_line():
    beside = arms.Source("parameters", 2, ("unrelated", "memory"))
    says = "^--unrelated has no effect: none of these arms begins with it: zero_shot, attempts-2$"
    with pytest.raises(ValueError, match=says):
        arms.check(("zero_shot", "attempts-2"), beside)


def test_what_arms_need_is_there():
    beside = arms.Source("parameters", 2, tuple(arms.RUNS))
    arms.check([name + "-1" * bool(arm.counts) for name, arm in arms.ARMS.items()], beside)
    assert set(arms.RUNS) == {a.begins for a in arms.ARMS.values()} - {"source", "nothing"}
    assert arms.named_runs(TransferConfig(memory="m", unrelated="u")) == ("unrelated", "memory")


# What learns


def learner(body="film", conditioning="parameters") -> Learner:
    config = LearnerConfig(
        conditioning=conditioning,
        num_envs=2,
        warm=True,
        network=NetworkConfig(body=body, width=8),
        ppo=PPOConfig(warm_rollout=8, minibatches=2, warm_epochs=1, critic_warmup=1),
    )
    return Learner((TARGET,), config, 0)


def actions(policy) -> torch.Tensor:
    rng = np.random.default_rng(0)
    spaces = policy.observation_space.spaces.items()
    inputs = {
        n: torch.as_tensor(rng.normal(size=(5, *s.shape)).astype(np.float32)) for n, s in spaces
    }
    inputs["index"] = torch.zeros(5, 1)
    inputs["task"] = torch.as_tensor(np.tile(learner().closures.task_vectors, (5, 1)))
    with torch.no_grad():
        return policy.act(inputs)


@pytest.mark.parametrize(
    ("way", "learns"),
    [
        ("all", {"body", "head"}),
        ("head", {"head"}),
        ("adapter", {"body"}),
        ("conditioning", {"given"}),
    ],
)
@pytest.mark.parametrize("body", ["mlp", "film"])
def test_only_what_is_chosen_learns(way, learns, body):
    agent = learner(body)
    with torch.no_grad():  # as of a policy that was trained: no layer begins at 0
        for parameter in agent.policy.actor.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    before = actions(agent.policy)
    train_only(agent.policy, way, torch.as_tensor(agent.closures.task_vectors[0]))
    assert torch.equal(actions(agent.policy), before)  # it begins as it was
    weights = {name: value.clone() for name, value in agent.policy.named_parameters()}
    agent.learn(3 * 16, lambda: True)  # the critic alone at first
    changed = {
        name.split(".")[1]
        for name, value in agent.policy.named_parameters()
        if name.startswith("actor.") and not torch.equal(value, weights[name])
    }
    assert changed == learns
    originals = [name for name in weights if name.endswith("weight.original")]
    assert bool(originals) == (way == "adapter")
    assert all(torch.equal(agent.policy.get_parameter(n), weights[n]) for n in originals)


def test_what_a_policy_has_not_got_cannot_be_trained():
    agent = learner(conditioning="none")
    with pytest.raises(ValueError, match="conditioning_only needs a policy that is told"):
        train_only(agent.policy, "conditioning", torch.zeros(0))
    agent.policy.actor.body = nn.Identity()
    with pytest.raises(ValueError, match="an adapter needs a body with linear layers"):
        train_only(agent.policy, "adapter", torch.zeros(0))


# All arms


def always(*_) -> bool:
    return True


JOB = dataclasses.replace(
    stored.TINY,
    task_set="unrelated",
    dagger=DaggerConfig(steps_per_task=80, updates=2, minibatch=16),
    transfer=TransferConfig(
        env_steps=16,
        points=2,
        episodes=2,
        last_episodes=3,
        source_quota=4,
        num_envs=2,
        methods=METHODS,
    ),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    return stored.make_run(tmp_path_factory.mktemp("arms") / "run", JOB)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> pathlib.Path:
    """A file of settings that are not the defaults of any arm."""
    chosen = {
        "fine_tune": {"rate": 1e-4, "rollout": 8, "falls": True, "leash": 0.1, "keep_best": True}
        | {"critic_warmup": 0, "source_critic": 1},
        "scratch": {"deviation": 0.3, "rollout": 8, "body": "film", "width": 8},
        "demos-1": {"clone_updates": 3, "perturb": 0.3, "trains": "head"},
        "demos_then_rl-2": {"trains": "adapter", "source_critic": 1, "rollout": 8, "perturb": 0.3},
        "demos_from_nothing-1": {"clone_updates": 3, "body": "mlp", "width": 8, "perturb": 0.3},
    }
    path = tmp_path_factory.mktemp("settings") / "settings.json"
    arms_of_file = {name: {"chosen": found, "tried": []} for name, found in chosen.items()}
    path.write_text(json.dumps({"arms": arms_of_file}))
    return path


def make_alone(folder: pathlib.Path, job) -> pathlib.Path:
    """A run with a policy per row."""
    experiment.start(folder, job, 0, "a test")
    assert single_task.train(Session(folder, job, 0, always, lambda: False))
    return folder


@pytest.fixture(scope="module")
def entry(run, settings, tmp_path_factory) -> dict:
    """A target's results, of every arm."""
    other = dataclasses.replace(JOB, task_set="bottle,valve:mug")
    unrelated = stored.make_run(tmp_path_factory.mktemp("unrelated") / "run", other)
    alone = dataclasses.replace(JOB, task_set="bottle,valve:mug", alone=True, num_envs=4)
    specialists = make_alone(tmp_path_factory.mktemp("alone") / "run", alone)
    told_nothing = dataclasses.replace(
        JOB, conditioning="belief", attempts=2, env_steps=0, task_set="bottle,jar:mug"
    )
    memory = stored.make_run(tmp_path_factory.mktemp("memory") / "run", told_nothing)
    beside = arms.Source(JOB.conditioning, len(TASKS), ("unrelated",))
    controls = arms.default_controls(METHODS, True, beside)
    changed = dataclasses.replace(
        JOB.transfer,
        controls=controls,
        unrelated=str(unrelated),
        specialists=str(specialists),
        memory=str(memory),
        settings=str(settings),
    )
    job = dataclasses.replace(JOB, transfer=changed)
    found = experiment.transfer_run(Session(run, job, 0, always, lambda: False), TARGET)
    assert found is not None
    return found["transfer"][TARGET]


def test_every_arm_runs(run, entry):
    rows = {arms.parted(name)[0] for name in entry["curves"]}
    assert rows == set(arms.ARMS)
    for name, [curve] in entry["curves"].items():
        arm = arms.arm_of(name)
        rises = arm.reinforces or arm.begins == "memory"
        points = 2 if arm.begins == "memory" else 3 if arm.reinforces else 1
        assert len(curve["steps"]) == points, name
        assert (name in entry["area"]) == rises
        starts = [2] * (points - 1) + [3]
        assert [len(point) for point in curve["outcomes"]] == (
            [3, 3] if arm.begins == "memory" else starts
        )
        for point, success in zip(curve["outcomes"], curve["success"], strict=True):
            assert np.mean(point) == pytest.approx(success)
        assert (name in entry["gain"]) == (arms.parted(name)[0] in arms.METHODS)
        at_home = arm.begins == "source" and arm.told == "own" and arm.trains != "conditioning"
        assert (name in entry["sources"]) == at_home
        assert (name in entry["lost"]) == (at_home and name != "zero_shot")
        assert len(curve.get("source_outcomes", ())) == 4 * at_home
        assert (name in entry["area_interval"]) == rises
        if arm.reinforces:
            source = runs.read_results(run)["train"]["env_steps"]
            assert curve["steps"][-1] >= 16 + arm.total * source
    found = entry["specialists"]
    assert found["picked"] == "bottle"  # nearer to a mug than a valve is
    assert set(found["zero_shot"]) == {"bottle", "valve"}
    assert found["regret"] == max(found["zero_shot"].values()) - found["zero_shot"]["bottle"]
    text = report.write_report(run).read_text("utf-8")
    assert "bottle was picked" in text
    assert arms.CONTROLS["shuffled"].words in text
    assert "demos from nothing-1" in text
    assert "scratch total" in text


def test_an_arm_that_is_told_something_else_is_told_that(run):
    found = {}
    source, meta = load_policy(run / "checkpoint")
    for name in ("zero_shot", "nearest_task", "shuffled", "noise"):
        which = curves.Which(CLOSURES[TARGET], name, 0)
        session = Session(run, JOB, 0, always, lambda: False)
        found[name] = curves.Curve(source, meta, which, session).told
    assert found["zero_shot"] == meta["conditioning"]
    trained = [np.asarray(meta["vectors"][name]) for name in meta["tasks"]]
    for name in ("nearest_task", "shuffled"):
        vector = found[name][TARGET]
        assert any(np.allclose(vector, known) for known in trained), name
    assert not any(np.allclose(found["noise"][TARGET], known) for known in trained)


def test_what_an_expert_teaches_does_not_depend_on_how_the_source_was_made(run, monkeypatch):
    """Its budget is that of the target's other learners, up to a limit."""
    source, meta = load_policy(run / "checkpoint")
    found = []

    def teach(self, config: DaggerConfig, *_) -> None:
        found.append(config.total(1))

    monkeypatch.setattr(curves.Learner, "imitate_experts", teach)
    for env_steps, steps in ((80, None), (80, 400), (10 * arms.TAUGHT_STEPS, 400)):
        job = dataclasses.replace(
            JOB,
            dagger=dataclasses.replace(JOB.dagger, steps=steps),
            transfer=dataclasses.replace(JOB.transfer, env_steps=env_steps),
        )
        session = Session(run, job, 0, always, lambda: False)
        which = curves.Which(CLOSURES[TARGET], "expert_taught", 0)
        assert curves.Curve(source, meta, which, session)._teach()
    assert found == [80, 80, arms.TAUGHT_STEPS]
    assert f"{arms.TAUGHT_STEPS:,}" in arms.CONTROLS["expert_taught"].words


@pytest.mark.parametrize(
    ("task_set", "told"),
    [
        ("mug,cork,bottle,puck:teapot", {"bottle", "puck"}),  # the others are pulled, as a teapot
        ("mug,cork,decanter:teapot", {"cork"}),  # all are: the farthest
    ],
)
def test_what_is_shuffled_is_told_of_what_opens_otherwise(tmp_path, task_set, told):
    job = dataclasses.replace(JOB, task_set=task_set)
    source, meta = load_policy(stored.make_run(tmp_path / "run", job) / "checkpoint")
    session = Session(tmp_path / "run", job, 0, always, lambda: False)
    vectors = {name: np.asarray(vector) for name, vector in meta["vectors"].items()}
    found = set()
    for seed in range(8):
        which = curves.Which(CLOSURES["teapot"], "shuffled", seed)
        vector = curves.Curve(source, meta, which, session).told["teapot"]
        found |= {name for name in meta["tasks"] if np.allclose(vectors[name], vector)}
    assert found == told


@pytest.mark.parametrize("conditioning", ["parameters", "stages"])
def test_noise_of_a_source_of_one_row_is_noise(tmp_path, conditioning):
    """One vector has no deviation: that of the table's is taken, in place of none."""
    job = dataclasses.replace(JOB, task_set="bottle:mug", conditioning=conditioning)
    source, meta = load_policy(stored.make_run(tmp_path / "run", job) / "checkpoint")
    session = Session(tmp_path / "run", job, 0, always, lambda: False)
    found = []
    for seed in (0, 0, 1):
        which = curves.Which(CLOSURES[TARGET], "noise", seed)
        found.append(curves.Curve(source, meta, which, session).told[TARGET])
    known = np.asarray(meta["vectors"]["bottle"])
    assert found[0].shape == known.shape
    assert np.array_equal(found[0], found[1])
    apart = [np.linalg.norm(noise - known) for noise in found]
    others = np.linalg.norm(np.asarray(CLOSURES["valve"].vector) - CLOSURES["bottle"].vector)
    assert min(apart) > 0.5 * others
    assert not np.allclose(found[0], found[2])


def test_results_of_older_versions_are_read(run, tmp_path):
    old = {
        **stored.TRANSFER,
        "few_shot": 3,
        "curves": {name: [stored.CURVE] for name in ("pretrained", "scratch", "few_shot")},
        "steps_to_threshold": {"pretrained": [None], "scratch": [10], "few_shot": [None]},
        "final": {"pretrained": 0.5, "scratch": 0.5, "few_shot": 0.5},
        "area": {"pretrained": 0.25, "scratch": 0.25, "few_shot": 0.25},
    }
    folder = stored.make_run(tmp_path / "old")
    runs.update_results(folder, transfer={"thermos": old})
    found = runs.read_results(folder)["transfer"]["thermos"]
    assert list(found["curves"]) == ["zero_shot", "fine_tune", "scratch", "demos_then_rl-3"]
    assert found["curves"]["zero_shot"][0]["steps"] == [0]
    assert set(found["final"]) == set(found["curves"])
    assert "demos then rl-3" in report.write_report(folder).read_text("utf-8")


def said(*words) -> str:
    console = Console(file=io.StringIO(), markup=False, width=1000)
    cli.run(words, console)
    return console.file.getvalue()  # type: ignore


def test_the_command_prints_every_arm_with_what_it_rules_out(run):
    words = ("transfer", str(run), "--target", "jar", "--env-steps", "16", "--methods")
    printed = said(*words, "fine_tune", "demos-1")
    for name in ("zero_shot", "fine_tune", "demos-1", "scratch", "shuffled", "noise"):
        assert f"\n{name} " in printed
    assert "whether it listens to what it is told" in printed
    assert "left out" not in printed
    with pytest.raises((ValueError, SystemExit), match="unknown method"):
        said(*words, "finetune")
    with pytest.raises(ValueError, match="--all-controls has no effect here"):
        said(*words, "fine_tune", "--controls", "scratch", "--all-controls")


def test_the_command_says_that_a_control_needs_a_run(run, monkeypatch):
    def refuse(*_):
        raise runs.RunError("far enough")

    monkeypatch.setattr(experiment, "transfer_run", refuse)
    console = Console(file=io.StringIO(), markup=False, width=1000)
    words = ("transfer", str(run), "--target", "jar", "--env-steps", "16", "--all-controls")
    with pytest.raises(ValueError, match="far enough"):
        cli.run(words, console)
    [line] = re.findall("^left out: .*$", console.file.getvalue(), re.MULTILINE)  # type: ignore
    assert "unrelated needs --unrelated RUN" in line


def test_a_run_that_is_no_unrelated_one_gets_one_line(run, tmp_path):
    words = ("transfer", str(run), "--target", "cork", "--env-steps", "16")
    with pytest.raises(
        ValueError, match="was trained on block, button, puck, reach, as the source"
    ):
        said(*words, "--unrelated", str(run))
    with pytest.raises(ValueError, match="unrelated needs --unrelated RUN, a run of"):
        said(*words, "--controls", "unrelated")
    wider = dataclasses.replace(
        JOB, task_set="bottle,valve:mug", network=NetworkConfig(width=8), env_steps=32
    )
    other = stored.make_run(tmp_path / "other", wider)
    with pytest.raises(ValueError, match="with another network than the source"):
        said(*words, "--unrelated", str(other))
    related = dataclasses.replace(JOB, task_set="bottle,teapot:mug")  # other rows than the source's
    related_run = stored.make_run(tmp_path / "related", related)
    says = r"related was trained on teapot, whose mechanism is that of cork \(pull\): unrelated"
    with pytest.raises(ValueError, match=says):
        said(*words, "--unrelated", str(related_run))
    _, meta = load_policy(run / "checkpoint")
    with pytest.raises(ValueError, match=says):
        beginnings.unrelated(related_run, "cork", meta)  # also by what the policy says of itself


def test_a_policy_that_ppo_cannot_go_on_with_gets_one_line(run):
    source, meta = load_policy(run / "checkpoint")
    session = Session(run, JOB, 0, always, lambda: False)
    with pytest.raises(ValueError, match="was trained by sac: .* needs a run of --algorithm ppo"):
        transfer.check(session, source, {**meta, "algorithm": "sac"}, (TARGET,), ("fine_tune",))


def test_a_critic_warms_up_on_the_rows_that_its_own_policy_was_trained_on(
    run, tmp_path, monkeypatch
):
    job = dataclasses.replace(JOB, task_set="bottle,valve:mug")
    other = stored.make_run(tmp_path / "unrelated", job)
    changed = dataclasses.replace(JOB.transfer, unrelated=str(other))
    session = Session(run, dataclasses.replace(JOB, transfer=changed), 0, always, lambda: False)
    rows = []
    make = curves.Learner
    monkeypatch.setattr(curves, "Learner", lambda names, *a: rows.append(names) or make(names, *a))
    for name in ("unrelated", "fine_tune"):
        chosen = ArmSettings(source_critic=1, rollout=4)
        which = curves.Which(CLOSURES[TARGET], name, 0, chosen)
        source, meta = load_policy(run / "checkpoint")
        curves.Curve(source, meta, which, session)._warm_critic()
    unrelated, own = rows[1::2]  # after the learner on the target, each
    assert set(unrelated) == {"bottle", "valve"}
    assert set(own) <= set(meta["tasks"])


def test_nothing_that_has_seen_a_target_stands_beside_it(run, tmp_path):
    job = dataclasses.replace(JOB, task_set="bottle,mug:cork")
    seen = stored.make_run(tmp_path / "seen", job)
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"arms": {}, "targets": ["mug", "cork"]}))
    says = {
        ("--unrelated", str(seen)): f"{seen} was trained on mug: a target must be unseen",
        ("--settings", str(settings)): f"{settings} was chosen on mug: a target must be unseen",
    }
    for words, line in says.items():
        with pytest.raises(ValueError, match=line):
            said("transfer", str(run), "--target", "mug", *words)
    _, meta = load_policy(run / "checkpoint")
    with pytest.raises(ValueError, match="seen was trained on mug: a target must be unseen"):
        beginnings.unrelated(seen, "mug", meta)  # also by what the policy says of itself


def test_the_main_job_refuses_before_it_learns_what_has_seen_a_target(tmp_path):
    job = dataclasses.replace(JOB, task_set="bottle,thermos:cork")
    seen = str(stored.make_run(tmp_path / "seen", job))
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps({"arms": {}, "targets": ["thermos"]}))
    words = ("train", "--quick", "--out", str(tmp_path / "run"))
    for flags in (
        ("--transfer.controls", "unrelated", "--transfer.unrelated", seen),
        ("--transfer.methods", "attempts-2", "--transfer.memory", seen),
        ("--transfer.methods", "specialist-1", "--transfer.specialists", seen),
        ("--transfer.settings", str(settings)),
    ):
        with pytest.raises(ValueError, match="on thermos: a target must be unseen"):
            said(*words, *flags)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("conditioning", "words", "says"),
    [
        ("none", "transfer --replace --target mug --controls noise", "noise needs a source that"),
        ("one_hot", "transfer --replace --target mug", "of --conditioning none, .*has one_hot"),
        ("one_hot", "tune_transfer --targets mug", "of --conditioning none, .*has one_hot"),
        ("none", "tune_transfer --targets mug --methods conditioning_only", "vector that stays"),
        ("none", "transfer --target mug --methods attempts-2", "attempts-2 needs --memory RUN"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(tmp_path, conditioning, words, says):
    run = stored.make_run(tmp_path / "run", dataclasses.replace(JOB, conditioning=conditioning))
    (run / "transfer" / TARGET).mkdir(parents=True)
    before = sorted(run.rglob("*"))
    command, *flags = words.split()
    with pytest.raises(ValueError, match=says):
        said(command, str(run), *flags)
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize(
    ("arm", "flag"),
    [("attempts-3", "memory"), ("specialist-1", "specialists"), ("unrelated", "unrelated")],
)
def test_the_main_job_asks_for_runs_before_it_learns(tmp_path, arm, flag):
    kind = "--transfer.controls" if arm in arms.CONTROLS else "--transfer.methods"
    words = ("train", "--quick", "--out", str(tmp_path / "run"), kind, arm)
    with pytest.raises(ValueError, match=f"{arm} needs --transfer.{flag} RUN"):
        said(*words)
    assert not (tmp_path / "run").exists()


def test_every_way_of_training_is_a_row():
    assert {arm.trains for arm in arms.ARMS.values()} <= set(TRAINS)
