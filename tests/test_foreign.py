"""Anyone's policy under the protocol: functions, models and files, and the table of results."""

import io
import json
import pathlib
import sys

import numpy as np
import pytest
import stored
import torch
from rich.console import Console
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecExtractDictObs

from uncap.agents.files import FileError, sealed, write_json
from uncap.agents.vec_env import TaskVecEnv
from uncap.envs import TASK_SETS, ClosureVectorEnv
from uncap.envs.conditioning import vectors
from uncap.evaluation import cli, commands, foreign, measured
from uncap.evaluation.config import EvaluateConfig, TableConfig
from uncap.evaluation.flags import parse
from uncap.evaluation.foreign import PolicyError, Told
from uncap.evaluation.protocol import BUILT_IN, EVALUATION_SEED, Episode, evaluate
from uncap.evaluation.runs import RunError

ROOT = pathlib.Path(__file__).parent.parent
MODULE = '''
import numpy as np

seen = []


def zero(observation):
    return np.zeros((len(observation["state"]), 5))


def named(observation, task):
    seen.append((sorted(observation), list(task)))
    return [[0.0] * 5] * len(task)


def vectors(observation):
    seen.append(observation["task"])
    return np.zeros((len(observation["task"]), 5))


class Counting:
    """Remembers how many steps its episodes have had."""

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        before = np.zeros(len(episode_start)) if state is None else state[0]
        steps = np.where(episode_start, 0, before)
        seen.append(steps)
        return np.zeros((len(steps), 5)), (steps + 1,)


counting = Counting()


class Attempting:
    """Is told where the next attempt begins, and what was paid."""

    def predict(self, observation, state=None, next_attempt=None, reward=None):
        seen.append((bool(next_attempt[0]), reward.shape))
        return np.zeros((len(reward), 5)), state


attempting = Attempting()


def begun(observation, next_attempt):
    seen.append(bool(next_attempt[0]))
    return np.zeros((len(next_attempt), 5))


def nan(observation):
    return np.full((len(observation["state"]), 5), np.nan)


def one(observation):
    return np.zeros(5)


def words(observation):
    return [["left"] * 5] * len(observation["state"])


def nothing(observation):
    return None


def wrong(observation):
    return {}["x"]


def leaves(observation):
    raise SystemExit


number = 3
'''
BAD = {
    "nan": "returned NaN or infinity in control step 1",
    "one": r"returned actions of the shape \(5,\), not \(1, 5\)",
    "words": "returned no numbers",
    "nothing": "returned no numbers",
    "wrong": r"raised KeyError: 'x' \(theirs.py, line \d+\)",
    "leaves": "raised SystemExit",
    "number": "is no policy: it must be a function",
    "Counting": "is a class: name an object",
    "zeor": "did you mean zero",
    "seen.x": "has no seen.x",
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory, with someone's module in it."""
    (tmp_path / "theirs.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_package")
    (tmp_path / "torn.py").write_text("def (")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("theirs", "broken", "torn"):
        sys.modules.pop(name, None)


def config(run, **changes) -> EvaluateConfig:
    parsed = parse(EvaluateConfig, [str(run)], "evaluate")
    return EvaluateConfig(**{**vars(parsed), "episodes": 1, "tasks": ("pump",), **changes})


def told(run, **changes):
    """What an evaluation says, and prints."""
    console = Console(width=200, record=True, file=io.StringIO(), markup=False)
    found = commands.evaluate(config(run, **changes), console)
    return found, console.export_text()


def opened(run, **said):
    return foreign.opened(config(run).run, Told(**said))


# Functions and objects


def test_a_function_is_scored_on_the_same_starts_as_ours(here):
    asked = {"tasks": ("mug", "pump"), "episodes": 2}
    table = evaluate(opened("theirs:zero").policy, **asked)
    assert table == evaluate(BUILT_IN["zero"], **asked)


def test_a_policy_is_told_its_tasks_and_what_it_asks_for(here):
    told("theirs:named", tasks=("pump", "mug"))
    seen = sys.modules["theirs"].seen
    assert seen[0] == (["state", "task"], ["pump", "mug"])
    seen.clear()
    told("theirs:named", conditioning="none", sensors="arm")
    assert seen[0] == (["state"], ["pump"])


def test_a_policy_is_told_of_twins(here):
    rows = ("bottle", "bottle-left")
    told("theirs:vectors", tasks=rows, told="twin")
    assert np.allclose(sys.modules["theirs"].seen[0], vectors("parameters", rows[::-1]))


def test_a_memory_begins_anew_with_every_episode(here, monkeypatch):
    found, _ = told("theirs:counting", tasks=("pump", "flip-mug"))
    seen = np.array(sys.modules["theirs"].seen)  # (steps, 2)
    assert seen.shape == (100, 2)
    assert seen[:, 0].tolist() == [*range(80), *range(20)]
    assert seen[:, 1].tolist() == [*range(100)]
    assert found["per_task"]["pump"]["success"] == 0.0


@pytest.mark.parametrize(("wiped", "of_second"), [(False, [4, 5, 6, 7]), (True, [0, 1, 2, 3])])
def test_a_memory_lasts_over_the_attempts_of_a_trial_unless_it_is_wiped(here, wiped, of_second):
    told("theirs:counting", attempts=2, episode_steps=4, wiped=wiped)
    seen = np.array(sys.modules["theirs"].seen)  # (steps, 1)
    assert seen[:, 0].tolist() == [0, 1, 2, 3, *of_second]


def test_a_policy_is_told_where_the_next_attempt_begins(here):
    told("theirs:attempting", attempts=2, episode_steps=2)
    seen = sys.modules["theirs"].seen
    assert seen == [(False, (1,)), (False, (1,)), (True, (1,)), (False, (1,))]
    seen.clear()
    told("theirs:begun", attempts=2, episode_steps=2, wiped=True)
    assert seen == [False] * 4


def test_a_loaded_policy_in_a_module_says_itself_what_it_reads(here):
    (here / "theirs.py").write_text("import uncap\n\nours = uncap.load('pretrained')\n")
    found = opened("theirs:ours")
    assert (found.conditioning, found.remembers, found.attempts) == ("parameters", False, 1)
    assert "jar" in found.trained
    with pytest.raises(PolicyError, match="--conditioning has no effect here"):
        opened("theirs:ours", conditioning="none")


def test_who_may_have_a_memory_is_known(here, models):
    assert opened("theirs:counting").remembers
    assert not opened("theirs:zero").remembers
    assert not foreign.opened(models / "ppo.zip", Told(trust=True)).remembers


@pytest.mark.parametrize("name", BAD)
def test_bad_policies_get_one_line(here, name):
    with pytest.raises(PolicyError, match=BAD[name]) as refused:
        told(f"theirs:{name}")
    assert "\n" not in str(refused.value)
    assert "theirs" in str(refused.value)


@pytest.mark.parametrize(
    ("run", "said", "words"),
    [
        ("nowhere:act", {}, "there is no module nowhere in "),
        ("broken:act", {}, "broken cannot be imported: ModuleNotFoundError: .*no_such_package"),
        ("torn:act", {}, "torn cannot be imported: SyntaxError"),
        ("theirs:zero", {"trust": True}, "--trust has no effect here"),
        ("zero", {"conditioning": "none"}, "--conditioning has no effect here"),
        ("expert", {"sensors": "arm"}, "--sensors has no effect here"),
        ("none.zip", {}, "there is no file"),
    ],
)
def test_what_cannot_be_used_gets_one_line(here, run, said, words):
    with pytest.raises(PolicyError, match=words) as refused:
        told(run, **said)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("command", ["video", "view"])
def test_a_command_that_takes_no_policy_of_ones_own_says_which_does(here, command):
    words = "^theirs:zero is a policy of your own, which evaluate alone takes"
    with pytest.raises(RunError, match=words) as refused:
        cli.run((command, "theirs:zero", "--task", "jar"), Console(quiet=True))
    assert "\n" not in str(refused.value)


def test_a_module_is_no_path_and_a_file_is(here):
    assert str(config("theirs:zero").run) == "theirs:zero"
    assert config("policy.onnx").run == here / "policy.onnx"
    assert config("runs/a:b").run == here / "runs/a:b"


# Models of stable-baselines3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Models that have learned nothing: of a Dict, and of the state alone."""
    folder = tmp_path_factory.mktemp("models")
    closures = ClosureVectorEnv(
        "pump", 1, conditioning="parameters", autoreset_mode="SameStep", threads=1
    )
    env = TaskVecEnv(closures, plain=True)
    PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, seed=0).save(folder / "ppo.zip")
    state = VecExtractDictObs(env, "state")
    SAC("MlpPolicy", state, buffer_size=8, policy_kwargs={"net_arch": [8]}).save(folder / "sac.zip")
    env.close()
    return folder


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_a_model_of_stable_baselines3_acts_as_it_does_there(models, name):
    kind = {"ppo": PPO, "sac": SAC}[name]
    model = kind.load(models / f"{name}.zip", device="cpu")
    env = ClosureVectorEnv(("pump", "mug"), 2, conditioning="parameters", threads=1)
    observation, info = env.reset(seed=0)
    found = foreign.opened(models / f"{name}.zip", Told(trust=True)).policy(env)
    there = observation if name == "ppo" else observation["state"]
    expected, _ = model.predict(there, deterministic=True)
    assert np.allclose(found(observation, info["task_index"]), expected)
    env.close()


def test_a_model_is_opened_if_it_is_trusted_only(models, tmp_path):
    with pytest.raises(PolicyError, match="can run code of whoever made it.*--trust"):
        foreign.opened(models / "ppo.zip", Told())
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(PolicyError, match="a.zip is damaged, or no model"):
        foreign.opened(tmp_path / "a.zip", Told(trust=True))


def test_a_model_of_another_shape_gets_one_line(models):
    said = Told(conditioning="none", trust=True)
    env = ClosureVectorEnv("pump", 1, conditioning="none", threads=1)
    observation, info = env.reset(seed=0)
    act = foreign.opened(models / "ppo.zip", said).policy(env)
    words = r"reads state \(36 numbers\) and task \(36 numbers\), and is given state"
    with pytest.raises(PolicyError, match=words):
        act(observation, info["task_index"])
    env.close()


# Networks of others


def traced(path, sizes: dict[str, int]):
    """Someone's network of inputs of these sizes; the action is the mean of each, at first."""

    class Mean(torch.nn.Module):
        def forward(self, *values):
            mean = torch.cat(values, 1).mean(1, keepdim=True)
            return mean.expand(-1, 5)

    torch.onnx.export(
        Mean(),
        tuple(torch.zeros(2, size) for size in sizes.values()),
        str(path),
        input_names=list(sizes),
        output_names=["out"],
        dynamic_axes={name: {0: "n"} for name in (*sizes, "out")},
        dynamo=False,
    )
    return path


def test_someones_network_gets_the_parts_that_it_names(tmp_path):
    env = ClosureVectorEnv(("pump", "mug"), 2, conditioning="parameters", threads=1)
    observation, info = env.reset(seed=0)
    state, both = observation["state"], np.concatenate(list(observation.values()), 1)
    for name, sizes, read in (
        ("named.onnx", {"state": 36}, state),
        ("two.onnx", {"state": 36, "task": 36}, both),
        ("one.onnx", {"input": 36}, state),
        ("flat.onnx", {"obs": 72}, both),
    ):
        policy = foreign.opened(traced(tmp_path / name, sizes), Told()).policy
        found = policy(env)(observation, info["task_index"])
        assert np.allclose(found, np.clip(read.mean(1, keepdims=True), -1, 1), atol=1e-5), name
    other = foreign.opened(traced(tmp_path / "other.onnx", {"input": 7}), Told()).policy
    with pytest.raises(PolicyError, match="other.onnx reads 7 numbers, and is given"):
        other(env)(observation, info["task_index"])
    (tmp_path / "bad.onnx").write_bytes(b"x")
    with pytest.raises(FileError, match="bad.onnx is damaged, or no ONNX file"):
        foreign.opened(tmp_path / "bad.onnx", Told())
    env.close()


# Task sets, results and the table


@pytest.fixture
def quick(monkeypatch):
    """Evaluations that run no simulation: `SUCCESS` of the episodes of every row succeed."""

    def episodes(policy, tasks, episodes, **about):
        solved = [k < SUCCESS[0] * episodes for k in range(episodes)]
        return [
            Episode(task, k, ok, ok, float(ok), 9, 0.5, 3.0)
            for task in tasks
            for k, ok in enumerate(solved)
        ]

    monkeypatch.setattr(commands, "evaluate_policy", episodes)
    SUCCESS[:] = [1.0]


SUCCESS = [1.0]


def results(path, run="theirs:zero", success=1.0, **changes):
    SUCCESS[:] = [success]
    told(run, out=path, **{"task_set": "alike", "tasks": (), "episodes": 4, **changes})
    return path


def test_a_task_set_is_measured_with_its_held_out_rows(here, quick):
    found, said = told("theirs:zero", task_set="alike", tasks=())
    split = TASK_SETS["alike"]
    assert tuple(found["per_task"]) == split.train
    assert tuple(found["held_out"]["per_task"]) == split.held_out
    assert found["split"]["hash"] == split.hash
    assert found["who"] == "theirs:zero"
    assert found["seed"] == EVALUATION_SEED
    found, said = told("theirs:zero", task_set="alike", tasks=(), conditioning="one_hot")
    assert "held_out" not in found and "one_hot has no vector for an unseen closure" in said
    with pytest.raises(ValueError, match="exclude each other"):
        told("theirs:zero", task_set="alike", tasks=("jar",))


def test_disturbances_are_measured_of_anyones_policy(here):
    found, _ = told("theirs:zero", disturb=("delay=2",))
    [row] = found["disturbances"]
    assert (row["factor"], row["pairs"]) == ("delay", 1)


def test_the_table_ranks_and_shows_intervals(here, quick):
    a = results(here / "a", success=0.5)
    b = results(here / "b", run="expert", who="the expert")
    c = results(here / "c", success=0.5, who="another")
    console = Console(width=300, record=True, file=io.StringIO(), force_terminal=False)
    commands.table(TableConfig(results=(a, b, c), out=here / "table.json"), console)
    lines = console.export_text().splitlines()
    assert lines[1].split("  ")[0:1] == ["1"] and "the expert" in lines[1]
    assert lines[2].startswith("2") and "theirs:zero" in lines[2]
    assert lines[3].startswith("2") and "another" in lines[3]
    assert "1.000 [0.940, 1.000]" in lines[1]  # Wilson, 60 of 60
    assert any(line.startswith("jar-left ") and "0.50 [0.15, 0.85]" in line for line in lines)
    ranked = json.loads((here / "table.json").read_text())["ranked"]
    assert [entry["rank"] for entry in ranked] == [1, 2, 2]
    ruled = Console(width=300, record=True, file=io.StringIO(), force_terminal=True)
    measured.show(ranked, ruled)
    assert "┃" in ruled.export_text()


def test_only_results_of_the_same_rows_and_starts_are_ranked(here, quick):
    a = results(here / "a")
    for name, changes, words in (
        ("rows", {"task_set": "first"}, "rows was measured on other rows .split"),
        ("level", {"level": "tilted"}, "level was measured at another level .level tilted"),
        ("seed", {"seed": 3}, "seed was measured on other starts .seed 3"),
    ):
        with pytest.raises(FileError, match=words):
            measured.ranked([a, results(here / name, **changes)])
    with pytest.raises(FileNotFoundError):
        measured.ranked([a, here / "none.json"])
    with pytest.raises(ValueError, match="no results are named"):
        measured.ranked([])
    more = results(here / "more", episodes=8)
    assert len(measured.ranked([a, more])) == 2


def test_damaged_results_are_named(here, quick):
    path = results(here / "a") / "results.json"
    whole = json.loads(path.read_text())
    path.write_text(path.read_text().replace('"success": 1.0', '"success": 0.9', 1))
    with pytest.raises(FileError, match="results.json is damaged, or was changed by hand"):
        measured.read(path)
    for changes, words in (
        ({"per_task": {}}, "per_task must hold the rows"),
        ({"who": "a\nb"}, "who must be a printable name"),
        ({"versions": {"torch": []}}, "versions.torch must be"),
        ({"split": {"hash": "x"}}, "split lacks train"),
        ({"measured": 9}, "written by another version"),
    ):
        path.write_text(json.dumps(sealed({**whole, **changes})))
        with pytest.raises(FileError, match=words):
            measured.read(path)
    write_json(path, {"mean_success": 1.0})
    with pytest.raises(FileError, match="says nothing of its rows"):
        measured.read(path)


def test_what_differs_beside_the_policy_is_said(here, quick):
    a = results(here / "a")
    b = results(here / "b")
    value = json.loads((b / "results.json").read_text())
    value["versions"]["mujoco"] = "4.0.9"
    value["reward_version"] = 3
    write_json(b / "results.json", value)
    said = measured.notes(measured.ranked([a, b]))
    assert [line.split(":")[0] for line in said] == [
        "measured with different versions of mujoco",
        "measured with different versions of rewards",
    ]


# The page about it


def test_the_page_says_what_works(here, quick, capsys):
    text = (ROOT / "docs/policies.md").read_text()
    loop, module = [part.split("```")[0] for part in text.split("```python")[1:]]
    stored.make_run(here / "runs/mine")
    exec(compile(loop, "docs/policies.md", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out.startswith("[")
    (here / "mymodule.py").write_text(module)
    lines = [line.split() for line in text.splitlines() if line.startswith("python train.py")]
    commands_of_page = [words[2:] for words in lines]
    assert [words[0] for words in commands_of_page] == ["export", "evaluate", "evaluate", "table"]
    for words in commands_of_page:
        cli.run(words, Console(file=io.StringIO(), markup=False))
    assert (here / "policy.onnx").exists()
    assert len(measured.ranked([here / "mine", here / "expert"])) == 2
    sys.modules.pop("mymodule")
