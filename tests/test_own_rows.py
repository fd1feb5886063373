"""Rows and sets of one's own: `--import`, `--tasks` and `--held-out`."""

import io
import sys

import gymnasium as gym
import pytest
from rich.console import Console

from uncap.agents.files import read_json
from uncap.envs import rewards
from uncap.envs.closures import CLOSURES, named_set, spot_name
from uncap.evaluation import cli, imports, places

MODULE = """
from uncap import Closure, register, register_reward

register(Closure(**{row}))
register_reward("halved", lambda info: info["progress"] / 2)
"""
TINY = (
    "--quick --no-videos --warm-start none --env-steps 80 --num-envs 4 --episodes 1 "
    "--validations 1 --validation-episodes 1 --transfer-steps 0 --ppo.rollout 10"
)


@pytest.fixture
def mine(table, ink_bottle, tmp_path, monkeypatch):
    """A module in the working directory that registers a row."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(imports, "_imported", [])
    monkeypatch.setattr(rewards, "REWARDS", dict(rewards.REWARDS))
    (tmp_path / "mine.py").write_text(MODULE.format(row=ink_bottle))
    yield "mine"
    sys.modules.pop("mine", None)


def said(*words) -> str:
    """What a command prints."""
    console = Console(file=io.StringIO(), width=200)
    cli.run(list(map(str, words)), console)
    return console.file.getvalue()  # type: ignore


@pytest.mark.parametrize("words", ["--import mine evaluate", "evaluate --import=mine"])
def test_a_row_of_an_imported_module_is_one_of_the_rows(mine, words):
    found = said(*words.split(), "expert", *["--tasks", "ink-bottle", "--episodes", "1"])
    assert "ink-bottle   1.00" in found
    assert imports.words() == ["--import", "mine"]
    command = places.train_command(["--seed", "1"])
    assert command[-5:] == ["--import", "mine", "train", "--seed", "1"]


@pytest.mark.parametrize(
    ("text", "words", "says"),
    [
        ("", "--import", "--import needs the name of a module"),
        ("", "--import --seed 3", "--import needs the name of a module"),
        ("", "--import=", "--import needs the name of a module"),
        ("", "--import other", "there is no module other in .*, nor is one installed"),
        ("import nothing_at_all", "--import mine", "cannot be imported: ModuleNotFoundError"),
        ("1 / 0", "--import mine", "cannot be imported: ZeroDivisionError.*mine.py, line 1"),
        ("raise SystemExit(3)", "--import mine", "cannot be imported: SystemExit"),
    ],
)
def test_a_module_that_cannot_be_imported_gets_one_line(mine, tmp_path, text, words, says):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        said(*words.split())
    assert "\n" not in str(error.value)


def test_a_training_of_rows_named_on_the_spot(mine, tmp_path):
    run = tmp_path / "run"
    rows = "--tasks ink-bottle jar --held-out mug"
    said("--import", mine, *rows.split(), *TINY.split(), "--reward", "halved", "--out", run)
    config = read_json(run / "config.json", "")
    assert (config["train"], config["held_out"]) == (["ink-bottle", "jar"], ["mug"])
    assert config["job"]["task_set"] == "ink-bottle,jar:mug"
    assert config["job"]["reward"] == "halved"
    gym.registry.pop(CLOSURES.pop("ink-bottle").gym_id)  # as in another process
    assert "report: " in said("--resume", run, "--no-videos")
    with pytest.raises(ValueError, match="--tasks cannot be changed"):
        said("--resume", run, "--tasks", "ink-bottle", "jar")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--held-out jar", "--held-out goes with --tasks"),
        ("--tasks jar --task-set first", "--tasks and --task-set both say"),
        ("--tasks jar jar", "--tasks names jar twice"),
        ("--tasks jar --held-out jar", "'jar'. is both trained and held out"),
        ("--reward dens", "unknown reward 'dens': did you mean 'dense'"),
        (
            "--algorithm sac --transfer-steps 0 --demos d --reward sparse",
            "goes with --reward dense only in sac",
        ),
        ("--reward sparse --env-steps 0 --transfer-steps 0", "--reward has no effect"),
        ("--tasks jarr", "unknown closure 'jarr': did you mean 'jar'"),
        ("--tasks", "--tasks"),
        ("--task-set jar:mug:x", "needed is one colon"),
        ("--task-set jar,jar:mug", "a row is named twice"),
        ("--task-set :mug", "no row is trained"),
        ("--task-set jar:muk", "unknown closure 'muk'"),
    ],
)
def test_rows_that_make_no_set_get_one_line(words, says, tmp_path):
    with pytest.raises(ValueError, match=says) as error:
        said(*words.split(), "--out", tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_set_is_what_its_name_says():
    found = named_set(spot_name(("jar", "mug"), ("thermos",)))
    assert (found.train, found.held_out) == (("jar", "mug"), ("thermos",))
    assert found.transfers == ("thermos",)
    assert named_set(spot_name(("jar",))).held_out == ()
    assert named_set("jar,mug:thermos/mug").train == ("mug",)
    assert found.hash != named_set("jar,mug:").hash
