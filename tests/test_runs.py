"""Runs whose rows are someone's own, or have changed; runs of other rewards; damaged runs."""

import dataclasses
import io
import json
import pathlib
import runpy
import shlex
import shutil
import sys

import gymnasium as gym
import pytest
import stored
from rich.console import Console
from rows import INK_BOTTLE

from uncap.agents.files import read_json, write_json
from uncap.envs import CLOSURES, TASK_SETS, Closure, TaskSet, register
from uncap.evaluation import commands, experiment, report, runs
from uncap.evaluation.config import EvaluateConfig, ReportConfig

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of someone's own row and task set."""
    job = dataclasses.replace(stored.TINY, task_set="ours")
    register(Closure(**INK_BOTTLE))
    register(TaskSet("ours", ("ink-bottle",), ("jar",), "a test"))
    run = stored.make_run(tmp_path_factory.mktemp("made") / "run", job)
    forget()
    return run


@pytest.fixture
def own_run(made, tmp_path):
    """A copy of it; neither row nor set is registered any more."""
    yield shutil.copytree(made, tmp_path / "run")
    forget()


def forget() -> None:
    """Remove the row and the set from the tables."""
    for rows, name in ((CLOSURES, "ink-bottle"), (TASK_SETS, "ours")):
        if name in rows:
            gym.registry.pop(rows.pop(name).gym_id)


def changed(path: pathlib.Path, **values) -> None:
    """Change a JSON file on purpose: its digest fits."""
    write_json(path, read_json(path, "") | values)


def test_a_run_of_rows_that_are_not_registered_is_evaluated_from_its_numbers(own_run):
    settings = EvaluateConfig(run=own_run, episodes=1)
    found = commands.evaluate(settings, Console(quiet=True))
    assert list(found["per_task"]) == ["ink-bottle"]
    assert CLOSURES["ink-bottle"] == Closure(**INK_BOTTLE)


def test_such_a_run_is_filmed(own_run, monkeypatch):
    filmed = []

    def record(policy, task, path, **about):
        filmed.append(CLOSURES[task])
        return {"success": True, "progress": 1.0}

    monkeypatch.setattr("uncap.evaluation.video.record", record)
    arguments = ["video", str(own_run), "--task", "ink-bottle"]
    status, _ = command(arguments, "utf-8", monkeypatch)
    assert status is None
    assert filmed == [Closure(**INK_BOTTLE)]


def test_such_a_run_is_resumed(own_run):
    config, job = experiment.stored_job(own_run)
    assert job == dataclasses.replace(stored.TINY, task_set="ours")
    assert TASK_SETS["ours"].hash == config["split_hash"]  # as it is checked on a resume
    assert TASK_SETS["ours"].held_out == ("jar",)


def test_a_registered_row_with_other_numbers_is_said(own_run):
    register(Closure(**{**INK_BOTTLE, "torque": (0.1, 0.2), "steps": 90}))
    [note] = experiment.notes(own_run)
    assert "the row ink-bottle was trained with another torque, steps" in note


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"torque": [0.2, "x"]}, "torque must be a number"),
        ({"torque": [0.2]}, "torque must be a list of 2 values"),
        ({"torque": [0.2, 9.0]}, "torque must lie in"),
        ({"body": [1e300, 0.1]}, "body must be at most"),
        ({"steps": 10**9}, "steps must be at most"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"mechanism": "[/a]"}, "unknown mechanism"),
        ({"name": "other"}, "called 'other'"),
        ({"spell": 1}, "does not know spell"),
    ],
)
def test_numbers_that_make_no_row_are_refused(own_run, ink_bottle, values, says):
    rows = {"ink-bottle": json.loads(json.dumps({**INK_BOTTLE, **values}))}
    changed(own_run / "config.json", rows=rows)
    with pytest.raises(runs.RunError, match=says) as caught:
        experiment.notes(own_run)
    assert "\n" not in str(caught.value)
    assert "ink-bottle" not in CLOSURES


def test_rewards_of_another_version_are_said(own_run):
    changed(own_run / "config.json", reward_version=16)
    said = io.StringIO()
    commands.evaluate(EvaluateConfig(run=own_run, episodes=1), Console(file=said, width=10_000))
    assert "rewards of version 16; this version has" in said.getvalue()


def test_an_older_run_without_rows_and_digests_is_read(own_run):
    register(Closure(**INK_BOTTLE))
    for name in ("config.json", "results.json"):
        content = read_json(own_run / name, "")
        content.pop("rows", None)
        (own_run / name).write_text(json.dumps(content))
    assert experiment.notes(own_run) == []
    assert report.write_report(own_run).exists()


ONE_OUTCOME = {  # of two points
    **stored.TRANSFER,
    "curves": {"scratch": [{**stored.CURVE, "outcomes": [[1]]}]},
}


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("config.json", {"seed": "x"}, "seed must be a whole number"),
        ("config.json", {"job": {"env_steps": "x"}}, "--env-steps must be a whole number"),
        ("config.json", {"job": {"env_steps": -1}}, "--env-steps must be at least 0"),
        ("config.json", {"job": {"ppo": {"gamma": 2.0}}}, "--ppo.gamma must be at most 1"),
        ("config.json", {"job": {"ppo": []}}, "must be a table"),
        ("results.json", {"per_task": {"jar": {"success": 1}}}, "per_task.jar lacks low"),
        ("results.json", {"per_task": {}}, "lacks per_task"),
        ("results.json", {"mean_success": "<b>"}, r"in \[0, 1\], not '<b>'"),
        ("results.json", {"train": {"wall_seconds": 10**400}}, "not a huge number"),
        ("results.json", {"transfer": {"jar": {}}}, "transfer.jar lacks zero_shot"),
        ("results.json", {"transfer": {"jar": ONE_OUTCOME}}, "must have outcomes for each number"),
        ("cosines.json", {"tasks": ["a", "b"]}, "no square of its 2 tasks"),
    ],
)
def test_json_of_another_shape_gets_one_line(own_run, name, values, says):
    changed(own_run / name, **values)
    with pytest.raises(runs.RunError, match=says) as caught:
        experiment.stored_job(own_run)
        report.write_report(own_run)
    assert str(own_run / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_report_is_made_of_what_can_be_read_and_says_the_rest(own_run):
    metrics = own_run / "metrics.csv"
    metrics.write_bytes(metrics.read_bytes()[:-5])
    said = io.StringIO()
    commands.report(ReportConfig(run=own_run), Console(file=said, width=10_000))
    assert "1 of its 5 rows are left out (5)" in said.getvalue()
    assert "1 of its 5 rows" in (own_run / "report.html").read_text(encoding="utf-8")


# The command line


def command(arguments: list[str], encoding: str, monkeypatch) -> tuple[object, str]:
    """Run `train.py` in this process, on a console of an encoding: its status and its output."""
    raw = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, encoding, write_through=True))
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    status = None
    try:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    except SystemExit as end:
        status = end.code
    return status, raw.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "gbk"])
def test_the_report_is_utf_8_and_any_console_shows_its_name(
    own_run, encoding, monkeypatch, tmp_path
):
    monkeypatch.setattr(report, "picture", lambda figure: "<img>")
    run = own_run.rename(tmp_path / "größe 瓶 [b]")
    (run / "videos").mkdir()
    (run / "videos" / "瓶<i>.mp4").write_bytes(b"")
    status, out = command(["report", str(run)], encoding, monkeypatch)
    assert status is None
    assert "report.html" in out
    page = (run / "report.html").read_bytes().decode("utf-8")
    assert "Uncap: größe 瓶 [b]" in page
    assert "瓶&lt;i&gt;" in page
    assert "charset=utf-8" in page


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_help_is_shown_by_an_old_console(name, monkeypatch):
    status, out = command([name, "--help"], "ascii", monkeypatch)
    assert status == 0
    assert "--out" in out


def test_printed_commands_can_be_typed(tmp_path):
    run = tmp_path / "it's [here]; $HOME"
    runs.create(run, {})
    with pytest.raises(runs.RunError) as caught:
        runs.create(run, {})
    _, _, typed = str(caught.value).partition("go on with ")
    assert shlex.split(typed) == ["python", "train.py", "--resume", str(run)]
    (run / "results.json").write_text("{")
    with pytest.raises(runs.RunError) as caught:
        runs.read_results(run)
    assert runs.command("--resume", run) in str(caught.value)


def test_a_default_name_that_is_taken_moves_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20261127-101500")
    made = [experiment.start(None, stored.TINY, seed, "a test") for seed in range(3)]
    assert [run.name for run in made] == [f"20261127-101500{end}" for end in ("", "-2", "-3")]
    assert [runs.open_run(run)["seed"] for run in made] == [0, 1, 2]


@pytest.mark.parametrize(
    ("package", "flags"),
    [
        ("sentence_transformers", "--conditioning language"),
        ("torchjd", "--rule pcgrad"),
        ("torchjd.aggregation", "--rule upgrad --alone"),
        ("minari", "--warm-start clone --demos ."),
        ("wandb", "--wandb"),
    ],
)
def test_a_package_that_is_missing_is_said_before_a_folder_is_made(
    package, flags, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(experiment, "start", None)  # no folder is made to be removed
    run = tmp_path / "run"
    words = f"--quick --task-set unrelated {flags} --num-envs 2 --out {run}"
    status, _ = command(words.split(), "utf-8", monkeypatch)
    assert str(status).startswith("error: ")
    assert "pip install" in str(status)
    assert not run.exists()
